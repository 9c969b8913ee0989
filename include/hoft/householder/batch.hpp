// SPDX-License-Identifier: BSD-3-Clause
// hoft/householder/batch.hpp: many problems in one call, threads over problems, or kernels over problems. A model has
// hundreds of adapters, each too small to share out.
#pragma once
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/items.hpp>

#include <initializer_list>
#include <span>
#include <utility>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// The same amount of workspace for each problem that is worked on at a time, enough for the largest one.
template <class Policy, class Size>
[[nodiscard]] index_t batch_workspace(Policy const& policy, index_t count, Size const& size) {
  index_t most = 0;
  for (index_t i = 0; i < count; ++i) most = (std::max)(most, size(i));
  return most * ops<Policy>::problems_at_once(policy, count);
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
  require_bytes(function, "work.size", work.size, bytes);
  return bytes;
}
/// run(policy, i, its part of the workspace) for every problem i.
template <class Policy, class Run>
void run_batch(Policy const& policy, index_t count, workspace work, index_t bytes, Run const& run) {
  if (count == 0) return;
  index_t const part = bytes / ops<Policy>::problems_at_once(policy, count);
  ops<Policy>::for_each_problem(policy, count, [&](auto const& local, index_t slot, index_t i) {
    run(local, std::size_t(i), workspace{work.data + slot * part, part});
  });
}

}  // namespace detail

/// Bytes of workspace for `accumulate` of all of Q.
template <execution_policy Policy, many_forms Forms>
[[nodiscard]] index_t accumulate_workspace(Policy const& policy, Forms const& Q, inverse kind = {}) {
  using A = typename detail::item_of<Forms const>::value_type;
  return detail::batch_workspace(policy, index_t(std::size(Q)), [&](index_t i) {
    auto const& q = std::data(Q)[i];
    return accumulate_workspace<A>(ops<Policy>::serial(policy), q.rank(), q.block, kind);
  });
}

/// Q[i] := accumulate(U[i]) for every i. Problems may differ in shape; none may overlap another.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_U, all_Q, kind  as of `accumulate` with one view, element by element: Q are the views that are told
///        that they are filled, so copies made before are not
/// @param work   at least accumulate_workspace bytes
/// @throws as `accumulate` with one view, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_matrices Matrices, many_forms Forms>
void accumulate(Policy const& policy, Matrices const& all_U, Forms&& all_Q, inverse kind, workspace work) {
  constexpr char const* function = "accumulate";
  auto const Q = detail::items(all_Q);
  using form = typename decltype(Q)::element_type;
  static_assert(!std::is_const_v<form>, "hoft::accumulate: the forms are written, but what holds them is const.");
  using matrix = detail::item_of<Matrices const>;
  std::span<matrix const> const U = detail::items(all_U);
  index_t const count = index_t(U.size());
  detail::require_sizes(function, count, {{"Q.size()", Q.size()}});
  detail::require_inverse(function, kind);
  index_t const bytes = detail::require_batch(
      function, count, work, [&](std::size_t i) { detail::require_accumulate(U[i], Q[i], kind); },
      [&] { return accumulate_workspace(policy, Q, kind); });
  if (!kind.truncated) {
    for (auto& q : Q) q.kind = kind, q.explicit_tau = q.filled = false, q.ranks = ops<Policy>::rank_count(policy);
    if (ops<Policy>::accumulate_batch(policy, U, Q)) {
      for (auto& q : Q) q.filled = true;
      return;
    }
  }
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { accumulate(one, U[i], Q[i], kind, part); });
}

/// Bytes of workspace for `apply` of all of Q to X.
template <execution_policy Policy, many_forms Forms, many_matrices Matrices>
[[nodiscard]] index_t apply_workspace(Policy const& policy, Forms const& Q, Matrices const& X, side s = side::left) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(Q), std::size(X))), [&](index_t i) {
    return apply_workspace(ops<Policy>::serial(policy), std::data(Q)[i], std::data(X)[i], s);
  });
}

/// Y[i] := apply(Q[i], X[i]) for every i. Problems may differ in shape; no Y may overlap another problem's views.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_Q, all_X, all_Y, s, o  as of `apply` with one view, element by element; Y[i] may be X[i] itself
/// @param work   at least apply_workspace bytes
/// @throws as `apply` with one view, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_forms Forms, many_matrices Inputs, many_matrices Outputs>
void apply(Policy const& policy, Forms const& all_Q, Inputs const& all_X, Outputs const& all_Y, side s, op o,
           workspace work) {
  constexpr char const* function = "apply";
  using output = detail::item_of<Outputs const>;
  using T = typename output::value_type;
  using L = typename output::layout_type;
  using TX = typename detail::item_of<Inputs const>::value_type;
  using acc = typename detail::item_of<Forms const>::value_type;
  // Those of the single call again: in a shared helper they would be followed by errors from deeper in the headers.
  static_assert(std::same_as<std::remove_const_t<TX>, T>, "hoft::apply: X and Y must have the same element type.");
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::apply: Q must hold the accumulator type of X: a Q of float reflectors takes X of float or of 16 "
                "bits, a Q of double takes X of double.");
  auto const Q = detail::items(all_Q);
  auto const X = detail::items(all_X);
  auto const Y = detail::items(all_Y);
  index_t const count = index_t(Q.size());
  detail::require_sizes(function, count, {{"X.size()", X.size()}, {"Y.size()", Y.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) { detail::require_apply(ops<Policy>::rank_count(policy), Q[i], X[i], Y[i], s); },
      [&] { return apply_workspace(policy, Q, X, s); });
  // What is read next is fetched meanwhile, where problems follow one another.
  bool const in_order = ops<Policy>::problems_at_once(policy, count) == 1;
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    matrix_view<T const, L> after;
    if (in_order && i + 1 < X.size()) after = X[i + 1];
    detail::apply_checked<acc, T, L>(
        function, one, Q[i], X[i], Y[i], s, o, part, {}, [] {}, after);
  });
}

}  // namespace HOFT_TARGET_NAMESPACE
