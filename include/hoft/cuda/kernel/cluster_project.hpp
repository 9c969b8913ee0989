// SPDX-License-Identifier: BSD-3-Clause
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

  /// A block's memory, and what it knows of its slice.
  struct shared {
    feature_slice slice;
    int member;
    int chunks, set_bits;
    split_matrix<parts_beside<T>> u;
    float* s;
    sum_tiles scratch, w;
    T* tiles;
    HOFT_HOST_DEVICE shared(shared_arena memory, cluster_project_kernel const& kernel, index_t which, index_t member_)
        : slice(kernel.U.rows, kernel.shape.rows, kernel.U.cols, which),
          member(int(member_)),
          chunks(slice.chunks_of(kernel.X)),
          set_bits(feature_slice::set_bits(16 * slice.groups(), int(kernel.shape.threads))),
          u(memory, slice.rank, slice.rows),
          s(kernel.scale.size > 0 ? memory.template array<float>(slice.rows) : nullptr),
          scratch(memory, feature_slice::projection_scratch(u.lines, int(kernel.shape.threads))),
          w(memory, 2 * slice.groups()),
          tiles(memory.template array<T>(kernel.shape.buffers * slice.tile_size())),
          bytes(memory.size()) {}
    index_t bytes;
  };
  index_t shared_bytes() const { return shared({}, *this, 0, 0).bytes; }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    index_t const which = cluster.x % shape.slices, run = cluster.x / shape.slices;
    auto const held = cluster.hold([&](auto const& block, index_t member) {
      return shared(shared_arena(block.memory), *this, which * cluster.size + member, member);
    });
    int const r = int(U.cols), groups = (r + 15) / 16, turns = shape.turns(run, X.cols);
    cluster.members(held, [&](auto const& block, shared const& s) {
      s.slice.load_reflectors(block, U, s.u);
      if (s.s != nullptr) s.slice.load_vector(block, scale, s.s);
      s.slice.fetch_tile(block, X, s.chunks, run * columns, s.tiles);
    });
    index_t first = run * columns;
    index_t const step = shape.runs * columns;  // to the columns of the next turn
    int const last = int(shape.buffers) - 1;
    for (int turn = 0; turn < turns; ++turn, first += step) {
      bool const more = turn + 1 < turns;
      int const here = turn & last;
      int const w = turn % 2 * groups;  // others may still read the projections of the turn before
      cluster.members(held, [&](auto const& block, shared const& s) {
        T* const tile = s.tiles + here * s.slice.tile_size();
        block.fetched();
        if (last > 0 && more)
          s.slice.fetch_tile(block, X, s.chunks, first + step, s.tiles + (1 - here) * s.slice.tile_size());
        s.slice.project(block, s.set_bits, s.scratch, s.w.from(w), projection_of<T>{s.u, tile, s.s});
      });
      cluster.barrier();
      cluster.members(held, [&](auto const& block, shared const& s) {
        if (last == 0 && more) s.slice.fetch_tile(block, X, s.chunks, first + step, s.tiles);
        block.start_each_warp(groups, [&](auto const& warp, int g) {
          if ((turn + g) % int(cluster.size) != s.member) return;
          auto const sums = total_of_members(warp, cluster, block, s.w.from(w), g);
          each_element(warp, sums, [&](int c, int k, float total) {
            index_t const j = first + c;
            if (j >= X.cols || g * 16 + k >= r) return;
            if (shape.slices == 1) *W.at(g * 16 + k, j) = total;
            else parts[(which * X.cols + j) * r + g * 16 + k] = total;
          });
        });
      });
    }
    cluster.barrier();  // no block leaves while others read its memory
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
