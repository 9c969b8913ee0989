// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/apply_backward.hpp: the gradients of apply on Eigen storage.
#pragma once
#include <hoft/eigen/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// What apply_backward returns: dX of the type and layout of X; dU [m, r] and dtau [r] (empty without explicit tau) in
/// the accumulator type.
template <class A, class T, class L>
struct apply_gradient {
  dense_matrix<T, L> dX;
  dense_matrix<A> dU;
  dense_vector<A> dtau;
};

namespace detail {

template <class F, class DX>
using apply_gradient_of = apply_gradient<typename F::value_type, value_of<DX const>, layout_of<DX const>>;

/// The parts of a gradient have the shapes that Q and X give them.
template <class A, class T, class L>
struct reshaped_apply_gradient {
  reshaped<T, L, Eigen::Dynamic> dX;
  reshaped<A, col_major, Eigen::Dynamic> dU;
  reshaped<A, col_major, 1> dtau;
  template <form F, class TX>
  reshaped_apply_gradient(apply_gradient<A, T, L>& g, F const& Q, matrix_view<TX, L> X)
      : dX(g.dX, X.rows, X.cols),
        dU(g.dU, Q.rows(), Q.rank()),
        dtau(g.dtau, form_of(Q.view()).explicit_tau ? Q.rank() : 0) {}
};
/// An input that is only read lies in none of them; dY may be dX itself, if it is the gradient's.
template <class View, class A, class T, class L>
void require_apart(char const* function, char const* argument, View input, char const*,
                   apply_gradient<A, T, L> const& g) {
  require_apart(function, argument, input, "g.dX", g.dX);
  require_apart(function, argument, input, "g.dU", g.dU);
  require_apart(function, argument, input, "g.dtau", g.dtau);
}
template <class View, class A, class T, class L>
void require_dY(char const* function, View dY, apply_gradient<A, T, L> const& g) {
  require_apart_or_same(function, "dY", dY, "g.dX", g.dX);
  require_apart(function, "dY", dY, "g.dU", g.dU);
  require_apart(function, "dY", dY, "g.dtau", g.dtau);
}

/// In words what is said of the types of a gradient and of what it is of.
template <class F, class DX, class DG, class A, class T, class L>
constexpr bool fits_gradient() {
  constexpr bool fits = std::same_as<apply_gradient<A, T, L>, apply_gradient_of<F, DX>>;
  static_assert(!same_storage<DX const, DG const> || fits,
                "hoft: g must have the type that the call without g returns: the element type and layout of X and dY, "
                "and the accumulator type.");
  return fits && same_storage<DX const, DG const>;
}

/// call(q, known, dy, work) of views, for gradients into the memory of g, whose shapes are those of what is known: X or
/// Y. `name` is what errors call it.
template <class Policy, class F, class DK, class DG, class A, class T, class L, class Call>
void refill_gradient(char const* function, char const* name, Policy const& policy, F const& Q, DK const& K,
                     DG const& dY, apply_gradient<A, T, L>& g, side s, Call const& call) {
  auto const known = as_view(K);
  auto const dy = as_view(dY);
  auto const q = Q.view();
  require_apart(function, name, known, "g", g);
  require_dY(function, dy, g);
  lent_workspace const work(policy, apply_backward_workspace(policy, q, known, s));
  reshaped_apply_gradient const shapes(g, Q, known);
  call(q, known, dy, workspace(work));
}

}  // namespace detail

/// The gradients of Y = apply(Q, X, s, o) from its input X and dY = ∂L/∂Y, into the memory of g; those of apply(X, Q)
/// with side::right. dY may be g.dX itself; nothing else may overlap g, which is checked. @see apply_backward with
/// views.
template <execution_policy Policy, detail::form F, class DX, class DG, class A, class T, class L>
void apply_backward(Policy const& policy, F const& Q, DX const& X, DG const& dY, apply_gradient<A, T, L>& g,
                    side s = side::left, op o = op::plain) {
  static_assert(detail::same_storage<DX const, DG const>,
                "hoft::apply_backward: X and dY must have the same element type and layout.");
  if constexpr (detail::fits_gradient<F, DX, DG, A, T, L>()) {
    auto const call = [&](auto const& q, auto known, auto dy, workspace work) {
      apply_backward(policy, q, known, dy, as_view(g.dX), as_view(g.dU), as_vector_view(g.dtau), s, o, work);
    };
    detail::refill_gradient("apply_backward", "X", policy, Q, X, dY, g, s, call);
  }
}
template <execution_policy Policy, detail::form F, class DX, class DG, class A, class T, class L>
void apply_backward(Policy const& policy, F const& Q, DX const& X, DG const& dY, apply_gradient<A, T, L>& g, op o) {
  apply_backward(policy, Q, X, dY, g, side::left, o);
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F, class DX, class DG, class A, class T, class L, class... Rest>
void apply_backward(F const& Q, DX const& X, DG const& dY, apply_gradient<A, T, L>& g, Rest... rest) {
  apply_backward(cpu{}, Q, X, dY, g, rest...);
}

/// The same as a value.
template <execution_policy Policy, detail::form F, class DX, class DG>
[[nodiscard]] auto apply_backward(Policy const& policy, F const& Q, DX const& X, DG const& dY, side s = side::left,
                                  op o = op::plain) {
  detail::apply_gradient_of<F, DX> g;
  apply_backward(policy, Q, X, dY, g, s, o);
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
template <execution_policy Policy, detail::form F, class DY, class DG, class A, class T, class L>
void apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DG const& dY, apply_gradient<A, T, L>& g,
                                side s = side::left, op o = op::plain) {
  static_assert(detail::same_storage<DY const, DG const>,
                "hoft::apply_backward_from_output: Y and dY must have the same element type and layout.");
  if constexpr (detail::fits_gradient<F, DY, DG, A, T, L>()) {
    auto const call = [&](auto const& q, auto known, auto dy, workspace work) {
      apply_backward_from_output(policy, q, known, dy, as_view(g.dX), as_view(g.dU), as_vector_view(g.dtau), s, o,
                                 work);
    };
    detail::refill_gradient("apply_backward_from_output", "Y", policy, Q, Y, dY, g, s, call);
  }
}
template <execution_policy Policy, detail::form F, class DY, class DG, class A, class T, class L>
void apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DG const& dY, apply_gradient<A, T, L>& g,
                                op o) {
  apply_backward_from_output(policy, Q, Y, dY, g, side::left, o);
}

/// The same as a value.
template <execution_policy Policy, detail::form F, class DY, class DG>
[[nodiscard]] auto apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DG const& dY,
                                              side s = side::left, op o = op::plain) {
  detail::apply_gradient_of<F, DY> g;
  apply_backward_from_output(policy, Q, Y, dY, g, s, o);
  return g;
}
template <execution_policy Policy, detail::form F, class DY, class DG>
[[nodiscard]] auto apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DG const& dY, op o) {
  return apply_backward_from_output(policy, Q, Y, dY, side::left, o);
}

/// The same from the output Y and the projections W that apply_and_save returned, for every Q.
template <execution_policy Policy, detail::form F, class DY, class DW, class DG, class A, class T, class L>
void apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DW const& W, DG const& dY,
                                apply_gradient<A, T, L>& g, side s = side::left, op o = op::plain) {
  static_assert(detail::same_storage<DY const, DG const>,
                "hoft::apply_backward_from_output: Y and dY must have the same element type and layout.");
  constexpr bool saved = detail::same_storage<dense_matrix<typename F::value_type>, DW const>;
  static_assert(saved,
                "hoft::apply_backward_from_output: W must be column-major, of the accumulator type, as apply_and_save "
                "returns it.");
  if constexpr (saved && detail::fits_gradient<F, DY, DG, A, T, L>()) {
    detail::require_apart("apply_backward_from_output", "W", as_view(W), "g", g);
    auto const call = [&](auto const& q, auto known, auto dy, workspace work) {
      apply_backward_from_output(policy, q, known, as_view(W), dy, as_view(g.dX), as_view(g.dU), as_vector_view(g.dtau),
                                 s, o, work);
    };
    detail::refill_gradient("apply_backward_from_output", "Y", policy, Q, Y, dY, g, s, call);
  }
}
template <execution_policy Policy, detail::form F, class DY, class DW, class DG, class A, class T, class L>
void apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DW const& W, DG const& dY,
                                apply_gradient<A, T, L>& g, op o) {
  apply_backward_from_output(policy, Q, Y, W, dY, g, side::left, o);
}
/// The same on one thread, with the policy cpu{}.
template <detail::form F, class DY, class DG, class A, class T, class L, class... Rest>
void apply_backward_from_output(F const& Q, DY const& Y, DG const& dY, apply_gradient<A, T, L>& g, Rest... rest) {
  apply_backward_from_output(cpu{}, Q, Y, dY, g, rest...);
}
template <detail::form F, class DY, class DW, class DG, class A, class T, class L, class... Rest>
void apply_backward_from_output(F const& Q, DY const& Y, DW const& W, DG const& dY, apply_gradient<A, T, L>& g,
                                Rest... rest) {
  apply_backward_from_output(cpu{}, Q, Y, W, dY, g, rest...);
}

/// The same as a value.
template <execution_policy Policy, detail::form F, class DY, class DW, class DG>
requires(!detail::is_option<DG>)
    [[nodiscard]] auto apply_backward_from_output(Policy const& policy, F const& Q, DY const& Y, DW const& W,
                                                  DG const& dY, side s = side::left, op o = op::plain) {
  detail::apply_gradient_of<F, DY> g;
  apply_backward_from_output(policy, Q, Y, W, dY, g, s, o);
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

using refused_gradient = apply_gradient<double, double, col_major>;

}  // namespace detail

template <class Wrong = void>
auto apply_backward(detail::a_matrix, detail::a_matrix, detail::a_matrix, detail::anything = {}, detail::anything = {},
                    detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
  return detail::refused_gradient();
}
template <execution_policy Policy>
auto apply_backward(Policy const&, detail::a_matrix, detail::a_matrix, detail::a_matrix, detail::anything = {},
                    detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
  return detail::refused_gradient();
}
template <class Wrong = void>
auto apply_backward_from_output(detail::a_matrix, detail::a_matrix, detail::a_matrix, detail::anything = {},
                                detail::anything = {}, detail::anything = {}, detail::anything = {}) {
  detail::refuse_reflectors<Wrong>();
  return detail::refused_gradient();
}
template <execution_policy Policy>
auto apply_backward_from_output(Policy const&, detail::a_matrix, detail::a_matrix, detail::a_matrix,
                                detail::anything = {}, detail::anything = {}, detail::anything = {},
                                detail::anything = {}) {
  detail::refuse_reflectors<Policy>();
  return detail::refused_gradient();
}

}  // namespace HOFT_TARGET_NAMESPACE
