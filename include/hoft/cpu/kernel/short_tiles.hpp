// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/short_tiles.hpp: register tiles for sums of few terms, with vectors along the columns of A.
//
//   C(k, j) = sum_l A(l, k) B(l, j)
//
// Dot tiles end with sums over lanes, which take longer than all the rest where columns are short. Here vectors hold
// units of 64 bits, a double or two floats below one another, of several columns of A side by side; the same unit of B
// is broadcast to all of them. The two floats of a unit have sums of their own, which are added at the end.
#pragma once
#include <hoft/cpu/kernel/sum_tiles.hpp>
#include <hoft/cpu/kernel/tiling.hpp>

#include <algorithm>
#include <bit>
#include <cstring>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

/// Rows of a unit.
template <class T>
inline constexpr int unit = int(sizeof(double) / sizeof(T));
/// Units of a vector: so many columns of A stand side by side in it.
template <class T>
inline constexpr int units = lanes<T> / unit<T>;

template <class T>
inline constexpr bool has_short_tiles =
#if defined(__GNUC__)
    (std::same_as<T, float> || std::same_as<T, double>)&&lanes<double> > 1 &&
    sizeof(packet<T>) == sizeof(packet<double>);
#else
    false;
#endif

/// Rows up to which columns count as short.
template <class T>
inline constexpr index_t short_rows = 8 * lanes<T>;

/// Columns of B that one tile takes beside V vectors of A: 16 accumulators, or 8 where there are 16 registers.
template <int V>
inline constexpr int short_tile_cols = (many_registers ? 16 : 8) / V;

/// A unit of `rows` rows in each place of a vector, with zero in the second where there is one alone.
template <class T>
EIGEN_ALWAYS_INLINE packet<T> broadcast_unit(T const* from, int rows = unit<T>) {
  T parts[unit<T>] = {};
  std::memcpy(parts, from, std::size_t(rows) * sizeof(T));
  return std::bit_cast<packet<T>>(Eigen::internal::pset1<packet<double>>(std::bit_cast<double>(parts)));
}

#if defined(__GNUC__)
/// The elements of two vectors added in pairs of neighbours. (nvcc cannot expand a pack in this builtin.)
template <class V>
EIGEN_ALWAYS_INLINE V sums_of_pairs(V const& a, V const& b) {
  constexpr int count = sizeof(V) / sizeof(a[0]);
  static_assert(count == 4 || count == 8 || count == 16);
  if constexpr (count == 4) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
  } else if constexpr (count == 8) {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15);
  } else {
    return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30) +
           __builtin_shufflevector(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  }
}
/// The lower half of a vector, or the upper one.
template <int Upper, class V>
EIGEN_ALWAYS_INLINE auto half_of(V const& a) {
  constexpr int count = sizeof(V) / sizeof(a[0]), f = Upper * count / 2;
  if constexpr (count == 4) return __builtin_shufflevector(a, a, f, f + 1);
  else if constexpr (count == 8) return __builtin_shufflevector(a, a, f, f + 1, f + 2, f + 3);
  else return __builtin_shufflevector(a, a, f, f + 1, f + 2, f + 3, f + 4, f + 5, f + 6, f + 7);
}
#endif

/// Stores the sums of the units of two vectors: those of a, and behind `b_from_a` elements those of b.
template <class T>
EIGEN_ALWAYS_INLINE void store_sums_of_two([[maybe_unused]] packet<T> const& a, [[maybe_unused]] packet<T> const& b,
                                           [[maybe_unused]] T* to, [[maybe_unused]] index_t b_from_a) {
#if defined(__GNUC__)
  using vector [[gnu::vector_size(sizeof(packet<T>))]] = T;
  vector const sums = sums_of_pairs(std::bit_cast<vector>(a), std::bit_cast<vector>(b));
  auto const first = half_of<0>(sums), second = half_of<1>(sums);
  std::memcpy(to, &first, sizeof(first));
  std::memcpy(to + b_from_a, &second, sizeof(second));
#endif
}

/// C = the sums of N columns, the units of V vectors in each. Where rows of C are no neighbours, by way of the stack.
template <int V, int N, class T>
EIGEN_ALWAYS_INLINE void store_sums(packet<T> const (&sum)[N][V], strided<T> const& c) {
  constexpr int height = V * units<T>;
  bool const direct = c.row == 1;
  alignas(64) T tile[N * height];
  T* const to = direct ? c.data : tile;
  index_t const col = direct ? c.col : height;
  HOFT_UNROLL
  for (int v = 0; v < V; ++v) {
    T* at = to + v * units<T>;
    HOFT_UNROLL
    for (int j = 0; j < N; j += unit<T>) {
      if constexpr (unit<T> == 1) Eigen::internal::pstoreu(at, sum[j][v]);
      else if constexpr (N == 1) store_sums_of_two<T>(sum[j][v], sum[j][v], at, 0);
      else store_sums_of_two<T>(sum[j][v], sum[j + 1][v], at, col);
      at += unit<T> * col;
    }
  }
  if (direct) return;
  for (int j = 0; j < N; ++j)
    for (int k = 0; k < height; ++k) c(k, j) = tile[j * height + k];
}

/// sum[j] += `Units` units of every column of A times those of column j of B, of which the last has `rows` rows.
template <int Units, int V, int N, class T>
EIGEN_ALWAYS_INLINE void add_units(T const* a, T const* b, index_t ldb, packet<T> (&sum)[N][V], int rows = unit<T>) {
  packet<T> left[Units][V];
  HOFT_UNROLL
  for (int u = 0; u < Units; ++u) {
    HOFT_UNROLL
    for (int v = 0; v < V; ++v) left[u][v] = load(a + (u * V + v) * lanes<T>);
  }
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) {
    HOFT_UNROLL
    for (int u = 0; u < Units; ++u) {
      packet<T> const right = broadcast_unit(b + u * unit<T>, u + 1 < Units ? unit<T> : rows);
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) sum[j][v] = Eigen::internal::pmadd(left[u][v], right, sum[j][v]);
    }
    advance(b, ldb);
  }
}

/// Fetches a share of N columns for each walk along columns of B: in `walks_of_a_line` of them, one line of each.
template <int N, class T>
EIGEN_ALWAYS_INLINE void fetch_in_walk(index_t walk, prefetched<T> const& next) {
  constexpr index_t line = prefetched<T>::line, walks_of_a_line = line / (2 * unit<T>);
  constexpr int share = N > walks_of_a_line ? N / int(walks_of_a_line) : 1;
  index_t const first = walk % walks_of_a_line * share;
  if (first >= N) return;
  T const* at = next.data + walk / walks_of_a_line * line + first * next.ld;
  HOFT_UNROLL
  for (int j = 0; j < share; ++j) {
    prefetch(at);
    advance(at, next.ld);
  }
}

/// `count` tiles side by side: V vectors of columns of A by N columns of B. `turned` has the units of one row of A
/// after those of another. As many columns of `next` are fetched meanwhile.
template <int V, int N, class T>
EIGEN_DONT_INLINE void short_tiles(index_t count, index_t rows, T const* turned, T const* b, index_t ldb, strided<T> c,
                                   prefetched<T> next) {
  for (; count > 0; --count) {
    packet<T> sum[N][V];
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      HOFT_UNROLL
      for (int v = 0; v < V; ++v) sum[j][v] = zero<T>();
    }
    T const *left = turned, *right = b;
    index_t l = rows;
    bool const fetches = next.cols >= N;
    for (index_t walk = 0; l >= 2 * unit<T>; l -= 2 * unit<T>, ++walk) {  // two for each walk along the columns
      if (fetches) fetch_in_walk<N>(walk, next);
      add_units<2, V, N>(left, right, ldb, sum);
      left += 2 * V * lanes<T>;
      right += 2 * unit<T>;
    }
    if (l >= unit<T>) {
      add_units<1, V, N>(left, right, ldb, sum);
      left += V * lanes<T>;
      right += unit<T>;
    }
    if (rows % unit<T> != 0) add_units<1, V, N>(left, right, ldb, sum, 1);
    store_sums<V, N>(sum, c);
    b += N * ldb;
    c = c.at(0, N);
    next = next.at(0, N);
  }
}

/// The same for n columns of B: tiles of N columns, then of half as many.
template <int V, int N = short_tile_cols<V>, class T>
void short_product(index_t n, index_t rows, T const* turned, T const* b, index_t ldb, strided<T> const& c,
                   prefetched<std::type_identity_t<T>> const& next = {}) {
  index_t const count = n / N, done = count * N;
  if (count > 0) short_tiles<V, N>(count, rows, turned, b, ldb, c, next);
  if constexpr (N > 1)
    if (done < n) short_product<V, N / 2>(n - done, rows, turned, b + done * ldb, ldb, c.at(0, done), next.at(0, done));
}

/// Reflectors that stay in registers where there are 32, with so many rows of each.
inline constexpr int kept_terms = 8;
template <class T>
inline constexpr index_t kept_rows = 2 * lanes<T>;
template <class T>
inline constexpr bool keeps_terms = !is_complex<T> && tile_vectors<T> == 4;

/// C = S + A B for A [2 vectors, Terms], which stays in registers while n columns of C pass. S has no data (zero), is C
/// or apart from it; `next` is fetched meanwhile.
template <int Terms, class T>
EIGEN_DONT_INLINE void sum_few_terms(index_t n, T const* a, index_t lda, T const* b, index_t ldb, T const* s,
                                     index_t lds, T* c, index_t ldc, prefetched<T> const& next) {
  constexpr int vectors = 2, lane = lanes<T>;
  packet<T> column[Terms][vectors];
  HOFT_UNROLL
  for (int l = 0; l < Terms; ++l) {
    HOFT_UNROLL
    for (int v = 0; v < vectors; ++v) {
      column[l][v] = load(a + l * lda + v * lane);
      keep_in_register<T>(column[l][v]);
    }
  }
  T const* ahead = next.data;
  for (index_t j = 0; j < n; ++j) {
    if (j < next.cols) {
      HOFT_UNROLL
      for (int v = 0; v < vectors; ++v) prefetch(ahead + v * lane);
      ahead += next.ld;
    }
    packet<T> sum[1][vectors];
    load_tile<T>(s, lds, sum);
    HOFT_UNROLL
    for (int l = 0; l < Terms; ++l) {
      packet<T> factor = broadcast(b[l]);
      keep_in_register<T>(factor);
      HOFT_UNROLL
      for (int v = 0; v < vectors; ++v) sum[0][v] = Eigen::internal::pmadd(column[l][v], factor, sum[0][v]);
    }
    store_tile<T>(sum, c, ldc, false);
    b += ldb;
    c += ldc;
    if (s != nullptr) s += lds;
  }
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
