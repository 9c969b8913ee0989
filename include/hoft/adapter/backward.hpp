// hoft/adapter/backward.hpp: the gradients of forward, without the adapted weight or its gradient.
#pragma once
#include <hoft/adapter/forward.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// On the way back to the base operator.
template <class Policy, class A, class T, class L>
struct backward_before_base {
  adapt_backward_algorithm<Policy, A, T, L, given_projections<A, L>> adapt;
  backward_before_base(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool recovers_q)
      : adapt(memory, policy, a, t, a.scaled() && !recovers_q ? saved_quantity::q : saved_quantity::y) {}
};
/// For the base operator and what lies behind it.
template <class Policy, class A, class T, class L>
struct backward_from_base {
  matrix_view<A> dB, D;  ///< [m, rv], [n, rv]
  update_algorithm<Policy, A, T, L> update;
  backward_from_base(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool)
      : dB(memory.matrix<A>(a.rows(), a.right.rank())),
        D(memory.matrix<A>(a.cols(), a.right.rank())),
        update(memory, policy, a.cols(), a.right.rank(), t) {}
};

template <class Policy, class A, class T, class L>
struct backward_pieces {
  matrix_view<A, L> dv;
  adapter_sums<A> sums;
  adapter_finish_pieces<A> finish;
  overlaid<backward_before_base<Policy, A, T, L>, backward_from_base<Policy, A, T, L>> turns;
  backward_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t, bool recovers_q)
      : dv(memory.matrix<A, L>(a.right.rank(), t)),
        sums(carve_adapter_sums(memory, a)),
        finish(memory, a),
        turns(memory, policy, a, t, recovers_q) {}
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
/// @throws hoft::shape_error if parts of the adapter, or `saved`, do not fit
template <execution_policy Policy, class A, class AS, class TS, class L>
[[nodiscard]] index_t backward_workspace(Policy const& policy, adapter_view<A> const& a,
                                         saved_activations<AS, TS, L> const& saved) {
  using acc = std::remove_const_t<A>;
  using T = std::remove_const_t<TS>;
  detail::require_adapter_sizes("backward_workspace", a);
  detail::require_saved("backward_workspace", a, saved, saved.v.cols);
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
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau, or that
///         nobody accumulated), before anything is written
///
/// Cost: 2 m n (t + rv) flops in the base, (8 m ru + 4 m rv + 4 n rv) t beside it (10 m ru with several
/// blocks of U, or to recover q); one pass over y and g, one over x
/// and dx (on a GPU a second one over g, where forward has one over base). Memory: O((m + n) r + r t) beyond the
/// arguments, on the CPU O((m + n) r) of it for each thread (partial sums), and for each thread 4 b numbers
/// (b = a.left.block; 4 b + O(m + n) with 16-bit storage, several blocks of U, or to recover q) for each token of a
/// panel of at most 256. Accuracy: as of apply_backward. Same bits for any number of threads (if
/// the base operator has that property). Source: math in docs/reference/mathematics.md (section 3).
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
  auto const& [dv, sums, finish, turns] = pieces;
  auto const& [dB, D, update] = turns.second;
  auto const minus_K = sums.minus_dK;  // until the adapter is packed
  detail::form_minus_K(policy, view, saved.B, minus_K);
  auto const gradient = dy.columns(0, t), dtokens = dx.columns(0, t);
  turns.first.adapt.run(policy, view, minus_K, saved.w, detail::given_projections<acc, L>{saved.v}, y, saved.q,
                        gradient, gradient, dv, sums);
  detail::product_backward(policy, view, matrix_view<acc const>(saved.B), sums.minus_dK, dB, finish);
  ops<Policy>::copy(policy, dB, dy.columns(t, rv));
  detail::apply_base_adjoint(policy, base, matrix_view<T const, L>(dy), dx);
  ops<Policy>::copy(policy, dx.columns(t, rv), D);
  update.run(policy, view.right.vectors, dv, x, dtokens, D);
  detail::finish_adapter(policy, view, sums, D, finish, dU, dV, ds);
}

}  // namespace HOFT_TARGET_NAMESPACE
