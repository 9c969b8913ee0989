// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/batch.hpp: many adapters in one call, threads over adapters: all layers of a model to be merged.
#pragma once
#include <hoft/adapter/merge.hpp>
#include <hoft/adapter/unmerge.hpp>
#include <hoft/householder/batch.hpp>

namespace HOFT_TARGET_NAMESPACE {
/// std::vector, std::array, an array or std::span of adapter views.
template <class R>
concept many_adapters = detail::many<R, adapter_view>;

// Every batch takes as many elements of each argument, and element i of each is problem i, as the call with one adapter
// takes it: views of constant or mutable elements, in std::vector, std::array, an array or std::span. Problems may
// differ in shape; each has the bits of its single call. Threads share the problems, one at a time each. A GPU takes
// eight problems at a time, each with workspace of its own: kernels that they all want are launched once for all of
// them. What they would launch is noted in memory of the host first.

/// Bytes of workspace for `merge` of all of M.
template <execution_policy Policy, many_adapters Adapters, many_matrices Matrices>
[[nodiscard]] index_t merge_workspace(Policy const& policy, Adapters const& a, Matrices const& M) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(a), std::size(M))), [&](index_t i) {
    return merge_workspace(ops<Policy>::serial(policy), std::data(a)[i], std::data(M)[i]);
  });
}

/// M̂[i] := merge(a[i], M[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_M, all_Mhat  as of `merge` with one adapter, element by element; M̂[i] may be M[i] itself, and
///        must overlap no other problem's views
/// @param work   at least merge_workspace bytes
/// @throws as `merge` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_adapters Adapters, many_matrices Weights, many_matrices Merged>
void merge(Policy const& policy, Adapters const& all_a, Weights const& all_M, Merged const& all_Mhat, workspace work) {
  constexpr char const* function = "merge";
  auto const a = detail::items(all_a);
  auto const M = detail::items(all_M);
  auto const Mhat = detail::items(all_Mhat);
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count, {{"M.size()", M.size()}, {"Mhat.size()", Mhat.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) { detail::require_merge(detail::ranks_of(policy), a[i], M[i], Mhat[i]); },
      [&] { return merge_workspace(policy, a, M); });
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { merge(one, a[i], M[i], Mhat[i], part); });
}

/// Bytes of workspace for `unmerge` of all of M.
template <execution_policy Policy, many_adapters Adapters, many_matrices Matrices>
[[nodiscard]] index_t unmerge_workspace(Policy const& policy, Adapters const& a, Matrices const& M) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(a), std::size(M))), [&](index_t i) {
    return unmerge_workspace(ops<Policy>::serial(policy), std::data(a)[i], std::data(M)[i]);
  });
}

/// M[i] := unmerge(a[i], M[i]) for every i, in place.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_M  as of `unmerge` with one adapter, element by element; M[i] must overlap no other problem's
/// views
/// @param work   at least unmerge_workspace bytes
/// @throws as `unmerge` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_adapters Adapters, many_matrices Weights>
void unmerge(Policy const& policy, Adapters const& all_a, Weights const& all_M, workspace work) {
  constexpr char const* function = "unmerge";
  auto const a = detail::items(all_a);
  auto const M = detail::items(all_M);
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count, {{"M.size()", M.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work, [&](std::size_t i) { detail::require_unmerge(detail::ranks_of(policy), a[i], M[i]); },
      [&] { return unmerge_workspace(policy, a, M); });
  for (index_t i = 0; i < count; ++i)
    detail::require_problem(i, [&] { detail::require_no_zero(function, policy, a[std::size_t(i)]); });
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { unmerge(one, a[i], M[i], part); });
}

/// Bytes of workspace for `merge_backward` of all of M.
template <execution_policy Policy, many_adapters Adapters, many_matrices Matrices>
[[nodiscard]] index_t merge_backward_workspace(Policy const& policy, Adapters const& a, Matrices const& M) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(a), std::size(M))), [&](index_t i) {
    return merge_backward_workspace(ops<Policy>::serial(policy), std::data(a)[i], std::data(M)[i]);
  });
}

/// dU[i], dV[i] and ds[i] := merge_backward(a[i], M[i], dM̂[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_M, all_dMhat, all_dU, all_dV, all_ds  as of `merge_backward` with one adapter, element by element;
/// no output may overlap
///               another problem's views
/// @param work   at least merge_backward_workspace bytes
/// @throws as `merge_backward` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_adapters Adapters, many_matrices Weights, many_matrices Gradients,
          many_matrices GradientsU, many_matrices GradientsV, many_vectors GradientsS>
void merge_backward(Policy const& policy, Adapters const& all_a, Weights const& all_M, Gradients const& all_dMhat,
                    GradientsU const& all_dU, GradientsV const& all_dV, GradientsS const& all_ds, workspace work) {
  constexpr char const* function = "merge_backward";
  auto const a = detail::items(all_a);
  auto const M = detail::items(all_M);
  auto const dMhat = detail::items(all_dMhat);
  auto const dU = detail::items(all_dU);
  auto const dV = detail::items(all_dV);
  auto const ds = detail::items(all_ds);
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count,
                        {{"M.size()", M.size()},
                         {"dMhat.size()", dMhat.size()},
                         {"dU.size()", dU.size()},
                         {"dV.size()", dV.size()},
                         {"ds.size()", ds.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) {
        detail::require_merge_backward(detail::ranks_of(policy), a[i], M[i], dMhat[i], dU[i], dV[i], ds[i]);
      },
      [&] { return merge_backward_workspace(policy, a, M); });
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    merge_backward(one, a[i], M[i], dMhat[i], dU[i], dV[i], ds[i], part);
  });
}

}  // namespace HOFT_TARGET_NAMESPACE
