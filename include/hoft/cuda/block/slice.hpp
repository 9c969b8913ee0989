// hoft/cuda/block/slice.hpp: what a block does with its slice of the features when a cluster shares a matrix by
// features: 16 columns at a time stay in shared memory, beside the slice's reflectors, which are read, and split into
// parts, once for all columns. Products are those of tiles by warps (split.hpp).
#pragma once
#include <hoft/cuda/block/split.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// A matrix [m, n] in either layout.
template <class T>
struct strided_matrix {
  T* data = nullptr;
  index_t rows = 0, cols = 0, ld = 0;
  bool by_columns = true;  ///< neighbours in memory are neighbours of a column

  strided_matrix() = default;
  template <class S, class L>
  strided_matrix(matrix_view<S, L> X)
      : data(X.data), rows(X.rows), cols(X.cols), ld(X.ld), by_columns(X.is_col_major) {}
  HOFT_HOST_DEVICE T* at(index_t i, index_t j) const { return data + (by_columns ? i + j * ld : i * ld + j); }
};

/// How blocks share a matrix [m, n]: `slices` clusters of `size` blocks stand side by side along the features and take
/// `rows` of them each block; `runs` such rows of clusters share the columns, 16 at a time in turn.
struct slice_shape {
  index_t size = 0;  ///< 0: no shape fits
  index_t threads = cuda::threads;
  index_t rows = 0;     ///< a multiple of feature_slice::row_step
  index_t buffers = 1;  ///< of columns that are fetched, 1 or 2
  index_t slices = 1, runs = 0;
  HOFT_HOST_DEVICE constexpr index_t clusters() const { return slices * runs; }
};

/// to [16, k] := columns [j, j + 16) of M [k, n], a line for each, with zeros around them.
template <class Block, int Parts>
HOFT_HOST_DEVICE void set_columns(Block const& block, split_matrix<Parts> const& to, strided_matrix<float const> M,
                                  index_t j) {
  index_t const count = M.cols - j;
  set_split(block, to, int(count < 16 ? count : 16), int(M.rows), [&](int c, int k) { return *M.at(k, j + c); });
}

/// A tile of columns and what it is multiplied by, a matrix [16, rank].
template <class T>
struct outer_term {
  T const* columns;
  split_matrix<parts_beside<T>> right;
};
/// A slice of reflectors and their coefficients [16, rank]; nothing if it has none.
template <int Parts>
struct low_rank_product {
  split_matrix<Parts> u, z;
};

/// The slice of one block: rows [first, first + height) of m, in shared memory `rows` of them, the rest zero.
/// Reflectors are padded likewise to whole tiles.
struct feature_slice {
  static constexpr index_t columns = 16;
  static constexpr index_t row_step = 32;  ///< `rows` is a multiple
  static constexpr index_t padding = 8;    ///< elements behind a line: eight lines lie in different banks

  index_t first;
  int height, rows, rank;

  HOFT_HOST_DEVICE feature_slice(index_t m, index_t rows_, index_t rank_, index_t member)
      : first(member * rows_ < m ? member * rows_ : m),
        height(int(m - first < rows_ ? m - first : rows_)),
        rows(int(rows_)),
        rank(int(rank_)) {}

  HOFT_HOST_DEVICE int stride() const { return rows + int(padding); }
  HOFT_HOST_DEVICE int groups() const { return (rank + 15) / 16; }
  HOFT_HOST_DEVICE int padded_rank() const { return groups() * 16; }
  /// Elements of shared memory of a tile [rows, 16], by columns.
  HOFT_HOST_DEVICE int tile_size() const { return int(columns) * stride(); }

  /// u, a line for each reflector, := the slice of U.
  template <class Block, int Parts>
  HOFT_HOST_DEVICE void load_reflectors(Block const& block, matrix_view<float const> U,
                                        split_matrix<Parts> const& u) const {
    block.each_line(u.lines, rows / 2, [&](int k, int half) {
      int const i = 2 * half;
      float const* const at = U.data + k * U.ld + first;
      u.set(k, i, k < U.cols && i < height ? at[i] : 0.0f, k < U.cols && i + 1 < height ? at[i + 1] : 0.0f);
    });
  }

  /// s := the slice of a vector, zero beyond it.
  template <class Block>
  HOFT_HOST_DEVICE void load_vector(Block const& block, vector_view<float const> v, float* s) const {
    block.each(rows, [&](index_t i) { s[i] = i < height ? v[first + i] : 0.0f; });
  }

  /// tile := columns [j, j + 16) of X, zero beyond its edges. It is there when block.fetched() has returned.
  template <class Block, class T>
  HOFT_HOST_DEVICE void fetch_tile(Block const& block, strided_matrix<T const> X, index_t j, T* tile) const {
    int const count = columns_from(X, j);
    if (height < rows || count < columns)
      block.each_line(columns, rows, [&](int c, int i) {
        if (i >= height || c >= count) tile[c * stride() + i] = static_cast<T>(0.0f);
      });
    constexpr int several = int(sizeof(chunk) / sizeof(T));
    int const whole = in_chunks(X) ? height / several : 0;
    T const* const from = X.at(first, j);
    block.fetch(count, whole, [&](int c, int l) {
      return chunk_copy{tile + c * stride() + l * several, from + c * X.ld + l * several};
    });
    each_beyond(block, X, whole * several, count,
                [&](int i, int c) { tile[c * stride() + i] = *X.at(first + i, j + c); });
  }
  /// Columns [j, j + 16) of Y := tile.
  template <class Block, class T>
  HOFT_HOST_DEVICE void store_tile(Block const& block, T const* tile, strided_matrix<T> Y, index_t j) const {
    int const count = columns_from(Y, j);
    constexpr int several = int(sizeof(chunk) / sizeof(T));
    int const whole = in_chunks(Y) ? height / several : 0;
    T* const to = Y.at(first, j);
    block.each_line(count, whole, [&](int c, int l) {
      chunk const x = *reinterpret_cast<chunk const*>(tile + c * stride() + l * several);
      *reinterpret_cast<chunk*>(to + c * Y.ld + l * several) = x;
    });
    each_beyond(block, Y, whole * several, count,
                [&](int i, int c) { *Y.at(first + i, j + c) = tile[c * stride() + i]; });
  }

  /// Sets of rows that a projection on whole tiles of r reflectors is dealt to, a warp for each and each 16 reflectors;
  /// and how many floats of scratch it takes.
  HOFT_HOST_DEVICE static int row_sets(int r, int most) {
    int sets = most;
    while (sets > 1 && sets * (r / 16) > most) sets /= 2;
    return sets;
  }
  HOFT_HOST_DEVICE static index_t projection_scratch(index_t r, index_t of_block) {
    int const padded = int(whole_tiles(r)), sets = row_sets(padded, int(of_block) / lanes);
    return sets > 2 ? sets / 2 * int(columns) * padded : 0;
  }
  /// w(c, k) := Σ_i U(i, k) s(i) X(i, c) over the slice, in memory [16, padded rank]; s without data is ones. The sums
  /// of sets of rows are added in order.
  template <class Block, class T>
  HOFT_HOST_DEVICE void project(Block const& block, split_matrix<parts_beside<T>> const& u, float const* s,
                                T const* tile, float* scratch, float* w) const {
    int const r = u.lines, groups = r / 16, sets = row_sets(r, block.warps()), all = int(columns) * r;
    if (r == 0) return;
    auto const sums = [&](auto const& warp, int g, int set) {
      if (s == nullptr)
        return projection<parts_of<T>>(
            warp, u, g, set, sets, [&](auto& x, int i) { load_stored<stored::by_rows>(warp, x, tile + i, stride()); });
      return projection<parts_beside<T>>(warp, u, g, set, sets, [&](auto& x, int i) {
        load_converted<T, stored::by_rows>(warp, x, tile + i, stride(), [&](neighbours<float> two, place in) {
          neighbours<float> const by = load_pair(s + i + in.column);
          return neighbours<float>{two.first * by.first, two.second * by.second};
        });
      });
    };
    if (sets == 1)
      return block.each_warp(groups, [&](auto const& warp, int g) { put(warp, sums(warp, g, 0), g, r, w); });
    // The second half of the sets leaves its sums to the first.
    int const half = sets / 2;
    float* const slots = half > 1 ? scratch : w;
    block.each_warp_twice(
        groups * sets,
        [&](auto const& warp, int task) {
          auto const mine = sums(warp, task % groups, task / groups);
          if (task / groups >= half) put(warp, mine, task % groups, r, slots + (task / groups - half) * all);
          return mine;
        },
        [&](auto const& warp, int task, auto mine) {
          if (task / groups >= half) return;
          float* const slot = slots + task / groups * all;
          add(warp, slot, task % groups, r, mine);
          put(warp, mine, task % groups, r, slot);
        });
    if (half == 1) return;
    block.each(all / 4, [&](index_t e) {
      quad const* const from = reinterpret_cast<quad const*>(scratch) + e;
      quad total = from[0];
      for (int p = 1; p < half; ++p) {
        quad const more = from[p * (all / 4)];
        HOFT_UNROLL
        for (int n = 0; n < 4; ++n) total.of[n] += more.of[n];
      }
      reinterpret_cast<quad*>(w)[e] = total;
    });
  }

  /// D [rows, padded rank], in tiles, += the terms: a tile of columns [rows, 16] times [16, rank], each.
  template <class Block, class T, class... More>
  HOFT_HOST_DEVICE void outer(Block const& block, sum_tiles D, outer_term<T> const& term, More const&... more) const {
    block.each_warp(rows / 16, [&](auto const& warp, int strip) {
      add_terms(warp, D, strip, term.right.length / 16, loaded(warp, term, strip), loaded(warp, more, strip)...);
    });
  }
  /// Quads of sums [rows, r].
  HOFT_HOST_DEVICE index_t sum_quads(index_t r) const { return rows / 16 * (whole_tiles(r) / 16) * sum_tiles::size; }
  /// f(i, k, D(i, k)) for every element of the slice of D [m, r].
  template <class Block, class F>
  HOFT_HOST_DEVICE void each_sum(Block const& block, sum_tiles D, int r, F const& f) const {
    int const across = (r + 15) / 16;
    block.each_warp(rows / 16 * across, [&](auto const& warp, int tile) {
      typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sums;
      D.load(warp, sums, tile);
      int const i = tile / across * 16, k = tile % across * 16;
      each_element(warp, sums, [&](int row, int column, float d) {
        if (i + row < height && k + column < r) f(i + row, k + column, d);
      });
    });
  }

  /// tile := diag(s) (tile + A) + B for products A and B of reflectors and their coefficients; s without data is ones.
  /// between: a tile for tile + A, or without data.
  template <class Block, class T>
  HOFT_HOST_DEVICE void combine(Block const& block, low_rank_product<parts_beside<T>> const& A, float const* s,
                                low_rank_product<parts_beside<T>> const& B, T* tile, T* between) const {
    // f(warp, top) for each strip; f(lane, n, e, at, i) for each pair of it: pair e of tile n, at its place, of row i
    auto const each_strip = [&](auto const& f) {
      block.each_warp(rows / (16 * abreast), [&](auto const& warp, int strip) { f(warp, strip * 16 * abreast); });
    };
    auto const each_pair = [&](auto const& warp, int top, auto const& f) {
      warp.each_lane([&](int lane) {
        HOFT_UNROLL
        for (int n = 0; n < abreast; ++n) HOFT_UNROLL
        for (int e = 0; e < 4; ++e) {
          place const in = place_in(left_tile{}, lane, e);
          int const i = top + n * 16 + in.column;
          f(lane, n, e, in.row * stride() + i, i);
        }
      });
    };
    if (s == nullptr && between == nullptr)  // what both add goes into one sum
      return each_strip([&](auto const& warp, int top) {
        typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sums[abreast] = {};
        add_updates(warp, A, top, sums);
        add_updates(warp, B, top, sums);
        each_pair(warp, top, [&](int lane, int n, int e, int at, int) {
          auto const& sum = sums[n][lane].element;
          neighbours<float> const x = load_pair(tile + at);
          store_pair(tile + at, x.first + sum[2 * e], x.second + sum[2 * e + 1]);
        });
      });
    each_strip([&](auto const& warp, int top) {
      typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> a[abreast] = {}, b[abreast] = {};
      add_updates(warp, A, top, a);
      add_updates(warp, B, top, b);
      each_pair(warp, top, [&](int lane, int n, int e, int at, int i) {
        neighbours<float> q = load_pair(tile + at);
        q.first += a[n][lane].element[2 * e], q.second += a[n][lane].element[2 * e + 1];
        if (between != nullptr) store_pair(between + at, q.first, q.second);
        if (s != nullptr) {
          neighbours<float> const by = load_pair(s + i);
          q.first *= by.first, q.second *= by.second;
        }
        store_pair(tile + at, q.first + b[n][lane].element[2 * e], q.second + b[n][lane].element[2 * e + 1]);
      });
    });
  }

 private:
  static constexpr int abreast = 2;  ///< tiles of 16 rows: each part of Z that is read serves them all

  template <class T>
  HOFT_HOST_DEVICE static int columns_from(strided_matrix<T> const& X, index_t j) {
    return int(X.cols - j < columns ? X.cols - j : columns);
  }
  /// A projection on 16 reflectors of one of several sets of rows; read(x, i) reads a tile of 16 rows in XParts parts.
  template <int XParts, class Warp, int Parts, class Read>
  HOFT_HOST_DEVICE typename Warp::template held<sum_tile> projection(Warp const& warp, split_matrix<Parts> const& u,
                                                                     int g, int set, int sets, Read const& read) const {
    typename Warp::template held<sum_tile> sums = {};
    for (int i = set * 16; i < rows; i += sets * 16) {
      typename Warp::template held<left_tile> x[XParts];
      typename Warp::template held<right_tile> v[Parts];
      read(x, i);
      u.template load<stored::by_columns>(warp, v, g * 16, i);
      multiply_add(warp, x, v, sums);
    }
    return sums;
  }
  /// A term with the tile of one strip of 16 rows in registers.
  template <class Warp, class T>
  struct loaded_term {
    typename Warp::template held<left_tile> left[parts_of<T>];
    split_matrix<parts_beside<T>> right;
  };
  template <class Warp, class T>
  HOFT_HOST_DEVICE loaded_term<Warp, T> loaded(Warp const& warp, outer_term<T> const& term, int strip) const {
    loaded_term<Warp, T> to;
    to.right = term.right;
    load_stored<stored::by_columns>(warp, to.left, term.columns + strip * 16, stride());
    return to;
  }
  template <class Warp, class... T>
  HOFT_HOST_DEVICE void add_terms(Warp const& warp, sum_tiles D, int strip, int across,
                                  loaded_term<Warp, T> const&... terms) const {
    HOFT_KEEP_ROLLED
    for (int g = 0; g < across; ++g) {
      typename Warp::template held<sum_tile> sums;
      D.load(warp, sums, strip * across + g);
      (add_term(warp, terms, g, sums), ...);
      D.store(warp, sums, strip * across + g);
    }
  }
  template <class Warp, class T, class Sum>
  HOFT_HOST_DEVICE void add_term(Warp const& warp, loaded_term<Warp, T> const& term, int g, Sum& sums) const {
    typename Warp::template held<right_tile> right[parts_beside<T>];
    term.right.template load<stored::by_rows>(warp, right, 0, g * 16);
    multiply_add(warp, term.left, right, sums);
  }
  /// sums += rows [top, top + 16 abreast) of the product, transposed.
  template <class Warp, int Parts, class Sum>
  HOFT_HOST_DEVICE void add_updates(Warp const& warp, low_rank_product<Parts> const& product, int top,
                                    Sum (&sums)[abreast]) const {
    HOFT_KEEP_ROLLED
    for (int g = 0; g < product.u.lines; g += 16) {
      typename Warp::template held<left_tile> z[Parts];
      product.z.template load<stored::by_rows>(warp, z, 0, g);
      HOFT_UNROLL
      for (int n = 0; n < abreast; ++n) {
        typename Warp::template held<right_tile> u[Parts];
        product.u.template load<stored::by_rows>(warp, u, g, top + n * 16);
        multiply_add(warp, z, u, sums[n]);
      }
    }
  }
  /// Lines of the slice are whole chunks where chunks may be.
  template <class T>
  HOFT_HOST_DEVICE bool in_chunks(strided_matrix<T> X) const {
    return X.by_columns && reinterpret_cast<std::uintptr_t>(X.data) % sizeof(chunk) == 0 &&
           X.ld * index_t(sizeof(T)) % index_t(sizeof(chunk)) == 0;
  }
  /// f(i, c) for rows i >= from of the slice and the first `count` columns, along the lines of X.
  template <class Block, class T, class F>
  HOFT_HOST_DEVICE void each_beyond(Block const& block, strided_matrix<T> X, int from, int count, F const& f) const {
    if (from == height) return;
    if (X.by_columns) block.each_line(count, height - from, [&](int c, int i) { f(from + i, c); });
    else
      block.each(index_t(height - from) * count, [&](index_t e) {
        auto const [i, c] = divide(e, count);
        f(from + int(i), int(c));
      });
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
