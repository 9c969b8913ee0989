// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/block/slice.hpp: what a block does with its slice of the features when a cluster shares a matrix by
// features: 16 columns at a time stay in shared memory, beside the slice's reflectors, which are read, and split into
// parts, once for all columns. Products are those of tiles by warps (split.hpp). A warp takes strips of 32 rows.
#pragma once
#include <hoft/cuda/block/split.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// How blocks share a matrix [m, n]: `slices` clusters of `size` blocks stand side by side along the features and take
/// `rows` of them each block; `runs` rows of clusters share the columns, 16 at a time in turn.
struct slice_shape {
  index_t size = 0;  ///< 0: no shape fits
  index_t threads = cuda::threads;
  index_t rows = 0;     ///< a multiple of feature_slice::row_step
  index_t buffers = 1;  ///< of columns that are fetched, 1 or 2
  index_t slices = 1, runs = 0;
  HOFT_HOST_DEVICE constexpr index_t clusters() const { return slices * runs; }
  /// Turns of a run of clusters for a matrix of n columns.
  HOFT_HOST_DEVICE constexpr int turns(index_t run, index_t n) const {
    index_t const tasks = (n + 15) / 16;
    return tasks > run ? int((tasks - run + runs - 1) / runs) : 0;
  }
};

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
/// What is projected: a tile of columns on a slice of reflectors, behind diag(s) if s has data.
template <class T>
struct projection_of {
  split_matrix<parts_beside<T>> u;
  T const* tile;
  float const* s = nullptr;
};
/// The slice of one block: rows [first, first + height) of m, in shared memory `rows` of them, the rest zero.
/// Reflectors are padded likewise to whole tiles.
struct feature_slice {
  static constexpr int columns = 16;
  static constexpr int row_step = 32;  ///< `rows` is a multiple
  static constexpr int padding = 8;    ///< elements behind a line: eight lines lie in different banks

  index_t first;
  int height, rows, rank;

  HOFT_HOST_DEVICE feature_slice(index_t m, index_t rows_, index_t rank_, index_t member)
      : first(member * rows_ < m ? member * rows_ : m),
        height(int(m - first < rows_ ? m - first : rows_)),
        rows(int(rows_)),
        rank(int(rank_)) {}

  HOFT_HOST_DEVICE int stride() const { return rows + padding; }
  HOFT_HOST_DEVICE int groups() const { return (rank + 15) / 16; }
  HOFT_HOST_DEVICE int strips() const { return rows / row_step; }
  /// Elements of shared memory of a tile [rows, 16], by columns.
  HOFT_HOST_DEVICE int tile_size() const { return columns * stride(); }
  /// Chunks of each column of the slice of X that are copied whole; rows beyond them go one by one.
  template <class T>
  HOFT_HOST_DEVICE int chunks_of(strided_matrix<T> const& X) const {
    bool const whole = X.by_columns && reinterpret_cast<std::uintptr_t>(X.data) % sizeof(chunk) == 0 &&
                       X.ld * index_t(sizeof(T)) % index_t(sizeof(chunk)) == 0;
    return whole ? height / several<T> : 0;
  }

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
    block.each(rows, [&](int i) { s[i] = i < height ? v[first + i] : 0.0f; });
  }

  /// tile := columns [j, j + 16) of X, zero beyond its edges; chunks: of X. It is there when block.fetched() has
  /// returned.
  template <class Block, class T>
  HOFT_HOST_DEVICE void fetch_tile(Block const& block, strided_matrix<T const> const& X, int chunks, index_t j,
                                   T* tile) const {
    int const count = columns_from(X, j);
    if (height + count < rows + columns)  // neither is larger
      block.each_line(columns, rows, [&](int c, int i) {
        if (i >= height || c >= count) tile[c * stride() + i] = static_cast<T>(0.0f);
      });
    block.fetch(count, chunks, [&](int c) { return chunk_copy{tile + c * stride(), X.data + first + (j + c) * X.ld}; });
    each_beyond(block, X, chunks, count, [&](int i, int c) { tile[c * stride() + i] = *X.at(first + i, j + c); });
  }
  /// Columns [j, j + 16) of Y := tile, which nobody writes to before block.stored() or block.fetched().
  template <class Block, class T>
  HOFT_HOST_DEVICE void store_tile(Block const& block, T const* tile, strided_matrix<T> const& Y, int chunks,
                                   index_t j) const {
    int const count = columns_from(Y, j);
    block.start_copy(count, chunks, [&](int c) {
      return chunk_copy{Y.data + first + (j + c) * Y.ld, tile + c * stride()};
    });
    each_beyond(block, Y, chunks, count, [&](int i, int c) { *Y.at(first + i, j + c) = tile[c * stride() + i]; });
  }

  /// A projection on whole tiles of r reflectors, a multiple of 16, is dealt to a warp for each 16 of them and each of
  /// 2^this sets of strips.
  HOFT_HOST_DEVICE static int set_bits(int r, int of_block) {
    int bits = 0;
    while (r > 0 && (r / 16 << (bits + 1)) <= of_block / lanes) ++bits;
    return bits;
  }
  /// Tiles of scratch that it takes.
  HOFT_HOST_DEVICE static int projection_scratch(int r, int of_block) {
    int const bits = set_bits(r, of_block);
    return bits > 1 ? r / 16 << (bits - 1) : 0;
  }
  /// w, a tile of [16, r] for each 16 reflectors of the terms in turn, := Σ_i U(i, k) s(i) X(i, c) over the slice. The
  /// sums of sets of strips are added in order. w is there behind the next barrier.
  template <class Block, class T, class... More>
  HOFT_HOST_DEVICE void project(Block const& block, int bits, sum_tiles scratch, sum_tiles w,
                                projection_of<T> const& term, More const&... more) const {
    int const groups = (term.u.lines + ... + more.u.lines) / 16, half = 1 << bits >> 1;
    if (groups == 0) return;
    auto const sums = [&](auto const& warp, int group, int set) {
      auto [chosen, g] = choose(group, term, more...);
      return projection(warp, chosen, g, set, 1 << bits);
    };
    if (bits == 0) return block.each_warp(groups, [&](auto const& warp, int g) { w.store(warp, sums(warp, g, 0), g); });
    // The second half of the sets leaves its sums to the first.
    sum_tiles const slots = half > 1 ? scratch : w;
    block.each_warp_twice(
        groups << bits,
        [&](auto const& warp, int task) {
          int const g = task >> bits, set = task - (g << bits);
          auto const mine = sums(warp, g, set);
          if (set >= half) slots.store(warp, mine, (set - half) * groups + g);
          return mine;
        },
        [&](auto const& warp, int task, auto mine) {
          int const g = task >> bits, set = task - (g << bits);
          if (set >= half) return;
          slots.add(warp, mine, set * groups + g);
          slots.store(warp, mine, set * groups + g);
        });
    if (half == 1) return;
    int const all = groups * sum_tiles::size;
    block.start_each(all, [&](int e) {
      quad const* from = scratch.data + e;
      quad total = *from;
      for (int p = 1; p < half; ++p) {
        quad const more_of_it = *(from += all);
        HOFT_UNROLL
        for (int n = 0; n < 4; ++n) total.of[n] += more_of_it.of[n];
      }
      w.data[e] = total;
    });
  }

  /// A strip of D [rows, padded rank], in tiles, += the terms: a tile of columns [rows, 16] times [16, rank], each.
  template <class Warp, class T, class... More>
  HOFT_HOST_DEVICE void outer(Warp const& warp, int strip, sum_tiles D, outer_term<T> const& term,
                              More const&... more) const {
    add_terms(warp, D, strip, term.right.length / 16, loaded(warp, term, strip), loaded(warp, more, strip)...);
  }
  /// Tiles of sums [rows, r]: those of a strip for each 16 columns in turn.
  HOFT_HOST_DEVICE index_t sums_of(index_t r) const { return rows / 16 * (whole_tiles(r) / 16); }
  /// f(i, k, D(i, k)) for every element of the slice of D [m, r].
  template <class Block, class F>
  HOFT_HOST_DEVICE void each_sum(Block const& block, sum_tiles D, int r, F const& f) const {
    int const across = (r + 15) / 16;
    block.each_warp(rows / 16 * across, [&](auto const& warp, int tile) {
      typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sums;
      D.load(warp, sums, tile);
      int const pair = tile / abreast, i = (pair / across * abreast + tile % abreast) * 16, k = pair % across * 16;
      each_element(warp, sums, [&](int row, int column, float d) {
        if (i + row < height && k + column < r) f(i + row, k + column, d);
      });
    });
  }

  /// A strip of the tile := diag(s) (tile + A) + B for products A and B of reflectors and their coefficients; s without
  /// data is ones. between: a tile for tile + A, or without data.
  template <class Warp, class T>
  HOFT_HOST_DEVICE void combine(Warp const& warp, int strip, low_rank_product<parts_beside<T>> const& A, float const* s,
                                low_rank_product<parts_beside<T>> const& B, T* tile, T* between) const {
    int const top = strip * row_step;
    typename Warp::template held<sum_tile> sums[abreast];
    read_strip(warp, tile, top, sums);
    add_updates(warp, A, top, sums);
    if (between != nullptr)
      each_pair_of_strip(warp, top, sums, [&](int at, int, float a, float b) { store_pair(between + at, a, b); });
    if (s != nullptr)
      each_pair_of_strip(warp, top, sums, [&](int, int i, float& a, float& b) {
        neighbours<float> const by = load_pair(s + i);
        a *= by.first, b *= by.second;
      });
    add_updates(warp, B, top, sums);
    each_pair_of_strip(warp, top, sums, [&](int at, int, float a, float b) { store_pair(tile + at, a, b); });
    warp.fence_copies();
  }

 private:
  static constexpr int abreast = row_step / 16;  ///< tiles of 16 rows: each part of Z that is read serves them all
  template <class T>
  static constexpr int several = int(sizeof(chunk) / sizeof(T));

  template <class T>
  HOFT_HOST_DEVICE static int columns_from(strided_matrix<T> const& X, index_t j) {
    index_t const left = X.cols - j;
    return left < columns ? int(left) : columns;
  }
  /// Of the terms the one that has group g of all, and which of its groups that is; fields are chosen where they are in
  /// registers.
  template <class T>
  struct chosen_projection {
    projection_of<T> term;
    int g;
  };
  template <class T, class... More>
  HOFT_HOST_DEVICE static chosen_projection<T> choose(int g, projection_of<T> const& term, More const&... more) {
    if constexpr (sizeof...(More) == 0) {
      return {term, g};
    } else {
      int const groups = term.u.lines / 16;
      chosen_projection<T> other = choose(g - groups, more...);
      bool const first = g < groups;
      other.term.u = either(first, term.u, other.term.u);
      other.term.tile = first ? term.tile : other.term.tile;
      other.term.s = first ? term.s : other.term.s;
      other.g = first ? g : other.g;
      return other;
    }
  }
  /// A projection on 16 reflectors of one of several sets of strips.
  template <class Warp, class T>
  HOFT_HOST_DEVICE typename Warp::template held<sum_tile> projection(Warp const& warp, projection_of<T> const& of,
                                                                     int g, int set, int sets) const {
    auto const u = of.u.template tiles<right_tile, stored::by_columns>(warp, g * 16, 0);
    if (of.s == nullptr) {
      stored_tiles_at<T, stored::by_rows, Warp> const x(warp, of.tile, stride());
      return sum_of_strips<parts_of<T>>(warp, u, set, sets,
                                        [&]<int Further>(auto& to, int i) { x.template load<Further>(warp, to, i); });
    }
    return sum_of_strips<parts_beside<T>>(warp, u, set, sets, [&]<int Further>(auto& to, int i) {
      load_converted<T, stored::by_rows>(warp, to, of.tile + i + Further, stride(),
                                         [&](neighbours<float> two, place in) {
                                           neighbours<float> const by = load_pair(of.s + i + Further + in.column);
                                           return neighbours<float>{two.first * by.first, two.second * by.second};
                                         });
    });
  }
  /// read<Further>(x, i) reads a tile of rows i + Further and on in XParts parts.
  template <int XParts, class Warp, class U, class Read>
  HOFT_HOST_DEVICE typename Warp::template held<sum_tile> sum_of_strips(Warp const& warp, U const& u, int set, int sets,
                                                                        Read const& read) const {
    typename Warp::template held<sum_tile> sums = {};
    auto const add_tile = [&]<int Further>(int i) {
      typename Warp::template held<left_tile> x[XParts];
      typename Warp::template held<right_tile> v[sizeof(u.part) / sizeof(u.part[0])];
      read.template operator()<Further>(x, i);
      u.template load<Further>(warp, v, i);
      multiply_add(warp, x, v, sums);
    };
    HOFT_KEEP_ROLLED
    for (int i = set * row_step; i < rows; i += sets * row_step) {
      add_tile.template operator()<0>(i);
      add_tile.template operator()<16>(i);
    }
    return sums;
  }
  /// A term with a strip of its tile in registers.
  template <class Warp, class T>
  struct loaded_term {
    typename Warp::template held<left_tile> left[abreast][parts_of<T>];
    typename split_matrix<parts_beside<T>>::template tiles_of_parts<right_tile, stored::by_rows, Warp> right;
  };
  template <class Warp, class T>
  HOFT_HOST_DEVICE loaded_term<Warp, T> loaded(Warp const& warp, outer_term<T> const& term, int strip) const {
    loaded_term<Warp, T> to;
    stored_tiles_at<T, stored::by_columns, Warp> const left(warp, term.columns, stride());
    left.load(warp, to.left[0], strip * row_step);
    left.template load<16>(warp, to.left[1], strip * row_step);
    to.right = term.right.template tiles<right_tile, stored::by_rows>(warp, 0, 0);
    return to;
  }
  template <class Warp, class... T>
  HOFT_HOST_DEVICE void add_terms(Warp const& warp, sum_tiles D, int strip, int across,
                                  loaded_term<Warp, T> const&... terms) const {
    HOFT_KEEP_ROLLED
    for (int g = 0; g < across; ++g) {
      typename Warp::template held<sum_tile> sums[abreast];
      sum_tiles const at = D.from((strip * across + g) * abreast);
      HOFT_UNROLL
      for (int n = 0; n < abreast; ++n) at.load(warp, sums[n], n);
      (add_term(warp, terms, g, sums), ...);
      HOFT_UNROLL
      for (int n = 0; n < abreast; ++n) at.store(warp, sums[n], n);
    }
  }
  template <class Warp, class T, class Sum>
  HOFT_HOST_DEVICE void add_term(Warp const& warp, loaded_term<Warp, T> const& term, int g,
                                 Sum (&sums)[abreast]) const {
    typename Warp::template held<right_tile> right[parts_beside<T>];
    term.right.load(warp, right, g * 16);
    HOFT_UNROLL
    for (int n = 0; n < abreast; ++n) multiply_add(warp, term.left[n], right, sums[n]);
  }
  /// sums += rows [top, top + row_step) of the product, transposed.
  template <class Warp, int Parts, class Sum>
  HOFT_HOST_DEVICE void add_updates(Warp const& warp, low_rank_product<Parts> const& product, int top,
                                    Sum (&sums)[abreast]) const {
    if (product.u.lines == 0) return;
    auto const z_tiles = product.z.template tiles<left_tile, stored::by_rows>(warp, 0, 0);
    auto const u_tiles = product.u.template tiles<right_tile, stored::by_rows>(warp, 0, 0);
    HOFT_KEEP_ROLLED
    for (int g = 0, at = top; g < product.u.lines; g += 16, at += 16 * product.u.stride()) {
      typename Warp::template held<left_tile> z[Parts];
      typename Warp::template held<right_tile> u[Parts];
      z_tiles.load(warp, z, g);
      u_tiles.load(warp, u, at);
      multiply_add(warp, z, u, sums[0]);
      u_tiles.template load<16>(warp, u, at);
      multiply_add(warp, z, u, sums[1]);
    }
  }
  /// f(at, i, a, b) for each pair of neighbours a and b of a strip: `at` in a tile, of row i.
  template <class Warp, class Sum, class F>
  HOFT_HOST_DEVICE void each_pair_of_strip(Warp const& warp, int top, Sum (&sums)[abreast], F const& f) const {
    warp.each_lane([&](int lane) {
      place const in = place_in(left_tile{}, lane, 0);
      int const i = top + in.column, upper = in.row * stride() + i, lower = upper + 8 * stride();
      HOFT_UNROLL
      for (int n = 0; n < abreast; ++n) HOFT_UNROLL
      for (int e = 0; e < 4; ++e) {
        int const along = n * 16 + e / 2 * 8;
        f((e % 2 == 0 ? upper : lower) + along, i + along, sums[n][lane].element[2 * e],
          sums[n][lane].element[2 * e + 1]);
      }
    });
  }
  /// sums := a strip of a tile.
  template <class Warp, class T, class Sum>
  HOFT_HOST_DEVICE void read_strip(Warp const& warp, T const* tile, int top, Sum (&sums)[abreast]) const {
    if constexpr (sizeof(T) == 2) {
      tiles_at<left_tile, stored::by_rows, Warp> const at(warp, reinterpret_cast<bfloat16_bits const*>(tile), stride());
      typename Warp::template held<left_tile> x[abreast];
      at.load(warp, x[0], top);
      at.template load<16>(warp, x[1], top);
      warp.each_lane([&](int lane) {
        HOFT_UNROLL
        for (int n = 0; n < abreast; ++n) HOFT_UNROLL
        for (int e = 0; e < 4; ++e) {
          neighbours<float> const two = both_of<T>(x[n][lane].pair[e]);
          sums[n][lane].element[2 * e] = two.first, sums[n][lane].element[2 * e + 1] = two.second;
        }
      });
    } else {
      each_pair_of_strip(warp, top, sums, [&](int at, int, float& a, float& b) {
        neighbours<float> const two = load_pair(tile + at);
        a = two.first, b = two.second;
      });
    }
    warp.barrier();  // lanes write where others have read
  }
  /// f(i, c) for the rows of X behind its chunks and its first `count` columns, along the lines of X.
  template <class Block, class T, class F>
  HOFT_HOST_DEVICE void each_beyond(Block const& block, strided_matrix<T> const& X, int chunks, int count,
                                    F const& f) const {
    int const from = chunks * several<T>;
    if (from == height) return;
    if (X.by_columns) block.each_line(count, height - from, [&](int c, int i) { f(from + i, c); });
    else
      block.each((height - from) * count, [&](int e) {
        auto const [i, c] = divide(e, count);
        f(from + int(i), int(c));
      });
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
