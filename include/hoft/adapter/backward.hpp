// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/backward.hpp: the gradients of forward, without the adapted weight or its gradient.
#pragma once
#include <hoft/adapter/adapt.hpp>
#include <hoft/adapter/base.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// On the way back to the base operator, and behind it, in the same memory.
template <class Policy, class A, class T, class L>
struct backward_adapt {
  adapt_layer_backward<Policy, A, T, L> adapt;
  backward_adapt(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, saved_quantity what)
      : adapt(memory, ops<Policy>::of_left(policy), a, t, what) {}
};
template <class Policy, class A, class T, class L>
struct backward_project {
  project_layer_backward<Policy, A, T, L> project;
  backward_project(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, saved_quantity)
      : project(memory, ops<Policy>::of_rank(policy), a.cols(), a.right.rank(), t) {}
};
template <class Policy, class A, class T, class L>
struct layer_backward_pieces {
  matrix_view<A, L> dv;
  overlaid<backward_adapt<Policy, A, T, L>, backward_project<Policy, A, T, L>> turns;
  layer_backward_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t,
                        saved_quantity what)
      : dv(memory.matrix<A, L>(a.right.rank(), t)), turns(memory, policy, a, t, what) {}
};

template <class A, class Base, class TX, class TY, class AS, class TS, class TG, class T, class L>
void require_layer_backward(side_ranks ranks, bound_layer_view<A> const& layer, Base const& base, matrix_view<TX, L> x,
                            matrix_view<TY, L> y, layer_state<AS, TS, L> const& state, matrix_view<TG, L> dy,
                            matrix_view<T, L> dbase, matrix_view<T, L> dx,
                            layer_gradient_view<std::remove_const_t<A>> const& g) {
  constexpr char const* function = "backward";
  require_shape(function, "x", x, layer.cols(), x.cols);
  require_shape(function, "dy", dy, layer.rows(), x.cols);
  require_adapt_backward(function, ranks, layer, y, state, dy, dbase, g);
  require_base(function, base, layer.adapter);
  require_shape(function, "dx", dx, layer.cols(), x.cols);
}

}  // namespace detail

/// Bytes of workspace for `backward` of a bound layer after a forward pass that left `state`.
/// @throws hoft::shape_error if parts of the layer, or `state`, do not fit
template <execution_policy Policy, class A, class AS, class TS, class L>
[[nodiscard]] index_t backward_workspace(Policy const& policy, bound_layer_view<A> const& layer,
                                         layer_state<AS, TS, L> const& state) {
  using acc = std::remove_const_t<A>;
  detail::require_layer_sizes("backward_workspace", layer);
  detail::require_state("backward_workspace", layer.adapter, state, state.v.cols);
  return detail::workspace_size<detail::layer_backward_pieces<Policy, acc, std::remove_const_t<TS>, L>>(
      policy, layer.adapter, state.v.cols, detail::saved_by(layer.adapter, state));
}

/// ∂L/∂x of y = forward(layer, base, x) from dy = ∂L/∂y, with one adjoint call of the base operator on exactly these
/// tokens; and sums, from which `finish` makes dU, dV and ds.
///
/// @param policy where to compute
/// @param layer, base, state  as in the forward pass
/// @param x      [n, t] In: the tokens
/// @param y      [m, t] In: the forward pass's result, from which its inputs are recovered
/// @param dy     [m, t] In
/// @param dbase  [m, t] Out: ∂L/∂(M x), on which the base's adjoint is called; may be dy itself
/// @param dx     [n, t] Out: ∂L/∂x. Must overlap none of the others
/// @param g      In, out: the sums of these tokens are added
/// @param work   at least backward_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a layer that is not bound), before
///         anything is written. What the base operator throws leaves these tokens in all sums of g but D_V: begin the
///         step anew
///
/// Cost: 2 m n t flops in the base, (8 m ru + 4 m rv + 4 n rv) t beside it (10 m ru with several blocks of U, or to
/// recover q): `adapt_backward`, the base's adjoint, `project_backward`. Accuracy: as of apply_backward. Same bits
/// for any number of threads (if the base operator has that property). Source: docs/reference/mathematics.md (section
/// 3).
template <execution_policy Policy, class A, class Base, class TX, class TY, class AS, class TS, class TG, class T,
          class L>
requires base_operator<std::remove_reference_t<Base>, T, L>
void backward(Policy const& policy, bound_layer_view<A> const& layer, Base&& base, matrix_view<TX, L> x,
              matrix_view<TY, L> y, layer_state<AS, TS, L> const& state, matrix_view<TG, L> dy, matrix_view<T, L> dbase,
              matrix_view<T, L> dx, layer_gradient_view<std::remove_const_t<A>> const& g, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>, "hoft::backward: the layer must hold the accumulator type of x.");
  auto const& a = layer.adapter;
  detail::require_layer_backward(detail::ranks_of(policy), layer, base, x, y, state, dy, dbase, dx, g);
  auto const pieces = detail::carve<detail::layer_backward_pieces<Policy, acc, T, L>>(
      "backward", work, policy, a, x.cols, detail::saved_by(a, state));
  decltype(auto) of_left = ops<Policy>::of_left(policy);
  pieces.turns.first.adapt.run(of_left, layer, state.w, detail::given_projections<acc, L>{state.v}, y, state.q, dy,
                               dbase, pieces.dv, detail::sums_of_outputs(g), true);
  detail::apply_base_adjoint(policy, base, matrix_view<T const, L>(dbase), dx);
  ops<Policy>::template sum_ranks<acc>(of_left, dx, pieces.dv);
  pieces.turns.second.project.run(ops<Policy>::of_rank(policy), a.right.vectors, pieces.dv, x, dx, g.D_V);
}

}  // namespace HOFT_TARGET_NAMESPACE
