// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/kernel/accumulate.hpp: compact WY forms of many matrices in one launch, a cluster for each.
#pragma once
#include <hoft/cuda/block/collectives.hpp>
#include <hoft/cuda/block/slice.hpp>
#include <hoft/view/vector_view.hpp>

#include <cmath>

namespace HOFT_CUDA_NAMESPACE {

/// accumulate, exact, for matrices of one shape and one set of leading dimensions. What differs between them travels as
/// an argument of the kernel: no memory of the host is read later. The blocks of a cluster share the rows; each keeps
/// its slice of U in shared memory, if it fits there, and all add up each other's sums, in order.
template <class TU, class LU, class T, int Most>
struct accumulate_kernel {
  using real = real_t<T>;
  struct problem {
    TU* U;
    T *vectors, *factor, *gram, *tau;
    real* scales;
  };
  index_t m, r, block_size;
  index_t ld_U, ld_vectors, ld_factor, ld_gram, ld_scales;
  index_t count;
  index_t rows;      ///< of a slice
  bool keeps_slice;  ///< in shared memory
  problem problems[Most];

  /// Elements behind a column of the slice: quads of two neighbours lie in other banks.
  static constexpr index_t slice_padding = 16;
  HOFT_HOST_DEVICE index_t slice_stride() const { return rows + slice_padding; }

  struct shared {
    T *partial, *gram, *slice;  ///< [threads, tile_elements], two of [block_size, block_size], [slice_stride(), r]
    real *mu, *squares, *scaled_squares, *largest, *length, *inverse;  ///< [r] each
    HOFT_HOST_DEVICE shared(shared_arena& memory, index_t r, index_t block_size, index_t kept_rows)
        : partial(memory.template array<T>(threads * tile_elements)),
          gram(memory.template array<T>(2 * block_size * block_size)),
          slice(memory.template array<T>((kept_rows > 0 ? kept_rows + slice_padding : 0) * r)),
          mu(memory.template array<real>(r)),
          squares(memory.template array<real>(r)),
          scaled_squares(memory.template array<real>(r)),
          largest(memory.template array<real>(r)),
          length(memory.template array<real>(r)),
          inverse(memory.template array<real>(r)) {}
  };
  static index_t bytes_for(index_t r, index_t block_size, index_t kept_rows) {
    shared_arena counter;
    shared(counter, r, block_size, kept_rows);
    return counter.size();
  }
  index_t shared_bytes() const { return bytes_for(r, block_size, keeps_slice ? rows : 0); }

  /// One block's share of one problem.
  struct share {
    accumulate_kernel const& k;
    problem const& p;
    shared const& memory;
    index_t first, height;

    HOFT_HOST_DEVICE T original(index_t i, index_t j) const {
      return static_cast<T>(matrix_view<TU, LU>(p.U, k.m, k.r, k.ld_U)(first + i, j));
    }
    HOFT_HOST_DEVICE matrix_view<T> vectors() const {  // rows of this share
      return {p.vectors + first, height, k.r, k.ld_vectors};
    }
  };

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    for (index_t at = cluster.x; at < count; at += cluster.clusters) {
      auto const members = [&](auto const& f) {  // f(block, its share, whether it writes what is common)
        cluster.members([&](auto const& block, index_t member) {
          shared_arena arena(block.memory);
          shared const memory(arena, r, block_size, keeps_slice ? rows : 0);
          index_t const first = member * rows < m ? member * rows : m;
          f(block, share{*this, problems[at], memory, first, m - first < rows ? m - first : rows}, member == 0);
        });
      };
      normalise(cluster, members);
      index_t step = 0;
      for (index_t first = 0; first < r; first += block_size, ++step) {
        index_t const k = first + block_size < r ? block_size : r - first;
        index_t const buffer = step % 2 * block_size * block_size;  // the last one may still be read
        members([&](auto const& block, share const& s, bool) {
          T* const gram = s.memory.gram + buffer;
          if constexpr (std::same_as<T, float>)
            if (keeps_slice) return gram_by_warps(block, s, first, k, gram);
          matrix_view<T const> const U = keeps_slice ? matrix_view<T const>(s.memory.slice, s.height, r, slice_stride())
                                                     : matrix_view<T const>(s.vectors());
          block_project<1>(
              block, s.memory.partial, U.columns(first, k), k,
              [&](index_t, index_t i, index_t j) { return T(U(i, first + j)); },
              [&](index_t, index_t i, index_t j, T value) { gram[j * block_size + i] = value; },
              [](index_t i, index_t j) { return i <= j; });
        });
        cluster.barrier();
        members([&](auto const& block, share const& s, bool writes) {
          if (writes) form(cluster, block, s, first, k, buffer);
        });
      }
    }
    cluster.barrier();  // no block leaves while others read its memory
  }

 private:
  /// The Gram triangle, tau and the factor of reflectors [first, first + k) from all blocks' sums.
  template <class Cluster, class Block>
  HOFT_HOST_DEVICE void form(Cluster const& cluster, Block const& block, share const& s, index_t first, index_t k,
                             index_t buffer) const {
    matrix_view<T> const gram = matrix_view<T>(s.p.gram, block_size, r, ld_gram).columns(first, k);
    matrix_view<T> const factor = matrix_view<T>(s.p.factor, block_size, r, ld_factor).columns(first, k);
    vector_view<T> const tau(s.p.tau + first, k);
    block.each(block_size * k, [&](index_t e) {
      auto const [j, i] = divide(e, block_size);
      T total(0);
      if (i <= j)
        for (index_t member = 0; member < cluster.size; ++member)
          total = sum(total, cluster.of_member(member, block, s.memory.gram + buffer)[j * block_size + i]);
      if (i == j) {
        real const square = real_part(total);
        tau[j] = square == real(0) ? T(0) : T(real(2) / square);
      }
      gram(i, j) = i < j ? total : T(0);
      if (i >= k) factor(i, j) = T(0);
    });
    invert_triangle(block, matrix_view<T const>(gram.block(0, 0, k, k)), vector_view<T const>(tau),
                    factor.block(0, 0, k, k));
  }

  /// The upper triangle of Uᴴ U of reflectors [first, first + k) of the slice, by tiles: rows are dealt to warps, whose
  /// sums are added in order. Elements of tiles that have no reflector repeat those of the last one, and go nowhere.
  template <class Block>
  HOFT_HOST_DEVICE void gram_by_warps(Block const& block, share const& s, index_t first, index_t k, float* gram) const {
    int const stride = int(slice_stride()), last = int(k) - 1;
    float const* const from = s.memory.slice + first * stride;
    for (int h = 0; h <= last; h += 16)
      for (int g = 0; g <= h; g += 16) {
        block.each_warp(warps, [&](auto const& warp, int me) {
          typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sums = {};
          if (g == h) add_gram<true>(warp, from, g, h, last, me, sums);
          else add_gram<false>(warp, from, g, h, last, me, sums);
          each_element(warp, sums, [&](int i, int j, float a) { s.memory.partial[me * 256 + j * 16 + i] = a; });
        });
        block.each(256, [&](index_t e) {
          index_t const i = g + e % 16, j = h + e / 16;
          if (i > j || j >= k) return;
          float total = s.memory.partial[e];
          HOFT_UNROLL
          for (int p = 1; p < warps; ++p) total += s.memory.partial[p * 256 + e];
          gram[j * block_size + i] = total;
        });
      }
  }

  /// sums += tile (g, h) of Uᴴ U over the rows of one warp, of columns from `from` to number `last`. Both tiles take
  /// the same rows at the same place, so the order of these is free: a lane takes four neighbours.
  template <bool Diagonal, class Warp>
  HOFT_HOST_DEVICE void add_gram(Warp const& warp, float const* from, int g, int h, int last, int me,
                                 typename Warp::template held<sum_tile>& sums) const {
    using tiles = typename Warp::template held<left_tile>[3];
    int const stride = int(slice_stride());
    auto const read = [&](tiles& tile, int first, int i) {
      warp.each_lane([&](int lane) {
        HOFT_UNROLL
        for (int half = 0; half < 2; ++half) {
          int const row = first + lane / 4 + half * 8, column = row < last ? row : last;
          auto const four = load_as<quad>(from + column * stride + lane % 4 * 4 + i);
          HOFT_UNROLL
          for (int e = 0; e < 2; ++e) {
            split_pair<3> const parts = split<3>(four.of[2 * e], four.of[2 * e + 1]);
            HOFT_UNROLL
            for (int p = 0; p < 3; ++p) tile[p][lane].pair[half + 2 * e] = parts.part[p];
          }
        }
      });
    };
    for (int i = me * 16; i < int(rows); i += warps * 16) {
      tiles left;
      typename Warp::template held<right_tile> right[3];
      read(left, g, i);
      if constexpr (Diagonal) {
        adjoint_of(warp, left, right);
      } else {
        tiles other;
        read(other, h, i);
        adjoint_of(warp, other, right);
      }
      multiply_add(warp, left, right, sums);
    }
  }

  /// f(element), element(i, k) of the share in shared memory or in U.
  template <class F>
  HOFT_HOST_DEVICE void with_elements(share const& s, F const& f) const {
    if (keeps_slice)
      f([slice = s.memory.slice, stride = int(slice_stride())](int i, int k) { return slice[k * stride + i]; });
    else f([&s](int i, int k) { return s.original(i, k); });
  }

  struct extent {
    real square, largest;
  };
  /// Σ |over_mu(U(i, k))|² and the largest |U(i, k)| over those rows of the share that lane `lane` takes.
  template <class Divide>
  HOFT_HOST_DEVICE extent measured(share const& s, int k, int lane, Divide const& over_mu) const {
    if constexpr (std::same_as<T, float>)
      if (keeps_slice) {
        float const* const column = s.memory.slice + k * int(slice_stride());
        using std::fabs, std::fmax;
        float even = 0, odd = 0, largest = 0;
        for (int i = 4 * lane; i < int(rows); i += 4 * lanes) {
          auto const u = load_as<quad>(column + i);
          HOFT_UNROLL
          for (int e = 0; e < 4; ++e) {
            (e % 2 == 0 ? even : odd) += squared(over_mu(u.of[e]));
            largest = fmax(largest, fabs(u.of[e]));  // no NaN, which the squares have
          }
        }
        return {even + odd, largest};
      }
    extent all{};
    with_elements(s, [&](auto const& element) {
      for (int i = lane; i < int(s.height); i += lanes) {
        T const u = element(i, k);
        all.square += squared(over_mu(u)), all.largest = larger(all.largest, magnitude(u));
      }
    });
    return all;
  }
  /// For every column that is wanted Σ |U(i, k) / μ_k|² over the share, μ_k where there is a μ, and the largest
  /// |U(i, k)|: by lanes, then over lanes, in order.
  template <class Block, class Wanted>
  HOFT_HOST_DEVICE void measure(Block const& block, share const& s, real* sums, real* largest, real const* mu,
                                Wanted const& wanted) const {
    constexpr int stride = lanes + 1;  // lines in other banks
    constexpr index_t most = threads * tile_elements / (2 * stride);
    real *const squares = reinterpret_cast<real*>(s.memory.partial), *const magnitudes = squares + most * stride;
    for (index_t first = 0; first < r; first += most) {
      index_t const columns = first + most < r ? most : r - first;
      block.each_line(columns, lanes, [&](int k, int lane) {
        int const column = int(first) + k;
        if (!wanted(column)) return;
        extent const of_lane = mu == nullptr
                                   ? measured(s, column, lane, [](T u) { return u; })
                                   : measured(s, column, lane, [by = mu[column]](T u) { return over_real(u, by); });
        squares[k * stride + lane] = of_lane.square, magnitudes[k * stride + lane] = of_lane.largest;
      });
      block.each(columns, [&](index_t k) {
        if (!wanted(int(first + k))) return;
        real square(0), most_of(0);
        for (int lane = 0; lane < lanes; ++lane)
          square += squares[k * stride + lane], most_of = larger(most_of, magnitudes[k * stride + lane]);
        sums[first + k] = square, largest[first + k] = most_of;
      });
    }
  }

  /// Û, in shared memory too, and the scales. Columns whose squares leave the range are measured once more, divided by
  /// a power of two each, which is 1 for the others.
  template <class Cluster, class Members>
  HOFT_HOST_DEVICE void normalise(Cluster const& cluster, Members const& members) const {
    members([&](auto const& block, share const& s, bool) {
      if (keeps_slice) load_slice(block, s);
      measure(block, s, s.memory.squares, s.memory.largest, nullptr, [](int) { return true; });
    });
    cluster.barrier();
    members([&](auto const& block, share const& s, bool) {
      real* const mu = s.memory.mu;
      block.each(r, [&](index_t k) {
        real total(0), largest(0);
        for (index_t member = 0; member < cluster.size; ++member) {
          total += cluster.of_member(member, block, s.memory.squares)[k];
          largest = larger(largest, cluster.of_member(member, block, s.memory.largest)[k]);
        }
        bool const is_number = total == total;  // NOLINT(misc-redundant-expression): NaN differs from itself
        mu[k] = is_safe_sum(total) ? real(1) : is_number ? power_of_two_below(largest) : total;
      });
      // Others still read `largest`: what is measured again goes to `length`.
      measure(block, s, s.memory.scaled_squares, s.memory.length, mu, [=](int k) { return mu[k] != real(1); });
    });
    cluster.barrier();
    members([&](auto const& block, share const& s, bool writes) {
      real *const mu = s.memory.mu, *const length = s.memory.length, *const inverse = s.memory.inverse;
      matrix_view<real> const scales(s.p.scales, 2, r, ld_scales);
      block.each(r, [&](index_t k) {
        real* const squares = mu[k] == real(1) ? s.memory.squares : s.memory.scaled_squares;
        real total(0);
        for (index_t member = 0; member < cluster.size; ++member) total += cluster.of_member(member, block, squares)[k];
        length[k] = mu[k] == real(0) ? real(1) : square_root(total);
        inverse[k] = real(1) / length[k];
        if (writes) scales(0, k) = mu[k], scales(1, k) = length[k];
      });
      block.each_line(r, lanes, [&](int k, int lane) {
        real const by = mu[k], norm = length[k];
        if (by == real(1))
          divide_column(s, k, lane, [=, one_over = inverse[k]](T u) { return divided(u, norm, one_over); });
        else divide_column(s, k, lane, [=](T u) { return over_real(by == real(0) ? u : over_real(u, by), norm); });
      });
    });
  }
  /// Û(i, k) := unit(U(i, k)), in shared memory too, for those rows of the share that lane `lane` takes.
  template <class Unit>
  HOFT_HOST_DEVICE void divide_column(share const& s, int k, int lane, Unit const& unit) const {
    matrix_view<T> const vectors = s.vectors();
    T* const kept = s.memory.slice + k * int(slice_stride());
    int by_quads = 0;  // rows of which four are stored at a time
    if constexpr (std::same_as<T, float>)
      if (keeps_slice && reinterpret_cast<std::uintptr_t>(vectors.data) % sizeof(quad) == 0 && ld_vectors % 4 == 0) {
        by_quads = int(s.height) / 4 * 4;
        auto* const to = reinterpret_cast<quad*>(vectors.data + k * ld_vectors);
        auto* const in_slice = reinterpret_cast<quad*>(kept);
        for (int q = lane; q < by_quads / 4; q += lanes) {
          auto u = load_as<quad>(in_slice + q);
          HOFT_UNROLL
          for (int e = 0; e < 4; ++e) u.of[e] = unit(u.of[e]);
          store_as(to + q, u);
          store_as(in_slice + q, u);
        }
      }
    with_elements(s, [&](auto const& element) {
      for (int i = by_quads + lane; i < int(s.height); i += lanes) {
        T const u = unit(element(i, k));
        vectors(i, k) = u;
        if (keeps_slice) kept[i] = u;
      }
    });
  }
  /// The slice := the share of U, zero below it.
  template <class Block>
  HOFT_HOST_DEVICE void load_slice(Block const& block, share const& s) const {
    T* const slice = s.memory.slice;
    int const stride = int(slice_stride()), height = int(s.height);
    if (rows > s.height)
      block.each_line(r, rows - s.height, [&](int k, int i) { slice[k * stride + height + i] = T(0); });
    if constexpr (matrix_view<TU, LU>::is_col_major) {
      int fetched = 0;
      if constexpr (std::same_as<std::remove_cv_t<TU>, T>) {
        constexpr int several = sizeof(chunk) / sizeof(T);
        T const* const from = s.p.U + s.first;
        if (reinterpret_cast<std::uintptr_t>(s.p.U) % sizeof(chunk) == 0 && ld_U % several == 0)
          fetched = height / several * several;
        block.fetch(r, fetched / several, [&](int k) { return chunk_copy{slice + k * stride, from + k * ld_U}; });
      }
      if (height > fetched)
        block.each_line(r, height - fetched,
                        [&](int k, int i) { slice[k * stride + fetched + i] = s.original(fetched + i, k); });
      block.fetched();
    } else {
      block.each_line(height, r, [&](int i, int k) { slice[k * stride + i] = s.original(i, k); });
    }
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
