// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/bound_layer.hpp: an adapter bound to its weight, and the sums of its gradient, in Eigen storage.
#pragma once
#include <hoft/adapter/bind.hpp>
#include <hoft/eigen/adapter.hpp>
#include <hoft/eigen/dense.hpp>

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
  /// Of SHOFT.
  [[nodiscard]] bool scaled() const { return minus_scaled_K_.rows() > 0; }
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

namespace detail {

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

// What is refused in words, with and without a policy: a matrix or a form where the adapter must stand.
template <class T = void, class L = void, class Base>
auto bind_layer(detail::no_adapter, Base&& base) {
  detail::refuse_adapter<Base>();
  return bind_layer(adapter<double>(cpu{}, dense_matrix<double>(), dense_matrix<double>()), std::forward<Base>(base));
}
template <class T = void, class L = void, execution_policy Policy, class Base>
auto bind_layer(Policy const&, detail::no_adapter a, Base&& base) {
  return bind_layer(a, std::forward<Base>(base));
}

}  // namespace HOFT_TARGET_NAMESPACE
