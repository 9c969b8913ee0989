// hoft/transform/backward.hpp: the gradients of forward, without the adapted weight or its gradient.
#pragma once
#include <hoft/transform/forward.hpp>

namespace hoft {
namespace detail {

template <class Policy, class A, class T, class L>
struct backward_pieces {
  index_t width;
  matrix_view<A> minus_K;
  matrix_view<A, L> dv;
  packed_adapter_t<Policy, A, L> packed;
  packed_t<Policy, A, L> V;
  per_worker<A, L> scratch, state, q, gradient, x;
  packed_each_t<Policy, A, L> dV;
  adapter_sums_pieces<Policy, A, L> sums;
  adapter_finish_pieces<A> finish;
  backward_pieces(carver& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool recovers_q)
      : backward_pieces(memory, policy, a, t, recovers_q, worker_count(policy),
                        panel_width<T, L>(policy, std::max(a.rows(), a.cols()))) {}

 private:
  backward_pieces(carver& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool recovers_q,
                  index_t workers, index_t w)
      : width(w),
        minus_K(memory.matrix<A>(a.rows(), a.right.rank())),
        dv(memory.matrix<A, L>(a.right.rank(), t)),
        packed(carve_packed_adapter<L>(policy, memory, a)),
        V(carve_packed<A, L>(policy, memory, a.cols(), a.right.rank())),
        scratch(memory, workers, 4 * a.left.block, std::min(w, t)),
        state(memory, workers, a.left.blocks() > 1 || recovers_q || !std::same_as<T, A> ? a.rows() : 0, std::min(w, t)),
        q(memory, workers, std::same_as<T, A> ? 0 : a.rows(), std::min(w, t)),
        gradient(memory, workers, std::same_as<T, A> ? 0 : std::max(a.rows(), a.cols()), std::min(w, t)),
        x(memory, workers, std::same_as<T, A> ? 0 : a.cols(), std::min(w, t)),
        dV(carve_packed_each<A, L>(policy, memory, a.cols(), a.right.rank())),
        sums(memory, policy, a),
        finish(memory, a) {}
};

template <class A, class AS, class TS, class L>
bool recovers_q(adapter_view<A> const& a, saved_activations<AS, TS, L> const& saved) {
  return a.scaled() && saved.q.empty();
}

}  // namespace detail

/// Bytes of workspace for `backward` after a forward pass that saved `saved`.
template <execution_policy Policy, class A, class AS, class TS, class L>
index_t backward_workspace(Policy const& policy, adapter_view<A> const& a, saved_activations<AS, TS, L> const& saved) {
  using acc = std::remove_const_t<A>;
  using T = std::remove_const_t<TS>;
  return detail::workspace_size<detail::backward_pieces<Policy, acc, T, L>>(policy, adapter_view<acc const>(a),
                                                                            saved.v.cols, detail::recovers_q(a, saved));
}

/// The gradients of y = forward(a, base, x) with respect to x, U, V and s, given g = ∂L/∂y, with one adjoint call of
/// the base operator on t + rv columns. Neither M̂ nor ∂L/∂M̂ is formed.
///
/// @param policy where to compute
/// @param a, base, saved  as in the forward pass
/// @param x      [n, t] In: the tokens (without the spare columns)
/// @param y      [m, t] In: the forward pass's result, from which its inputs are recovered
/// @param dy     [m, t + rv] In: g in the first t columns. Out: overwritten (with [∂L/∂(M x) | ∂L/∂(M V̂)])
/// @param dx     [n, t + rv] Out: ∂L/∂x in the first t columns; scratch in the last rv. Must overlap none of the others
/// @param dU     [m, ru] Out
/// @param dV     [n, rv] Out
/// @param ds     [m] Out for SHOFT, size 0 for HOFT
/// @param work   at least backward_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, before anything is written
///
/// Cost: 2 m n (t + rv) flops in the base, (8 m ru + 4 m rv + 4 n rv) t beside it (10 m ru with several
/// blocks of U, or to recover q); one pass over y and g, one over x
/// and dx. Memory: O((m + n) r + r t) beyond the arguments. Accuracy: as of apply_backward. Same bits for any number of
/// threads (if the base operator has that property). Source: math in docs/mathematics.md (section 3).
template <execution_policy Policy, class A, class Base, class TX, class TY, class AS, class TQ, class T, class L,
          class TU, class LU, class TV, class LV, class TS>
requires base_operator<Base, T, L>
void backward(Policy const& policy, adapter_view<A> const& a, Base& base, matrix_view<TX, L> x, matrix_view<TY, L> y,
              saved_activations<AS, TQ, L> const& saved, matrix_view<T, L> dy, matrix_view<T, L> dx,
              matrix_view<TU, LU> dU, matrix_view<TV, LV> dV, vector_view<TS> ds, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::backward: the adapter must hold the accumulator type of x.");
  constexpr char const* function = "backward";
  adapter_view<acc const> const view = a;
  index_t const m = a.rows(), n = a.cols(), rv = a.right.rank(), t = x.cols;
  detail::require_adapter(function, view);
  detail::require_shape(function, "x", x, n, t);
  detail::require_shape(function, "y", y, m, t);
  detail::require_shape(function, "dy", dy, m, t + rv);
  detail::require_shape(function, "dx", dx, n, t + rv);
  detail::require_base(function, base, view);
  detail::require_saved(function, view, saved, t);
  detail::require_gradients(function, view, dU, dV, ds);
  bool const rewind = detail::recovers_q(view, saved);
  auto const pieces =
      detail::carve<detail::backward_pieces<Policy, acc, T, L>>(function, work, policy, view, t, rewind);
  auto const& finish = pieces.finish;
  auto const local = serial(policy);
  detail::form_minus_K(policy, view, saved.B, pieces.minus_K);
  detail::pack_adapter(policy, view, matrix_view<acc const>(pieces.minus_K), pieces.packed);
  pack(policy, a.right.vectors, pieces.V);
  auto const gradient = dy.columns(0, t), dtokens = dx.columns(0, t);
  clear(local, pieces.sums.total);
  for_each_panel_summed(
      policy, t, pieces.width, [&](index_t worker) { clear(local, pieces.sums.part(worker)); },
      [&](index_t worker, auto p) {
        index_t const j = p.first, w = p.count;
        auto const buffer = pieces.state(worker).columns(0, w);
        detail::forward_state<acc, L> state;
        state.wanted = rewind;
        state.X = detail::staged(local, y.columns(j, w), buffer);
        state.W = saved.w.columns(j, w);
        if (a.left.blocks() > 1 || rewind) {
          copy(local, state.X, buffer);
          state.X = state.rewind = buffer;
        }
        matrix_view<acc const, L> q;
        if (view.scaled() && !rewind) q = detail::staged(local, saved.q.columns(j, w), pieces.q(worker));
        auto const panel = detail::staged(local, gradient.columns(j, w),
                                          pieces.gradient(worker).block(0, 0, std::same_as<T, acc> ? 0 : m, w));
        matrix_view<acc const, L> const v = saved.v.columns(j, w);
        detail::adapt_backward_panel(local, view, pieces.packed, v, state, q, matrix_view<acc const, L>(panel), panel,
                                     pieces.sums.part(worker), pieces.scratch(worker).columns(0, w),
                                     {detail::next_panel<acc>(gradient, p), detail::next_panel<acc>(y, p), 0});
        project(local, pieces.packed.minus_K, panel, pieces.dv.columns(j, w));
        copy(local, panel, gradient.columns(j, w));
      },
      [&](index_t worker) { add(local, pieces.sums.part(worker), pieces.sums.total); });
  detail::product_backward(policy, view, matrix_view<acc const>(saved.B), pieces.sums.total.minus_dK, finish);
  copy(policy, finish.dB, dy.columns(t, rv));
  base.apply_adjoint(matrix_view<T const, L>(dy), dx);
  copy(policy, dx.columns(t, rv), finish.right.D);
  for_each_panel_summed(
      policy, t, pieces.width, [&](index_t worker) { clear(local, pieces.dV(worker)); },
      [&](index_t worker, auto p) {
        index_t const j = p.first, w = p.count;
        auto const dv = pieces.dv.columns(j, w);
        outer(local, detail::staged(local, x.columns(j, w), pieces.x(worker)), dv, pieces.dV(worker));
        auto const panel = detail::staged(local, dtokens.columns(j, w),
                                          pieces.gradient(worker).block(0, 0, std::same_as<T, acc> ? 0 : n, w));
        update(local, pieces.V, dv, panel, panel,
               {detail::next_panel<acc>(dtokens, p), detail::next_panel<acc>(x, p), 0});
        copy(local, panel, dtokens.columns(j, w));
      },
      [&](index_t worker) { add(local, pieces.dV(worker), finish.right.D); });
  detail::finish_adapter(policy, view, pieces.sums.total, finish, dU, dV, ds);
}

}  // namespace hoft
