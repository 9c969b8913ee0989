// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/pair_tiles.hpp: squares of 16 × 16 pairs of bfloat16, and their products by Intel's AMX.
#pragma once
#include <hoft/cpu/kernel/pairs.hpp>

#if HOFT_HAS_PAIR_TILES
#include <algorithm>
#include <atomic>
#include <cstdint>
#endif

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

struct alignas(64) pair_tile {
  static constexpr index_t lines = 16;
  static constexpr index_t terms = 2 * lines;  ///< of a sum
  bfloat16_pair pairs[lines * lines];
};
struct alignas(64) float_tile {
  float numbers[pair_tile::lines * pair_tile::lines];
};

/// Tiles of an operand. Those along a sum lie one behind another. For the next 16 rows or columns they begin `step`
/// tiles later.
struct pair_tiles {
  pair_tile const* data = nullptr;
  index_t step = 0;
  pair_tiles at(index_t line, index_t l) const { return {data + line * step + l, step}; }
};
/// Tiles of a result. Those of one column of tiles lie one behind another. The next column begins `step` tiles later.
template <class Tile>
struct float_tiles {
  Tile* data = nullptr;
  index_t step = 0;
  float_tiles at(index_t row, index_t col) const { return {data == nullptr ? data : data + row + col * step, step}; }
};

#if HOFT_HAS_PAIR_TILES
/// The processor's tiles. Tests put loops in their place.
struct amx {
  /// Whether Linux lets this process use tiles. The first call asks. A yes holds for all threads and for good.
  static bool may_be_used() {
    static bool const may = [] {
      // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
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

  /// Makes tiles of this thread's eight registers, until its end. What they were before is lost.
  class registers {
   public:
    registers() {
      struct alignas(64) {
        std::uint8_t palette = 1, first_line = 0, reserved[14] = {};
        std::uint16_t bytes[16] = {};
        std::uint8_t lines[16] = {};
      } shapes;
      std::fill_n(shapes.bytes, 8, std::uint16_t{line_bytes});
      std::fill_n(shapes.lines, 8, std::uint8_t{pair_tile::lines});
      complete_memory();
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
  EIGEN_DONT_INLINE static void multiply(index_t depth, pair_tiles A, pair_tiles B, float_tiles<float_tile const> S,
                                         float_tiles<float_tile> C) {
    complete_memory();
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
    complete_memory();
  }

 private:
  static constexpr int line_bytes = sizeof(pair_tile) / pair_tile::lines;
  /// Compilers are not told all that these instructions read: what was stored before has to be in memory.
  static void complete_memory() { std::atomic_signal_fence(std::memory_order_seq_cst); }
};
#endif

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
