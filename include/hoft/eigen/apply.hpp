// hoft/eigen/apply.hpp: apply, materialize and their gradients on Eigen storage.
#pragma once
#include <hoft/eigen/compact_wy.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

namespace HOFT_TARGET_NAMESPACE {

namespace detail {

/// What stands where Y may stand and is none.
template <class DY>
inline constexpr bool is_option =
    std::same_as<std::remove_cvref_t<DY>, side> || std::same_as<std::remove_cvref_t<DY>, op>;

}  // namespace detail

/// X := Q X, Qᴴ X, X Q or X Qᴴ in place. @see apply with views for errors, cost, accuracy and source.
template <execution_policy Policy, class A, class DX>
void apply(Policy const& policy, compact_wy<A> const& Q, DX&& X, side s = side::left, op o = op::plain) {
  auto const x = detail::as_output<DX>(X);
  auto const q = Q.view();
  apply(policy, q, x, x, s, o, detail::scratch(apply_workspace(policy, q, x, s)));
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DX>
void apply(compact_wy<A> const& Q, DX&& X, side s = side::left, op o = op::plain) {
  apply(cpu{}, Q, std::forward<DX>(X), s, o);
}

/// Y := Q X, Qᴴ X, X Q or X Qᴴ. Y has the shape and layout of X and does not overlap it.
template <execution_policy Policy, class A, class DX, class DY>
requires(!detail::is_option<DY>) void apply(Policy const& policy, compact_wy<A> const& Q, DX const& X, DY&& Y,
                                            side s = side::left, op o = op::plain) {
  static_assert(
      detail::same_storage<DX const, DY>,
      "hoft::apply: X and Y must have the same element type and layout (both column-major or both row-major).");
  auto const x = as_view(X);
  auto const q = Q.view();
  apply(policy, q, x, detail::as_output<DY>(Y), s, o, detail::scratch(apply_workspace(policy, q, x, s)));
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DX, class DY>
requires(!detail::is_option<DY>) void apply(compact_wy<A> const& Q, DX const& X, DY&& Y, side s = side::left,
                                            op o = op::plain) {
  apply(cpu{}, Q, X, std::forward<DY>(Y), s, o);
}

/// apply in place that returns the projections W [r, n] which apply_backward_from_output needs when Q is truncated or
/// has explicit tau: UᴴX from the left, (X U)ᵀ from the right.
template <execution_policy Policy, class A, class DX>
auto apply_and_save(Policy const& policy, compact_wy<A> const& Q, DX&& X, side s = side::left, op o = op::plain) {
  auto const x = detail::as_output<DX>(X);
  auto const q = Q.view();
  dense_matrix<A> W(Q.rank(), s == side::left ? x.cols : x.rows);
  apply(policy, q, x, x, s, o, detail::scratch(apply_workspace(policy, q, x, s)), as_view(W));
  return W;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DX>
auto apply_and_save(compact_wy<A> const& Q, DX&& X, side s = side::left, op o = op::plain) {
  return apply_and_save(cpu{}, Q, std::forward<DX>(X), s, o);
}

/// The first k columns of Q, [m, k], k <= m: LAPACK's orgqr, torch.linalg.householder_product. @see materialize with
/// views.
template <execution_policy Policy, class A>
dense_matrix<A> materialize(Policy const& policy, compact_wy<A> const& Q, index_t k) {
  detail::require_at_least("materialize", "k", k, 0);
  detail::require_at_most("materialize", "k", k, Q.rows());
  dense_matrix<A> E(Q.rows(), k);
  auto const q = Q.view();
  materialize(policy, q, as_view(E), detail::scratch(materialize_workspace(policy, q, as_view(E))));
  return E;
}
/// The same on one thread, with the policy cpu{}.
template <class A>
dense_matrix<A> materialize(compact_wy<A> const& Q, index_t k) {
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

template <class A, class DX>
auto empty_gradient(compact_wy<A> const& Q, DX const& X) {
  apply_gradient<A, value_of<DX const>, layout_of<DX const>> g;
  g.dX.resize(X.rows(), X.cols());
  g.dU.resize(Q.rows(), Q.rank());
  g.dtau.resize(Q.view().explicit_tau ? Q.rank() : 0);
  return g;
}

}  // namespace detail

/// The gradients of Y = apply(Q, X, s, o) from its input X and dY = ∂L/∂Y. @see apply_backward with views.
template <execution_policy Policy, class A, class DX, class DG>
auto apply_backward(Policy const& policy, compact_wy<A> const& Q, DX const& X, DG const& dY, side s = side::left,
                    op o = op::plain) {
  static_assert(detail::same_storage<DX const, DG const>,
                "hoft::apply_backward: X and dY must have the same element type and layout.");
  auto const x = as_view(X);
  auto const q = Q.view();
  auto g = detail::empty_gradient(Q, X);
  apply_backward(policy, q, x, as_view(dY), as_view(g.dX), as_view(g.dU), as_vector_view(g.dtau), s, o,
                 detail::scratch(apply_backward_workspace(policy, q, x, s)));
  return g;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DX, class DG>
auto apply_backward(compact_wy<A> const& Q, DX const& X, DG const& dY, side s = side::left, op o = op::plain) {
  return apply_backward(cpu{}, Q, X, dY, s, o);
}

/// The same from the output Y, for an orthogonal Q. @see apply_backward_from_output with views.
template <execution_policy Policy, class A, class DY, class DG>
auto apply_backward_from_output(Policy const& policy, compact_wy<A> const& Q, DY const& Y, DG const& dY,
                                side s = side::left, op o = op::plain) {
  static_assert(detail::same_storage<DY const, DG const>,
                "hoft::apply_backward_from_output: Y and dY must have the same element type and layout.");
  auto const y = as_view(Y);
  auto const q = Q.view();
  auto g = detail::empty_gradient(Q, Y);
  apply_backward_from_output(policy, q, y, as_view(dY), as_view(g.dX), as_view(g.dU), as_vector_view(g.dtau), s, o,
                             detail::scratch(apply_backward_workspace(policy, q, y, s)));
  return g;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DY, class DG>
auto apply_backward_from_output(compact_wy<A> const& Q, DY const& Y, DG const& dY, side s = side::left,
                                op o = op::plain) {
  return apply_backward_from_output(cpu{}, Q, Y, dY, s, o);
}

/// The same from the output Y and the projections W that apply_and_save returned, for every Q.
template <execution_policy Policy, class A, class DY, class DW, class DG>
requires(!std::same_as<std::remove_cvref_t<DG>, side>) auto apply_backward_from_output(
    Policy const& policy, compact_wy<A> const& Q, DY const& Y, DW const& W, DG const& dY, side s = side::left,
    op o = op::plain) {
  static_assert(detail::same_storage<DY const, DG const>,
                "hoft::apply_backward_from_output: Y and dY must have the same element type and layout.");
  static_assert(detail::same_storage<dense_matrix<A>, DW const>,
                "hoft::apply_backward_from_output: W must be column-major, of the accumulator type, as apply_and_save "
                "returns it.");
  auto const y = as_view(Y);
  auto const q = Q.view();
  auto g = detail::empty_gradient(Q, Y);
  apply_backward_from_output(policy, q, y, as_view(W), as_view(dY), as_view(g.dX), as_view(g.dU),
                             as_vector_view(g.dtau), s, o, detail::scratch(apply_backward_workspace(policy, q, y, s)));
  return g;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DY, class DW, class DG>
requires(!std::same_as<std::remove_cvref_t<DG>, side>) auto apply_backward_from_output(
    compact_wy<A> const& Q, DY const& Y, DW const& W, DG const& dY, side s = side::left, op o = op::plain) {
  return apply_backward_from_output(cpu{}, Q, Y, W, dY, s, o);
}

}  // namespace HOFT_TARGET_NAMESPACE
