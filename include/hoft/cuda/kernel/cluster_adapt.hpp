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
  struct shared {
    split_matrix<parts> u, k, f, uk;  ///< op(F) and UK have a line for each row
    split_matrix<parts> v, w, minus_z;
    float *s, *partial, *projections;
    T *tiles, *q;
    HOFT_HOST_DEVICE shared(shared_arena& memory, cluster_adapt_kernel const& kernel, feature_slice const& slice,
                            index_t rv)
        : u(memory, slice.rank, slice.rows),
          k(memory, rv, slice.rows),
          f(memory, kernel.apart ? 0 : slice.rank, slice.rank),
          uk(memory, kernel.apart ? 0 : slice.rank, rv),
          v(memory, columns, rv),
          w(memory, columns, kernel.apart ? 0 : slice.rank),
          minus_z(memory, columns, slice.rank),
          s(kernel.scale.size > 0 ? memory.template array<float>(slice.rows) : nullptr),
          partial(memory.template array<float>(
              kernel.apart ? 0 : slice.projection_scratch(slice.rank, kernel.shape.threads))),
          projections(memory.template array<float>(kernel.apart ? 0 : 2 * columns * slice.padded_rank())),
          tiles(memory.template array<T>(kernel.shape.buffers * slice.tile_size())),
          q(kernel.saves_q ? memory.template array<T>(slice.tile_size()) : nullptr) {}
  };
  index_t shared_bytes() const {
    shared_arena counter;
    shared(counter, *this, {U.rows, shape.rows, U.cols, 0}, minus_K.cols);
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
        f(block, slice, shared(arena, *this, slice, minus_K.cols));
      });
    };
    index_t const end = (X.cols + columns - 1) / columns;
    int const r = int(U.cols), rv = int(minus_K.cols);
    members([&](auto const& block, feature_slice const& slice, shared const& s) {
      slice.load_reflectors(block, U, s.u);
      slice.load_reflectors(block, minus_K, s.k);
      if (s.s != nullptr) slice.load_vector(block, scale, s.s);
      if (!apart) {
        set_split(block, s.f, r, r, [&](int k, int l) { return adjoint ? F(l, k) : F(k, l); });
        set_split(block, s.uk, r, rv, [&](int k, int l) { return UK(k, l); });
      }
      slice.fetch_tile(block, X, run * columns, s.tiles);
    });
    index_t step = 0;
    for (index_t task = run; task < end; task += shape.runs, ++step) {
      index_t const next = task + shape.runs, first = task * columns;
      index_t const here = shape.buffers == 2 ? step % 2 : 0, there = shape.buffers == 2 ? 1 - here : 0;
      // Others may still read the projections of the step before.
      index_t const turn = step % 2 * columns * whole_tiles(r);
      members([&](auto const& block, feature_slice const& slice, shared const& s) {
        set_columns(block, s.v, v, first);
        if (apart) set_columns(block, s.minus_z, minus_Z, first);
        block.fetched();
        if (shape.buffers == 2 && next < end)
          slice.fetch_tile(block, X, next * columns, s.tiles + there * slice.tile_size());
        if (!apart) slice.project(block, s.u, s.s, s.tiles + here * slice.tile_size(), s.partial, s.projections + turn);
      });
      cluster.barrier();
      members([&](auto const& block, feature_slice const& slice, shared const& s) {
        if (!apart) {
          block.each_warp(slice.groups(), [&](auto const& warp, int g) {
            auto sums = total_of_members(warp, cluster, block, s.projections + turn, s.u.lines, g);
            add_product<stored::by_columns>(warp, s.v, s.uk, g, sums);
            if (slice.first == 0 && W.data != nullptr)
              each_element(warp, sums, [&](int c, int k, float w) {
                if (g * 16 + k < r && first + c < X.cols) *W.at(g * 16 + k, first + c) = w;
              });
            set_tile(warp, sums, g, s.w, [](float w) { return w; });
          });
          block.each_warp(slice.groups(), [&](auto const& warp, int g) {
            typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sums = {};
            add_product<stored::by_columns>(warp, s.w, s.f, g, sums);
            set_tile(warp, sums, g, s.minus_z, [](float z) { return -z; });
          });
        }
        T* const tile = s.tiles + here * slice.tile_size();
        slice.combine(block, {s.k, s.v}, s.s, {s.u, s.minus_z}, tile, s.q);
        if (s.q != nullptr) slice.store_tile(block, s.q, q, first);
        slice.store_tile(block, tile, Y, first);
        if (shape.buffers == 1 && next < end) slice.fetch_tile(block, X, next * columns, tile);
      });
    }
    cluster.barrier();  // no block leaves while others read its memory
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
