// SPDX-License-Identifier: BSD-3-Clause
// hoft/core/scalar.hpp: what counts as a scalar, and in which type it is computed.
#pragma once
#include <hoft/config.hpp>

#include <complex>
#include <concepts>
#include <limits>
#include <type_traits>

namespace HOFT_NAMESPACE {

/// Maps a storage type to the type it is computed in, and that type to its real type.
/// Specialise it for a 16-bit type of your own: `accumulator` is then `float`, and hoft converts panel by panel.
/// The primary template has no members: a type without a specialisation is no scalar to hoft.
template <class T>
struct scalar_traits {};

template <std::floating_point T>
struct scalar_traits<T> {
  using accumulator = T;
  using real = T;
};

template <std::floating_point T>
struct scalar_traits<std::complex<T>> {
  using accumulator = std::complex<T>;
  using real = T;
};

/// The type in which products with T are accumulated: float for 16-bit storage, T itself otherwise.
template <class T>
using accumulator_t = typename scalar_traits<std::remove_cv_t<T>>::accumulator;

/// The real type of the accumulator of T, the type of norms and errors.
template <class T>
using real_t = typename scalar_traits<accumulator_t<T>>::real;

/// Digits of a significand, the leading one included: 11 says half, 8 says bfloat16. 24 for a type that the standard
/// library knows nothing of; specialise it for a 16-bit type of your own without std::numeric_limits.
template <class T>
inline constexpr int significand_bits =
    std::numeric_limits<T>::is_specialized ? std::numeric_limits<T>::digits : std::numeric_limits<float>::digits;

/// A type that may be the element of a matrix given to hoft.
template <class T>
concept scalar = requires {
  typename scalar_traits<std::remove_cv_t<T>>::accumulator;
};

/// A scalar that is its own accumulator: the element type of everything hoft stores itself.
template <class T>
concept accumulating = scalar<T> && std::same_as<accumulator_t<T>, std::remove_cv_t<T>>;

template <class T>
inline constexpr bool is_complex = !std::same_as<std::remove_cv_t<T>, real_t<T>> && accumulating<T>;

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// Complex conjugate that stays in T (std::conj turns a real into a complex).
template <accumulating T>
HOFT_HOST_DEVICE constexpr T conjugate(T const& a) {
  if constexpr (is_complex<T>) return T(a.real(), -a.imag());
  else return a;
}

}  // namespace HOFT_TARGET_NAMESPACE
