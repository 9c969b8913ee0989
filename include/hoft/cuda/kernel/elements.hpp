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

/// One column for each block: Û := U / ‖U‖, scales(:, j) = (μ, ν) with ‖u‖ = μ ν. As on the CPU: μ = 1 unless squares
/// would leave the range, else a power of two next to the largest magnitude, 0 for a zero column.
template <class TU, class LU, class T>
struct normalise_columns_kernel {
  using real = real_t<T>;
  matrix_view<TU, LU> U;
  matrix_view<T> Uhat;
  matrix_view<real> scales;

  static constexpr index_t shared_bytes() { return threads * index_t(sizeof(real)); }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    real* const partial = shared_arena(block.memory).template array<real>(threads);
    for (index_t j = block.x; j < U.cols; j += block.blocks) {
      auto const element = [&](index_t i) { return static_cast<T>(U(i, j)); };
      auto const squares = [&](real mu) {
        return block_sum(block, partial, U.rows, [&](index_t i) { return squared(over_real(element(i), mu)); });
      };
      real mu(1), total = squares(mu);
      if (!is_safe_sum(total)) {
        real const largest = block_max(block, partial, U.rows, [&](index_t i) { return magnitude(element(i)); });
        mu = power_of_two_below(largest);
        total = mu == real(0) ? real(1) : squares(mu);
      }
      real const nu = square_root(total);
      block.each(U.rows, [&](index_t i) {
        Uhat(i, j) = over_real(mu == real(0) ? element(i) : over_real(element(i), mu), nu);
      });
      block.each(1, [&](index_t) { scales(0, j) = mu, scales(1, j) = nu; });
    }
  }
};

/// One column for each block: du := (d − û (ûᴴd) tau / 2) / ‖u‖.
template <class T, class TU, class LU>
struct normalise_columns_backward_kernel {
  matrix_view<T const> Uhat;
  matrix_view<real_t<T> const> scales;
  vector_view<T const> tau;
  matrix_view<T const> D;
  matrix_view<TU, LU> dU;

  static constexpr index_t shared_bytes() { return threads * index_t(sizeof(T)); }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    T* const partial = shared_arena(block.memory).template array<T>(threads);
    for (index_t j = block.x; j < D.cols; j += block.blocks) {
      T const along =
          block_sum(block, partial, D.rows, [&](index_t i) { return product(conjugate(Uhat(i, j)), D(i, j)); });
      T const factor = negative(times_real(product(along, tau[j]), real_t<T>(0.5)));
      real_t<T> const mu = scales(0, j), nu = scales(1, j);
      block.each(D.rows, [&](index_t i) {
        T const d = multiply_add(Uhat(i, j), factor, D(i, j));
        dU(i, j) = static_cast<TU>(mu == real_t<T>(0) ? T(0) : over_real(over_real(d, nu), mu));
      });
    }
  }
};

/// One column for each block: d_j := Σ_l conj(X(l, j)) Y(l, j), or added to d_j.
template <class T, class L>
struct column_dots_kernel {
  matrix_view<T const, L> X, Y;
  vector_view<T> d;
  bool adds;

  static constexpr index_t shared_bytes() { return threads * index_t(sizeof(T)); }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    T* const partial = shared_arena(block.memory).template array<T>(threads);
    for (index_t j = block.x; j < X.cols; j += block.blocks) {
      T const total =
          block_sum(block, partial, X.rows, [&](index_t i) { return product(conjugate(X(i, j)), Y(i, j)); });
      block.each(1, [&](index_t) { d[j] = adds ? sum(d[j], total) : total; });
    }
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
