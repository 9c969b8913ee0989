// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/kernel/apply.hpp: Y = X − U F UᴴX in one pass over X.
#pragma once
#include <hoft/cuda/block/collectives.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// A block takes 16 columns at a time. They stay in shared memory between UᴴX and the update if they fit there; they
/// are read again, from the second-level cache, if they do not.
template <class T, class L, class A>
struct apply_kernel {
  static constexpr index_t columns = 16;
  static constexpr index_t most_reflectors = 64;  ///< W has 64 tiles then, of four slices of rows each

  matrix_view<A const> U, F;
  bool adjoint;
  matrix_view<T const, L> X;
  matrix_view<T, L> Y;
  matrix_view<A> W;  ///< [r, n], or empty
  bool keeps_columns;

  struct shared {
    A *partial, *W, *minus_Z;
    T* X;
    HOFT_HOST_DEVICE shared(shared_arena& memory, apply_kernel const& k)
        : partial(memory.template array<A>(threads * tile_elements)),
          W(memory.template array<A>(k.U.cols * columns)),
          minus_Z(memory.template array<A>(k.U.cols * columns)),
          X(memory.template array<T>(k.keeps_columns ? k.X.rows * columns : 0)) {}
  };
  index_t shared_bytes() const {
    shared_arena counter;
    shared(counter, *this);
    return counter.size();
  }
  index_t tasks() const { return (X.cols + columns - 1) / columns; }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    shared_arena arena(block.memory);
    shared const memory(arena, *this);
    index_t const m = X.rows, r = U.cols;
    for (index_t task = block.x; task * columns < X.cols; task += block.blocks) {
      index_t const first = task * columns, count = first + columns < X.cols ? columns : X.cols - first;
      auto const x = [&](index_t i, index_t c) {
        if (c >= count) return A(0);
        return static_cast<A>(keeps_columns ? memory.X[c * m + i] : X(i, first + c));
      };
      if (keeps_columns)
        block.each(m * count, [&](index_t e) {
          index_t const i = X.is_col_major ? e % m : e / count, c = X.is_col_major ? e / m : e % count;
          memory.X[c * m + i] = X(i, first + c);
        });
      block_project<1>(
          block, memory.partial, U, columns, [&](index_t, index_t i, index_t c) { return x(i, c); },
          [&](index_t, index_t k, index_t c, A value) {
            memory.W[k * columns + c] = value;
            if (!W.empty() && c < count) W(k, first + c) = value;
          },
          every_tile{});
      block.each(r * columns, [&](index_t e) {
        index_t const k = e / columns, c = e % columns;
        A running(0);
        for (index_t l = 0; l < r; ++l)
          running = multiply_add(adjoint ? conjugate(A(F(l, k))) : A(F(k, l)), memory.W[l * columns + c], running);
        memory.minus_Z[e] = negative(running);
      });
      block.each(m, [&](index_t i) {
        A running[columns];
        for (index_t c = 0; c < columns; ++c) running[c] = x(i, c);
        for (index_t k = 0; k < r; ++k) {
          A const u = U(i, k);
          for (index_t c = 0; c < columns; ++c)
            running[c] = multiply_add(u, memory.minus_Z[k * columns + c], running[c]);
        }
        for (index_t c = 0; c < columns; ++c)
          if (c < count) Y(i, first + c) = static_cast<T>(running[c]);
      });
    }
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
