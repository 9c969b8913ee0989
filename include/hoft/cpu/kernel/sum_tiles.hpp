// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/sum_tiles.hpp: register tiles with vectors along the rows of C.
//
//   C[:, j] = S[:, j] + sum_l A[:, l] op(B(l, j))
#pragma once
#include <hoft/cpu/kernel/storage.hpp>
#include <hoft/cpu/kernel/tiling.hpp>
#include <hoft/view/matrix_view.hpp>

#include <algorithm>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

/// One product of a sum: `depth` columns of A, each of consecutive rows, times rows of B, read element by element. A
/// may be stored in another type.
template <class T, class A = T>
struct sum_term {
  A const* a = nullptr;
  index_t lda = 0;
  strided<T const> b;
  index_t depth = 0;
  index_t step = 0;  ///< from the A of one tile of a row of tiles to the next
  sum_term at(index_t i, index_t j) const { return {a == nullptr ? a : a + i, lda, b.at(0, j), depth, step}; }
  /// As it is, or without steps where there is nothing to step through: no columns, and perhaps no address.
  sum_term steady() const { return depth > 0 ? *this : sum_term{}; }
};

/// How a product moves memory beside its arithmetic.
template <class T>
struct traffic {
  prefetched<T> ahead, also_ahead;
  bool streams = false;  ///< C goes past the caches
  traffic at(index_t i, index_t j) const { return {ahead.at(i, j), also_ahead.at(i, j), streams}; }
};

/// Outputs that leave the caches anyway are better stored past them, in whole vectors; but not in place, over lines
/// that the caches hold.
template <class S, class T, class L>
bool worth_streaming(index_t elements, matrix_view<S const, L> X, matrix_view<T, L> Y) {
  if constexpr (has_stream_as<T>)
    return elements > leaves_caches / index_t(sizeof(T)) && static_cast<void const*>(X.data) != Y.data &&
           is_vector_aligned(Y.data) && Y.ld % lanes<T> == 0;
  else return false;
}

template <int V, int N, class T, class S>
EIGEN_ALWAYS_INLINE void prefetch_tile(prefetched<S> const& p) {
  S const* column = p.data;
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) {
    HOFT_UNROLL
    for (int v = 0; v < V; ++v) prefetch(column + v * lanes<T>);
    advance(column, p.ld);
  }
}

template <class T, int V, int N, class S>
EIGEN_ALWAYS_INLINE void load_tile(S const* s, index_t lds, packet<T> (&sum)[N][V]) {
  if (s != nullptr) {
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) sum[j][v] = load_as<T>(s + v * lanes<T>);
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
template <class T, int V, int N, class C>
EIGEN_ALWAYS_INLINE void store_tile(packet<T> const (&sum)[N][V], C* c, index_t ldc, bool streams) {
  if constexpr (has_stream_as<C>)
    if (streams) {
      HOFT_UNROLL
      for (int j = 0; j < N; ++j) {
        HOFT_UNROLL
        for (int v = 0; v < V; ++v) stream_as<T>(c + v * lanes<T>, sum[j][v]);
        advance(c, ldc);
      }
      return;
    }
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) {
    HOFT_UNROLL
    for (int v = 0; v < V; ++v) store_as<T>(c + v * lanes<T>, sum[j][v]);
    advance(c, ldc);
  }
}

/// Vectors that a tile fetches for those after it, V one behind another for each column of A that passes, or for the
/// first of every `turns` columns.
template <class S>
struct fetched {
  S const* data = nullptr;
  index_t step = 0;  ///< from one time to the next
  index_t turns = 1;
};

enum class passing { read, fetch, fetch_in_turn, copy_and_fetch_in_turn };

/// sum[j] += a column of A times element j of a row of B. Elements lie `b_col` apart, those of the second half from
/// `b_half`.
template <int V, int N, bool ConjB, class A, class T>
EIGEN_ALWAYS_INLINE void add_column(packet<T> const (&column)[V], T const* b, T const* b_half, index_t b_col,
                                    packet<T> (&sum)[N][V]) {
  constexpr int half = columns_from_one_address;
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) {
    packet<T> factor = broadcast(conj_if<ConjB>(j < half ? b[j * b_col] : b_half[(j - half) * b_col]));
    keep_in_register<T>(factor);
    HOFT_UNROLL
    for (int v = 0; v < V; ++v) sum[j][v] = multiply_add<A>(column[v], factor, sum[j][v]);
  }
}

/// sum[j] += one product, two columns of A at a time, which are reached from one address (see columns_from_one_address
/// for what steps of addresses cost). The rows of B are neighbours in memory, or else the elements of a row are. Leaves
/// in `term` what is still to be added: a last column, or none.
template <int V, int N, bool ConjB, bool NeighbourRows, class T, class A>
EIGEN_ALWAYS_INLINE void add_pairs(sum_term<T, A>& term, packet<T> (&sum)[N][V]) {
  constexpr int half = columns_from_one_address;
  index_t const b_row = NeighbourRows ? 1 : term.b.row, b_col = NeighbourRows ? term.b.col : 1;
  A const* a = term.a;
  T const *b = term.b.data, *b_half = b;
  if constexpr (NeighbourRows) advance(b_half, half * b_col);
  for (; term.depth >= 2; term.depth -= 2) {
    HOFT_UNROLL
    for (int l = 0; l < 2; ++l) {
      packet<T> column[V];
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) column[v] = load_as<T>(a + l * term.lda + v * lanes<T>);
      T const* const row = b + l * b_row;
      add_column<V, N, ConjB, A>(column, row, NeighbourRows ? b_half + l * b_row : row + half, b_col, sum);
    }
    a += 2 * term.lda;
    b += 2 * b_row;
    if constexpr (NeighbourRows) b_half += 2 * b_row;
  }
  term.a = a;
  term.b.data = b;
}

/// sum[j] += one product, in pairs where that pays. While the columns of A pass, others can be fetched, and they
/// themselves be left in `copy`, V vectors each.
template <int V, int N, bool ConjB, passing Mode = passing::read, class T, class A, class S = T>
EIGEN_ALWAYS_INLINE void add_products(sum_term<T, A> term, packet<T> (&sum)[N][V], fetched<S> fetches = {},
                                      T* copy = nullptr) {
  constexpr int lane = lanes<T>;
  if constexpr (Mode == passing::read && N == tile_cols && V == tile_vectors<T>) {
    constexpr index_t worth = 12;  // with fewer terms a second loop costs more than it saves
    if (term.depth >= worth && term.b.row == 1) add_pairs<V, N, ConjB, true>(term, sum);
    else if (term.depth >= worth && term.b.col == 1) add_pairs<V, N, ConjB, false>(term, sum);
  }
  A const* a = term.a;
  index_t const b_row = term.b.row, b_col = term.b.col, lda = term.lda;
  constexpr int half = columns_from_one_address;
  T const *b = term.b.data, *b_half = b;
  if constexpr (N > half) advance(b_half, half * b_col);
  [[maybe_unused]] index_t wait = 1;
  for (index_t l = term.depth; l > 0; --l) {
    packet<T> column[V];
    HOFT_UNROLL
    for (int v = 0; v < V; ++v) column[v] = load_as<T>(a + v * lane);
    if constexpr (Mode == passing::copy_and_fetch_in_turn) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) Eigen::internal::pstore(copy + v * lane, column[v]);
      copy += V * lane;
    }
    if constexpr (Mode != passing::read)
      if (Mode == passing::fetch || --wait == 0) {
        HOFT_UNROLL
        for (int v = 0; v < V; ++v) prefetch(fetches.data + v * lane);
        fetches.data += fetches.step;
        wait = fetches.turns;
      }
    add_column<V, N, ConjB, A>(column, b, b_half, b_col, sum);
    a += lda;
    b += b_row;
    if constexpr (N > half) b_half += b_row;
  }
}

/// The first steps of a product, one for each column of `next`, which is fetched meanwhile: all of its lines at once
/// would fill the queue that loads wait in too. Leaves in `term` what is still to be added.
template <int V, int N, bool ConjB, class T, class A, class S>
EIGEN_ALWAYS_INLINE void fetch_meanwhile(prefetched<S> const& next, sum_term<T, A>& term, packet<T> (&sum)[N][V]) {
  if (next.cols < N) return;
  if (term.depth < N) return prefetch_tile<V, N, T>(next);
  sum_term<T, A> steps = term;
  steps.depth = N;
  add_products<V, N, ConjB, passing::fetch>(steps, sum, fetched<S>{next.data, next.ld});
  term.a += N * term.lda;
  term.b.data += N * term.b.row;
  term.depth -= N;
}

/// From one tile of a row of tiles to the next: rows and columns that C, S and what is prefetched move by.
struct tile_step {
  index_t rows = 0, cols = 0;
};

/// `count` tiles in a row, each C = S + the sum of up to two products, V vectors of rows by N columns. S has no data
/// (zero), is C or apart from it. A, S and C may be stored in other types than T, in which the sums are made.
template <int V, int N, bool ConjB, class T, class A, class S, class C>
EIGEN_DONT_INLINE void sum_tiles(index_t count, tile_step step, int terms, sum_term<T, A> const* first, S const* s,
                                 index_t lds, C* c, index_t ldc, traffic<std::type_identity_t<S>> moves) {
  sum_term<T, A> term[2] = {first[0].steady(), terms > 1 ? first[1].steady() : sum_term<T, A>{}};
  for (; count > 0; --count) {
    packet<T> sum[N][V];
    load_tile<T>(s, lds, sum);
    sum_term<T, A> rest = term[0];
    fetch_meanwhile<V, N, ConjB>(moves.ahead, rest, sum);
    fetch_meanwhile<V, N, ConjB>(moves.also_ahead, rest, sum);
    add_products<V, N, ConjB>(rest, sum);
    if (terms > 1) add_products<V, N, ConjB>(term[1], sum);
    store_tile<T>(sum, c, ldc, moves.streams);
    for (int t = 0; t < terms; ++t) {
      term[t].a += term[t].step;
      term[t].b.data += step.cols * term[t].b.col;
    }
    if (s != nullptr) s += step.rows + step.cols * lds;
    c += step.rows + step.cols * ldc;
    moves = moves.at(step.rows, step.cols);
  }
}

/// C = S + one product, while other columns are fetched and, if the mode says so, A is left in `copy`.
template <int V, int N, bool ConjB, passing Mode, class T>
EIGEN_DONT_INLINE void fetching_sum_tile(sum_term<T> const& term, T const* s, index_t lds, T* c, index_t ldc,
                                         fetched<T> const& fetches, T* copy = nullptr) {
  packet<T> sum[N][V];
  load_tile<T>(s, lds, sum);
  add_products<V, N, ConjB, Mode>(term, sum, fetches, copy);
  store_tile<T>(sum, c, ldc, false);
}

/// `count` tiles of fewer rows than a vector has, side by side: S and C are read and written there only, A in whole
/// vectors.
template <int N, bool ConjB, class T, class A, class S, class C>
EIGEN_DONT_INLINE void edge_tiles(index_t count, index_t rows, int terms, sum_term<T, A> const* first, S const* s,
                                  index_t lds, C* c, index_t ldc) {
  sum_term<T, A> term[2] = {first[0].steady(), terms > 1 ? first[1].steady() : sum_term<T, A>{}};
  for (; count > 0; --count) {
    packet<T> sum[N][1];
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) sum[j][0] = s != nullptr ? load_part_as<T>(s + j * lds, rows) : zero<T>();
    for (int t = 0; t < terms; ++t) {
      add_products<1, N, ConjB>(term[t], sum);
      term[t].b.data += N * term[t].b.col;
    }
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) store_part_as<T>(c + j * ldc, sum[j][0], rows);
    if (s != nullptr) s += N * lds;
    c += N * ldc;
  }
}

/// d_i += Σ_j X(i, j) Y(i, j) for `count` groups of V vectors of rows, of n columns.
template <int V, class T, class S>
EIGEN_ALWAYS_INLINE void add_row_dots(index_t count, index_t n, T const* x, index_t ldx, S const* y, index_t ldy,
                                      T* d) {
  constexpr index_t height = V * lanes<T>;
  for (; count > 0; --count, x += height, y += height, d += height) {
    packet<T> sum[1][V];
    load_tile<T>(static_cast<T const*>(d), 0, sum);
    for (index_t j = 0; j < n; ++j) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v)
        sum[0][v] =
            Eigen::internal::pmadd(load(x + j * ldx + v * lanes<T>), load_as<T>(y + j * ldy + v * lanes<T>), sum[0][v]);
    }
    store_tile<T>(sum, d, 0, false);
  }
}

/// C [rows, N] = S + the sum of up to two products, for any number of rows. A is readable in whole vectors where
/// `padded`; where it is not, rows beyond the last whole vector are left out.
template <int N, bool ConjB, class T, class A, class S, class C>
void sum_columns(index_t rows, int terms, sum_term<T, A> const* first, bool padded, S const* s, index_t lds, C* c,
                 index_t ldc, traffic<std::type_identity_t<S>> const& moves) {
  sum_term<T, A> term[2];
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
  if (rest > 0 && padded) edge_tiles<N, ConjB, T>(1, rest, terms, at(i, 0), below(i), lds, c + i, ldc);
}

/// The rows of `sum_rows` beyond the last whole vector, where A is not padded: they are packed here.
template <bool ConjB, class T, class A, class C>
void sum_last_rows(index_t rows, index_t n, int terms, sum_term<T, A> const* term, C const* s, index_t lds, C* c,
                   index_t ldc) {
  index_t const rest = rows % lanes<T>, i = rows - rest;
  constexpr index_t deepest = 64;
  alignas(64) T edge[deepest * lanes<T>];
  C const* from = s == nullptr ? s : s + i;
  index_t ld = lds;
  for (int t = 0; t < terms; ++t)
    for (index_t l = 0; l < term[t].depth || (l == 0 && t == 0); l += deepest) {
      index_t const depth = (std::min)(deepest, term[t].depth - l);
      for (index_t d = 0; d < depth; ++d)
        Eigen::internal::pstore(edge + d * lanes<T>, load_part_as<T>(term[t].a + (l + d) * term[t].lda + i, rest));
      for_each_tile_run(n, [&](index_t j, auto width, index_t count) {
        sum_term<T> const packed{edge, lanes<T>, term[t].b.at(l, j), depth};
        edge_tiles<width, ConjB, T>(count, rest, 1, &packed, from == nullptr ? from : from + j * ld, ld,
                                    c + i + j * ldc, ldc);
      });
      from = c + i, ld = ldc;
    }
}

/// C [rows, n] = S + the sum of up to two products. S and C are of one type where A is not padded.
template <bool ConjB, class T, class A, class S, class C>
void sum_rows(index_t rows, index_t n, int terms, sum_term<T, A> const* term, bool padded, S const* s, index_t lds,
              C* c, index_t ldc, traffic<std::type_identity_t<S>> const& moves = {}) {
  constexpr int most = tile_vectors<T>;
  for_each_tile_run(n, [&](index_t first, auto width, index_t count) {
    sum_term<T, A> local[2];
    auto const at = [&](index_t j) {
      for (int t = 0; t < terms; ++t) local[t] = term[t].at(0, j);
      return local;
    };
    auto const column = [&](index_t j) { return s == nullptr ? s : s + j * lds; };
    // Up to one tile high: the tiles of a run in a row.
    if (rows == most * lanes<T>)
      return sum_tiles<most, width, ConjB, T>(count, {0, width}, terms, at(first), column(first), lds, c + first * ldc,
                                              ldc, moves.at(0, first));
    if (padded && rows < lanes<T>)
      return edge_tiles<width, ConjB, T>(count, rows, terms, at(first), column(first), lds, c + first * ldc, ldc);
    for (index_t j = first; j < first + count * width; j += width)
      sum_columns<width, ConjB, T>(rows, terms, at(j), padded, column(j), lds, c + j * ldc, ldc, moves.at(0, j));
  });
  if constexpr (std::same_as<S, C>)
    if (!padded && rows % lanes<T> != 0) sum_last_rows<ConjB, T>(rows, n, terms, term, s, lds, c, ldc);
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
