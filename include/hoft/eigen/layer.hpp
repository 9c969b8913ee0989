// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/layer.hpp: bound layers, and HOFT and SHOFT on activations, in Eigen storage.
#pragma once
#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/bind.hpp>
#include <hoft/adapter/finish.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/eigen/adapter.hpp>
#include <hoft/eigen/dense.hpp>
#include <hoft/eigen/merge.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// What bind_layer makes, owned.
template <class A>
class layer_storage {
 public:
  layer_storage() = default;
  explicit layer_storage(adapter_view<A const> const& a) { reshape(a); }

  /// bind_layer for base operators on T and L, in the memory that this has where that is enough.
  template <class T, class L, class Policy, class Base>
  void bind(Policy const& policy, adapter_view<A const> const& a, Base& base) {
    detail::lent_workspace const work(policy, bind_workspace<T, L>(policy, a));
    bound_ = false;
    reshape(a);
    auto layer = with_scale<A>(a, as_view(B_), as_view(minus_K_), as_view(minus_scaled_K_), as_view(minus_UK_));
    bind_layer<T, L>(policy, a, base, layer, work);
    bound_ = true;
  }
  /// Calls refuse it until it is bound again.
  void unbind() noexcept { bound_ = false; }
  /// Of the adapter that it was bound to.
  [[nodiscard]] bound_layer_view<A const> view(adapter_view<A const> const& a) const {
    auto layer = with_scale<A const>(a, as_view(B_), as_view(minus_K_), as_view(minus_scaled_K_), as_view(minus_UK_));
    layer.bound = bound_;
    return layer;
  }

 private:
  void reshape(adapter_view<A const> const& a) {
    index_t const m = a.rows(), rv = a.right.rank();
    B_.resize(m, rv);
    minus_K_.resize(m, rv);
    minus_scaled_K_.resize(a.scaled() ? m : 0, a.scaled() ? rv : 0);
    minus_UK_.resize(a.left.blocks() == 1 ? a.left.rank() : 0, rv);
  }
  template <class E>
  static bound_layer_view<E> with_scale(adapter_view<A const> const& a, matrix_view<E> B, matrix_view<E> K,
                                        matrix_view<E> scaled_K, matrix_view<E> UK) {
    bound_layer_view<E> layer;
    layer.adapter = a, layer.B = B, layer.minus_K = K, layer.minus_UK = UK;
    layer.minus_scaled_K = a.scaled() ? scaled_K : K;
    return layer;
  }

  dense_matrix<A> B_, minus_K_, minus_scaled_K_, minus_UK_;
  bool bound_ = false;
};

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
/// What backward reads lies not in dx, if dx is to be refilled.
template <class X, class A, class T, class L, class DX>
void require_dx_apart(X x, forward_result<A, T, L> const& f, DX const& dx) {
  if constexpr (is_dense_matrix<DX>) {
    require_apart("backward", "x", x, "dx", dx);
    require_apart("backward", "f.y", as_view(f.y), "dx", dx);
    require_apart("backward", "f.state", as_view(f.state.v), "dx", dx);
    require_apart("backward", "f.state", as_view(f.state.w), "dx", dx);
    require_apart("backward", "f.state", as_view(f.state.q), "dx", dx);
  }
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

/// The element type on which a base operator is called if nothing else is said.
template <class Base, class A>
struct value_of_base {
  using type = A;
};
template <class Base, class A>
requires requires { typename Base::value_type; }
struct value_of_base<Base, A> {
  using type = typename Base::value_type;
};
/// The layout likewise.
template <class Base, class T>
using layout_of_base = std::conditional_t<base_operator<Base, T, col_major>, col_major, row_major>;

/// The base operator takes T and L, and an adapter of A adapts it.
template <class A, class Base, class T, class L>
inline constexpr bool fits_base =
    base_operator<std::remove_reference_t<Base>, T, L>&& std::same_as<accumulator_t<T>, A>;
/// What it must do, said in words before a call that would not be found.
template <class A, class Base, class T, class L>
constexpr void check_base() {
  static_assert(!is_operator<Base> || std::same_as<accumulator_t<T>, A>,
                "hoft: the adapter must hold the accumulator type of the activations x: adapter<float> for float, half "
                "and bfloat16, adapter<double> for double.");
  static_assert(
      !is_operator<Base> || !std::same_as<accumulator_t<T>, A> || base_operator<std::remove_reference_t<Base>, T, L>,
      "hoft: the base operator must have apply(X, Y) and apply_adjoint(X, Y) for the element type and layout "
      "of the activations x; that of dense(M) takes the element type of M.");
}

/// A base operator that is an lvalue is referred to, a temporary is kept.
template <class Base>
struct kept_base {
  Base value;
  Base& get() { return value; }
};
template <class Base>
struct kept_base<Base&> {
  Base* address;
  explicit kept_base(Base& base) : address(&base) {}
  Base& get() const { return *address; }
};

}  // namespace detail

/// An adapter bound to its weight: what `forward`, `backward` and `finish` take, made once in an optimiser step by
/// bind_layer. It owns the adapter. A base operator that was a named object is referred to and must outlive it; a
/// temporary, such as dense(M), is kept. T and L are what the base operator is called on with V̂ and ∂L/∂(M V̂).
template <class A, class T, class L, class Base>
class bound_layer {
 public:
  using value_type = T;
  using layout_type = L;
  using accumulator = A;

  template <execution_policy Policy>
  bound_layer(Policy const& policy, adapter<A> a, Base&& base)
      : adapter_(std::move(a)), base_{std::forward<Base>(base)} {
    if constexpr (detail::fits_base<A, Base, T, L>) parts_.template bind<T, L>(policy, adapter_.view(), base_.get());
  }

  [[nodiscard]] index_t rows() const { return adapter_.rows(); }  ///< m, of the weight
  [[nodiscard]] index_t cols() const { return adapter_.cols(); }  ///< n
  [[nodiscard]] adapter<A> const& bound_adapter() const { return adapter_; }
  [[nodiscard]] auto& base() const { return base_.get(); }

  /// For the calls that allocate nothing.
  [[nodiscard]] bound_layer_view<A const> view() const& { return parts_.view(adapter_.view()); }
  [[nodiscard]] bound_layer_view<A const> view() const&& = delete;  // would refer to a temporary

 private:
  template <execution_policy Policy, class A_, class T_, class L_, class B>
  friend void bind_layer(Policy const& policy, adapter<A_> const& a, bound_layer<A_, T_, L_, B>& layer);

  adapter<A> adapter_;
  mutable detail::kept_base<Base> base_;  // operators need not be const to be applied
  layer_storage<A> parts_;
};

/// The layer of an adapter and its weight, for one optimiser step: made anew after each change of U, V, s or the
/// weight. bind_layer<T, L>(a, base) says on what element type and layout the base operator is called, where
/// base.value_type and column-major layout (if the operator has it) are not what is wanted. @see bind_layer with views.
template <class T = void, class L = void, execution_policy Policy, class A, class Base>
[[nodiscard]] auto bind_layer(Policy const& policy, adapter<A> a, Base&& base) {
  static_assert(detail::is_operator<Base>,
                "hoft::bind_layer: a weight is given as hoft::dense(M), or as an operator of your own.");
  using operation = std::remove_reference_t<Base>;
  using value = std::conditional_t<std::is_void_v<T>, typename detail::value_of_base<operation, A>::type, T>;
  using layout = std::conditional_t<std::is_void_v<L>, detail::layout_of_base<operation, value>, L>;
  detail::check_base<A, Base, value, layout>();
  return bound_layer<A, value, layout, Base>(policy, std::move(a), std::forward<Base>(base));
}
/// The same on one thread, with the policy cpu{}.
template <class T = void, class L = void, class A, class Base>
[[nodiscard]] auto bind_layer(adapter<A> a, Base&& base) {
  return bind_layer<T, L>(cpu{}, std::move(a), std::forward<Base>(base));
}

/// Binds the layer anew, after a change of U, V, s or the weight, with a copy of `a` and the base that the layer has,
/// in the memory that it has where that is as large. What is refused changes nothing; what the base operator throws,
/// or memory that there is not, leaves the layer unbound. `a` may be layer.bound_adapter().
template <execution_policy Policy, class A, class T, class L, class Base>
void bind_layer(Policy const& policy, adapter<A> const& a, bound_layer<A, T, L, Base>& layer) {
  detail::require_adapter("bind_layer", detail::ranks_of(policy), a.view());
  detail::require_base("bind_layer", layer.base(), a.view());
  layer.parts_.unbind();
  layer.adapter_ = a;
  layer.parts_.template bind<T, L>(policy, layer.adapter_.view(), layer.base());
}
/// The same on one thread, with the policy cpu{}.
template <class A, class T, class L, class Base>
void bind_layer(adapter<A> const& a, bound_layer<A, T, L, Base>& layer) {
  bind_layer(cpu{}, a, layer);
}

namespace detail {

/// set_zero by its name, which a member of that name hides.
template <class A>
void clear_gradient(layer_gradient_view<A> const& g) {
  set_zero(cpu{}, g);
}

}  // namespace detail

/// The sums of a gradient over tokens, owned; zero when made.
template <accumulating A>
class layer_gradient {
 public:
  explicit layer_gradient(adapter_view<A const> const& a)
      : D_U_(a.rows(), a.left.rank()),
        dF_U_(a.left.block, a.left.rank()),
        E_U_(a.left.block, a.left.rank()),
        minus_dK_(a.rows(), a.right.rank()),
        D_V_(a.cols(), a.right.rank()),
        ds_(a.scaled() ? a.rows() : 0) {
    set_zero();
  }
  template <class T, class L, class Base>
  explicit layer_gradient(bound_layer<A, T, L, Base> const& layer) : layer_gradient(layer.bound_adapter().view()) {}

  /// At the start of an optimiser step.
  void set_zero() { detail::clear_gradient(view()); }
  [[nodiscard]] layer_gradient_view<A> view() {
    return {as_view(D_U_), as_view(dF_U_), as_view(E_U_), as_view(minus_dK_), as_view(D_V_), as_vector_view(ds_)};
  }
  [[nodiscard]] layer_gradient_view<A const> view() const {
    return {as_view(D_U_), as_view(dF_U_), as_view(E_U_), as_view(minus_dK_), as_view(D_V_), as_vector_view(ds_)};
  }

 private:
  dense_matrix<A> D_U_, dF_U_, E_U_, minus_dK_, D_V_;
  dense_vector<A> ds_;
};
template <class A, class T, class L, class Base>
layer_gradient(bound_layer<A, T, L, Base> const&) -> layer_gradient<A>;

/// y = M̂ x = Q_U diag(s) M Q_V x for t tokens as the columns of x [n, t]: Eigen storage, a Map or a Ref, or a
/// matrix_view, in the type and layout that the base operator takes; into the memory of f, which x may not overlap;
/// that is checked. @see forward with views.
template <execution_policy Policy, class A, class TB, class LB, class Base, class DX, class T, class L>
void forward(Policy const& policy, bound_layer<A, TB, LB, Base> const& layer, DX const& x, forward_result<A, T, L>& f) {
  detail::check_base<A, Base, detail::value_of<DX const>, detail::layout_of<DX const>>();
  constexpr bool same_x = detail::same_storage<DX const, dense_matrix<T, L> const>;
  static_assert(same_x, "hoft::forward: f must have the element type and layout of x.");
  auto const view = layer.view();
  auto const tokens = as_view(x);
  detail::require_shape("forward", "x", tokens, layer.cols(), tokens.cols);
  detail::require_apart("forward", "x", tokens, "f", f);
  if constexpr (same_x && detail::fits_base<A, Base, T, L>) {
    detail::lent_workspace const work(policy, forward_workspace(policy, view, tokens));
    detail::reshaped_forward const shapes(f, view.adapter, tokens.cols);
    forward(policy, view, layer.base(), tokens, as_view(f.y), f.state.view(), work);
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
/// overlap it, which is checked of a hoft::dense_matrix. @see backward with views.
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
    detail::require_dx_apart(tokens, f, dx);
    if constexpr (detail::is_dense_matrix<Out>) detail::require_apart("backward", "dy", output_gradient, "dx", dx);
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

// What is refused in words, with and without a policy: a matrix or a form where the adapter must stand, and something
// else where backward wants what forward returned.
template <class T = void, class L = void, class Base>
auto bind_layer(detail::no_adapter, Base&& base) {
  detail::refuse_adapter<Base>();
  return bind_layer(adapter<double>(cpu{}, dense_matrix<double>(), dense_matrix<double>()), std::forward<Base>(base));
}
template <class T = void, class L = void, execution_policy Policy, class Base>
auto bind_layer(Policy const&, detail::no_adapter a, Base&& base) {
  return bind_layer(a, std::forward<Base>(base));
}
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
