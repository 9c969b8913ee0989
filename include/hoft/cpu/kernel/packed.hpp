// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/packed.hpp: the reflectors of a product, packed once for the panels of a whole call, and the three
// products of a panel that take them.
//
//   project   W := UᴴX       update   Y := X + U Z       outer   D := D + X Zᴴ
//
// Panels with contiguous columns want U in slabs of whole vectors of rows, [slab][column][row]: one stream of aligned
// vectors for both products, zero beyond the last row. Panels with contiguous rows read U element by element, and want
// the elements of a row side by side. D, the gradient of U, is summed in the same form.
#pragma once
#include <hoft/backend/prefetch_hint.hpp>
#include <hoft/cpu/kernel/dot_tiles.hpp>
#include <hoft/cpu/kernel/short_tiles.hpp>
#include <hoft/cpu/kernel/sum_tiles.hpp>
#include <hoft/cpu/policy.hpp>
#include <hoft/memory/arena.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace cpu_backend {

/// A matrix [rows, cols] in the form that panels of layout L want.
template <class T, class L>
struct packed_matrix {
  static constexpr bool in_slabs = std::same_as<L, col_major>;
  static constexpr index_t slab_rows = in_slabs ? kernel::tile_vectors<T> * kernel::lanes<T> : 1;

  T* data = nullptr;
  index_t rows = 0, cols = 0;
  index_t stride = 0;  ///< from one slab, or row, to the next

  static index_t size(index_t rows, index_t cols) { return (rows + slab_rows - 1) / slab_rows * slab_rows * cols; }
  packed_matrix columns(index_t j, index_t count) const { return {data + j * slab_rows, rows, count, stride}; }
  index_t slabs() const { return (rows + slab_rows - 1) / slab_rows; }
  index_t rows_of(index_t slab) const { return (std::min)(slab_rows, rows - slab * slab_rows); }
  T* slab(index_t i) const { return data + i * stride; }

  /// f(first, count, j, part, step): `count` rows of column j, from `first`, lie at part[0], part[step], .... For
  /// moving elements from or to a matrix in another order: so few rows at a time that the lines of both stay in the
  /// first-level cache until all their elements have been met.
  template <class F>
  void for_each_part(F const& f) const {
    constexpr index_t height = in_slabs ? slab_rows : 64 / index_t(sizeof(T));
    for (index_t first = 0; first < rows; first += height)
      for (index_t j = 0; j < cols; ++j) {
        index_t const count = (std::min)(height, rows - first);
        if constexpr (in_slabs) f(first, count, j, slab(first / height) + j * height, index_t{1});
        else f(first, count, j, slab(first) + j, stride);
      }
  }
};

/// One packed matrix [rows, cols] for each worker.
template <class T, class L>
class packed_per_worker {
 public:
  packed_per_worker(arena& memory, index_t workers, index_t rows, index_t cols)
      : first_{memory.array<T>(workers * packed::size(rows, cols)), rows, cols, packed::slab_rows * cols} {}
  packed_matrix<T, L> operator()(index_t worker) const {
    packed p = first_;
    p.data += worker * packed::size(p.rows, p.cols);
    return p;
  }

 private:
  using packed = packed_matrix<T, L>;
  packed first_;
};
/// The terms of a sum Y := X + U Z.
template <class T, class L>
struct update_term {
  packed_matrix<T, L> U;
  matrix_view<T const, L> Z;
};
/// The terms of a sum D := D + X Zᴴ.
template <class T, class L, class S = T>
struct outer_term {
  matrix_view<S const, L> X;
  matrix_view<T const, L> Z;
};

namespace detail {

// --- panels with contiguous columns, of T or stored in another type (kernel/storage.hpp) ---------------------

/// Rows that all reflectors and all columns of a panel meet before the rows below: a few columns of them stay in the
/// first-level cache, and so do a few reflectors; all reflectors stay in the second.
template <class T>
inline constexpr index_t rows_together = (index_t{1} << 11) / index_t(sizeof(T));

template <class T, class S, class LW>
void project_tall(packed_matrix<T, col_major> U, matrix_view<S const> X, matrix_view<T, LW> W) {
  constexpr int vectors = kernel::tile_vectors<T>;
  constexpr index_t height = U.slab_rows, depth = rows_together<T> / height * height;
  auto const w = kernel::as_strided(W);
  for (index_t i = 0; i < U.rows || i == 0; i += depth) {
    index_t const rows = (std::min)(depth, U.rows - i);
    kernel::for_each_tile_col(X.cols, [&](index_t j, auto width) {
      kernel::for_each_group_run<vectors>(U.cols, [&](index_t k, auto size, index_t count) {
        kernel::dot_term<T, S> const term{
            U.slab(i / height) + k * height, U.stride, height, X.data + i + j * X.ld, X.ld, rows, true};
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
void project_short(packed_matrix<T, col_major> U, index_t k, matrix_view<S const> X, kernel::strided<T> const& w) {
  constexpr index_t most = kernel::short_rows<T>, lane = kernel::lanes<T>;
  alignas(64) T turned[most * V * kernel::units<T>];
  turn_units<V>(U, k, turned);
  if constexpr (std::same_as<S, T>) {
    kernel::short_product<V>(X.cols, U.rows, turned, X.data, X.ld, w);
  } else {
    constexpr index_t strip = kernel::short_tile_cols<V>;
    alignas(64) T converted[strip * most];
    for (index_t j = 0; j < X.cols; j += strip) {
      index_t const cols = (std::min)(strip, X.cols - j);
      for (index_t c = 0; c < cols; ++c)
        for (index_t i = 0; i < U.rows; i += lane) {
          S const* const x = X.data + (j + c) * X.ld + i;
          index_t const rows = (std::min)(lane, U.rows - i);
          Eigen::internal::pstore(converted + c * most + i,
                                  rows == lane ? kernel::load_as<T>(x) : kernel::load_part_as<T>(x, rows));
        }
      kernel::short_product<V>(cols, U.rows, turned, static_cast<T const*>(converted), most, w.at(0, j));
    }
  }
}

template <class T, class S, class LW>
void project_panel(packed_matrix<T, col_major> U, matrix_view<S const> X, matrix_view<T, LW> W) {
  if constexpr (kernel::has_short_tiles<T>)
    if (U.rows > 0 && U.rows <= kernel::short_rows<T>) {
      constexpr index_t units = kernel::units<T>;
      auto const w = kernel::as_strided(W);
      index_t const whole = U.cols / units;
      kernel::for_each_group<2>(
          whole, [&](index_t g, auto vectors) { project_short<vectors>(U, g * units, X, w.at(g * units, 0)); });
      index_t const first = whole * units, rest = U.cols - first;
      if (rest > 0) project_tall(U.columns(first, rest), X, W.block(first, 0, rest, W.cols));
      return;
    }
  project_tall(U, X, W);
}

/// Outputs that leave the caches anyway are better stored past them, in whole vectors; but not in place, over lines
/// that the caches hold.
template <class S, class T, class L>
bool worth_streaming(index_t elements, matrix_view<S const, L> X, matrix_view<T, L> Y) {
  constexpr index_t bytes = index_t{1} << 23;
  if constexpr (kernel::has_stream_as<T>)
    return elements > bytes / index_t(sizeof(T)) && static_cast<void const*>(X.data) != Y.data &&
           kernel::is_vector_aligned(Y.data) && Y.ld % kernel::lanes<T> == 0;
  else return false;
}

template <class T, class L>
kernel::prefetched<T> prefetched_part(matrix_view<T const, L> next) {
  return {next.data, next.ld, next.data == nullptr ? 0 : next.cols};
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
                                 worth_streaming(hint.written, X, Y)};
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
    for (index_t first = 0; first < whole || first == 0; first += part) {
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

// --- panels with contiguous rows: the transposed problem, C ᵀ = S ᵀ + …, vectors along the panel's columns --------

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
  bool const streams = U.cols <= depth && worth_streaming(hint.written, X, Y);
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
        if (i + 2 * rows <= D.rows) local[t].ahead = rows * X.ld;
      }
      auto const at = d.at(k, i);
      kernel::dot_tiles<size, rows, 1, is_complex<T>, false>(count, T(1), terms, local, {at.data, at.row, at.col}, at);
    });
  });
}

}  // namespace detail

}  // namespace cpu_backend
}  // namespace HOFT_TARGET_NAMESPACE
