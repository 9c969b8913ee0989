// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/low_rank.hpp: a trained adapter as a low-rank update of the weight, without loss.
#pragma once
#include <hoft/adapter/merge.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

template <class Policy, class A, class T, class L>
struct low_rank_pieces {
  weight_layer<Policy, A, T, L> layer;
  adapt_panels<Policy, A, T, L, adjoint_vectors<A, L>> adapt;
  per_worker<A, L> panel, w, z;
  low_rank_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : layer(memory, policy, a),
        adapt(memory, ops<Policy>::of_left(policy), a, a.cols(), false),
        panel(memory, adapt.workers, a.rows(), (std::min)(adapt.width, a.cols())),
        w(memory, adapt.workers, a.left.rank(), (std::min)(adapt.width, a.cols())),
        z(memory, adapt.workers, a.left.rank(), (std::min)(adapt.width, a.cols())) {}
};

template <class A, class TM, class L, class T, class LL, class LR>
void require_low_rank(char const* function, side_ranks ranks, adapter_view<A> const& a, matrix_view<TM, L> M,
                      matrix_view<T, LL> left, matrix_view<T, LR> right) {
  index_t const rank = a.left.rank() + a.right.rank();
  require_adapter(function, ranks, a);
  require_weight(function, a, M);
  require_shape(function, "left", left, a.rows(), rank);
  require_shape(function, "right", right, rank, a.cols());
}

/// Binds the layer of M, and makes the right factor: [−Z; Vᴴ].
template <class Policy, class A, class T, class L, class TR, class LR>
void bind_and_factor(Policy const& policy, adapter_view<A const> const& a, matrix_view<T const, L> M,
                     matrix_view<TR, LR> right, low_rank_pieces<Policy, A, T, L> const& pieces) {
  index_t const ru = a.left.rank(), rv = a.right.rank();
  bound_layer_view<A const> const layer = pieces.layer.parts;
  pieces.layer.bind(policy, M);
  pack_layer(policy, layer, updates_together(a, false), pieces.adapt.packed);
  adjoint_vectors<A, L> const vectors{a.right.vectors};
  decltype(auto) of_left = ops<Policy>::of_left(policy);
  ops<Policy>::for_each_panel(of_left, a.cols(), pieces.adapt.width, [&](index_t worker, auto p) {
    auto const local = ops<Policy>::serial(of_left);
    index_t const j = p.first, w = p.count;
    auto const y = pieces.panel(worker).columns(0, w);
    auto const W = pieces.w(worker).columns(0, w), Z = pieces.z(worker).columns(0, w);
    matrix_view<A const, L> const x = staged(local, M.columns(j, w), y);
    matrix_view<A const, L> const v = vectors.columns(local, j, w, pieces.adapt.v(worker));
    adapt_panel(local, layer, pieces.adapt.packed, v, x, y, W, matrix_view<A, L>{},
                pieces.adapt.scratch(worker).columns(0, w), {}, false);
    for (index_t i = 0; i < a.left.blocks(); ++i) {
      auto const q = a.left.at(i);
      ops<Policy>::multiply(local, A(-1), q.T, op::plain, W.block(q.first, 0, q.rank, w),
                            Z.block(q.first, 0, q.rank, w));
    }
    ops<Policy>::copy(local, Z, right.block(0, j, ru, w));
    ops<Policy>::copy(local, v, right.block(ru, j, rv, w));
  });
}

}  // namespace detail

/// Bytes of workspace for `low_rank` with M of this element type and layout.
/// @throws hoft::shape_error if an extent is negative or parts of the adapter do not fit each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t low_rank_workspace(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L> M) {
  detail::require_adapter_sizes("low_rank_workspace", a);
  detail::require_view("low_rank_workspace", "M", M);
  using acc = std::remove_const_t<A>;
  return detail::workspace_size<detail::low_rank_pieces<Policy, acc, std::remove_const_t<T>, L>>(
      policy, adapter_view<acc const>(a));
}

/// M̂ = M + B A for HOFT, M̂ = diag(s) M + B A for SHOFT, with B = [U, −diag(s) K] and A = [−Z; Vᴴ]: exactly a LoRA
/// adapter of rank ru + rv.
///
/// @param policy where to compute
/// @param a      the adapter of a weight [m, n]
/// @param M      [m, n] In: the base weight
/// @param left   [m, ru + rv] Out: B
/// @param right  [ru + rv, n] Out: A. Neither may overlap M
/// @param work   at least low_rank_workspace bytes: on the CPU no m×n temporary
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau, or one not
///         accumulated), before anything is written
///
/// Cost: 2 m n (ru + rv) flops for HOFT with U in one block, 2 m n (ru + 2 rv) for SHOFT, 4 m n (ru + rv) with more
/// blocks; M is read twice. Accuracy: as of merge. Source: math in docs/reference/mathematics.md (section 3).
template <execution_policy Policy, class A, class TM, class L, class T, class LL, class LR>
void low_rank(Policy const& policy, adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<T, LL> left,
              matrix_view<T, LR> right, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<TM>, acc> && std::same_as<accumulator_t<T>, acc>,
                "hoft::low_rank: the adapter must hold the accumulator type of M and of the factors.");
  constexpr char const* function = "low_rank";
  adapter_view<acc const> const view = a;
  index_t const ru = a.left.rank(), rv = a.right.rank();
  detail::require_low_rank(function, detail::ranks_of(policy), view, M, left, right);
  using value = std::remove_const_t<TM>;
  using pieces_type = detail::low_rank_pieces<Policy, acc, value, L>;
  auto const pieces = detail::carve<pieces_type>(function, work, policy, view);
  ops<Policy>::agree_on_adapter(policy, view);
  detail::bind_and_factor(policy, view, matrix_view<value const, L>(M), right, pieces);
  ops<Policy>::copy(policy, a.left.vectors, left.columns(0, ru));
  ops<Policy>::copy(policy, pieces.layer.parts.minus_scaled_K, left.columns(ru, rv));
}

}  // namespace HOFT_TARGET_NAMESPACE
