// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/tile_product.hpp: the product of two matrices of bfloat16 by tiles.
#pragma once
#include <hoft/cpu/kernel/pair_packing.hpp>
#include <hoft/cpu/kernel/pair_tiles.hpp>
#include <hoft/cpu/kernel/tiling.hpp>
#include <hoft/cpu/policy.hpp>

#include <memory>
#include <vector>

#if HOFT_HAS_PAIRS
namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail {

using kernel::float_tile;
using kernel::pair_tile;
using kernel::tile_lines;
using kernel::tile_terms;

inline index_t tiles_over(index_t extent, index_t each) { return (extent + each - 1) / each; }

/// Tile l of the 16 columns from j of X [k, n], with a line for each pair of terms or for each column. Zeros stand
/// where X ends.
template <bool LinePerPair, class L>
void pack_tile(matrix_view<Eigen::bfloat16 const, L> X, index_t l, index_t j, pair_tile& tile) {
  static_assert(square_side == tile_lines);
  index_t const rows = X.rows - l * tile_terms, cols = X.cols - j;
  Eigen::bfloat16 const* const from = X.data + X.offset(l * tile_terms, j);
  auto const store = [&](auto square, bool turned) {
    if (turned) Eigen::internal::ptranspose(square);
    for (int v = 0; v < tile_lines; ++v) store_pairs(tile.pairs + v * tile_lines, square.packet[v]);
  };
  if constexpr (X.is_col_major) {
    // The hardware does not know that the next columns follow.
    for (index_t v = tile_lines; v < (std::min)(2 * tile_lines, cols); ++v) kernel::prefetch(from + v * X.ld);
    store(pairs_along(from, X.ld, cols, rows), LinePerPair);
  } else {
    store(pairs_across(from, X.ld, rows, cols), !LinePerPair);
  }
}
/// All tiles of X, `step` from one 16 columns to the next, in the order of memory.
template <bool LinePerPair, class L>
void pack_tiles(matrix_view<Eigen::bfloat16 const, L> X, pair_tile* tiles, index_t step) {
  index_t const depth = tiles_over(X.rows, tile_terms), cols = tiles_over(X.cols, tile_lines);
  auto const pack = [&](index_t l, index_t j) { pack_tile<LinePerPair>(X, l, j * tile_lines, tiles[j * step + l]); };
  if constexpr (X.is_col_major) {
    for (index_t j = 0; j < cols; ++j)
      for (index_t l = 0; l < depth; ++l) pack(l, j);
  } else {
    for (index_t l = 0; l < depth; ++l)
      for (index_t j = 0; j < cols; ++j) pack(l, j);
  }
}

/// C := up to two by two tiles.
inline void store_tiles(kernel::tile_columns<float_tile const> tiles, matrix_view<Eigen::bfloat16> C) {
  for (index_t j = 0; j < C.cols; ++j)
    for (index_t i = 0; i < C.rows; i += tile_lines) {
      float_tile const& tile = *tiles.at(i / tile_lines, j / tile_lines).data;
      auto const numbers = kernel::load(tile.numbers + j % tile_lines * tile_lines);
      Eigen::bfloat16* const c = C.data + i + j * C.ld;
      if (C.rows - i >= tile_lines) kernel::store_as<float>(c, numbers);
      else kernel::store_part_as<float>(c, numbers, C.rows - i);
    }
}

/// Rows of A that are packed together; and tiles of a sum in one sweep over them, of which those of 32 columns, 16 KiB,
/// stay in the first-level cache and those of the rows in the second.
inline constexpr index_t tile_slab = 256, tile_depth = 8;

/// Columns of C between which A is not packed again: for sums of up to 1024 terms their tiles of B stay in the
/// second-level cache.
inline constexpr index_t tile_block = 512;

/// Memory of a worker: tiles of A in one sweep, and sums between sweeps.
struct tile_scratch {
  std::unique_ptr<pair_tile[]> of_A;
  std::unique_ptr<float_tile[]> sums;
  void reserve() {
    if (of_A != nullptr) return;
    of_A = std::make_unique_for_overwrite<pair_tile[]>(tile_slab / tile_lines * tile_depth);
    sums = std::make_unique_for_overwrite<float_tile[]>(tile_slab / tile_lines * tile_block / tile_lines);
  }
};

/// C := A B for up to a slab of rows and a block of columns, of whose B there are `depth` tiles for each sum.
template <class Tiles, class L>
void multiply_tile_slab(matrix_view<Eigen::bfloat16 const, L> A, kernel::tile_rows B, index_t depth,
                        matrix_view<Eigen::bfloat16> C, tile_scratch& memory) {
  memory.reserve();
  index_t const rows = tiles_over(C.rows, tile_lines), cols = tiles_over(C.cols, tile_lines);
  kernel::tile_rows const of_A{memory.of_A.get(), tile_depth};
  [[maybe_unused]] typename Tiles::registers const registers;
  for (index_t l = 0; l < depth || l == 0; l += tile_depth) {
    index_t const deep = (std::min)(tile_depth, depth - l), first = l * tile_terms;
    auto const part = A.block(0, first, A.rows, (std::min)(deep * tile_terms, A.cols - first));
    pack_tiles<true>(part.transposed(), memory.of_A.get(), tile_depth);
    kernel::for_each_group<2>(cols, [&](index_t j, auto wide) {
      kernel::for_each_group<2>(rows, [&](index_t i, auto high) {
        kernel::tile_columns<float_tile> const sums{memory.sums.get() + i + j * rows, rows};
        kernel::tile_columns<float_tile const> const start{l == 0 ? nullptr : sums.data, rows};
        Tiles::template multiply<high, wide>(deep, of_A.at(i, 0), B.at(j, l), start, sums);
        if (l + deep < depth) return;
        index_t const top = i * tile_lines, left = j * tile_lines;
        store_tiles({sums.data, rows}, C.block(top, left, (std::min)(high * tile_lines, C.rows - top),
                                               (std::min)(wide * tile_lines, C.cols - left)));
      });
    });
  }
}

/// C := A B by tiles. Threads pack B, then share blocks of C.
template <class Tiles, class LA, class LB>
void multiply_by_tiles(cpu const& policy, matrix_view<Eigen::bfloat16 const, LA> A,
                       matrix_view<Eigen::bfloat16 const, LB> B, matrix_view<Eigen::bfloat16> C) {
  index_t const depth = tiles_over(B.rows, tile_terms), packed = tiles_over(B.cols, tile_lines);
  auto const memory = std::make_unique_for_overwrite<pair_tile[]>(std::size_t(depth * packed));
  kernel::tile_rows const of_B{memory.get(), depth};
  parallel_for(policy, packed, [&](index_t, index_t task) {
    index_t const j = task * tile_lines;
    pack_tiles<false>(B.columns(j, (std::min)(tile_lines, B.cols - j)), memory.get() + task * depth, depth);
  });
  // Few columns take little of a thread's time: more threads may share them.
  constexpr index_t narrow = 64;
  index_t const height = C.cols <= narrow ? narrow : tile_slab, slabs = tiles_over(C.rows, height);
  std::vector<tile_scratch> of_workers;
  parallel_parts(policy, slabs * tiles_over(C.cols, tile_block), 1, of_workers,
                 [&](tile_scratch& own, index_t task, index_t) {
                   index_t const i = task % slabs * height, j = task / slabs * tile_block;
                   index_t const rows = (std::min)(height, C.rows - i), cols = (std::min)(tile_block, C.cols - j);
                   multiply_tile_slab<Tiles>(A.block(i, 0, rows, A.cols), of_B.at(j / tile_lines, 0), depth,
                                             C.block(i, j, rows, cols), own);
                 });
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail
#endif
