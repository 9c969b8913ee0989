// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/finish.hpp: from the sums of a bound layer's gradient to dU, dV and ds, once in an optimiser step.
#pragma once
#include <hoft/adapter/base.hpp>
#include <hoft/adapter/panel.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

template <class A, class T, class L>
struct finish_layer_pieces {
  static constexpr bool rounds = !std::same_as<T, A>;
  adapter_finish_pieces<A> of_factors;
  matrix_view<A> dB, D;                 ///< [m, rv]; [n, rv] Mᴴ dB, where T is A
  matrix_view<real_t<A>> norms;         ///< [2, rv] of dB as normalise_columns gives them, where T is not A
  matrix_view<T, L> base_in, base_out;  ///< dB and Mᴴ dB as the base operator takes them
  finish_layer_pieces(arena& memory, adapter_view<A const> const& a)
      : of_factors(memory, a),
        dB(memory.matrix<A>(a.rows(), a.right.rank())),
        D(memory.matrix<A>(rounds ? 0 : a.cols(), a.right.rank())),
        norms(memory.matrix<real_t<A>>(rounds ? 2 : 0, a.right.rank())),
        base_in(memory.matrix<T, L>(a.rows(), a.right.rank())),
        base_out(memory.matrix<T, L>(a.cols(), a.right.rank())) {}
};

/// A column of dB may be a sum over all tokens of a step, which 16 bits need not hold. A base operator of 16-bit
/// numbers gets it with a norm of at most this, so that MᴴdB fits too where columns of M have a norm below 16. Small
/// columns are not scaled up: a base operator that learns sums its own gradient from what it gets.
inline constexpr float most_norm_in_16_bits = 4096;

/// Y := X diag(norms) with norms of at most most_norm_in_16_bits. X has columns of norm 1.
template <class A, class T, class L>
struct limited_columns_element {
  matrix_view<A const> X;
  matrix_view<real_t<A> const> norms;
  matrix_view<T, L> Y;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    real_t<A> const norm = norms(0, j) * norms(1, j);
    Y(i, j) = static_cast<T>(X(i, j) * (norm > most_norm_in_16_bits ? real_t<A>(most_norm_in_16_bits) : norm));
  }
};
/// Y := Y + X, X from columns that limited_columns_element made.
template <class A, class T, class L>
struct add_limited_columns_element {
  matrix_view<T const, L> X;
  matrix_view<real_t<A> const> norms;
  matrix_view<A> Y;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    real_t<A> const norm = norms(0, j) * norms(1, j);
    Y(i, j) += static_cast<A>(X(i, j)) * (norm > most_norm_in_16_bits ? norm / most_norm_in_16_bits : real_t<A>(1));
  }
};

/// D_V := D_V + MᴴdB; dB is overwritten. dT_V rides on the sum of MᴴdB over ranks.
template <class Policy, class Base, class A, class T, class L>
void add_base_adjoint(Policy const& policy, Base& base, finish_layer_pieces<A, T, L> const& pieces,
                      matrix_view<A> D_V) {
  matrix_view<T const, L> const in = pieces.base_in, out = pieces.base_out;
  decltype(auto) of_left = ops<Policy>::of_left(policy);
  if constexpr (finish_layer_pieces<A, T, L>::rounds) {
    ops<Policy>::normalise_columns(of_left, pieces.dB, pieces.dB, pieces.norms);
    ops<Policy>::for_each_element(policy, pieces.base_in,
                                  limited_columns_element<A, T, L>{pieces.dB, pieces.norms, pieces.base_in});
    apply_base_adjoint(policy, base, in, pieces.base_out);
    ops<Policy>::template sum_ranks<A>(of_left, pieces.base_out, pieces.of_factors.dT());
    ops<Policy>::for_each_element(policy, D_V, add_limited_columns_element<A, T, L>{out, pieces.norms, D_V});
  } else {
    ops<Policy>::copy(policy, pieces.dB, pieces.base_in);
    apply_base_adjoint(policy, base, in, pieces.base_out);
    ops<Policy>::template sum_ranks<A>(of_left, pieces.base_out, pieces.of_factors.dT());
    ops<Policy>::copy(policy, out, pieces.D);
    ops<Policy>::add(policy, pieces.D, D_V);
  }
}

template <class A, class Base, class TU, class LU, class TV, class LV, class TS>
void require_finish(side_ranks ranks, bound_layer_view<A> const& layer, Base const& base,
                    layer_gradient_view<std::remove_const_t<A>> const& g, matrix_view<TU, LU> dU,
                    matrix_view<TV, LV> dV, vector_view<TS> ds) {
  constexpr char const* function = "finish";
  require_layer(function, ranks, layer);
  require_base(function, base, layer.adapter);
  require_layer_gradient(function, layer.adapter, g);
  require_gradients(function, layer.adapter, dU, dV, ds);
}

}  // namespace detail

/// Bytes of workspace for `finish` with a base operator on T and L.
/// @throws hoft::shape_error if an extent is negative or parts of the layer do not fit each other
template <scalar T, class L = col_major, execution_policy Policy, class A>
[[nodiscard]] index_t finish_workspace(Policy const&, bound_layer_view<A> const& layer) {
  using acc = std::remove_const_t<A>;
  detail::require_layer_sizes("finish_workspace", layer);
  return detail::workspace_size<detail::finish_layer_pieces<acc, T, L>>(layer.adapter);
}

/// dU, dV and ds from the sums over all tokens of a step, with one adjoint call of the base operator on rv columns.
///
/// @tparam T, L  element type and layout on which the base operator is called
/// @param policy where to compute
/// @param layer  the bound layer of the step
/// @param base   M as a base operator on T and L. In 16 bits it takes columns of ∂L/∂(M V̂) of norm above 4096 scaled
///               down to that
/// @param g      In: sums. Out: overwritten; set_zero begins the next step
/// @param dU     [m, ru] Out
/// @param dV     [n, rv] Out
/// @param ds     [m] Out for SHOFT, size 0 for HOFT
/// @param work   at least finish_workspace<T, L> bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a layer that is not bound), before
///         anything is written. What the base operator throws leaves g without meaning: begin the step anew
///
/// Cost: 2 m n rv flops in the base and 4 (m ru² + (m + n) rv²) at most beside it; M is read once. Memory: O((m + n)
/// rv). Accuracy: as of apply_backward, and dB is rounded to T. Source: docs/reference/mathematics.md (section 3).
template <scalar T, class L = col_major, execution_policy Policy, class A, class Base, class TU, class LU, class TV,
          class LV, class TS>
requires base_operator<std::remove_reference_t<Base>, T, L>
void finish(Policy const& policy, bound_layer_view<A> const& layer, Base&& base,
            layer_gradient_view<std::remove_const_t<A>> const& g, matrix_view<TU, LU> dU, matrix_view<TV, LV> dV,
            vector_view<TS> ds, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::finish: the layer must hold the accumulator type of the activations.");
  auto const& a = layer.adapter;
  detail::require_finish(detail::ranks_of(policy), layer, base, g, dU, dV, ds);
  auto const pieces = detail::carve<detail::finish_layer_pieces<acc, T, L>>("finish", work, a);
  detail::product_backward(policy, a, matrix_view<acc const>(layer.B), g.minus_dK, pieces.dB, pieces.of_factors);
  if (a.right.rank() > 0) detail::add_base_adjoint(policy, base, pieces, g.D_V);
  detail::finish_adapter(policy, a, detail::sums_of_outputs(g), g.D_V, pieces.of_factors, dU, dV, ds);
}

}  // namespace HOFT_TARGET_NAMESPACE
