// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/unmerge.hpp: the base weight back from the merged one.
#pragma once
#include <hoft/adapter/adapter.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

template <class A, class T, class L>
void require_unmerge(side_ranks ranks, adapter_view<A> const& a, matrix_view<T, L> M) {
  constexpr char const* function = "unmerge";
  require_adapter(function, ranks, a);
  require_weight(function, a, M);
  for (auto const* q : {&a.left, &a.right})
    if (q->kind.truncated)
      refuse<argument_error>(function, q == &a.left ? "a.left" : "a.right", "built with neumann{k}",
                             "built with exact{}");
}
}  // namespace detail

/// Bytes of workspace for `unmerge` with M of this element type and layout.
/// @throws hoft::shape_error if an extent is negative or parts of the adapter do not fit each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t unmerge_workspace(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L> M) {
  detail::require_adapter_sizes("unmerge_workspace", a);
  detail::require_view("unmerge_workspace", "M", M);
  return (std::max)(apply_workspace(ops<Policy>::of_left(policy), a.left, M, side::left),
                    apply_workspace(ops<Policy>::of_right(policy), a.right, M, side::right));
}

/// M := Q_Uᴴ M̂ Q_Vᴴ for HOFT, Q_Uᴴ then diag(s)⁻¹ then Q_Vᴴ for SHOFT: the inverse of merge, in place.
///
/// @param policy where to compute
/// @param a      the adapter that merged, built with exact{} on both sides
/// @param M      [m, n] In: M̂. Out: M
/// @param work   at least unmerge_workspace bytes
/// @throws hoft::argument_error if a side is truncated (its adjoint is not its inverse) or has explicit tau or was not
///         accumulated, or an s_i is 0 (where the host reads s: a GPU gives what is not finite);
///         hoft::shape_error, hoft::workspace_error; all before anything is written
///
/// Cost: 4 m n (ru + rv) flops, two passes over M (three for SHOFT). Accuracy: merge then unmerge returns M within a
/// small multiple of √(m + n + rv) (ru + rv) ε ‖M‖, times max|s| / min|s| for SHOFT. In 16-bit storage M is rounded
/// after each pass.
template <execution_policy Policy, class A, class T, class L>
void unmerge(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L> M, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>, "hoft::unmerge: the adapter must hold the accumulator type of M.");
  vector_view<acc const> const s = a.scale;
  detail::require_unmerge(detail::ranks_of(policy), a, M);
  detail::require_bytes("unmerge", "work.size", work.size, unmerge_workspace(policy, a, M));
  ops<Policy>::agree_on_adapter(policy, a);
  detail::require_no_zero("unmerge", policy, a);
  apply(ops<Policy>::of_left(policy), a.left, M, M, side::left, op::adjoint, work);
  if (a.scaled()) ops<Policy>::divide_rows(policy, s, M);
  apply(ops<Policy>::of_right(policy), a.right, M, M, side::right, op::adjoint, work);
}

}  // namespace HOFT_TARGET_NAMESPACE
