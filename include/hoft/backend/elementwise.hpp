// SPDX-License-Identifier: BSD-3-Clause
// hoft/backend/elementwise.hpp: what is done element by element, as function objects: f(i, j) changes one element and
// reads no other that changes. A loop calls them on the host, and a kernel on a GPU.
#pragma once
#include <hoft/backend/scalar_math.hpp>
#include <hoft/core/options.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_TARGET_NAMESPACE::backend {

using namespace scalar_math;

/// Y := X, converted by way of the accumulator.
template <class TX, class LX, class TY, class LY>
struct copy_element {
  matrix_view<TX, LX> X;
  matrix_view<TY, LY> Y;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    Y(i, j) = static_cast<TY>(static_cast<accumulator_t<TX>>(X(i, j)));
  }
};
/// X := value.
template <class T, class L>
struct fill_element {
  T value;
  matrix_view<T, L> X;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const { X(i, j) = value; }
};
/// X := value for several X, whose columns stand side by side.
template <class T, std::size_t N>
struct fill_each_element {
  T value;
  matrix_view<T> each[N];
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    for (std::size_t n = 0; n < N; j -= each[n++].cols)
      if (j < each[n].cols) {
        if (i < each[n].rows) each[n](i, j) = value;
        return;
      }
  }
};
/// D := diag(d).
template <class T>
struct diagonal_element {
  vector_view<T const> d;
  matrix_view<T> D;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const { D(i, j) = i == j ? d[i] : T(0); }
};
/// E := the first columns of the identity.
template <class T, class L>
struct identity_element {
  matrix_view<T, L> E;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    E(i, j) = static_cast<T>(accumulator_t<T>(i == j ? 1 : 0));
  }
};
/// Y := conj(X).
template <class TX, class LX, class T, class LY>
struct conjugate_element {
  matrix_view<TX, LX> X;
  matrix_view<T, LY> Y;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const { Y(i, j) = conjugate(T(X(i, j))); }
};
/// Y := Y + X.
template <class T, class L>
struct add_element {
  matrix_view<T const, L> X;
  matrix_view<T, L> Y;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const { Y(i, j) = sum(Y(i, j), X(i, j)); }
};
/// X := −X.
template <class T, class L>
struct negate_element {
  matrix_view<T, L> X;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const { X(i, j) = negative(X(i, j)); }
};
/// V := the unit lower trapezoid of A.
template <class TA, class LA, class T>
struct unit_lower_element {
  matrix_view<TA, LA> A;
  matrix_view<T> V;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    V(i, j) = i < j ? T(0) : i == j ? T(1) : static_cast<T>(A(i, j));
  }
};
/// dA := the strictly lower part of D.
template <class T, class TA, class LA>
struct strictly_lower_element {
  matrix_view<T const> D;
  matrix_view<TA, LA> dA;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const { dA(i, j) = static_cast<TA>(i > j ? D(i, j) : T(0)); }
};
/// A := striu(A).
template <class T>
struct strictly_upper_element {
  matrix_view<T> A;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    if (i >= j) A(i, j) = T(0);
  }
};
/// From a Gram matrix: A := striu(A), and tau_j := 2 / ‖u_j‖² if tau has a size, 0 for a zero column.
template <class T>
struct gram_element {
  matrix_view<T> A;
  vector_view<T> tau;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    if (i == j && tau.size > 0) {
      real_t<T> const square = real_part(A(j, j));
      tau[j] = square == real_t<T>(0) ? T(0) : T(real_t<T>(2) / square);
    }
    if (i >= j) A(i, j) = T(0);
  }
};
/// W := W + op(diag(tau))⁻¹ Z; rows with tau = 0 give zero.
template <class T, class L>
struct add_over_tau_element {
  vector_view<T const> tau;
  bool conjugated;
  matrix_view<T const, L> Z;
  matrix_view<T, L> W;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    T const t = conjugate_if(conjugated, T(tau[i]));
    W(i, j) = t == T(0) ? T(0) : sum(W(i, j), quotient(T(Z(i, j)), t));
  }
};
/// Y := diag(d) X, or conj(diag(d)) X.
template <class T, class L>
struct scale_row_element {
  vector_view<T const> d;
  bool conjugated;
  matrix_view<T const, L> X;
  matrix_view<T, L> Y;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    Y(i, j) = product(conjugate_if(conjugated, T(d[i])), T(X(i, j)));
  }
};
/// X := diag(d)⁻¹ X.
template <class A, class T, class L>
struct divide_row_element {
  vector_view<A const> d;
  matrix_view<T, L> X;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    X(i, j) = static_cast<T>(quotient(static_cast<A>(X(i, j)), A(d[i])));
  }
};

/// magnitude_i := s_i μ_i ν_i, norms as normalise_column leaves them; without s if it has no size.
template <class A, class S>
struct magnitude_element {
  matrix_view<real_t<A> const> norms;
  vector_view<A const> s;
  vector_view<S> magnitude;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t) const {
    real_t<A> const norm = norms(0, i) * norms(1, i);
    magnitude[i] = s.size > 0 ? times_real(A(s[i]), norm) : A(norm);
  }
};

}  // namespace HOFT_TARGET_NAMESPACE::backend
