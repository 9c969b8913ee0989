// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/tuning.hpp: the numbers that measurements on a device decide, and nothing else does.
#pragma once
#include <hoft/cuda/abi.hpp>
#include <hoft/view/matrix_view.hpp>

#include <initializer_list>

namespace HOFT_CUDA_NAMESPACE {

/// Results differ in their last bits with them; all of them are right. Rows come in multiples of 32.
struct tuning {
  index_t lone_threads = 512;              ///< of a block that is alone on its processor: 256 or 512
  index_t least_rows_apart = 128;          ///< of slices by themselves, as long as two fit a processor
  index_t most_rows_apart = 256;           ///< of them, always
  index_t most_rows_projecting = 1024;     ///< at most, of slices that only project
  index_t parts_bytes = 128 << 10;         ///< of parts of a projection, which stay in a cache, for each processor
  index_t sums_bytes = 40 << 20;           ///< of sums of all blocks, which stay in a cache too
  index_t narrow = 64, long_side = 16384;  ///< a product at most so narrow and so long is ours, not cuBLAS's
};

/// For each architecture and newer ones, up to the next row. Nothing has been measured yet: they are what
/// docs/internals/gpu-notes.md reckons.
struct tuning_of_architecture {
  int architecture;
  tuning numbers;
};
inline constexpr tuning_of_architecture tunings[] = {{800, {}}, {900, {}}};

constexpr bool is_possible(tuning const& t) {
  bool in_warps = true;
  for (index_t rows : {t.least_rows_apart, t.most_rows_apart, t.most_rows_projecting})
    in_warps = in_warps && rows > 0 && rows % 32 == 0;
  return in_warps && (t.lone_threads == 256 || t.lone_threads == 512);
}
static_assert([] {
  for (auto const& row : tunings)
    if (!is_possible(row.numbers)) return false;
  return true;
}());

constexpr tuning tuning_for(int architecture) {
  tuning numbers;
  for (auto const& row : tunings)
    if (row.architecture <= architecture) numbers = row.numbers;
  return numbers;
}

}  // namespace HOFT_CUDA_NAMESPACE
