// hoft/cuda/cluster_backward.hpp: the gradients of Y = X − U F UᴴX by clusters: X and dY are read once.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/backward.hpp>
#include <hoft/cuda/slice.hpp>

namespace hoft::cuda {

/// As cluster_apply_kernel, for X and G at a time. A block's slice of D stays in its memory over all columns of the
/// cluster. For T of 16 bits or float.
template <class T>
struct cluster_backward_kernel {
  static constexpr index_t columns = feature_slice::columns;
  static constexpr index_t most_reflectors = 64;
  static_assert(columns == small_gradients<float>::columns);

  matrix_view<float const> U;
  small_gradients<float> small;
  strided_matrix<T const> X, G;
  strided_matrix<T> dX;
  float* parts;      ///< of every cluster
  index_t rows = 0;  ///< of a slice, a multiple of 32

  /// What is made of the projections.
  struct made {
    small_gradients<float>::arrays arrays;
    left_tile* dW;
    right_tile *minus_Z_right, *dW_right;
    HOFT_HOST_DEVICE made(shared_carver memory, feature_slice const& slice)
        : arrays(memory, slice.rank),
          dW(memory.template array<left_tile>(slice.left_tiles())),
          minus_Z_right(memory.template array<right_tile>(slice.right_tiles())),
          dW_right(memory.template array<right_tile>(slice.right_tiles())),
          bytes(memory.size()) {}
    index_t bytes;
  };
  struct shared {
    float *u, *w;
    std::byte* room;  ///< for the partial sums of projections, and then for what is made of them
    float* partial;
    made of;
    sum_tile* D;
    T *x, *g;
    HOFT_HOST_DEVICE shared(shared_carver& memory, feature_slice const& slice)
        : u(memory.template array<float>(slice.padded_rank() * slice.stride())),
          w(memory.template array<float>(2 * 2 * columns * slice.padded_rank())),
          room(memory.template array<std::byte>(room_for(slice))),
          partial(reinterpret_cast<float*>(room)),
          of(shared_carver(room), slice),
          D(memory.template array<sum_tile>(slice.sum_tiles())),
          x(memory.template array<T>(slice.tile_size())),
          g(memory.template array<T>(slice.tile_size())) {}
  };
  static HOFT_HOST_DEVICE index_t room_for(feature_slice const& slice) {
    index_t const sums = warps * columns * slice.padded_rank() * index_t(sizeof(float));
    index_t const results = made(shared_carver(), slice).bytes;
    return sums > results ? sums : results;
  }
  static index_t bytes_for(index_t m, index_t r, index_t rows) {
    shared_carver counter;
    shared(counter, {m, rows, r, 0});
    return counter.size();
  }
  index_t shared_bytes() const { return bytes_for(U.rows, U.cols, rows); }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    // f(block, slice, its memory) for every block
    auto const members = [&](auto const& f) {
      cluster.members([&](auto const& block, index_t member) {
        feature_slice const slice(U.rows, rows, U.cols, member);
        shared_carver carver(block.memory);
        f(block, slice, shared(carver, slice));
      });
    };
    index_t const end = (X.cols + columns - 1) / columns, r = U.cols, r16 = (r + 15) / 16 * 16;
    gradient_part<float> const part(parts, cluster.x, U.rows, r);
    auto const fetch = [&](auto const& block, feature_slice const& slice, shared const& s, index_t task) {
      slice.fetch_tile(block, X, task * columns, s.x);
      slice.fetch_tile(block, G, task * columns, s.g);
    };
    members([&](auto const& block, feature_slice const& slice, shared const& s) {
      slice.load_reflectors(block, U, s.u);
      block.each(slice.sum_tiles(), [&](index_t e) { s.D[e] = {}; });
      if (slice.first == 0) block.each(2 * r * r, [&](index_t e) { part.dF.data[e] = 0.0f; });
      fetch(block, slice, s, cluster.x);
    });
    index_t step = 0;
    for (index_t task = cluster.x; task < end; task += cluster.clusters, ++step) {
      // Others may still read the projections of the step before.
      index_t const w = step % 2 * 2 * columns * r16, wg = w + columns * r16;
      members([&](auto const& block, feature_slice const& slice, shared const& s) {
        block.fetched();
        slice.project(block, s.u, s.x, s.partial, s.w + w);
        slice.project(block, s.u, s.g, s.partial, s.w + wg);
      });
      cluster.barrier();
      members([&](auto const& block, feature_slice const& slice, shared const& s) {
        auto const& small_of = s.of.arrays;
        block.each(2 * columns * r, [&](index_t e) {
          auto const [which, rest] = divide(e, columns * r);
          auto const [c, k] = divide(rest, r);
          float total = 0.0f;
          for (index_t member = 0; member < cluster.size; ++member)
            total += cluster.of_member(member, block, s.w + (which == 0 ? w : wg))[c * r16 + k];
          (which == 0 ? small_of.UX : small_of.P)[k * columns + c] = total;
        });
        small.form(block, small_of);
        if (slice.first == 0) small.add(block, small_of, part.dF, part.E);
        auto const dW = [&](index_t k, index_t c) { return small_of.dW[k * columns + c]; };
        slice.split_left(block, dW, s.of.dW);
        slice.split_right(block, dW, s.of.dW_right);
        slice.split_right(
            block, [&](index_t k, index_t c) { return small_of.minus_Z[k * columns + c]; }, s.of.minus_Z_right);
        slice.outer(block, s.g, s.of.minus_Z_right, s.x, s.of.dW_right, s.D);
        slice.update(block, s.u, s.of.dW, s.g);
        slice.store_tile(block, s.g, dX, task * columns);
        if (task + cluster.clusters < end) fetch(block, slice, s, task + cluster.clusters);
      });
    }
    members([&](auto const& block, feature_slice const& slice, shared const& s) {
      slice.each_sum(block, s.D, [&](index_t i, index_t k, float d) { part.D(slice.first + i, k) = d; });
    });
    cluster.barrier();  // nobody leaves while others read its memory
  }
};

}  // namespace hoft::cuda
