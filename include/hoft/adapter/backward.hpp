// hoft/adapter/backward.hpp: the gradients of forward, without the adapted weight or its gradient.
#pragma once
#include <hoft/adapter/forward.hpp>
#include <hoft/view/shape.hpp>

#include <optional>
#include <utility>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// For the panels on the way back to the base operator.
template <class Policy, class A, class T, class L>
struct backward_before_base {
  packed_adapter_t<Policy, A, L> packed;
  per_worker<A, L> scratch, state, q, gradient;
  adapter_parts<Policy, A, L> parts;
  backward_before_base(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t w, bool recovers_q)
      : packed(carve_packed_adapter<L>(policy, memory, a, pass::backward)),
        scratch(memory, worker_count(policy), 4 * a.left.block, w),
        state(memory, worker_count(policy), a.left.blocks() > 1 || recovers_q || !std::same_as<T, A> ? a.rows() : 0, w),
        q(memory, worker_count(policy), std::same_as<T, A> ? 0 : a.rows(), w),
        gradient(memory, worker_count(policy), std::same_as<T, A> ? 0 : a.rows(), w),
        parts(memory, policy, a) {}
};

/// For the base operator and the panels behind it.
template <class Policy, class A, class T, class L>
struct backward_from_base {
  matrix_view<A> dB, D;  ///< [m, rv], [n, rv]
  packed_t<Policy, A, L> V;
  per_worker<A, L> x, gradient;
  packed_each_t<Policy, A, L> parts;
  backward_from_base(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t w, bool)
      : dB(memory.matrix<A>(a.rows(), a.right.rank())),
        D(memory.matrix<A>(a.cols(), a.right.rank())),
        V(carve_packed<A, L>(policy, memory, a.cols(), a.right.rank())),
        x(memory, worker_count(policy), std::same_as<T, A> ? 0 : a.cols(), w),
        gradient(memory, worker_count(policy), std::same_as<T, A> ? 0 : a.cols(), w),
        parts(carve_packed_each<A, L>(policy, memory, a.cols(), a.right.rank())) {}
};

/// What the backward pass goes through panels with.
template <class Policy, class A, class T, class L>
struct backward_panels {
  index_t width;
  overlaid<backward_before_base<Policy, A, T, L>, backward_from_base<Policy, A, T, L>> turns;
  backward_panels(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool recovers_q)
      : width(panel_width<T, L>(policy, (std::max)(a.rows(), a.cols()))),
        turns(memory, policy, a, (std::min)(width, t), recovers_q) {}
};

template <class Policy, class A, class T>
struct stored_backward : no_room {
  using no_room::no_room;
};
template <class Policy, class A, class T>
requires takes_stored<Policy, A, T>
struct stored_backward<Policy, A, T> {
  decltype(carve_adapt_backward<T>(std::declval<Policy const&>(), std::declval<arena&>(),
                                   std::declval<adapter_view<A const> const&>(), 0, saved_quantity::y)) outputs;
  matrix_view<A> dB, D;  ///< [m, rv], [n, rv]
  decltype(carve_update<T>(std::declval<Policy const&>(), std::declval<arena&>(), 0, 0, 0)) tokens;
  stored_backward(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool recovers_q)
      : outputs(carve_adapt_backward<T>(policy, memory, a, t,
                                        a.scaled() && !recovers_q ? saved_quantity::q : saved_quantity::y)),
        dB(memory.matrix<A>(a.rows(), a.right.rank())),
        D(memory.matrix<A>(a.cols(), a.right.rank())),
        tokens(carve_update<T>(policy, memory, a.cols(), a.right.rank(), t)) {}
};

template <class Policy, class A, class T, class L>
struct backward_pieces {
  matrix_view<A, L> dv;
  adapter_sums<A> sums;
  adapter_finish_pieces<A> finish;
  std::optional<stored_backward<Policy, A, T>> stored;
  std::optional<backward_panels<Policy, A, T, L>> panels;
  backward_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool recovers_q)
      : dv(memory.matrix<A, L>(a.right.rank(), t)), sums(carve_adapter_sums(memory, a)), finish(memory, a) {
    if (as_stored<T>(policy, a)) stored.emplace(memory, policy, a, t, recovers_q);
    else panels.emplace(memory, policy, a, t, recovers_q);
  }
};

/// From outputs divided by the scale. Of no tokens there are none, also where q is saved.
template <class A, class AS, class TS, class L>
bool recovers_q(adapter_view<A> const& a, saved_activations<AS, TS, L> const& saved) {
  return a.scaled() && saved.v.cols > 0 && saved.q.empty();
}

template <class A, class Base, class TX, class TY, class AS, class TQ, class T, class L, class TU, class LU, class TV,
          class LV, class TS>
void require_backward(adapter_view<A> const& a, Base const& base, matrix_view<TX, L> x, matrix_view<TY, L> y,
                      saved_activations<AS, TQ, L> const& saved, matrix_view<T, L> dy, matrix_view<T, L> dx,
                      matrix_view<TU, LU> dU, matrix_view<TV, LV> dV, vector_view<TS> ds) {
  constexpr char const* function = "backward";
  index_t const m = a.rows(), n = a.cols(), rv = a.right.rank(), t = x.cols;
  require_adapter(function, a);
  require_shape(function, "x", x, n, t);
  require_shape(function, "y", y, m, t);
  require_shape(function, "dy", dy, m, t + rv);
  require_shape(function, "dx", dx, n, t + rv);
  require_base(function, base, a);
  require_saved(function, a, saved, t);
  require_gradients(function, a, dU, dV, ds);
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
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau), before anything
///         is written
///
/// Cost: 2 m n (t + rv) flops in the base, (8 m ru + 4 m rv + 4 n rv) t beside it (10 m ru with several
/// blocks of U, or to recover q); one pass over y and g, one over x
/// and dx (on a GPU a second one over g, where forward has one over base). Memory: O((m + n) r + r t) beyond the
/// arguments, its first part for each thread. Accuracy: as of apply_backward. Same bits for any number of threads (if
/// the base operator has that property). Source: math in docs/mathematics.md (section 3).
template <execution_policy Policy, class A, class Base, class TX, class TY, class AS, class TQ, class T, class L,
          class TU, class LU, class TV, class LV, class TS>
requires base_operator<Base, T, L>
void backward(Policy const& policy, adapter_view<A> const& a, Base& base, matrix_view<TX, L> x, matrix_view<TY, L> y,
              saved_activations<AS, TQ, L> const& saved, matrix_view<T, L> dy, matrix_view<T, L> dx,
              matrix_view<TU, LU> dU, matrix_view<TV, LV> dV, vector_view<TS> ds, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::backward: the adapter must hold the accumulator type of x.");
  adapter_view<acc const> const view = a;
  index_t const rv = a.right.rank(), t = x.cols;
  detail::require_backward(a, base, x, y, saved, dy, dx, dU, dV, ds);
  bool const rewind = detail::recovers_q(view, saved);
  auto const pieces =
      detail::carve<detail::backward_pieces<Policy, acc, T, L>>("backward", work, policy, view, t, rewind);
  auto const& sums = pieces.sums;
  auto const& finish = pieces.finish;
  auto const local = serial(policy);
  auto const minus_K = sums.minus_dK;  // until it is packed
  detail::form_minus_K(policy, view, saved.B, minus_K);
  auto const gradient = dy.columns(0, t), dtokens = dx.columns(0, t);
  // −∂L/∂K in the sums, ∂L/∂(M x) in the gradient: from them to dU, dV and ds.
  auto const through_base = [&](matrix_view<acc> dB, matrix_view<acc> D, auto const& behind) {
    detail::product_backward(policy, view, matrix_view<acc const>(saved.B), sums.minus_dK, dB, finish);
    copy(policy, dB, dy.columns(t, rv));
    base.apply_adjoint(matrix_view<T const, L>(dy), dx);
    copy(policy, dx.columns(t, rv), D);
    behind();
    detail::finish_adapter(policy, view, sums, D, finish, dU, dV, ds);
  };
  if constexpr (detail::takes_stored<Policy, acc, T>)
    if (pieces.stored) {
      auto const& stored = *pieces.stored;
      auto const known = view.scaled() && !rewind ? matrix_view<T const, L>(saved.q) : matrix_view<T const, L>(y);
      adapt_backward_stored(policy, stored.outputs, view, matrix_view<acc const>(minus_K),
                            matrix_view<acc const, L>(saved.w), matrix_view<acc const, L>(saved.v), known,
                            matrix_view<T const, L>(gradient), gradient, pieces.dv, sums);
      return through_base(stored.dB, stored.D, [&] {
        update_stored(policy, stored.tokens, view.right.vectors, matrix_view<acc const, L>(pieces.dv),
                      matrix_view<T const, L>(x), dtokens, stored.D);
      });
    }
  index_t const width = pieces.panels->width;
  auto const& left = pieces.panels->turns.first;
  auto const& right = pieces.panels->turns.second;
  detail::pack_adapter(policy, view, matrix_view<acc const>(minus_K), left.packed);
  clear(local, sums);
  for_each_panel_summed(
      policy, t, width, [&](index_t worker) { clear(local, left.parts(worker)); },
      [&](index_t worker, auto p) {
        index_t const j = p.first, w = p.count;
        auto const buffer = left.state(worker).columns(0, w);
        detail::forward_state<acc, L> state;
        state.wanted = rewind;
        state.X = detail::staged(local, y.columns(j, w), buffer);
        state.W = saved.w.columns(j, w);
        if (a.left.blocks() > 1 || rewind) {
          copy(local, state.X, buffer);
          state.X = state.rewind = buffer;
        }
        matrix_view<acc const, L> q;
        if (view.scaled() && !rewind) q = detail::staged(local, saved.q.columns(j, w), left.q(worker));
        auto const panel = detail::staged(local, gradient.columns(j, w), left.gradient(worker));
        matrix_view<acc const, L> const v = saved.v.columns(j, w);
        detail::adapt_backward_panel(local, view, left.packed, v, state, q, matrix_view<acc const, L>(panel), panel,
                                     left.parts(worker), left.scratch(worker).columns(0, w),
                                     {detail::next_panel<acc>(gradient, p), detail::next_panel<acc>(y, p), 0});
        project(local, left.packed.minus_K, panel, pieces.dv.columns(j, w));
        copy(local, panel, gradient.columns(j, w));
      },
      [&](index_t worker) { add(local, left.parts(worker), sums); });
  through_base(right.dB, right.D, [&] {
    pack(policy, a.right.vectors, right.V);
    for_each_panel_summed(
        policy, t, width, [&](index_t worker) { clear(local, right.parts(worker)); },
        [&](index_t worker, auto p) {
          index_t const j = p.first, w = p.count;
          auto const dv = pieces.dv.columns(j, w);
          outer(local, detail::staged(local, x.columns(j, w), right.x(worker)), dv, right.parts(worker));
          auto const panel = detail::staged(local, dtokens.columns(j, w), right.gradient(worker));
          update(local, right.V, dv, panel, panel,
                 {detail::next_panel<acc>(dtokens, p), detail::next_panel<acc>(x, p), 0});
          copy(local, panel, dtokens.columns(j, w));
        },
        [&](index_t worker) { add(local, right.parts(worker), right.D); });
  });
}

}  // namespace HOFT_TARGET_NAMESPACE
