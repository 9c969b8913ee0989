// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/adapt.hpp: the two halves of a bound layer around the base operator, and their gradients, for those who
// call the base themselves.
#pragma once
#include <hoft/adapter/algorithms.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

template <class A, class T, class L>
void require_adapt(char const* function, side_ranks ranks, bound_layer_view<A> const& layer,
                   matrix_view<T, L> base_output, matrix_view<std::remove_const_t<T>, L> y,
                   layer_state<std::remove_const_t<A>, std::remove_const_t<T>, L> const& state) {
  auto const& a = layer.adapter;
  index_t const t = base_output.cols;
  require_layer(function, ranks, layer);
  require_shape(function, "base_output", base_output, a.rows(), t);
  require_shape(function, "y", y, a.rows(), t);
  require_state(function, a, state, t, false);
}

/// From outputs divided by the scale. Of no tokens there are none, also where q is saved.
template <class A, class AS, class TS, class L>
bool recovers_q(adapter_view<A> const& a, layer_state<AS, TS, L> const& state) {
  return a.scaled() && state.v.cols > 0 && state.q.empty();
}
template <class A, class AS, class TS, class L>
saved_quantity saved_by(adapter_view<A> const& a, layer_state<AS, TS, L> const& state) {
  return a.scaled() && !recovers_q(a, state) ? saved_quantity::q : saved_quantity::y;
}

template <class A, class TY, class AS, class TS, class TG, class T, class L>
void require_adapt_backward(char const* function, side_ranks ranks, bound_layer_view<A> const& layer,
                            matrix_view<TY, L> y, layer_state<AS, TS, L> const& state, matrix_view<TG, L> dy,
                            matrix_view<T, L> dbase, layer_gradient_view<std::remove_const_t<A>> const& g) {
  auto const& a = layer.adapter;
  index_t const t = dy.cols;
  require_layer(function, ranks, layer);
  require_shape(function, "y", y, a.rows(), t);
  require_state(function, a, state, t);
  require_shape(function, "dy", dy, a.rows(), t);
  require_shape(function, "dbase", dbase, a.rows(), t);
  require_layer_gradient(function, a, g);
}

template <class Policy, class A, class T, class L>
using project_layer = project_algorithm<Policy, A, T, L>;
template <class Policy, class A, class T, class L>
using adapt_layer = adapt_algorithm<Policy, A, T, L, given_projections<A, L>>;
template <class Policy, class A, class T, class L>
using adapt_layer_backward = adapt_backward_algorithm<Policy, A, T, L, given_projections<A, L>>;
template <class Policy, class A, class T, class L>
using project_layer_backward = update_algorithm<Policy, A, T, L>;

}  // namespace detail

/// Bytes of workspace for `project` of x.
/// @throws hoft::shape_error if x does not fit the layer, or parts of the layer each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t project_workspace(Policy const& policy, bound_layer_view<A> const& layer, matrix_view<T, L> x) {
  using acc = std::remove_const_t<A>;
  detail::require_layer_sizes("project_workspace", layer);
  detail::require_shape("project_workspace", "x", x, layer.cols(), x.cols);
  return detail::workspace_size<detail::project_layer<Policy, acc, std::remove_const_t<T>, L>>(
      ops<Policy>::of_right(policy), layer.cols(), layer.adapter.right.rank(), x.cols);
}

/// v := V̂ᴴx, what `adapt` needs of the tokens.
///
/// @param policy where to compute
/// @param layer  a bound layer of a weight [m, n], rank rv on the right
/// @param x      [n, t] In: tokens
/// @param v      [rv, t] Out
/// @param work   at least project_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a layer that is not bound), before
///         anything is written
///
/// Cost: 2 n rv t flops, one pass over x. Accuracy: √n ε ‖x‖ token by token.
template <execution_policy Policy, class A, class T, class L>
void project(Policy const& policy, bound_layer_view<A> const& layer, matrix_view<T, L> x,
             matrix_view<std::remove_const_t<A>, L> v, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>, "hoft::project: the layer must hold the accumulator type of x.");
  auto const& right = layer.adapter.right;
  detail::require_layer("project", detail::ranks_of(policy), layer);
  detail::require_shape("project", "x", x, layer.cols(), x.cols);
  detail::require_shape("project", "v", v, right.rank(), x.cols);
  decltype(auto) of_right = ops<Policy>::of_right(policy);
  auto const algorithm = detail::carve<detail::project_layer<Policy, acc, std::remove_const_t<T>, L>>(
      "project", work, of_right, layer.cols(), right.rank(), x.cols);
  algorithm.run(of_right, right.vectors, x, v);
}

/// Bytes of workspace for `adapt` of this base output, whether q is saved or not.
/// @throws hoft::shape_error if base_output does not fit the layer, or parts of the layer each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t adapt_workspace(Policy const& policy, bound_layer_view<A> const& layer,
                                      matrix_view<T, L> base_output) {
  using acc = std::remove_const_t<A>;
  detail::require_layer_sizes("adapt_workspace", layer);
  detail::require_shape("adapt_workspace", "base_output", base_output, layer.rows(), base_output.cols);
  return detail::workspace_size<detail::adapt_layer<Policy, acc, std::remove_const_t<T>, L>>(
      ops<Policy>::of_left(policy), layer.adapter, base_output.cols, layer.adapter.scaled());
}

/// y := Q_U diag(s) (M x − K v) from M x, from any source, and v = V̂ᴴx: the adapted layer's output M̂ x.
///
/// @param policy      where to compute
/// @param layer       a bound layer of a weight [m, n], ranks ru and rv
/// @param base_output [m, t] In: M x
/// @param y           [m, t] Out: may be base_output itself; must not overlap it otherwise
/// @param state       In: v, as `project` made it. Out: w, if it has data, and q, if it has data (SHOFT only)
/// @param work        at least adapt_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a layer that is not bound), before
///         anything is written
///
/// Cost: (4 m ru + 2 m rv) t flops; one pass over base_output and y (on a GPU a second one over base_output, where a
/// cluster cannot hold all its features or has more than 32 reflectors). Accuracy: a small multiple of √(m + rv) (ru
/// + rv) ε max|s| (‖M x‖ + ‖K v‖) token by token. Source: docs/reference/mathematics.md (section 3).
template <execution_policy Policy, class A, class T, class L>
void adapt(Policy const& policy, bound_layer_view<A> const& layer, matrix_view<T, L> base_output,
           matrix_view<std::remove_const_t<T>, L> y,
           layer_state<std::remove_const_t<A>, std::remove_const_t<T>, L> const& state, workspace work) {
  using acc = std::remove_const_t<A>;
  using value = std::remove_const_t<T>;
  static_assert(std::same_as<accumulator_t<T>, acc>, "hoft::adapt: the layer must hold the accumulator type of y.");
  detail::require_adapt("adapt", detail::ranks_of(policy), layer, base_output, y, state);
  decltype(auto) of_left = ops<Policy>::of_left(policy);
  auto const algorithm = detail::carve<detail::adapt_layer<Policy, acc, value, L>>(
      "adapt", work, of_left, layer.adapter, base_output.cols, layer.adapter.scaled());
  algorithm.run(of_left, layer, detail::given_projections<acc, L>{state.v}, base_output, y, state.w, state.q);
}

/// Bytes of workspace for `adapt_backward` after an `adapt` that left `state`.
/// @throws hoft::shape_error if parts of the layer, or `state`, do not fit
template <execution_policy Policy, class A, class AS, class TS, class L>
[[nodiscard]] index_t adapt_backward_workspace(Policy const& policy, bound_layer_view<A> const& layer,
                                               layer_state<AS, TS, L> const& state) {
  using acc = std::remove_const_t<A>;
  detail::require_layer_sizes("adapt_backward_workspace", layer);
  detail::require_state("adapt_backward_workspace", layer.adapter, state, state.v.cols);
  return detail::workspace_size<detail::adapt_layer_backward<Policy, acc, std::remove_const_t<TS>, L>>(
      ops<Policy>::of_left(policy), layer.adapter, state.v.cols, detail::saved_by(layer.adapter, state));
}

/// The gradients of `adapt` from dy = ∂L/∂y: with respect to base_output and v, and what the adapter's own are summed
/// from.
///
/// @param policy where to compute
/// @param layer, state  as in `adapt`, which has to have left w
/// @param y      [m, t] In: the result of `adapt`, from which its inputs are recovered
/// @param dy     [m, t] In
/// @param dbase  [m, t] Out: ∂L/∂base_output, for the adjoint of the base operator; may be dy itself
/// @param dv     [rv, t] Out: ∂L/∂v, for `project_backward`
/// @param g      In, out: sums are added to all but D_V
/// @param work   at least adapt_backward_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a layer that is not bound), before
///         anything is written
///
/// Cost: (8 m ru + 4 m rv) t flops (10 m ru with several blocks of U, or to recover q); one pass over y, dy and dbase
/// (on a GPU a second one over dy, where `adapt` has one over base_output). Accuracy: as of apply_backward. Same bits
/// for any number of threads. Source: docs/reference/mathematics.md (section 3).
template <execution_policy Policy, class A, class TY, class AS, class TS, class TG, class T, class L>
void adapt_backward(Policy const& policy, bound_layer_view<A> const& layer, matrix_view<TY, L> y,
                    layer_state<AS, TS, L> const& state, matrix_view<TG, L> dy, matrix_view<T, L> dbase,
                    matrix_view<std::remove_const_t<A>, L> dv, layer_gradient_view<std::remove_const_t<A>> const& g,
                    workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::adapt_backward: the layer must hold the accumulator type of dy.");
  detail::require_adapt_backward("adapt_backward", detail::ranks_of(policy), layer, y, state, dy, dbase, g);
  detail::require_shape("adapt_backward", "dv", dv, layer.adapter.right.rank(), dy.cols);
  decltype(auto) of_left = ops<Policy>::of_left(policy);
  auto const algorithm = detail::carve<detail::adapt_layer_backward<Policy, acc, T, L>>(
      "adapt_backward", work, of_left, layer.adapter, dy.cols, detail::saved_by(layer.adapter, state));
  algorithm.run(of_left, layer, state.w, detail::given_projections<acc, L>{state.v}, y, state.q, dy, dbase, dv,
                detail::sums_of_outputs(g), true);
  ops<Policy>::template sum_ranks<acc>(of_left, dv);
}

/// Bytes of workspace for `project_backward` of x.
/// @throws hoft::shape_error if x does not fit the layer, or parts of the layer each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t project_backward_workspace(Policy const& policy, bound_layer_view<A> const& layer,
                                                 matrix_view<T, L> x) {
  using acc = std::remove_const_t<A>;
  detail::require_layer_sizes("project_backward_workspace", layer);
  detail::require_shape("project_backward_workspace", "x", x, layer.cols(), x.cols);
  return detail::workspace_size<detail::project_layer_backward<Policy, acc, std::remove_const_t<T>, L>>(
      ops<Policy>::of_rank(policy), layer.cols(), layer.adapter.right.rank(), x.cols);
}

/// The gradients of `project` from dv = ∂L/∂v, added to what the base operator's adjoint made of dbase.
///
/// @param policy where to compute
/// @param layer  a bound layer of a weight [m, n], rank rv on the right
/// @param x      [n, t] In: tokens, as in `project`
/// @param dv     [rv, t] In
/// @param dx     [n, t] In: Mᴴ dbase. Out: ∂L/∂x = Mᴴ dbase + V̂ dv
/// @param g      In, out: x dvᴴ is added to D_V
/// @param work   at least project_backward_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a layer that is not bound), before
///         anything is written
///
/// Cost: 4 n rv t flops, one pass over x and dx. Same bits for any number of threads.
template <execution_policy Policy, class A, class TX, class AV, class T, class L>
void project_backward(Policy const& policy, bound_layer_view<A> const& layer, matrix_view<TX, L> x,
                      matrix_view<AV, L> dv, matrix_view<T, L> dx, layer_gradient_view<std::remove_const_t<A>> const& g,
                      workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::project_backward: the layer must hold the accumulator type of x.");
  auto const& right = layer.adapter.right;
  detail::require_layer("project_backward", detail::ranks_of(policy), layer);
  detail::require_shape("project_backward", "x", x, layer.cols(), x.cols);
  detail::require_shape("project_backward", "dv", dv, right.rank(), x.cols);
  detail::require_shape("project_backward", "dx", dx, layer.cols(), x.cols);
  detail::require_layer_gradient("project_backward", layer.adapter, g);
  decltype(auto) of_rank = ops<Policy>::of_rank(policy);
  auto const algorithm = detail::carve<detail::project_layer_backward<Policy, acc, T, L>>(
      "project_backward", work, of_rank, layer.cols(), right.rank(), x.cols);
  algorithm.run(of_rank, right.vectors, dv, x, dx, g.D_V);
}

}  // namespace HOFT_TARGET_NAMESPACE
