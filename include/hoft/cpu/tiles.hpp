// hoft/cpu/tiles.hpp: the two register tiles under every product on the CPU.
//
//   sum_columns   C[:, j] = S[:, j] + sum_l A[:, l] op(B(l, j))     vectors run along the rows of C
//   dot_tile      C(k, j) = S(k, j) + op(A[:, k])ᵀ op(B[:, j])      vectors run along the sum
//
// Every element of C is summed in an order that depends on shapes alone.
#pragma once
#include <hoft/cpu/packet.hpp>

#include <algorithm>
#include <utility>

namespace hoft::cpu_backend::kernel {

template <int N>
using constant = std::integral_constant<int, N>;

/// f(first, constant<width>) with widths 6, 4, 2, 1 that cover [0, n).
template <class F>
EIGEN_ALWAYS_INLINE void for_each_tile_col(index_t n, F&& f) {
  index_t j = 0;
  for (; j + tile_cols <= n && n - j != 8; j += tile_cols) f(j, constant<tile_cols>{});
  for (; j + 4 <= n; j += 4) f(j, constant<4>{});
  if (n - j >= 2) f(j, constant<2>{}), j += 2;
  if (j < n) f(j, constant<1>{});
}

/// f(first, constant<count>) with counts Most, then 2 and 1, that cover [0, n).
template <int Most, class F>
EIGEN_ALWAYS_INLINE void for_each_group(index_t n, F&& f) {
  index_t i = 0;
  for (; i + Most <= n; i += Most) f(i, constant<Most>{});
  if constexpr (Most > 2)
    if (n - i >= 2) f(i, constant<2>{}), i += 2;
  for (; i < n; ++i) f(i, constant<1>{});
}

// --- vectors along the rows -----------------------------------------------------------------------------------

/// One product of a sum: `depth` columns of A, each of consecutive rows, times rows of B, read element by element.
template <class T>
struct sum_term {
  T const* a = nullptr;
  index_t lda = 0;
  strided<T const> b;
  index_t depth = 0;
  sum_term at(index_t i, index_t j) const { return {a + i, lda, b.at(0, j), depth}; }
};

/// Columns that will be read soon, beside those that a product reads now.
template <class T>
struct prefetched {
  T const* data = nullptr;
  index_t ld = 0, cols = 0;
  prefetched at(index_t i, index_t j) const { return {data + i + j * ld, ld, cols - j}; }
};

/// How a product moves memory beside its arithmetic.
template <class T>
struct traffic {
  prefetched<T> ahead, also_ahead;
  bool streams = false;  ///< C goes past the caches
  traffic at(index_t i, index_t j) const { return {ahead.at(i, j), also_ahead.at(i, j), streams}; }
};

template <int V, int N, class T>
EIGEN_ALWAYS_INLINE void prefetch_tile(prefetched<T> const& p) {
  if (p.cols < N) return;
  T const* column = p.data;
  HOFT_UNROLL
  for (int j = 0; j < N; ++j, column += p.ld) {
    HOFT_UNROLL
    for (int v = 0; v < V; ++v) prefetch(column + v * lanes<T>);
  }
}

template <int V, int N, class T>
EIGEN_ALWAYS_INLINE void load_tile(T const* s, index_t lds, packet<T> (&sum)[N][V]) {
  if (s != nullptr) {
    HOFT_UNROLL
    for (int j = 0; j < N; ++j, s += lds) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) sum[j][v] = load(s + v * lanes<T>);
    }
  } else {
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) sum[j][v] = zero<T>();
    }
  }
}
template <int V, int N, class T>
EIGEN_ALWAYS_INLINE void store_tile(packet<T> const (&sum)[N][V], T* c, index_t ldc, bool streams) {
  if (streams) {
    HOFT_UNROLL
    for (int j = 0; j < N; ++j, c += ldc) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) stream(c + v * lanes<T>, sum[j][v]);
    }
  } else {
    HOFT_UNROLL
    for (int j = 0; j < N; ++j, c += ldc) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) Eigen::internal::pstoreu(c + v * lanes<T>, sum[j][v]);
    }
  }
}

/// sum[j] += one product. While the columns of A pass, they can be left in `copy`, V vectors each, and those at
/// a + ahead be prefetched.
template <int V, int N, bool ConjB, bool Copy, class T>
EIGEN_ALWAYS_INLINE void add_products(sum_term<T> const& term, packet<T> (&sum)[N][V], T* copy = nullptr,
                                      index_t ahead = 0) {
  using namespace Eigen::internal;
  using P = packet<T>;
  constexpr int lane = lanes<T>;
  T const* a = term.a;
  T const* b = term.b.data;
  index_t const b_row = term.b.row, b_col = term.b.col, lda = term.lda;
  for (index_t l = term.depth; l > 0; --l) {
    P column[V];
    HOFT_UNROLL
    for (int v = 0; v < V; ++v) column[v] = load(a + v * lane);
    if constexpr (Copy) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) pstore(copy + v * lane, column[v]);
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) prefetch(a + ahead + v * lane);
      copy += V * lane;
    }
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      P factor = broadcast(conj_if<ConjB>(b[j * b_col]));
      keep_in_register<T>(factor);
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) sum[j][v] = pmadd(column[v], factor, sum[j][v]);
    }
    a += lda;
    b += b_row;
  }
}

// Tiles are functions of their own: inlined into their loops, compilers keep the addresses of all columns on the stack.

/// C = S + the sum of up to two products, V vectors of rows by N columns. S has no data (zero), is C or apart from it.
template <int V, int N, bool ConjB, class T>
EIGEN_DONT_INLINE void sum_tile(int terms, sum_term<T> const* term, T const* s, index_t lds, T* c, index_t ldc,
                                traffic<T> const& moves) {
  packet<T> sum[N][V];
  load_tile<V, N>(s, lds, sum);
  prefetch_tile<V, N>(moves.ahead);
  prefetch_tile<V, N>(moves.also_ahead);
  for (; terms > 0; --terms, ++term) add_products<V, N, ConjB, false>(*term, sum);
  store_tile<V, N>(sum, c, ldc, moves.streams);
}

/// C = S + one product whose A is left in `copy`.
template <int V, int N, bool ConjB, class T>
EIGEN_DONT_INLINE void copying_sum_tile(sum_term<T> const& term, T const* s, index_t lds, T* c, index_t ldc, T* copy,
                                        index_t ahead) {
  packet<T> sum[N][V];
  load_tile<V, N>(s, lds, sum);
  add_products<V, N, ConjB, true>(term, sum, copy, ahead);
  store_tile<V, N>(sum, c, ldc, false);
}

/// The same for fewer rows than a vector has: S and C are read and written there only, A in whole vectors.
template <int N, bool ConjB, class T>
EIGEN_DONT_INLINE void edge_tile(index_t rows, int terms, sum_term<T> const* term, T const* s, index_t lds, T* c,
                                 index_t ldc) {
  alignas(64) T edge[N * lanes<T>] = {};
  if (s != nullptr)
    for (index_t j = 0; j < N; ++j) std::copy_n(s + j * lds, rows, edge + j * lanes<T>);
  sum_tile<1, N, ConjB, T>(terms, term, edge, lanes<T>, edge, lanes<T>, {});
  for (index_t j = 0; j < N; ++j) std::copy_n(edge + j * lanes<T>, rows, c + j * ldc);
}

/// C [rows, N] = S + the sum of up to two products, for any number of rows. A is readable in whole vectors where
/// `padded`; where it is not, rows beyond the last whole vector are left out.
template <int N, bool ConjB, class T>
void sum_columns(index_t rows, int terms, sum_term<T> const* first, bool padded, T const* s, index_t lds, T* c,
                 index_t ldc, traffic<T> moves) {
  index_t const whole = rows / lanes<T>, rest = rows % lanes<T>;
  sum_term<T> term[2] = {first[0], terms > 1 ? first[1] : sum_term<T>{}};
  auto const advance = [&](index_t i) {
    for (int t = 0; t < terms; ++t) term[t].a += i;
    if (s != nullptr) s += i;
    c += i;
    moves.ahead.data += i;
    moves.also_ahead.data += i;
  };
  for_each_group<tile_vectors<T>>(whole, [&](index_t, auto count) {
    sum_tile<count, N, ConjB, T>(terms, term, s, lds, c, ldc, moves);
    advance(count * lanes<T>);
  });
  if (rest > 0 && padded) edge_tile<N, ConjB, T>(rest, terms, term, s, lds, c, ldc);
}

/// C [rows, n] = S + the sum of up to two products. Where A is not padded, its last rows are packed here.
template <bool ConjB, class T>
void sum_rows(index_t rows, index_t n, int terms, sum_term<T> const* term, bool padded, T const* s, index_t lds, T* c,
              index_t ldc, traffic<T> const& moves = {}) {
  for_each_tile_col(n, [&](index_t j, auto width) {
    sum_term<T> const local[2] = {term[0].at(0, j), terms > 1 ? term[1].at(0, j) : sum_term<T>{}};
    sum_columns<width, ConjB, T>(rows, terms, local, padded, s == nullptr ? s : s + j * lds, lds, c + j * ldc, ldc,
                                 moves.at(0, j));
  });
  index_t const rest = rows % lanes<T>, i = rows - rest;
  if (rest == 0 || padded) return;
  constexpr index_t deepest = 64;
  alignas(64) T edge[deepest * lanes<T>] = {};
  T const* from = s == nullptr ? s : s + i;
  index_t ld = lds;
  for (int t = 0; t < terms; ++t)
    for (index_t l = 0; l < term[t].depth || (l == 0 && t == 0); l += deepest) {
      index_t const depth = std::min(deepest, term[t].depth - l);
      for (index_t d = 0; d < depth; ++d) std::copy_n(term[t].a + (l + d) * term[t].lda + i, rest, edge + d * lanes<T>);
      for_each_tile_col(n, [&](index_t j, auto width) {
        sum_term<T> const packed{edge, lanes<T>, term[t].b.at(l, j), depth};
        edge_tile<width, ConjB, T>(rest, 1, &packed, from == nullptr ? from : from + j * ld, ld, c + i + j * ldc, ldc);
      });
      from = c + i, ld = ldc;
    }
}

// --- vectors along the sum ------------------------------------------------------------------------------------

/// One product of a sum: op(A)ᵀ op(B) over `length` elements. A group of vectors lies together, `step` from the next;
/// columns of A lie `a_col` apart. Where `padded`, the last vector of A may be read whole and is zero beyond `length`.
template <class T>
struct dot_term {
  T const* a;
  index_t step, a_col;
  T const* b;
  index_t b_col;
  index_t length;
  bool padded = false;
  index_t ahead = 0;  ///< columns this far behind those of A are read next
};

/// sum[j][k] += op(A[:, k]) op(B[:, j]) lane by lane, over `steps` groups of Vectors vectors.
template <int K, int N, int Vectors, bool ConjA, bool ConjB, class T>
EIGEN_ALWAYS_INLINE void add_dots(index_t steps, T const*& a, index_t step, index_t a_col, T const*& b, index_t b_col,
                                  packet<T> (&sum)[N][K], index_t ahead = 0) {
  using namespace Eigen::internal;
  using P = packet<T>;
  constexpr int lane = lanes<T>;
  for (; steps > 0; --steps) {
    HOFT_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      P left[K];
      HOFT_UNROLL
      for (int k = 0; k < K; ++k) left[k] = conj_if<ConjA>(load(a + k * a_col + v * lane));
      if constexpr (Vectors == 1) {
        HOFT_UNROLL
        for (int k = 0; k < K; ++k) prefetch(a + ahead + k * a_col);
      }
      HOFT_UNROLL
      for (int j = 0; j < N; ++j) {
        P right = load(b + j * b_col + v * lane);
        keep_in_register<T>(right);
        if constexpr (ConjB) right = pconj(right);
        HOFT_UNROLL
        for (int k = 0; k < K; ++k) sum[j][k] = pmadd(left[k], right, sum[j][k]);
      }
    }
    a += step;
    b += Vectors * lane;
  }
}

/// C(k, j) = S(k, j) + alpha Σ op(A[:, k])ᵀ op(B[:, j]), K columns of A by N of B, over up to two products.
template <int K, int N, int Vectors, bool ConjA, bool ConjB, class T>
EIGEN_DONT_INLINE void dot_tile(T alpha, int terms, dot_term<T> const* term, strided<T const> s, strided<T> c) {
  constexpr int lane = lanes<T>;
  packet<T> sum[N][K];
  load_tile<K, N, T>(nullptr, 0, sum);
  for (; terms > 0; --terms, ++term) {
    auto const [first_a, step, a_col, first_b, b_col, length, padded, ahead] = *term;
    T const* a = first_a;
    T const* b = first_b;
    add_dots<K, N, Vectors, ConjA, ConjB>(length / (Vectors * lane), a, step, a_col, b, b_col, sum, ahead);
    index_t const left = length % (Vectors * lane), rest = left % lane;
    if constexpr (Vectors > 1) add_dots<K, N, 1, ConjA, ConjB>(left / lane, a, lane, a_col, b, b_col, sum);
    if (rest == 0) continue;
    alignas(64) T a_edge[K * lane] = {}, b_edge[N * lane] = {};  // the last vector, padded with zeros
    for (int j = 0; j < N; ++j) std::copy_n(b + j * b_col, rest, b_edge + j * lane);
    T const* edge = b_edge;
    if (padded) {
      add_dots<K, N, 1, ConjA, ConjB, T>(1, a, lane, a_col, edge, lane, sum);
    } else {
      for (int k = 0; k < K; ++k) std::copy_n(a + k * a_col, rest, a_edge + k * lane);
      a = a_edge;
      add_dots<K, N, 1, ConjA, ConjB, T>(1, a, lane, lane, edge, lane, sum);
    }
  }
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) {
    HOFT_UNROLL
    for (int k = 0; k < K; ++k)
      c(k, j) = (s.data != nullptr ? s(k, j) : T(0)) + alpha * Eigen::internal::predux(sum[j][k]);
  }
}

}  // namespace hoft::cpu_backend::kernel
