// hoft/cuda/one_launch.hpp: algorithms that are one kernel. wy/ asks for them first, and goes on with the primitives
// where they answer false.
#pragma once
#include <hoft/cuda/accumulate.hpp>
#include <hoft/cuda/apply.hpp>
#include <hoft/cuda/backward.hpp>
#include <hoft/cuda/cluster_apply.hpp>
#include <hoft/cuda/cluster_backward.hpp>
#include <hoft/cuda/elements.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace hoft::cuda {

/// How clusters share m features.
struct cluster_shape {
  index_t size = 0;      ///< blocks of one; 0: no shape fits
  index_t rows = 0;      ///< features of each block
  index_t buffers = 0;   ///< of columns that are fetched
  index_t clusters = 0;  ///< that the device runs at a time
};
/// Features of each block of a cluster that shares m of them.
inline index_t slice_rows(index_t m, index_t size) {
  constexpr index_t strip = 32;
  return ((m + size - 1) / size + strip - 1) / strip * strip;
}
/// The smallest clusters of which a processor holds two blocks, if that can be, better with two buffers than with one.
/// bytes(rows, buffers): what a block shares.
template <device_policy Device, class Bytes>
cluster_shape shape_clusters(Device const& device, index_t m, Bytes const& bytes) {
  constexpr index_t reserved = 1024;  // of each block, by the system, beside what it may ask for
  for (index_t blocks : {2, 1})
    for (index_t buffers : {2, 1})
      for (index_t size = 1; size <= device.most_cluster; size *= 2) {
        index_t const rows = slice_rows(m, size), shared = bytes(rows, buffers);
        if ((shared + reserved) * blocks > device.shared_limit + reserved) continue;
        return {size, rows, buffers, std::max<index_t>(1, device.processors() * blocks / size)};
      }
  return {};
}

/// As few clusters as take no more rounds than `most` would: not all processors can be in one.
inline index_t evenly(index_t tasks, index_t most) {
  index_t const rounds = (tasks + most - 1) / most;
  return (tasks + rounds - 1) / rounds;
}

/// The exact forms Q[i] of U[i], a launch for each run of problems of one shape; false, and nothing done, if a block
/// cannot share as much memory as one of them takes, or one has 2³² elements. The same problem gets the same bits alone
/// and in any batch.
template <device_policy Device, class TU, class LU, class Form>
bool accumulate_in_one_launch(Device const& device, std::span<matrix_view<TU, LU> const> U, std::span<Form> Q) {
  using T = typename Form::value_type;
  constexpr int few = 8, many = 640;  // what the arguments of a kernel have room for: 32 KB, 4 KB before driver 530
  using kernel_for_few = accumulate_kernel<TU, LU, T, few>;
  constexpr index_t most_elements = std::numeric_limits<std::uint32_t>::max();  // what `divide` takes
  for (std::size_t i = 0; i < U.size(); ++i)
    if (kernel_for_few::bytes_for(U[i].cols, Q[i].block, 0) > device.shared_limit ||
        U[i].rows > most_elements / std::max<index_t>(U[i].cols, 1))
      return false;
  auto const run = [&]<int Most>(std::size_t first, std::size_t count) {
    auto const& u = U[first];
    auto const& q = Q[first];
    cluster_shape shape = shape_clusters(
        device, u.rows, [&](index_t rows, index_t) { return kernel_for_few::bytes_for(u.cols, q.block, rows); });
    accumulate_kernel<TU, LU, T, Most> kernel{};
    kernel.m = u.rows, kernel.r = u.cols, kernel.block_size = q.block;
    kernel.keeps_slice = shape.size > 0;
    if (!kernel.keeps_slice) {
      index_t const size = std::max<index_t>(1, device.most_cluster);
      shape = {size, slice_rows(u.rows, size), 0, std::max<index_t>(1, 2 * device.processors() / size)};
    }
    kernel.rows = shape.rows;
    kernel.ld_U = u.ld, kernel.ld_vectors = q.vectors.ld, kernel.ld_factor = q.factor.ld, kernel.ld_gram = q.gram.ld,
    kernel.ld_scales = q.scales.ld;
    kernel.count = index_t(count);
    for (std::size_t i = 0; i < count; ++i) {
      auto const& p = Q[first + i];
      kernel.problems[i] = {U[first + i].data, p.vectors.data, p.factor.data, p.gram.data, p.tau.data, p.scales.data};
    }
    launch_clusters(device, evenly(index_t(count), shape.clusters), shape.size, kernel);
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
    cluster_apply_kernel<T> kernel{U, F, o == op::adjoint, X, Y, W};
    cluster_shape const shape = shape_clusters(device, U.rows, [&](index_t rows, index_t buffers) {
      kernel.rows = rows, kernel.buffers = buffers;
      return kernel.shared_bytes();
    });
    if (shape.size > 0) {
      kernel.rows = shape.rows, kernel.buffers = shape.buffers;
      launch_clusters(device, evenly(kernel.tasks(), shape.clusters), shape.size, kernel);
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
  constexpr index_t cache = index_t{40} << 20, at_a_time = 16;
  index_t const wanted = std::min((columns + at_a_time - 1) / at_a_time, std::max<index_t>(1, device.most_blocks / 8));
  index_t const fit = cache / std::max<index_t>(part_bytes, 1);
  return 2 * fit < wanted ? 0 : std::min(wanted, fit);
}
/// How backward_in_one_pass goes about it.
struct backward_plan {
  index_t parts = 0;      ///< that are summed apart: blocks, or clusters; 0: not in one pass
  cluster_shape shape{};  ///< its size is 0 for blocks
};
template <class T, class L, device_policy Device>
backward_plan plan_backward(Device const& device, index_t m, index_t n, index_t r) {
  using A = accumulator_t<T>;
  if (r == 0 || m == 0 || n == 0 || r > backward_kernel<T, L, A>::most_reflectors) return {};
  if constexpr (std::same_as<A, float>) {
    using kernel = cluster_backward_kernel<T>;
    cluster_shape const shape =
        shape_clusters(device, m, [&](index_t rows, index_t) { return kernel::bytes_for(m, r, rows); });
    if (shape.size > 0) return {evenly((n + kernel::columns - 1) / kernel::columns, shape.clusters), shape};
  }
  return {backward_blocks(device, n, gradient_part<A>::size(m, r) * index_t(sizeof(A)))};
}
/// Elements of scratch for backward_in_one_pass.
template <class T, class L, device_policy Device>
index_t backward_scratch(Device const& device, index_t m, index_t n, index_t r) {
  return plan_backward<T, L>(device, m, n, r).parts * gradient_part<accumulator_t<T>>::size(m, r);
}
/// dX := op(Q)ᴴ G, and the sums D, dF and E over all columns in `sums`, in one pass over X and G, for a Q of one factor
/// `q`; false if that has too many reflectors. dX may be G.
template <device_policy Device, class Factor, class T, class L, class Sums, class A>
bool backward_in_one_pass(Device const& device, Factor const& q, op o, bool from_output, matrix_view<T const, L> X,
                          matrix_view<T const, L> G, matrix_view<T, L> dX, Sums const& sums, A* scratch) {
  index_t const m = X.rows, r = q.rank;
  backward_plan const plan = plan_backward<T, L>(device, m, X.cols, r);
  if (plan.parts == 0) return false;
  small_gradients<A> const small{q.T, q.gram, q.tau, o, from_output};
  if (plan.shape.size == 0) {
    backward_kernel<T, L, A> const kernel{q.U, small, X, G, dX, scratch};
    if (kernel.shared_bytes() > device.shared_limit) return false;
    launch(device, plan.parts, kernel);
  } else if constexpr (std::same_as<A, float>) {
    launch_clusters(device, plan.parts, plan.shape.size,
                    cluster_backward_kernel<T>{q.U, small, X, G, dX, scratch, plan.shape.rows});
  }
  index_t const size = gradient_part<A>::size(m, r), parts = plan.parts;
  auto const add_parts = [&](matrix_view<A> to, matrix_view<A> first) {
    index_t const rows = to.rows;
    A const* const of_first = first.data;
    for_each_element(device, to, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
      A total(0);
      for (index_t b = 0; b < parts; ++b) total = sum(total, of_first[b * size + i + j * rows]);
      to(i, j) = total;
    });
  };
  gradient_part<A> const first(scratch, 0, m, r);
  add_parts(sums.D, first.D);
  add_parts(sums.dF.block(0, 0, r, r), first.dF);
  add_parts(sums.E.block(0, 0, r, r), first.E);
  return true;
}

}  // namespace hoft::cuda
