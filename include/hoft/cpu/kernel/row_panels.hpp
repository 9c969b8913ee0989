// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/row_panels.hpp: the three products of panels with contiguous rows. They are the transposed problem,
// with vectors along the panel's columns: Yᵀ = Xᵀ + ZᵀUᵀ.
#pragma once
#include <hoft/backend/prefetch_hint.hpp>
#include <hoft/cpu/kernel/dot_tiles.hpp>
#include <hoft/cpu/kernel/packed.hpp>
#include <hoft/cpu/kernel/sum_tiles.hpp>

#include <algorithm>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail {

/// to := `count` elements, and zeros behind them up to a whole vector. Written out: a compiler that can tell that
/// `count` is small may copy 8 bytes at a time.
template <class T>
EIGEN_ALWAYS_INLINE void copy_padded(T const* from, index_t count, T* to) {
  constexpr index_t lane = kernel::lanes<T>;
  for (; count >= lane; count -= lane, from += lane, to += lane) Eigen::internal::pstore(to, kernel::load(from));
  if (count > 0) Eigen::internal::pstore(to, kernel::load_part(from, count));
}

template <class T, class LW>
void project_panel(packed_matrix<T, row_major> U, matrix_view<T const, row_major> X, matrix_view<T, LW> W) {
  static_assert(std::same_as<LW, row_major>, "a row-major panel has row-major projections");
  constexpr int vectors = kernel::tile_vectors<T>, lane = kernel::lanes<T>;
  constexpr index_t width = vectors * lane, depth = 64;
  alignas(64) T block[depth * width];  // a part of X that several tiles meet: rows of X lie far apart in memory
  // The tiles take turns to fetch a row of the next part, whole: rows that lie a power of two apart share a few sets of
  // the first-level cache, which bound how many lines may be on their way. One tile alone would fill the queues.
  index_t turns = 0;
  kernel::for_each_tile_col(U.cols, [&](index_t, auto) { ++turns; });
  if (U.rows == 0)
    for (index_t k = 0; k < W.rows; ++k) std::fill_n(W.data + k * W.ld, W.cols, T(0));
  for (index_t i = 0; i < U.rows; i += depth) {
    index_t const rows = (std::min)(depth, U.rows - i);
    bool const has_below = i + depth + rows <= U.rows;
    for (index_t j = 0; j < X.cols; j += width) {
      index_t const cols = (std::min)(width, X.cols - j), padded = (cols + lane - 1) / lane * lane;
      T const* const x = X.data + i * X.ld + j;
      kernel::strided<T const> const u{U.slab(i), U.stride, 1};
      T* const w = W.data + j;
      T const* const start = i == 0 ? nullptr : w;
      // To the right where there is more: those rows lie in pages that are at hand.
      T const* const next = j + 2 * width <= X.cols ? x + width : has_below ? X.data + (i + depth) * X.ld : x;
      if (cols == width) {
        using kernel::passing;
        constexpr bool conj = is_complex<T>;
        index_t turn = 0;
        kernel::for_each_tile_col(U.cols, [&](index_t k, auto size) {
          T const* const s = start == nullptr ? start : start + k * W.ld;
          bool const copied = k > 0;
          kernel::sum_term<T> const term{copied ? block : x, copied ? width : X.ld, u.at(0, k), rows};
          kernel::fetched<T> const fetches{next + turn++ * X.ld, turns * X.ld, turns};
          if constexpr (size > 1)
            if (!copied && turns > 1)
              return kernel::fetching_sum_tile<vectors, size, conj, passing::copy_and_fetch_in_turn, T>(
                  term, s, W.ld, w, W.ld, fetches, block);
          kernel::fetching_sum_tile<vectors, size, conj, passing::fetch_in_turn, T>(term, s, W.ld, w + k * W.ld, W.ld,
                                                                                    fetches);
        });
      } else {
        for (index_t l = 0; l < rows; ++l) copy_padded(x + l * X.ld, cols, block + l * padded);
        kernel::sum_term<T> const term{block, padded, u, rows};
        kernel::sum_rows<is_complex<T>, T>(cols, U.cols, 1, &term, true, start, W.ld, w, W.ld);
      }
    }
  }
}

template <class T>
void update_panel(packed_matrix<T, row_major> U, matrix_view<T const, row_major> Z, matrix_view<T const, row_major> X,
                  matrix_view<T, row_major> Y, prefetch_hint<T, row_major> const& hint) {
  constexpr index_t width = kernel::tile_vectors<T> * kernel::lanes<T>, groups = 4, depth = 64;
  // Z in groups of columns that lie together: rows that lie a power of two apart would fight for cache sets with X.
  alignas(64) T block[groups * depth * width];
  bool const streams = U.cols <= depth && kernel::worth_streaming(hint.written, X, Y);
  matrix_view<T const, row_major> source = X;
  for (index_t k = 0; k < U.cols || k == 0; k += depth, source = Y) {
    index_t const terms = (std::min)(depth, U.cols - k);
    for (index_t first = 0; first < Y.cols; first += groups * width) {
      index_t const last = (std::min)(Y.cols, first + groups * width);
      auto const group = [&](index_t j) { return block + (j - first) * depth; };
      for (index_t j = first; j < last; j += width) {
        index_t const cols = (std::min)(width, last - j);
        for (index_t l = 0; l < terms; ++l) copy_padded(Z.data + (k + l) * Z.ld + j, cols, group(j) + l * width);
      }
      index_t const whole = (last - first) / width, rest = (last - first) % width, tail = last - rest;
      kernel::traffic<T> moves;
      moves.streams = streams;
      kernel::for_each_tile_col(Y.rows, [&](index_t i, auto strip) {
        T const* const s = source.data == nullptr ? nullptr : source.data + i * source.ld;
        T* const y = Y.data + i * Y.ld;
        if (s != nullptr) moves.ahead = {s + strip * source.ld + first, source.ld, Y.rows - i - strip};
        kernel::sum_term<T> term{block, width, {U.data + i * U.stride + k, 1, U.stride}, terms, depth * width};
        kernel::sum_tiles<kernel::tile_vectors<T>, strip, false, T>(
            whole, {width, 0}, 1, &term, s == nullptr ? s : s + first, source.ld, y + first, Y.ld, moves);
        if (rest == 0) return;
        term.a = group(tail);
        kernel::sum_columns<strip, false, T>(rest, 1, &term, true, s == nullptr ? s : s + tail, source.ld, y + tail,
                                             Y.ld, moves.at(tail - first, 0));
      });
    }
  }
  if (streams) kernel::finish_streams();
}

template <class T>
void update_panel(int terms, update_term<T, row_major> const* term, matrix_view<T const, row_major> X,
                  matrix_view<T, row_major> Y, prefetch_hint<T, row_major> hint) {
  index_t const written = hint.written;
  for (int t = 0; t < terms; ++t) {
    hint.written = t + 1 == terms ? written : 0;
    update_panel(term[t].U, term[t].Z, t == 0 ? X : matrix_view<T const, row_major>(Y), Y, hint);
  }
}

template <class T>
void outer_panel(int terms, outer_term<T, row_major> const* term, packed_matrix<T, row_major> D) {
  constexpr index_t lane = kernel::lanes<T>;
  kernel::strided<T> const d{D.data, 1, D.stride};  // transposed: the sums of four reflectors are neighbours
  kernel::for_each_tile_col(D.rows, [&](index_t i, auto rows) {
    kernel::for_each_group_run<kernel::tile_vectors<T>>(D.cols, [&](index_t k, auto size, index_t count) {
      kernel::dot_term<T> local[2];
      for (int t = 0; t < terms; ++t) {
        auto const [X, Z] = term[t];
        local[t] = {Z.data + k * Z.ld, lane, Z.ld, X.data + i * X.ld, X.ld, X.cols};
        if (i + 2 * rows <= D.rows) local[t].next = {local[t].b + rows * X.ld, X.ld, rows};
      }
      auto const at = d.at(k, i);
      kernel::dot_tiles<size, rows, 1, is_complex<T>, false>(count, T(1), terms, local, {at.data, at.row, at.col}, at);
    });
  });
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail
