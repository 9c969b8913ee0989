// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/block/split.hpp: matrices in shared memory whose elements are sums of bfloat16 parts, their products by
// tiles of warps (warp.hpp), and where the sums of tiles are kept.
#pragma once
#include <hoft/cuda/block/block.hpp>
#include <hoft/view/matrix_view.hpp>

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

/// Parts of a float that is multiplied by matrices of T: three, which are all of it, or two beside storage in 16 bits,
/// whose own rounding is 2⁴ times what they leave out of a product, or more.
template <class T>
inline constexpr int parts_beside = sizeof(T) == 2 ? 2 : 3;

/// What a multiple of 16 holds n.
HOFT_HOST_DEVICE constexpr index_t whole_tiles(index_t n) { return (n + 15) / 16 * 16; }

/// A matrix in shared memory whose elements are sums of bfloat16 parts: lines of whole tiles, with padding behind, so
/// that eight lines lie in different banks.
template <int Parts>
struct split_matrix {
  static constexpr int padding = 8;
  bfloat16_bits* data = nullptr;
  int lines = 0, length = 0;

  split_matrix() = default;
  HOFT_HOST_DEVICE split_matrix(shared_arena& memory, index_t lines_, index_t length_)
      : lines(int(whole_tiles(lines_))), length(int(whole_tiles(length_))) {
    data = memory.template array<bfloat16_bits>(length > 0 ? Parts * index_t(lines) * stride() : 0);
  }
  HOFT_HOST_DEVICE int stride() const { return length + padding; }
  HOFT_HOST_DEVICE bfloat16_bits* at(int part, int l, int i) const { return data + (part * lines + l) * stride() + i; }
  /// Elements i and i + 1 of line l := a and b, i even.
  HOFT_HOST_DEVICE void set(int l, int i, float a, float b) const {
    split_pair<Parts> const s = split<Parts>(a, b);
    HOFT_UNROLL
    for (int p = 0; p < Parts; ++p) store_as(at(p, l, i), s.part[p]);
  }
  /// to := the tile that begins at element i of line l.
  template <stored Is, class Warp, class Held>
  HOFT_HOST_DEVICE void load(Warp const& warp, Held (&to)[Parts], int l, int i) const {
    tiles<typename Held::tile, Is>(warp, l, i).load(warp, to, 0);
  }
  /// Tiles of which the first begins there, as tiles_at.
  template <class Tile, stored Is, class Warp>
  struct tiles_of_parts {
    tiles_at<Tile, Is, Warp> part[Parts];
    template <int Further = 0>
    HOFT_HOST_DEVICE void load(Warp const& warp, typename Warp::template held<Tile> (&to)[Parts], int offset) const {
      HOFT_UNROLL
      for (int p = 0; p < Parts; ++p) part[p].template load<Further>(warp, to[p], offset);
    }
  };
  template <class Tile, stored Is, class Warp>
  HOFT_HOST_DEVICE tiles_of_parts<Tile, Is, Warp> tiles(Warp const& warp, int l, int i) const {
    tiles_of_parts<Tile, Is, Warp> all;
    HOFT_UNROLL
    for (int p = 0; p < Parts; ++p) all.part[p] = tiles_at<Tile, Is, Warp>(warp, at(p, l, i), stride());
    return all;
  }
};

/// a or b, chosen where they are in registers: references to either would put both in memory.
template <int Parts>
HOFT_HOST_DEVICE split_matrix<Parts> either(bool first, split_matrix<Parts> a, split_matrix<Parts> b) {
  b.data = first ? a.data : b.data;
  b.lines = first ? a.lines : b.lines;
  b.length = first ? a.length : b.length;
  return b;
}
/// to := f(l, i), lines l and elements i of a small matrix, with zeros around it.
template <class Block, int Parts, class F>
HOFT_HOST_DEVICE void set_split(Block const& block, split_matrix<Parts> const& to, int lines, int length, F const& f) {
  if (to.length == 0) return;
  block.each_line(to.lines, to.length / 2, [&](int l, int half) {
    int const i = 2 * half;
    to.set(l, i, l < lines && i < length ? f(l, i) : 0.0f, l < lines && i + 1 < length ? f(l, i + 1) : 0.0f);
  });
}

/// to [16, k] := columns [j, j + 16) of M [k, n], a line for each, with zeros around them: there behind the next
/// barrier.
template <class Block, int Parts>
HOFT_HOST_DEVICE void start_set_columns(Block const& block, split_matrix<Parts> const& to,
                                        strided_matrix<float const> const& M, index_t j) {
  block.start_each_warp(to.length / 16, [&](auto const& warp, int g) {
    int const count = int(M.cols - j < 16 ? M.cols - j : 16), rows = int(M.rows);
    auto const element = [&](int c, int k) { return c < count && k < rows ? *M.at(k, j + c) : 0.0f; };
    warp.each_lane([&](int lane) {
      HOFT_UNROLL
      for (int e = 0; e < 4; ++e) {
        place const in = place_in(left_tile{}, lane, e);
        int const k = g * 16 + in.column;
        to.set(in.row, k, element(in.row, k), element(in.row, k + 1));
      }
    });
  });
}

/// f(row, column, a, b) for every pair of elements of a tile: a at (row, column), b behind it in its row.
template <class Warp, class Sums, class F>
HOFT_HOST_DEVICE void each_pair(Warp const& warp, Sums& sums, F const& f) {
  warp.each_lane([&](int lane) {
    HOFT_UNROLL
    for (int e = 0; e < 4; ++e) {
      place const in = place_in(left_tile{}, lane, e);
      f(in.row, in.column, sums[lane].element[2 * e], sums[lane].element[2 * e + 1]);
    }
  });
}

// Small matrices of a block, each of whose tiles is made by one warp: [16, k] in lines of 16 columns, or [k, l].

/// sums(c, k) += Σ left(c, l) M(l, k) for k of tile g, M(l, k) being element k of line l, or, by columns, l of line k.
template <stored Is, class Warp, int Parts>
HOFT_HOST_DEVICE void add_product(Warp const& warp, split_matrix<Parts> const& left, split_matrix<Parts> const& M,
                                  int g, typename Warp::template held<sum_tile>& sums) {
  HOFT_KEEP_ROLLED
  for (int l = 0; l < left.length; l += 16) {
    typename Warp::template held<left_tile> a[Parts];
    typename Warp::template held<right_tile> b[Parts];
    left.template load<stored::by_rows>(warp, a, 0, l);
    if constexpr (Is == stored::by_rows) M.template load<Is>(warp, b, l, g * 16);
    else M.template load<Is>(warp, b, g * 16, l);
    multiply_add(warp, a, b, sums);
  }
}
/// sums += tile (g, h) of leftᴴ right: over the 16 columns.
template <class Warp, int Parts>
HOFT_HOST_DEVICE void add_outer(Warp const& warp, split_matrix<Parts> const& left, int g,
                                split_matrix<Parts> const& right, int h, typename Warp::template held<sum_tile>& sums) {
  typename Warp::template held<left_tile> a[Parts];
  typename Warp::template held<right_tile> b[Parts];
  left.template load<stored::by_columns>(warp, a, 0, g * 16);
  right.template load<stored::by_rows>(warp, b, 0, h * 16);
  multiply_add(warp, a, b, sums);
}
/// Tile g of `to` := f(sum) for every element of a sum.
template <class Warp, int Parts, class F>
HOFT_HOST_DEVICE void set_tile(Warp const& warp, typename Warp::template held<sum_tile> const& sums, int g,
                               split_matrix<Parts> const& to, F const& f) {
  each_pair(warp, sums, [&](int row, int column, float a, float b) { to.set(row, g * 16 + column, f(a), f(b)); });
}
/// f(row, column, its element of the sum) for every element of a tile.
template <class Warp, class F>
HOFT_HOST_DEVICE void each_element(Warp const& warp, typename Warp::template held<sum_tile> const& sums, F const& f) {
  each_pair(warp, sums, [&](int row, int column, float a, float b) { f(row, column, a), f(row, column + 1, b); });
}

/// Half of what a lane holds of a sum.
struct alignas(16) quad {
  float of[4];
};
/// Sums in shared memory, 16 x 16 of them a tile, as lanes hold them: neighbouring lanes beside each other.
struct sum_tiles {
  static constexpr int size = 2 * lanes;  ///< quads of one tile
  quad* data = nullptr;

  sum_tiles() = default;
  HOFT_HOST_DEVICE constexpr explicit sum_tiles(quad* at) : data(at) {}
  HOFT_HOST_DEVICE sum_tiles(shared_arena& memory, index_t tiles) : data(memory.array<quad>(tiles * size)) {}
  /// Those behind the first `tile`.
  HOFT_HOST_DEVICE sum_tiles from(int tile) const { return sum_tiles(data + tile * size); }
  template <class Warp>
  HOFT_HOST_DEVICE void load(Warp const& warp, typename Warp::template held<sum_tile>& to, int tile) const {
    each_quad(
        warp, tile,
        [&](quad const& q, float* element) {
          HOFT_UNROLL
          for (int e = 0; e < 4; ++e) element[e] = q.of[e];
        },
        to);
  }
  /// to += the tile.
  template <class Warp>
  HOFT_HOST_DEVICE void add(Warp const& warp, typename Warp::template held<sum_tile>& to, int tile) const {
    each_quad(
        warp, tile,
        [&](quad const& q, float* element) {
          HOFT_UNROLL
          for (int e = 0; e < 4; ++e) element[e] += q.of[e];
        },
        to);
  }
  template <class Warp>
  HOFT_HOST_DEVICE void store(Warp const& warp, typename Warp::template held<sum_tile> const& sums, int tile) const {
    warp.each_lane([&](int lane) {
      HOFT_UNROLL
      for (int half = 0; half < 2; ++half) {
        quad q;
        HOFT_UNROLL
        for (int e = 0; e < 4; ++e) q.of[e] = sums[lane].element[4 * half + e];
        data[(2 * tile + half) * lanes + lane] = q;
      }
    });
  }

 private:
  template <class Warp, class F>
  HOFT_HOST_DEVICE void each_quad(Warp const& warp, int tile, F const& f,
                                  typename Warp::template held<sum_tile>& to) const {
    warp.each_lane([&](int lane) {
      HOFT_UNROLL
      for (int half = 0; half < 2; ++half) {
        quad const q = data[(2 * tile + half) * lanes + lane];
        f(q, to[lane].element + 4 * half);
      }
    });
  }
};
/// A tile summed over the members of a cluster, in order.
template <class Warp, class Cluster, class Block>
HOFT_HOST_DEVICE typename Warp::template held<sum_tile> total_of_members(Warp const& warp, Cluster const& cluster,
                                                                         Block const& block, sum_tiles mine, int tile) {
  typename Warp::template held<sum_tile> sums = {};
  for (int member = 0; member < int(cluster.size); ++member)
    sum_tiles(cluster.of_member(member, block, mine.data)).add(warp, sums, tile);
  return sums;
}

}  // namespace HOFT_CUDA_NAMESPACE
