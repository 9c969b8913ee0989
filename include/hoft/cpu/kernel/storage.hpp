// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/storage.hpp: numbers in 16 bits, converted in registers as kernels load and store them. A panel that
// is met once or twice need not be copied to floats first.
#pragma once
#include <hoft/cpu/kernel/pairs.hpp>

#include <bit>
#include <cstring>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

#if defined(EIGEN_VECTORIZE_AVX512) || (defined(EIGEN_VECTORIZE_AVX) && defined(__F16C__))
#define HOFT_CONVERTS_HALF 1
#else
#define HOFT_CONVERTS_HALF 0
#endif

/// Whether vectors of S become vectors of floats, and back, by a few instructions.
template <class S>
inline constexpr bool has_conversion =
#if defined(__GNUC__) && HOFT_CONVERTS_HALF
    std::same_as<S, Eigen::bfloat16> || std::same_as<S, Eigen::half>;
#elif defined(__GNUC__)
    std::same_as<S, Eigen::bfloat16>;
#else
    false;
#endif

/// Kernels take panels of S as they lie, where they compute in T.
template <class S, class T>
inline constexpr bool converts = has_conversion<S>&& std::same_as<T, float>;

#if defined(__GNUC__)
/// As many whole numbers as a packet of floats has lanes.
using wide_bits [[gnu::vector_size(lanes<float> * sizeof(std::uint32_t))]] = std::uint32_t;
using narrow_bits [[gnu::vector_size(lanes<float> * sizeof(std::uint16_t))]] = std::uint16_t;

// What compilers make of conversions between these takes some shuffles more than the instructions for it. g++ 12 warns
// of its own header where they are called without a mask.

/// The given upper halves, with zeros below.
EIGEN_ALWAYS_INLINE wide_bits from_upper_halves(narrow_bits bits) {
#if defined(EIGEN_VECTORIZE_AVX512)
  return std::bit_cast<wide_bits>(_mm512_maskz_cvtepu16_epi32(0xffff, std::bit_cast<__m256i>(bits))) << 16;
#elif defined(EIGEN_VECTORIZE_AVX2)
  return std::bit_cast<wide_bits>(_mm256_slli_epi32(_mm256_cvtepu16_epi32(std::bit_cast<__m128i>(bits)), 16));
#elif defined(EIGEN_VECTORIZE_SSE2) && !defined(EIGEN_VECTORIZE_AVX)
  __m128i const low = _mm_cvtsi64_si128(std::bit_cast<long long>(bits));
  return std::bit_cast<wide_bits>(_mm_unpacklo_epi16(_mm_setzero_si128(), low));
#else
  return __builtin_convertvector(bits, wide_bits) << 16;
#endif
}
EIGEN_ALWAYS_INLINE narrow_bits upper_halves(wide_bits bits) {
#if defined(EIGEN_VECTORIZE_AVX512)
  return std::bit_cast<narrow_bits>(_mm512_maskz_cvtepi32_epi16(0xffff, std::bit_cast<__m512i>(bits >> 16)));
#elif defined(EIGEN_VECTORIZE_AVX2)
  __m256i const halves = _mm256_srli_epi32(std::bit_cast<__m256i>(bits), 16);
  return std::bit_cast<narrow_bits>(
      _mm_packus_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1)));
#elif defined(EIGEN_VECTORIZE_SSE2) && !defined(EIGEN_VECTORIZE_AVX)
  __m128i const halves = _mm_srai_epi32(std::bit_cast<__m128i>(bits), 16);  // with the sign that packing expects
  return std::bit_cast<narrow_bits>(static_cast<long long>(_mm_cvtsi128_si64(_mm_packs_epi32(halves, halves))));
#else
  return __builtin_convertvector(bits >> 16, narrow_bits);
#endif
}

/// Numbers in 16 bits as floats, and back, rounded to the nearest and to the even one of two, whatever the caller's
/// modes.
template <class S>
packet<float> widened(narrow_bits bits);
template <class S>
narrow_bits narrowed(packet<float> p);

/// bfloat16 is a float's upper half.
template <>
EIGEN_ALWAYS_INLINE packet<float> widened<Eigen::bfloat16>(narrow_bits bits) {
  return std::bit_cast<packet<float>>(from_upper_halves(bits));
}
template <>
EIGEN_ALWAYS_INLINE narrow_bits narrowed<Eigen::bfloat16>(packet<float> p) {
  auto const bits = std::bit_cast<wide_bits>(p);
#if HOFT_HAS_PAIRS
  // The instruction for it takes subnormal numbers for zeros. They are found by their bits: under denormals-are-zero
  // the instructions for floats would take them for zeros as well.
  auto const below = std::bit_cast<__m512i>((bits << 1) - 1u);  // the largest number for zero
  if (_mm512_cmplt_epu32_mask(below, _mm512_set1_epi32(0x00ffffff)) == 0) [[likely]]
    return std::bit_cast<narrow_bits>(_mm512_cvtneps_pbh(p));
#endif
  auto const nearest = bits + 0x7fffu + (bits >> 16 & 1u);
  auto const nan = bits | 0x00400000u;  // quiet, with the bits that it has, as the instruction leaves it
  auto const rounded = (bits & 0x7fffffffu) > 0x7f800000u ? nan : nearest;
  return upper_halves(rounded);
}

#if HOFT_CONVERTS_HALF
template <>
EIGEN_ALWAYS_INLINE packet<float> widened<Eigen::half>(narrow_bits bits) {
#if defined(EIGEN_VECTORIZE_AVX512)
  return _mm512_maskz_cvtph_ps(0xffff, std::bit_cast<__m256i>(bits));
#else
  return _mm256_cvtph_ps(std::bit_cast<__m128i>(bits));
#endif
}
template <>
EIGEN_ALWAYS_INLINE narrow_bits narrowed<Eigen::half>(packet<float> p) {
#if defined(EIGEN_VECTORIZE_AVX512)
  return std::bit_cast<narrow_bits>(_mm512_maskz_cvtps_ph(0xffff, p, _MM_FROUND_TO_NEAREST_INT));
#else
  return std::bit_cast<narrow_bits>(_mm256_cvtps_ph(p, _MM_FROUND_TO_NEAREST_INT));
#endif
}
#endif
#endif

/// Consecutive elements, as they are or converted.
template <class T, class S>
EIGEN_ALWAYS_INLINE packet<T> load_as(S const* from) {
  if constexpr (std::same_as<S, T>) {
    return load(from);
  } else if constexpr (std::same_as<S, bfloat16_pair>) {
    return load(reinterpret_cast<T const*>(from));
  } else {
    static_assert(converts<S, T>);
#if defined(__GNUC__)
    narrow_bits bits;
    std::memcpy(&bits, from, sizeof(bits));
    return widened<S>(bits);
#endif
  }
}
/// The first `count` elements, zeros behind them; nothing beyond is read.
template <class T, class S>
EIGEN_ALWAYS_INLINE packet<T> load_part_as(S const* from, index_t count) {
  if constexpr (std::same_as<S, T>) {
    return load_part(from, count);
  } else {
    alignas(64) S part[lanes<T>] = {};
    for (index_t i = 0; i < count; ++i) part[i] = from[i];
    return load_as<T>(part);
  }
}

/// A packet as consecutive elements, rounded where they are narrower.
template <class T, class S>
EIGEN_ALWAYS_INLINE void store_as(S* to, packet<T> const& p) {
  if constexpr (std::same_as<S, T>) {
    Eigen::internal::pstoreu(to, p);
  } else {
    static_assert(converts<S, T>);
#if defined(__GNUC__)
    narrow_bits const bits = narrowed<S>(p);
    std::memcpy(static_cast<void*>(to), &bits, sizeof(bits));
#endif
  }
}
/// Stores the first `count` elements; nothing beyond is written.
template <class T, class S>
EIGEN_ALWAYS_INLINE void store_part_as(S* to, packet<T> const& p, index_t count) {
  if constexpr (std::same_as<S, T>) {
    store_part(to, p, count);
  } else {
    alignas(64) S part[lanes<T>];
    store_as<T>(part, p);
    for (index_t i = 0; i < count; ++i) to[i] = part[i];
  }
}

/// Whether packets can be stored past the caches as elements of S.
template <class S>
inline constexpr bool has_stream_as =
#if defined(EIGEN_VECTORIZE_AVX512)
    has_stream<S> || has_conversion<S>;
#else
    has_stream<S>;
#endif
/// `store_as` past the caches; `to` is aligned to a whole vector of S.
template <class T, class S>
EIGEN_ALWAYS_INLINE void stream_as(S* to, packet<T> const& p) {
#if defined(__GNUC__) && defined(EIGEN_VECTORIZE_AVX512)
  if constexpr (has_conversion<S>)
    return _mm256_stream_si256(reinterpret_cast<__m256i*>(to), std::bit_cast<__m256i>(narrowed<S>(p)));
#endif
  if constexpr (std::same_as<S, T>) stream(to, p);
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
