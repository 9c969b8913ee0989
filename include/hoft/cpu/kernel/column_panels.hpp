// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/column_panels.hpp: the three products of panels with contiguous columns, of T or stored in another
// type (storage.hpp).
#pragma once
#include <hoft/backend/prefetch_hint.hpp>
#include <hoft/cpu/kernel/dot_tiles.hpp>
#include <hoft/cpu/kernel/packed.hpp>
#include <hoft/cpu/kernel/short_tiles.hpp>
#include <hoft/cpu/kernel/sum_tiles.hpp>

#include <algorithm>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail {

/// Rows that all reflectors and all columns of a panel meet before the rows below: the columns and reflectors of one
/// tile stay in a first-level cache of 32 KiB, or of 48 where vectors have 64 bytes, as on Sapphire Rapids and Zen 5;
/// all reflectors stay in the second. Longer ones leave less time for the beginnings and ends of tiles.
template <class T>
inline constexpr index_t rows_together = (sizeof(kernel::packet<T>) < 64 ? 2048 : 4096) / index_t(sizeof(T));

/// W := UᴴX. The tiles of the first run of reflectors fetch `next`, the columns that are read after those of X.
template <class T, class S, class LW>
void project_tall(packed_matrix<T, col_major> U, matrix_view<S const> X, matrix_view<T, LW> W,
                  kernel::prefetched<S> const& next) {
  constexpr int vectors = kernel::tile_vectors<T>;
  constexpr index_t height = U.slab_rows, depth = rows_together<T> / height * height;
  auto const w = kernel::as_strided(W);
  for (index_t i = 0; i < U.rows || i == 0; i += depth) {
    index_t const rows = (std::min)(depth, U.rows - i);
    kernel::for_each_tile_col(X.cols, [&](index_t j, auto width) {
      kernel::for_each_group_run<vectors>(U.cols, [&](index_t k, auto size, index_t count) {
        kernel::dot_term<T, S> term{
            U.slab(i / height) + k * height, U.stride, height, X.data + i + j * X.ld, X.ld, rows, true};
        if (k == 0) term.next = next.at(i, j);
        kernel::strided<T const> const start{i == 0 ? nullptr : w.at(k, j).data, w.row, w.col};
        kernel::dot_tiles<size, width, vectors, is_complex<T>, false>(count, T(1), 1, &term, start, w.at(k, j));
      });
    });
  }
}

/// The columns of U from k that fill V vectors, as short_tiles wants them: squares of units are turned in registers.
template <int V, class T>
void turn_units(packed_matrix<T, col_major> U, index_t k, T* turned) {
  constexpr index_t height = U.slab_rows, lane = kernel::lanes<T>;
  constexpr int units = kernel::units<T>;
  for (index_t i = 0; i < U.rows; i += lane) {
    T const* const from = U.slab(i / height) + k * height + i % height;
    T* const to = turned + i * V * units;
    for (int v = 0; v < V; ++v) {
      auto row = kernel::zero<double>();
      Eigen::internal::PacketBlock<decltype(row), units> square;
      for (int c = 0; c < units; ++c)
        square.packet[c] = std::bit_cast<decltype(row)>(kernel::load(from + (v * units + c) * height));
      Eigen::internal::ptranspose(square);
      for (int l = 0; l < units; ++l)
        Eigen::internal::pstore(to + (l * V + v) * lane, std::bit_cast<kernel::packet<T>>(square.packet[l]));
    }
  }
}

/// W := UᵀX of short columns, for V vectors of reflectors from k.
template <int V, class T, class S>
void project_short(packed_matrix<T, col_major> U, index_t k, matrix_view<S const> X, kernel::strided<T> const& w,
                   kernel::prefetched<S> const& next) {
  constexpr index_t most = kernel::short_rows<T>, lane = kernel::lanes<T>;
  alignas(64) T turned[most * V * kernel::units<T>];
  turn_units<V>(U, k, turned);
  if constexpr (std::same_as<S, T>) {
    kernel::short_product<V>(X.cols, U.rows, turned, X.data, X.ld, w, next);
  } else {
    constexpr index_t strip = kernel::short_tile_cols<V>;
    alignas(64) T converted[strip * most];
    for (index_t j = 0; j < X.cols; j += strip) {
      index_t const cols = (std::min)(strip, X.cols - j);
      for (index_t c = 0; c < cols; ++c)
        for (index_t i = 0; i < U.rows; i += lane) {
          S const* const x = X.data + (j + c) * X.ld + i;
          index_t const rows = (std::min)(lane, U.rows - i);
          if (j + c < next.cols) kernel::prefetch(next.at(i, j + c).data);
          Eigen::internal::pstore(converted + c * most + i,
                                  rows == lane ? kernel::load_as<T>(x) : kernel::load_part_as<T>(x, rows));
        }
      kernel::short_product<V>(cols, U.rows, turned, static_cast<T const*>(converted), most, w.at(0, j));
    }
  }
}

template <class T, class L>
kernel::prefetched<T> prefetched_part(matrix_view<T const, L> next) {
  // The stride of a single column may be any number, and tiles step over it once.
  return {next.data, next.cols > 1 ? next.ld : 0, next.data == nullptr ? 0 : next.cols};
}

/// W := UᴴX, while the next panel is fetched.
template <class T, class S, class LW>
void project_panel(packed_matrix<T, col_major> U, matrix_view<S const> X, matrix_view<T, LW> W,
                   matrix_view<S const> next_panel) {
  kernel::prefetched<S> const next = prefetched_part(next_panel), none;
  if constexpr (kernel::has_short_tiles<T>)
    if (U.rows > 0 && U.rows <= kernel::short_rows<T>) {
      constexpr index_t units = kernel::units<T>;
      auto const w = kernel::as_strided(W);
      index_t const whole = U.cols / units;
      kernel::for_each_group<2>(whole, [&](index_t g, auto vectors) {
        project_short<vectors>(U, g * units, X, w.at(g * units, 0), g == 0 ? next : none);
      });
      index_t const first = whole * units, rest = U.cols - first;
      if (rest > 0) project_tall(U.columns(first, rest), X, W.block(first, 0, rest, W.cols), first == 0 ? next : none);
      return;
    }
  project_tall(U, X, W, next);
}

/// Y := X + the sum of up to two products, in the slabs from `first` and the rows behind the last of them, which are
/// fewer than a slab.
template <class T, class S, class C>
void update_slabs(index_t first, index_t count, index_t last_rows, int terms, update_term<T, col_major> const* term,
                  matrix_view<S const> X, matrix_view<C> Y, kernel::traffic<S> const& moves) {
  constexpr index_t height = packed_matrix<T, col_major>::slab_rows;
  index_t const top = first * height, bottom = top + count * height;
  kernel::for_each_tile_col(Y.cols, [&](index_t j, auto width) {
    S const* const x = X.data == nullptr ? nullptr : X.data + j * X.ld;
    C* const y = Y.data + j * Y.ld;
    kernel::sum_term<T> local[2];
    auto const from_slab = [&](index_t slab) {
      for (int t = 0; t < terms; ++t) {
        auto const [U, Z] = term[t];
        local[t] = {U.slab(slab), height, kernel::as_strided(Z).at(0, j), U.cols, U.stride};
      }
      return local;
    };
    kernel::sum_tiles<kernel::tile_vectors<T>, width, false, T>(
        count, {height, 0}, terms, from_slab(first), x == nullptr ? x : x + top, X.ld, y + top, Y.ld, moves.at(top, j));
    if (last_rows > 0)
      kernel::sum_columns<width, false, T>(last_rows, terms, from_slab(first + count), true,
                                           x == nullptr ? x : x + bottom, X.ld, y + bottom, Y.ld, moves.at(bottom, j));
  });
}

/// Y := X + U Z of short columns with few reflectors, which stay in registers.
template <class T>
void update_short(update_term<T, col_major> const& term, matrix_view<T const> X, matrix_view<T> Y,
                  kernel::prefetched<T> const& next) {
  auto const [U, Z] = term;
  constexpr index_t height = packed_matrix<T, col_major>::slab_rows;
  for (index_t i = 0; i < Y.rows; i += kernel::kept_rows<T>)
    kernel::sum_few_terms<kernel::kept_terms>(Y.cols, U.slab(i / height) + i % height, height, Z.data, Z.ld,
                                              X.data == nullptr ? X.data : X.data + i, X.ld, Y.data + i, Y.ld,
                                              next.at(i, 0));
}

template <class T, class S, class C>
void update_panel(int terms, update_term<T, col_major> const* term, matrix_view<S const> X, matrix_view<C> Y,
                  prefetch_hint<S, col_major> const& hint) {
  constexpr index_t height = packed_matrix<T, col_major>::slab_rows, part = rows_together<T> / height;
  kernel::traffic<S> const moves{prefetched_part(hint.next), prefetched_part(hint.also_next),
                                 kernel::worth_streaming(hint.written, X, Y)};
  index_t const whole = Y.rows / height, rest = Y.rows % height;
  if constexpr (std::same_as<S, T> && std::same_as<C, T> && kernel::keeps_terms<T>)
    if (terms == 1 && term->U.cols == kernel::kept_terms && Y.rows % kernel::kept_rows<T> == 0 &&
        Y.rows <= kernel::short_rows<T> && !moves.streams)
      return update_short(*term, X, Y, moves.ahead);
  if (whole == 1 && rest == 0) {  // one tile high: the tiles of a run in a row
    kernel::sum_term<T> local[2];
    for (int t = 0; t < terms; ++t) local[t] = {term[t].U.data, height, kernel::as_strided(term[t].Z), term[t].U.cols};
    kernel::sum_rows<false, T>(Y.rows, Y.cols, terms, local, true, X.data, X.ld, Y.data, Y.ld, moves);
  } else {  // columns inside a part: a tile then walks down its columns, where the hardware follows it
    // From the last part up: what was projected last is the first to be read again, before it leaves the cache.
    for (index_t first = whole > 0 ? (whole - 1) / part * part : 0; first >= 0; first -= part) {
      index_t const count = (std::min)(part, whole - first);
      update_slabs(first, count, first + count == whole ? rest : 0, terms, term, X, Y, moves);
    }
  }
  if (moves.streams) kernel::finish_streams();
}

/// Elements of a panel that are copied at a time, 24 KiB: they stay, beside D and Z, in a first-level cache of 32 KiB.
template <class T>
inline constexpr index_t copied_together = (index_t{3} << 13) / index_t(sizeof(T));

/// Columns that lie whole pages apart share a set of the first-level cache. Tiles that are at most one line high
/// meet one line of each, more than the set has room for: where several tiles do, the panel is copied, slab by slab.
template <class T, class S>
bool worth_copying(int terms, outer_term<T, col_major, S> const* term) {
  constexpr index_t height = packed_matrix<T, col_major>::slab_rows, line = 64, page = 4096, ways = 8;
  index_t const cols = terms * term->X.cols;
  return height * index_t(sizeof(T)) <= line && term->X.ld * index_t(sizeof(S)) % page == 0 && cols > ways &&
         term->Z.rows > kernel::tile_cols && cols * height <= copied_together<T>;
}

/// `slabs` slabs of X from row `first`, as a packed matrix has them.
template <class T, class S>
void copy_slabs(matrix_view<S const> X, index_t first, index_t slabs, T* to) {
  constexpr index_t height = packed_matrix<T, col_major>::slab_rows, lane = kernel::lanes<T>;
  for (index_t j = 0; j < X.cols; ++j)
    for (index_t i = 0; i < slabs; ++i) {
      S const* const x = X.data + first + i * height + j * X.ld;
      T* const slab = to + (i * X.cols + j) * height;
      for (index_t v = 0; v < height; v += lane) Eigen::internal::pstore(slab + v, kernel::load_as<T>(x + v));
    }
}

/// D := D + the products, in the slabs from `first`. A panel is narrow and its sums are short: a row of tiles goes down
/// several slabs, not along the columns of one.
template <class T, class A>
void outer_slabs(index_t first, index_t count, int terms, kernel::sum_term<T, A> const* term,
                 packed_matrix<T, col_major> D) {
  constexpr index_t height = packed_matrix<T, col_major>::slab_rows;
  kernel::for_each_tile_col(D.cols, [&](index_t k, auto width) {
    kernel::sum_term<T, A> local[2];
    for (int t = 0; t < terms; ++t) local[t] = term[t].at(0, k);
    T* const d = D.slab(first) + k * height;
    kernel::sum_tiles<kernel::tile_vectors<T>, width, is_complex<T>, T>(
        count, {D.stride, 0}, terms, local, static_cast<T const*>(d), height, d, height, {});
  });
}

template <class T, class S>
void outer_copied(index_t whole, int terms, outer_term<T, col_major, S> const* term, packed_matrix<T, col_major> D) {
  constexpr index_t height = packed_matrix<T, col_major>::slab_rows;
  alignas(64) T block[copied_together<T>];
  index_t const cols = term->X.cols, part = copied_together<T> / (terms * cols * height);
  for (index_t first = 0; first < whole; first += part) {
    index_t const count = (std::min)(part, whole - first);
    kernel::sum_term<T> local[2];
    for (int t = 0; t < terms; ++t) {
      T* const copy = block + t * count * cols * height;
      copy_slabs(term[t].X, first * height, count, copy);
      local[t] = {copy, height, kernel::as_strided(term[t].Z.transposed()), cols, cols * height};
    }
    outer_slabs(first, count, terms, local, D);
  }
}

template <class T, class S>
void outer_panel(int terms, outer_term<T, col_major, S> const* term, packed_matrix<T, col_major> D) {
  constexpr index_t height = packed_matrix<T, col_major>::slab_rows, part = rows_together<T> / height;
  index_t const whole = D.rows / height, rest = D.rows % height;
  kernel::sum_term<T, S> local[2];
  auto const from_slab = [&](index_t slab) {
    for (int t = 0; t < terms; ++t)
      local[t] = {term[t].X.data + slab * height, term[t].X.ld, kernel::as_strided(term[t].Z.transposed()),
                  term[t].X.cols, height};
    return local;
  };
  if (worth_copying<T>(terms, term)) outer_copied(whole, terms, term, D);
  else
    for (index_t first = 0; first < whole; first += part)
      outer_slabs(first, (std::min)(part, whole - first), terms, from_slab(first), D);
  if (rest == 0) return;
  T* const d = D.slab(whole);
  kernel::sum_rows<is_complex<T>, T>(rest, D.cols, terms, from_slab(whole), false, static_cast<T const*>(d), height, d,
                                     height);
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail
