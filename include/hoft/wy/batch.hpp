// hoft/wy/batch.hpp: many problems in one call, threads over problems. A model has hundreds of adapters, each too small
// to share out.
#pragma once
#include <hoft/wy/accumulate.hpp>
#include <hoft/wy/apply.hpp>

#include <span>

namespace hoft {
namespace detail {

/// The name of an element in messages, put together on the way to an error only.
inline std::string element(char const* name, index_t i) {
  std::string text(name);
  text.append(1, '[').append(std::to_string(i)).append(1, ']');
  return text;
}

/// The same amount of workspace for each worker, enough for the largest problem.
template <class Policy, class Size>
index_t batch_workspace(Policy const& policy, index_t count, Size const& size) {
  index_t most = 0;
  for (index_t i = 0; i < count; ++i) most = std::max(most, size(i));
  return most * worker_count(policy);
}
template <class Policy>
workspace part_of(Policy const& policy, workspace work, index_t size, index_t worker) {
  index_t const part = size / worker_count(policy);
  return {work.data + worker * part, part};
}

}  // namespace detail

/// Bytes of workspace for `accumulate` of all of Q.
template <execution_policy Policy, class A>
index_t accumulate_workspace(Policy const& policy, std::span<compact_wy_view<A>> Q, inverse kind = {}) {
  return detail::batch_workspace(policy, index_t(Q.size()), [&](index_t i) {
    auto const& q = Q[std::size_t(i)];
    return accumulate_workspace<A>(serial(policy), q.rank(), q.block, kind);
  });
}

/// Q[i] := accumulate(U[i]) for every i. Problems may differ in shape; none may overlap another.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param U, Q, kind  as of `accumulate` with one view, element by element
/// @param work   at least accumulate_workspace bytes
/// @throws as `accumulate` with one view, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, class TU, class LU, class A>
void accumulate(Policy const& policy, std::span<matrix_view<TU, LU> const> U, std::span<compact_wy_view<A>> Q,
                inverse kind, workspace work) {
  constexpr char const* function = "accumulate";
  index_t const count = index_t(U.size());
  detail::require_equal(function, "Q.size()", index_t(Q.size()), count);
  detail::require_inverse(function, kind);
  for (index_t i = 0; i < count; ++i) {
    auto const& u = U[std::size_t(i)];
    auto const& q = Q[std::size_t(i)];
    if (!detail::valid(u)) detail::require_view(function, detail::element("U", i), u);
    if (!detail::has_form(q, u.rows, u.cols))
      detail::require_form(function, detail::element("Q", i), q, u.rows, u.cols);
    if (kind.truncated && q.block < u.cols)
      detail::require_at_least(function, (detail::element("Q", i) + ".block").c_str(), q.block, u.cols);
  }
  index_t const size = accumulate_workspace(policy, Q, kind);
  detail::require_at_least<workspace_error>(function, "work.size", work.size, size);
  if constexpr (detail::accumulates_in_one_launch<Policy, TU, LU, A>) {
    if (!kind.truncated) {
      for (auto& q : Q) q.kind = kind, q.explicit_tau = false;
      if (accumulate_in_one_launch(policy, U, Q)) return;
    }
  }
  for_each_problem(policy, count, [&](index_t worker, index_t i) {
    accumulate(serial(policy), U[std::size_t(i)], Q[std::size_t(i)], kind, detail::part_of(policy, work, size, worker));
  });
}

/// Bytes of workspace for `apply` of all of Q to X.
template <execution_policy Policy, class A, class T, class L>
index_t apply_workspace(Policy const& policy, std::span<compact_wy_view<A> const> Q,
                        std::span<matrix_view<T, L> const> X, side s = side::left) {
  return detail::batch_workspace(policy, index_t(std::min(Q.size(), X.size())), [&](index_t i) {
    return apply_workspace(serial(policy), Q[std::size_t(i)], X[std::size_t(i)], s);
  });
}

/// Y[i] := apply(Q[i], X[i]) for every i. Problems may differ in shape; no Y may overlap another problem's views.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param Q, X, Y, s, o  as of `apply` with one view, element by element; Y[i] may be X[i] itself
/// @param work   at least apply_workspace bytes
/// @throws as `apply` with one view, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, class A, class TX, class T, class L>
void apply(Policy const& policy, std::span<compact_wy_view<A> const> Q, std::span<matrix_view<TX, L> const> X,
           std::span<matrix_view<T, L> const> Y, side s, op o, workspace work) {
  constexpr char const* function = "apply";
  index_t const count = index_t(Q.size());
  detail::require_equal(function, "X.size()", index_t(X.size()), count);
  detail::require_equal(function, "Y.size()", index_t(Y.size()), count);
  for (index_t i = 0; i < count; ++i) {
    auto const& q = Q[std::size_t(i)];
    auto const& x = X[std::size_t(i)];
    auto const& y = Y[std::size_t(i)];
    index_t const m = q.rows(), rows = s == side::left ? m : x.rows, cols = s == side::left ? x.cols : m;
    if (!detail::has_form(q, m, q.rank())) detail::require_form(function, detail::element("Q", i), q, m, q.rank());
    if (!detail::has_shape(x, rows, cols)) detail::require_shape(function, detail::element("X", i), x, rows, cols);
    if (!detail::has_shape(y, rows, cols)) detail::require_shape(function, detail::element("Y", i), y, rows, cols);
  }
  index_t const size = apply_workspace(policy, Q, X, s);
  detail::require_at_least<workspace_error>(function, "work.size", work.size, size);
  for_each_problem(policy, count, [&](index_t worker, index_t i) {
    auto const k = std::size_t(i);
    apply(serial(policy), Q[k], X[k], Y[k], s, o, detail::part_of(policy, work, size, worker));
  });
}

}  // namespace hoft
