// hoft/cpu/tiles.hpp: the two register tiles under every product on the CPU.
//
//   sum_tiles     C[:, j] = S[:, j] + sum_l A[:, l] op(B(l, j))     vectors run along the rows of C
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

/// f(first, constant<width>, count) for runs of tiles of equal width, 6, 4, 2 and 1, that cover [0, n).
template <class F>
EIGEN_ALWAYS_INLINE void for_each_tile_run(index_t n, F&& f) {
  static_assert(tile_cols == 6);
  index_t const sixes = n % 6 == 2 && n >= 8 ? n / 6 - 1 : n / 6;  // 8 = 4 + 4
  index_t j = 6 * sixes;
  if (sixes > 0) f(index_t{0}, constant<6>{}, sixes);
  if (index_t const fours = (n - j) / 4; fours > 0) f(j, constant<4>{}, fours), j += 4 * fours;
  if (n - j >= 2) f(j, constant<2>{}, index_t{1}), j += 2;
  if (j < n) f(j, constant<1>{}, index_t{1});
}
/// f(first, constant<width>) for each tile.
template <class F>
EIGEN_ALWAYS_INLINE void for_each_tile_col(index_t n, F&& f) {
  for_each_tile_run(n, [&](index_t first, auto width, index_t count) {
    for (index_t t = 0; t < count; ++t) f(first + t * width, width);
  });
}

/// f(first, constant<size>, count) for runs of groups of Most, then 2 and 1, that cover [0, n).
template <int Most, class F>
EIGEN_ALWAYS_INLINE void for_each_group_run(index_t n, F&& f) {
  static_assert(Most == 4 || Most == 2);
  index_t i = n / Most * Most;
  if (i > 0) f(index_t{0}, constant<Most>{}, n / Most);
  if constexpr (Most == 4)
    if (n - i >= 2) f(i, constant<2>{}, index_t{1}), i += 2;
  if (i < n) f(i, constant<1>{}, index_t{1});
}
/// f(first, constant<size>) for each group.
template <int Most, class F>
EIGEN_ALWAYS_INLINE void for_each_group(index_t n, F&& f) {
  for_each_group_run<Most>(n, [&](index_t first, auto size, index_t count) {
    for (index_t g = 0; g < count; ++g) f(first + g * size, size);
  });
}

/// p += step, a step at a time: known to compilers, the addresses of all columns would be kept, and on the stack.
template <class T>
EIGEN_ALWAYS_INLINE void advance(T*& p, index_t step) {
  p += step;
#if defined(__GNUC__)
  __asm__("" : "+r"(p));
#endif
}

// --- vectors along the rows -----------------------------------------------------------------------------------

/// One product of a sum: `depth` columns of A, each of consecutive rows, times rows of B, read element by element.
template <class T>
struct sum_term {
  T const* a = nullptr;
  index_t lda = 0;
  strided<T const> b;
  index_t depth = 0;
  index_t step = 0;  ///< from the A of one tile of a row of tiles to the next
  sum_term at(index_t i, index_t j) const { return {a + i, lda, b.at(0, j), depth, step}; }
};

/// Columns that will be read soon, beside those that a product reads now.
template <class T>
struct prefetched {
  T const* data = nullptr;
  index_t ld = 0, cols = 0;
  prefetched at(index_t i, index_t j) const {
    return data == nullptr ? *this : prefetched{data + i + j * ld, ld, cols - j};
  }
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
  for (int j = 0; j < N; ++j) {
    HOFT_UNROLL
    for (int v = 0; v < V; ++v) prefetch(column + v * lanes<T>);
    advance(column, p.ld);
  }
}

template <int V, int N, class T>
EIGEN_ALWAYS_INLINE void load_tile(T const* s, index_t lds, packet<T> (&sum)[N][V]) {
  if (s != nullptr) {
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) sum[j][v] = load(s + v * lanes<T>);
      advance(s, lds);
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
    for (int j = 0; j < N; ++j) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) stream(c + v * lanes<T>, sum[j][v]);
      advance(c, ldc);
    }
  } else {
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) Eigen::internal::pstoreu(c + v * lanes<T>, sum[j][v]);
      advance(c, ldc);
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

/// From one tile of a row of tiles to the next: rows and columns that C, S and what is prefetched move by.
struct tile_step {
  index_t rows = 0, cols = 0;
};

/// `count` tiles in a row, each C = S + the sum of up to two products, V vectors of rows by N columns. S has no data
/// (zero), is C or apart from it.
template <int V, int N, bool ConjB, class T>
EIGEN_DONT_INLINE void sum_tiles(index_t count, tile_step step, int terms, sum_term<T> const* first, T const* s,
                                 index_t lds, T* c, index_t ldc, traffic<T> moves) {
  sum_term<T> term[2] = {first[0], terms > 1 ? first[1] : sum_term<T>{}};
  for (; count > 0; --count) {
    packet<T> sum[N][V];
    load_tile<V, N>(s, lds, sum);
    prefetch_tile<V, N>(moves.ahead);
    prefetch_tile<V, N>(moves.also_ahead);
    for (int t = 0; t < terms; ++t) add_products<V, N, ConjB, false>(term[t], sum);
    store_tile<V, N>(sum, c, ldc, moves.streams);
    for (int t = 0; t < terms; ++t) {
      term[t].a += term[t].step;
      term[t].b.data += step.cols * term[t].b.col;
    }
    if (s != nullptr) s += step.rows + step.cols * lds;
    c += step.rows + step.cols * ldc;
    moves = moves.at(step.rows, step.cols);
  }
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
  packet<T> sum[N][1];
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) sum[j][0] = s != nullptr ? load_part(s + j * lds, rows) : zero<T>();
  for (int t = 0; t < terms; ++t) add_products<1, N, ConjB, false>(term[t], sum);
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) store_part<T>(c + j * ldc, sum[j][0], rows);
}

/// C [rows, N] = S + the sum of up to two products, for any number of rows. A is readable in whole vectors where
/// `padded`; where it is not, rows beyond the last whole vector are left out.
template <int N, bool ConjB, class T>
void sum_columns(index_t rows, int terms, sum_term<T> const* first, bool padded, T const* s, index_t lds, T* c,
                 index_t ldc, traffic<T> const& moves) {
  sum_term<T> term[2];
  auto const at = [&](index_t i, index_t step) {
    for (int t = 0; t < terms; ++t) {
      term[t] = first[t].at(i, 0);
      term[t].step = step;
    }
    return term;
  };
  auto const below = [&](index_t i) { return s == nullptr ? s : s + i; };
  index_t const whole = rows / lanes<T>, rest = rows % lanes<T>;
  for_each_group_run<tile_vectors<T>>(whole, [&](index_t v, auto vectors, index_t count) {
    index_t const i = v * lanes<T>, height = vectors * lanes<T>;
    sum_tiles<vectors, N, ConjB, T>(count, {height, 0}, terms, at(i, height), below(i), lds, c + i, ldc,
                                    moves.at(i, 0));
  });
  index_t const i = whole * lanes<T>;
  if (rest > 0 && padded) edge_tile<N, ConjB, T>(rest, terms, at(i, 0), below(i), lds, c + i, ldc);
}

/// C [rows, n] = S + the sum of up to two products. Where A is not padded, its last rows are packed here.
template <bool ConjB, class T>
void sum_rows(index_t rows, index_t n, int terms, sum_term<T> const* term, bool padded, T const* s, index_t lds, T* c,
              index_t ldc, traffic<T> const& moves = {}) {
  constexpr int most = tile_vectors<T>;
  for_each_tile_run(n, [&](index_t first, auto width, index_t count) {
    for (index_t j = first; j < first + count * width; j += width) {
      sum_term<T> const local[2] = {term[0].at(0, j), terms > 1 ? term[1].at(0, j) : sum_term<T>{}};
      T const* const from = s == nullptr ? s : s + j * lds;
      if (rows == most * lanes<T>) {  // one tile high: the tiles of a run in a row
        sum_tiles<most, width, ConjB, T>(count, {0, width}, terms, local, from, lds, c + j * ldc, ldc, moves.at(0, j));
        break;
      }
      sum_columns<width, ConjB, T>(rows, terms, local, padded, from, lds, c + j * ldc, ldc, moves.at(0, j));
    }
  });
  index_t const rest = rows % lanes<T>, i = rows - rest;
  if (rest == 0 || padded) return;
  constexpr index_t deepest = 64;
  alignas(64) T edge[deepest * lanes<T>];
  T const* from = s == nullptr ? s : s + i;
  index_t ld = lds;
  for (int t = 0; t < terms; ++t)
    for (index_t l = 0; l < term[t].depth || (l == 0 && t == 0); l += deepest) {
      index_t const depth = std::min(deepest, term[t].depth - l);
      for (index_t d = 0; d < depth; ++d)
        Eigen::internal::pstore(edge + d * lanes<T>, load_part(term[t].a + (l + d) * term[t].lda + i, rest));
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
      T const* column = b;
      HOFT_UNROLL
      for (int j = 0; j < N; ++j) {
        P right = load(column + v * lane);
        advance(column, b_col);
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

/// The vector folded to four lanes, or as it is.
template <class P>
EIGEN_ALWAYS_INLINE auto fold(P const& p) {
  if constexpr (Eigen::internal::unpacket_traits<P>::size > 4) return fold(Eigen::internal::predux_half_dowto4(p));
  else return p;
}

/// Sums of four vectors are made together, by a transposition.
template <int K, class T>
inline constexpr bool folds = K == 4 && !is_complex<T> && lanes<T> >= 4;

/// The sums over the lanes of four vectors.
template <class P>
EIGEN_ALWAYS_INLINE auto fold_four(P const (&sum)[4]) {
  using namespace Eigen::internal;
  PacketBlock<decltype(fold(sum[0])), 4> block{{fold(sum[0]), fold(sum[1]), fold(sum[2]), fold(sum[3])}};
  ptranspose(block);
  return padd(padd(block.packet[0], block.packet[1]), padd(block.packet[2], block.packet[3]));
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
    packet<T> last[K];
    HOFT_UNROLL
    for (int k = 0; k < K; ++k) {
      last[k] = padded ? load(a + k * a_col) : load_part(a + k * a_col, rest);
      last[k] = conj_if<ConjA>(last[k]);
    }
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      packet<T> const right = conj_if<ConjB>(load_part(b + j * b_col, rest));
      HOFT_UNROLL
      for (int k = 0; k < K; ++k) sum[j][k] = Eigen::internal::pmadd(last[k], right, sum[j][k]);
    }
  }
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) {
    using namespace Eigen::internal;
    if constexpr (folds<K, T>) {
      auto total = fold_four(sum[j]);
      if (alpha != T(1)) total = pmul(total, pset1<decltype(total)>(alpha));
      if (c.row == 1) {
        if (s.data != nullptr) total = padd(ploadu<decltype(total)>(s.data + j * s.col), total);
        pstoreu(c.data + j * c.col, total);
      } else {
        alignas(64) T each[K];
        pstore(each, total);
        for (int k = 0; k < K; ++k) c(k, j) = s.data != nullptr ? s(k, j) + each[k] : each[k];
      }
    } else {
      HOFT_UNROLL
      for (int k = 0; k < K; ++k) {
        T const total = alpha * predux(sum[j][k]);
        c(k, j) = s.data != nullptr ? s(k, j) + total : total;
      }
    }
  }
}

}  // namespace hoft::cpu_backend::kernel
