// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/dot_tiles.hpp: register tiles with vectors along the sum.
//
//   C(k, j) = S(k, j) + op(A[:, k])ᵀ op(B[:, j])
#pragma once
#include <hoft/cpu/kernel/storage.hpp>
#include <hoft/cpu/kernel/tiling.hpp>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

/// One product of a sum: op(A)ᵀ op(B) over `length` elements. A group of vectors lies together, `step` from the next.
/// Columns of A lie `a_col` apart; where a group has several vectors, as in a packed matrix, one group apart. Where
/// `padded`, the last vector of A may be read whole and is zero beyond `length`. B may be stored in another type S.
template <class T, class S = T>
struct dot_term {
  T const* a;
  index_t step, a_col;
  S const* b;
  index_t b_col;
  index_t length;
  bool padded = false;
  prefetched<S> next = {};  ///< columns that are read after those of B, fetched if there are as many
};

/// Lines of each column that a tile fetches, spread evenly over its steps.
template <class S>
struct fetched_lines {
  S const* data = nullptr;
  index_t ld = 0, lines = 0, steps = 1;
};

/// What tile `i` of `tiles` below one another fetches, which share the lines of N columns among them.
template <int N, class S>
EIGEN_ALWAYS_INLINE fetched_lines<S> share_of(prefetched<S> const& next, index_t length, index_t i, index_t tiles,
                                              index_t steps) {
  if (next.cols < N || steps == 0) return {};
  index_t const lines = length / next.line, first = lines * i / tiles;
  return {next.data + first * next.line, next.ld, lines * (i + 1) / tiles - first, steps};
}

/// sum[j][k] += op(A[:, k]) op(B[:, j]) lane by lane, over `steps` groups of Vectors vectors.
template <int K, int N, int Vectors, bool ConjA, bool ConjB, class T, class S>
EIGEN_ALWAYS_INLINE void add_dots(index_t steps, T const*& a, index_t step, index_t a_col, S const*& b, index_t b_col,
                                  packet<T> (&sum)[N][K], fetched_lines<S> fetches = {}) {
  using namespace Eigen::internal;
  using P = packet<T>;
  constexpr int lane = lanes<T>;
  index_t due = 0;
  constexpr int half = columns_from_one_address;
  S const* b_half = b;
  if constexpr (N > half) advance(b_half, half * b_col);
  for (; steps > 0; --steps) {
    for (due += fetches.lines; due >= fetches.steps; due -= fetches.steps) {
      S const* line = fetches.data;
      HOFT_UNROLL
      for (int j = 0; j < N; ++j) {
        prefetch(line);
        advance(line, fetches.ld);
      }
      fetches.data += prefetched<S>::line;
    }
    HOFT_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      P left[K];
      HOFT_UNROLL
      for (int k = 0; k < K; ++k) {
        left[k] = conj_if<ConjA>(load(a + k * a_col + v * lane));
        if constexpr (Vectors > 1) keep_in_register<T>(left[k]);
      }
      HOFT_UNROLL
      for (int j = 0; j < N; ++j) {
        P right = load_as<T>((j < half ? b + j * b_col : b_half + (j - half) * b_col) + v * lane);
        keep_in_register<T>(right);
        if constexpr (ConjB) right = pconj(right);
        HOFT_UNROLL
        for (int k = 0; k < K; ++k) sum[j][k] = pmadd(left[k], right, sum[j][k]);
      }
    }
    a += step;
    b += Vectors * lane;
    if constexpr (N > half) b_half += Vectors * lane;
  }
}

/// The sum of the vector's halves. Eigen's development branch has called it predux_half since November 2025, and 3.4
/// and 5.0 predux_half_dowto4. Unqualified, since a qualified name that is missing is an error wherever it stands.
template <class P>
EIGEN_ALWAYS_INLINE auto sum_of_halves(P const& p) {
  using namespace Eigen::internal;
  if constexpr (requires { predux_half(p); }) return predux_half(p);
  else return predux_half_dowto4(p);
}

/// The vector folded to four lanes, or as it is.
template <class P>
EIGEN_ALWAYS_INLINE auto fold(P const& p) {
  if constexpr (Eigen::internal::unpacket_traits<P>::size > 4) return fold(sum_of_halves(p));
  else return p;
}

/// Sums of four vectors are made together, by a transposition.
template <int K, class T>
inline constexpr bool folds = K == 4 && !is_complex<T> && lanes<T> >= 4;

/// The sums over the lanes of four vectors.
template <class T>
EIGEN_ALWAYS_INLINE auto fold_four(packet<T> const (&sum)[4]) {
  using namespace Eigen::internal;
#if defined(EIGEN_VECTORIZE_AVX512)
  if constexpr (std::same_as<T, float>) {  // four lanes of each at once: a third of the instructions
    using P = packet<T>;
    auto const pairs = [](P a, P b) { return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)); };
    P const a = pairs(sum[0], sum[1]), b = pairs(sum[2], sum[3]);
    return fold(_mm512_add_ps(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xEE)));
  } else
#endif
  {
    PacketBlock<decltype(fold(sum[0])), 4> block{{fold(sum[0]), fold(sum[1]), fold(sum[2]), fold(sum[3])}};
    ptranspose(block);
    return padd(padd(block.packet[0], block.packet[1]), padd(block.packet[2], block.packet[3]));
  }
}

/// C(k, j) = S(k, j) + alpha times the sum over the lanes of sum[j][k].
template <int K, int N, class T>
EIGEN_ALWAYS_INLINE void add_sums(T alpha, packet<T> const (&sum)[N][K], strided<T const> const& s,
                                  strided<T> const& c) {
  using namespace Eigen::internal;
  HOFT_UNROLL
  for (int j = 0; j < N; ++j) {
    if constexpr (folds<K, T>) {
      auto total = fold_four<T>(sum[j]);
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

/// `count` tiles below one another, each C(k, j) = S(k, j) + alpha Σ op(A[:, k])ᵀ op(B[:, j]), K columns of A by N of
/// B, over up to two products.
template <int K, int N, int Vectors, bool ConjA, bool ConjB, class T, class S>
EIGEN_DONT_INLINE void dot_tiles(index_t count, T alpha, int terms, dot_term<T, S> const* term,
                                 strided<T const> const& s, strided<T> const& c) {
  constexpr int lane = lanes<T>;
  for (index_t first = 0; first < count * K; first += K) {
    packet<T> sum[N][K];
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      HOFT_UNROLL
      for (int k = 0; k < K; ++k) sum[j][k] = zero<T>();
    }
    for (int t = 0; t < terms; ++t) {
      index_t const step = term[t].step, b_col = term[t].b_col, length = term[t].length;
      // Distances that are known at compile time take no registers.
      index_t const a_col = Vectors > 1 ? index_t(Vectors * lane) : term[t].a_col;
      if (length == 0) continue;  // there may be no address either
      T const* a = term[t].a + first * a_col;
      S const* b = term[t].b;
      index_t const steps = length / (Vectors * lane);
      auto const fetches = [&](index_t in) { return share_of<N>(term[t].next, length, first / K, count, in); };
      add_dots<K, N, Vectors, ConjA, ConjB>(steps, a, step, a_col, b, b_col, sum, fetches(steps));
      index_t const left = length % (Vectors * lane), rest = left % lane;
      if constexpr (Vectors > 1)
        add_dots<K, N, 1, ConjA, ConjB>(left / lane, a, lane, a_col, b, b_col, sum,
                                        fetches(steps == 0 ? left / lane : 0));
      if (rest == 0) continue;
      packet<T> last[K];
      HOFT_UNROLL
      for (int k = 0; k < K; ++k) {
        last[k] = term[t].padded ? load(a + k * a_col) : load_part(a + k * a_col, rest);
        last[k] = conj_if<ConjA>(last[k]);
      }
      HOFT_UNROLL
      for (int j = 0; j < N; ++j) {
        packet<T> const right = conj_if<ConjB>(load_part_as<T>(b + j * b_col, rest));
        HOFT_UNROLL
        for (int k = 0; k < K; ++k) sum[j][k] = Eigen::internal::pmadd(last[k], right, sum[j][k]);
      }
    }
    add_sums<K, N>(alpha, sum, s.at(first, 0), c.at(first, 0));
  }
}

/// C(k, j) = S(k, j) + A[:, k]ᵀ A[:, j] for k <= j < N; below, C = S.
template <int N, class T>
EIGEN_DONT_INLINE void gram_tile(index_t length, strided<T const> const& a, strided<T const> const& s,
                                 strided<T> const& c) {
  constexpr int lane = lanes<T>;
  packet<T> sum[N][N], column[N];
  for (auto& sums : sum) {
    for (auto& p : sums) p = zero<T>();
  }
  auto const add = [&] {
    HOFT_UNROLL
    for (int j = 0; j < N; ++j) {
      HOFT_UNROLL
      for (int k = 0; k <= j; ++k) sum[j][k] = Eigen::internal::pmadd(column[k], column[j], sum[j][k]);
    }
  };
  T const* from = a.data;
  for (index_t steps = length / lane; steps > 0; --steps) {
    HOFT_UNROLL
    for (int k = 0; k < N; ++k) column[k] = load(from + k * a.col);
    add();
    from += lane;
  }
  if (length % lane > 0) {
    for (int k = 0; k < N; ++k) column[k] = load_part(from + k * a.col, length % lane);
    add();
  }
  add_sums<N, N>(T(1), sum, s, c);
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
