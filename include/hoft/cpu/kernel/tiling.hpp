// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/tiling.hpp: how a product is cut into register tiles. Where a tile begins depends on shapes alone,
// and so does the order in which an element is summed.
#pragma once
#include <hoft/cpu/kernel/packet.hpp>

#include <type_traits>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

/// Columns of a tile that are addressed from one place, the others from a second: addresses of their own would take
/// more registers than there are, and additions that wait, on Intel's processors, for the units that multiply.
inline constexpr int columns_from_one_address = tile_cols / 2;

template <int N>
using constant = std::integral_constant<int, N>;

/// How many blocks of a size cover an extent.
constexpr index_t blocks(index_t extent, index_t size) { return (extent + size - 1) / size; }

/// f(first, constant<width>, count) for runs of tiles of equal width, 6, 4, 2 and 1, that cover [0, n).
template <class F>
EIGEN_ALWAYS_INLINE void for_each_tile_run(index_t n, F&& f) {
  static_assert(tile_cols == 6);
  index_t const sixes = n % 6 == 2 && n >= 8 ? n / 6 - 1 : n / 6;  // 8 = 4 + 4
  index_t j = 6 * sixes;
  if (sixes > 0) f(index_t{0}, constant<6>{}, sixes);
  if (index_t const fours = (n - j) / 4; fours > 0) f(j, constant<4>{}, fours), j += 4 * fours;
  if (n - j >= 2) f(j, constant<2>{}, index_t{1}), j += 2;
  if (j < n) f(j, constant<1>{}, index_t{1});
}
/// f(first, constant<width>) for each tile.
template <class F>
EIGEN_ALWAYS_INLINE void for_each_tile_col(index_t n, F&& f) {
  for_each_tile_run(n, [&](index_t first, auto width, index_t count) {
    for (index_t t = 0; t < count; ++t) f(first + t * width, width);
  });
}

/// f(first, constant<size>, count) for runs of groups of Most, then 2 and 1, that cover [0, n).
template <int Most, class F>
EIGEN_ALWAYS_INLINE void for_each_group_run(index_t n, F&& f) {
  static_assert(Most == 4 || Most == 2);
  index_t i = n / Most * Most;
  if (i > 0) f(index_t{0}, constant<Most>{}, n / Most);
  if constexpr (Most == 4)
    if (n - i >= 2) f(i, constant<2>{}, index_t{1}), i += 2;
  if (i < n) f(i, constant<1>{}, index_t{1});
}
/// f(first, constant<size>) for each group.
template <int Most, class F>
EIGEN_ALWAYS_INLINE void for_each_group(index_t n, F&& f) {
  for_each_group_run<Most>(n, [&](index_t first, auto size, index_t count) {
    for (index_t g = 0; g < count; ++g) f(first + g * size, size);
  });
}

/// p += step, a step at a time: known to compilers, the addresses of all columns would be kept, and on the stack.
template <class T>
EIGEN_ALWAYS_INLINE void advance(T*& p, index_t step) {
  p += step;
#if defined(__GNUC__)
  __asm__("" : "+r"(p));
#endif
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
