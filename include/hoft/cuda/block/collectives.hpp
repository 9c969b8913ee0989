// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/block/collectives.hpp: what all threads of a block do together. Sums are made in a fixed order: slices of
// threads, then over slices; nothing is atomic.
#pragma once
#include <hoft/cuda/block/block.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// f(0), ..., f(n - 1) combined, the same for all, beginning with T(0): strided by threads, then over threads in a
/// fixed order. partial [threads], shared.
template <class Block, class T, class F, class Combine>
HOFT_HOST_DEVICE T block_reduce(Block const& block, T* partial, index_t n, F const& f, Combine const& combine) {
  return block.combined(
      partial,
      [&](index_t t) {
        T running(0);
        for (index_t i = t; i < n; i += threads) running = combine(running, f(i));
        return running;
      },
      combine);
}
/// The sum of f(i).
template <class Block, class T, class F>
HOFT_HOST_DEVICE T block_sum(Block const& block, T* partial, index_t n, F const& f) {
  return block_reduce(block, partial, n, f, [](T a, T b) { return sum(a, b); });
}
/// The largest f(i) >= 0; NaN if one is.
template <class Block, class T, class F>
HOFT_HOST_DEVICE T block_max(Block const& block, T* partial, index_t n, F const& f) {
  return block_reduce(block, partial, n, f, [](T a, T b) { return larger(a, b); });
}

/// Register tiles of block_project.
inline constexpr index_t register_tile = 4, tile_elements = register_tile * register_tile;

/// out(n, k, c, Σ_i conj(U(i, k)) x(n, i, c)) for N matrices x of `columns` columns, by tiles of 4 x 4, each summed
/// over slices of rows and then over slices, in order. Tiles for which wanted(k, c) is false at their first element are
/// left out. partial [N tile_elements threads], shared.
template <index_t N, class Block, class T, class X, class Out, class Wanted>
HOFT_HOST_DEVICE void block_project(Block const& block, T* partial, matrix_view<T const> U, index_t columns, X const& x,
                                    Out const& out, Wanted const& wanted) {
  index_t const r = U.cols, down = (r + register_tile - 1) / register_tile,
                tiles = down * ((columns + register_tile - 1) / register_tile);
  for (index_t first = 0; first < tiles; first += threads) {
    index_t const here = first + threads < tiles ? threads : tiles - first, slices = threads / here;
    block.each(here * slices, [&](index_t t) {
      index_t const at = first + t / slices, k0 = at % down * register_tile, c0 = at / down * register_tile;
      if (!wanted(k0, c0)) return;
      T running[N][tile_elements];
      for (index_t n = 0; n < N; ++n)
        for (index_t e = 0; e < tile_elements; ++e) running[n][e] = T(0);
      for (index_t i = t % slices; i < U.rows; i += slices) {
        T left[register_tile];
        for (index_t e = 0; e < register_tile; ++e) left[e] = k0 + e < r ? conjugate(T(U(i, k0 + e))) : T(0);
        for (index_t n = 0; n < N; ++n) {
          T right[register_tile];
          for (index_t e = 0; e < register_tile; ++e) right[e] = c0 + e < columns ? x(n, i, c0 + e) : T(0);
          for (index_t e = 0; e < tile_elements; ++e)
            running[n][e] = multiply_add(left[e % register_tile], right[e / register_tile], running[n][e]);
        }
      }
      for (index_t n = 0; n < N; ++n)
        for (index_t e = 0; e < tile_elements; ++e) partial[(n * tile_elements + e) * threads + t] = running[n][e];
    });
    block.each(here * tile_elements, [&](index_t t) {
      index_t const at = first + t / tile_elements, e = t % tile_elements;
      index_t const k0 = at % down * register_tile, c0 = at / down * register_tile, k = k0 + e % register_tile,
                    c = c0 + e / register_tile;
      if (k >= r || c >= columns || !wanted(k0, c0)) return;
      for (index_t n = 0; n < N; ++n) {
        T total(0);
        for (index_t l = 0; l < slices; ++l)
          total = sum(total, partial[(n * tile_elements + e) * threads + t / tile_elements * slices + l]);
        out(n, k, c, total);
      }
    });
  }
}
/// All tiles.
struct every_tile {
  HOFT_HOST_DEVICE constexpr bool operator()(index_t, index_t) const { return true; }
};

/// F := (diag(1/tau) + A)⁻¹, A strictly upper [r, r], by one block. Diagonal blocks of 16 by columns, all of them at
/// once; above them T₁₂ = −T₁₁ (A₁₂ T₂₂), pairs of equal level at once, with A₁₂ T₂₂ kept in the triangle that ends as
/// zero. Nothing is divided by tau.
template <class Block, class T>
HOFT_HOST_DEVICE void invert_triangle(Block const& block, matrix_view<T const> A, vector_view<T const> tau,
                                      matrix_view<T> F) {
  constexpr index_t direct = 16;
  index_t const r = A.cols;
  block.each(r * r, [&](index_t e) { F(e % r, e / r) = e % r == e / r ? tau[e % r] : T(0); });
  for (index_t step = 1; step < direct; ++step)  // column `step` of every diagonal block
    block.each(r, [&](index_t i) {
      index_t const first = i / direct * direct, j = first + step;
      if (j >= r || i >= j) return;
      T total(0);
      for (index_t l = i; l < j; ++l) total = multiply_add(F(i, l), A(l, j), total);
      F(i, j) = negative(product(total, tau[j]));
    });
  for (index_t half = direct; half < r; half *= 2) {
    // Element (i, c) of a pair whose second half begins at q: i in the first half, c in the second.
    auto const each_above = [&](auto const& f) {
      block.each(r * half, [&](index_t e) {
        index_t const c = e / half, q = c / half * half;
        if (q / half % 2 == 1) f(q, q - half + e % half, c);
      });
    };
    each_above([&](index_t q, index_t i, index_t c) {
      T total(0);
      for (index_t l = q; l <= c; ++l) total = multiply_add(A(i, l), F(l, c), total);
      F(c, i) = total;
    });
    each_above([&](index_t q, index_t i, index_t c) {
      T total(0);
      for (index_t l = i; l < q; ++l) total = multiply_add(F(i, l), F(c, l), total);
      F(i, c) = negative(total);
    });
  }
  block.each(r * r, [&](index_t e) {
    if (e % r > e / r) F(e % r, e / r) = T(0);
  });
}

}  // namespace HOFT_CUDA_NAMESPACE
