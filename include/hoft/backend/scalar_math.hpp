// SPDX-License-Identifier: BSD-3-Clause
// hoft/backend/scalar_math.hpp: arithmetic of accumulators, real and complex, on the host and in kernels. (A kernel
// cannot call the operators of std::complex.)
#pragma once
#include <hoft/core/scalar.hpp>

#include <cmath>
#include <limits>

namespace HOFT_TARGET_NAMESPACE::scalar_math {

template <class T>
HOFT_HOST_DEVICE constexpr T product(T const& a, T const& b) {
  if constexpr (is_complex<T>)
    return T(a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real());
  else return a * b;
}
template <class T>
HOFT_HOST_DEVICE constexpr T sum(T const& a, T const& b) {
  if constexpr (is_complex<T>) return T(a.real() + b.real(), a.imag() + b.imag());
  else return a + b;
}
template <class T>
HOFT_HOST_DEVICE constexpr T negative(T const& a) {
  if constexpr (is_complex<T>) return T(-a.real(), -a.imag());
  else return -a;
}
template <class T>
HOFT_HOST_DEVICE constexpr T multiply_add(T const& a, T const& b, T const& c) {
  return sum(product(a, b), c);
}
template <class T>
HOFT_HOST_DEVICE constexpr T quotient(T const& a, T const& b) {
  if constexpr (is_complex<T>) {  // scaled by the larger part of b: no square overflows that the result does not
    using real = real_t<T>;
    real const re = b.real(), im = b.imag();
    bool const wide = (re < 0 ? -re : re) >= (im < 0 ? -im : im);
    real const ratio = wide ? im / re : re / im, scale = wide ? re + im * ratio : re * ratio + im;
    return wide ? T((a.real() + a.imag() * ratio) / scale, (a.imag() - a.real() * ratio) / scale)
                : T((a.real() * ratio + a.imag()) / scale, (a.imag() * ratio - a.real()) / scale);
  } else {
    return a / b;
  }
}
template <class T>
HOFT_HOST_DEVICE constexpr T times_real(T const& a, real_t<T> s) {
  if constexpr (is_complex<T>) return T(a.real() * s, a.imag() * s);
  else return a * s;
}
template <class T>
HOFT_HOST_DEVICE constexpr T over_real(T const& a, real_t<T> s) {
  if constexpr (is_complex<T>) return T(a.real() / s, a.imag() / s);
  else return a / s;
}
/// a / s where 1 / s is at hand, rounded as a division is but for rare last bits: the rest of a product is exact.
template <class T>
HOFT_HOST_DEVICE T divided(T const& a, real_t<T> s, real_t<T> inverse) {
  if constexpr (is_complex<T>) {
    return T(divided(a.real(), s, inverse), divided(a.imag(), s, inverse));
  } else {
    using std::fma;
    T const q = a * inverse;
    return fma(fma(-q, s, a), inverse, q);
  }
}
template <class T>
HOFT_HOST_DEVICE constexpr T conjugate_if(bool conjugated, T const& a) {
  return conjugated ? conjugate(a) : a;
}
template <class T>
HOFT_HOST_DEVICE constexpr real_t<T> real_part(T const& a) {
  if constexpr (is_complex<T>) return a.real();
  else return a;
}
template <class T>
HOFT_HOST_DEVICE constexpr real_t<T> squared(T const& a) {
  if constexpr (is_complex<T>) return a.real() * a.real() + a.imag() * a.imag();
  else return a * a;
}
/// The larger magnitude of the parts; NaN if either is.
template <class T>
HOFT_HOST_DEVICE constexpr real_t<T> magnitude(T const& a) {
  if constexpr (is_complex<T>) {
    real_t<T> const re = magnitude(a.real()), im = magnitude(a.imag());
    return re > im || re != re ? re : im;  // NOLINT(misc-redundant-expression): NaN differs from itself
  } else {
    return a < T(0) ? -a : a;
  }
}

// Functions of the mathematical library, found on either side.
template <class R>
HOFT_HOST_DEVICE R square_root(R a) {
  using std::sqrt;
  return sqrt(a);
}
/// The power of two just below a > 0; 0 for 0, NaN for what is not finite.
template <class R>
HOFT_HOST_DEVICE R power_of_two_below(R a) {
  using std::ilogb, std::scalbn;
  if (a == R(0)) return R(0);
  if (!(a <= (std::numeric_limits<R>::max)())) return std::numeric_limits<R>::quiet_NaN();
  return scalbn(R(1), ilogb(a));
}

/// The larger of two numbers >= 0; NaN if one is.
template <class T>
HOFT_HOST_DEVICE constexpr T larger(T a, T b) {
  return a > b || a != a ? a : b;  // NOLINT(misc-redundant-expression): NaN differs from itself
}
/// Columns whose sum of squares is in this range need no scaling: what their small elements lose does not show.
template <class R>
HOFT_HOST_DEVICE constexpr bool is_safe_sum(R squares) {
  using limits = std::numeric_limits<R>;
  return squares >= (limits::min)() / (limits::epsilon() * limits::epsilon()) && squares <= (limits::max)();
}

}  // namespace HOFT_TARGET_NAMESPACE::scalar_math
