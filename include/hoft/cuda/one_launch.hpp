// hoft/cuda/one_launch.hpp: algorithms that are one kernel. wy/ asks for them first, and goes on with the primitives
// where they answer false.
#pragma once
#include <hoft/cuda/accumulate.hpp>
#include <hoft/cuda/apply.hpp>
#include <hoft/cuda/backward.hpp>
#include <hoft/cuda/elements.hpp>

#include <algorithm>
#include <cstddef>
#include <span>

namespace hoft::cuda {

/// The exact forms Q[i] of U[i], a launch for each run of problems of one shape; false, and nothing done, if a block
/// cannot share as much memory as one of them takes.
template <device_policy Device, class TU, class LU, class Form>
bool accumulate_in_one_launch(Device const& device, std::span<matrix_view<TU, LU> const> U, std::span<Form> Q) {
  using T = typename Form::value_type;
  constexpr int few = 8, many = 640;  // what the arguments of a kernel have room for
  for (auto const& u : U)
    if (accumulate_kernel<TU, LU, T, few>::bytes_for(u.cols) > device.shared_limit) return false;
  auto const run = [&]<int Most>(std::size_t first, std::size_t count) {
    auto const& u = U[first];
    auto const& q = Q[first];
    accumulate_kernel<TU, LU, T, Most> kernel{};
    kernel.m = u.rows, kernel.r = u.cols, kernel.block_size = q.block;
    kernel.ld_U = u.ld, kernel.ld_vectors = q.vectors.ld, kernel.ld_factor = q.factor.ld, kernel.ld_gram = q.gram.ld,
    kernel.ld_scales = q.scales.ld;
    kernel.count = index_t(count);
    for (std::size_t i = 0; i < count; ++i) {
      auto const& p = Q[first + i];
      kernel.problems[i] = {U[first + i].data, p.vectors.data, p.factor.data, p.gram.data, p.tau.data, p.scales.data};
    }
    launch(device, index_t(count), kernel);
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
/// Elements of scratch for backward_in_one_pass.
template <class T, class L, device_policy Device>
index_t backward_scratch(Device const& device, index_t m, index_t n, index_t r) {
  using A = accumulator_t<T>;
  using kernel_type = backward_kernel<T, L, A>;
  if (r > kernel_type::most_reflectors) return 0;
  index_t const size = kernel_type::part_size(m, r);
  return backward_blocks(device, n, size * index_t(sizeof(A))) * size;
}
/// dX := op(Q)ᴴ G, and the sums D, dF and E over all columns in `sums`, in one pass over X and G, for a Q of one factor
/// `q`; false if that has too many reflectors. dX may be G.
template <device_policy Device, class Factor, class T, class L, class Sums, class A>
bool backward_in_one_pass(Device const& device, Factor const& q, op o, bool from_output, matrix_view<T const, L> X,
                          matrix_view<T const, L> G, matrix_view<T, L> dX, Sums const& sums, A* scratch) {
  using kernel_type = backward_kernel<T, L, A>;
  index_t const m = X.rows, r = q.rank;
  if (r == 0 || r > kernel_type::most_reflectors || X.empty()) return false;
  kernel_type const kernel{q.U, q.T, q.gram, q.tau, o, from_output, X, G, dX, scratch};
  index_t const size = kernel_type::part_size(m, r);
  index_t const blocks = backward_blocks(device, X.cols, size * index_t(sizeof(A)));
  if (blocks == 0 || kernel.shared_bytes() > device.shared_limit) return false;
  launch(device, blocks, kernel);
  auto const add_parts = [&](matrix_view<A> to, A const* first) {
    index_t const rows = to.rows;
    for_each_element(device, to, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
      A total(0);
      for (index_t b = 0; b < blocks; ++b) total = sum(total, first[b * size + i + j * rows]);
      to(i, j) = total;
    });
  };
  add_parts(sums.D, scratch);
  add_parts(sums.dF.block(0, 0, r, r), scratch + m * r);
  add_parts(sums.E.block(0, 0, r, r), scratch + m * r + r * r);
  return true;
}

}  // namespace hoft::cuda
