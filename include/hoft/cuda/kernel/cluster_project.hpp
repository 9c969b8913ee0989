// hoft/cuda/kernel/cluster_project.hpp: W = Uᴴ diag(s) X by clusters, X read once.
#pragma once
#include <hoft/cuda/block/slice.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// The blocks of a cluster share the features of 16 columns at a time; each projects its slice, and each adds up some
/// of the projections of all, in order. For T of 16 bits or float.
template <class T>
struct cluster_project_kernel {
  static constexpr index_t columns = feature_slice::columns;

  matrix_view<float const> U;
  vector_view<float const> scale;  ///< s [m], or empty for ones
  strided_matrix<T const> X;
  float* parts;             ///< a matrix [r, n] of each slice, by columns, one behind the other
  strided_matrix<float> W;  ///< [r, n], instead of parts if there is one slice
  slice_shape shape{};

  struct shared {
    split_matrix<parts_beside<T>> u;
    float *s, *partial, *w;
    T* tiles;
    HOFT_HOST_DEVICE shared(shared_arena& memory, cluster_project_kernel const& kernel, feature_slice const& slice)
        : u(memory, slice.rank, slice.rows),
          s(kernel.scale.size > 0 ? memory.template array<float>(slice.rows) : nullptr),
          partial(memory.template array<float>(slice.projection_scratch(slice.rank, kernel.shape.threads))),
          w(memory.template array<float>(2 * columns * slice.padded_rank())),
          tiles(memory.template array<T>(kernel.shape.buffers * slice.tile_size())) {}
  };
  index_t shared_bytes() const {
    shared_arena counter;
    shared(counter, *this, {U.rows, shape.rows, U.cols, 0});
    return counter.size();
  }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    index_t const which = cluster.x % shape.slices, run = cluster.x / shape.slices;
    // f(block, slice, its memory) for every block
    auto const members = [&](auto const& f) {
      cluster.members([&](auto const& block, index_t member) {
        feature_slice const slice(U.rows, shape.rows, U.cols, which * cluster.size + member);
        shared_arena arena(block.memory);
        f(block, slice, shared(arena, *this, slice), member);
      });
    };
    index_t const end = (X.cols + columns - 1) / columns, r = U.cols, r16 = whole_tiles(r);
    members([&](auto const& block, feature_slice const& slice, shared const& s, index_t) {
      slice.load_reflectors(block, U, s.u);
      if (s.s != nullptr) slice.load_vector(block, scale, s.s);
      slice.fetch_tile(block, X, run * columns, s.tiles);
    });
    index_t step = 0;
    for (index_t task = run; task < end; task += shape.runs, ++step) {
      index_t const next = task + shape.runs;
      index_t const here = shape.buffers == 2 ? step % 2 : 0, there = shape.buffers == 2 ? 1 - here : 0;
      // Others may still read the projections of the step before.
      index_t const w = step % 2 * columns * r16;
      members([&](auto const& block, feature_slice const& slice, shared const& s, index_t) {
        block.fetched();
        if (shape.buffers == 2 && next < end)
          slice.fetch_tile(block, X, next * columns, s.tiles + there * slice.tile_size());
        slice.project(block, s.u, s.s, s.tiles + here * slice.tile_size(), s.partial, s.w + w);
        if (shape.buffers == 1 && next < end) slice.fetch_tile(block, X, next * columns, s.tiles);
      });
      cluster.barrier();
      members([&](auto const& block, feature_slice const&, shared const& s, index_t member) {
        index_t const all = columns * r, share = (all + cluster.size - 1) / cluster.size, first = member * share;
        index_t const count = first >= all ? 0 : all - first < share ? all - first : share;
        block.each(count, [&](index_t e) {
          auto const [c, k] = divide(first + e, r);
          index_t const j = task * columns + c;
          if (j >= X.cols) return;
          float total = 0.0f;
          for (index_t other = 0; other < cluster.size; ++other)
            total += cluster.of_member(other, block, s.w + w)[c * r16 + k];
          if (shape.slices == 1) *W.at(k, j) = total;
          else parts[(which * X.cols + j) * r + k] = total;
        });
      });
    }
    cluster.barrier();  // no block leaves while others read its memory
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
