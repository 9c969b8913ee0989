// hoft/cuda/cluster_backward.hpp: the gradients of Y = Q_U diag(s) (X − K v) by clusters: X, or what X became, and dY
// are read once. Without K and s they are those of Q_U X.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/backward.hpp>
#include <hoft/cuda/slice.hpp>

namespace hoft::cuda {

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
  static_assert(columns == small_gradients<float>::columns);

  matrix_view<float const> U;  ///< [m, ru]
  small_gradients<float> small;
  bool output;                              ///< X is the output: E is summed
  matrix_view<float const> minus_K;         ///< [m, rv] −diag(s) K, or empty
  matrix_view<float const> UK;              ///< [ru, rv] Uᴴ diag(s) (−K)
  vector_view<float const> scale;           ///< s [m], or empty for ones
  strided_matrix<T const> X, G;             ///< [m, n]
  strided_matrix<T> dX;                     ///< [m, n] := diag(s) (G + U dW), or without data
  strided_matrix<float const> W, v;         ///< [ru, n] the forward pass's projections, or without data; [rv, n]
  strided_matrix<float> dv;                 ///< [rv, n] := −Kᴴ dX
  bool apart;                               ///< blocks go by themselves: small, UK, W and dv are not used
  strided_matrix<float const> minus_Z, dW;  ///< [ru, n], if so
  gradient_shape sums;
  float* parts;  ///< of every run
  slice_shape shape{};

  /// What is made of the projections.
  struct made {
    small_gradients<float>::arrays arrays;
    float *v, *dv;  ///< [rv, 16] by rows
    left_tile* dW;
    right_tile *minus_Z_right, *dW_right, *v_right;
    HOFT_HOST_DEVICE made(shared_carver memory, feature_slice const& slice, feature_slice const& right)
        : arrays(memory, slice.rank),
          v(memory.template array<float>(right.rank * columns)),
          dv(memory.template array<float>(right.rank * columns)),
          dW(memory.template array<left_tile>(slice.left_tiles())),
          minus_Z_right(memory.template array<right_tile>(slice.right_tiles())),
          dW_right(memory.template array<right_tile>(slice.right_tiles())),
          v_right(memory.template array<right_tile>(right.right_tiles())),
          bytes(memory.size()) {}
    index_t bytes;
  };
  struct shared {
    float *u, *k, *s, *w;
    std::byte* room;  ///< for the partial sums of projections, and then for what is made of them
    float* partial;
    made of;
    sum_tile *D, *X_dW, *G_v;
    float* dots;
    T *x, *g;
    HOFT_HOST_DEVICE shared(shared_carver& memory, cluster_backward_kernel const& kernel, feature_slice const& slice,
                            feature_slice const& right)
        : u(memory.template array<float>(slice.padded_rank() * slice.stride())),
          k(memory.template array<float>(kernel.apart ? 0 : right.padded_rank() * slice.stride())),
          s(kernel.scale.size > 0 ? memory.template array<float>(slice.rows) : nullptr),
          w(memory.template array<float>(kernel.apart ? 0 : 2 * kernel.step_size(slice, right))),
          room(memory.template array<std::byte>(kernel.room_for(slice, right))),
          partial(reinterpret_cast<float*>(room)),
          of(shared_carver(room), slice, right),
          D(memory.template array<sum_tile>(slice.sum_tiles())),
          X_dW(kernel.sums.apart ? memory.template array<sum_tile>(slice.sum_tiles()) : nullptr),
          G_v(memory.template array<sum_tile>(right.sum_tiles())),
          dots(kernel.sums.dots ? memory.template array<float>(slice.rows) : nullptr),
          x(memory.template array<T>(slice.tile_size())),
          g(memory.template array<T>(slice.tile_size())) {}
  };
  index_t shared_bytes() const {
    shared_carver counter;
    shared(counter, *this, {U.rows, shape.rows, U.cols, 0}, {U.rows, shape.rows, sums.rv, 0});
    return counter.size();
  }
  HOFT_HOST_DEVICE bool projects_X() const { return W.data == nullptr; }
  /// Floats of the projections of a step: of G on U, on −K, of X on U.
  HOFT_HOST_DEVICE static index_t step_size(feature_slice const& slice, feature_slice const& right) {
    return columns * (2 * slice.padded_rank() + right.padded_rank());
  }
  HOFT_HOST_DEVICE index_t room_for(feature_slice const& slice, feature_slice const& right) const {
    index_t const r = slice.padded_rank() > right.padded_rank() ? slice.padded_rank() : right.padded_rank();
    index_t const partial = apart ? 0 : warps * columns * r * index_t(sizeof(float));
    index_t const results = made(shared_carver(), slice, right).bytes;
    return partial > results ? partial : results;
  }

  template <class Cluster>
  HOFT_HOST_DEVICE void operator()(Cluster const& cluster) const {
    index_t const which = cluster.x % shape.slices, run = cluster.x / shape.slices;
    // f(block, slice, its memory) for every block
    auto const members = [&](auto const& f) {
      cluster.members([&](auto const& block, index_t member) {
        index_t const place = which * cluster.size + member;
        feature_slice const slice(U.rows, shape.rows, U.cols, place), right(U.rows, shape.rows, sums.rv, place);
        shared_carver carver(block.memory);
        f(block, slice, right, shared(carver, *this, slice, right));
      });
    };
    index_t const end = (X.cols + columns - 1) / columns, r = U.cols, rv = sums.rv;
    index_t const r16 = (r + 15) / 16 * 16, rv16 = (rv + 15) / 16 * 16;
    gradient_part<float> const part(parts, run, sums);
    auto const fetch = [&](auto const& block, feature_slice const& slice, shared const& s, index_t task) {
      slice.fetch_tile(block, X, task * columns, s.x);
      slice.fetch_tile(block, G, task * columns, s.g);
    };
    members([&](auto const& block, feature_slice const& slice, feature_slice const& right, shared const& s) {
      slice.load_reflectors(block, U, s.u);
      if (!apart) right.load_reflectors(block, minus_K, s.k);
      if (s.s != nullptr) slice.load_vector(block, scale, s.s);
      block.each(slice.sum_tiles(), [&](index_t e) { s.D[e] = {}; });
      if (s.X_dW != nullptr) block.each(slice.sum_tiles(), [&](index_t e) { s.X_dW[e] = {}; });
      block.each(right.sum_tiles(), [&](index_t e) { s.G_v[e] = {}; });
      if (s.dots != nullptr) block.each(slice.rows, [&](index_t i) { s.dots[i] = 0.0f; });
      if (slice.first == 0) block.each(2 * r * r + r * rv, [&](index_t e) { part.dF.data[e] = 0.0f; });
      fetch(block, slice, s, run);
    });
    index_t step = 0;
    for (index_t task = run; task < end; task += shape.runs, ++step) {
      // Others may still read the projections of the step before.
      index_t const on_U = step % 2 * columns * (2 * r16 + rv16), on_K = on_U + columns * r16,
                    of_X = on_K + columns * rv16;
      members([&](auto const& block, feature_slice const& slice, feature_slice const& right, shared const& s) {
        block.fetched();
        if (apart) return;
        slice.project(block, s.u, nullptr, s.g, s.partial, s.w + on_U);
        right.project(block, s.k, nullptr, s.g, s.partial, s.w + on_K);
        if (projects_X()) slice.project(block, s.u, s.s, s.x, s.partial, s.w + of_X);
      });
      cluster.barrier();
      members([&](auto const& block, feature_slice const& slice, feature_slice const& right, shared const& s) {
        auto const& of = s.of.arrays;
        // (k, c) of a projection, whose lines have `stride` elements, summed over the blocks
        auto const total = [&](index_t from, index_t stride, index_t k, index_t c) {
          float sum = 0.0f;
          for (index_t member = 0; member < cluster.size; ++member)
            sum += cluster.of_member(member, block, s.w + from)[c * stride + k];
          return sum;
        };
        block.each(columns * rv, [&](index_t e) {
          auto const [l, c] = divide(e, columns);
          index_t const j = task * columns + c;
          s.of.v[e] = j < X.cols ? *v.at(l, j) : 0.0f;
          if (!apart) s.of.dv[e] = total(on_K, rv16, l, c);
        });
        block.each(columns * r, [&](index_t e) {
          auto const [k, c] = divide(e, columns);
          index_t const j = task * columns + c;
          bool const inside = j < X.cols;
          if (apart) {
            of.dW[e] = inside ? *dW.at(k, j) : 0.0f;
            if (minus_Z.data != nullptr) of.minus_Z[e] = inside ? *minus_Z.at(k, j) : 0.0f;
            return;
          }
          of.P[e] = total(on_U, r16, k, c);
          if (projects_X()) {
            float x = total(of_X, r16, k, c);
            for (index_t l = 0; l < rv; ++l) x += UK(k, l) * s.of.v[l * columns + c];
            of.UX[e] = x;
          } else {
            of.UX[e] = inside ? *W.at(k, j) : 0.0f;
          }
        });
        if (!apart) {
          small.form(block, of);
          block.each(columns * rv, [&](index_t e) {
            auto const [l, c] = divide(e, columns);
            float total_dv = s.of.dv[e];
            for (index_t k = 0; k < r; ++k) total_dv += UK(k, l) * of.dW[k * columns + c];
            index_t const j = task * columns + c;
            if (slice.first == 0 && j < X.cols) *dv.at(l, j) = total_dv;
          });
          if (slice.first == 0) {
            small.add(block, of, output, part.dF, part.E);
            block.each(r * rv, [&](index_t e) {
              auto const [l, k] = divide(e, r);
              float j = part.J(k, l);
              for (index_t c = 0; c < columns; ++c) j += of.dW[k * columns + c] * s.of.v[l * columns + c];
              part.J(k, l) = j;
            });
          }
        }
        if (s.dots != nullptr)
          block.each(slice.rows, [&](index_t i) {
            float d = s.dots[i];
            for (index_t c = 0; c < columns; ++c)
              d += static_cast<float>(s.g[c * slice.stride() + i]) * static_cast<float>(s.x[c * slice.stride() + i]);
            s.dots[i] = d;
          });
        auto const small_dW = [&](index_t k, index_t c) { return of.dW[k * columns + c]; };
        slice.split_left(block, small_dW, s.of.dW);
        slice.split_right(block, small_dW, s.of.dW_right);
        outer_term<T> const of_X_dW{s.x, s.of.dW_right};
        if (!apart || minus_Z.data != nullptr) {
          slice.split_right(
              block, [&](index_t k, index_t c) { return of.minus_Z[k * columns + c]; }, s.of.minus_Z_right);
          outer_term<T> const of_G_Z{s.g, s.of.minus_Z_right};
          if (s.X_dW == nullptr) {
            slice.outer(block, s.D, of_G_Z, of_X_dW);
          } else {
            slice.outer(block, s.D, of_G_Z);
            slice.outer(block, s.X_dW, of_X_dW);
          }
        } else {
          slice.outer(block, s.D, of_X_dW);
        }
        right.split_right(
            block, [&](index_t l, index_t c) { return s.of.v[l * columns + c]; }, s.of.v_right);
        right.outer(block, s.G_v, outer_term<T>{s.g, s.of.v_right});
        if (dX.data != nullptr) {
          slice.combine(block, {s.u, s.of.dW, slice.groups()}, s.s, {}, s.g, static_cast<T*>(nullptr));
          slice.store_tile(block, s.g, dX, task * columns);
        }
        if (task + shape.runs < end) fetch(block, slice, s, task + shape.runs);
      });
    }
    members([&](auto const& block, feature_slice const& slice, feature_slice const& right, shared const& s) {
      slice.each_sum(block, s.D, [&](index_t i, index_t k, float d) { part.D(slice.first + i, k) = d; });
      if (s.X_dW != nullptr)
        slice.each_sum(block, s.X_dW, [&](index_t i, index_t k, float d) { part.X_dW(slice.first + i, k) = d; });
      right.each_sum(block, s.G_v, [&](index_t i, index_t l, float d) { part.G_v(slice.first + i, l) = d; });
      if (s.dots != nullptr)
        block.each(slice.rows, [&](index_t i) {
          if (i < slice.height) part.dots[slice.first + i] = s.dots[i];
        });
    });
    cluster.barrier();  // nobody leaves while others read its memory
  }
};

}  // namespace hoft::cuda
