// SPDX-License-Identifier: BSD-3-Clause
// hoft/reference/reflectors.hpp: a product of reflectors applied one after another, by its definition.
// Nothing here is shared with the fast code, so that it can judge it.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/core/options.hpp>
#include <hoft/reference/arithmetic.hpp>
#include <hoft/view/eigen.hpp>

#include <Eigen/Core>

#include <concepts>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE::reference {

namespace detail {

/// Storage that outlives the call and may be written: a matrix that is not const, or a Block, Map or Ref of one.
template <class D>
concept writable_matrix = std::derived_from<std::remove_cvref_t<D>, Eigen::MatrixBase<std::remove_cvref_t<D>>> &&
                          !std::is_const_v<std::remove_reference_t<D>> &&
                          bool(Eigen::internal::is_lvalue<std::remove_cvref_t<D>>::value) &&
                          (std::is_lvalue_reference_v<D> || !hoft::detail::owns_elements<std::remove_cvref_t<D>>);

/// H_k = I − τ_k v_k v_kᴴ for k = 0 … count − 1.
template <class C>
struct reflectors {
  columns<C> vectors;
  column<C> tau;
  index_t count = 0;
};

/// From H(u) = I − 2 u uᴴ / (uᴴu). Zero columns are left out.
template <class C, class D>
reflectors<C> reflectors_of(Eigen::MatrixBase<D> const& U) {
  using R = real_of_t<C>;
  reflectors<C> H{converted<C>(U), column<C>(U.cols()), 0};
  for (index_t j = 0; j < U.cols(); ++j) {
    column<C> v = H.vectors.col(j);
    if (!scale_to_one(v)) continue;
    R square(0);
    for (index_t i = 0; i < v.size(); ++i) square += squared_magnitude(C(v(i)));
    H.vectors.col(H.count) = v;
    H.tau(H.count) = C(R(R(2) / square));
    ++H.count;
  }
  return H;
}

/// From LAPACK's unit lower trapezoidal V and tau.
template <class C, class DV, class Dt>
reflectors<C> reflectors_of(Eigen::MatrixBase<DV> const& V, Eigen::MatrixBase<Dt> const& tau) {
  reflectors<C> H{converted<C>(V), column<C>(V.cols()), V.cols()};
  columns<C> const scalars = converted<C>(tau);
  for (index_t k = 0; k < H.count; ++k) {
    H.tau(k) = scalars(k);
    C sum(H.tau(k));
    for (index_t i = 0; i < V.rows(); ++i) {
      if (i <= k) H.vectors(i, k) = C(i == k ? 1 : 0);
      else sum += H.vectors(i, k);
    }
    H.tau(k) += C(sum * C(0));  // 0 if all is finite, else NaN: an infinity must not come out as one
  }
  return H;
}

/// x := H x or Hᴴ x: the sum w = vᴴx, then x − τ w v.
template <class C>
void reflect(reflectors<C> const& H, index_t k, op o, column<C>& x) {
  C w(0);
  for (index_t i = 0; i < x.size(); ++i) w += C(conjugate_of(C(H.vectors(i, k))) * x(i));
  w *= o == op::plain ? C(H.tau(k)) : conjugate_of(C(H.tau(k)));
  for (index_t i = 0; i < x.size(); ++i) x(i) -= C(H.vectors(i, k) * w);
}

/// x := Q x or Qᴴ x, Q = H_0 ⋯ H_{count−1}.
template <class C>
void reflect(reflectors<C> const& H, op o, column<C>& x) {
  for (index_t k = 0; k < H.count; ++k) reflect(H, o == op::plain ? H.count - 1 - k : k, o, x);
}

template <class C, class D>
void reflect_columns(reflectors<C> const& H, Eigen::MatrixBase<D>& X, op o) {
  column<C> x(X.rows());
  for (index_t j = 0; j < X.cols(); ++j) {
    for (index_t i = 0; i < X.rows(); ++i) x(i) = static_cast<C>(X.coeff(i, j));
    reflect(H, o, x);
    for (index_t i = 0; i < X.rows(); ++i) X.coeffRef(i, j) = static_cast<typename D::Scalar>(x(i));
  }
}

/// X Q = (Qᴴ Xᴴ)ᴴ: the conjugated rows of X meet the adjoint from the left.
template <class C, class D>
void reflect_rows(reflectors<C> const& H, Eigen::MatrixBase<D>& X, op o) {
  column<C> x(X.cols());
  for (index_t i = 0; i < X.rows(); ++i) {
    for (index_t j = 0; j < X.cols(); ++j) x(j) = conjugate_of(static_cast<C>(X.coeff(i, j)));
    reflect(H, adjoint_of(o), x);
    for (index_t j = 0; j < X.cols(); ++j) X.coeffRef(i, j) = static_cast<typename D::Scalar>(conjugate_of(C(x(j))));
  }
}

template <class C, class D>
void reflect_matrix(reflectors<C> const& H, Eigen::MatrixBase<D>& X, side s, op o) {
  if (s == side::left) reflect_columns(H, X, o);
  else reflect_rows(H, X, o);
}

template <class C>
columns<C> product_of(reflectors<C> const& H, index_t m) {
  columns<C> Q(m, m);
  for (index_t j = 0; j < m; ++j)
    for (index_t i = 0; i < m; ++i) Q(i, j) = C(i == j ? 1 : 0);
  reflect_columns(H, Q, op::plain);
  return Q;
}

inline void require_order(char const* function, index_t got, side s, index_t rows, index_t cols) {
  hoft::detail::require_equal(function, s == side::left ? "X.rows" : "X.cols", s == side::left ? rows : cols, got);
}

inline void require_lapack_shapes(char const* function, index_t rows, index_t cols, index_t tau_rows,
                                  index_t tau_cols) {
  hoft::detail::require_at_most(function, "V.cols", cols, rows);
  if (tau_rows != 1) hoft::detail::require_equal(function, "tau.cols", tau_cols, 1);
  hoft::detail::require_equal(function, "tau.size", tau_rows * tau_cols, cols);
}

}  // namespace detail

/// X := Q X, Qᴴ X, X Q or X Qᴴ with Q = H(u₁) H(u₂) ⋯ H(u_r), H(u) = I − 2 u uᴴ / (uᴴu) and H(0) = I, one reflector
/// after another.
///
/// The scalar is any type with + − × ÷, < and ==: floating-point, std::complex, Eigen::half and Eigen::bfloat16
/// (computed in float, rounded once at the end), multiprecision and dual numbers. A complex type is one that
/// Eigen::NumTraits declares complex. X's type is the one computed in; U is converted to it.
///
/// @param U [m, r] In. The vectors as columns, of any length; any Eigen expression.
/// @param X [m, n] from the left, [n, m] from the right. In and out: a Matrix, Block, Map or Ref of any strides.
/// @param s the side of X on which Q stands.
/// @param o Q itself or its adjoint.
/// U and X may overlap: U is copied first.
/// @throws hoft::shape_error if X.rows() (left) or X.cols() (right) is not U.rows(); X is then as it was.
/// Cost: 4 m n r flops and a copy of U.
/// Accuracy: each column (row, from the right) x of X has an error of at most 4 r (m + 5) ε ‖x‖₂ to first order, ε the
/// epsilon of the type computed in; one more rounding for 16-bit X. Columns of U of any magnitude work: each is
/// divided by its largest element first. A NaN or an infinity in U makes all of X NaN; in X, it stays within its
/// column (row), as NaN or infinity. A zero column of U changes nothing (and has zero derivative).
/// Source: the definition; Golub and Van Loan, Matrix Computations, 4th ed., section 5.1.
template <class DU, class DX>
requires detail::writable_matrix<DX>
void apply(Eigen::MatrixBase<DU> const& U, DX&& X, side s = side::left, op o = op::plain) {
  using C = detail::computing_t<typename std::remove_cvref_t<DX>::Scalar>;
  detail::require_order("reference::apply", U.rows(), s, X.rows(), X.cols());
  detail::reflect_matrix(detail::reflectors_of<C>(U), X, s, o);
}

/// X := Q X, Qᴴ X, X Q or X Qᴴ with Q = H₁ H₂ ⋯ H_r, H_i = I − τ_i v_i v_iᴴ, in LAPACK's convention: what geqrf returns
/// and ormqr, unmqr, orgqr, ungqr take (LAPACK's names), also torch.linalg.householder_product.
///
/// @param V [m, r], r <= m. In. Unit lower trapezoidal: v_i has zeros above element i and 1 there, and only the strict
///   lower part of V is read.
/// @param tau [r], a column or a row. In. Any values: Q is orthogonal (unitary) only if |1 − τ_i ‖v_i‖²| = 1 for all i.
/// @param X [m, n] from the left, [n, m] from the right. In and out, as in the other overload.
/// @param s the side of X on which Q stands.
/// @param o Q itself or its adjoint; H_iᴴ has the conjugate of τ_i.
/// V, tau and X may overlap: V and tau are copied first.
/// @throws hoft::shape_error if V has more columns than rows, tau is not a vector of V.cols() elements, or X does not
///   fit V; X is then as it was.
/// Cost: 4 m n r flops and a copy of V.
/// Accuracy: reflector i adds an error of at most 2 (m + 5) ε |τ_i| ‖v_i‖² ‖x‖₂ to a column (row) x, to first order,
/// the later ones acting on it; 4 r (m + 5) ε ‖x‖₂ together where Q is orthogonal. The strict lower part of V is not
/// rescaled, its elements being at most 1 in size as geqrf returns them. A NaN or an infinity in it or in tau makes all
/// of X NaN. τ_i = 0 is the identity for finite X.
/// Source: LAPACK Users' Guide, 3rd ed., section 5.4.
template <class DV, class Dt, class DX>
requires detail::writable_matrix<DX>
void apply(Eigen::MatrixBase<DV> const& V, Eigen::MatrixBase<Dt> const& tau, DX&& X, side s = side::left,
           op o = op::plain) {
  using C = detail::computing_t<typename std::remove_cvref_t<DX>::Scalar>;
  detail::require_lapack_shapes("reference::apply", V.rows(), V.cols(), tau.rows(), tau.cols());
  detail::require_order("reference::apply", V.rows(), s, X.rows(), X.cols());
  detail::reflect_matrix(detail::reflectors_of<C>(V, tau), X, s, o);
}

/// Q = H(u₁) ⋯ H(u_r) as a dense matrix, by `apply` to the identity.
///
/// @param U [m, r] In. As in `apply`.
/// @return Q [m, m], column-major, in the type U is computed in (float for 16-bit U).
/// Cost: 4 m² r flops. Accuracy: as `apply`, each column of the identity having norm 1.
/// Source: the definition.
template <class DU>
[[nodiscard]] auto materialize(Eigen::MatrixBase<DU> const& U) {
  using C = detail::computing_t<typename DU::Scalar>;
  return detail::product_of(detail::reflectors_of<C>(U), U.rows());
}

/// Q = H₁ ⋯ H_r as a dense matrix, in LAPACK's convention: all m columns of what orgqr or ungqr gives.
///
/// @param V [m, r], r <= m. In. As in `apply`.
/// @param tau [r] In. As in `apply`; converted to V's type.
/// @return Q [m, m], column-major, in the type V is computed in (float for 16-bit V).
/// @throws hoft::shape_error if V has more columns than rows or tau is not a vector of V.cols() elements.
/// Cost: 4 m² r flops. Accuracy: as `apply`, each column of the identity having norm 1.
/// Source: the definition.
template <class DV, class Dt>
[[nodiscard]] auto materialize(Eigen::MatrixBase<DV> const& V, Eigen::MatrixBase<Dt> const& tau) {
  using C = detail::computing_t<typename DV::Scalar>;
  detail::require_lapack_shapes("reference::materialize", V.rows(), V.cols(), tau.rows(), tau.cols());
  return detail::product_of(detail::reflectors_of<C>(V, tau), V.rows());
}

}  // namespace HOFT_TARGET_NAMESPACE::reference
