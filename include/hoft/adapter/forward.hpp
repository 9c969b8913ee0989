// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/forward.hpp: HOFT and SHOFT on activations, the adapted weight never formed.
#pragma once
#include <hoft/adapter/adapt.hpp>
#include <hoft/adapter/base.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// Projecting the tokens, and then adapting the base's output, in the same memory.
template <class Policy, class A, class T, class L>
struct forward_project {
  project_layer<Policy, A, T, L> project;
  forward_project(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t)
      : project(memory, ops<Policy>::of_rank(policy), a.cols(), a.right.rank(), t) {}
};
template <class Policy, class A, class T, class L>
struct forward_adapt {
  adapt_layer<Policy, A, T, L> adapt;
  forward_adapt(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t)
      : adapt(memory, ops<Policy>::of_left(policy), a, t, a.scaled()) {}
};
template <class Policy, class A, class T, class L>
struct layer_forward_pieces {
  matrix_view<A, L> v;  ///< [rv, t], where no state keeps it
  overlaid<forward_project<Policy, A, T, L>, forward_adapt<Policy, A, T, L>> turns;
  layer_forward_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool keeps_state)
      : v(memory.matrix<A, L>(keeps_state ? 0 : a.right.rank(), t)), turns(memory, policy, a, t) {}
};

template <class A, class Base, class TX, class T, class L>
void require_layer_forward(char const* function, side_ranks ranks, bound_layer_view<A> const& layer, Base const& base,
                           matrix_view<TX, L> x, matrix_view<T, L> y) {
  require_layer(function, ranks, layer);
  require_base(function, base, layer.adapter);
  require_shape(function, "x", x, layer.cols(), x.cols);
  require_shape(function, "y", y, layer.rows(), x.cols);
}

/// y holds M x of this rank's columns of M, and becomes M̂ x. v is summed over ranks in one message with M x.
template <class Policy, class A, class TX, class T, class L, class Pieces>
void adapt_tokens(Policy const& policy, bound_layer_view<A const> const& layer, matrix_view<TX, L> x,
                  matrix_view<T, L> y, layer_state<A, T, L> const& state, Pieces const& pieces) {
  pieces.turns.first.project.run(ops<Policy>::of_rank(policy), layer.adapter.right.vectors, x, state.v);
  ops<Policy>::template sum_ranks<A>(ops<Policy>::of_right(policy), y, state.v);
  pieces.turns.second.adapt.run(ops<Policy>::of_left(policy), layer, given_projections<A, L>{state.v}, y, y, state.w,
                                state.q);
}

/// `forward` with a state, or without one if no backward pass follows.
template <class Policy, class A, class Base, class TX, class T, class L>
void forward_layer(Policy const& policy, bound_layer_view<A const> const& layer, Base& base, matrix_view<TX, L> x,
                   matrix_view<T, L> y, layer_state<A, T, L> const* state, workspace work) {
  static_assert(std::same_as<accumulator_t<T>, A>, "hoft::forward: the layer must hold the accumulator type of x.");
  require_layer_forward("forward", ranks_of(policy), layer, base, x, y);
  if (state) require_state("forward", layer.adapter, *state, x.cols);
  auto const pieces =
      carve<layer_forward_pieces<Policy, A, T, L>>("forward", work, policy, layer.adapter, x.cols, state != nullptr);
  apply_base(policy, base, matrix_view<T const, L>(x), y);
  adapt_tokens<Policy, A>(policy, layer, x, y, state ? *state : layer_state<A, T, L>{pieces.v, {}, {}}, pieces);
}

}  // namespace detail

/// Bytes of workspace for `forward` of a bound layer with a state, or (keeps_state = false) without one.
/// @throws hoft::shape_error if x does not fit the layer, or parts of the layer each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t forward_workspace(Policy const& policy, bound_layer_view<A> const& layer, matrix_view<T, L> x,
                                        bool keeps_state = true) {
  using acc = std::remove_const_t<A>;
  detail::require_layer_sizes("forward_workspace", layer);
  detail::require_shape("forward_workspace", "x", x, layer.cols(), x.cols);
  return detail::workspace_size<detail::layer_forward_pieces<Policy, acc, std::remove_const_t<T>, L>>(
      policy, layer.adapter, x.cols, keeps_state);
}

/// y := M̂ x = Q_U diag(s) M Q_V x of a bound layer, with one call of the base operator on exactly these tokens.
///
/// @param policy where to compute
/// @param layer  a bound layer of a weight [m, n], ranks ru and rv
/// @param base   M as a base operator on T and L, as in bind_layer
/// @param x      [n, t] In: tokens
/// @param y      [m, t] Out. Must not overlap x
/// @param state  Out: what `backward` needs, cut by carve_layer_state
/// @param work   at least forward_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a layer that is not bound), before
///         anything is written. What the base operator throws leaves y and the state without meaning
///
/// Cost: 2 m n t flops in the base, (4 m ru + 2 (m + n) rv) t beside it: `project`, the base, `adapt` in place.
/// Accuracy: that of the base on x plus a small multiple of √(m + n + rv) (ru + rv) ε max|s| ‖M‖ ‖x‖ token by token.
/// Source: docs/reference/mathematics.md (section 3).
template <execution_policy Policy, class A, class Base, class TX, class T, class L>
requires base_operator<std::remove_reference_t<Base>, T, L>
void forward(Policy const& policy, bound_layer_view<A> const& layer, Base&& base, matrix_view<TX, L> x,
             matrix_view<T, L> y, std::type_identity_t<layer_state<std::remove_const_t<A>, T, L>> const& state,
             workspace work) {
  detail::forward_layer<Policy, std::remove_const_t<A>>(policy, layer, base, x, y, &state, work);
}

/// The same without a backward pass: nothing is saved.
/// @param work   at least forward_workspace(policy, layer, x, false) bytes
template <execution_policy Policy, class A, class Base, class TX, class T, class L>
requires base_operator<std::remove_reference_t<Base>, T, L>
void forward(Policy const& policy, bound_layer_view<A> const& layer, Base&& base, matrix_view<TX, L> x,
             matrix_view<T, L> y, workspace work) {
  detail::forward_layer<Policy, std::remove_const_t<A>, std::remove_reference_t<Base>, TX, T, L>(policy, layer, base, x,
                                                                                                 y, nullptr, work);
}

}  // namespace HOFT_TARGET_NAMESPACE
