// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/pair_tile_product.hpp: the product of two matrices of bfloat16 by tiles.
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

/// Tile l of the 16 columns from j of X [k, n], with a line for each pair of terms or for each column. Zeros stand
/// where X ends.
template <bool LinePerPair, class L>
void pack_tile(matrix_view<Eigen::bfloat16 const, L> X, index_t l, index_t j, pair_tile& tile) {
  constexpr index_t lines = pair_tile::lines;
  static_assert(square_side == lines);
  index_t const rows = X.rows - l * pair_tile::terms, cols = X.cols - j;
  Eigen::bfloat16 const* const from = X.data + X.offset(l * pair_tile::terms, j);
  auto const store = [&](auto square, bool turned) {
    if (turned) Eigen::internal::ptranspose(square);
    for (int v = 0; v < lines; ++v) store_pairs(tile.pairs + v * lines, square.packet[v]);
  };
  if constexpr (X.is_col_major) {
    // The hardware does not know that the next columns follow.
    for (index_t v = lines; v < (std::min)(2 * lines, cols); ++v) kernel::prefetch(from + v * X.ld);
    store(pairs_along(from, X.ld, cols, rows), LinePerPair);
  } else {
    store(pairs_across(from, X.ld, rows, cols), !LinePerPair);
  }
}
/// All tiles of X, `step` from one 16 columns to the next, in the order of memory.
template <bool LinePerPair, class L>
void pack_tiles(matrix_view<Eigen::bfloat16 const, L> X, pair_tile* tiles, index_t step) {
  index_t const depth = kernel::blocks(X.rows, pair_tile::terms), cols = kernel::blocks(X.cols, pair_tile::lines);
  auto const pack = [&](index_t l, index_t j) {
    pack_tile<LinePerPair>(X, l, j * pair_tile::lines, tiles[j * step + l]);
  };
  if constexpr (X.is_col_major) {
    for (index_t j = 0; j < cols; ++j)
      for (index_t l = 0; l < depth; ++l) pack(l, j);
  } else {
    for (index_t l = 0; l < depth; ++l)
      for (index_t j = 0; j < cols; ++j) pack(l, j);
  }
}

/// C := up to two by two tiles.
inline void unpack_tiles(kernel::float_tiles<float_tile const> tiles, matrix_view<Eigen::bfloat16> C) {
  constexpr index_t lines = pair_tile::lines;
  for (index_t j = 0; j < C.cols; ++j)
    for (index_t i = 0; i < C.rows; i += lines) {
      float_tile const& tile = *tiles.at(i / lines, j / lines).data;
      auto const numbers = kernel::load(tile.numbers + j % lines * lines);
      Eigen::bfloat16* const c = C.data + i + j * C.ld;
      if (C.rows - i >= lines) kernel::store_as<float>(c, numbers);
      else kernel::store_part_as<float>(c, numbers, C.rows - i);
    }
}

/// Rows of A that are packed together, and tiles of a sum in one sweep over them. The tiles of 32 columns of B, 16 KiB,
/// stay in the first-level cache meanwhile, and those of A in the second.
inline constexpr index_t tile_slab = 256, tile_depth = 8;

/// Columns of C for which A is packed once. Of sums of up to 1024 terms, their tiles of B stay in the second-level
/// cache.
inline constexpr index_t tile_block = 512;

/// Memory of a worker: tiles of A in one sweep, and sums between sweeps where there are several.
struct tile_scratch {
  std::unique_ptr<pair_tile[]> of_A;
  std::unique_ptr<float_tile[]> sums;
  void reserve(bool several_sweeps) {
    constexpr index_t rows = tile_slab / pair_tile::lines, cols = tile_block / pair_tile::lines;
    if (of_A == nullptr) of_A = std::make_unique_for_overwrite<pair_tile[]>(rows * tile_depth);
    if (several_sweeps && sums == nullptr) sums = std::make_unique_for_overwrite<float_tile[]>(rows * cols);
  }
};

/// C := A B for up to a slab of rows and a block of columns, of whose B there are `depth` tiles for each sum.
template <class Tiles, class L>
void multiply_tile_slab(matrix_view<Eigen::bfloat16 const, L> A, kernel::pair_tiles B, index_t depth,
                        matrix_view<Eigen::bfloat16> C, tile_scratch& memory) {
  constexpr index_t lines = pair_tile::lines;
  memory.reserve(depth > tile_depth);
  index_t const rows = kernel::blocks(C.rows, lines), cols = kernel::blocks(C.cols, lines);
  kernel::pair_tiles const of_A{memory.of_A.get(), tile_depth};
  kernel::float_tiles<float_tile> const sums{memory.sums.get(), rows};
  [[maybe_unused]] typename Tiles::registers const registers;
  for (index_t l = 0; l < depth || l == 0; l += tile_depth) {
    index_t const deep = (std::min)(tile_depth, depth - l), first = l * pair_tile::terms;
    auto const part = A.block(0, first, A.rows, (std::min)(deep * pair_tile::terms, A.cols - first));
    pack_tiles<true>(part.transposed(), memory.of_A.get(), tile_depth);
    kernel::for_each_group<2>(cols, [&](index_t j, auto wide) {
      kernel::for_each_group<2>(rows, [&](index_t i, auto high) {
        auto const sum = sums.at(i, j);
        kernel::float_tiles<float_tile const> const start{l == 0 ? nullptr : sum.data, rows};
        auto const add_to = [&](auto c) {
          Tiles::template multiply<high, wide>(deep, of_A.at(i, 0), B.at(j, l), start, c);
        };
        if (l + deep < depth) return add_to(sum);
        float_tile last[4];
        add_to(kernel::float_tiles<float_tile>{last, 2});
        index_t const top = i * lines, left = j * lines;
        unpack_tiles({last, 2}, C.block(top, left, (std::min)(high * lines, C.rows - top),
                                        (std::min)(wide * lines, C.cols - left)));
      });
    });
  }
}

/// C := A B by tiles. Threads pack B, then share blocks of C.
template <class Tiles, class LA, class LB>
void multiply_by_tiles(cpu const& policy, matrix_view<Eigen::bfloat16 const, LA> A,
                       matrix_view<Eigen::bfloat16 const, LB> B, matrix_view<Eigen::bfloat16> C) {
  constexpr index_t lines = pair_tile::lines;
  index_t const depth = kernel::blocks(B.rows, pair_tile::terms), packed = kernel::blocks(B.cols, lines);
  auto const memory = std::make_unique_for_overwrite<pair_tile[]>(std::size_t(depth * packed));
  kernel::pair_tiles const of_B{memory.get(), depth};
  parallel_for(policy, packed, [&](index_t, index_t task) {
    index_t const j = task * lines;
    pack_tiles<false>(B.columns(j, (std::min)(lines, B.cols - j)), memory.get() + task * depth, depth);
  });
  // Few columns take little of a thread's time: more threads may share them.
  constexpr index_t narrow = 64;
  index_t const height = C.cols <= narrow ? narrow : tile_slab, slabs = kernel::blocks(C.rows, height);
  std::vector<tile_scratch> of_workers;
  parallel_parts(policy, slabs * kernel::blocks(C.cols, tile_block), 1, of_workers,
                 [&](tile_scratch& own, index_t task, index_t) {
                   index_t const i = task % slabs * height, j = task / slabs * tile_block;
                   index_t const rows = (std::min)(height, C.rows - i), cols = (std::min)(tile_block, C.cols - j);
                   multiply_tile_slab<Tiles>(A.block(i, 0, rows, A.cols), of_B.at(j / lines, 0), depth,
                                             C.block(i, j, rows, cols), own);
                 });
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail
#endif
