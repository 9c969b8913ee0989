// SPDX-License-Identifier: BSD-3-Clause
// hoft/backend/random.hpp: standard Gaussian numbers by place, the same bits on every backend. No number comes from a
// library's log, cos or distribution, which differ: the functions here consist of operations that are rounded correctly
// everywhere (IEEE 754: + − × ÷ √ and fma). Where a product is added to something, fma is written out; no other sum
// has a product in it that a compiler could contract, but for products that are exact. Nothing is subnormal. Compiled
// for IEEE arithmetic, so without -ffast-math, and rounded to nearest.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/view/matrix_view.hpp>

#include <cmath>
#include <cstdint>

namespace HOFT_TARGET_NAMESPACE {

/// 128 bits, as a counter or as what is drawn at it.
struct philox_block {
  std::uint32_t word[4];
};

/// Philox4x32-10 at a counter. curand_init(key, c.word[2..3], 4 c.word[0..1]) on cuRAND's generator of that name draws
/// the same. Source: Salmon, Moraes, Dror, Shaw, SC 2011.
HOFT_HOST_DEVICE constexpr philox_block philox(philox_block c, std::uint64_t key) {
  std::uint32_t low = std::uint32_t(key), high = std::uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const a = std::uint64_t(0xD2511F53u) * c.word[0], b = std::uint64_t(0xCD9E8D57u) * c.word[2];
    c = {{std::uint32_t(b >> 32) ^ c.word[1] ^ low, std::uint32_t(b), std::uint32_t(a >> 32) ^ c.word[3] ^ high,
          std::uint32_t(a)}};
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  return c;
}

namespace detail {

// --- operations with one rounding, whatever the flags of a compiler for GPUs -------------------------------------

/// a b + c.
HOFT_HOST_DEVICE inline double multiply_add(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return std::fma(a, b, c);
#endif
}
HOFT_HOST_DEVICE inline double quotient(double a, double b) {
#if defined(__CUDA_ARCH__)
  return __ddiv_rn(a, b);
#else
  return a / b;
#endif
}
HOFT_HOST_DEVICE inline double square_root(double a) {
#if defined(__CUDA_ARCH__)
  return __dsqrt_rn(a);
#else
  return std::sqrt(a);
#endif
}

/// c₀ + c₁ z + c₂ z² + ⋯.
template <class... Rest>
HOFT_HOST_DEVICE double polynomial(double z, double c0, Rest... rest) {
  if constexpr (sizeof...(rest) == 0) return c0;
  else return multiply_add(polynomial(z, rest...), z, c0);
}

// --- elementary functions of an odd number of 53 bits -------------------------------------------------------------
//
// Polynomials are minimax for the relative error of the function. Before their coefficients are rounded they are off by
// less than u / 50, u = 2⁻⁵³.

/// 53 of the bits drawn, the last one set: 0 < n < 2⁵³, never a half or a quarter of 2⁵³.
HOFT_HOST_DEVICE constexpr std::int64_t odd_number(std::uint32_t low, std::uint32_t high) {
  return std::int64_t((std::uint64_t(high) << 32 | low) >> 11 | 1);
}

/// log(n / 2⁵³) within 2.7 u. With n / 2⁵³ = 2^e (1 + f), √½ < 1 + f < √2, and s = f / (2 + f), log(1 + f) is
/// 2 artanh(s) = 2 s + s R(s²) = f + s (R − f), of which the second summand is at most a fifth.
HOFT_HOST_DEVICE inline double log_of_part(std::int64_t n) {
  int e = -1;
  for (int shift = 32; shift > 0; shift /= 2)
    if (n >> (53 - shift) == 0) n <<= shift, e -= shift;
  bool const above = n > 0x16A09E667F3BCC;  // √2, with 52 bits behind the point
  double const f = double(n) * (above ? 0x1p-53 : 0x1p-52) - 1;
  double const exponent = above ? e + 1 : e;
  double const s = quotient(f, 2 + f), z = s * s;
  double const R_by_z =
      polynomial(z, 0x1.5555555555592p-1, 0x1.999999997fdddp-2, 0x1.24924941ef659p-2, 0x1.c71c520a9c012p-3,
                 0x1.74663eadb0f8ep-3, 0x1.39a1c01d38196p-3, 0x1.2f0531606ccf6p-3);
  double const log_1_f = multiply_add(s, multiply_add(z, R_by_z, -f), f);
  constexpr double log_2 = 0x1.62e42fefa39efp-1, log_2_rest = 0x1.abc9e3b39803fp-56;
  return multiply_add(exponent, log_2, multiply_add(exponent, log_2_rest, log_1_f));
}

/// cos and sin of an angle.
struct circle_point {
  double cos, sin;
};

/// cos and sin of n / 2⁵³ of a turn, within 2.4 u each, and never 0. The angle is q + x quarters of a turn, |x| ≤ ½.
HOFT_HOST_DEVICE inline circle_point at_part_of_turn(std::int64_t n) {
  std::int64_t const q = (n + (std::int64_t(1) << 50)) >> 51;
  double const x = double(n - (q << 51)) * 0x1p-51, z = x * x;
  constexpr double quarter = 0x1.921fb54442d18p+0, quarter_rest = 0x1.1a62633145c07p-54;  // π / 2
  double const sin_rest =
      polynomial(z, -0x1.4abbce625be53p-1, 0x1.466bc6775aadbp-4, -0x1.32d2cce62ade6p-8, 0x1.50783485eeb97p-13,
                 -0x1.e3074b7dfbb91p-19, 0x1.e8eef00ed428ep-25, -0x1.6c63cce66daa6p-31);
  double const cos_rest =
      polynomial(z, -0x1.3bd3cc9be45dep+0, 0x1.03c1f081b5ab0p-2, -0x1.55d3c7e3c95bcp-6, 0x1.e1f50683b436fp-11,
                 -0x1.a6d1ecb74807fp-16, 0x1.f9cc6ad5af450p-22, -0x1.b26fea0ec27f6p-28);
  double const sin_x = multiply_add(x, quarter, x * multiply_add(z, sin_rest, quarter_rest));
  double const cos_x = multiply_add(z, cos_rest, 1);
  bool const odd = (q & 1) != 0, behind = (q & 2) != 0;
  double const c = odd ? -sin_x : cos_x, s = odd ? cos_x : sin_x;
  return {behind ? -c : c, behind ? -s : s};
}

/// Two independent standard Gaussian numbers.
struct gaussian_pair {
  double first, second;
};

/// By Box and Muller: √(−2 log a) (cos 2πb, sin 2πb), with a and b odd multiples of 2⁻⁵³ below 1. At most 8.58, never
/// 0, within 6 u: half of 2.7 u and 1 u for the root, 2.4 u for the point, 1 u for the product.
HOFT_HOST_DEVICE inline gaussian_pair gaussians(philox_block const& drawn) {
  double const radius = square_root(-2 * log_of_part(odd_number(drawn.word[0], drawn.word[1])));
  circle_point const point = at_part_of_turn(odd_number(drawn.word[2], drawn.word[3]));
  return {radius * point.cos, radius * point.sin};
}

}  // namespace detail

/// Number (row, pair) of a seed: standard Gaussian, and independent of those of other places and seeds; real and
/// imaginary parts are standard Gaussian each. Types share one number, computed in double: float is double rounded,
/// 16-bit types are float rounded, and a real number is the real part of the complex one.
///
/// Accuracy: 6 u of double before T's rounding. The largest |number| is 8.57, none is 0 in double or float.
/// Source: Box, Muller 1958; Philox4x32-10 at the counter (row, pair).
template <scalar T>
HOFT_HOST_DEVICE T standard_gaussian(std::uint64_t seed, index_t row, index_t pair) {
  using A = accumulator_t<T>;
  using real = real_t<A>;
  philox_block const place{{std::uint32_t(row), std::uint32_t(std::uint64_t(row) >> 32), std::uint32_t(pair),
                            std::uint32_t(std::uint64_t(pair) >> 32)}};
  detail::gaussian_pair const numbers = detail::gaussians(philox(place, seed));
  if constexpr (is_complex<A>)
    return static_cast<T>(A(static_cast<real>(numbers.first), static_cast<real>(numbers.second)));
  else return static_cast<T>(static_cast<A>(numbers.first));
}

namespace detail {

/// Draws row i of column pair k of U, for a loop over rows and pairs. The column that ends an odd rank is zero.
template <class T, class L>
struct draw_pair {
  matrix_view<T, L> U;
  std::uint64_t seed;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t k) const {
    if (2 * k + 1 == U.cols) {
      U(i, 2 * k) = static_cast<T>(accumulator_t<T>(0));
    } else {
      U(i, 2 * k) = U(i, 2 * k + 1) = standard_gaussian<T>(seed, i, k);
    }
  }
};

}  // namespace detail

}  // namespace HOFT_TARGET_NAMESPACE
