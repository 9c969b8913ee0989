// SPDX-License-Identifier: BSD-3-Clause
// hoft/householder/adjoint.hpp: Qᴴ as an argument, apply(policy, adjoint(Q), ...). Nothing is computed for it.
#pragma once
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

namespace HOFT_NAMESPACE {

/// Qᴴ of a form, for every call that takes Q. An `op` said beside it is of Qᴴ: its adjoint is Q.
template <class A>
struct adjoint_view {
  compact_wy_view<A> form;  ///< Q
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// Qᴴ.
template <class A>
[[nodiscard]] adjoint_view<A> adjoint(compact_wy_view<A> const& Q) {
  return {Q};
}
/// (Qᴴ)ᴴ = Q.
template <class A>
[[nodiscard]] compact_wy_view<A> adjoint(adjoint_view<A> const& Q) {
  return Q.form;
}

namespace detail {

/// The form that a product is of.
template <class A>
compact_wy_view<A> const& form_of(compact_wy_view<A> const& Q) {
  return Q;
}
template <class A>
compact_wy_view<A> const& form_of(adjoint_view<A> const& Q) {
  return Q.form;
}

}  // namespace detail

/// As of Q.
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t apply_workspace(Policy const& policy, adjoint_view<A> const& Q, matrix_view<T, L> X,
                                      side s = side::left) {
  return apply_workspace(policy, Q.form, X, s);
}
/// Y := Qᴴ X or X Qᴴ. @see apply with Q.
template <execution_policy Policy, class A, class TX, class T, class L>
void apply(Policy const& policy, adjoint_view<A> const& Q, matrix_view<TX, L> X, matrix_view<T, L> Y, side s, op o,
           workspace work, matrix_view<std::remove_const_t<A>> W = {}) {
  apply(policy, Q.form, X, Y, s, adjoint_of(o), work, W);
}

/// As of Q.
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t materialize_workspace(Policy const& policy, adjoint_view<A> const& Q, matrix_view<T, L> E) {
  return materialize_workspace(policy, Q.form, E);
}
/// E := the first columns of Qᴴ. @see materialize with Q.
template <execution_policy Policy, class A, class T, class L>
void materialize(Policy const& policy, adjoint_view<A> const& Q, matrix_view<T, L> E, workspace work) {
  constexpr char const* function = "materialize";
  detail::require_form(function, "Q", ops<Policy>::rank_count(policy), Q.form, Q.form.rows(), Q.form.rank());
  detail::require_not_empty(function, "Q", Q.form, E.rows);
  detail::require_at_most(function, "E.cols", E.cols, Q.form.rows());
  detail::require_shape(function, "E", E, Q.form.rows(), E.cols);
  detail::require_bytes(function, "work.size", work.size, materialize_workspace(policy, Q, E));
  ops<Policy>::set_identity(policy, E);
  apply(policy, Q.form, E, E, side::left, op::adjoint, work);
}

/// As of Q.
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t apply_backward_workspace(Policy const& policy, adjoint_view<A> const& Q, matrix_view<T, L> X,
                                               side s = side::left) {
  return apply_backward_workspace(policy, Q.form, X, s);
}
/// The gradients of Y = apply(adjoint(Q), X); dU and dtau are those of the reflectors of Q. @see apply_backward with Q.
template <execution_policy Policy, class A, class TX, class TG, class T, class L, class TU, class LU, class TT>
void apply_backward(Policy const& policy, adjoint_view<A> const& Q, matrix_view<TX, L> X, matrix_view<TG, L> dY,
                    matrix_view<T, L> dX, matrix_view<TU, LU> dU, vector_view<TT> dtau, side s, op o, workspace work) {
  apply_backward(policy, Q.form, X, dY, dX, dU, dtau, s, adjoint_of(o), work);
}
/// The same from the output. @see apply_backward_from_output with Q.
template <execution_policy Policy, class A, class TX, class TG, class T, class L, class TU, class LU, class TT>
void apply_backward_from_output(Policy const& policy, adjoint_view<A> const& Q, matrix_view<TX, L> Y,
                                matrix_view<TG, L> dY, matrix_view<T, L> dX, matrix_view<TU, LU> dU,
                                vector_view<TT> dtau, side s, op o, workspace work) {
  apply_backward_from_output(policy, Q.form, Y, dY, dX, dU, dtau, s, adjoint_of(o), work);
}
/// The same from the output and the projections W that `apply` saved.
template <execution_policy Policy, class A, class TX, class TW, class TG, class T, class L, class TU, class LU,
          class TT>
void apply_backward_from_output(Policy const& policy, adjoint_view<A> const& Q, matrix_view<TX, L> Y, matrix_view<TW> W,
                                matrix_view<TG, L> dY, matrix_view<T, L> dX, matrix_view<TU, LU> dU,
                                vector_view<TT> dtau, side s, op o, workspace work) {
  apply_backward_from_output(policy, Q.form, Y, W, dY, dX, dU, dtau, s, adjoint_of(o), work);
}

}  // namespace HOFT_TARGET_NAMESPACE
