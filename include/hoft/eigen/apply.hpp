// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/apply.hpp: apply, materialize and their gradients on Eigen storage.
#pragma once
#include <hoft/eigen/compact_wy.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

#include <utility>

namespace HOFT_TARGET_NAMESPACE {

// Every call below takes Q or adjoint(Q), with a policy before its arguments or, on one thread, without. Which product
// is meant is said as one likes:
//   apply(Q, X)             Q X        apply(X, Q)             X Q        in place
//   apply(adjoint(Q), X)    Qᴴ X       apply(X, adjoint(Q))    X Qᴴ
//   apply(Q, X, op::adjoint), apply(Q, X, side::right, op::adjoint)       where it is known at run time only

namespace detail {

template <class F>
inline constexpr bool is_form = false;
template <class A>
inline constexpr bool is_form<compact_wy<A>> = true;
template <class A>
inline constexpr bool is_form<adjoint_wy<A>> = true;
/// What Q may be: a form that owns its memory, or the adjoint of one.
template <class F>
concept form = is_form<std::remove_cvref_t<F>>;

/// What stands where Y may stand and is none.
template <class DY>
inline constexpr bool is_option =
    std::same_as<std::remove_cvref_t<DY>, side> || std::same_as<std::remove_cvref_t<DY>, op>;

}  // namespace detail

/// X := Q X, Qᴴ X, X Q or X Qᴴ in place. @see apply with views for errors, cost, accuracy and source.
template <execution_policy Policy, detail::form F, class DX>
void apply(Policy const& policy, F const& Q, DX&& X, side s = side::left, op o = op::plain) {
  auto const x = detail::as_output<DX>(X);
  auto const q = Q.view();
  apply(policy, q, x, x, s, o, detail::scratch(apply_workspace(policy, q, x, s)));
}
/// X := Q X or Qᴴ X.
template <execution_policy Policy, detail::form F, class DX>
void apply(Policy const& policy, F const& Q, DX&& X, op o) {
  apply(policy, Q, std::forward<DX>(X), side::left, o);
}
/// X := X Q or X Qᴴ.
template <execution_policy Policy, class DX, detail::form F>
requires(!detail::form<DX>) void apply(Policy const& policy, DX&& X, F const& Q, op o = op::plain) {
  apply(policy, Q, std::forward<DX>(X), side::right, o);
}

/// Y := Q X, Qᴴ X, X Q or X Qᴴ. Y has the shape and layout of X, and is X or does not overlap it.
template <execution_policy Policy, detail::form F, class DX, class DY>
requires(!detail::is_option<DY>) void apply(Policy const& policy, F const& Q, DX const& X, DY&& Y, side s = side::left,
                                            op o = op::plain) {
  static_assert(
      detail::same_storage<DX const, DY>,
      "hoft::apply: X and Y must have the same element type and layout (both column-major or both row-major).");
  auto const x = as_view(X);
  auto const q = Q.view();
  if constexpr (detail::same_storage<DX const, DY>)
    apply(policy, q, x, detail::as_output<DY>(Y), s, o, detail::scratch(apply_workspace(policy, q, x, s)));
}
/// Y := Q X or Qᴴ X.
template <execution_policy Policy, detail::form F, class DX, class DY>
requires(!detail::is_option<DY>) void apply(Policy const& policy, F const& Q, DX const& X, DY&& Y, op o) {
  apply(policy, Q, X, std::forward<DY>(Y), side::left, o);
}
/// Y := X Q or X Qᴴ.
template <execution_policy Policy, class DX, detail::form F, class DY>
requires(!detail::form<DX> && !detail::is_option<DY>) void apply(Policy const& policy, DX const& X, F const& Q, DY&& Y,
                                                                 op o = op::plain) {
  apply(policy, Q, X, std::forward<DY>(Y), side::right, o);
}

// What is refused in words, with and without a policy.
template <execution_policy Policy, class DX, detail::form F, class... Rest>
requires(!detail::form<DX>) void apply(Policy const&, DX&&, F const&, side, Rest&&...) {
  static_assert(detail::never<DX>,
                "hoft::apply: apply(X, Q) says the side by its order: leave side:: out, or write "
                "apply(Q, X, side::right).");
}
template <execution_policy Policy, detail::form F, class DX>
void apply(Policy const&, F const&, DX&&, op, side) {
  static_assert(detail::never<DX>, "hoft::apply: the side comes before the operation: apply(Q, X, side, op).");
}

/// The same on one thread, with the policy cpu{}. (The calls with two arguments look like std::apply, which a call
/// without hoft:: finds too where elements are std::complex: they are constrained, so that they are taken.)
template <class F, class DX>
requires detail::form<F>
void apply(F&& Q, DX&& X) { apply(cpu{}, std::as_const(Q), std::forward<DX>(X), side::left, op::plain); }
template <class DX, class F>
requires(detail::form<F> && !detail::form<DX> && !execution_policy<DX>) void apply(DX&& X, F&& Q) {
  apply(cpu{}, std::as_const(Q), std::forward<DX>(X), side::right, op::plain);
}
template <detail::form F, class DX, class Next, class... Rest>
void apply(F const& Q, DX&& X, Next&& next, Rest&&... rest) {
  apply(cpu{}, Q, std::forward<DX>(X), std::forward<Next>(next), std::forward<Rest>(rest)...);
}
template <class DX, detail::form F, class Next, class... Rest>
requires(!execution_policy<DX> && !detail::form<DX>) void apply(DX&& X, F const& Q, Next&& next, Rest&&... rest) {
  apply(cpu{}, std::forward<DX>(X), Q, std::forward<Next>(next), std::forward<Rest>(rest)...);
}

/// apply in place that returns the projections W [r, n] which apply_backward_from_output needs when Q is truncated or
/// has explicit tau: UᴴX from the left, (X U)ᵀ from the right.
template <execution_policy Policy, detail::form F, class DX>
[[nodiscard]] auto apply_and_save(Policy const& policy, F const& Q, DX&& X, side s = side::left, op o = op::plain) {
  auto const x = detail::as_output<DX>(X);
  auto const q = Q.view();
  dense_matrix<typename F::value_type> W(Q.rank(), s == side::left ? x.cols : x.rows);
  apply(policy, q, x, x, s, o, detail::scratch(apply_workspace(policy, q, x, s)), as_view(W));
  return W;
}
template <execution_policy Policy, detail::form F, class DX>
[[nodiscard]] auto apply_and_save(Policy const& policy, F const& Q, DX&& X, op o) {
  return apply_and_save(policy, Q, std::forward<DX>(X), side::left, o);
}
template <execution_policy Policy, class DX, detail::form F>
requires(!detail::form<DX>)
    [[nodiscard]] auto apply_and_save(Policy const& policy, DX&& X, F const& Q, op o = op::plain) {
  return apply_and_save(policy, Q, std::forward<DX>(X), side::right, o);
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F, class... Rest>
[[nodiscard]] auto apply_and_save(F const& Q, Rest&&... rest) {
  return apply_and_save(cpu{}, Q, std::forward<Rest>(rest)...);
}
template <class DX, detail::form F, class... Rest>
requires(!execution_policy<DX> && !detail::form<DX>)
    [[nodiscard]] auto apply_and_save(DX&& X, F const& Q, Rest&&... rest) {
  return apply_and_save(cpu{}, std::forward<DX>(X), Q, std::forward<Rest>(rest)...);
}

/// The first k columns of Q, [m, k], k <= m: LAPACK's orgqr, torch.linalg.householder_product. @see materialize with
/// views.
template <execution_policy Policy, detail::form F>
[[nodiscard]] auto materialize(Policy const& policy, F const& Q, index_t k) {
  detail::require_at_least("materialize", "k", k, 0);
  detail::require_at_most("materialize", "k", k, Q.rows());
  dense_matrix<typename F::value_type> E(Q.rows(), k);
  auto const q = Q.view();
  materialize(policy, q, as_view(E), detail::scratch(materialize_workspace(policy, q, as_view(E))));
  return E;
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F>
[[nodiscard]] auto materialize(F const& Q, index_t k) {
  return materialize(cpu{}, Q, k);
}

/// What apply_backward returns: dX of the type and layout of X; dU [m, r] and dtau [r] (empty without explicit tau) in
/// the accumulator type.
template <class A, class T, class L>
struct apply_gradient {
  dense_matrix<T, L> dX;
  dense_matrix<A> dU;
  dense_vector<A> dtau;
};

namespace detail {

template <form F, class DX>
auto empty_apply_gradient(F const& Q, DX const& X) {
  apply_gradient<typename F::value_type, value_of<DX const>, layout_of<DX const>> g;
  g.dX.resize(X.rows(), X.cols());
  g.dU.resize(Q.rows(), Q.rank());
  g.dtau.resize(form_of(Q.view()).explicit_tau ? Q.rank() : 0);
  return g;
}

}  // namespace detail

/// The gradients of Y = apply(Q, X, s, o) from its input X and dY = ∂L/∂Y; those of apply(X, Q) with side::right. @see
/// apply_backward with views.
template <execution_policy Policy, detail::form F, class DX, class DG>
[[nodiscard]] auto apply_backward(Policy const& policy, F const& Q, DX const& X, DG const& dY, side s = side::left,
                                  op o = op::plain) {
  static_assert(detail::same_storage<DX const, DG const>,
                "hoft::apply_backward: X and dY must have the same element type and layout.");
  auto const x = as_view(X);
  auto const q = Q.view();
  auto g = detail::empty_apply_gradient(Q, X);
  if constexpr (detail::same_storage<DX const, DG const>)
    apply_backward(policy, q, x, as_view(dY), as_view(g.dX), as_view(g.dU), as_vector_view(g.dtau), s, o,
                   detail::scratch(apply_backward_workspace(policy, q, x, s)));
  return g;
}
template <execution_policy Policy, detail::form F, class DX, class DG>
[[nodiscard]] auto apply_backward(Policy const& policy, F const& Q, DX const& X, DG const& dY, op o) {
  return apply_backward(policy, Q, X, dY, side::left, o);
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F, class... Rest>
[[nodiscard]] auto apply_backward(F const& Q, Rest const&... rest) {
  return apply_backward(cpu{}, Q, rest...);
}

/// The same from the output Y, for an orthogonal Q. @see apply_backward_from_output with views.
template <execution_policy Policy, detail::form F, class DY, class DG>
[[nodiscard]] auto apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DG const& dY,
                                              side s = side::left, op o = op::plain) {
  static_assert(detail::same_storage<DY const, DG const>,
                "hoft::apply_backward_from_output: Y and dY must have the same element type and layout.");
  auto const y = as_view(Y);
  auto const q = Q.view();
  auto g = detail::empty_apply_gradient(Q, Y);
  if constexpr (detail::same_storage<DY const, DG const>)
    apply_backward_from_output(policy, q, y, as_view(dY), as_view(g.dX), as_view(g.dU), as_vector_view(g.dtau), s, o,
                               detail::scratch(apply_backward_workspace(policy, q, y, s)));
  return g;
}
template <execution_policy Policy, detail::form F, class DY, class DG>
[[nodiscard]] auto apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DG const& dY, op o) {
  return apply_backward_from_output(policy, Q, Y, dY, side::left, o);
}

/// The same from the output Y and the projections W that apply_and_save returned, for every Q.
template <execution_policy Policy, detail::form F, class DY, class DW, class DG>
requires(!detail::is_option<DG>)
    [[nodiscard]] auto apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DW const& W,
                                                  DG const& dY, side s = side::left, op o = op::plain) {
  static_assert(detail::same_storage<DY const, DG const>,
                "hoft::apply_backward_from_output: Y and dY must have the same element type and layout.");
  constexpr bool saved = detail::same_storage<dense_matrix<typename F::value_type>, DW const>;
  static_assert(saved,
                "hoft::apply_backward_from_output: W must be column-major, of the accumulator type, as apply_and_save "
                "returns it.");
  auto const y = as_view(Y);
  auto const q = Q.view();
  auto g = detail::empty_apply_gradient(Q, Y);
  if constexpr (saved && detail::same_storage<DY const, DG const>)
    apply_backward_from_output(policy, q, y, as_view(W), as_view(dY), as_view(g.dX), as_view(g.dU),
                               as_vector_view(g.dtau), s, o,
                               detail::scratch(apply_backward_workspace(policy, q, y, s)));
  return g;
}
template <execution_policy Policy, detail::form F, class DY, class DW, class DG>
requires(!detail::is_option<DG>)
    [[nodiscard]] auto apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DW const& W,
                                                  DG const& dY, op o) {
  return apply_backward_from_output(policy, Q, Y, W, dY, side::left, o);
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F, class... Rest>
[[nodiscard]] auto apply_backward_from_output(F const& Q, Rest const&... rest) {
  return apply_backward_from_output(cpu{}, Q, rest...);
}

// A matrix of reflectors where Q must stand, with and without a policy.
namespace detail {

template <class Wrong>
constexpr void refuse_reflectors() {
  static_assert(never<Wrong>,
                "hoft: Q must come from hoft::accumulate(U); this argument is a matrix. Write `auto Q = "
                "hoft::accumulate(U);` and pass Q.");
}
using refused_gradient = apply_gradient<double, double, col_major>;

}  // namespace detail

template <class Wrong = void>
void apply(detail::a_matrix, detail::a_matrix, detail::anything = {}, detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
}
template <execution_policy Policy>
void apply(Policy const&, detail::a_matrix, detail::a_matrix, detail::anything = {}, detail::anything = {},
           detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
}
template <class Wrong = void>
auto apply_and_save(detail::a_matrix, detail::a_matrix, detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
  return dense_matrix<double>();
}
template <execution_policy Policy>
auto apply_and_save(Policy const&, detail::a_matrix, detail::a_matrix, detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
  return dense_matrix<double>();
}
template <class Wrong = void>
auto materialize(detail::a_matrix, detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
  return dense_matrix<double>();
}
template <execution_policy Policy>
auto materialize(Policy const&, detail::a_matrix, detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
  return dense_matrix<double>();
}
template <class Wrong = void>
auto apply_backward(detail::a_matrix, detail::a_matrix, detail::a_matrix, detail::anything = {},
                    detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
  return detail::refused_gradient();
}
template <execution_policy Policy>
auto apply_backward(Policy const&, detail::a_matrix, detail::a_matrix, detail::a_matrix, detail::anything = {},
                    detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
  return detail::refused_gradient();
}
template <class Wrong = void>
auto apply_backward_from_output(detail::a_matrix, detail::a_matrix, detail::a_matrix, detail::anything = {},
                                detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
  return detail::refused_gradient();
}
template <execution_policy Policy>
auto apply_backward_from_output(Policy const&, detail::a_matrix, detail::a_matrix, detail::a_matrix,
                                detail::anything = {}, detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
  return detail::refused_gradient();
}

}  // namespace HOFT_TARGET_NAMESPACE
