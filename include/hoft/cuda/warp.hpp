// hoft/cuda/warp.hpp: products of small tiles by a warp, with matrix instructions on a GPU.
//
// The instruction is m16n8k16 on bfloat16 with sums in float: C [16, 8] += A [16, 16] B [16, 8]. The lanes of a warp
// hold a tile together, each some elements, and `place` says which. A float is split into three bfloat16 numbers
// without a rounding, so the products of a float's parts are as good as the float's own.
#pragma once
#include <hoft/core/scalar.hpp>

#include <bit>
#include <cstdint>
#include <cstring>

namespace hoft::cuda {

inline constexpr int lanes = 32;

/// Two bfloat16 numbers, the first in the lower half.
using bfloat16_pair = std::uint32_t;

// What a lane holds of each tile.
struct alignas(16) left_tile {  ///< of A: two neighbours of a row in each register
  bfloat16_pair pair[4];
};
struct alignas(8) right_tile {  ///< of B: two neighbours of a column in each register
  bfloat16_pair pair[2];
};
struct alignas(16) sum_tile {  ///< of C
  float element[4];
};

/// Row and column, in its tile, of what a lane holds; the first of the two for a pair.
struct place {
  int row, column;
};
HOFT_HOST_DEVICE constexpr place place_in(left_tile, int lane, int e) {
  return {lane / 4 + e % 2 * 8, lane % 4 * 2 + e / 2 * 8};
}
HOFT_HOST_DEVICE constexpr place place_in(right_tile, int lane, int e) { return {lane % 4 * 2 + e * 8, lane / 4}; }
HOFT_HOST_DEVICE constexpr place place_in(sum_tile, int lane, int e) {
  return {lane / 4 + e / 2 * 8, lane % 4 * 2 + e % 2};
}

#if defined(__CUDACC__)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "hoft's kernels need compute capability 8.0 or newer: CMAKE_CUDA_ARCHITECTURES, or nvcc -arch=sm_80"
#endif

/// The calling thread's warp.
struct lane_warp {
  template <class T>
  struct held {
    T only;
    __device__ T& operator[](int) { return only; }
  };
  template <class F>
  __device__ void each_lane(F const& f) const {
    f(int(threadIdx.x % lanes));
  }
  __device__ void multiply_add(held<left_tile> const& a, held<right_tile> const& b, held<sum_tile>& c) const {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c.only.element[0]), "+f"(c.only.element[1]), "+f"(c.only.element[2]), "+f"(c.only.element[3])
        : "r"(a.only.pair[0]), "r"(a.only.pair[1]), "r"(a.only.pair[2]), "r"(a.only.pair[3]), "r"(b.only.pair[0]),
          "r"(b.only.pair[1]));
  }
};
#endif

// --- floats in parts --------------------------------------------------------------------------------------------

/// bfloat16 numbers that T, 16 bits or float, is the sum of.
template <class T>
inline constexpr int parts_of = (significand_bits<T> + 7) / 8;

template <int Parts>
struct split_pair {
  bfloat16_pair part[Parts];
};

/// a and b in parts, the largest first: each is what fits of the rest, cut and not rounded, so that part p is below
/// 2^(1 − 8 p) of the whole. Exact down to 2⁻¹³³, the smallest bfloat16, which cuts numbers below 10⁻³³; NaN stays NaN,
/// and infinity has NaN among its parts.
template <int Parts>
HOFT_HOST_DEVICE constexpr split_pair<Parts> split(float a, float b) {
  split_pair<Parts> s{};
  HOFT_UNROLL
  for (int p = 0; p < Parts; ++p) {
    std::uint32_t const upper_a = std::bit_cast<std::uint32_t>(a) & 0xFFFF0000u;
    std::uint32_t const upper_b = std::bit_cast<std::uint32_t>(b) & 0xFFFF0000u;
    s.part[p] = upper_a >> 16 | upper_b;
    a -= std::bit_cast<float>(upper_a), b -= std::bit_cast<float>(upper_b);
  }
  return s;
}
/// Two neighbours in memory, the first at an even element of an aligned array.
template <class T>
HOFT_HOST_DEVICE split_pair<parts_of<T>> split(T const* two) {
  if constexpr (sizeof(T) == 2 && parts_of<T> == 1) {  // bfloat16 itself
    split_pair<1> s;
    std::memcpy(s.part, __builtin_assume_aligned(two, 4), sizeof(s.part));
    return s;
  } else {
    T pair[2];
    std::memcpy(pair, __builtin_assume_aligned(two, 2 * sizeof(T)), sizeof(pair));
    return split<parts_of<T>>(static_cast<float>(pair[0]), static_cast<float>(pair[1]));
  }
}

/// A tile in parts; f(row, column) says the pair that begins there.
template <class Tile, class Warp, int Parts, class F>
HOFT_HOST_DEVICE void load(Warp const& warp, typename Warp::template held<Tile> (&to)[Parts], F const& f) {
  warp.each_lane([&](int lane) {
    HOFT_UNROLL
    for (int e = 0; e < int(sizeof(Tile) / sizeof(bfloat16_pair)); ++e) {
      place const at = place_in(Tile{}, lane, e);
      split_pair<Parts> const s = f(at.row, at.column);
      HOFT_UNROLL
      for (int p = 0; p < Parts; ++p) to[p][lane].pair[e] = s.part[p];
    }
  });
}

/// c += a b for tiles in parts, smallest products first, without those of parts p and q with p + q > Last.
template <int Last, class Warp, int P, int Q, class Left, class Right, class Sum>
HOFT_HOST_DEVICE void multiply_add(Warp const& warp, Left const (&a)[P], Right const (&b)[Q], Sum& c) {
  HOFT_UNROLL
  for (int both = Last; both >= 0; --both) HOFT_UNROLL
  for (int p = 0; p < P; ++p)
    if (int const q = both - p; q >= 0 && q < Q) warp.multiply_add(a[p], b[q], c);
}

}  // namespace hoft::cuda
