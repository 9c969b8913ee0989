// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/apply.hpp: apply and materialize on Eigen storage.
#pragma once
#include <hoft/eigen/compact_wy.hpp>
#include <hoft/householder/apply.hpp>

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
  apply(policy, q, x, x, s, o, detail::lent_workspace(policy, apply_workspace(policy, q, x, s)));
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

/// Y := Q X, Qᴴ X, X Q or X Qᴴ. Y has the layout of X, and its shape unless it is a hoft::dense_matrix, which takes it;
/// it is X or does not overlap it, which is checked.
template <execution_policy Policy, detail::form F, class DX, class DY>
requires(!detail::is_option<DY>) void apply(Policy const& policy, F const& Q, DX const& X, DY&& Y, side s = side::left,
                                            op o = op::plain) {
  static_assert(
      detail::same_storage<DX const, DY>,
      "hoft::apply: X and Y must have the same element type and layout (both column-major or both row-major).");
  auto const x = as_view(X);
  auto const q = Q.view();
  if constexpr (detail::same_storage<DX const, DY>) {
    detail::require_apart_or_same("apply", "X", x, "Y", detail::memory_of(Y));
    detail::lent_workspace const work(policy, apply_workspace(policy, q, x, s));
    [[maybe_unused]] auto const shape = detail::with_shape(Y, x.rows, x.cols);
    apply(policy, q, x, detail::as_output<DY>(Y), s, o, work);
  }
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

/// apply in place that refills the projections W [r, n] which apply_backward_from_output needs when Q is truncated or
/// has explicit tau: UᴴX from the left, (X U)ᵀ from the right. X must not overlap W.
template <execution_policy Policy, detail::form F, class DX>
void apply_and_save(Policy const& policy, F const& Q, DX&& X, dense_matrix<typename F::value_type>& W,
                    side s = side::left, op o = op::plain) {
  auto const x = detail::as_output<DX>(X);
  auto const q = Q.view();
  detail::require_apart("apply_and_save", "X", x, "W", W);
  detail::lent_workspace const work(policy, apply_workspace(policy, q, x, s));
  detail::reshaped const shape(W, Q.rank(), s == side::left ? x.cols : x.rows);
  apply(policy, q, x, x, s, o, work, as_view(W));
}
template <execution_policy Policy, detail::form F, class DX>
void apply_and_save(Policy const& policy, F const& Q, DX&& X, dense_matrix<typename F::value_type>& W, op o) {
  apply_and_save(policy, Q, std::forward<DX>(X), W, side::left, o);
}
template <execution_policy Policy, class DX, detail::form F>
requires(!detail::form<DX>) void apply_and_save(Policy const& policy, DX&& X, F const& Q,
                                                dense_matrix<typename F::value_type>& W, op o = op::plain) {
  apply_and_save(policy, Q, std::forward<DX>(X), W, side::right, o);
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F, class DX, class... Rest>
void apply_and_save(F const& Q, DX&& X, dense_matrix<typename F::value_type>& W, Rest... rest) {
  apply_and_save(cpu{}, Q, std::forward<DX>(X), W, rest...);
}
template <class DX, detail::form F, class... Rest>
requires(!execution_policy<DX> && !detail::form<DX>) void apply_and_save(DX&& X, F const& Q,
                                                                         dense_matrix<typename F::value_type>& W,
                                                                         Rest... rest) {
  apply_and_save(cpu{}, std::forward<DX>(X), Q, W, rest...);
}

/// The same, W returned.
template <execution_policy Policy, detail::form F, class DX>
[[nodiscard]] auto apply_and_save(Policy const& policy, F const& Q, DX&& X, side s = side::left, op o = op::plain) {
  dense_matrix<typename F::value_type> W;
  apply_and_save(policy, Q, std::forward<DX>(X), W, s, o);
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

/// E := the first k columns of Q, [m, k], k <= m: LAPACK's orgqr, torch.linalg.householder_product. @see materialize
/// with views.
template <execution_policy Policy, detail::form F>
void materialize(Policy const& policy, F const& Q, index_t k, dense_matrix<typename F::value_type>& E) {
  using A = typename F::value_type;
  detail::require_at_least("materialize", "k", k, 0);
  detail::require_at_most("materialize", "k", k, Q.rows());
  auto const q = Q.view();
  detail::lent_workspace const work(policy,
                                    materialize_workspace(policy, q, matrix_view<A const>(nullptr, Q.rows(), k)));
  detail::reshaped const shape(E, Q.rows(), k);
  materialize(policy, q, as_view(E), work);
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F>
void materialize(F const& Q, index_t k, dense_matrix<typename F::value_type>& E) {
  materialize(cpu{}, Q, k, E);
}

/// The same as a value.
template <execution_policy Policy, detail::form F>
[[nodiscard]] auto materialize(Policy const& policy, F const& Q, index_t k) {
  dense_matrix<typename F::value_type> E;
  materialize(policy, Q, k, E);
  return E;
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F>
[[nodiscard]] auto materialize(F const& Q, index_t k) {
  return materialize(cpu{}, Q, k);
}

// A matrix of reflectors where Q must stand, with and without a policy.
namespace detail {

template <class Wrong>
constexpr void refuse_reflectors() {
  static_assert(never<Wrong>,
                "hoft: Q must come from hoft::accumulate(U); this argument is a matrix. Write `auto Q = "
                "hoft::accumulate(U);` and pass Q.");
}

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
auto apply_and_save(detail::a_matrix, detail::a_matrix, detail::anything = {}, detail::anything = {},
                    detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
  return dense_matrix<double>();
}
template <execution_policy Policy>
auto apply_and_save(Policy const&, detail::a_matrix, detail::a_matrix, detail::anything = {}, detail::anything = {},
                    detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
  return dense_matrix<double>();
}
template <class Wrong = void>
auto materialize(detail::a_matrix, detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
  return dense_matrix<double>();
}
template <execution_policy Policy>
auto materialize(Policy const&, detail::a_matrix, detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
  return dense_matrix<double>();
}

}  // namespace HOFT_TARGET_NAMESPACE
