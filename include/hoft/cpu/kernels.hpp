// hoft/cpu/kernels.hpp: the two register tiles under every product on the CPU, written on Eigen's packets so that one
// source serves SSE, AVX2, AVX-512 and NEON.
//
//   columns_kernel  C[:, j] = S[:, j] + alpha * sum_l A[:, l] B(l, j)       vectors run along the rows of C
//   dots_kernel     C(i, j) = S(i, j) + alpha * sum_l A(l, i) B(l, j)       vectors run along the sum
//
// Every element of C is summed in an order that depends on shapes alone.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/core/view.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <utility>

namespace hoft::cpu_backend::kernel {

template <class T>
using packet = typename Eigen::internal::packet_traits<T>::type;
template <class T>
inline constexpr int lanes = Eigen::internal::unpacket_traits<packet<T>>::size;

/// Vectors of accumulators along one side of a tile; `tile_cols` along the other. 4 x 6 accumulators, 4 operands and
/// one broadcast fill 32 registers, 2 x 6 fill 16. Complex products need registers of their own.
template <class T>
inline constexpr int tile_rows = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 && !is_complex<T> ? 4 : 2;
inline constexpr int tile_cols = 6;

/// Terms summed in one sweep: A's part of a tile then stays in the first-level cache.
inline constexpr index_t columns_depth = 256;
template <class T>
inline constexpr index_t dots_depth = index_t{4096} / index_t(sizeof(T));

template <bool Conj, class T>
EIGEN_ALWAYS_INLINE T conj_if(T const& a) {
  if constexpr (Conj) return Eigen::internal::pconj(a);
  else return a;
}

/// A matrix by its first element and two strides: the operand that is read element by element.
template <class T>
struct strided {
  T* data = nullptr;
  index_t row = 0, col = 0;
  T& operator()(index_t i, index_t j) const { return data[i * row + j * col]; }
  strided at(index_t i, index_t j) const { return {data == nullptr ? data : data + i * row + j * col, row, col}; }
};
template <class T, class Layout>
strided<T> as_strided(matrix_view<T, Layout> a) {
  if constexpr (a.is_col_major) return {a.data, 1, a.ld};
  else return {a.data, a.ld, 1};
}

template <int Cols, bool ConjB, class T>
void columns_tile(index_t depth, T alpha, T const* a, index_t lda, strided<T const> b, T const* s, index_t lds, T* c,
                  index_t ldc) {
  using namespace Eigen::internal;
  using P = packet<T>;
  constexpr int rows = tile_rows<T>, lane = lanes<T>;
  P sum[rows][Cols];
  HOFT_UNROLL
  for (int v = 0; v < rows; ++v) {
    HOFT_UNROLL
    for (int j = 0; j < Cols; ++j) sum[v][j] = pset1<P>(T(0));
  }
  for (index_t l = 0; l < depth; ++l) {
    P column[rows];
    HOFT_UNROLL
    for (int v = 0; v < rows; ++v) column[v] = ploadu<P>(a + l * lda + v * lane);
    HOFT_UNROLL
    for (int j = 0; j < Cols; ++j) {
      P const factor = pset1<P>(conj_if<ConjB>(b(l, j)));
      HOFT_UNROLL
      for (int v = 0; v < rows; ++v) sum[v][j] = pmadd(column[v], factor, sum[v][j]);
    }
  }
  P const scale = pset1<P>(alpha);
  HOFT_UNROLL
  for (int j = 0; j < Cols; ++j) {
    HOFT_UNROLL
    for (int v = 0; v < rows; ++v) {
      P const start = s != nullptr ? ploadu<P>(s + j * lds + v * lane) : pset1<P>(T(0));
      pstoreu(c + j * ldc + v * lane, pmadd(scale, sum[v][j], start));
    }
  }
}

/// sum[i][j] += op(a_i) op(b_j) lane by lane, over `vectors` vectors.
template <int Rows, int Cols, bool ConjA, bool ConjB, class T>
EIGEN_ALWAYS_INLINE void add_dots(index_t vectors, T const* a, index_t lda, T const* b, index_t ldb,
                                  packet<T> (&sum)[Rows][Cols]) {
  using namespace Eigen::internal;
  using P = packet<T>;
  for (index_t l = 0; l < vectors * lanes<T>; l += lanes<T>) {
    P left[Rows];
    HOFT_UNROLL
    for (int i = 0; i < Rows; ++i) left[i] = conj_if<ConjA>(ploadu<P>(a + i * lda + l));
    HOFT_UNROLL
    for (int j = 0; j < Cols; ++j) {
      P const right = conj_if<ConjB>(ploadu<P>(b + j * ldb + l));
      HOFT_UNROLL
      for (int i = 0; i < Rows; ++i) sum[i][j] = pmadd(left[i], right, sum[i][j]);
    }
  }
}

template <int Rows, int Cols, bool ConjA, bool ConjB, class T>
void dots_tile(index_t depth, T alpha, T const* a, index_t lda, T const* b, index_t ldb, strided<T const> s,
               strided<T> c) {
  using namespace Eigen::internal;
  using P = packet<T>;
  constexpr int lane = lanes<T>;
  P sum[Rows][Cols];
  HOFT_UNROLL
  for (int i = 0; i < Rows; ++i) {
    HOFT_UNROLL
    for (int j = 0; j < Cols; ++j) sum[i][j] = pset1<P>(T(0));
  }
  index_t const whole = depth / lane, rest = depth % lane;
  add_dots<Rows, Cols, ConjA, ConjB, T>(whole, a, lda, b, ldb, sum);
  if (rest > 0) {  // the last vector, padded with zeros
    T left[Rows * lane] = {}, right[Cols * lane] = {};
    for (int i = 0; i < Rows; ++i) std::copy_n(a + i * lda + whole * lane, rest, left + i * lane);
    for (int j = 0; j < Cols; ++j) std::copy_n(b + j * ldb + whole * lane, rest, right + j * lane);
    add_dots<Rows, Cols, ConjA, ConjB, T>(1, left, lane, right, lane, sum);
  }
  HOFT_UNROLL
  for (int j = 0; j < Cols; ++j) {
    HOFT_UNROLL
    for (int i = 0; i < Rows; ++i) c(i, j) = (s.data != nullptr ? s(i, j) : T(0)) + alpha * predux(sum[i][j]);
  }
}

/// f(first, width) with constant widths 6, 3, 2, 1 that cover [0, n).
template <class F>
EIGEN_ALWAYS_INLINE void for_each_tile_col(index_t n, F&& f) {
  index_t j = 0;
  for (; j + 6 <= n; j += 6) f(j, std::integral_constant<int, 6>{});
  if (n - j >= 3) f(j, std::integral_constant<int, 3>{}), j += 3;
  if (n - j == 2) f(j, std::integral_constant<int, 2>{});
  if (n - j == 1) f(j, std::integral_constant<int, 1>{});
}

/// C [m, n] = S + alpha op(A) op(B), op conjugating or not: A [m, k] and B [k, n] with any strides, S and C with unit
/// row stride. S may be C or have no data (zero). Rows of A are packed into a slab on the stack when they are not
/// neighbours in memory, when a slab is used often, or when the rows end inside a vector.
template <bool ConjA, bool ConjB, class T>
void columns_kernel(index_t m, index_t n, index_t k, T alpha, strided<T const> a, strided<T const> b,
                    strided<T const> s, strided<T> c) {
  constexpr index_t slab_rows = tile_rows<T> * lanes<T>;
  constexpr index_t reuse = 24;  // columns of C from which packing pays
  alignas(64) T slab[slab_rows * columns_depth];
  alignas(64) T edge[slab_rows * tile_cols];
  for (index_t l = 0; l < k || l == 0; l += columns_depth) {
    index_t const depth = std::min(columns_depth, k - l);
    for (index_t i = 0; i < m; i += slab_rows) {
      index_t const rows = std::min(slab_rows, m - i);
      bool const whole = rows == slab_rows;
      T const* panel = a.at(i, l).data;
      index_t panel_stride = a.col;
      if (ConjA || !whole || a.row != 1 || n >= reuse) {
        if (a.row == 1 && !ConjA) {
          for (index_t d = 0; d < depth; ++d) {
            T const* const from = panel + d * a.col;
            std::fill(std::copy(from, from + rows, slab + d * slab_rows), slab + (d + 1) * slab_rows, T(0));
          }
        } else {
          for (index_t d = 0; d < depth; ++d)
            for (index_t v = 0; v < slab_rows; ++v)
              slab[d * slab_rows + v] = v < rows ? (ConjA ? conjugate(a(i + v, l + d)) : a(i + v, l + d)) : T(0);
        }
        panel = slab;
        panel_stride = slab_rows;
      }
      for_each_tile_col(n, [&](index_t j, auto cols) {
        strided<T const> const start = l == 0 ? s.at(i, j) : strided<T const>{c.data, c.row, c.col}.at(i, j);
        T* const out = c.at(i, j).data;
        if (whole) {
          columns_tile<cols, ConjB>(depth, alpha, panel, panel_stride, b.at(l, j), start.data, start.col, out, c.col);
        } else {
          columns_tile<cols, ConjB, T>(depth, alpha, panel, panel_stride, b.at(l, j), nullptr, 0, edge, slab_rows);
          for (index_t q = 0; q < cols; ++q)
            for (index_t v = 0; v < rows; ++v)
              out[v + q * c.col] = (start.data != nullptr ? start(v, q) : T(0)) + edge[v + q * slab_rows];
        }
      });
    }
  }
}

/// C [m, n] = S + alpha op(A)ᵀ op(B), op conjugating or not: A [k, m] and B [k, n] with unit row stride, S and C with
/// any strides. S may be C or have no data (zero).
template <bool ConjA, bool ConjB, class T>
void dots_kernel(index_t m, index_t n, index_t k, T alpha, strided<T const> a, strided<T const> b, strided<T const> s,
                 strided<T> c) {
  constexpr int rows = tile_rows<T>;
  for (index_t l = 0; l < k || l == 0; l += dots_depth<T>) {
    index_t const depth = std::min(dots_depth<T>, k - l);
    for_each_tile_col(n, [&](index_t j, auto cols) {
      T const* const right = b.at(l, j).data;
      auto const tile = [&](index_t i, auto count) {
        strided<T const> const start = l == 0 ? s.at(i, j) : strided<T const>{c.data, c.row, c.col}.at(i, j);
        dots_tile<count, cols, ConjA, ConjB>(depth, alpha, a.at(l, i).data, a.col, right, b.col, start, c.at(i, j));
      };
      index_t i = 0;
      for (; i + rows <= m; i += rows) tile(i, std::integral_constant<int, rows>{});
      for (; i < m; ++i) tile(i, std::integral_constant<int, 1>{});
    });
  }
}

}  // namespace hoft::cpu_backend::kernel
