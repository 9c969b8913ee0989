// SPDX-License-Identifier: BSD-3-Clause
// Floating point numbers where C++ has another meaning than PTX, or none: NaN as a device makes it, and the formats of
// 16 bits.
#pragma once
#include "common.hpp"

#include <bit>

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace emu {

inline float canonical(float x) { return x != x ? std::bit_cast<float>(0x7FFFFFFFu) : x; }
inline double canonical(double x) { return x; }

/// Bits of the bfloat16 of a float, to nearest or towards zero.
inline u32 to_bf16(float x, bool towards_zero) {
  u32 const bits = std::bit_cast<u32>(x);
  if (x != x) return 0x7FFF;
  return (towards_zero ? bits : bits + 0x7FFFu + (bits >> 16 & 1)) >> 16;
}
inline float from_bf16(u32 bits) { return std::bit_cast<float>(bits << 16); }

/// Bits of the half of a float without the processor's help.
inline u32 to_f16_by_hand(float x, bool towards_zero) {
  u32 const bits = std::bit_cast<u32>(x), sign = bits >> 16 & 0x8000, size = bits & 0x7FFFFFFF;
  if (size > 0x7F800000) return 0x7FFF;
  if (size == 0x7F800000) return sign | 0x7C00;
  if (size >= 0x47800000) return sign | (towards_zero ? 0x7BFF : 0x7C00);  // 2^16 and more
  // Beyond the last of eleven bits: thirteen of them, or more below 2^-14, where numbers lie 2^-24 apart.
  u32 const exponent = size >> 23, drop = exponent >= 113 ? 13 : 126 - exponent;
  if (drop > 25) return sign;
  u32 const whole = exponent >= 113 ? size - (112u << 23) : (size & 0x7FFFFF) | 0x800000;
  u32 const kept = whole >> drop, rest = whole & ((1u << drop) - 1), half = 1u << (drop - 1);
  bool const up = !towards_zero && (rest > half || (rest == half && (kept & 1) != 0));
  return sign | (kept + (up ? 1 : 0));  // carries into the exponent, and from the largest into infinity
}
inline float from_f16_by_hand(u32 bits) {
  u32 const sign = (bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3FF;
  if (exponent == 31)  // a NaN becomes quiet
    return std::bit_cast<float>(sign | 0x7F800000 | fraction << 13 | (fraction != 0 ? 0x400000 : 0));
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  float const size = float(fraction) * 0x1p-24f;
  return sign != 0 ? -size : size;
}

#if defined(__F16C__)
inline u32 to_f16(float x, bool towards_zero) {
  if (x != x) return 0x7FFF;
  return towards_zero ? _cvtss_sh(x, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC)
                      : _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline float from_f16(u32 bits) { return _cvtsh_ss(u16(bits)); }
#else
inline u32 to_f16(float x, bool towards_zero) { return to_f16_by_hand(x, towards_zero); }
inline float from_f16(u32 bits) { return from_f16_by_hand(bits); }
#endif

}  // namespace emu
