// hoft/cuda/slice.hpp: what a block does with its slice of the features when a cluster shares a matrix by features:
// 16 columns at a time stay in shared memory, beside the slice's reflectors, which are read once for all columns.
#pragma once
#include <hoft/core/view.hpp>
#include <hoft/cuda/block.hpp>

namespace hoft::cuda {

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
  index_t size = 0;     ///< 0: no shape fits
  index_t rows = 0;     ///< a multiple of feature_slice::row_step
  index_t buffers = 1;  ///< of columns that are fetched, 1 or 2
  index_t slices = 1, runs = 0;
  HOFT_HOST_DEVICE constexpr index_t clusters() const { return slices * runs; }
};

/// A tile [rows, 16] in shared memory, by columns, and what split_right made of a factor [16, padded rank].
template <class T>
struct outer_term {
  T const* left;
  right_tile const* right;
};
/// A slice of reflectors and what split_left made of their coefficients; nothing if it has no groups.
struct low_rank_product {
  float const* u = nullptr;
  left_tile const* z = nullptr;
  index_t groups = 0;
};

/// The slice of one block: rows [first, first + height) of m, in shared memory `rows` of them, the rest zero.
/// Reflectors are padded likewise to whole groups of 16.
struct feature_slice {
  static constexpr index_t columns = 16;
  static constexpr index_t row_step = 32;  ///< `rows` is a multiple
  static constexpr index_t padding = 8;    ///< elements behind a line: lanes that read along columns meet other banks

  index_t first, height, rows, rank;

  HOFT_HOST_DEVICE feature_slice(index_t m, index_t rows_, index_t rank_, index_t member)
      : first(member * rows_ < m ? member * rows_ : m),
        height(m - first < rows_ ? m - first : rows_),
        rows(rows_),
        rank(rank_) {}

  HOFT_HOST_DEVICE index_t stride() const { return rows + padding; }
  HOFT_HOST_DEVICE index_t groups() const { return (rank + 15) / 16; }
  HOFT_HOST_DEVICE index_t padded_rank() const { return groups() * 16; }
  /// Elements of shared memory of a tile [rows, 16], by columns.
  HOFT_HOST_DEVICE index_t tile_size() const { return columns * stride(); }

  /// u, by columns, := the slice of U.
  template <class Block>
  HOFT_HOST_DEVICE void load_reflectors(Block const& block, matrix_view<float const> U, float* u) const {
    block.each(padded_rank() * rows, [&](index_t e) {
      auto const [k, i] = divide(e, rows);
      u[k * stride() + i] = i < height && k < rank ? U(first + i, k) : 0.0f;
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
    index_t const count = X.cols - j < columns ? X.cols - j : columns;
    if (height < rows || count < columns)
      block.each(columns * rows, [&](index_t e) {
        auto const [c, i] = divide(e, rows);
        if (i >= height || c >= count) tile[c * stride() + i] = static_cast<T>(0.0f);
      });
    constexpr index_t several = index_t(sizeof(chunk) / sizeof(T));
    index_t const whole = in_chunks(X) ? height / several : 0;
    block.fetch(whole * count, [&](index_t e) {
      auto const [c, l] = divide(e, whole);
      return chunk_copy{tile + c * stride() + l * several, X.at(first + l * several, j + c)};
    });
    each_beyond(block, X, whole * several, count,
                [&](index_t i, index_t c) { tile[c * stride() + i] = *X.at(first + i, j + c); });
  }
  /// Columns [j, j + 16) of Y := tile.
  template <class Block, class T>
  HOFT_HOST_DEVICE void store_tile(Block const& block, T const* tile, strided_matrix<T> Y, index_t j) const {
    index_t const count = Y.cols - j < columns ? Y.cols - j : columns;
    constexpr index_t several = index_t(sizeof(chunk) / sizeof(T));
    index_t const whole = in_chunks(Y) ? height / several : 0;
    block.each(whole * count, [&](index_t e) {
      auto const [c, l] = divide(e, whole);
      chunk const x = *reinterpret_cast<chunk const*>(tile + c * stride() + l * several);
      *reinterpret_cast<chunk*>(Y.at(first + l * several, j + c)) = x;
    });
    each_beyond(block, Y, whole * several, count,
                [&](index_t i, index_t c) { *Y.at(first + i, j + c) = tile[c * stride() + i]; });
  }

  /// w(c, k) := Σ_i U(i, k) s(i) X(i, c) over the slice, in memory [16, padded rank]; s without data is ones. The rows
  /// are dealt to warps, whose sums are added in order. partial: warps times as much.
  template <class Block, class T>
  HOFT_HOST_DEVICE void project(Block const& block, float const* u, float const* s, T const* tile, float* partial,
                                float* w) const {
    index_t const r = padded_rank();
    block.each_warp(warps, [&](auto const& warp, index_t me) {
      using warp_type = std::remove_cvref_t<decltype(warp)>;
      for (index_t g = 0; g < groups(); ++g) {
        typename warp_type::template held<sum_tile> sums[2] = {};
        for (index_t i = me * 16; i < rows; i += warps * 16) {
          typename warp_type::template held<left_tile> x[parts_of<T>];
          load<left_tile>(warp, x, [&](int c, int l) { return split(tile + c * stride() + i + l); });
          HOFT_UNROLL
          for (int half = 0; half < 2; ++half) {
            typename warp_type::template held<right_tile> v[parts_of<float>];
            load<right_tile>(warp, v, [&](int l, int k) {
              float const* const at = u + (g * 16 + half * 8 + k) * stride() + i + l;
              return s == nullptr ? split(at) : split<parts_of<float>>(at[0] * s[i + l], at[1] * s[i + l + 1]);
            });
            multiply_add<last_parts<T>>(warp, x, v, sums[half]);
          }
        }
        warp.each_lane([&](int lane) {
          HOFT_UNROLL
          for (int half = 0; half < 2; ++half) HOFT_UNROLL
          for (int e = 0; e < 4; ++e) {
            place const at = place_in(sum_tile{}, lane, e);
            partial[(me * columns + at.row) * r + g * 16 + half * 8 + at.column] = sums[half][lane].element[e];
          }
        });
      }
    });
    block.each(columns * r, [&](index_t e) {
      float total = partial[e];
      for (index_t p = 1; p < warps; ++p) total += partial[p * columns * r + e];
      w[e] = total;
    });
  }

  /// z := f(k, c) of reflectors k and columns c in parts, as tiles for `update`; [groups, 3, 32].
  template <class Block, class F>
  HOFT_HOST_DEVICE void split_left(Block const& block, F const& f, left_tile* z) const {
    block.each(groups() * lanes * 4, [&](index_t task) {
      int const e = int(task % 4), lane = int(task / 4 % lanes);
      index_t const g = task / (4 * lanes);
      place const at = place_in(left_tile{}, lane, e);
      index_t const k = g * 16 + at.column;
      auto const s = split<parts_of<float>>(k < rank ? f(k, at.row) : 0.0f, k + 1 < rank ? f(k + 1, at.row) : 0.0f);
      for (int p = 0; p < parts_of<float>; ++p) z[(g * parts_of<float> + p) * lanes + lane].pair[e] = s.part[p];
    });
  }
  HOFT_HOST_DEVICE index_t left_tiles() const { return groups() * parts_of<float> * lanes; }

  /// The transpose z := f(k, c), [16, padded rank], in parts, as tiles for `outer`; [2 groups, 3, 32].
  template <class Block, class F>
  HOFT_HOST_DEVICE void split_right(Block const& block, F const& f, right_tile* z) const {
    block.each(2 * groups() * lanes * 2, [&](index_t task) {
      int const e = int(task % 2), lane = int(task / 2 % lanes);
      index_t const h = task / (2 * lanes);
      place const at = place_in(right_tile{}, lane, e);
      index_t const k = h * 8 + at.column;
      auto const s = split<parts_of<float>>(k < rank ? f(k, at.row) : 0.0f, k < rank ? f(k, at.row + 1) : 0.0f);
      for (int p = 0; p < parts_of<float>; ++p) z[(h * parts_of<float> + p) * lanes + lane].pair[e] = s.part[p];
    });
  }
  HOFT_HOST_DEVICE index_t right_tiles() const { return 2 * groups() * parts_of<float> * lanes; }

  /// D [rows, padded rank], as tiles, += the terms: a tile [rows, 16] of memory times what split_right made, each.
  template <class Block, class... T>
  HOFT_HOST_DEVICE void outer(Block const& block, sum_tile* D, outer_term<T> const&... terms) const {
    block.each_warp(rows / 16, [&](auto const& warp, index_t strip) {
      add_terms(warp, D + strip * 2 * groups() * lanes, loaded(warp, terms, strip)...);
    });
  }
  HOFT_HOST_DEVICE index_t sum_tiles() const { return rows / 16 * 2 * groups() * lanes; }
  /// f(i, k, D(i, k)) for every element of the slice.
  template <class Block, class F>
  HOFT_HOST_DEVICE void each_sum(Block const& block, sum_tile const* D, F const& f) const {
    block.each(sum_tiles(), [&](index_t task) {
      int const lane = int(task % lanes);
      auto const [strip, h] = divide(task / lanes, 2 * groups());
      for (int e = 0; e < 4; ++e) {
        place const at = place_in(sum_tile{}, lane, e);
        index_t const i = strip * 16 + at.row, k = h * 8 + at.column;
        if (i < height && k < rank) f(i, k, D[task].element[e]);
      }
    });
  }

  /// tile := diag(s) (tile + A) + B for products A and B of reflectors and what split_left made; s without data is
  /// ones. between: a tile for tile + A, or without data. For any rank.
  template <class Block, class T>
  HOFT_HOST_DEVICE void combine(Block const& block, low_rank_product A, float const* s, low_rank_product B, T* tile,
                                T* between) const {
    block.each_warp(rows / (8 * abreast), [&](auto const& warp, index_t strip) {
      index_t const top = strip * 8 * abreast;
      typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> a[abreast] = {}, b[abreast] = {};
      add_product<T>(warp, A, top, a);
      add_product<T>(warp, B, top, b);
      warp.each_lane([&](int lane) {
        HOFT_UNROLL
        for (int n = 0; n < abreast; ++n) HOFT_UNROLL
        for (int e = 0; e < 4; ++e) {
          place const at = place_in(sum_tile{}, lane, e);
          index_t const i = top + n * 8 + at.column;
          T& x = tile[at.row * stride() + i];
          float const q = static_cast<float>(x) + a[n][lane].element[e];
          if (between != nullptr) between[at.row * stride() + i] = static_cast<T>(q);
          x = static_cast<T>((s == nullptr ? q : s[i] * q) + b[n][lane].element[e]);
        }
      });
    });
  }

  /// Which products of parts are taken: of bfloat16 all, of half but one below 2⁻²², of floats but one below 2⁻³⁰.
  template <class T>
  static constexpr int last_parts = sizeof(T) == 2 ? 2 : 3;

 private:
  static constexpr int abreast = 4;  ///< tiles of 8 rows: each part of Z that is read serves them all

  /// A term with the tile of one strip of 16 rows in registers.
  template <class Warp, class T>
  struct loaded_term {
    typename Warp::template held<left_tile> left[parts_of<T>];
    right_tile const* right;
  };
  template <class Warp, class T>
  HOFT_HOST_DEVICE loaded_term<Warp, T> loaded(Warp const& warp, outer_term<T> const& term, index_t strip) const {
    loaded_term<Warp, T> to;
    to.right = term.right;
    load<left_tile>(warp, to.left, [&](int i, int c) {
      T const* const at = term.left + c * stride() + strip * 16 + i;
      return split<parts_of<T>>(static_cast<float>(at[0]), static_cast<float>(at[stride()]));
    });
    return to;
  }
  template <class Warp, class... T>
  HOFT_HOST_DEVICE void add_terms(Warp const& warp, sum_tile* D, loaded_term<Warp, T> const&... terms) const {
    for (index_t h = 0; h < 2 * groups(); ++h) {
      typename Warp::template held<sum_tile> sums;
      warp.each_lane([&](int lane) { sums[lane] = D[h * lanes + lane]; });
      (add_term(warp, terms, h, sums), ...);
      warp.each_lane([&](int lane) { D[h * lanes + lane] = sums[lane]; });
    }
  }
  template <class Warp, class T, class Sum>
  HOFT_HOST_DEVICE void add_term(Warp const& warp, loaded_term<Warp, T> const& term, index_t h, Sum& sums) const {
    typename Warp::template held<right_tile> right[parts_of<float>];
    warp.each_lane([&](int lane) {
      HOFT_UNROLL
      for (int p = 0; p < parts_of<float>; ++p) right[p][lane] = term.right[(h * parts_of<float> + p) * lanes + lane];
    });
    multiply_add<last_parts<T>>(warp, term.left, right, sums);
  }
  /// sums += rows [top, top + 8 abreast) of the product.
  template <class T, class Warp, class Sum>
  HOFT_HOST_DEVICE void add_product(Warp const& warp, low_rank_product const& product, index_t top,
                                    Sum (&sums)[abreast]) const {
    for (index_t g = 0; g < product.groups; ++g) {
      typename Warp::template held<left_tile> left[parts_of<float>];
      warp.each_lane([&](int lane) {
        HOFT_UNROLL
        for (int p = 0; p < parts_of<float>; ++p) left[p][lane] = product.z[(g * parts_of<float> + p) * lanes + lane];
      });
      HOFT_UNROLL
      for (int n = 0; n < abreast; ++n) {
        typename Warp::template held<right_tile> v[parts_of<float>];
        load<right_tile>(warp, v, [&](int k, int l) {
          float const* const at = product.u + (g * 16 + k) * stride() + top + n * 8 + l;
          return split<parts_of<float>>(at[0], at[stride()]);
        });
        multiply_add<last_parts<T>>(warp, left, v, sums[n]);
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
  HOFT_HOST_DEVICE void each_beyond(Block const& block, strided_matrix<T> X, index_t from, index_t count,
                                    F const& f) const {
    index_t const left = height - from;
    block.each(left * count, [&](index_t e) {
      auto const [line, at] = divide(e, X.by_columns ? left : count);
      if (X.by_columns) f(from + at, line);
      else f(from + line, at);
    });
  }
};

}  // namespace hoft::cuda
