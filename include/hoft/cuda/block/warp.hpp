// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/block/warp.hpp: products of tiles of 16 x 16 by a warp, with matrix instructions on a GPU.
//
// C [16, 16] += A [16, 16] B [16, 16] on bfloat16 with sums in float, two instructions m16n8k16. The lanes of a warp
// hold a tile together, each some elements, and `place` says which. A float is the sum of two or three bfloat16
// numbers, its parts, and a product of floats that of products of their parts.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/cuda/abi.hpp>
#include <hoft/view/matrix_view.hpp>

#include <bit>
#include <cstdint>
#include <cstring>

namespace HOFT_CUDA_NAMESPACE {

inline constexpr int lanes = 32;

/// A bfloat16 number, and two of them, the first in the lower half.
using bfloat16_bits = std::uint16_t;
using bfloat16_pair = std::uint32_t;

// What a lane holds of each tile.
struct alignas(16) left_tile {  ///< of A: two neighbours of a row in each register
  bfloat16_pair pair[4];
};
struct alignas(16) right_tile {  ///< of B: two neighbours of a column in each register
  bfloat16_pair pair[4];
};
struct alignas(16) sum_tile {  ///< of C: elements 2 e and 2 e + 1 lie where pair e of a left tile lies
  float element[8];
};

/// Row and column, in its tile, of what a lane holds; the first of the two for a pair.
struct place {
  int row, column;
};
HOFT_HOST_DEVICE constexpr place place_in(left_tile, int lane, int e) {
  return {lane / 4 + e % 2 * 8, lane % 4 * 2 + e / 2 * 8};
}
HOFT_HOST_DEVICE constexpr place place_in(right_tile, int lane, int e) {
  return {lane % 4 * 2 + e % 2 * 8, lane / 4 + e / 2 * 8};
}

#if defined(__CUDACC__)
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "hoft's kernels need compute capability 8.0 or newer: CMAKE_CUDA_ARCHITECTURES, or nvcc -arch=sm_80"
#endif

/// The calling thread's warp.
struct lane_warp {
  template <class T>
  struct held {
    using tile = T;
    T only;
    __device__ T& operator[](int) { return only; }
    __device__ T const& operator[](int) const { return only; }
  };
  template <class F>
  __device__ void each_lane(F const& f) const {
    f(int(threadIdx.x % lanes));
  }
  /// What lanes have written is there for the others.
  __device__ void barrier() const { __syncwarp(); }
  /// What lanes have written to shared memory is there for copies that begin behind a barrier of the block.
  __device__ static void fence_copies() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
  }
  __device__ void multiply_add(held<left_tile> const& a, held<right_tile> const& b, held<sum_tile>& c) const {
    HOFT_UNROLL
    for (int half = 0; half < 2; ++half) {
      float* const sum = c.only.element + 4 * half;
      // volatile: all lanes are to be there, so it may not sink into a branch that some take
      asm volatile(
          "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
          "{%0, %1, %2, %3};"
          : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
          : "r"(a.only.pair[0]), "r"(a.only.pair[1]), "r"(a.only.pair[2]), "r"(a.only.pair[3]),
            "r"(b.only.pair[2 * half]), "r"(b.only.pair[2 * half + 1]));
    }
  }
  /// Matrices j = 0 ... 3 [8, 8] of shared memory; line(j, l) is where line l of j begins, at a multiple of 16 bytes.
  struct matrices {
    std::uint32_t line;  ///< the one that this lane tells the instruction
  };
  template <class F>
  __device__ matrices matrices_at(F const& line) const {
    int const lane = int(threadIdx.x % lanes);
    return {std::uint32_t(__cvta_generic_to_shared(line(lane / 8, lane % 8)))};
  }
  /// Those matrices, or, if Turned, their transposes, offset + Further elements behind. A lane gets elements (lane / 4,
  /// 2 (lane mod 4)) of each, and the next of that line.
  template <bool Turned, int Further = 0, class Tile>
  __device__ void load_matrices(held<Tile>& to, matrices from, int offset) const {
    std::uint32_t const at = from.line + unsigned(offset) * sizeof(bfloat16_bits);
    std::uint32_t* const pair = to.only.pair;
    if constexpr (Turned)
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
                   : "=r"(pair[0]), "=r"(pair[1]), "=r"(pair[2]), "=r"(pair[3])
                   : "r"(at), "n"(Further * sizeof(bfloat16_bits))
                   : "memory");
    else
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4 + %5];"
                   : "=r"(pair[0]), "=r"(pair[1]), "=r"(pair[2]), "=r"(pair[3])
                   : "r"(at), "n"(Further * sizeof(bfloat16_bits))
                   : "memory");
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

/// a and b as bfloat16, rounded to nearest or cut.
template <bool Cut>
HOFT_HOST_DEVICE bfloat16_pair shortened(float a, float b) {
#if defined(__CUDA_ARCH__)
  bfloat16_pair two;
  if constexpr (Cut) asm("cvt.rz.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(b), "f"(a));
  else asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(b), "f"(a));
  return two;
#else
  auto const upper = [](float x) {
    auto const bits = std::bit_cast<std::uint32_t>(x);
    std::uint32_t const to_nearest = Cut ? 0u : 0x7FFFu + (bits >> 16 & 1u);
    return (x != x ? bits | 0x400000u : bits + to_nearest) & 0xFFFF0000u;
  };
  return upper(a) >> 16 | upper(b);
#endif
}
/// a and b in parts, the largest first. Two parts are rounded: their sum is within 2⁻¹⁷ of a, relative, and is a itself
/// if that has 16 bits. Three are cut, so that no part overflows: exact down to 2⁻¹³³, the smallest bfloat16, which
/// cuts numbers below 10⁻³³. NaN stays NaN, and infinity has NaN among its parts.
template <int Parts>
HOFT_HOST_DEVICE split_pair<Parts> split(float a, float b) {
  split_pair<Parts> s{};
  HOFT_UNROLL
  for (int p = 0; p < Parts; ++p) {
    bfloat16_pair const two = shortened<Parts == 3>(a, b);
    s.part[p] = two;
    a -= std::bit_cast<float>(two << 16), b -= std::bit_cast<float>(two & 0xFFFF0000u);
  }
  return s;
}

// One access of memory that is aligned as V is. (A memcpy is as many as there are bytes where nvcc does not see that.)
template <class V>
HOFT_HOST_DEVICE V load_as(void const* at) {
#if defined(__CUDA_ARCH__)
  return *static_cast<V const*>(at);
#else
  V value;
  std::memcpy(&value, at, sizeof(value));
  return value;
#endif
}
template <class V>
HOFT_HOST_DEVICE void store_as(void* at, V const& value) {
#if defined(__CUDA_ARCH__)
  *static_cast<V*>(at) = value;
#else
  std::memcpy(at, &value, sizeof(value));
#endif
}

/// Two neighbours in memory, the first at an even element of an aligned array.
template <class T>
struct alignas(2 * sizeof(T)) neighbours {
  T first, second;
};
/// Two T of 16 bits, the first in the lower half.
template <class T>
HOFT_HOST_DEVICE neighbours<float> both_of(std::uint32_t bits) {
  if constexpr (significand_bits<T> == 8) {
#if defined(__CUDA_ARCH__)  // Floats from the beginning: nvcc carries sums that begin as integers from one to the
                            // other.
    neighbours<float> two;
    asm("shl.b32 %0, %1, 16;" : "=f"(two.first) : "r"(bits));
    asm("and.b32 %0, %1, 0xFFFF0000;" : "=f"(two.second) : "r"(bits));
    return two;
#else
    return {std::bit_cast<float>(bits << 16), std::bit_cast<float>(bits & 0xFFFF0000u)};
#endif
  } else {
    T two[2];
    std::memcpy(static_cast<void*>(two), &bits, sizeof(two));
    return {static_cast<float>(two[0]), static_cast<float>(two[1])};
  }
}
template <class T>
HOFT_HOST_DEVICE neighbours<float> load_pair(T const* at) {
  if constexpr (sizeof(T) == 2) {
    return both_of<T>(load_as<std::uint32_t>(at));
  } else {
    auto const two = load_as<neighbours<T>>(at);
    return {static_cast<float>(two.first), static_cast<float>(two.second)};
  }
}
template <class T>
HOFT_HOST_DEVICE void store_pair(T* at, float a, float b) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 2) {  // one instruction rounds both
    std::uint32_t two;
    if constexpr (significand_bits<T> == 8) two = shortened<false>(a, b);
    else asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(b), "f"(a));
    return store_as(at, two);
  }
#endif
  store_as(at, neighbours<T>{static_cast<T>(a), static_cast<T>(b)});
}

/// How a tile lies in memory.
enum class stored { by_rows, by_columns };

/// Tiles in shared memory, of which the first has 16 lines of 16 elements that begin at `at`, `stride` elements apart,
/// at multiples of 16 bytes. What a lane has to know of them is reckoned once.
template <class Tile, stored Is, class Warp>
class tiles_at {
 public:
  tiles_at() = default;
  HOFT_HOST_DEVICE tiles_at(Warp const& warp, bfloat16_bits const* at, int stride)
      : first_(warp.matrices_at([&](int j, int l) {  // the quarters of a tile, as its registers have them
          int const down = (Is == stored::by_rows ? j % 2 : j / 2) * 8,
                    along = (Is == stored::by_rows ? j / 2 : j % 2) * 8;
          return at + (down + l) * stride + along;
        })) {}
  /// to := the tile offset + Further elements behind the first.
  template <int Further = 0>
  HOFT_HOST_DEVICE void load(Warp const& warp, typename Warp::template held<Tile>& to, int offset) const {
    constexpr bool turned = std::is_same_v<Tile, left_tile> == (Is == stored::by_columns);
    warp.template load_matrices<turned, Further>(to, first_, offset);
  }

 private:
  typename Warp::matrices first_;
};
/// A left tile of T in parts. f(two, in) answers what is taken for two neighbours in a row of the tile, of which the
/// first is at `in`.
template <class T, stored Is, class Warp, int Parts, class F>
HOFT_HOST_DEVICE void load_converted(Warp const& warp, typename Warp::template held<left_tile> (&to)[Parts],
                                     T const* at, int stride, F const& f) {
  warp.each_lane([&](int lane) {
    HOFT_UNROLL
    for (int e = 0; e < 4; ++e) {
      place const in = place_in(left_tile{}, lane, e);
      neighbours<float> two;
      if constexpr (Is == stored::by_rows) two = load_pair(at + in.row * stride + in.column);
      else
        two = {static_cast<float>(at[in.column * stride + in.row]),
               static_cast<float>(at[(in.column + 1) * stride + in.row])};
      two = f(two, in);
      split_pair<Parts> const s = split<Parts>(two.first, two.second);
      HOFT_UNROLL
      for (int p = 0; p < Parts; ++p) to[p][lane].pair[e] = s.part[p];
    }
  });
}
/// Left tiles of T, exactly, as tiles_at.
template <class T, stored Is, class Warp>
class stored_tiles_at {
 public:
  HOFT_HOST_DEVICE stored_tiles_at(Warp const&, T const* at, int stride) : at_(at), stride_(stride) {}
  template <int Further = 0>
  HOFT_HOST_DEVICE void load(Warp const& warp, typename Warp::template held<left_tile> (&to)[parts_of<T>],
                             int offset) const {
    load_converted<T, Is>(warp, to, at_ + offset + Further, stride_, [](neighbours<float> two, place) { return two; });
  }

 private:
  T const* at_;
  int stride_;
};
template <class T, stored Is, class Warp>
requires(sizeof(T) == 2 && parts_of<T> == 1)  // bfloat16 itself
    class stored_tiles_at<T, Is, Warp> {
 public:
  HOFT_HOST_DEVICE stored_tiles_at(Warp const& warp, T const* at, int stride)
      : tiles_(warp, reinterpret_cast<bfloat16_bits const*>(at), stride) {}
  template <int Further = 0>
  HOFT_HOST_DEVICE void load(Warp const& warp, typename Warp::template held<left_tile> (&to)[1], int offset) const {
    tiles_.template load<Further>(warp, to[0], offset);
  }

 private:
  tiles_at<left_tile, Is, Warp> tiles_;
};

/// Of the products of P and Q parts those that are taken, of parts p and q with p + q <= last_parts: of two parts all
/// but the smallest, below 2⁻¹⁶ of the whole, of three all but the smallest, below 2⁻²⁸.
template <int P, int Q>
inline constexpr int last_parts = (P > Q ? P : Q) == 3 ? 3 : 1;

/// c += a b for tiles in parts, smallest products first. The instruction cuts what does not fit behind its sum; where
/// floats are meant exactly, c is not that sum, and is added as numbers are.
template <class Warp, int P, int Q, class Left, class Right, class Sum>
HOFT_HOST_DEVICE void multiply_add(Warp const& warp, Left const (&a)[P], Right const (&b)[Q], Sum& c) {
  constexpr bool apart = (P > Q ? P : Q) == 3;
  Sum fresh = {};
  Sum& sum = apart ? fresh : c;
  HOFT_UNROLL
  for (int both = last_parts<P, Q>; both >= 0; --both) HOFT_UNROLL
  for (int p = 0; p < P; ++p)
    if (int const q = both - p; q >= 0 && q < Q) warp.multiply_add(a[p], b[q], sum);
  if constexpr (apart)
    warp.each_lane([&](int lane) {
      HOFT_UNROLL
      for (int e = 0; e < 8; ++e) c[lane].element[e] += fresh[lane].element[e];
    });
}
/// The right tiles of Aᴴ: lanes hold the same elements of it.
template <class Warp, int Parts, class Left, class Right>
HOFT_HOST_DEVICE void adjoint_of(Warp const& warp, Left const (&a)[Parts], Right (&b)[Parts]) {
  warp.each_lane([&](int lane) {
    HOFT_UNROLL
    for (int p = 0; p < Parts; ++p) HOFT_UNROLL
    for (int e = 0; e < 4; ++e) b[p][lane].pair[e] = a[p][lane].pair[e % 2 * 2 + e / 2];
  });
}

}  // namespace HOFT_CUDA_NAMESPACE
