// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/kernel/elements.hpp: kernels on whole matrices. Each is one pass over its operands; what belongs together
// in one pass has a kernel of its own (accumulate.hpp, apply.hpp, backward.hpp).
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/block/collectives.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// f(i, j) for every element of a matrix [inner, outer], neighbours along `inner`.
template <class F>
struct elements {
  static constexpr index_t tile = 32;
  index_t inner, outer;
  F f;

  index_t tiles() const { return (inner + tile - 1) / tile * ((outer + tile - 1) / tile); }
  static index_t shared_bytes() { return 0; }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    index_t const across = (inner + tile - 1) / tile, all = across * ((outer + tile - 1) / tile);
    for (index_t at = block.x; at < all; at += block.blocks) {
      index_t const first = at % across * tile, line = at / across * tile;
      block.each(tile * tile, [&](index_t e) {
        index_t const i = first + e % tile, j = line + e / tile;
        if (i < inner && j < outer) f(i, j);
      });
    }
  }
};

/// C := S + alpha op(A) op(B), any layouts and any conjugation: for what cuBLAS has no name for. S without data is
/// zero.
template <class T, class LA, class LB, class LC>
struct tile_product {
  static constexpr index_t tile = 32, depth = 16;
  T alpha;
  matrix_view<T const, LA> A;
  bool conjugate_a;
  matrix_view<T const, LB> B;
  bool conjugate_b;
  matrix_view<T const, LC> S;
  matrix_view<T, LC> C;

  static constexpr index_t shared_bytes() { return (tile * tile + 2 * tile * depth) * index_t(sizeof(T)); }
  index_t tiles() const { return (C.rows + tile - 1) / tile * ((C.cols + tile - 1) / tile); }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    shared_arena memory(block.memory);
    T* const total = memory.array<T>(tile * tile);
    T* const a = memory.array<T>(tile * depth);
    T* const b = memory.array<T>(tile * depth);
    index_t const down = (C.rows + tile - 1) / tile, all = down * ((C.cols + tile - 1) / tile);
    for (index_t at = block.x; at < all; at += block.blocks) {
      index_t const first = at % down * tile, column = at / down * tile;
      block.each(tile * tile, [&](index_t e) { total[e] = T(0); });
      for (index_t l = 0; l < A.cols; l += depth) {
        block.each(tile * depth, [&](index_t e) {  // neighbours in memory by neighbouring threads
          index_t const i = A.is_col_major ? e % tile : e / depth, d = A.is_col_major ? e / tile : e % depth;
          bool const inside = first + i < A.rows && l + d < A.cols;
          a[d * tile + i] = inside ? conjugate_if(conjugate_a, A(first + i, l + d)) : T(0);
        });
        block.each(tile * depth, [&](index_t e) {
          index_t const j = B.is_col_major ? e / depth : e % tile, d = B.is_col_major ? e % depth : e / tile;
          bool const inside = column + j < B.cols && l + d < B.rows;
          b[d * tile + j] = inside ? conjugate_if(conjugate_b, B(l + d, column + j)) : T(0);
        });
        block.each(tile * tile, [&](index_t e) {
          T running = total[e];
          for (index_t d = 0; d < depth; ++d)
            running = multiply_add(a[d * tile + e % tile], b[d * tile + e / tile], running);
          total[e] = running;
        });
      }
      block.each(tile * tile, [&](index_t e) {
        index_t const i = first + (C.is_col_major ? e % tile : e / tile);
        index_t const j = column + (C.is_col_major ? e / tile : e % tile);
        if (i >= C.rows || j >= C.cols) return;
        T const value = product(alpha, total[i - first + (j - column) * tile]);
        C(i, j) = S.data == nullptr ? value : sum(S(i, j), value);
      });
    }
  }
};

/// A block as the team of a column (backend/columns.hpp).
template <class Block, class T>
struct block_team {
  Block const& block;
  T* partial;  ///< [threads], shared
  template <class F>
  HOFT_HOST_DEVICE void each(index_t n, F const& f) const {
    block.each(n, f);
  }
  template <class F>
  HOFT_HOST_DEVICE real_t<T> largest(index_t n, F const& f) const {
    return block_max(block, reinterpret_cast<real_t<T>*>(partial), n, f);
  }
  template <class L>
  HOFT_HOST_DEVICE T dot(matrix_view<T const, L> X, matrix_view<T const, L> Y, index_t j) const {
    return block_sum(block, partial, X.rows, [&](index_t i) { return product(conjugate(X(i, j)), Y(i, j)); });
  }
  HOFT_HOST_DEVICE void divide(matrix_view<T> X, index_t j, real_t<T> s) const {
    block.each(X.rows, [&](index_t i) { X(i, j) = over_real(X(i, j), s); });
  }
};
/// f(team, j) for every column j < cols, a block for each.
template <class F>
struct columns_kernel {
  index_t cols;
  F f;
  static constexpr index_t shared_bytes() { return threads * index_t(sizeof(typename F::scalar)); }
  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    using T = typename F::scalar;
    T* const partial = shared_arena(block.memory).template array<T>(threads);
    for (index_t j = block.x; j < cols; j += block.blocks) f(block_team<Block, T>{block, partial}, j);
  }
};

template <class T>
struct invert_triangle_kernel {
  matrix_view<T const> A;
  vector_view<T const> tau;
  matrix_view<T> F;
  static constexpr index_t shared_bytes() { return 0; }
  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    invert_triangle(block, A, tau, F);
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
