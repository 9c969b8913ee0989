// hoft/cuda/accumulate.hpp: compact WY forms of many matrices in one launch, a cluster for each.
#pragma once
#include <hoft/cuda/collectives.hpp>
#include <hoft/cuda/slice.hpp>

namespace hoft::cuda {

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

  struct shared {
    T *partial, *gram, *slice;  ///< [threads, tile_elements], two of [block_size, block_size], [rows, r]
    real *mu, *squares, *scaled_squares, *largest, *length;
    HOFT_HOST_DEVICE shared(shared_carver& memory, index_t r, index_t block_size, index_t kept_rows)
        : partial(memory.template array<T>(threads * tile_elements)),
          gram(memory.template array<T>(2 * block_size * block_size)),
          slice(memory.template array<T>(kept_rows * r)),
          mu(memory.template array<real>(r)),
          squares(memory.template array<real>(r)),
          scaled_squares(memory.template array<real>(r)),
          largest(memory.template array<real>(r)),
          length(memory.template array<real>(r)) {}
  };
  static index_t bytes_for(index_t r, index_t block_size, index_t kept_rows) {
    shared_carver counter;
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
    HOFT_HOST_DEVICE T element(index_t i, index_t j) const {
      return k.keeps_slice ? memory.slice[j * k.rows + i] : original(i, j);
    }
  };

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    for (index_t at = cluster.x; at < count; at += cluster.clusters) {
      auto const members = [&](auto const& f) {  // f(block, its share, whether it writes what is common)
        cluster.members([&](auto const& block, index_t member) {
          shared_carver carver(block.memory);
          shared const memory(carver, r, block_size, keeps_slice ? rows : 0);
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
          matrix_view<T const> const U =
              keeps_slice ? matrix_view<T const>(s.memory.slice, s.height, r, rows) : matrix_view<T const>(s.vectors());
          block_project<1>(
              block, s.memory.partial, U.columns(first, k), k,
              [&](index_t, index_t i, index_t j) { return T(U(i, first + j)); },
              [&](index_t, index_t i, index_t j, T value) { s.memory.gram[buffer + j * block_size + i] = value; },
              [](index_t i, index_t j) { return i <= j; });
        });
        cluster.barrier();
        members([&](auto const& block, share const& s, bool writes) {
          if (writes) form(cluster, block, s, first, k, buffer);
        });
      }
    }
    cluster.barrier();  // nobody leaves while others read its memory
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

  /// combine(k) from the partial results f(k, s) of slices s of rows, for every column k.
  template <class Block, class F, class Combine>
  HOFT_HOST_DEVICE void each_column(Block const& block, F const& f, Combine const& combine) const {
    for (index_t first = 0; first < r; first += threads) {
      index_t const columns = first + threads < r ? threads : r - first, slices = threads / columns;
      block.each(columns * slices, [&](index_t t) {
        auto const [k, s] = divide(t, slices);
        f(first + k, s, slices, t);
      });
      block.each(columns, [&](index_t k) { combine(first + k, k * slices, slices); });
    }
  }

  /// Σ |U(i, k) / μ_k|² over the share, for every column.
  template <class Block>
  HOFT_HOST_DEVICE void sum_squares(Block const& block, share const& share_of, real* sums) const {
    real* const partial = reinterpret_cast<real*>(share_of.memory.partial);
    real const* const mu = share_of.memory.mu;
    each_column(
        block,
        [&](index_t k, index_t s, index_t slices, index_t at) {
          real running(0);
          for (index_t i = s; i < share_of.height; i += slices) {
            T const u = share_of.element(i, k);
            running += squared(mu[k] == real(1) ? u : over_real(u, mu[k]));
          }
          partial[at] = running;
        },
        [&](index_t k, index_t at, index_t slices) {
          real running(0);
          for (index_t s = 0; s < slices; ++s) running += partial[at + s];
          sums[k] = running;
        });
  }

  /// Û, in shared memory too, and the scales. Columns whose squares leave the range are measured once more, divided by
  /// a power of two; the others are measured again as they are, so that all blocks do the same.
  template <class Cluster, class Members>
  HOFT_HOST_DEVICE void normalise(Cluster const& cluster, Members const& members) const {
    members([&](auto const& block, share const& s, bool) {
      if (keeps_slice)
        block.each(s.height * r, [&](index_t e) {
          bool const by_columns = matrix_view<TU, LU>::is_col_major;
          auto const [line, at] = divide(e, by_columns ? s.height : r);
          index_t const i = by_columns ? at : line, k = by_columns ? line : at;
          s.memory.slice[k * rows + i] = s.original(i, k);
        });
      block.each(r, [&](index_t k) { s.memory.mu[k] = real(1); });
      sum_squares(block, s, s.memory.squares);
      real* const partial = reinterpret_cast<real*>(s.memory.partial);
      each_column(
          block,
          [&](index_t k, index_t l, index_t slices, index_t at) {
            real running(0);
            for (index_t i = l; i < s.height; i += slices) running = larger(running, magnitude(s.element(i, k)));
            partial[at] = running;
          },
          [&](index_t k, index_t at, index_t slices) {
            real running(0);
            for (index_t l = 0; l < slices; ++l) running = larger(running, partial[at + l]);
            s.memory.largest[k] = running;
          });
    });
    cluster.barrier();
    members([&](auto const& block, share const& s, bool) {
      block.each(r, [&](index_t k) {
        real total(0), largest(0);
        for (index_t member = 0; member < cluster.size; ++member) {
          total += cluster.of_member(member, block, s.memory.squares)[k];
          largest = larger(largest, cluster.of_member(member, block, s.memory.largest)[k]);
        }
        s.memory.mu[k] = is_safe_sum(total) ? real(1) : power_of_two_below(largest);
      });
      sum_squares(block, s, s.memory.scaled_squares);
    });
    cluster.barrier();
    members([&](auto const& block, share const& s, bool writes) {
      real *const mu = s.memory.mu, *const length = s.memory.length;
      matrix_view<real> const scales(s.p.scales, 2, r, ld_scales);
      block.each(r, [&](index_t k) {
        real total(0);
        for (index_t member = 0; member < cluster.size; ++member)
          total += cluster.of_member(member, block, s.memory.scaled_squares)[k];
        length[k] = mu[k] == real(0) ? real(1) : square_root(total);
        if (writes) scales(0, k) = mu[k], scales(1, k) = length[k];
      });
      block.each(s.height * r, [&](index_t e) {
        auto const [k, i] = divide(e, s.height);
        T const u = s.element(i, k);
        T const unit = over_real(mu[k] == real(0) || mu[k] == real(1) ? u : over_real(u, mu[k]), length[k]);
        s.vectors()(i, k) = unit;
        if (keeps_slice) s.memory.slice[k * rows + i] = unit;
      });
    });
  }
};

}  // namespace hoft::cuda
