// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/pair_product.hpp: the product of two matrices of bfloat16, where the processor has instructions that
// add products of them to floats. Both stay in 16 bits: nothing is converted but the result.
#pragma once
#include <hoft/cpu/kernel/pair_packing.hpp>
#include <hoft/cpu/kernel/sum_tiles.hpp>
#include <hoft/cpu/kernel/pair_tile_product.hpp>
#include <hoft/cpu/policy.hpp>

#include <vector>

namespace HOFT_TARGET_NAMESPACE::cpu_backend {

/// Whether matrices of these types are multiplied as they lie.
template <class TA, class TB>
inline constexpr bool takes_pairs = kernel::has_pairs&& std::same_as<std::remove_const_t<TA>, Eigen::bfloat16>&&
    std::same_as<std::remove_const_t<TB>, Eigen::bfloat16>;

#if HOFT_HAS_PAIRS
namespace detail {

/// Terms summed in one sweep: a slab of so many takes 64 KiB of the stack and the second-level cache, six columns of B
/// 6 KiB of the first.
inline constexpr index_t pair_depth = 512;
inline constexpr index_t pair_slab = kernel::tile_vectors<float> * kernel::lanes<float>;

/// Columns of a matrix [k, n] as pairs that lie together, each in a float's place, with zeros behind the last.
class paired_columns {
 public:
  /// All matrices of an object have one k, so zeros stay where they are.
  template <class L>
  void assign(matrix_view<Eigen::bfloat16 const, L> B) {
    constexpr index_t lane = kernel::lanes<float>;
    // An odd number of lines: an even one would put neighbours into few sets of the caches.
    ld_ = ((B.rows + 2 * lane - 1) / (2 * lane) | 1) * lane;
    data_.resize(std::size_t(ld_ * B.cols));
    if (B.rows > 0) fill(B);
  }
  /// From the terms of an even l on.
  kernel::strided<float const> from(index_t l) const { return {data_.data() + l / 2, 1, ld_}; }

 private:
  void fill(matrix_view<Eigen::bfloat16 const, col_major> B) {
    for (index_t j = 0; j < B.cols; ++j)
      std::memcpy(data_.data() + j * ld_, B.data + j * B.ld, std::size_t(B.rows) * sizeof(Eigen::bfloat16));
  }
  void fill(matrix_view<Eigen::bfloat16 const, row_major> B) {
    for (index_t l = 0; l < B.rows; l += 2 * square_side)
      for (index_t j = 0; j < B.cols; j += square_side) {
        auto square = pairs_across(B.data + l * B.ld + j, B.ld, B.rows - l, B.cols - j);
        Eigen::internal::ptranspose(square);
        for (int v = 0; v < (std::min)(index_t{square_side}, B.cols - j); ++v)
          store_pairs(data_.data() + (j + v) * ld_ + l / 2, square.packet[v]);
      }
  }
  index_t ld_ = 0;
  std::vector<float> data_;
};

/// C := A B for up to a slab of rows.
template <class L>
void multiply_slab(matrix_view<Eigen::bfloat16 const, L> A, paired_columns const& B, matrix_view<Eigen::bfloat16> C,
                   std::vector<float>& sums) {
  constexpr index_t lane = kernel::lanes<float>;
  alignas(64) bfloat16_pair slab[pair_slab * pair_depth / 2];
  index_t const height = (A.rows + lane - 1) / lane * lane, k = A.cols;
  for (index_t l = 0; l < k || l == 0; l += pair_depth) {
    index_t const depth = (std::min)(pair_depth, k - l);
    pack_pairs(A.block(0, l, A.rows, depth), height, slab);
    kernel::sum_term<float, bfloat16_pair> const term{slab, height, B.from(l), (depth + 1) / 2};
    float const* const start = l == 0 ? nullptr : sums.data();
    auto const sum = [&](auto* c, index_t ldc) {
      kernel::sum_rows<false, float>(A.rows, C.cols, 1, &term, true, start, pair_slab, c, ldc);
    };
    if (l + pair_depth >= k) return sum(C.data, C.ld);
    sums.resize(std::size_t(pair_slab * C.cols));
    sum(sums.data(), pair_slab);
  }
}

/// C := A B by vectors of pairs. Threads share the columns; or, where they are few, the rows.
template <class LA, class LB>
void multiply_by_pairs(cpu const& policy, matrix_view<Eigen::bfloat16 const, LA> A,
                       matrix_view<Eigen::bfloat16 const, LB> B, matrix_view<Eigen::bfloat16> C) {
  constexpr index_t most = 256;  // columns whose pairs stay in the caches
  struct memory {
    paired_columns pairs;
    std::vector<float> sums;
  };
  auto const multiply = [&](index_t i, index_t rows, index_t j, index_t cols, paired_columns const& pairs,
                            memory& own) {
    multiply_slab(A.block(i, 0, rows, A.cols), pairs, C.block(i, j, rows, cols), own.sums);
  };
  std::vector<memory> of_workers;
  if (C.cols <= most) {
    paired_columns pairs;
    pairs.assign(B);
    parallel_parts(policy, C.rows, pair_slab, of_workers,
                   [&](memory& own, index_t i, index_t rows) { multiply(i, rows, 0, C.cols, pairs, own); });
  } else {
    parallel_parts(policy, C.cols, most, of_workers, [&](memory& own, index_t j, index_t cols) {
      own.pairs.assign(B.columns(j, cols));
      for (index_t i = 0; i < C.rows; i += pair_slab)
        multiply(i, (std::min)(pair_slab, C.rows - i), j, cols, own.pairs, own);
    });
  }
}

/// C := A B by tiles, or by pairs where they may not be used.
template <class LA, class LB>
void multiply_packed(cpu const& policy, matrix_view<Eigen::bfloat16 const, LA> A,
                     matrix_view<Eigen::bfloat16 const, LB> B, matrix_view<Eigen::bfloat16> C) {
#if HOFT_HAS_PAIR_TILES
  if (kernel::amx::may_be_used()) return multiply_by_tiles<kernel::amx>(policy, A, B, C);
#endif
  multiply_by_pairs(policy, A, B, C);
}

}  // namespace detail

/// C := A B, A [m, k], B [k, n], C [m, n]. Each element is one sum of floats, rounded to the nearest after each step,
/// whatever the caller's modes; subnormal numbers count as zeros. By vectors the sum goes pair by pair in the order of
/// k, by tiles (pair_tiles.hpp) also in the order of k, 32 products at a time.
template <class LA, class LB>
void pair_product(cpu const& policy, matrix_view<Eigen::bfloat16 const, LA> A, matrix_view<Eigen::bfloat16 const, LB> B,
                  matrix_view<Eigen::bfloat16> C) {
  cpu const threads = worth_threads(policy, C.rows * C.cols * A.cols);
  constexpr index_t many = 32;
  if (C.rows >= many || C.cols < many) return detail::multiply_packed(threads, A, B, C);
  // Few rows: B, the large one, passes by once, as the left operand of the transposed product.
  std::vector<Eigen::bfloat16> memory(std::size_t(C.rows * C.cols));
  matrix_view<Eigen::bfloat16> const turned(memory.data(), C.cols, C.rows);
  detail::multiply_packed(threads, B.transposed(), A.transposed(), turned);
  for (index_t j = 0; j < C.cols; ++j)
    for (index_t i = 0; i < C.rows; ++i) C(i, j) = turned(j, i);
}
#endif

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
