// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/merge.hpp: HOFT and SHOFT on the weight.
#pragma once
#include <hoft/adapter/algorithms.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// The layer of a weight that is at hand, in workspace.
template <class Policy, class A, class T, class L>
struct weight_layer {
  using rows_layout = transposed_layout<L>;
  bound_layer_view<A> parts;
  project_algorithm<Policy, A, T, rows_layout> project;
  weight_layer(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : parts(carve_layer(memory, a)),
        project(memory, ops<Policy>::of_right(policy), a.cols(), a.right.rank(), a.rows()) {}

  void bind(Policy const& policy, matrix_view<T const, L> M) const {
    // Bᵀ = Vᵀ Mᵀ, where projections take adjoints.
    project.run(ops<Policy>::of_right(policy), parts.adapter.right.vectors, M.transposed(), parts.B.transposed(),
                is_complex<A>);
    form_products(policy, parts);
  }
};

template <class A, class TM, class T, class L>
void require_merge(side_ranks ranks, adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<T, L> Mhat) {
  constexpr char const* function = "merge";
  require_adapter(function, ranks, a);
  require_weight(function, a, M);
  require_shape(function, "Mhat", Mhat, a.rows(), a.cols());
}

template <class Policy, class A, class T, class L>
struct merge_pieces {
  weight_layer<Policy, A, T, L> layer;
  adapt_algorithm<Policy, A, T, L, adjoint_vectors<A, L>> adapt;
  merge_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : layer(memory, policy, a), adapt(memory, ops<Policy>::of_left(policy), a, a.cols(), false) {}
};

}  // namespace detail

/// Bytes of workspace for `merge` with M of this element type and layout.
/// @throws hoft::shape_error if an extent is negative or parts of the adapter do not fit each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t merge_workspace(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L> M) {
  detail::require_adapter_sizes("merge_workspace", a);
  detail::require_view("merge_workspace", "M", M);
  using acc = std::remove_const_t<A>;
  return detail::workspace_size<detail::merge_pieces<Policy, acc, std::remove_const_t<T>, L>>(
      policy, adapter_view<acc const>(a));
}

/// M̂ := Q_U diag(s) M Q_V.
///
/// @param policy where to compute
/// @param a      the adapter of a weight [m, n], ranks ru and rv
/// @param M      [m, n] In: the base weight
/// @param Mhat   [m, n] Out: may be M itself; must not overlap it otherwise
/// @param work   at least merge_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau, or one not
///         accumulated), before anything is written
///
/// Cost: 4 m n (ru + rv) flops; M is read twice (on a GPU three times, where forward reads base twice) and M̂ written
/// once. Accuracy: a small multiple of √(m + n + rv) (ru + rv) ε max|s| ‖M‖ column by column. HOFT keeps the singular
/// values of M to that accuracy. Source: math in docs/reference/mathematics.md (section 3); Arcas et al., arXiv
/// 2505.16531.
template <execution_policy Policy, class A, class TM, class T, class L>
void merge(Policy const& policy, adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<T, L> Mhat,
           workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<std::remove_const_t<TM>, T>, "hoft::merge: M and Mhat must have the same element type.");
  static_assert(std::same_as<accumulator_t<T>, acc>, "hoft::merge: the adapter must hold the accumulator type of M.");
  adapter_view<acc const> const view = a;
  detail::require_merge(detail::ranks_of(policy), a, M, Mhat);
  auto const pieces = detail::carve<detail::merge_pieces<Policy, acc, T, L>>("merge", work, policy, view);
  ops<Policy>::agree_on_adapter(policy, view);
  pieces.layer.bind(policy, M);
  pieces.adapt.run(ops<Policy>::of_left(policy), pieces.layer.parts,
                   detail::adjoint_vectors<acc, L>{view.right.vectors}, M, Mhat, matrix_view<acc, L>{},
                   matrix_view<T, L>{});
}

namespace detail {

template <class A, class TM, class TG, class L, class TU, class LU, class TV, class LV, class TS>
void require_merge_backward(side_ranks ranks, adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<TG, L> dMhat,
                            matrix_view<TU, LU> dU, matrix_view<TV, LV> dV, vector_view<TS> ds) {
  constexpr char const* function = "merge_backward";
  require_adapter(function, ranks, a);
  require_weight(function, a, M);
  require_shape(function, "dMhat", dMhat, a.rows(), a.cols());
  require_gradients(function, a, dU, dV, ds);
}

template <class Policy, class A, class T, class L>
struct merge_backward_pieces {
  weight_layer<Policy, A, T, L> layer;
  adapt_backward_algorithm<Policy, A, T, L, adjoint_vectors<A, L>> adapt;
  project_algorithm<Policy, A, T, L> project;
  adapter_sums<A> sums;
  adapter_finish_pieces<A> finish;
  matrix_view<A> dB, D, through_B;
  merge_backward_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : layer(memory, policy, a),
        adapt(memory, ops<Policy>::of_left(policy), a, a.cols(), saved_quantity::base),
        project(memory, ops<Policy>::of_rank(policy), a.rows(), a.right.rank(), a.cols()),
        sums(carve_adapter_sums(memory, a)),
        finish(memory, a),
        dB(memory.matrix<A>(a.rows(), a.right.rank())),
        D(memory.matrix<A>(a.cols(), a.right.rank())),
        through_B(memory.matrix<A>(a.cols(), a.right.rank())) {}
};

}  // namespace detail

/// Bytes of workspace for `merge_backward` with M of this element type and layout.
/// @throws hoft::shape_error if an extent is negative or parts of the adapter do not fit each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t merge_backward_workspace(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L> M) {
  detail::require_adapter_sizes("merge_backward_workspace", a);
  detail::require_view("merge_backward_workspace", "M", M);
  using acc = std::remove_const_t<A>;
  return detail::workspace_size<detail::merge_backward_pieces<Policy, acc, std::remove_const_t<T>, L>>(
      policy, adapter_view<acc const>(a));
}

/// The gradients of M̂ = merge(a, M) with respect to U, V and s, given Ĝ = ∂L/∂M̂; M is frozen.
///
/// @param policy where to compute
/// @param a      the adapter of a weight [m, n]
/// @param M      [m, n] In: the base weight, not the merged one
/// @param dMhat  [m, n] In
/// @param dU     [m, ru] Out
/// @param dV     [n, rv] Out
/// @param ds     [m] Out for SHOFT, size 0 for HOFT
/// @param work   at least merge_backward_workspace bytes: no m×n temporary
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau, or one not
///         accumulated), before anything is written
///
/// Cost: 10 m n ru + 10 m n rv flops; M is read three times and Ĝ once (on a GPU once more each, where forward reads
/// base twice). Accuracy: as of apply_backward.
/// Source: math in docs/reference/mathematics.md (section 3).
template <execution_policy Policy, class A, class TM, class TG, class L, class TU, class LU, class TV, class LV,
          class TS>
void merge_backward(Policy const& policy, adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<TG, L> dMhat,
                    matrix_view<TU, LU> dU, matrix_view<TV, LV> dV, vector_view<TS> ds, workspace work) {
  using acc = std::remove_const_t<A>;
  using T = std::remove_const_t<TM>;
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::merge_backward: the adapter must hold the accumulator type of M.");
  adapter_view<acc const> const view = a;
  detail::require_merge_backward(detail::ranks_of(policy), a, M, dMhat, dU, dV, ds);
  auto const pieces =
      detail::carve<detail::merge_backward_pieces<Policy, acc, T, L>>("merge_backward", work, policy, view);
  ops<Policy>::agree_on_adapter(policy, view);
  auto const& D = pieces.D;
  auto const& sums = pieces.sums;
  decltype(auto) of_left = ops<Policy>::of_left(policy);
  pieces.layer.bind(policy, M);
  pieces.adapt.run(of_left, pieces.layer.parts, {}, detail::adjoint_vectors<acc, L>{view.right.vectors}, M, {}, dMhat,
                   {}, D.transposed(), sums, false);  // (dqᴴ (−K))ᴴ
  // The sums run over columns of M.
  ops<Policy>::template sum_ranks<acc>(ops<Policy>::of_right(policy), sums.left.D, sums.left.dF, sums.left.E,
                                       sums.minus_dK, matrix_view<acc>(sums.ds.data, sums.ds.size, 1));
  detail::product_backward(policy, view, matrix_view<acc const>(pieces.layer.parts.B), sums.minus_dK, pieces.dB,
                           pieces.finish);
  pieces.project.run(ops<Policy>::of_rank(policy), pieces.dB, M, pieces.through_B.transposed());  // (Mᴴ dB)ᴴ
  ops<Policy>::add(policy, pieces.through_B, D);
  ops<Policy>::template sum_ranks<acc>(of_left, D, pieces.finish.dT());
  ops<Policy>::conjugate_in_place(policy, D);
  detail::finish_adapter(policy, view, pieces.sums, D, pieces.finish, dU, dV, ds);
}

}  // namespace HOFT_TARGET_NAMESPACE
