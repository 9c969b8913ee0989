// hoft/cuda/accumulate.hpp: compact WY forms of many matrices in one launch, a block for each.
#pragma once
#include <hoft/cuda/collectives.hpp>

namespace hoft::cuda {

/// accumulate, exact, for matrices of one shape and one set of leading dimensions. What differs between them travels as
/// an argument of the kernel: no memory of the host is read later.
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
  problem problems[Most];

  struct shared {
    T* partial;  ///< [threads, tile_elements]
    real *mu, *total;
    HOFT_HOST_DEVICE shared(shared_carver& memory, index_t r)
        : partial(memory.template array<T>(threads * tile_elements)),
          mu(memory.template array<real>(r)),
          total(memory.template array<real>(r)) {}
  };
  static index_t bytes_for(index_t r) {
    shared_carver counter;
    shared(counter, r);
    return counter.size();
  }
  index_t shared_bytes() const { return bytes_for(r); }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    shared_carver carver(block.memory);
    shared const memory(carver, r);
    for (index_t at = block.x; at < count; at += block.blocks) {
      problem const& p = problems[at];
      matrix_view<T> const vectors(p.vectors, m, r, ld_vectors);
      normalise(block, memory, {p.U, m, r, ld_U}, vectors, {p.scales, 2, r, ld_scales});
      for (index_t first = 0; first < r; first += block_size) {
        index_t const k = first + block_size < r ? block_size : r - first;
        matrix_view<T> const gram = matrix_view<T>(p.gram, block_size, r, ld_gram).columns(first, k);
        matrix_view<T> const factor = matrix_view<T>(p.factor, block_size, r, ld_factor).columns(first, k);
        vector_view<T> const tau(p.tau + first, k);
        matrix_view<T const> const U(vectors.columns(first, k));
        block_project<1>(
            block, memory.partial, U, k, [&](index_t, index_t i, index_t j) { return T(U(i, j)); },
            [&](index_t, index_t i, index_t j, T value) {
              if (i <= j) gram(i, j) = value;
            },
            [](index_t i, index_t j) { return i <= j; });
        block.each(block_size * k, [&](index_t e) {
          index_t const i = e % block_size, j = e / block_size;
          if (i == j) {
            real const square = real_part(gram(j, j));
            tau[j] = square == real(0) ? T(0) : T(real(2) / square);
          }
          if (i >= j) gram(i, j) = T(0);
          if (i >= k) factor(i, j) = T(0);
        });
        invert_triangle(block, matrix_view<T const>(gram.block(0, 0, k, k)), vector_view<T const>(tau),
                        factor.block(0, 0, k, k));
      }
    }
  }

 private:
  /// combine(k) from the partial results f(k, s) of slices s of rows, for every column k.
  template <class Block, class F, class Combine>
  HOFT_HOST_DEVICE void each_column(Block const& block, F const& f, Combine const& combine) const {
    for (index_t first = 0; first < r; first += threads) {
      index_t const columns = first + threads < r ? threads : r - first, slices = threads / columns;
      block.each(columns * slices, [&](index_t t) { f(first + t / slices, t % slices, slices, t); });
      block.each(columns, [&](index_t k) { combine(first + k, k * slices, slices); });
    }
  }

  template <class Block>
  HOFT_HOST_DEVICE void normalise(Block const& block, shared const& memory, matrix_view<TU, LU> U,
                                  matrix_view<T> vectors, matrix_view<real> scales) const {
    real* const partial = reinterpret_cast<real*>(memory.partial);
    real *const mu = memory.mu, *const total = memory.total;
    auto const element = [&](index_t i, index_t k) { return static_cast<T>(U(i, k)); };
    auto const is_safe = [&](index_t k) { return is_safe_sum(total[k]); };
    auto const sum_squares = [&](index_t k, index_t s, index_t slices, index_t at) {
      real running(0);
      for (index_t i = s; i < m; i += slices)
        running += squared(mu[k] == real(1) ? element(i, k) : over_real(element(i, k), mu[k]));
      partial[at] = running;
    };
    auto const add_slices = [&](index_t k, index_t at, index_t slices) {
      real running(0);
      for (index_t s = 0; s < slices; ++s) running += partial[at + s];
      total[k] = running;
    };
    block.each(r, [&](index_t k) { mu[k] = real(1); });
    each_column(block, sum_squares, add_slices);
    bool all_safe = true;
    for (index_t k = 0; k < r; ++k) all_safe = all_safe && is_safe(k);
    block.barrier();
    if (!all_safe) {
      each_column(
          block,
          [&](index_t k, index_t s, index_t slices, index_t at) {
            real running(0);
            for (index_t i = s; i < m; i += slices) running = larger(running, magnitude(element(i, k)));
            partial[at] = running;
          },
          [&](index_t k, index_t at, index_t slices) {
            real running(0);
            for (index_t s = 0; s < slices; ++s) running = larger(running, partial[at + s]);
            if (!is_safe(k)) mu[k] = power_of_two_below(running);
          });
      each_column(block, sum_squares, add_slices);
      block.each(r, [&](index_t k) {
        if (mu[k] == real(0)) total[k] = real(1);
      });
    }
    block.each(r, [&](index_t k) {
      total[k] = square_root(total[k]);
      scales(0, k) = mu[k], scales(1, k) = total[k];
    });
    block.each(m * r, [&](index_t e) {
      index_t const i = e % m, k = e / m;
      T const u = element(i, k);
      vectors(i, k) = over_real(mu[k] == real(0) || mu[k] == real(1) ? u : over_real(u, mu[k]), total[k]);
    });
  }
};

}  // namespace hoft::cuda
