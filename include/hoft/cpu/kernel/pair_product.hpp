// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/pair_product.hpp: the product of two matrices of bfloat16, where the processor has an instruction
// that adds two products of them to a float. Both stay in 16 bits: nothing is converted but the result.
#pragma once
#include <hoft/cpu/kernel/sum_tiles.hpp>
#include <hoft/cpu/policy.hpp>

#include <vector>

namespace HOFT_TARGET_NAMESPACE::cpu_backend {

/// Whether matrices of these types are multiplied as they lie.
template <class TA, class TB>
inline constexpr bool takes_pairs = kernel::has_pairs&& std::same_as<std::remove_const_t<TA>, Eigen::bfloat16>&&
    std::same_as<std::remove_const_t<TB>, Eigen::bfloat16>;

#if defined(EIGEN_VECTORIZE_AVX512) && defined(__AVX512BF16__)
namespace detail {

using kernel::bfloat16_pair;

/// Terms summed in one sweep: a slab of so many takes 128 KiB of the second-level cache, six columns of B 12 KiB of the
/// first.
inline constexpr index_t pair_depth = 1024;
inline constexpr index_t pair_slab = kernel::tile_vectors<float> * kernel::lanes<float>;

/// The first `count` of a vector's elements, zeros behind them.
inline kernel::narrow_bits load_narrow(Eigen::bfloat16 const* from, index_t count) {
  kernel::narrow_bits bits{};
  if (count >= kernel::lanes<float>) std::memcpy(&bits, from, sizeof(bits));
  else if (count > 0) std::memcpy(&bits, from, std::size_t(count) * sizeof(*from));
  return bits;
}

/// A [rows, depth] as columns of `height` pairs, a multiple of the lanes, with zeros behind rows and depth.
inline void pack_pairs(matrix_view<Eigen::bfloat16 const, col_major> A, index_t height, bfloat16_pair* slab) {
  constexpr index_t lane = kernel::lanes<float>;
  for (index_t d = 0; d < A.cols; d += 2, slab += height) {
    Eigen::bfloat16 const *const first = A.data + d * A.ld, *const second = first + A.ld;
    for (index_t i = 0; i < height; i += lane) {
      auto const low = load_narrow(first + i, A.rows - i);
      auto const high = d + 1 < A.cols ? load_narrow(second + i, A.rows - i) : kernel::narrow_bits{};
      auto const pairs = kernel::from_upper_halves(high) | kernel::from_upper_halves(low) >> 16;
      std::memcpy(static_cast<void*>(slab + i), &pairs, sizeof(pairs));
    }
  }
}
/// Pairs lie together here, and are turned in squares.
inline void pack_pairs(matrix_view<Eigen::bfloat16 const, row_major> A, index_t height, bfloat16_pair* slab) {
  constexpr int lane = kernel::lanes<float>;
  auto none = kernel::zero<float>();
  for (index_t i = 0; i < height; i += lane)
    for (index_t d = 0; d < A.cols; d += 2 * lane) {
      index_t const count = (std::min)(index_t(2 * lane), A.cols - d);
      Eigen::internal::PacketBlock<decltype(none), lane> square;
      for (int v = 0; v < lane; ++v) {
        square.packet[v] = none;
        if (i + v >= A.rows) continue;
        Eigen::bfloat16 const* const row = A.data + (i + v) * A.ld + d;
        if (count == 2 * lane) std::memcpy(&square.packet[v], row, sizeof(none));
        else std::memcpy(&square.packet[v], row, std::size_t(count) * sizeof(*row));
      }
      Eigen::internal::ptranspose(square);
      for (int v = 0; v < (count + 1) / 2; ++v)
        std::memcpy(static_cast<void*>(slab + (d / 2 + v) * height + i), &square.packet[v], sizeof(none));
    }
}

/// Columns of a matrix [k, n] as pairs that lie together, each in a float's place; zeros behind the last.
class paired_columns {
 public:
  template <class L>
  void assign(matrix_view<Eigen::bfloat16 const, L> B) {
    pairs_ = (B.rows + 1) / 2;
    data_.resize(std::size_t(pairs_ * B.cols));
    for (index_t j = 0; j < B.cols; ++j) {
      auto* const to = data_.data() + j * pairs_;
      if constexpr (B.is_col_major) {
        if (B.rows % 2 != 0) to[pairs_ - 1] = 0;
        std::memcpy(to, B.data + j * B.ld, std::size_t(B.rows) * sizeof(Eigen::bfloat16));
      } else {
        for (index_t p = 0; p < pairs_; ++p) {
          Eigen::bfloat16 const* const from = B.data + 2 * p * B.ld + j;
          bfloat16_pair const pair{from[0].value, 2 * p + 1 < B.rows ? from[B.ld].value : std::uint16_t{0}};
          std::memcpy(to + p, &pair, sizeof(pair));
        }
      }
    }
  }
  /// From the terms of an even l on.
  kernel::strided<float const> from(index_t l) const { return {data_.data() + l / 2, 1, pairs_}; }

 private:
  index_t pairs_ = 0;
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

}  // namespace detail

/// C := A B, A [m, k], B [k, n], C [m, n]. Each element is one sum of floats, pair by pair in the order of k, rounded
/// to the nearest after each product, whatever the caller's modes; subnormal numbers count as zeros.
template <class LA, class LB>
void pair_product(cpu const& policy, matrix_view<Eigen::bfloat16 const, LA> A, matrix_view<Eigen::bfloat16 const, LB> B,
                  matrix_view<Eigen::bfloat16> C) {
  constexpr index_t most = 256, height = detail::pair_slab;  // columns whose pairs stay in the caches; rows of a slab
  struct memory {
    detail::paired_columns pairs;
    std::vector<float> sums;
  };
  std::vector<memory> of_worker(std::size_t(worker_count(policy)));
  auto const multiply = [&](index_t i, index_t j, index_t cols, detail::paired_columns const& pairs, memory& own) {
    index_t const rows = (std::min)(height, C.rows - i);
    detail::multiply_slab(A.block(i, 0, rows, A.cols), pairs, C.block(i, j, rows, cols), own.sums);
  };
  // Threads share the columns; or, where they are few, the rows.
  if (C.cols <= most) {
    detail::paired_columns pairs;
    pairs.assign(B);
    parallel_for(policy, (C.rows + height - 1) / height, [&](index_t worker, index_t task) {
      multiply(task * height, 0, C.cols, pairs, of_worker[std::size_t(worker)]);
    });
  } else {
    parallel_for(policy, (C.cols + most - 1) / most, [&](index_t worker, index_t task) {
      index_t const j = task * most, cols = (std::min)(most, C.cols - j);
      memory& own = of_worker[std::size_t(worker)];
      own.pairs.assign(B.columns(j, cols));
      for (index_t i = 0; i < C.rows; i += height) multiply(i, j, cols, own.pairs, own);
    });
  }
}
#endif

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
