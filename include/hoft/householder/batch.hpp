// hoft/householder/batch.hpp: many problems in one call, threads over problems, or kernels over problems. A model has
// hundreds of adapters, each too small to share out.
#pragma once
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>

#include <initializer_list>
#include <span>
#include <utility>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// The same amount of workspace for each problem that is worked on at a time, enough for the largest one.
template <class Policy, class Size>
index_t batch_workspace(Policy const& policy, index_t count, Size const& size) {
  index_t most = 0;
  for (index_t i = 0; i < count; ++i) most = (std::max)(most, size(i));
  return most * problems_at_once(policy, count);
}

/// Spans of a batch, by name, have one element for each problem.
inline void require_sizes(char const* function, index_t count,
                          std::initializer_list<std::pair<char const*, std::size_t>> spans) {
  for (auto const& [name, size] : spans) require_equal(function, name, index_t(size), count);
}
/// All of what a batch asks before anything is written; answers the bytes of `work` that it takes.
template <class Check, class Size>
index_t require_batch(char const* function, index_t count, workspace work, Check const& check, Size const& size) {
  for (index_t i = 0; i < count; ++i) require_problem(i, [&] { check(std::size_t(i)); });
  index_t const bytes = size();
  require_at_least<workspace_error>(function, "work.size", work.size, bytes);
  return bytes;
}
/// run(policy, i, its part of the workspace) for every problem i. follows(i): problem i uses memory that problem i - 1
/// has to have done with.
template <class Policy, class Run, class Follows>
void run_batch(Policy const& policy, index_t count, workspace work, index_t bytes, Run const& run,
               Follows const& follows) {
  if (count == 0) return;
  index_t const part = bytes / problems_at_once(policy, count);
  for_each_problem(policy, count, follows, [&](auto const& local, index_t slot, index_t i) {
    run(local, std::size_t(i), workspace{work.data + slot * part, part});
  });
}
template <class Policy, class Run>
void run_batch(Policy const& policy, index_t count, workspace work, index_t bytes, Run const& run) {
  run_batch(policy, count, work, bytes, run, [](index_t) { return false; });
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
  detail::require_sizes(function, count, {{"Q.size()", Q.size()}});
  detail::require_inverse(function, kind);
  index_t const bytes = detail::require_batch(
      function, count, work, [&](std::size_t i) { detail::require_accumulate(U[i], Q[i], kind); },
      [&] { return accumulate_workspace(policy, Q, kind); });
  if constexpr (detail::accumulates_in_one_launch<Policy, TU, LU, A>) {
    if (!kind.truncated) {
      for (auto& q : Q) q.kind = kind, q.explicit_tau = false;
      if (accumulate_in_one_launch(policy, U, Q)) return;
    }
  }
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { accumulate(one, U[i], Q[i], kind, part); });
}

/// Bytes of workspace for `apply` of all of Q to X.
template <execution_policy Policy, class A, class T, class L>
index_t apply_workspace(Policy const& policy, std::span<compact_wy_view<A> const> Q,
                        std::span<matrix_view<T, L> const> X, side s = side::left) {
  return detail::batch_workspace(policy, index_t((std::min)(Q.size(), X.size())), [&](index_t i) {
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
  detail::require_sizes(function, count, {{"X.size()", X.size()}, {"Y.size()", Y.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work, [&](std::size_t i) { detail::require_apply(Q[i], X[i], Y[i], s); },
      [&] { return apply_workspace(policy, Q, X, s); });
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { apply(one, Q[i], X[i], Y[i], s, o, part); });
}

}  // namespace HOFT_TARGET_NAMESPACE
