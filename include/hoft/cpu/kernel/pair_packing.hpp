// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/pair_packing.hpp: matrices of bfloat16 as pairs of neighbours along the sum of a product.
#pragma once
#include <hoft/cpu/kernel/storage.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

#if HOFT_HAS_PAIRS
namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail {

using kernel::bfloat16_pair;

/// Vectors of pairs in a square that is turned in registers.
inline constexpr int square_side = kernel::lanes<float>;

/// The first `count` numbers of a line, or a whole vector, in upper halves.
EIGEN_ALWAYS_INLINE kernel::wide_bits load_upper(Eigen::bfloat16 const* from, index_t count) {
  return std::bit_cast<kernel::wide_bits>(count < square_side ? kernel::load_part_as<float>(from, count)
                                                              : kernel::load_as<float>(from));
}
/// Pairs of neighbours in a line and the next one, which counts as zeros where it is not there.
EIGEN_ALWAYS_INLINE auto load_pairs(Eigen::bfloat16 const* from, index_t ld, bool has_next, index_t count) {
  kernel::wide_bits const low = load_upper(from, count) >> 16;
  return std::bit_cast<kernel::packet<float>>(has_next ? load_upper(from + ld, count) | low : low);
}
EIGEN_ALWAYS_INLINE void store_pairs(void* to, kernel::packet<float> const& pairs) {
  std::memcpy(to, &pairs, sizeof(pairs));
}

/// Pairs of neighbours along each of `lines` lines of `count` numbers; zeros where there are none.
EIGEN_ALWAYS_INLINE auto pairs_along(Eigen::bfloat16 const* from, index_t ld, index_t lines, index_t count) {
  auto none = kernel::zero<float>();
  Eigen::internal::PacketBlock<decltype(none), square_side> square;
  for (int v = 0; v < square_side; ++v) {
    auto& pairs = square.packet[v];
    pairs = none;
    if (v >= lines) continue;
    if (count >= 2 * square_side) std::memcpy(&pairs, from + v * ld, sizeof(pairs));
    else std::memcpy(&pairs, from + v * ld, std::size_t(count) * sizeof(*from));
  }
  return square;
}
/// Pairs of numbers in line 2v and line 2v + 1, of `lines` lines of `count` numbers.
EIGEN_ALWAYS_INLINE auto pairs_across(Eigen::bfloat16 const* from, index_t ld, index_t lines, index_t count) {
  auto none = kernel::zero<float>();
  Eigen::internal::PacketBlock<decltype(none), square_side> square;
  for (int v = 0; v < square_side; ++v) {
    index_t const line = 2 * v;
    square.packet[v] = line < lines ? load_pairs(from + line * ld, ld, line + 1 < lines, count) : none;
  }
  return square;
}

/// A [rows, depth] as columns of `height` pairs, a multiple of the lanes, with zeros behind rows and depth.
inline void pack_pairs(matrix_view<Eigen::bfloat16 const, col_major> A, index_t height, bfloat16_pair* slab) {
  for (index_t d = 0; d < A.cols; d += 2, slab += height)
    for (index_t i = 0; i < height; i += square_side)
      store_pairs(slab + i, load_pairs(A.data + i + d * A.ld, A.ld, d + 1 < A.cols, A.rows - i));
}
/// Pairs lie together here, and are turned in squares.
inline void pack_pairs(matrix_view<Eigen::bfloat16 const, row_major> A, index_t height, bfloat16_pair* slab) {
  for (index_t i = 0; i < height; i += square_side)
    for (index_t d = 0; d < A.cols; d += 2 * square_side) {
      auto square = pairs_along(A.data + i * A.ld + d, A.ld, A.rows - i, A.cols - d);
      Eigen::internal::ptranspose(square);
      index_t const pairs = (A.cols - d + 1) / 2;
      for (int v = 0; v < (std::min)(index_t{square_side}, pairs); ++v)
        store_pairs(slab + (d / 2 + v) * height + i, square.packet[v]);
    }
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail
#endif
