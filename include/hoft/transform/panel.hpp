// hoft/transform/panel.hpp: HOFT and SHOFT on one panel of columns, forward and backward. The weight and the activation
// forms differ only in where the panels come from: the weight form is the activation form of x = I.
#pragma once
#include <hoft/transform/adapter.hpp>
#include <hoft/wy/gradient.hpp>

namespace hoft::detail {

/// Y in: base [m, w] = M x. Out: y = Q_U diag(s) (base − K v), with minus_K [m, rv] = −M V T_V and v [rv, w] = Vᴴx.
/// W [ru, w], if it has data, receives the projections on U; q [m, w], likewise, receives base − K v.
template <class Policy, class A, class T, class L>
void adapt_panel(Policy const& policy, adapter_view<A const> const& a, matrix_view<A const> minus_K,
                 matrix_view<A const, L> v, matrix_view<A, L> Y, matrix_view<A, L> W, matrix_view<T, L> q,
                 matrix_view<A, L> scratch) {
  if (a.right.rank() > 0) update(policy, A(1), minus_K, v, Y, Y);
  if (!q.empty()) copy(policy, Y, q);
  if (a.scaled()) scale_rows(policy, a.scale, op::plain, Y, Y);
  apply_panel(policy, a.left, op::plain, Y, Y, W, scratch);
}

/// Sums of the backward pass over columns.
template <class A>
struct adapter_sums {
  gradient_sums<A> left;
  matrix_view<A> dK;  ///< [m, rv]
  vector_view<A> ds;  ///< [m] for SHOFT
};

template <class Policy, class A>
void clear(Policy const& policy, adapter_sums<A> const& sums) {
  clear(policy, sums.left);
  fill(policy, A(0), sums.dK);
  fill(policy, A(0), sums.ds);
}
template <class Policy, class A>
void add(Policy const& policy, adapter_sums<A> const& part, adapter_sums<A> const& total) {
  add(policy, part.left, total.left);
  add(policy, part.dK, total.dK);
  add(policy, matrix_view<A const>(part.ds.data, part.ds.size, 1), matrix_view<A>(total.ds.data, total.ds.size, 1));
}

template <class A>
struct adapter_sums_pieces {
  gradient_sums_pieces<A> left;
  per_worker<A> dK, ds;
  index_t workers;
  bool scaled;
  adapter_sums_pieces(carver& memory, index_t workers_, adapter_view<A const> const& a)
      : left(memory, workers_, a.rows(), a.left.rank(), a.left.block),
        dK(memory, workers_ + 1, a.rows(), a.right.rank()),
        ds(memory, workers_ + 1, a.scaled() ? a.rows() : 0, 1),
        workers(workers_),
        scaled(a.scaled()) {}
  adapter_sums<A> part(index_t worker) const {
    auto const s = ds(worker);
    return {left.part(worker), dK(worker), {s.data, s.rows}};
  }
  adapter_sums<A> total() const { return part(workers); }
};

/// One panel backward through Q_U, diag(s) and − K v: from G = ∂L/∂y to dq [m, w] (may be G), adding to `sums`.
/// q [m, w] is base − K v for SHOFT; without data it is recovered from the panel's p, which `state` then has to leave.
template <class Policy, class A, class L>
void adapt_backward_panel(Policy const& policy, adapter_view<A const> const& a, matrix_view<A const, L> v,
                          forward_state<A, L> state, matrix_view<A const, L> q, matrix_view<A const, L> G,
                          matrix_view<A, L> dq, adapter_sums<A> const& sums, matrix_view<A, L> scratch) {
  backward_panel(policy, a.left, op::plain, state, G, dq, sums.left, scratch);
  if (a.scaled()) {
    if (q.empty()) {
      divide_rows(policy, a.scale, state.rewind);
      q = state.rewind;
    }
    add_row_dots(policy, matrix_view<A const, L>(dq), q, sums.ds);
    scale_rows(policy, a.scale, op::adjoint, dq, dq);
  }
  outer(policy, A(-1), dq, v, sums.dK);
}

/// The end of the backward pass, common to weight and activations.
template <class A>
struct adapter_finish_pieces {
  gradient_sums<A> right;
  matrix_view<A> dB;
  finish_pieces<A> left_finish, right_finish;
  adapter_finish_pieces(carver& memory, adapter_view<A const> const& a)
      : right{memory.matrix<A>(a.cols(), a.right.rank()), memory.matrix<A>(a.right.block, a.right.rank()),
              memory.matrix<A>(a.right.block, a.right.rank())},
        dB(memory.matrix<A>(a.rows(), a.right.rank())),
        left_finish(memory, std::min(a.left.block, a.left.rank()), a.left.kind, false),
        right_finish(memory, a.right.rank(), a.right.kind, false) {}
};

/// From dK to dB = dK T_Vᴴ and dT_V = BᴴdK.
template <class Policy, class A>
void product_backward(Policy const& policy, adapter_view<A const> const& a, matrix_view<A const> B, matrix_view<A> dK,
                      adapter_finish_pieces<A> const& pieces) {
  auto const T = a.right.at(0).T;
  fill(policy, A(0), pieces.dB);
  fill(policy, A(0), pieces.right.E);
  if (a.right.rank() == 0) return;
  outer(policy, A(1), dK, T, pieces.dB);
  project(policy, B, dK, pieces.right.dF.block(0, 0, a.right.rank(), a.right.rank()));
}

/// dU, dV and ds from the finished sums; pieces.right.D holds ∂L/∂V̂ without what flows through T_V.
template <class Policy, class A, class TU, class LU, class TV, class LV, class TS>
void finish_adapter(Policy const& policy, adapter_view<A const> const& a, adapter_sums<A> const& sums,
                    adapter_finish_pieces<A> const& pieces, matrix_view<TU, LU> dU, matrix_view<TV, LV> dV,
                    vector_view<TS> ds) {
  finish_gradient(policy, a.left, op::plain, sums.left, {}, pieces.left_finish);
  finish_gradient(policy, a.right, op::plain, pieces.right, {}, pieces.right_finish);
  vectors_backward(policy, a.left, sums.left.D, dU);
  vectors_backward(policy, a.right, pieces.right.D, dV);
  if (a.scaled()) copy(policy, sums.ds, ds);
}

/// minus_K := −B T_V.
template <class Policy, class A, class TB>
void form_minus_K(Policy const& policy, adapter_view<A const> const& a, matrix_view<TB> B, matrix_view<A> minus_K) {
  if (a.right.rank() > 0) update(policy, A(-1), B, a.right.at(0).T, {}, minus_K);
}

template <class A, class TU, class LU, class TV, class LV, class TS>
void require_gradients(char const* function, adapter_view<A> const& a, matrix_view<TU, LU> dU, matrix_view<TV, LV> dV,
                       vector_view<TS> ds) {
  require_shape(function, "dU", dU, a.rows(), a.left.rank());
  require_shape(function, "dV", dV, a.cols(), a.right.rank());
  require_equal(function, "ds.size", ds.size, a.scaled() ? a.rows() : 0);
}

}  // namespace hoft::detail
