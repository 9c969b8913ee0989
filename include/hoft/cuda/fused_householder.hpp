// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/fused_householder.hpp: accumulate, apply and its gradients as one kernel each, where that takes them.
#pragma once
#include <hoft/cuda/kernel/accumulate.hpp>
#include <hoft/cuda/kernel/apply.hpp>
#include <hoft/cuda/kernel/backward.hpp>
#include <hoft/cuda/kernel/cluster_adapt.hpp>
#include <hoft/cuda/kernel/cluster_backward.hpp>
#include <hoft/cuda/kernel/shapes.hpp>
#include <hoft/memory/arena.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <span>

namespace HOFT_CUDA_NAMESPACE {

/// The exact forms Q[i] of U[i], a launch for each run of problems of one shape; false, and nothing done, if a block
/// cannot share as much memory as one of them takes, or one has 2³⁰ elements. The same problem gets the same bits alone
/// and in any batch.
template <device_policy Device, class TU, class LU, class Form>
bool accumulate_in_one_launch(Device const& device, std::span<matrix_view<TU, LU> const> U, std::span<Form> Q) {
  using T = typename Form::value_type;
  constexpr int few = 8, many = 640;  // what the arguments of a kernel have room for: 32 KB, 4 KB before driver 530
  using kernel_for_few = accumulate_kernel<TU, LU, T, few>;
  constexpr index_t most_elements = (std::numeric_limits<int>::max)() / 2;  // its indices, and one step beyond, are int
  for (std::size_t i = 0; i < U.size(); ++i)
    if (kernel_for_few::bytes_for(U[i].cols, Q[i].block, 0) > device.shared_limit ||
        U[i].rows > most_elements / std::max<index_t>(U[i].cols, 1))
      return false;
  auto const run = [&]<int Most>(std::size_t first, std::size_t count) {
    auto const& u = U[first];
    auto const& q = Q[first];
    cluster_shape shape = shape_clusters(device, u.rows, threads, [&](cluster_shape const& s) {
      return kernel_for_few::bytes_for(u.cols, q.block, s.rows);
    });
    accumulate_kernel<TU, LU, T, Most> kernel{};
    kernel.m = u.rows, kernel.r = u.cols, kernel.block_size = q.block;
    kernel.keeps_slice = shape.blocks > 0;
    if (!kernel.keeps_slice) {
      index_t const size = std::max<index_t>(1, device.most_cluster);
      shape = {size, threads, slice_rows(u.rows, size), 0, std::max<index_t>(1, 2 * device.clusters(size))};
    }
    kernel.rows = shape.rows;
    kernel.ld_U = u.ld, kernel.ld_vectors = q.vectors.ld, kernel.ld_factor = q.factor.ld, kernel.ld_gram = q.gram.ld,
    kernel.ld_scales = q.scales.ld;
    kernel.count = index_t(count);
    for (std::size_t i = 0; i < count; ++i) {
      auto const& p = Q[first + i];
      kernel.problems[i] = {U[first + i].data, p.vectors.data, p.factor.data, p.gram.data, p.tau.data, p.scales.data};
    }
    launch_clusters(device, evenly(index_t(count), shape.clusters), {shape.blocks}, kernel);
  };
  auto const alike = [&](std::size_t i, std::size_t j) {
    auto const &a = Q[i], &b = Q[j];
    return U[i].rows == U[j].rows && U[i].cols == U[j].cols && U[i].ld == U[j].ld && a.block == b.block &&
           a.vectors.ld == b.vectors.ld && a.factor.ld == b.factor.ld && a.gram.ld == b.gram.ld &&
           a.scales.ld == b.scales.ld;
  };
  for (std::size_t first = 0; first < U.size();) {
    std::size_t count = 1;
    while (count < many && first + count < U.size() && alike(first, first + count)) ++count;
    if (U[first].cols > 0) {
      if (count <= few) run.template operator()<few>(first, count);
      else run.template operator()<many>(first, count);
    }
    first += count;
  }
  return true;
}

/// Y := X − U op(F) UᴴX in one pass over X, and W := UᴴX if it has a place; false if there are too many reflectors.
template <device_policy Device, class A, class T, class L>
bool apply_in_one_pass(Device const& device, matrix_view<A const> U, matrix_view<A const> F, op o,
                       matrix_view<T const, L> X, matrix_view<T, L> Y, matrix_view<A> W) {
  using kernel_type = apply_kernel<T, L, A>;
  if (X.empty() || U.cols == 0 || U.cols > kernel_type::most_reflectors) return false;
  if constexpr (std::same_as<A, float>) {
    cluster_adapt_kernel<T> kernel{};
    kernel.U = U, kernel.F = F, kernel.adjoint = o == op::adjoint, kernel.X = X, kernel.Y = Y;
    if (!W.empty()) kernel.W = W;
    kernel.shape = shape_whole(device, U.rows, X.cols, kernel);
    if (kernel.shape.size > 0) {
      launch_slices(device, kernel);
      return true;
    }
  }
  kernel_type kernel{U, F, o == op::adjoint, X, Y, W, true};
  if (kernel.shared_bytes() > device.shared_limit) kernel.keeps_columns = false;
  if (kernel.shared_bytes() > device.shared_limit) return false;
  launch(device, kernel.tasks(), kernel);
  return true;
}

/// Blocks of backward_in_one_pass: few, since each has a sum of its own, and all sums should stay in the second-level
/// cache. 0 where that leaves most of a device idle.
template <device_policy Device>
index_t backward_blocks(Device const& device, index_t columns, index_t part_bytes) {
  constexpr index_t at_a_time = 16;
  index_t const wanted =
      (std::min)((columns + at_a_time - 1) / at_a_time, std::max<index_t>(1, device.most_blocks / 8));
  index_t const fit = device.tuned.sums_bytes / std::max<index_t>(part_bytes, 1);
  return 2 * fit < wanted ? 0 : (std::min)(wanted, fit);
}
/// How backward_in_one_pass goes about it.
struct backward_plan {
  index_t parts = 0;    ///< that are summed apart: blocks, or clusters; 0: not in one pass
  slice_shape shape{};  ///< its size is 0 for blocks
};
/// Of Q X for Q of rank r, as far as its memory depends on them.
template <class T>
cluster_backward_kernel<T> apply_backward_kernel(index_t m, index_t r) {
  cluster_backward_kernel<T> kernel{};
  kernel.U = {nullptr, m, r};
  kernel.sums = {m, r};
  kernel.projects_X = true;
  return kernel;
}
template <class T, class L, device_policy Device>
backward_plan plan_backward(Device const& device, index_t m, index_t n, index_t r) {
  using A = accumulator_t<T>;
  if (r == 0 || m == 0 || n == 0 || r > backward_kernel<T, L, A>::most_reflectors) return {};
  if constexpr (std::same_as<A, float>) {
    slice_shape const shape = shape_whole(device, m, n, apply_backward_kernel<T>(m, r));
    if (shape.size > 0) return {shape.runs, shape};
  }
  return {backward_blocks(device, n, gradient_shape{m, r}.size() * index_t(sizeof(A)))};
}
/// Elements of scratch for backward_in_one_pass.
template <class T, class L, device_policy Device>
index_t backward_scratch(Device const& device, index_t m, index_t n, index_t r) {
  return plan_backward<T, L>(device, m, n, r).parts * gradient_shape{m, r}.size();
}
/// dX := op(Q)ᴴ G, and the sums D, dF and E over all columns in `sums`, in one pass over X and G, for a Q of one factor
/// `q`; false if that has too many reflectors. dX may be G.
template <device_policy Device, class Factor, class T, class L, class Sums, class A>
bool backward_in_one_pass(Device const& device, Factor const& q, op o, bool from_output, matrix_view<T const, L> X,
                          matrix_view<T const, L> G, matrix_view<T, L> dX, Sums const& sums, A* scratch) {
  index_t const m = X.rows, r = q.rank;
  backward_plan const plan = plan_backward<T, L>(device, m, X.cols, r);
  if (plan.parts == 0) return false;
  small_gradients<A> const small_part{q.T, q.gram, q.tau, o, from_output};
  if (plan.shape.size == 0) {
    backward_kernel<T, L, A> const kernel{q.U, small_part, X, G, dX, scratch};
    if (kernel.shared_bytes() > device.shared_limit) return false;
    launch(device, plan.parts, kernel);
  } else if constexpr (std::same_as<A, float>) {
    auto kernel = apply_backward_kernel<T>(m, r);
    kernel.U = q.U, kernel.small_part = small_part, kernel.output = from_output;
    kernel.X = X, kernel.G = G, kernel.dX = dX, kernel.parts = scratch, kernel.shape = plan.shape;
    launch_slices(device, kernel);
  }
  gradient_shape const size{m, r};
  gradient_part<A> const first(scratch, 0, size);
  add_parts(device, first.D, size.size(), plan.parts, sums.D);
  add_parts(device, first.dF, size.size(), plan.parts, sums.dF.block(0, 0, r, r));
  add_parts(device, first.E, size.size(), plan.parts, sums.E.block(0, 0, r, r));
  return true;
}

/// apply as one pass where a kernel takes it, else by panels.
template <class Panels>
struct fused_apply : Panels {
  using Panels::Panels;
  using policy_type = typename Panels::policy_type;
  using A = typename Panels::accumulator;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;

  template <class Form>
  void run(policy_type const& device, Form const& Q, op o, matrix_view<T const, L> X, matrix_view<T, L> Y,
           matrix_view<A> W, matrix_view<T const, L> after) const {
    if (Q.blocks() == 1) {
      auto const q = Q.at(0);
      if (apply_in_one_pass(device, q.U, q.T, o, X, Y, W)) return;
    }
    Panels::run(device, Q, o, X, Y, W, after);
  }
};

/// Its gradients likewise.
template <class Panels>
struct fused_apply_backward : Panels {
  using policy_type = typename Panels::policy_type;
  using A = typename Panels::accumulator;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;

  A* sums_of_blocks;
  fused_apply_backward(arena& memory, policy_type const& device, index_t m, index_t n, index_t r, index_t block)
      : Panels(memory, device, m, n, r, block),
        sums_of_blocks(memory.array<A>(r <= block ? backward_scratch<T, L>(device, m, n, r) : 0)) {}

  template <class Form, class Known, class Sums>
  void run(policy_type const& device, Form const& Q, op o, Known from, matrix_view<T const, L> X,
           matrix_view<A const> W, matrix_view<T const, L> dY, matrix_view<T, L> dX, Sums const& sums) const {
    if (Q.blocks() == 1 && from != Known::output_and_projections &&
        backward_in_one_pass(device, Q.at(0), o, from == Known::output, X, dY, dX, sums, sums_of_blocks))
      return;
    Panels::run(device, Q, o, from, X, W, dY, dX, sums);
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
