// SPDX-License-Identifier: BSD-3-Clause
// Loops over the lanes of a warp. On x86 the compiler makes vectors of them, of whatever width its flags allow; nothing
// here depends on one.
#pragma once
#include "machine.hpp"

#include <bit>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__clang__)
#define EMU_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define EMU_INDEPENDENT _Pragma("GCC ivdep")
#else
#define EMU_INDEPENDENT
#endif

namespace emu {

/// f(lane) for the lanes of a mask; nothing about one lane may depend on another.
template <class F>
inline void each_lane(u32 mask, F const& f) {
  if (mask == full_warp) {
    EMU_INDEPENDENT
    for (int lane = 0; lane < 32; ++lane) f(lane);
  } else {
    for (u32 left = mask; left != 0; left &= left - 1) f(std::countr_zero(left));
  }
}
/// The same, one lane after the other.
template <class F>
inline void each_lane_in_order(u32 mask, F const& f) {
  for (u32 left = mask; left != 0; left &= left - 1) f(std::countr_zero(left));
}

/// d := f(lane) for the lanes of a mask, computed for all: f must be harmless for any number.
template <class T, class F>
inline void assign(T* d, u32 mask, F const& f) {
  if (mask == full_warp) {
    EMU_INDEPENDENT
    for (int lane = 0; lane < 32; ++lane) d[lane] = f(lane);
  } else {
    T value[32];
    for (int lane = 0; lane < 32; ++lane) value[lane] = f(lane);
    for (int lane = 0; lane < 32; ++lane) d[lane] = (mask >> lane & 1) != 0 ? value[lane] : d[lane];
  }
}

/// Bit n of the answer: whether byte n, 0 or 1, is 1.
inline u32 gather_bits(u8 const (&bytes)[32]) {
#if defined(__AVX2__)
  __m256i const all = _mm256_load_si256(reinterpret_cast<__m256i const*>(bytes));
  return u32(_mm256_movemask_epi8(_mm256_sub_epi8(_mm256_setzero_si256(), all)));
#elif defined(__SSE2__)
  auto const half = [&](int n) {
    __m128i const some = _mm_load_si128(reinterpret_cast<__m128i const*>(bytes) + n);
    return u32(_mm_movemask_epi8(_mm_sub_epi8(_mm_setzero_si128(), some)));
  };
  return half(0) | half(1) << 16;
#else
  u32 bits = 0;
  for (int lane = 0; lane < 32; ++lane) bits |= u32(bytes[lane]) << lane;
  return bits;
#endif
}

/// Bit per lane of f(lane), computed for all.
template <class F>
inline u32 bits_of(F const& f) {
  alignas(32) u8 bytes[32];
  EMU_INDEPENDENT
  for (int lane = 0; lane < 32; ++lane) bytes[lane] = f(lane) ? 1 : 0;
  return gather_bits(bytes);
}

}  // namespace emu
