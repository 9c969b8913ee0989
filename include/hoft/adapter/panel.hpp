// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/panel.hpp: HOFT and SHOFT on one panel of columns, forward and backward. The weight and the activation
// forms differ only in where the panels come from: the weight form is the activation form of x = I.
#pragma once
#include <hoft/adapter/layer.hpp>
#include <hoft/householder/gradient.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE::detail {

/// What every panel multiplies by, in the backend's form.
template <class Packed>
struct packed_layer {
  Packed U;        ///< Û [m, ru]
  Packed minus_K;  ///< [m, rv] −K; −diag(s) K where both updates of a panel are made together
};
template <class Policy, class A, class L>
using packed_layer_t = packed_layer<packed_t<Policy, A, L>>;

/// Both updates of a panel can be made in one pass: nothing happens between them, and nothing between them is kept.
template <class A>
bool updates_together(adapter_view<A> const& a, bool keeps_q) {
  return a.left.blocks() == 1 && a.right.rank() > 0 && !keeps_q;
}

template <class L, class Policy, class A>
auto carve_packed_layer(Policy const& policy, arena& memory, adapter_view<A const> const& a, bool with_K = true) {
  packed_layer_t<Policy, A, L> to;
  to.U = ops<Policy>::template carve_packed<A, L>(policy, memory, a.rows(), a.left.rank());
  to.minus_K = ops<Policy>::template carve_packed<A, L>(policy, memory, with_K ? a.rows() : 0, a.right.rank());
  return to;
}
template <class Policy, class A, class Packed>
void pack_layer(Policy const& policy, bound_layer_view<A const> const& layer, bool scaled_K,
                packed_layer<Packed> const& to) {
  ops<Policy>::pack(policy, layer.adapter.left.vectors, to.U);
  ops<Policy>::pack(policy, scaled_K ? layer.minus_scaled_K : layer.minus_K, to.minus_K);
}

/// A panel is met once: nothing is done to it between its updates, which are one.
template <class A>
bool adapts_at_once(adapter_view<A> const& a) {
  return !a.scaled() && a.left.blocks() <= 1;
}

/// Both updates of a panel together: Y := Q_U (X − K v), where X and K are scaled. Ûᴴ(X − K v) = ÛᴴX − (ÛᴴK) v.
template <class Policy, class A, class Packed, class T, class L>
void adapt_together(Policy const& policy, bound_layer_view<A const> const& layer, packed_layer<Packed> const& packed,
                    matrix_view<A const, L> v, matrix_view<T const, L> X, matrix_view<T, L> Y, matrix_view<A, L> W,
                    matrix_view<A, L> scratch, prefetch_hint<T, L> const& hint, bool last_update) {
  auto const& left = layer.adapter.left;
  auto const f = left.at(0);
  auto const minus_Z = scratch.block(0, 0, f.rank, X.cols);
  auto const projections = W.empty() ? scratch.block(left.block, 0, f.rank, X.cols) : W;
  ops<Policy>::project_packed(ops<Policy>::of_rank(policy), packed.U, X, projections, hint.for_projection());
  ops<Policy>::update(policy, A(1), layer.minus_UK, v, projections, projections);
  ops<Policy>::template sum_ranks<A>(policy, projections);
  if (!last_update) return;
  ops<Policy>::multiply(policy, A(-1), f.T, op::plain, projections, minus_Z);
  ops<Policy>::update_packed_both(policy, packed.U, minus_Z, packed.minus_K, v, X, Y, hint.for_update());
}

/// X: base [m, w] = M x. Y := Q_U diag(s) (base − K v), v [rv, w] = Vᴴx; Y may be X.
/// W [ru, w], if it has data, receives the projections on U; q [m, w], likewise, receives base − K v.
/// Without the last update, W is all that is wanted. `packed` is of this layer, with diag(s) K where both updates are
/// made together. X and Y hold A unless the layer adapts_at_once.
template <class Policy, class A, class Packed, class T, class TQ, class L>
void adapt_panel(Policy const& policy, bound_layer_view<A const> const& layer, packed_layer<Packed> const& packed,
                 matrix_view<A const, L> v, matrix_view<T const, L> X, matrix_view<T, L> Y, matrix_view<A, L> W,
                 matrix_view<TQ, L> q, matrix_view<A, L> scratch, std::type_identity_t<prefetch_hint<T, L>> const& hint,
                 bool last_update = true) {
  auto const& a = layer.adapter;
  bool const together = updates_together(a, !q.empty());
  if constexpr (std::same_as<T, A>)
    if (a.scaled()) {
      if (together) {
        ops<Policy>::scale_rows(policy, a.scale, op::plain, X, Y);
        return adapt_together<Policy, A, Packed, T, L>(policy, layer, packed, v, Y, Y, W, scratch, hint, last_update);
      }
      if (a.right.rank() > 0) ops<Policy>::update_packed(policy, packed.minus_K, v, X, Y);
      else ops<Policy>::copy(policy, X, Y);
      if (!q.empty()) ops<Policy>::copy(policy, Y, q);
      ops<Policy>::scale_rows(policy, a.scale, op::plain, Y, Y);
      return apply_panel(policy, a.left, packed.U, op::plain, Y, Y, W, scratch, hint, last_update);
    }
  if (together) return adapt_together(policy, layer, packed, v, X, Y, W, scratch, hint, last_update);
  if (a.right.rank() == 0) return apply_panel(policy, a.left, packed.U, op::plain, X, Y, W, scratch, hint, last_update);
  if (a.left.blocks() == 0) return ops<Policy>::update_packed(policy, packed.minus_K, v, X, Y, hint);
  ops<Policy>::update_packed(policy, packed.minus_K, v, X, Y);
  apply_panel(policy, a.left, packed.U, op::plain, Y, Y, W, scratch, hint, last_update);
}

/// Sums of the backward pass over columns; packed while panels add to them, plain in the total.
template <class A, class Matrix = matrix_view<A>>
struct adapter_sums {
  gradient_sums<A, Matrix> left;
  Matrix minus_dK;    ///< [m, rv]
  vector_view<A> ds;  ///< [m] for SHOFT
};

/// Those of a gradient's sums that come from outputs.
template <class A>
adapter_sums<A> sums_of_outputs(layer_gradient_view<A> const& g) {
  return {{g.D_U, g.dF_U, g.E_U}, g.minus_dK, g.ds};
}

template <class Policy, class A, class Packed>
void clear_sums(Policy const& policy, adapter_sums<A, Packed> const& part) {
  clear_sums(policy, part.left);
  ops<Policy>::clear_packed(policy, part.minus_dK);
  ops<Policy>::fill(policy, A(0), part.ds);
}
template <class Policy, class A>
void clear_sums(Policy const& policy, adapter_sums<A> const& total) {
  clear_sums(policy, total.left);
  ops<Policy>::fill(policy, A(0), total.minus_dK);
  ops<Policy>::fill(policy, A(0), total.ds);
}
template <class Policy, class A, class Packed>
void add_sums(Policy const& policy, adapter_sums<A, Packed> const& part, adapter_sums<A> const& total) {
  add_sums(policy, part.left, total.left);
  ops<Policy>::add_packed(policy, part.minus_dK, total.minus_dK);
  ops<Policy>::add(policy, matrix_view<A const>(part.ds.data, part.ds.size, 1),
                   matrix_view<A>(total.ds.data, total.ds.size, 1));
}

template <class A>
adapter_sums<A> carve_adapter_sums(arena& memory, adapter_view<A const> const& a) {
  adapter_sums<A> total;
  total.left = carve_gradient_sums<A>(memory, a.rows(), a.left.rank(), a.left.block);
  total.minus_dK = memory.matrix<A>(a.rows(), a.right.rank());
  total.ds = memory.vector<A>(a.scaled() ? a.rows() : 0);
  return total;
}
template <class Policy, class A, class L>
struct adapter_parts {
  gradient_parts<Policy, A, L> left;
  packed_each_t<Policy, A, L> minus_dK;
  per_worker<A> ds;
  adapter_parts(arena& memory, Policy const& policy, index_t workers, adapter_view<A const> const& a)
      : left(memory, policy, workers, a.rows(), a.left.rank(), a.left.block),
        minus_dK(ops<Policy>::template carve_packed_each<A, L>(policy, memory, workers, a.rows(), a.right.rank())),
        ds(memory, workers, a.scaled() ? a.rows() : 0, 1) {}
  auto operator()(index_t worker) const {
    auto const s = ds(worker);
    return adapter_sums<A, packed_t<Policy, A, L>>{left(worker), minus_dK(worker), {s.data, s.rows}};
  }
};

/// One panel backward through Q_U, diag(s) and − K v: from G = ∂L/∂y to dq [m, w] (may be G), adding to `sums`.
/// q [m, w] is base − K v for SHOFT; without data it is recovered from the panel's p, which `state` then has to leave.
template <class Policy, class A, class Packed, class T, class L>
void adapt_backward_panel(Policy const& policy, adapter_view<A const> const& a, packed_layer<Packed> const& packed,
                          matrix_view<A const, L> v, forward_state<A, L, T> state, matrix_view<T const, L> q,
                          matrix_view<T const, L> G, matrix_view<A, L> dq, adapter_sums<A, Packed> const& sums,
                          matrix_view<A, L> scratch, std::type_identity_t<prefetch_hint<T, L>> const& hint) {
  backward_panel(policy, a.left, packed.U, op::plain, state, G, dq, sums.left, scratch, hint);
  if (a.scaled()) {
    if constexpr (std::same_as<T, A>)
      if (q.empty()) {
        ops<Policy>::divide_rows(policy, a.scale, state.rewind);
        q = state.rewind;
      }
    ops<Policy>::add_row_dots(policy, matrix_view<A const, L>(dq), q, sums.ds);
    ops<Policy>::scale_rows(policy, a.scale, op::adjoint, dq, dq);
  }
  ops<Policy>::outer_packed(policy, dq, v, sums.minus_dK);
}

/// The end of the backward pass, common to weight and activations.
template <class A>
struct adapter_finish_pieces {
  matrix_view<A> dF, E;  ///< [rv, rv], of the right side
  finish_pieces<A> left, right;
  adapter_finish_pieces(arena& memory, adapter_view<A const> const& a)
      : dF(memory.matrix<A>(a.right.block, a.right.rank())),
        E(memory.matrix<A>(a.right.block, a.right.rank())),
        left(memory, (std::min)(a.left.block, a.left.rank()), a.left.kind, false),
        right(memory, a.right.rank(), a.right.kind, false) {}
  /// ∂L/∂T_V.
  matrix_view<A> dT() const { return dF.block(0, 0, dF.cols, dF.cols); }
};

/// From dK to dB = dK T_Vᴴ and dT_V = BᴴdK, both of this rank's rows of M; −dK in, overwritten.
template <class Policy, class A>
void product_backward(Policy const& policy, adapter_view<A const> const& a, matrix_view<A const> B,
                      matrix_view<A> minus_dK, matrix_view<A> dB, adapter_finish_pieces<A> const& pieces) {
  auto const T = a.right.at(0).T;
  ops<Policy>::fill(policy, A(0), dB);
  ops<Policy>::fill(policy, A(0), pieces.E);
  if (a.right.rank() == 0) return;
  auto const dK = minus_dK;
  ops<Policy>::negate(policy, dK);
  ops<Policy>::outer(policy, A(1), dK, T, dB);
  ops<Policy>::project(ops<Policy>::of_rank(policy), B, dK, pieces.dT());
}

/// dU, dV and ds from the finished sums; D [n, rv], overwritten, holds ∂L/∂V̂ without what flows through T_V.
template <class Policy, class A, class TU, class LU, class TV, class LV, class TS>
void finish_adapter(Policy const& policy, adapter_view<A const> const& a, adapter_sums<A> const& sums, matrix_view<A> D,
                    adapter_finish_pieces<A> const& pieces, matrix_view<TU, LU> dU, matrix_view<TV, LV> dV,
                    vector_view<TS> ds) {
  finish_gradient(policy, a.left, op::plain, sums.left, {}, pieces.left);
  finish_gradient(policy, a.right, op::plain, gradient_sums<A>{D, pieces.dF, pieces.E}, {}, pieces.right);
  vectors_backward(ops<Policy>::of_left(policy), a.left, sums.left.D, dU);
  vectors_backward(ops<Policy>::of_right(policy), a.right, D, dV);
  if (a.scaled()) ops<Policy>::copy(policy, sums.ds, ds);
}

template <class A, class TU, class LU, class TV, class LV, class TS>
void require_gradients(char const* function, adapter_view<A> const& a, matrix_view<TU, LU> dU, matrix_view<TV, LV> dV,
                       vector_view<TS> ds) {
  static_assert(!std::is_const_v<TU> && !std::is_const_v<TV> && !std::is_const_v<TS>,
                "hoft: dU, dV and ds are written: views of constant elements cannot take them.");
  require_shape(function, "dU", dU, a.rows(), a.left.rank());
  require_shape(function, "dV", dV, a.cols(), a.right.rank());
  require_equal(function, "ds.size", ds.size, a.scaled() ? a.rows() : 0);
}

}  // namespace HOFT_TARGET_NAMESPACE::detail
