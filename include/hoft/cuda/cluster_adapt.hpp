// hoft/cuda/cluster_adapt.hpp: Y = Q_U diag(s) (X − K v) by clusters: X is read once, and reflectors once for each
// cluster. Without K and s it is Q_U X.
#pragma once
#include <hoft/cuda/slice.hpp>

namespace hoft::cuda {

/// The blocks of a cluster share the features of 16 columns at a time. Each projects its slice; all add up the
/// projections of all, in order; each updates its slice. The next columns are fetched meanwhile if there are two
/// buffers. Where blocks go by themselves, somebody else has projected, and all that is done is
/// Y := diag(s) (X − K v) + U (−Z). For T of 16 bits or float.
template <class T>
struct cluster_adapt_kernel {
  static constexpr index_t columns = feature_slice::columns;

  matrix_view<float const> U, F;     ///< [m, ru], [ru, ru]
  bool adjoint;                      ///< F is meant as Fᴴ
  matrix_view<float const> minus_K;  ///< [m, rv], or empty
  matrix_view<float const> UK;       ///< [ru, rv] Uᴴ diag(s) (−K)
  vector_view<float const> scale;    ///< s [m], or empty for ones
  strided_matrix<float const> v;     ///< [rv, n]
  strided_matrix<T const> X;         ///< [m, n]
  strided_matrix<T> Y, q;            ///< [m, n]; q := X − K v if it has data
  strided_matrix<float> W;           ///< [ru, n] := Uᴴ diag(s) (X − K v) if it has data
  bool apart;                        ///< blocks go by themselves: F, UK and W are not used
  matrix_view<float const> minus_Z;  ///< [ru, n] −F Uᴴ diag(s) (X − K v), if so
  slice_shape shape{};

  struct shared {
    float *u, *k, *s, *f, *uk, *partial, *w, *v, *total;
    left_tile *z, *zv;
    T *tiles, *q;
    HOFT_HOST_DEVICE shared(shared_carver& memory, cluster_adapt_kernel const& kernel, feature_slice const& slice,
                            feature_slice const& right)
        : u(memory.template array<float>(slice.padded_rank() * slice.stride())),
          k(memory.template array<float>(right.padded_rank() * slice.stride())),
          s(kernel.scale.size > 0 ? memory.template array<float>(slice.rows) : nullptr),
          f(memory.template array<float>(kernel.apart ? 0 : slice.rank * slice.rank)),
          uk(memory.template array<float>(kernel.apart ? 0 : slice.rank * right.rank)),
          partial(memory.template array<float>(kernel.apart ? 0 : warps * columns * slice.padded_rank())),
          w(memory.template array<float>(kernel.apart ? 0 : 2 * columns * slice.padded_rank())),
          v(memory.template array<float>(columns * right.rank)),
          total(memory.template array<float>(columns * slice.padded_rank())),
          z(memory.template array<left_tile>(slice.left_tiles())),
          zv(memory.template array<left_tile>(right.left_tiles())),
          tiles(memory.template array<T>(kernel.shape.buffers * slice.tile_size())),
          q(kernel.q.data != nullptr ? memory.template array<T>(slice.tile_size()) : nullptr) {}
  };
  index_t shared_bytes() const {
    shared_carver counter;
    shared(counter, *this, {U.rows, shape.rows, U.cols, 0}, {U.rows, shape.rows, minus_K.cols, 0});
    return counter.size();
  }
  index_t tasks() const { return (X.cols + columns - 1) / columns; }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    index_t const which = cluster.x % shape.slices, run = cluster.x / shape.slices;
    // f(block, slice, its memory) for every block
    auto const members = [&](auto const& f) {
      cluster.members([&](auto const& block, index_t member) {
        index_t const place = which * cluster.size + member;
        feature_slice const slice(U.rows, shape.rows, U.cols, place), right(U.rows, shape.rows, minus_K.cols, place);
        shared_carver carver(block.memory);
        f(block, slice, right, shared(carver, *this, slice, right));
      });
    };
    index_t const end = (X.cols + columns - 1) / columns, r = U.cols, r16 = (r + 15) / 16 * 16, rv = minus_K.cols;
    members([&](auto const& block, feature_slice const& slice, feature_slice const& right, shared const& s) {
      slice.load_reflectors(block, U, s.u);
      right.load_reflectors(block, minus_K, s.k);
      if (s.s != nullptr) slice.load_vector(block, scale, s.s);
      if (!apart) {
        block.each(r * r, [&](index_t e) {
          auto const [l, k] = divide(e, r);
          s.f[e] = adjoint ? F(l, k) : F(k, l);
        });
        block.each(r * rv, [&](index_t e) {
          auto const [l, k] = divide(e, r);
          s.uk[e] = UK(k, l);
        });
      }
      slice.fetch_tile(block, X, run * columns, s.tiles);
    });
    index_t step = 0;
    for (index_t task = run; task < end; task += shape.runs, ++step) {
      index_t const next = task + shape.runs;
      index_t const here = shape.buffers == 2 ? step % 2 : 0, there = shape.buffers == 2 ? 1 - here : 0;
      // Others may still read the projections of the step before.
      index_t const w = step % 2 * columns * r16;
      members([&](auto const& block, feature_slice const& slice, feature_slice const&, shared const& s) {
        block.fetched();
        if (shape.buffers == 2 && next < end)
          slice.fetch_tile(block, X, next * columns, s.tiles + there * slice.tile_size());
        if (!apart) slice.project(block, s.u, s.s, s.tiles + here * slice.tile_size(), s.partial, s.w + w);
      });
      cluster.barrier();
      members([&](auto const& block, feature_slice const& slice, feature_slice const& right, shared const& s) {
        block.each(columns * rv, [&](index_t e) {
          auto const [c, l] = divide(e, rv);
          index_t const j = task * columns + c;
          s.v[e] = j < X.cols ? *v.at(l, j) : 0.0f;
        });
        block.each(columns * r16, [&](index_t e) {
          auto const [c, k] = divide(e, r16);
          index_t const j = task * columns + c;
          bool const inside = k < r && j < X.cols;
          float total = 0.0f;
          if (apart) {
            if (inside) total = minus_Z(k, j);
          } else {
            for (index_t member = 0; member < cluster.size; ++member)
              total += cluster.of_member(member, block, s.w + w)[e];
            if (k < r)
              for (index_t l = 0; l < rv; ++l) total += s.uk[l * r + k] * s.v[c * rv + l];
            if (slice.first == 0 && W.data != nullptr && inside) *W.at(k, j) = total;
          }
          s.total[e] = total;
        });
        slice.split_left(
            block,
            [&](index_t k, index_t c) {
              if (apart) return s.total[c * r16 + k];
              float z = 0.0f;
              for (index_t l = 0; l < r; ++l) z -= s.f[l * r + k] * s.total[c * r16 + l];
              return z;
            },
            s.z);
        right.split_left(
            block, [&](index_t l, index_t c) { return s.v[c * rv + l]; }, s.zv);
        T* const tile = s.tiles + here * slice.tile_size();
        slice.combine(block, {s.k, s.zv, right.groups()}, s.s, {s.u, s.z, slice.groups()}, tile, s.q);
        if (s.q != nullptr) slice.store_tile(block, s.q, q, task * columns);
        slice.store_tile(block, tile, Y, task * columns);
        if (shape.buffers == 1 && next < end) slice.fetch_tile(block, X, next * columns, tile);
      });
    }
    cluster.barrier();  // nobody leaves while others read its memory
  }
};

}  // namespace hoft::cuda
