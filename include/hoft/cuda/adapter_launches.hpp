// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/adapter_launches.hpp: the passes of HOFT and SHOFT over matrices as they are stored, in float or 16 bits:
// the memory that each takes, and its launches.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/kernel/cluster_project.hpp>
#include <hoft/cuda/fused_householder.hpp>
#include <hoft/cuda/product.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// T is stored as these kernels take it.
template <class T>
concept sliced = (std::same_as<accumulator_t<T>, float>);

// --- W = Uᴴ diag(s) X -------------------------------------------------------------------------------------------

/// A kernel as far as its memory depends on these; so are the other ..._probe.
template <sliced T>
cluster_project_kernel<T> project_probe(index_t m, index_t r, bool scaled) {
  cluster_project_kernel<T> kernel{};
  kernel.U = {nullptr, m, r};
  if (scaled) kernel.scale = {nullptr, m};
  return kernel;
}
/// Scratch of project_stored for X [m, n] and r reflectors.
template <sliced T>
struct project_room {
  slice_shape shape{};
  index_t width = 0;  ///< columns of a turn
  float* parts = nullptr;
  project_room() = default;
  template <device_policy Device>
  project_room(Device const& device, arena& memory, index_t m, index_t r, index_t n, bool scaled = false) {
    if (m == 0 || r == 0 || n == 0) return;
    auto const kernel = project_probe<T>(m, r, scaled);
    shape = shape_whole(device, m, n, kernel);
    // Every slice leaves a part of W, which should be smaller than the slice, and all parts of a turn than a cache.
    if (shape.size == 0) shape = shape_apart(device, m, n, 2 * r, device.tuned.most_rows_projecting, kernel);
    index_t const columns = feature_slice::columns, for_parts = device.processors() * device.tuned.parts_bytes,
                  fit = for_parts / index_t(sizeof(float)) / std::max<index_t>(shape.slices * r, 1) / columns * columns;
    width = shape.slices > 1 ? (std::min)(n, (std::max)(columns, fit)) : n;
    if (shape.slices > 1) parts = memory.array<float>(shape.slices * r * width);
  }
};
/// W [r, n] := Uᴴ diag(s) X, U [m, r], X [m, n]; s without data is ones.
template <device_policy Device, sliced T, class L, class LW>
void project_stored(Device const& device, project_room<T> const& room, matrix_view<float const> U,
                    vector_view<float const> s, matrix_view<T const, L> X, matrix_view<float, LW> W) {
  if (W.empty()) return;
  if (X.rows == 0) return ops<Device>::fill(device, 0.0f, W);
  for (index_t j = 0; j < X.cols; j += room.width) {
    auto const x = X.columns(j, (std::min)(room.width, X.cols - j));
    auto const w = W.columns(j, x.cols);
    cluster_project_kernel<T> kernel{U, s, x, room.parts, w, room.shape};
    kernel.shape.runs = (std::min)(kernel.shape.runs, (x.cols + kernel.columns - 1) / kernel.columns);
    launch_slices(device, kernel);
    if (room.shape.slices > 1)
      add_parts(device, matrix_view<float>(room.parts, w.rows, w.cols), w.rows * w.cols, room.shape.slices, w);
  }
}

// --- Y = Q_U diag(s) (X − K v) ----------------------------------------------------------------------------------

template <sliced T, class Adapter>
cluster_adapt_kernel<T> adapt_probe(Adapter const& a, bool keeps_q, bool apart) {
  cluster_adapt_kernel<T> kernel{};
  kernel.U = {nullptr, a.rows(), a.left.rank()};
  kernel.minus_K = {nullptr, a.rows(), a.right.rank()};
  kernel.scale = {nullptr, a.scaled() ? a.rows() : 0};
  kernel.saves_q = keeps_q;
  kernel.apart = apart;
  return kernel;
}
/// Scratch of adapt_stored for X of n columns.
template <sliced T>
struct adapt_room {
  slice_shape shape{};
  bool apart = false;  ///< slices go by themselves
  project_room<T> projecting{};
  matrix_view<float> projections{}, minus_Z{};  ///< [ru, n] if they do
  template <device_policy Device, class Adapter>
  adapt_room(Device const& device, arena& memory, Adapter const& a, index_t n, bool keeps_q) {
    index_t const m = a.rows(), ru = a.left.rank();
    if (m == 0 || n == 0) return;
    shape = shape_whole(device, m, n, adapt_probe<T>(a, keeps_q, false));
    apart = shape.size == 0;
    if (!apart) return;
    shape = shape_slices(device, m, n, adapt_probe<T>(a, keeps_q, true));
    projecting = project_room<T>(device, memory, m, ru, n, a.scaled());
    projections = memory.matrix<float>(ru, n);
    minus_Z = memory.matrix<float>(ru, n);
  }
};
/// Y [m, n] := Q_U diag(s) (X − K v), v [rv, n]; W [ru, n] := Uᴴ diag(s) (X − K v) and q [m, n] := X − K v if they have
/// data. X is read once, or twice where a cluster cannot hold its features; Y may be X.
template <device_policy Device, sliced T, class Layer, class L, class LV>
void adapt_stored(Device const& device, adapt_room<T> const& room, Layer const& layer, matrix_view<float const, LV> v,
                  matrix_view<T const, L> X, matrix_view<T, L> Y, matrix_view<float, L> W, matrix_view<T, L> q) {
  if (X.empty()) return ops<Device>::fill(device, 0.0f, W);  // sums over no features
  auto const& a = layer.adapter;
  cluster_adapt_kernel<T> kernel{};
  kernel.U = a.left.vectors;
  if (a.left.rank() > 0) kernel.F = a.left.at(0).T;
  kernel.minus_K = layer.minus_K, kernel.UK = layer.minus_UK, kernel.scale = a.scale;
  kernel.v = v, kernel.X = X, kernel.Y = Y, kernel.apart = room.apart, kernel.shape = room.shape;
  if (!W.empty()) kernel.W = W;
  kernel.q = q, kernel.saves_q = !q.empty();
  if (room.apart) {
    project_stored(device, room.projecting, a.left.vectors, a.scale, X, room.projections);
    ops<Device>::update(device, 1.0f, layer.minus_UK, v, room.projections, room.projections);
    if (!W.empty()) ops<Device>::copy(device, room.projections, W);
    if (a.left.rank() > 0) ops<Device>::multiply(device, -1.0f, kernel.F, op::plain, room.projections, room.minus_Z);
    kernel.minus_Z = room.minus_Z;
  }
  launch_slices(device, kernel);
}

// --- and its gradients ------------------------------------------------------------------------------------------

template <class Adapter>
gradient_shape sums_of(Adapter const& a, saved_quantity what) {
  return {a.rows(), a.left.rank(), a.right.rank(), a.scaled() || what == saved_quantity::base, a.scaled()};
}
template <sliced T, class Adapter>
cluster_backward_kernel<T> backward_probe(Adapter const& a, saved_quantity what, bool apart) {
  cluster_backward_kernel<T> kernel{};
  kernel.U = {nullptr, a.rows(), a.left.rank()};
  kernel.sums = sums_of(a, what);
  kernel.scale = {nullptr, a.scaled() ? a.rows() : 0};
  kernel.projects_X = what == saved_quantity::base;
  kernel.apart = apart;
  return kernel;
}
/// Scratch of adapt_backward_stored for n columns.
template <sliced T>
struct adapt_backward_room {
  saved_quantity what;
  gradient_shape sums;
  gradient_part<float> total;  ///< of all runs
  float* parts = nullptr;      ///< of each run
  slice_shape shape{};
  bool apart = false;  ///< slices go by themselves
  project_room<T> projecting_G{}, projecting_X{};
  matrix_view<float> both{}, projections_G{};           ///< [U, −diag(s) K] [m, ru + rv] and its adjoint times G
  matrix_view<float> projections_X{}, minus_Z{}, dW{};  ///< [ru, n] each
  template <device_policy Device, class Adapter>
  adapt_backward_room(Device const& device, arena& memory, Adapter const& a, index_t n, saved_quantity what_)
      : what(what_), sums(sums_of(a, what_)), total(memory.array<float>(sums.size()), 0, sums) {
    index_t const m = a.rows(), ru = sums.ru, rv = sums.rv;
    if (m == 0 || n == 0) return;
    shape = shape_whole(device, m, n, backward_probe<T>(a, what, false));
    apart = shape.size == 0;
    if (apart) {
      shape = shape_slices(device, m, n, backward_probe<T>(a, what, true));
      both = memory.matrix<float>(m, ru + rv);
      projecting_G = project_room<T>(device, memory, m, ru + rv, n);
      projections_G = memory.matrix<float>(ru + rv, n);
      if (what == saved_quantity::base) {
        projecting_X = project_room<T>(device, memory, m, ru, n, a.scaled());
        projections_X = memory.matrix<float>(ru, n);
      }
      minus_Z = memory.matrix<float>(ru, n);
      dW = memory.matrix<float>(ru, n);
    }
    parts = memory.array<float>(shape.runs * sums.size());
  }
};
/// H(i, l) = Σ (G + U dW)(i, c) v(l, c).
struct adapted_sum {
  matrix_view<float const> U;
  gradient_part<float> part;
  HOFT_HOST_DEVICE float operator()(index_t i, index_t l) const {
    float h = part.G_v(i, l);
    for (index_t k = 0; k < U.cols; ++k) h += U(i, k) * part.J(k, l);
    return h;
  }
};
/// From the sums over columns to those of the gradients, which they are added to, or put into.
template <device_policy Device, class Layer, class Sums>
void finish_sums(Device const& device, Layer const& layer, saved_quantity what, gradient_part<float> const& part,
                 Sums const& sums, bool adds) {
  auto const& a = layer.adapter;
  index_t const ru = a.left.rank(), rv = a.right.rank();
  matrix_view<float const> const U = a.left.vectors, K = layer.minus_K;
  vector_view<float const> const s = a.scale;
  adapted_sum const H{U, part};
  auto const minus_dK = sums.minus_dK;
  ops<Device>::for_each_element(device, minus_dK, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t l) {
    float const d = s.size > 0 ? s[i] * H(i, l) : H(i, l);
    minus_dK(i, l) = adds ? minus_dK(i, l) + d : d;
  });
  if (ru > 0) {
    auto const D = sums.left.D, dF = sums.left.dF, E = sums.left.E;
    ops<Device>::for_each_element(device, dF.block(0, 0, ru, ru), [=] HOFT_KERNEL_LAMBDA(index_t k, index_t l) {
      dF(k, l) = adds ? dF(k, l) + part.dF(k, l) : part.dF(k, l);
      E(k, l) = adds ? E(k, l) + part.E(k, l) : part.E(k, l);
    });
    ops<Device>::for_each_element(device, D, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t k) {
      float d = part.D(i, k);
      if (part.X_dW.cols > 0) {
        float x = part.X_dW(i, k);
        if (what == saved_quantity::base)
          for (index_t l = 0; l < rv; ++l) x += K(i, l) * part.J(k, l);  // Σ (−K v) dWᴴ
        d += what == saved_quantity::y || s.size == 0 ? x : s[i] * x;
      }
      D(i, k) = adds ? D(i, k) + d : d;
    });
  }
  auto const ds = sums.ds;
  if (ds.size == 0) return;
  ops<Device>::for_each_element(device, matrix_view<float>(ds.data, ds.size, 1),
                                [=] HOFT_KERNEL_LAMBDA(index_t i, index_t) {
                                  float d = part.dots[i];  // Σ (G + U dW)(i, c) q(i, c)
                                  for (index_t k = 0; k < ru; ++k) d += U(i, k) * part.X_dW(i, k);
                                  if (what == saved_quantity::base)
                                    for (index_t l = 0; l < rv; ++l) d += K(i, l) * H(i, l);
                                  if (what == saved_quantity::y) {  // q = (Y + U Z) / s
                                    for (index_t k = 0; k < ru; ++k) {
                                      float z = -part.D(i, k);
                                      for (index_t l = 0; l < ru; ++l) z += U(i, l) * part.E(k, l);
                                      d += U(i, k) * z;
                                    }
                                    d /= s[i];
                                  }
                                  ds[i] = adds ? ds[i] + d : d;
                                });
}
/// The gradients of adapt_stored from G = ∂L/∂Y [m, n] and X [m, n], which room.what tells: dX [m, n] := diag(s) Q_Uᴴ
/// G, if it has data, may be G; dv [rv, n] := −Kᴴ dX. The sums over columns are added to `sums`, or put there where
/// `adds` is false: of the left side (D, dF, E), −∂L/∂K and ds. W [ru, n] is what the forward pass saved; not read if X
/// is the base. Nothing is rounded to T before it is summed.
template <device_policy Device, sliced T, class Layer, class L, class LW, class LV, class LD, class Sums>
void adapt_backward_stored(Device const& device, adapt_backward_room<T> const& room, Layer const& layer,
                           matrix_view<float const, LW> W, matrix_view<float const, LV> v, matrix_view<T const, L> X,
                           matrix_view<T const, L> G, matrix_view<T, L> dX, matrix_view<float, LD> dv, Sums const& sums,
                           bool adds) {
  auto const& a = layer.adapter;
  index_t const ru = room.sums.ru, rv = room.sums.rv, size = room.sums.size();
  auto const& part = room.total;
  matrix_view<float const> const U = a.left.vectors;
  if (X.empty()) {
    ops<Device>::fill(device, 0.0f, matrix_view<float>(part.dF.data, size, 1));
    ops<Device>::fill(device, 0.0f, dv);
  } else {
    matrix_view<float const> const minus_K = layer.minus_scaled_K;
    auto kernel = backward_probe<T>(a, room.what, room.apart);
    kernel.U = U;
    if (ru > 0) kernel.small_part = {a.left.at(0).T, {}, {}, op::plain, false};
    kernel.output = room.what == saved_quantity::y;
    kernel.minus_K = minus_K, kernel.UK = layer.minus_UK, kernel.scale = a.scale;
    kernel.X = X, kernel.G = G, kernel.v = v, kernel.dv = dv;
    kernel.sums = room.sums, kernel.parts = room.parts, kernel.shape = room.shape;
    if (!dX.empty()) kernel.dX = dX;
    if (room.what != saved_quantity::base && ru > 0) kernel.W = W;
    matrix_view<float> const minus_Z = room.minus_Z, dW = room.dW;
    if (room.apart) {
      ops<Device>::copy(device, U, room.both.columns(0, ru));
      ops<Device>::copy(device, minus_K, room.both.columns(ru, rv));
      project_stored(device, room.projecting_G, matrix_view<float const>(room.both), {}, G, room.projections_G);
      if (ru > 0)
        ops<Device>::multiply(device, -1.0f, kernel.small_part.F, op::adjoint,
                              room.projections_G.block(0, 0, ru, X.cols), dW);
      ops<Device>::copy(device, room.projections_G.block(ru, 0, rv, X.cols), dv);
      ops<Device>::update(device, 1.0f, layer.minus_UK.transposed(), dW, dv, dv);
      kernel.minus_Z = minus_Z, kernel.dW = dW;
    }
    // −Z from the projections of X before the launch, the sums that are made of projections behind it.
    auto const around = [&](auto projections_X) {
      if (room.apart && ru > 0)
        ops<Device>::multiply(device, -1.0f, kernel.small_part.F, op::plain, projections_X, minus_Z);
      launch_slices(device, kernel);
      add_parts(device, matrix_view<float>(room.parts, size, 1), size, room.shape.runs,
                matrix_view<float>(part.dF.data, size, 1));
      if (!room.apart || ru == 0) return;
      ops<Device>::outer(device, -1.0f, room.projections_G.block(0, 0, ru, X.cols), projections_X, part.dF);
      if (kernel.output) ops<Device>::outer(device, -1.0f, minus_Z, dW, part.E);
      ops<Device>::outer(device, 1.0f, dW, v, part.J);
    };
    if (room.apart && room.what == saved_quantity::base) {
      project_stored(device, room.projecting_X, U, a.scale, X, room.projections_X);
      ops<Device>::update(device, 1.0f, layer.minus_UK, v, room.projections_X, room.projections_X);
      around(matrix_view<float const>(room.projections_X));
    } else {
      around(W);
    }
  }
  finish_sums(device, layer, room.what, part, sums, adds);
}

// --- X + V P and X Pᴴ -------------------------------------------------------------------------------------------

template <sliced T>
cluster_backward_kernel<T> update_probe(index_t m, index_t r) {
  cluster_backward_kernel<T> kernel{};
  kernel.U = {nullptr, m, r};
  kernel.sums = {m, r};
  kernel.projects_X = kernel.apart = true;
  return kernel;
}
/// Scratch of update_stored for X [m, n] and r reflectors.
template <sliced T>
struct update_room {
  slice_shape shape{};
  float* parts = nullptr;
  template <device_policy Device>
  update_room(Device const& device, arena& memory, index_t m, index_t r, index_t n) {
    if (m == 0 || r == 0 || n == 0) return;
    shape = shape_slices(device, m, n, update_probe<T>(m, r));
    parts = memory.array<float>(shape.runs * gradient_shape{m, r}.size());
  }
};
/// dX [m, n] += V P and D [m, r] += X Pᴴ in one pass over X and dX; V [m, r], P [r, n].
template <device_policy Device, sliced T, class L, class LP>
void update_stored(Device const& device, update_room<T> const& room, matrix_view<float const> V,
                   matrix_view<float const, LP> P, matrix_view<T const, L> X, matrix_view<T, L> dX,
                   matrix_view<float> D) {
  if (X.empty() || P.rows == 0) return;
  auto kernel = update_probe<T>(V.rows, V.cols);
  kernel.U = V, kernel.dW = P;
  kernel.X = X, kernel.G = dX, kernel.dX = dX;
  kernel.parts = room.parts, kernel.shape = room.shape;
  launch_slices(device, kernel);
  add_parts(device, gradient_part<float>(room.parts, 0, kernel.sums).D, kernel.sums.size(), room.shape.runs, D, true);
}

}  // namespace HOFT_CUDA_NAMESPACE
