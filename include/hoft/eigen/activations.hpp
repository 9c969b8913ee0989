// hoft/eigen/activations.hpp: HOFT and SHOFT on activations for one call, the layer bound on the way.
#pragma once
#include <hoft/eigen/layer.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// Of a forward pass that bound the adapter itself: the layer, for the backward pass.
template <class A, class T, class L>
struct one_call_result : forward_result<A, T, L> {
  layer_storage<A> layer;
};

/// y = M̂ x with a layer that is bound for this call. Of several calls in an optimiser step, or for one token at a time,
/// bind_layer once is cheaper: binding reads the weight. @see bind_layer, forward with views.
template <execution_policy Policy, class A, class Base, class DX>
[[nodiscard]] auto forward(Policy const& policy, adapter<A> const& a, Base&& base, DX const& x) {
  static_assert(detail::is_operator<Base>,
                "hoft::forward: a weight is given as hoft::dense(M), or as an operator of your own.");
  using T = detail::value_of<DX const>;
  using L = detail::layout_of<DX const>;
  auto const of = a.view();
  auto const tokens = as_view(x);
  detail::require_equal("forward", "x.rows", tokens.rows, a.cols());
  one_call_result<A, T, L> f{{dense_matrix<T, L>(a.rows(), tokens.cols), state_storage<A, T, L>(of, tokens.cols)},
                             layer_storage<A>(of)};
  auto layer = f.layer.view(of);
  bind_layer<T, L>(policy, of, base, layer, detail::scratch(bind_workspace<T, L>(policy, of)));
  forward(policy, layer, base, tokens, as_view(f.y), f.state.view(),
          detail::scratch(forward_workspace(policy, layer, tokens)));
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

/// dx, dU, dV and ds from dy = ∂L/∂y and what forward(a, base, x) returned. @see backward and finish with views.
template <execution_policy Policy, class A, class Base, class DX, class T, class L, class DG>
[[nodiscard]] auto backward(Policy const& policy, adapter<A> const& a, Base&& base, DX const& x,
                            one_call_result<A, T, L> const& f, DG const& dy) {
  static_assert(detail::is_operator<Base>,
                "hoft::backward: a weight is given as hoft::dense(M), or as an operator of your own.");
  static_assert(std::same_as<detail::value_of<DX const>, T> && std::same_as<detail::layout_of<DX const>, L>,
                "hoft::backward: x must have the element type and layout of the forward pass.");
  static_assert(std::same_as<typename DG::Scalar, T>, "hoft::backward: dy must have the element type of x.");
  auto const layer = f.layer.view(a.view());
  auto const tokens = as_view(x);
  auto const state = f.state.view();
  detail::require_equal("backward", "x.rows", tokens.rows, a.cols());
  detail::require_equal("backward", "dy.rows", dy.rows(), a.rows());
  detail::require_equal("backward", "dy.cols", dy.cols(), tokens.cols);
  dense_matrix<T, L> dbase = dy;  // ∂L/∂(M x) in place of a copy, which may be of an expression
  backward_result<A, T, L> d{detail::empty_gradient(a), dense_matrix<T, L>(a.cols(), tokens.cols)};
  layer_gradient<A> sums(layer.adapter);
  backward(policy, layer, base, tokens, as_view(f.y), state, as_view(dbase), as_view(dbase), as_view(d.dx), sums.view(),
           detail::scratch(backward_workspace(policy, layer, state)));
  finish<T, L>(policy, layer, base, sums.view(), as_view(d.dU), as_view(d.dV), as_vector_view(d.ds),
               detail::scratch(finish_workspace<T, L>(policy, layer)));
  return d;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class Base, class DX, class T, class L, class DG>
[[nodiscard]] auto backward(adapter<A> const& a, Base&& base, DX const& x, one_call_result<A, T, L> const& f,
                            DG const& dy) {
  return backward(cpu{}, a, base, x, f, dy);
}

}  // namespace HOFT_TARGET_NAMESPACE
