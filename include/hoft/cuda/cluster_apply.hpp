// hoft/cuda/cluster_apply.hpp: Y = X − U F UᴴX by clusters: X is read once, and U once for each cluster.
#pragma once
#include <hoft/cuda/slice.hpp>

namespace hoft::cuda {

/// The blocks of a cluster share the features of 16 columns at a time. Each projects its slice; all add up the
/// projections of all, in order; each updates its slice. The next columns are fetched meanwhile if there are two
/// buffers. For T of 16 bits or float.
template <class T>
struct cluster_apply_kernel {
  static constexpr index_t columns = feature_slice::columns;
  static constexpr index_t most_reflectors = 64;

  matrix_view<float const> U, F;
  bool adjoint;
  strided_matrix<T const> X;
  strided_matrix<T> Y;
  matrix_view<float> W;  ///< [r, n], or empty
  index_t rows = 0;      ///< of a slice, a multiple of 32
  index_t buffers = 0;   ///< 1 or 2

  struct shared {
    float *u, *f, *partial, *w, *total;
    left_tile* z;
    T* tiles;
    HOFT_HOST_DEVICE shared(shared_carver& memory, feature_slice const& slice, index_t buffers)
        : u(memory.template array<float>(slice.padded_rank() * slice.stride())),
          f(memory.template array<float>(slice.rank * slice.rank)),
          partial(memory.template array<float>(warps * columns * slice.padded_rank())),
          w(memory.template array<float>(2 * columns * slice.padded_rank())),
          total(memory.template array<float>(columns * slice.padded_rank())),
          z(memory.template array<left_tile>(slice.left_tiles())),
          tiles(memory.template array<T>(buffers * slice.tile_size())) {}
  };
  index_t shared_bytes() const {
    shared_carver counter;
    shared(counter, {U.rows, rows, U.cols, 0}, buffers);
    return counter.size();
  }
  HOFT_HOST_DEVICE index_t tasks() const { return (X.cols + columns - 1) / columns; }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    // f(block, slice, its memory) for every block
    auto const members = [&](auto const& f) {
      cluster.members([&](auto const& block, index_t member) {
        feature_slice const slice(U.rows, rows, U.cols, member);
        shared_carver carver(block.memory);
        f(block, slice, shared(carver, slice, buffers));
      });
    };
    index_t const end = tasks(), r = U.cols;
    members([&](auto const& block, feature_slice const& slice, shared const& s) {
      slice.load_reflectors(block, U, s.u);
      block.each(r * r, [&](index_t e) {
        auto const [l, k] = divide(e, r);
        s.f[e] = adjoint ? F(l, k) : F(k, l);
      });
      slice.fetch_tile(block, X, cluster.x * columns, s.tiles);
    });
    index_t step = 0;
    for (index_t task = cluster.x; task < end; task += cluster.clusters, ++step) {
      index_t const next = task + cluster.clusters, r16 = (r + 15) / 16 * 16;
      index_t const here = buffers == 2 ? step % 2 : 0, there = buffers == 2 ? 1 - here : 0;
      // Others may still read the projections of the step before.
      index_t const w = step % 2 * columns * r16;
      members([&](auto const& block, feature_slice const& slice, shared const& s) {
        block.fetched();
        if (buffers == 2 && next < end) slice.fetch_tile(block, X, next * columns, s.tiles + there * slice.tile_size());
        slice.project(block, s.u, s.tiles + here * slice.tile_size(), s.partial, s.w + w);
      });
      cluster.barrier();
      members([&](auto const& block, feature_slice const& slice, shared const& s) {
        block.each(columns * r16, [&](index_t e) {
          float total = 0.0f;
          for (index_t member = 0; member < cluster.size; ++member)
            total += cluster.of_member(member, block, s.w + w)[e];
          s.total[e] = total;
          auto const [c, k] = divide(e, r16);
          index_t const j = task * columns + c;
          if (slice.first == 0 && !W.empty() && k < r && j < X.cols) W(k, j) = total;
        });
        slice.split_left(
            block,
            [&](index_t k, index_t c) {
              float z = 0.0f;
              for (index_t l = 0; l < r; ++l) z -= s.f[l * r + k] * s.total[c * r16 + l];
              return z;
            },
            s.z);
        T* const tile = s.tiles + here * slice.tile_size();
        slice.update(block, s.u, s.z, tile);
        slice.store_tile(block, tile, Y, task * columns);
        if (buffers == 1 && next < end) slice.fetch_tile(block, X, next * columns, tile);
      });
    }
    cluster.barrier();  // nobody leaves while others read its memory
  }
};

}  // namespace hoft::cuda
