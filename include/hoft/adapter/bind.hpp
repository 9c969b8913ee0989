// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/bind.hpp: an adapter meets its weight, once in an optimiser step.
#pragma once
#include <hoft/adapter/base.hpp>
#include <hoft/adapter/layer.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// Input and output of the base operator, if it needs another type or layout than those of V̂ and B.
template <class A, class T, class L>
struct bind_pieces {
  static constexpr bool staged = !std::same_as<T, A> || !std::same_as<L, col_major>;
  matrix_view<T, L> V, B;  ///< [n, rv], [m, rv]
  bind_pieces(arena& memory, adapter_view<A const> const& a)
      : V(memory.matrix<T, L>(staged ? a.cols() : 0, a.right.rank())),
        B(memory.matrix<T, L>(staged ? a.rows() : 0, a.right.rank())) {}
};

template <class A, class Base>
void require_bind(side_ranks ranks, adapter_view<A> const& a, Base const& base,
                  bound_layer_view<std::remove_const_t<A>> const& layer) {
  constexpr char const* function = "bind_layer";
  require_adapter(function, ranks, a);
  require_base(function, base, a);
  bound_layer_view<std::remove_const_t<A>> of_a = layer;
  of_a.adapter = a;
  require_layer_sizes(function, of_a);
  if (a.scaled() && !layer.minus_K.empty() && layer.minus_scaled_K.data == layer.minus_K.data)
    refuse<argument_error>(function, "layer.minus_scaled_K", "the memory of layer.minus_K",
                           "memory of its own, as carve_layer cuts it for an adapter with a scale");
}

}  // namespace detail

/// Bytes of workspace for `bind_layer` with a base operator on T and L.
/// @throws hoft::shape_error if an extent is negative or parts of the adapter do not fit each other
template <scalar T, class L = col_major, execution_policy Policy, class A>
[[nodiscard]] index_t bind_workspace(Policy const&, adapter_view<A> const& a) {
  using acc = std::remove_const_t<A>;
  detail::require_adapter_sizes("bind_workspace", a);
  return detail::workspace_size<detail::bind_pieces<acc, T, L>>(adapter_view<acc const>(a));
}

/// layer := all that depends on the adapter and its weight alone, with one call of the base operator on rv columns: B
/// = M V̂, K = B T_V and their products with diag(s) and Û. `forward`, `backward` and `finish` read it, until U, V, s
/// or the weight change.
///
/// @tparam T, L  element type and layout of the activations, on which the base operator is called
/// @param policy where to compute
/// @param a      the adapter of a weight [m, n], ranks ru and rv. The layer refers to its memory
/// @param base   M as a base operator on T and L
/// @param layer  Out: cut by carve_layer for an adapter of these extents (a layer cut for SHOFT takes HOFT too). It is
///               marked as bound; copies that were made before are not
/// @param work   at least bind_workspace<T, L> bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau, or not
///         accumulated; SHOFT in a layer cut for HOFT), before anything is written. What the base operator throws
///         leaves the layer unbound
///
/// Cost: 2 m n rv flops in the base and 2 m rv² + 2 m ru rv beside it; M is read once. Memory: O((m + n) rv).
/// Accuracy: that of the base on V̂, which is rounded to T before. Source: docs/reference/mathematics.md (section 3).
template <scalar T, class L = col_major, execution_policy Policy, class A, class Base>
requires base_operator<std::remove_reference_t<Base>, T, L>
void bind_layer(Policy const& policy, adapter_view<A> const& a, Base&& base,
                bound_layer_view<std::remove_const_t<A>>& layer, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::bind_layer: the adapter must hold the accumulator type of the activations.");
  detail::require_bind(detail::ranks_of(policy), a, base, layer);
  using pieces_type = detail::bind_pieces<acc, T, L>;
  auto const pieces = detail::carve<pieces_type>("bind_layer", work, adapter_view<acc const>(a));
  ops<Policy>::agree_on_adapter(policy, a);
  layer.adapter = a;
  layer.bound = false;
  if (a.right.rank() > 0) {
    if constexpr (pieces_type::staged) {
      ops<Policy>::copy(policy, a.right.vectors, pieces.V);
      detail::apply_base(policy, base, matrix_view<T const, L>(pieces.V), pieces.B);
      ops<Policy>::copy(policy, pieces.B, layer.B);
    } else {
      detail::apply_base(policy, base, matrix_view<T const>(a.right.vectors), layer.B);
    }
    ops<Policy>::template sum_ranks<acc>(ops<Policy>::of_right(policy), layer.B);
  }
  detail::form_products(policy, layer);
  layer.bound = true;
}

}  // namespace HOFT_TARGET_NAMESPACE
