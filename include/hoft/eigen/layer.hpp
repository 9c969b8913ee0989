// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/layer.hpp: HOFT and SHOFT on activations through a bound layer, in Eigen storage.
#pragma once
#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/finish.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/eigen/bound_layer.hpp>
#include <hoft/eigen/merge.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// What a forward pass leaves for its backward pass, owned.
template <class A, class T, class L>
struct state_storage {
  dense_matrix<A, L> v, w;
  dense_matrix<T, L> q;

  state_storage() = default;
  state_storage(adapter_view<A const> const& a, index_t t)
      : v(a.right.rank(), t), w(a.left.rank(), t), q(a.scaled() ? a.rows() : 0, a.scaled() ? t : 0) {}
  [[nodiscard]] layer_state<A, T, L> view() { return {as_view(v), as_view(w), as_view(q)}; }
  [[nodiscard]] layer_state<A const, T const, L> view() const { return {as_view(v), as_view(w), as_view(q)}; }
};

/// Of a forward pass with a bound layer.
template <class A, class T, class L>
struct forward_result {
  dense_matrix<T, L> y;  ///< [m, t]
  state_storage<A, T, L> state;
};

namespace detail {

/// y and the state have the shapes for t tokens.
template <class A, class T, class L>
struct reshaped_forward {
  reshaped<T, L, Eigen::Dynamic> y, q;
  reshaped<A, L, Eigen::Dynamic> v, w;
  reshaped_forward(forward_result<A, T, L>& f, adapter_view<A const> const& a, index_t t)
      : y(f.y, a.rows(), t),
        q(f.state.q, a.scaled() ? a.rows() : 0, a.scaled() ? t : 0),
        v(f.state.v, a.right.rank(), t),
        w(f.state.w, a.left.rank(), t) {}
};
template <class View, class A, class T, class L>
void require_apart(char const* function, char const* argument, View input, char const*,
                   forward_result<A, T, L> const& f) {
  require_apart(function, argument, input, "f.y", f.y);
  require_apart(function, argument, input, "f.state", f.state.v);
  require_apart(function, argument, input, "f.state", f.state.w);
  require_apart(function, argument, input, "f.state", f.state.q);
}
/// The weight that a base operator says it reads is in no memory of a result.
template <class T, class LM, class Result>
void require_weight_apart(char const* function, matrix_view<T, LM> weight, char const* name, Result const& result) {
  require_apart(function, "the weight of the base", weight, name, result);
}
template <class Base, class Result>
void require_base_apart(char const* function, Base const& base, char const* name, Result const& result) {
  if constexpr (requires { require_weight_apart(function, base.weight(), name, result); })
    require_weight_apart(function, base.weight(), name, result);
}
/// What backward reads lies not in dx.
template <class X, class A, class T, class L, class DX>
void require_dx_apart(X x, forward_result<A, T, L> const& f, DX const& dx) {
  require_apart("backward", "x", x, "dx", dx);
  require_apart("backward", "f.y", as_view(f.y), "dx", dx);
  require_apart("backward", "f.state", as_view(f.state.v), "dx", dx);
  require_apart("backward", "f.state", as_view(f.state.w), "dx", dx);
  require_apart("backward", "f.state", as_view(f.state.q), "dx", dx);
}
/// f is what a forward pass with these ranks, on as many tokens as x has, returned.
template <class A, class T, class L>
void require_forward_result(forward_result<A, T, L> const& f, adapter_view<A const> const& a, index_t tokens) {
  auto const require = [](index_t got, index_t expected, char const* what) {
    require_count("backward", "f", got, expected, what);
  };
  require(f.y.rows(), a.rows(), outputs_of);
  require(f.state.w.rows(), a.left.rank(), on_the_left);
  require(f.state.v.rows(), a.right.rank(), on_the_right);
  require(f.y.cols(), tokens, "tokens");
  if (f.state.q.rows() > 0) require_method("backward", "f", true, a.scaled());
}
/// The same where nothing but q says of which method f is: that of SHOFT has it.
template <class A, class T, class L>
void require_bound_result(forward_result<A, T, L> const& f, adapter_view<A const> const& a, index_t tokens) {
  require_forward_result(f, a, tokens);
  if (tokens > 0 && a.scaled()) require_method("backward", "f", f.state.q.rows() > 0, true);
}

template <class A, class T, class L>
constexpr bool forward_returned(forward_result<A, T, L> const*) {
  return true;
}
/// What forward(layer, x) returned, or made of it.
template <class F>
concept is_forward_result = requires(F const* f) {
  forward_returned(f);
};

}  // namespace detail

/// y = M̂ x = Q_U diag(s) M Q_V x for t tokens as the columns of x [n, t]: Eigen storage, a Map or a Ref, or a
/// matrix_view, in the type and layout that the base operator takes; into the memory of f, which x may not overlap;
/// that is checked. Where the base throws, or memory ends, f is empty. @see forward with views.
template <execution_policy Policy, class A, class TB, class LB, class Base, class DX, class T, class L>
void forward(Policy const& policy, bound_layer<A, TB, LB, Base> const& layer, DX const& x, forward_result<A, T, L>& f) {
  detail::check_base<A, Base, detail::value_of<DX const>, detail::layout_of<DX const>>();
  constexpr bool same_x = detail::same_storage<DX const, dense_matrix<T, L> const>;
  static_assert(same_x, "hoft::forward: f must have the element type and layout of x.");
  auto const view = layer.view();
  auto const tokens = as_view(x);
  detail::require_shape("forward", "x", tokens, layer.cols(), tokens.cols);
  detail::require_apart("forward", "x", tokens, "f", f);
  detail::require_base_apart("forward", layer.base(), "f", f);
  if constexpr (same_x && detail::fits_base<A, Base, T, L>) {
    try {
      detail::lent_workspace const work(policy, forward_workspace(policy, view, tokens));
      detail::reshaped_forward const shapes(f, view.adapter, tokens.cols);
      forward(policy, view, layer.base(), tokens, as_view(f.y), f.state.view(), work);
    } catch (...) {  // no backward pass takes a y and a state of different tokens
      f = {};
      throw;
    }
  }
}
/// The same on one thread, with the policy cpu{}.
template <class A, class TB, class LB, class Base, class DX, class T, class L>
void forward(bound_layer<A, TB, LB, Base> const& layer, DX const& x, forward_result<A, T, L>& f) {
  forward(cpu{}, layer, x, f);
}

/// The same as a value.
template <execution_policy Policy, class A, class T, class L, class Base, class DX>
[[nodiscard]] auto forward(Policy const& policy, bound_layer<A, T, L, Base> const& layer, DX const& x) {
  forward_result<A, detail::value_of<DX const>, detail::layout_of<DX const>> f;
  forward(policy, layer, x, f);
  return f;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class T, class L, class Base, class DX>
[[nodiscard]] auto forward(bound_layer<A, T, L, Base> const& layer, DX const& x) {
  return forward(cpu{}, layer, x);
}

namespace detail {

/// ∂L/∂(M x) and a workspace, in one piece of memory.
template <class T, class L>
struct backward_scratch {
  matrix_view<T, L> dbase;
  workspace work;
  backward_scratch(arena& memory, index_t m, index_t t, index_t bytes)
      : dbase(memory.matrix<T, L>(m, t)), work{memory.array<std::byte>(bytes), bytes} {}
};

}  // namespace detail

/// dx := ∂L/∂x from dy = ∂L/∂y and what forward(layer, x) returned or refilled; the sums of these tokens are added to
/// g. dx has the layout of x, and its shape unless it is a hoft::dense_matrix, which takes it; none of the others may
/// overlap it; that is checked. @see backward with views.
template <execution_policy Policy, class A, class TB, class LB, class Base, class DX, class T, class L, class DG,
          class Out>
void backward(Policy const& policy, bound_layer<A, TB, LB, Base> const& layer, DX const& x,
              forward_result<A, T, L> const& f, DG const& dy, layer_gradient<A>& g, Out&& dx) {
  constexpr bool same_x = detail::same_storage<DX const, dense_matrix<T, L> const>;
  constexpr bool same_dy = detail::same_storage<DG const, dense_matrix<T, L> const>;
  constexpr bool same_dx = detail::same_storage<Out, dense_matrix<T, L>>;
  static_assert(same_x, "hoft::backward: x must have the element type and layout of the forward pass.");
  static_assert(same_dy || !same_x, "hoft::backward: dy must have the element type and layout of x.");
  static_assert(same_dx || !same_x, "hoft::backward: dx must have the element type and layout of x.");
  if constexpr (same_x && same_dy && same_dx) {
    auto const view = layer.view();
    auto const tokens = as_view(x);
    auto const output_gradient = as_view(dy);
    auto const state = f.state.view();
    detail::require_shape("backward", "x", tokens, layer.cols(), tokens.cols);
    detail::require_bound_result(f, view.adapter, tokens.cols);
    detail::require_dx_apart(tokens, f, detail::memory_of(dx));
    detail::require_apart("backward", "dy", output_gradient, "dx", detail::memory_of(dx));
    detail::require_base_apart("backward", layer.base(), "dx", detail::memory_of(dx));
    using pieces = detail::backward_scratch<T, L>;
    index_t const m = layer.rows(), t = tokens.cols, bytes = backward_workspace(policy, view, state);
    detail::lent_workspace const memory(policy, detail::workspace_size<pieces>(m, t, bytes));
    auto const of = detail::carve<pieces>("backward", memory, m, t, bytes);
    [[maybe_unused]] auto const shape = detail::with_shape(dx, layer.cols(), t);
    backward(policy, view, layer.base(), tokens, as_view(f.y), state, output_gradient, of.dbase,
             detail::as_output<Out>(dx), g.view(), of.work);
  }
}
/// The same on one thread, with the policy cpu{}.
template <class A, class TB, class LB, class Base, class DX, class T, class L, class DG, class Out>
void backward(bound_layer<A, TB, LB, Base> const& layer, DX const& x, forward_result<A, T, L> const& f, DG const& dy,
              layer_gradient<A>& g, Out&& dx) {
  backward(cpu{}, layer, x, f, dy, g, std::forward<Out>(dx));
}

/// The same, dx returned.
template <execution_policy Policy, class A, class TB, class LB, class Base, class DX, class T, class L, class DG>
[[nodiscard]] dense_matrix<T, L> backward(Policy const& policy, bound_layer<A, TB, LB, Base> const& layer, DX const& x,
                                          forward_result<A, T, L> const& f, DG const& dy, layer_gradient<A>& g) {
  dense_matrix<T, L> dx;
  backward(policy, layer, x, f, dy, g, dx);
  return dx;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class TB, class LB, class Base, class DX, class T, class L, class DG>
[[nodiscard]] dense_matrix<T, L> backward(bound_layer<A, TB, LB, Base> const& layer, DX const& x,
                                          forward_result<A, T, L> const& f, DG const& dy, layer_gradient<A>& g) {
  return backward(cpu{}, layer, x, f, dy, g);
}

namespace detail {

/// Sums that finish may overwrite, and a workspace, in one piece of memory.
template <class A>
struct finish_scratch {
  layer_gradient_view<A> sums;
  workspace work;
  finish_scratch(arena& memory, adapter_view<A const> const& a, index_t bytes)
      : sums(carve_layer_gradient(memory, a)), work{memory.array<std::byte>(bytes), bytes} {}
};

/// to := from, of the same extents.
template <class A>
void copy_sums(layer_gradient_view<A const> const& from, layer_gradient_view<A> const& to) {
  as_eigen(to.D_U) = as_eigen(from.D_U), as_eigen(to.dF_U) = as_eigen(from.dF_U);
  as_eigen(to.E_U) = as_eigen(from.E_U), as_eigen(to.minus_dK) = as_eigen(from.minus_dK);
  as_eigen(to.D_V) = as_eigen(from.D_V), as_eigen(to.ds) = as_eigen(from.ds);
}

}  // namespace detail

/// dU, dV and ds from the sums of all tokens of a step, into the memory of d. g stays as it is. @see finish with views.
template <execution_policy Policy, class A, class T, class L, class Base>
void finish(Policy const& policy, bound_layer<A, T, L, Base> const& layer, layer_gradient<A> const& g,
            adapter_gradient<A>& d) {
  auto const view = layer.view();
  auto const sums = g.view();
  detail::require_layer_gradient("finish", view.adapter, sums);
  detail::require_base_apart("finish", layer.base(), "d", d);
  using pieces = detail::finish_scratch<A>;
  index_t const bytes = finish_workspace<T, L>(policy, view);
  detail::lent_workspace const memory(policy, detail::workspace_size<pieces>(view.adapter, bytes));
  auto const of = detail::carve<pieces>("finish", memory, view.adapter, bytes);
  detail::copy_sums(sums, of.sums);
  detail::reshaped_gradient const shapes(d, layer.bound_adapter());
  finish<T, L>(policy, view, layer.base(), of.sums, as_view(d.dU), as_view(d.dV), as_vector_view(d.ds), of.work);
}
/// The same on one thread, with the policy cpu{}.
template <class A, class T, class L, class Base>
void finish(bound_layer<A, T, L, Base> const& layer, layer_gradient<A> const& g, adapter_gradient<A>& d) {
  finish(cpu{}, layer, g, d);
}

/// The same as a value.
template <execution_policy Policy, class A, class T, class L, class Base>
[[nodiscard]] adapter_gradient<A> finish(Policy const& policy, bound_layer<A, T, L, Base> const& layer,
                                         layer_gradient<A> const& g) {
  adapter_gradient<A> d;
  finish(policy, layer, g, d);
  return d;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class T, class L, class Base>
[[nodiscard]] adapter_gradient<A> finish(bound_layer<A, T, L, Base> const& layer, layer_gradient<A> const& g) {
  return finish(cpu{}, layer, g);
}

// What is refused in words, with and without a policy: something else where backward wants what forward returned.
template <class A, class TB, class LB, class Base, class DX, class F, class DG, class... Out>
requires(!detail::is_forward_result<F>) auto backward(bound_layer<A, TB, LB, Base> const& layer, DX const&, F const&,
                                                      DG const&, layer_gradient<A>&, Out&&...) {
  static_assert(detail::never<F>,
                "hoft::backward: backward(layer, x, f, dy, g) takes as f what forward(layer, x) returned.");
  return dense_matrix<detail::value_of<DX const>, detail::layout_of<DX const>>(layer.cols(), 0);
}
template <execution_policy Policy, class A, class TB, class LB, class Base, class DX, class F, class DG, class... Out>
requires(!detail::is_forward_result<F>) auto backward(Policy const&, bound_layer<A, TB, LB, Base> const& layer,
                                                      DX const& x, F const& f, DG const& dy, layer_gradient<A>& g,
                                                      Out&&...) {
  return backward(layer, x, f, dy, g);
}

}  // namespace HOFT_TARGET_NAMESPACE
