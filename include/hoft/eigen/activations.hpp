// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/activations.hpp: HOFT and SHOFT on activations for one call, the layer bound on the way.
#pragma once
#include <hoft/eigen/layer.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// Of a forward pass that bound the adapter itself: the layer, for the backward pass.
template <class A, class T, class L>
struct one_call_result : forward_result<A, T, L> {
  layer_storage<A> layer;
};

/// y = M̂ x with a layer that is bound for this call, into the memory of f, which x may not overlap; that is checked. Of
/// several calls in an optimiser step, or for one token at a time, bind_layer once is cheaper: binding reads the
/// weight.
/// @see bind_layer, forward with views.
template <execution_policy Policy, class A, class Base, class DX, class T, class L>
void forward(Policy const& policy, adapter<A> const& a, Base&& base, DX const& x, one_call_result<A, T, L>& f) {
  static_assert(detail::is_operator<Base>,
                "hoft::forward: a weight is given as hoft::dense(M), or as an operator of your own.");
  constexpr bool same_x = detail::same_storage<DX const, dense_matrix<T, L> const>;
  static_assert(same_x, "hoft::forward: f must have the element type and layout of x.");
  detail::check_base<A, Base, T, L>();
  auto const of = a.view();
  auto const tokens = as_view(x);
  detail::require_base("forward", base, of);
  detail::require_shape("forward", "x", tokens, a.cols(), tokens.cols);
  detail::require_apart("forward", "x", tokens, "f", f);
  detail::require_base_apart("forward", base, "f", f);
  if constexpr (same_x && detail::fits_base<A, Base, T, L>) {
    try {
      f.layer.template bind<T, L>(policy, of, base);
      auto const layer = f.layer.view(of);
      detail::lent_workspace const work(policy, forward_workspace(policy, layer, tokens));
      detail::reshaped_forward const shapes(f, of, tokens.cols);
      forward(policy, layer, base, tokens, as_view(f.y), f.state.view(), work);
    } catch (...) {  // y and the state are not those of this layer
      f.layer.unbind();
      throw;
    }
  }
}
/// The same on one thread, with the policy cpu{}.
template <class A, class Base, class DX, class T, class L>
void forward(adapter<A> const& a, Base&& base, DX const& x, one_call_result<A, T, L>& f) {
  forward(cpu{}, a, base, x, f);
}

/// The same as a value.
template <execution_policy Policy, class A, class Base, class DX>
[[nodiscard]] auto forward(Policy const& policy, adapter<A> const& a, Base&& base, DX const& x) {
  one_call_result<A, detail::value_of<DX const>, detail::layout_of<DX const>> f;
  forward(policy, a, base, x, f);
  return f;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class Base, class DX>
[[nodiscard]] auto forward(adapter<A> const& a, Base&& base, DX const& x) {
  return forward(cpu{}, a, base, x);
}

template <class A, class T, class L>
struct backward_result : adapter_gradient<A> {
  dense_matrix<T, L> dx;  ///< [n, t]
};

namespace detail {

template <class DG, class T>
concept has_elements = std::same_as<typename DG::Scalar, T>;

/// What backward and finish of one call need beside their results, in one piece of memory.
template <class A, class T, class L>
struct one_call_scratch {
  matrix_view<T, L> dbase;  ///< [m, t] ∂L/∂(M x)
  layer_gradient_view<A> sums;
  workspace work;
  one_call_scratch(arena& memory, adapter_view<A const> const& a, index_t t, index_t bytes)
      : dbase(memory.matrix<T, L>(a.rows(), t)),
        sums(carve_layer_gradient(memory, a)),
        work{memory.array<std::byte>(bytes), bytes} {}
};

template <class Policy, class A, class Base, class DX, class T, class L, class DG>
void backward_of_one_call(Policy const& policy, adapter<A> const& a, Base& base, DX const& x,
                          one_call_result<A, T, L> const& f, DG const& dy, backward_result<A, T, L>& d) {
  auto const layer = f.layer.view(a.view());
  auto const tokens = as_view(x);
  auto const state = f.state.view();
  index_t const t = tokens.cols;
  require_base("backward", base, layer.adapter);
  require_shape("backward", "x", tokens, a.cols(), t);
  require_forward_result(f, layer.adapter, t);
  require_method("backward", "f", f.layer.scaled(), layer.adapter.scaled());
  require_equal("backward", "dy.rows", dy.rows(), a.rows());
  require_equal("backward", "dy.cols", dy.cols(), t);
  require_apart("backward", "x", tokens, "d", d);
  require_dx_apart(tokens, f, d.dx);
  require_base_apart("backward", base, "d", d);
  require_base_apart("backward", base, "dx", d.dx);
  index_t const bytes = (std::max)(backward_workspace(policy, layer, state), finish_workspace<T, L>(policy, layer));
  using pieces = one_call_scratch<A, T, L>;
  lent_workspace const memory(policy, workspace_size<pieces>(layer.adapter, t, bytes));
  auto const of = carve<pieces>("backward", memory, layer.adapter, t, bytes);
  as_eigen(of.dbase) = dy;  // ∂L/∂(M x) in place of a copy, which may be of an expression
  set_zero(cpu{}, of.sums);
  reshaped_gradient<A> const shapes(d, a);
  reshaped const dx(d.dx, a.cols(), t);
  backward(policy, layer, base, tokens, as_view(f.y), state, matrix_view<T const, L>(of.dbase), of.dbase, as_view(d.dx),
           of.sums, of.work);
  finish<T, L>(policy, layer, base, of.sums, as_view(d.dU), as_view(d.dV), as_vector_view(d.ds), of.work);
}

template <class A, class T, class L>
constexpr bool one_call_returned(one_call_result<A, T, L> const*) {
  return true;
}
/// What forward(a, base, x) returned, or made of it.
template <class F>
concept is_one_call_result = requires(F const* f) {
  one_call_returned(f);
};

}  // namespace detail

/// dx, dU, dV and ds from dy = ∂L/∂y and what forward(a, base, x) returned or refilled, into the memory of d. x and f
/// may not overlap it, which is checked; dy may. @see backward and finish with views.
template <execution_policy Policy, class A, class Base, class DX, class T, class L, class DG>
void backward(Policy const& policy, adapter<A> const& a, Base&& base, DX const& x, one_call_result<A, T, L> const& f,
              DG const& dy, backward_result<A, T, L>& d) {
  static_assert(detail::is_operator<Base>,
                "hoft::backward: a weight is given as hoft::dense(M), or as an operator of your own.");
  constexpr bool same_x = detail::same_storage<DX const, dense_matrix<T, L> const>;
  constexpr bool same_dy = detail::is_eigen<DG> && detail::has_elements<DG, T>;
  static_assert(same_x, "hoft::backward: x must have the element type and layout of the forward pass.");
  static_assert(same_dy || !same_x, "hoft::backward: dy must be an Eigen matrix with the element type of x.");
  detail::check_base<A, Base, T, L>();
  if constexpr (same_x && same_dy && detail::fits_base<A, Base, T, L>)
    detail::backward_of_one_call(policy, a, base, x, f, dy, d);
}
/// The same on one thread, with the policy cpu{}.
template <class A, class Base, class DX, class T, class L, class DG>
void backward(adapter<A> const& a, Base&& base, DX const& x, one_call_result<A, T, L> const& f, DG const& dy,
              backward_result<A, T, L>& d) {
  backward(cpu{}, a, base, x, f, dy, d);
}

/// The same as a value.
template <execution_policy Policy, class A, class Base, class DX, class T, class L, class DG>
[[nodiscard]] auto backward(Policy const& policy, adapter<A> const& a, Base&& base, DX const& x,
                            one_call_result<A, T, L> const& f, DG const& dy) {
  backward_result<A, T, L> d;
  backward(policy, a, base, x, f, dy, d);
  return d;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class Base, class DX, class T, class L, class DG>
[[nodiscard]] auto backward(adapter<A> const& a, Base&& base, DX const& x, one_call_result<A, T, L> const& f,
                            DG const& dy) {
  return backward(cpu{}, a, base, x, f, dy);
}

// What is refused in words, with and without a policy: a matrix or a form where the adapter must stand, and something
// else where backward wants what forward returned.
template <class Wrong = void>
auto forward(detail::no_adapter, detail::anything, detail::anything = {}, detail::anything = {}) {
  detail::refuse_adapter<Wrong>();
  return one_call_result<double, double, col_major>();
}
template <execution_policy Policy>
auto forward(Policy const&, detail::no_adapter, detail::anything, detail::anything = {}, detail::anything = {}) {
  detail::refuse_adapter<Policy>();
  return one_call_result<double, double, col_major>();
}
template <class Wrong = void>
auto backward(detail::no_adapter, detail::anything, detail::anything, detail::anything, detail::anything = {},
              detail::anything = {}) {
  detail::refuse_adapter<Wrong>();
  return backward_result<double, double, col_major>();
}
template <execution_policy Policy>
auto backward(Policy const&, detail::no_adapter, detail::anything, detail::anything, detail::anything,
              detail::anything = {}, detail::anything = {}) {
  detail::refuse_adapter<Policy>();
  return backward_result<double, double, col_major>();
}
template <class A, class Base, class DX, class F, class DG, class... Result>
requires(!detail::is_one_call_result<F>) auto backward(adapter<A> const&, Base&&, DX const&, F const&, DG const&,
                                                       Result&&...) {
  static_assert(detail::never<F>,
                "hoft::backward: backward(a, base, x, f, dy) takes as f what forward(a, base, x) returned; what "
                "forward(layer, x) returned goes with the layer: backward(layer, x, f, dy, g).");
  return backward_result<A, detail::value_of<DX const>, detail::layout_of<DX const>>();
}
template <execution_policy Policy, class A, class Base, class DX, class F, class DG, class... Result>
requires(!detail::is_one_call_result<F>) auto backward(Policy const&, adapter<A> const& a, Base&& base, DX const& x,
                                                       F const& f, DG const& dy, Result&&...) {
  return backward(a, base, x, f, dy);
}

}  // namespace HOFT_TARGET_NAMESPACE
