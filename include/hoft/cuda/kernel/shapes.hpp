// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/kernel/shapes.hpp: how many blocks share a matrix and how, and what they leave to be added up.
#pragma once
#include <hoft/cuda/block/slice.hpp>
#include <hoft/cuda/launch.hpp>

#include <algorithm>

namespace HOFT_CUDA_NAMESPACE {

/// How clusters share m features.
struct cluster_shape {
  index_t blocks = 0;    ///< of one; 0: no shape fits
  index_t threads = 0;   ///< of each block
  index_t rows = 0;      ///< features of each block
  index_t buffers = 0;   ///< of columns that are fetched
  index_t clusters = 0;  ///< that the device runs at a time
};
/// Features of each block of a cluster that shares m of them.
inline index_t slice_rows(index_t m, index_t size) {
  constexpr index_t strip = feature_slice::row_step;
  return ((m + size - 1) / size + strip - 1) / strip * strip;
}
/// Of each block, beside what its kernel asks for: by the system, and in front of that.
inline constexpr index_t reserved = 1024 + memory_in_front;
/// The smallest clusters of which a processor holds two blocks, if that can be, better with two buffers than with one.
/// A block that is alone has `most_threads`. bytes(shape): what a block shares.
template <device_policy Device, class Bytes>
cluster_shape shape_clusters(Device const& device, index_t m, index_t most_threads, Bytes const& bytes) {
  for (index_t blocks : {2, 1})
    for (index_t buffers : {2, 1})
      for (index_t size = 1; size <= device.most_cluster; size *= 2) {
        cluster_shape const shape{size, blocks == 2 ? threads : most_threads, slice_rows(m, size), buffers,
                                  std::max<index_t>(1, device.clusters(size) * blocks)};
        if ((bytes(shape) + reserved) * blocks <= device.shared_limit + reserved) return shape;
      }
  return {};
}

/// As few clusters as take no more rounds than `most` would: not all processors can be in one.
inline index_t evenly(index_t tasks, index_t most) {
  index_t const rounds = (tasks + most - 1) / most;
  return (tasks + rounds - 1) / rounds;
}

/// One cluster of a row holds all features, as far as that is possible: size 0 if it is not.
template <device_policy Device, class Kernel>
slice_shape shape_whole(Device const& device, index_t m, index_t n, Kernel kernel) {
  cluster_shape const shape = shape_clusters(device, m, device.tuned.lone_threads, [&](cluster_shape const& s) {
    kernel.shape.size = s.blocks, kernel.shape.threads = s.threads;
    kernel.shape.rows = s.rows, kernel.shape.buffers = s.buffers;
    return kernel.shared_bytes();
  });
  if (shape.blocks == 0) return {};
  return {shape.blocks,
          shape.threads,
          shape.rows,
          shape.buffers,
          1,
          evenly((n + feature_slice::columns - 1) / feature_slice::columns, shape.clusters)};
}
/// Blocks by themselves, with at most `most` features: two of them on a processor if that leaves each `least`, and one
/// otherwise; fewer features than fit where that keeps an eighth more processors busy.
template <device_policy Device, class Kernel>
slice_shape shape_apart(Device const& device, index_t m, index_t n, index_t least, index_t most, Kernel kernel) {
  constexpr index_t strip = feature_slice::row_step;
  index_t const longest = (std::min)(most, slice_rows(m, 1)), at_least = (std::max)(strip, (std::min)(least, longest));
  for (index_t blocks : {2, 1}) {
    slice_shape best;
    double best_use = 0;
    kernel.shape.threads = blocks == 2 ? threads : device.tuned.lone_threads, kernel.shape.buffers = 1;
    for (index_t rows = longest; rows >= (blocks == 2 || best.size > 0 ? at_least : strip); rows -= strip) {
      kernel.shape.rows = rows;
      if ((kernel.shared_bytes() + reserved) * blocks > device.shared_limit + reserved) continue;
      index_t const slices = (m + rows - 1) / rows, at_a_time = device.processors() * blocks,
                    runs = std::max<index_t>(1, at_a_time / slices),
                    rounds = (slices * runs + at_a_time - 1) / at_a_time;
      double const use = double(slices * runs) / double(rounds * at_a_time);
      if (use <= 1.125 * best_use) continue;
      best_use = use;
      best = {1,      kernel.shape.threads,
              rows,   1,
              slices, evenly((n + feature_slice::columns - 1) / feature_slice::columns, runs)};
    }
    if (best.size > 0) return best;
  }
  return {};
}
/// Blocks by themselves that update their features.
template <device_policy Device, class Kernel>
slice_shape shape_slices(Device const& device, index_t m, index_t n, Kernel const& kernel) {
  return shape_apart(device, m, n, device.tuned.least_rows_apart, device.tuned.most_rows_apart, kernel);
}
/// kernel(cluster) by the clusters of its shape.
template <device_policy Device, class Kernel>
void launch_slices(Device const& device, Kernel const& kernel) {
  launch_clusters(device, kernel.shape.clusters(), {kernel.shape.size, kernel.shape.threads}, kernel);
}

/// to := the sum over parts of which `first` is the first, each by columns without padding, `stride` elements apart, in
/// order; or to that plus what it is.
template <device_policy Device, class A, class L>
void add_parts(Device const& device, matrix_view<A> first, index_t stride, index_t parts, matrix_view<A, L> to,
               bool adds = false) {
  A const* const of_first = first.data;
  index_t const rows = first.rows;
  ops<Device>::for_each_element(device, to, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    A total = adds ? to(i, j) : A(0);
    for (index_t b = 0; b < parts; ++b) total = sum(total, of_first[b * stride + i + j * rows]);
    to(i, j) = total;
  });
}

}  // namespace HOFT_CUDA_NAMESPACE
