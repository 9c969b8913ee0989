// hoft/eigen/activations.hpp: HOFT and SHOFT on activations in Eigen storage.
#pragma once
#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/eigen/adapter.hpp>
#include <hoft/eigen/dense.hpp>
#include <hoft/eigen/merge.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// What a forward pass saves, owned.
template <class A, class T, class L>
struct saved_storage {
  dense_matrix<A> B;
  dense_matrix<A, L> v, w;
  dense_matrix<T, L> q;
  [[nodiscard]] saved_activations<A, T, L> view() { return {as_view(B), as_view(v), as_view(w), as_view(q)}; }
  [[nodiscard]] saved_activations<A const, T const, L> view() const {
    return {as_view(B), as_view(v), as_view(w), as_view(q)};
  }
};

template <class A, class T, class L>
struct forward_result {
  dense_matrix<T, L> y;  ///< [m, t]
  saved_storage<A, T, L> saved;
};

/// y = M̂ x = Q_U diag(s) M Q_V x for t tokens as the columns of x [n, t], with one call of the base operator on t + rv
/// columns. (x is copied to stand beside V, and row-major results are copied to drop its place: the form with views
/// saves both.) @see forward with views.
template <execution_policy Policy, class A, class Base, class DX>
[[nodiscard]] auto forward(Policy const& policy, adapter<A> const& a, Base&& base, DX const& x) {
  using T = detail::value_of<DX const>;
  using L = detail::layout_of<DX const>;
  static_assert(detail::is_operator<Base>,
                "hoft::forward: a weight is given as hoft::dense(M), or as an operator of your own.");
  auto const view = a.view();
  index_t const t = as_view(x).cols, ru = a.left().rank(), rv = a.right().rank();
  detail::require_equal("forward", "x.rows", x.rows(), a.cols());
  dense_matrix<T, L> tokens(a.cols(), t + rv);
  tokens.leftCols(t) = x;
  forward_result<A, T, L> f;
  f.y.resize(a.rows(), t + rv);
  f.saved.B.resize(a.rows(), rv);
  f.saved.v.resize(rv, t);
  f.saved.w.resize(ru, t);
  if (view.scaled()) f.saved.q.resize(a.rows(), t);
  forward(policy, view, base, as_view(tokens), as_view(f.y), f.saved.view(),
          detail::scratch(forward_workspace(policy, view, as_view(tokens))));
  f.y.keep_columns(t);
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

/// dx, dU, dV and ds from dy = ∂L/∂y and what forward(a, base, x) returned. @see backward with views.
template <execution_policy Policy, class A, class Base, class DX, class T, class L, class DG>
[[nodiscard]] auto backward(Policy const& policy, adapter<A> const& a, Base&& base, DX const& x,
                            forward_result<A, T, L> const& f, DG const& dy) {
  auto const view = a.view();
  index_t const t = as_view(x).cols, rv = a.right().rank();
  static_assert(detail::is_operator<Base>,
                "hoft::backward: a weight is given as hoft::dense(M), or as an operator of your own.");
  static_assert(std::same_as<detail::value_of<DX const>, T> && std::same_as<detail::layout_of<DX const>, L>,
                "hoft::backward: x must have the element type and layout of the forward pass.");
  static_assert(std::same_as<typename DG::Scalar, T>, "hoft::backward: dy must have the element type of x.");
  detail::require_equal("backward", "x.rows", x.rows(), a.cols());
  detail::require_equal("backward", "dy.rows", dy.rows(), a.rows());
  detail::require_equal("backward", "dy.cols", dy.cols(), t);
  dense_matrix<T, L> gradient(a.rows(), t + rv);
  gradient.leftCols(t) = dy;
  backward_result<A, T, L> g{detail::empty_gradient(a), dense_matrix<T, L>(a.cols(), t + rv)};
  auto const saved = f.saved.view();
  backward(policy, view, base, as_view(x), as_view(f.y), saved, as_view(gradient), as_view(g.dx), as_view(g.dU),
           as_view(g.dV), as_vector_view(g.ds), detail::scratch(backward_workspace(policy, view, saved)));
  g.dx.keep_columns(t);
  return g;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class Base, class DX, class T, class L, class DG>
[[nodiscard]] auto backward(adapter<A> const& a, Base&& base, DX const& x, forward_result<A, T, L> const& f,
                            DG const& dy) {
  return backward(cpu{}, a, base, x, f, dy);
}

}  // namespace HOFT_TARGET_NAMESPACE
