// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/pairs.hpp: pairs of bfloat16. One instruction adds both products of two pairs to a float; another
// multiplies tiles of pairs.
#pragma once
#include <hoft/cpu/kernel/packet.hpp>

#include <bit>
#include <cstdint>

#if defined(__GNUC__) && defined(EIGEN_VECTORIZE_AVX512) && defined(__AVX512BF16__)
#define HOFT_HAS_PAIRS 1
#else
#define HOFT_HAS_PAIRS 0
#endif

// __AMXBF16__ is how older clang spells it.
#if HOFT_HAS_PAIRS && defined(__linux__) && defined(__LP64__) && (defined(__AMX_BF16__) || defined(__AMXBF16__))
#define HOFT_HAS_PAIR_TILES 1
#else
#define HOFT_HAS_PAIR_TILES 0
#endif

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

/// Whether the processor adds pairs to floats.
inline constexpr bool has_pairs = HOFT_HAS_PAIRS;

/// Two neighbours along a sum, by their bits.
struct bfloat16_pair {
  std::uint16_t first, second;
};

/// c + a b, where a and b hold numbers, or pairs of A = bfloat16_pair: rounded after each product, the second one
/// first.
template <class A, class P>
EIGEN_ALWAYS_INLINE P multiply_add(P const& a, P const& b, P const& c) {
#if HOFT_HAS_PAIRS
  if constexpr (std::same_as<A, bfloat16_pair>)
    return _mm512_dpbf16_ps(c, std::bit_cast<__m512bh>(a), std::bit_cast<__m512bh>(b));
  else
#endif
    return Eigen::internal::pmadd(a, b, c);
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
