// SPDX-License-Identifier: BSD-3-Clause
// hoft/reference/arithmetic.hpp: the few operations the reference needs, for any scalar that has + - * / and < ==.
// The rest of hoft asks for scalar_traits; the reference does not, so that multiprecision and autodiff types pass.
#pragma once
#include <hoft/view/eigen.hpp>
#include <hoft/view/matrix_view.hpp>

#include <Eigen/Core>

#include <cmath>
#include <complex>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE::reference::detail {

template <class T>
struct computing {
  using type = T;
};
template <scalar T>
struct computing<T> {
  using type = accumulator_t<T>;
};
/// The type T is computed in: float for 16-bit storage, T itself otherwise.
template <class T>
using computing_t = typename computing<std::remove_cv_t<T>>::type;

template <class C>
struct widened {
  using type = C;
};
template <>
struct widened<float> {
  using type = double;
};
template <>
struct widened<std::complex<float>> {
  using type = std::complex<double>;
};
/// The type in which T is measured: at least double, so that the measure's own rounding stays out of the picture.
template <class T>
using measuring_t = typename widened<computing_t<T>>::type;

// Eigen::NumTraits decides what is complex: a member real() does not (every Boost number has one).
template <class C>
inline constexpr bool is_complex_number = bool(Eigen::NumTraits<C>::IsComplex);

template <class C>
using real_of_t = typename Eigen::NumTraits<C>::Real;

/// The real type of T's computing type: what the measures return.
template <class T>
using measure_t = real_of_t<computing_t<T>>;

// Results are constructed in their own type, never kept as `auto`: multiprecision operators may return expressions
// that refer to temporaries. Functions are called unqualified, so that a type brings its own.

template <class C>
real_of_t<C> real_part(C const& a) {
  if constexpr (is_complex_number<C>) return real_of_t<C>(real(a));
  else return a;
}

template <class C>
real_of_t<C> imaginary_part(C const& a) {
  if constexpr (is_complex_number<C>) return real_of_t<C>(imag(a));
  else return real_of_t<C>(0);
}

template <class C>
C conjugate_of(C const& a) {
  if constexpr (is_complex_number<C>) return C(conj(a));
  else return a;
}

template <class R>
R absolute(R const& a) {
  return a < R(0) ? R(-a) : a;
}

template <class R>
R square_root(R const& a) {
  using std::sqrt;
  return R(sqrt(a));
}

template <class C>
real_of_t<C> squared_magnitude(C const& a) {
  using R = real_of_t<C>;
  R const x = real_part(a);
  if constexpr (is_complex_number<C>) {
    R const y = imaginary_part(a);
    return R(x * x + y * y);
  } else {
    return R(x * x);
  }
}

/// max(|Re a|, |Im a|): a magnitude that cannot overflow.
template <class C>
real_of_t<C> largest_part(C const& a) {
  using R = real_of_t<C>;
  R const x = absolute(real_part(a));
  if constexpr (is_complex_number<C>) {
    R const y = absolute(imaginary_part(a));
    return x < y ? y : x;
  } else {
    return x;
  }
}

/// a / s with a real divisor, part by part: complex division by a tiny s may overflow on the way.
template <class C>
C divided(C const& a, real_of_t<C> const& s) {
  using R = real_of_t<C>;
  if constexpr (is_complex_number<C>) return C(R(real_part(a) / s), R(imaginary_part(a) / s));
  else return C(a / s);
}

template <class R>
bool finite(R const& a) {
  return R(a - a) == R(0);  // NOLINT(misc-redundant-expression): NaN for infinities and NaN, in every number type
}

// Not aligned by Eigen, which does it as the instruction set says, under names that all sources of a program share.
template <class C>
using column = Eigen::Matrix<C, Eigen::Dynamic, 1, Eigen::ColMajor | Eigen::DontAlign>;
template <class C>
using columns = Eigen::Matrix<C, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor | Eigen::DontAlign>;

/// v := v / max_i |v_i|, so that squares neither overflow nor vanish. False, and v as it was, for a zero vector.
/// A NaN or an infinity in v leaves at least one NaN in it.
template <class C>
bool scale_to_one(column<C>& v) {
  using R = real_of_t<C>;
  R scale(0);
  bool zero = true;
  for (index_t i = 0; i < v.size(); ++i) {
    R const a = largest_part(C(v(i)));
    if (!(a == R(0))) zero = false;  // also for NaN, which no comparison below would notice
    if (scale < a) scale = a;
  }
  if (zero) return false;
  for (index_t i = 0; i < v.size(); ++i) v(i) = divided(C(v(i)), scale);
  return true;
}

/// The elements of A in the type they are computed or measured in; copies, so that outputs may overlap A.
template <class C, class D>
columns<C> converted(Eigen::MatrixBase<D> const& A) {
  static_assert(std::is_constructible_v<C, typename D::Scalar>,
                "hoft::reference: an argument's element type cannot be converted to the type computed in "
                "(a complex U or tau with a real X?).");
  columns<typename D::Scalar> const evaluated = A;  // products have no coefficients
  columns<C> B(evaluated.rows(), evaluated.cols());
  for (index_t j = 0; j < B.cols(); ++j)
    for (index_t i = 0; i < B.rows(); ++i) B(i, j) = static_cast<C>(evaluated(i, j));
  return B;
}

}  // namespace HOFT_TARGET_NAMESPACE::reference::detail
