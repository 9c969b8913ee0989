// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/layer.hpp: views of a bound layer (what depends on the adapter and its weight alone), of the state that
// forward saves for backward, and of the sums of a gradient.
#pragma once
#include <hoft/adapter/adapter.hpp>

#include <algorithm>

namespace HOFT_NAMESPACE {

/// An adapter, and what bind_layer computes from it and the weight M [m, n], once in an optimiser step. Every forward
/// and backward of that step reads it. The members are views; the caller owns the memory.
template <class A>
struct bound_layer_view {
  adapter_view<std::remove_const_t<A> const> adapter;
  matrix_view<A> B;               ///< [m, rv] M V̂
  matrix_view<A> minus_K;         ///< [m, rv] −K = −B T_V
  matrix_view<A> minus_scaled_K;  ///< [m, rv] −diag(s) K; for HOFT it is minus_K
  matrix_view<A> minus_UK;  ///< [ru, rv] −Ûᴴ diag(s) K, of this rank's rows, where U has one block; else empty
  /// Whether the memory has been filled. `bind_layer` sets it, and every call that reads a layer checks it. It is not
  /// set in copies of this view that were made before.
  bool bound = false;

  bound_layer_view() = default;
  bound_layer_view(bound_layer_view const&) = default;
  bound_layer_view& operator=(bound_layer_view const&) = default;
  template <class B_>
  requires std::same_as<B_ const, A> bound_layer_view(bound_layer_view<B_> const& a)
      : adapter(a.adapter),
        B(a.B),
        minus_K(a.minus_K),
        minus_scaled_K(a.minus_scaled_K),
        minus_UK(a.minus_UK),
        bound(a.bound) {}

  [[nodiscard]] index_t rows() const { return adapter.rows(); }
  [[nodiscard]] index_t cols() const { return adapter.cols(); }
};

/// The state that `forward` saves for `backward`, for t tokens. The backward pass takes constant elements as well.
template <class A, class T, class L>
struct layer_state {
  matrix_view<A, L> v;  ///< [rv, t] V̂ᴴx
  matrix_view<A, L> w;  ///< [ru, t] Ûᴴp with p = s ∘ q; or empty if no backward pass follows
  /// [m, t] q = M x − K v, for SHOFT only and optional. Left empty, the backward pass recovers it from y as (y + U Z)
  /// / s, which costs no memory but divides rounding errors of y by s_i, and is not finite where s_i = 0.
  matrix_view<T, L> q;

  /// The state of tokens [j, j + t), so that a state for many tokens can serve fewer.
  [[nodiscard]] layer_state columns(index_t j, index_t t) const {
    return {v.columns(j, t), w.columns(j, t), q.columns(j, t)};
  }
};

/// Sums over tokens, from which `finish` computes dU, dV and ds. `backward` adds to them, for any number of
/// micro-batches. The sums of several machines may be added before `finish`.
template <class A>
struct layer_gradient_view {
  matrix_view<A> D_U;       ///< [m, ru] ∂L/∂Û without what flows through T_U and, from the output, without Û E_U
  matrix_view<A> dF_U;      ///< [b, ru] ∂L/∂T_U, one triangle for each block of U, side by side
  matrix_view<A> E_U;       ///< [b, ru] Σ Z dWᴴ, likewise
  matrix_view<A> minus_dK;  ///< [m, rv] −∂L/∂K
  matrix_view<A> D_V;       ///< [n, rv] ∂L/∂V̂ without what flows through T_V and B
  vector_view<A> ds;        ///< [m] ∂L/∂s; size 0 for HOFT
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// Cuts the storage of a bound layer of `a` from `memory`; with a counting arena it tells the size.
/// @throws hoft::shape_error if the adapter's parts do not fit each other, hoft::workspace_error if `memory` is used
///         up
template <class A>
bound_layer_view<std::remove_const_t<A>> carve_layer(arena& memory, adapter_view<A> const& a) {
  using acc = std::remove_const_t<A>;
  detail::require_adapter_sizes("carve_layer", a);
  index_t const m = a.rows(), rv = a.right.rank();
  bound_layer_view<acc> layer;
  layer.adapter = a;
  layer.B = memory.matrix<acc>(m, rv);
  layer.minus_K = memory.matrix<acc>(m, rv);
  layer.minus_scaled_K = a.scaled() ? memory.matrix<acc>(m, rv) : layer.minus_K;
  layer.minus_UK = memory.matrix<acc>(a.left.blocks() == 1 ? a.left.rank() : 0, rv);
  return layer;
}

/// Cuts the state that `forward` saves for `backward` from `memory`, for t tokens of element type T and layout L. With
/// an arena that only counts, it gives the size.
/// @throws hoft::shape_error if t is negative or the adapter's parts do not fit each other, hoft::workspace_error if
///         `memory` is used up
template <class T, class L, class A>
layer_state<std::remove_const_t<A>, T, L> carve_layer_state(arena& memory, adapter_view<A> const& a, index_t t,
                                                            bool keep_q = true) {
  using acc = std::remove_const_t<A>;
  detail::require_adapter_sizes("carve_layer_state", a);
  detail::require_at_least("carve_layer_state", "t", t, 0);
  layer_state<acc, T, L> state;
  state.v = memory.matrix<acc, L>(a.right.rank(), t);
  state.w = memory.matrix<acc, L>(a.left.rank(), t);
  if (a.scaled() && keep_q) state.q = memory.matrix<T, L>(a.rows(), t);
  return state;
}

/// Cuts the sums of a gradient from `memory`, which set_zero has to clear; with a counting arena it tells the size.
/// @throws hoft::shape_error if the adapter's parts do not fit each other, hoft::workspace_error if `memory` is used
///         up
template <class A>
layer_gradient_view<std::remove_const_t<A>> carve_layer_gradient(arena& memory, adapter_view<A> const& a) {
  using acc = std::remove_const_t<A>;
  detail::require_adapter_sizes("carve_layer_gradient", a);
  index_t const m = a.rows(), ru = a.left.rank(), rv = a.right.rank();
  layer_gradient_view<acc> g;
  g.D_U = memory.matrix<acc>(m, ru);
  g.dF_U = memory.matrix<acc>(a.left.block, ru);
  g.E_U = memory.matrix<acc>(a.left.block, ru);
  g.minus_dK = memory.matrix<acc>(m, rv);
  g.D_V = memory.matrix<acc>(a.cols(), rv);
  g.ds = memory.vector<acc>(a.scaled() ? m : 0);
  return g;
}

namespace detail {

/// Checks the sums as far as that is possible without their adapter.
template <class A>
void require_sums(char const* function, layer_gradient_view<A> const& g) {
  require_view(function, "g.D_U", g.D_U);
  require_view(function, "g.dF_U", g.dF_U);
  require_view(function, "g.E_U", g.E_U);
  require_view(function, "g.minus_dK", g.minus_dK);
  require_view(function, "g.D_V", g.D_V);
  require_at_least(function, "g.ds.size", g.ds.size, 0);
}

}  // namespace detail

/// All sums := 0, at the start of an optimiser step.
/// @throws hoft::shape_error if an extent is negative or a leading dimension too small, before anything is written
template <execution_policy Policy, class A>
void set_zero(Policy const& policy, layer_gradient_view<A> const& g) {
  detail::require_sums("set_zero", g);
  matrix_view<A> const sums[] = {g.D_U, g.dF_U, g.E_U, g.minus_dK, g.D_V, {g.ds.data, g.ds.size, 1}};
  ops<Policy>::fill_each(policy, A(0), sums);
}

namespace detail {

inline constexpr char const *outputs_of = "outputs", *on_the_left = "reflectors on the left",
                            *on_the_right = "reflectors on the right";

template <class A>
void require_layer_sizes(char const* function, bound_layer_view<A> const& layer) {
  auto const& a = layer.adapter;
  index_t const m = a.rows(), rv = a.right.rank();
  require_adapter_sizes(function, a);
  expected_count const outputs{m, outputs_of}, right{rv, on_the_right};
  require_part(function, "layer", "B", layer.B, outputs, right);
  require_part(function, "layer", "minus_K", layer.minus_K, outputs, right);
  require_part(function, "layer", "minus_scaled_K", layer.minus_scaled_K, outputs, right);
  require_part(function, "layer", "minus_UK", layer.minus_UK,
               {a.left.blocks() == 1 ? a.left.rank() : 0, "reflectors in a single block on the left"}, right);
}
/// A layer with constant elements.
template <class A>
void require_layer(char const* function, side_ranks ranks, bound_layer_view<A> const& layer) {
  require_layer_sizes(function, layer);
  if (!layer.bound)
    refuse<argument_error>(function, "layer", "memory that has not been bound",
                           "filled by bind_layer first, and not a copy from before");
  require_adapter(function, ranks, layer.adapter);
}
template <class A, class AS, class TS, class L>
void require_state(char const* function, adapter_view<A> const& a, layer_state<AS, TS, L> const& state, index_t t,
                   bool needs_w = true) {
  expected_count const tokens{t, "tokens"};
  require_part(function, "state", "v", state.v, {a.right.rank(), on_the_right}, tokens);
  if (needs_w || !state.w.empty()) require_part(function, "state", "w", state.w, {a.left.rank(), on_the_left}, tokens);
  if (state.q.empty()) return;
  require_method(function, "state", true, a.scaled());
  require_part(function, "state", "q", state.q, {a.rows(), outputs_of}, tokens);
}
template <class A, class AG>
void require_layer_gradient(char const* function, adapter_view<A> const& a, layer_gradient_view<AG> const& g) {
  index_t const m = a.rows(), ru = a.left.rank(), rv = a.right.rank();
  expected_count const outputs{m, outputs_of}, left{ru, on_the_left}, right{rv, on_the_right};
  expected_count const block{a.left.block, "reflectors in a block on the left"};
  require_part(function, "g", "D_U", g.D_U, outputs, left);
  require_part(function, "g", "dF_U", g.dF_U, block, left);
  require_part(function, "g", "E_U", g.E_U, block, left);
  require_part(function, "g", "minus_dK", g.minus_dK, outputs, right);
  require_part(function, "g", "D_V", g.D_V, {a.cols(), "inputs"}, right);
  if (m > 0) require_method(function, "g", g.ds.size > 0, a.scaled());
  require_count(function, "g", g.ds.size, a.scaled() ? m : 0, outputs_of, "g.ds.size");
}

/// Computes the other parts of a layer from B.
template <class Policy, class A>
void form_products(Policy const& policy, bound_layer_view<A> const& layer) {
  auto const& a = layer.adapter;
  if (a.right.rank() == 0) return;
  ops<Policy>::update(policy, A(-1), layer.B, a.right.at(0).T, {}, layer.minus_K);
  if (a.scaled()) ops<Policy>::scale_rows(policy, a.scale, op::plain, layer.minus_K, layer.minus_scaled_K);
  else ops<Policy>::copy(policy, layer.minus_K, layer.minus_scaled_K);  // apart where the memory was cut for SHOFT
  if (!layer.minus_UK.empty())
    ops<Policy>::project(ops<Policy>::of_rank(policy), a.left.vectors, layer.minus_scaled_K, layer.minus_UK);
}

}  // namespace detail
}  // namespace HOFT_TARGET_NAMESPACE
