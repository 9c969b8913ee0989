// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/pair_tiles.hpp: tiles of sixteen vectors, and their products by Intel's AMX.
#pragma once
#include <hoft/cpu/kernel/pairs.hpp>

#if HOFT_HAS_PAIR_TILES
#include <algorithm>
#include <atomic>
#include <cstdint>
#endif

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

/// Lines of a tile, and pairs or floats in each of them.
inline constexpr index_t tile_lines = 16;
/// Terms of a sum that pass in one tile.
inline constexpr index_t tile_terms = 2 * tile_lines;

struct alignas(64) pair_tile {
  bfloat16_pair pairs[tile_lines * tile_lines];
};
struct alignas(64) float_tile {
  float numbers[tile_lines * tile_lines];
};

/// Tiles along a sum, one behind another, for each sixteen rows or columns, which begin `step` tiles apart.
struct tile_rows {
  pair_tile const* data = nullptr;
  index_t step = 0;
  tile_rows at(index_t line, index_t l) const { return {data + line * step + l, step}; }
};
/// Tiles of floats: those of neighbouring rows lie together, those of neighbouring columns `step` tiles apart.
template <class Tile>
struct tile_columns {
  Tile* data = nullptr;
  index_t step = 0;
  tile_columns at(index_t row, index_t col) const { return {data == nullptr ? data : data + row + col * step, step}; }
};

#if HOFT_HAS_PAIR_TILES
/// What multiplies tiles: this processor. Others can stand in for it in tests.
struct amx {
  /// Whether this process may use the registers: Linux wants to be asked first, and its answer stays.
  static bool may_be_used() {
    static bool const may = [] {
      constexpr long arch_prctl = 158, request_permission = 0x1023, tile_data = 18;
      long answer = 0;
      __asm__ volatile("syscall"
                       : "=a"(answer)
                       : "0"(arch_prctl), "D"(request_permission), "S"(tile_data)
                       : "rcx", "r11", "memory");
      return answer == 0;
    }();
    return may;
  }

  /// Makes tiles of this thread's eight registers, until its end.
  class registers {
   public:
    registers() {
      struct alignas(64) {
        std::uint8_t palette = 1, first_line = 0, reserved[14] = {};
        std::uint16_t bytes[16] = {};
        std::uint8_t lines[16] = {};
      } shapes;
      std::fill_n(shapes.bytes, 8, std::uint16_t{line_bytes});
      std::fill_n(shapes.lines, 8, std::uint8_t{tile_lines});
      std::atomic_signal_fence(std::memory_order_seq_cst);
      _tile_loadconfig(&shapes);
    }
    registers(registers const&) = delete;
    registers& operator=(registers const&) = delete;
    ~registers() { _tile_release(); }
  };

  /// C := S + A B of V tiles of rows and N of columns, each the sum of `depth` products. A tile of A has a line for
  /// each pair of terms, one of B, S and C for each column. S may be C, or have no data for zero.
  ///
  /// A product of tiles sums its even terms and its odd ones, one after another, then adds both sums, and that to C:
  /// each step is rounded to the nearest, whatever the caller's modes, and numbers below 2⁻¹²⁶ count as zeros.
  template <int V, int N>
  EIGEN_DONT_INLINE static void multiply(index_t depth, tile_rows A, tile_rows B, tile_columns<float_tile const> S,
                                         tile_columns<float_tile> C) {
    // Compilers are not told that the instructions read memory.
    std::atomic_signal_fence(std::memory_order_seq_cst);
    if (S.data != nullptr) {
      _tile_loadd(0, S.data, line_bytes);
      if constexpr (V > 1) _tile_loadd(1, S.at(1, 0).data, line_bytes);
      if constexpr (N > 1) _tile_loadd(2, S.at(0, 1).data, line_bytes);
      if constexpr (V > 1 && N > 1) _tile_loadd(3, S.at(1, 1).data, line_bytes);
    } else {
      _tile_zero(0);
      if constexpr (V > 1) _tile_zero(1);
      if constexpr (N > 1) _tile_zero(2);
      if constexpr (V > 1 && N > 1) _tile_zero(3);
    }
    for (index_t l = 0; l < depth; ++l) {
      _tile_loadd(4, B.at(0, l).data, line_bytes);
      _tile_loadd(6, A.at(0, l).data, line_bytes);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (V > 1) {
        _tile_loadd(7, A.at(1, l).data, line_bytes);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (N > 1) {
        _tile_loadd(5, B.at(1, l).data, line_bytes);
        _tile_dpbf16ps(2, 5, 6);
        if constexpr (V > 1) _tile_dpbf16ps(3, 5, 7);
      }
    }
    _tile_stored(0, C.data, line_bytes);
    if constexpr (V > 1) _tile_stored(1, C.at(1, 0).data, line_bytes);
    if constexpr (N > 1) _tile_stored(2, C.at(0, 1).data, line_bytes);
    if constexpr (V > 1 && N > 1) _tile_stored(3, C.at(1, 1).data, line_bytes);
    std::atomic_signal_fence(std::memory_order_seq_cst);
  }

 private:
  static constexpr int line_bytes = sizeof(pair_tile) / tile_lines;
};
#endif

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
