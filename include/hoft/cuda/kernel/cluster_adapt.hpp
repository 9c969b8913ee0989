// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/kernel/cluster_adapt.hpp: Y = Q_U diag(s) (X − K v) by clusters: X is read once, and reflectors once for
// each cluster. Without K and s it is Q_U X.
#pragma once
#include <hoft/cuda/block/slice.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// The blocks of a cluster share the features of 16 columns at a time. Each projects its slice; all add up the
/// projections of all, in order; each updates its slice. The next columns are fetched meanwhile if there are two
/// buffers. Where blocks go by themselves, somebody else has projected, and all that is done is
/// Y := diag(s) (X − K v) + U (−Z). For T of 16 bits or float.
template <class T>
struct cluster_adapt_kernel {
  static constexpr index_t columns = feature_slice::columns;

  matrix_view<float const> U, F;        ///< [m, ru], [ru, ru]
  bool adjoint;                         ///< F is meant as Fᴴ
  matrix_view<float const> minus_K;     ///< [m, rv], or empty
  matrix_view<float const> UK;          ///< [ru, rv] Uᴴ diag(s) (−K)
  vector_view<float const> scale;       ///< s [m], or empty for ones
  strided_matrix<float const> v;        ///< [rv, n]
  strided_matrix<T const> X;            ///< [m, n]
  strided_matrix<T> Y, q;               ///< [m, n]; q := X − K v if it is saved
  bool saves_q;                         ///< also where a probe counts memory and q has no data
  strided_matrix<float> W;              ///< [ru, n] := Uᴴ diag(s) (X − K v) if it has data
  bool apart;                           ///< blocks go by themselves: F, UK and W are not used
  strided_matrix<float const> minus_Z;  ///< [ru, n] −F Uᴴ diag(s) (X − K v), if so
  slice_shape shape{};

  static constexpr int parts = parts_beside<T>;
  /// A block's memory, and what it knows of its slice.
  struct shared {
    feature_slice slice;
    int x_chunks, y_chunks, q_chunks, set_bits;
    split_matrix<parts> u, k, f, uk;  ///< op(F) and UK have a line for each row
    split_matrix<parts> v, w, minus_z;
    float* s;
    sum_tiles scratch, projections;
    T *tiles, *q_tile;
    HOFT_HOST_DEVICE shared(shared_arena memory, cluster_adapt_kernel const& kernel, index_t which)
        : slice(kernel.U.rows, kernel.shape.rows, kernel.U.cols, which),
          x_chunks(slice.chunks_of(kernel.X)),
          y_chunks(slice.chunks_of(kernel.Y)),
          q_chunks(slice.chunks_of(kernel.q)),
          set_bits(feature_slice::set_bits(16 * slice.groups(), int(kernel.shape.threads))),
          u(memory, slice.rank, slice.rows),
          k(memory, kernel.minus_K.cols, slice.rows),
          f(memory, kernel.apart ? 0 : slice.rank, slice.rank),
          uk(memory, kernel.apart ? 0 : slice.rank, kernel.minus_K.cols),
          v(memory, columns, kernel.minus_K.cols),
          w(memory, columns, kernel.apart ? 0 : slice.rank),
          minus_z(memory, columns, slice.rank),
          s(kernel.scale.size > 0 ? memory.template array<float>(slice.rows) : nullptr),
          scratch(memory, kernel.apart ? 0 : feature_slice::projection_scratch(u.lines, int(kernel.shape.threads))),
          projections(memory, kernel.apart ? 0 : 2 * slice.groups()),
          tiles(memory.template array<T>(kernel.shape.buffers * slice.tile_size())),
          q_tile(kernel.saves_q ? memory.template array<T>(slice.tile_size()) : nullptr),
          bytes(memory.size()) {}
    index_t bytes;
  };
  index_t shared_bytes() const { return shared({}, *this, 0).bytes; }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    index_t const which = cluster.x % shape.slices, run = cluster.x / shape.slices;
    auto const held = cluster.hold([&](auto const& block, index_t member) {
      return shared(shared_arena(block.memory), *this, which * cluster.size + member);
    });
    int const turns = shape.turns(run, X.cols);
    cluster.members(held, [&](auto const& block, shared const& s) {
      int const r = int(U.cols), rv = int(minus_K.cols);
      s.slice.load_reflectors(block, U, s.u);
      s.slice.load_reflectors(block, minus_K, s.k);
      if (s.s != nullptr) s.slice.load_vector(block, scale, s.s);
      if (!apart) {
        set_split(block, s.f, r, r, [&](int k, int l) { return adjoint ? F(l, k) : F(k, l); });
        set_split(block, s.uk, r, rv, [&](int k, int l) { return UK(k, l); });
      }
      s.slice.fetch_tile(block, X, s.x_chunks, run * columns, s.tiles);
    });
    index_t first = run * columns;
    index_t const step = shape.runs * columns;  // to the columns of the next turn
    int const last = int(shape.buffers) - 1;
    for (int turn = 0; turn < turns; ++turn, first += step) {
      bool const more = turn + 1 < turns;
      int const here = turn & last;
      cluster.members(held, [&](auto const& block, shared const& s) {
        start_set_columns(block, s.v, v, first);
        if (apart) start_set_columns(block, s.minus_z, minus_Z, first);
        block.fetched();
        if (last > 0 && more)
          s.slice.fetch_tile(block, X, s.x_chunks, first + step, s.tiles + (1 - here) * s.slice.tile_size());
        if (!apart)
          s.slice.project(block, s.set_bits, s.scratch, projections(s, turn),
                          projection_of<T>{s.u, s.tiles + here * s.slice.tile_size(), s.s});
      });
      cluster.barrier();
      cluster.members(held, [&](auto const& block, shared const& s) {
        if (!apart) form_z(cluster, block, s, first, projections(s, turn));
        T* const tile = s.tiles + here * s.slice.tile_size();
        block.each_warp(s.slice.strips(), [&](auto const& warp, int strip) {
          s.slice.combine(warp, strip, {s.k, s.v}, s.s, {s.u, s.minus_z}, tile, s.q_tile);
        });
        if (s.q_tile != nullptr) s.slice.store_tile(block, s.q_tile, q, s.q_chunks, first);
        s.slice.store_tile(block, tile, Y, s.y_chunks, first);
        if (last > 0 || !more) return;
        block.stored();
        s.slice.fetch_tile(block, X, s.x_chunks, first + step, tile);
      });
    }
    cluster.barrier();  // no block leaves while others read its memory
  }

 private:
  /// Others may still read the projections of the turn before.
  HOFT_HOST_DEVICE static sum_tiles projections(shared const& s, int turn) {
    return s.projections.from(turn % 2 * s.slice.groups());
  }
  /// −Z, and W where it is wanted, of columns [first, first + 16).
  template <class Cluster, class Block>
  HOFT_HOST_DEVICE void form_z(Cluster const& cluster, Block const& block, shared const& s, index_t first,
                               sum_tiles projected) const {
    block.each_warp(s.slice.groups(), [&](auto const& warp, int g) {
      auto sums = total_of_members(warp, cluster, block, projected, g);
      add_product<stored::by_columns>(warp, s.v, s.uk, g, sums);
      if (s.slice.first == 0 && W.data != nullptr)
        each_element(warp, sums, [&](int c, int k, float w) {
          if (g * 16 + k < s.slice.rank && first + c < X.cols) *W.at(g * 16 + k, first + c) = w;
        });
      set_tile(warp, sums, g, s.w, [](float w) { return w; });
    });
    block.each_warp(s.slice.groups(), [&](auto const& warp, int g) {
      typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sums = {};
      add_product<stored::by_columns>(warp, s.w, s.f, g, sums);
      set_tile(warp, sums, g, s.minus_z, [](float z) { return -z; });
    });
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
