// hoft/cuda/kernel/cluster_backward.hpp: the gradients of Y = Q_U diag(s) (X − K v) by clusters: X, or what X became,
// and dY are read once. Without K and s they are those of Q_U X.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/block/slice.hpp>
#include <hoft/cuda/kernel/backward.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// As cluster_adapt_kernel, for G = ∂L/∂Y and an X at a time. A block's slice of the sums stays in its memory over all
/// columns of the cluster. For T of 16 bits or float.
///
/// X is whatever dW is to be multiplied by: the output Y, or the input of Q_U before diag(s), base − K v or the base
/// itself; gradient_part tells the terms, and whoever adds up the parts puts them together. Where blocks go by
/// themselves, somebody else has made −Z and dW, and sums dF, E and J; without −Z all that is done is
/// dX := diag(s) (G + U dW) and D := Σ X dWᴴ.
template <class T>
struct cluster_backward_kernel {
  static constexpr index_t columns = feature_slice::columns;

  matrix_view<float const> U;  ///< [m, ru]
  small_gradients<float> small_part;
  bool output;                              ///< X is the output: E is summed
  matrix_view<float const> minus_K;         ///< [m, rv] −diag(s) K, or empty
  matrix_view<float const> UK;              ///< [ru, rv] Uᴴ diag(s) (−K)
  vector_view<float const> scale;           ///< s [m], or empty for ones
  strided_matrix<T const> X, G;             ///< [m, n]
  strided_matrix<T> dX;                     ///< [m, n] := diag(s) (G + U dW), or without data
  strided_matrix<float const> W, v;         ///< [ru, n] the forward pass's projections; [rv, n]
  bool projects_X;                          ///< W is not there and made of X
  strided_matrix<float> dv;                 ///< [rv, n] := −Kᴴ dX
  bool apart;                               ///< blocks go by themselves: small_part, UK, W and dv are not used
  strided_matrix<float const> minus_Z, dW;  ///< [ru, n], if so
  gradient_shape sums;
  float* parts;  ///< of every run
  slice_shape shape{};

  static constexpr int parts_each = parts_beside<T>;
  using split_type = split_matrix<parts_each>;

  struct shared {
    split_type u, k, f, uk, over;  ///< over: what makes W of Z, if X is the output
    split_type w, v, p, minus_z, dw;
    float *s, *projections, *dots, *partial;
    sum_tiles D, X_dW, G_v, small_sums;
    T* tiles;  ///< of X and of G for each buffer
    HOFT_HOST_DEVICE shared(shared_arena& memory, cluster_backward_kernel const& kernel, feature_slice const& slice)
        : u(memory, slice.rank, slice.rows),
          k(memory, kernel.whole(kernel.sums.rv), slice.rows),
          f(memory, kernel.whole(slice.rank), slice.rank),
          uk(memory, kernel.whole(slice.rank), kernel.sums.rv),
          over(memory, kernel.whole(slice.rank), slice.rank),
          w(memory, columns, kernel.whole(slice.rank)),
          v(memory, columns, kernel.sums.rv),
          s(kernel.scale.size > 0 ? memory.template array<float>(slice.rows) : nullptr),
          projections(memory.template array<float>(kernel.whole(2 * kernel.step_size()))),
          dots(kernel.sums.dots ? memory.template array<float>(slice.rows) : nullptr),
          D{memory.template array<quad>(slice.sum_quads(kernel.sums.ru))},
          X_dW{kernel.sums.split_D ? memory.template array<quad>(slice.sum_quads(kernel.sums.ru)) : nullptr},
          G_v{memory.template array<quad>(slice.sum_quads(kernel.sums.rv))},
          small_sums{memory.template array<quad>(kernel.small_tiles_each() * sum_tiles::size)},
          tiles(memory.template array<T>(2 * kernel.shape.buffers * slice.tile_size())) {
      // Sums of projections go where later what is made of them is.
      shared_arena made(memory), scratch(memory);
      p = split_type(made, columns, kernel.whole(slice.rank));
      minus_z = split_type(made, columns, slice.rank);
      dw = split_type(made, columns, slice.rank);
      partial = scratch.template array<float>(kernel.whole(kernel.scratch_size()));
      memory = made.size() > scratch.size() ? made : scratch;
    }
  };
  index_t shared_bytes() const {
    shared_arena counter;
    shared(counter, *this, {U.rows, shape.rows, U.cols, 0});
    return counter.size();
  }
  /// Nothing where blocks go by themselves.
  HOFT_HOST_DEVICE index_t whole(index_t n) const { return apart ? 0 : n; }
  HOFT_HOST_DEVICE index_t scratch_size() const {
    index_t const on_U = feature_slice::projection_scratch(U.cols, shape.threads),
                  on_K = feature_slice::projection_scratch(sums.rv, shape.threads);
    return on_U > on_K ? on_U : on_K;
  }
  /// Floats of the projections of a step: of G on U, on −K, of X on U.
  HOFT_HOST_DEVICE index_t step_size() const { return columns * (2 * whole_tiles(U.cols) + whole_tiles(sums.rv)); }
  /// Tiles of dF, E and J, in this order, by rows; each member of a cluster has some of them.
  HOFT_HOST_DEVICE index_t small_tiles() const {
    index_t const down = whole_tiles(U.cols) / 16;
    return down * (2 * down + whole_tiles(sums.rv) / 16);
  }
  HOFT_HOST_DEVICE index_t small_tiles_each() const {
    return apart ? 0 : (small_tiles() + shape.size - 1) / shape.size;
  }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    index_t const which = cluster.x % shape.slices, run = cluster.x / shape.slices;
    // f(block, slice, its memory, member) for every block
    auto const members = [&](auto const& f) {
      cluster.members([&](auto const& block, index_t member) {
        feature_slice const slice(U.rows, shape.rows, U.cols, which * cluster.size + member);
        shared_arena arena(block.memory);
        f(block, slice, shared(arena, *this, slice), int(member));
      });
    };
    index_t const end = (X.cols + columns - 1) / columns;
    int const r = int(U.cols), rv = int(sums.rv), down = (r + 15) / 16, across = (rv + 15) / 16;
    gradient_part<float> const part(parts, run, sums);
    auto const fetch = [&](auto const& block, feature_slice const& slice, shared const& s, index_t task, int buffer) {
      slice.fetch_tile(block, X, task * columns, s.tiles + 2 * buffer * slice.tile_size());
      slice.fetch_tile(block, G, task * columns, s.tiles + (2 * buffer + 1) * slice.tile_size());
    };
    // f(warp, n, kind, g, h) for the n-th small tile of a member: (g, h) of dF, E or J
    auto const each_small_tile = [&](auto const& block, int member, auto const& f) {
      block.each_warp(small_tiles_each(), [&](auto const& warp, int n) {
        int const tile = n * int(cluster.size) + member;
        if (tile >= int(small_tiles())) return;
        if (tile < 2 * down * down) f(warp, n, tile / (down * down), tile / down % down, tile % down);
        else f(warp, n, 2, (tile - 2 * down * down) / across, (tile - 2 * down * down) % across);
      });
    };
    members([&](auto const& block, feature_slice const& slice, shared const& s, int) {
      slice.load_reflectors(block, U, s.u);
      auto const clear = [&](sum_tiles of, index_t quads) { block.each(quads, [&](index_t e) { of.data[e] = {}; }); };
      clear(s.D, slice.sum_quads(r));
      if (s.X_dW.data != nullptr) clear(s.X_dW, slice.sum_quads(r));
      clear(s.G_v, slice.sum_quads(rv));
      if (s.dots != nullptr) block.each(slice.rows, [&](index_t i) { s.dots[i] = 0.0f; });
      if (s.s != nullptr) slice.load_vector(block, scale, s.s);
      if (apart) {
        if (slice.first == 0) block.each(2 * r * r + r * rv, [&](index_t e) { part.dF.data[e] = 0.0f; });
      } else {
        clear(s.small_sums, small_tiles_each() * sum_tiles::size);
        slice.load_reflectors(block, minus_K, s.k);
        set_split(block, s.f, r, r, [&](int k, int l) { return small_part.F(k, l); });
        set_split(block, s.uk, r, rv, [&](int k, int l) { return UK(k, l); });
        if (small_part.from_output) set_split(block, s.over, r, r, [&](int k, int l) { return small_part.over(k, l); });
      }
      fetch(block, slice, s, run, 0);
    });
    index_t step = 0;
    for (index_t task = run; task < end; task += shape.runs, ++step) {
      index_t const first = task * columns, next = task + shape.runs;
      int const here = shape.buffers == 2 ? int(step % 2) : 0, there = shape.buffers == 2 ? 1 - here : 0;
      // Others may still read the projections of the step before.
      index_t const on_U = step % 2 * step_size(), on_K = on_U + columns * whole_tiles(r),
                    of_X = on_K + columns * whole_tiles(rv);
      members([&](auto const& block, feature_slice const& slice, shared const& s, int) {
        set_columns(block, s.v, v, first);
        if (apart) {
          set_columns(block, s.dw, dW, first);
          if (minus_Z.data != nullptr) set_columns(block, s.minus_z, minus_Z, first);
        } else if (!projects_X) {
          set_columns(block, s.w, W, first);
        }
        block.fetched();
        if (shape.buffers == 2 && next < end) fetch(block, slice, s, next, there);
        if (apart) return;
        T const *const tile_x = s.tiles + 2 * here * slice.tile_size(), *const tile_g = tile_x + slice.tile_size();
        slice.project(block, s.u, nullptr, tile_g, s.partial, s.projections + on_U);
        slice.project(block, s.k, nullptr, tile_g, s.partial, s.projections + on_K);
        if (projects_X) slice.project(block, s.u, s.s, tile_x, s.partial, s.projections + of_X);
      });
      cluster.barrier();
      members([&](auto const& block, feature_slice const& slice, shared const& s, int member) {
        T *const tile_x = s.tiles + 2 * here * slice.tile_size(), *const tile_g = tile_x + slice.tile_size();
        if (!apart) {
          auto const as_it_is = [](float a) { return a; };
          block.each_warp((projects_X ? 2 : 1) * down, [&](auto const& warp, int task_of_warp) {
            int const g = task_of_warp % down;
            bool const of_G = task_of_warp < down;
            auto sum = total_of_members(warp, cluster, block, s.projections + (of_G ? on_U : of_X), 16 * down, g);
            if (!of_G) add_product<stored::by_columns>(warp, s.v, s.uk, g, sum);
            set_tile(warp, sum, g, either(of_G, s.p, s.w), as_it_is);
          });
          // From here on W is UᴴX, also where it is to become something else.
          bool const plain = small_part.o == op::plain;
          block.each_warp(2 * down, [&](auto const& warp, int task_of_warp) {
            int const g = task_of_warp % down;
            bool const of_G = task_of_warp < down;
            typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sum = {};
            // dW := −op(F)ᴴ P; −Z := −op(F) W or, from the output, op(F)ᴴ W
            auto const from = either(of_G, s.p, s.w);
            if (plain == (of_G || small_part.from_output)) add_product<stored::by_rows>(warp, from, s.f, g, sum);
            else add_product<stored::by_columns>(warp, from, s.f, g, sum);
            float const sign = of_G || !small_part.from_output ? -1.0f : 1.0f;
            set_tile(warp, sum, g, either(of_G, s.dw, s.minus_z), [=](float a) { return sign * a; });
          });
          if (small_part.from_output)
            block.each_warp(down, [&](auto const& warp, int g) {
              typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sum = {};
              add_product<stored::by_columns>(warp, s.minus_z, s.over, g, sum);
              set_tile(warp, sum, g, s.w, [](float a) { return -a; });
            });
          if (slice.first == 0)
            block.each_warp(across, [&](auto const& warp, int g) {
              auto sum = total_of_members(warp, cluster, block, s.projections + on_K, 16 * across, g);
              add_product<stored::by_rows>(warp, s.dw, s.uk, g, sum);
              each_element(warp, sum, [&](int c, int l, float d) {
                if (g * 16 + l < rv && first + c < X.cols) *dv.at(g * 16 + l, first + c) = d;
              });
            });
          each_small_tile(block, member, [&](auto const& warp, int n, int kind, int g, int h) {
            if (kind == 1 && !output) return;
            typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sum;
            s.small_sums.load(warp, sum, n);
            auto const left = either(kind == 0, s.p, either(kind == 1, s.minus_z, s.dw));
            auto const right = either(kind == 0, s.w, either(kind == 1, s.dw, s.v));
            add_outer(warp, left, g, right, h, sum);
            s.small_sums.store(warp, sum, n);
          });
        }
        if (s.dots != nullptr) add_dots(block, slice, tile_g, tile_x, s.dots);
        outer_term<T> const of_X_dW{tile_x, s.dw}, of_G_Z{tile_g, s.minus_z};
        if (apart && minus_Z.data == nullptr) {
          slice.outer(block, s.D, of_X_dW);
        } else if (s.X_dW.data == nullptr) {
          slice.outer(block, s.D, of_G_Z, of_X_dW);
        } else {
          slice.outer(block, s.D, of_G_Z);
          slice.outer(block, s.X_dW, of_X_dW);
        }
        if (rv > 0) slice.outer(block, s.G_v, outer_term<T>{tile_g, s.v});
        if (dX.data != nullptr) {
          slice.combine(block, {s.u, s.dw}, s.s, {}, tile_g, static_cast<T*>(nullptr));
          slice.store_tile(block, tile_g, dX, first);
        }
        if (shape.buffers == 1 && next < end) fetch(block, slice, s, next, 0);
      });
    }
    members([&](auto const& block, feature_slice const& slice, shared const& s, int member) {
      slice.each_sum(block, s.D, r, [&](int i, int k, float d) { part.D(slice.first + i, k) = d; });
      if (s.X_dW.data != nullptr)
        slice.each_sum(block, s.X_dW, r, [&](int i, int k, float d) { part.X_dW(slice.first + i, k) = d; });
      slice.each_sum(block, s.G_v, rv, [&](int i, int l, float d) { part.G_v(slice.first + i, l) = d; });
      if (s.dots != nullptr) block.each(slice.height, [&](index_t i) { part.dots[slice.first + i] = s.dots[i]; });
      each_small_tile(block, member, [&](auto const& warp, int n, int kind, int g, int h) {
        typename std::remove_cvref_t<decltype(warp)>::template held<sum_tile> sum;
        s.small_sums.load(warp, sum, n);
        // dF = −Σ P Wᴴ, E = Σ Z dWᴴ, J = Σ dW vᴴ, one behind the other, each of r rows
        float* const to = part.dF.data + kind * r * r;
        each_element(warp, sum, [&](int row, int column, float a) {
          int const k = g * 16 + row, l = h * 16 + column;
          if (k < r && l < (kind == 2 ? rv : r)) to[l * r + k] = kind == 2 ? a : -a;
        });
      });
    });
    cluster.barrier();  // no block leaves while others read its memory
  }

 private:
  /// dots += the sums along rows of G ∘ X.
  template <class Block>
  HOFT_HOST_DEVICE void add_dots(Block const& block, feature_slice const& slice, T const* tile_g, T const* tile_x,
                                 float* dots) const {
    block.each(slice.rows / 2, [&](index_t half) {
      int const i = 2 * int(half);
      float a = dots[i], b = dots[i + 1];
      HOFT_UNROLL
      for (int c = 0; c < int(columns); ++c) {
        auto const of_g = load_pair(tile_g + c * slice.stride() + i), of_x = load_pair(tile_x + c * slice.stride() + i);
        a += of_g.first * of_x.first, b += of_g.second * of_x.second;
      }
      dots[i] = a, dots[i + 1] = b;
    });
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
