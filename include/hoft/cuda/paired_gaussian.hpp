// hoft/cuda/paired_gaussian.hpp: reflectors at the start of training, when Q = I, drawn where they are needed.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/cuda/launch.hpp>
#include <hoft/cuda/philox.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// U := (u₁ u₁ u₂ u₂ ⋯) with standard Gaussian u_k, so that Q(U) = I, as hoft::paired_gaussian does it on the host, by
/// other numbers. An odd last column is zero, and never trains: choose an even r.
///
/// @param device where to compute
/// @param U      [m, r] Out: real or complex, or stored in 16 bits: the numbers of float, rounded
/// @param seed   another one for another U: two of the same seed begin with the same numbers
/// @throws hoft::shape_error before anything is written
///
/// Cost: one launch, one pass over U. The same bits for any launch shape and either layout: number (i, k) depends on
/// seed, i and k alone. Real and imaginary parts are standard Gaussian each.
/// Source: the initialisation of Arcas et al., arXiv 2505.16531; Philox4x32-10 (cuda/philox.hpp).
template <device_policy Device, class T, class L>
void paired_gaussian(Device const& device, matrix_view<T, L> U, std::uint64_t seed) {
  using A = accumulator_t<T>;
  using real = real_t<A>;
  hoft::detail::require_view("paired_gaussian", "U", U);
  constexpr index_t parts = is_complex<A> ? 2 : 1, together = normal_numbers<real>::count / parts;
  auto const draw = [=] HOFT_KERNEL_LAMBDA(index_t group, index_t k) {  // rows of column pair k that share a draw
    bool const pair = 2 * k + 1 < U.cols;
    philox_block const counter{{std::uint32_t(group), std::uint32_t(std::uint64_t(group) >> 32), std::uint32_t(k),
                                std::uint32_t(std::uint64_t(k) >> 32)}};
    auto const numbers = normals<real>(philox(counter, seed));
    for (index_t e = 0; e < together; ++e) {
      index_t const i = group * together + e;
      if (i >= U.rows) return;
      A u(0);
      if constexpr (is_complex<A>) u = A(numbers.value[2 * e], numbers.value[2 * e + 1]);
      else u = numbers.value[e];
      if (!pair) u = A(0);
      else U(i, 2 * k + 1) = static_cast<T>(u);
      U(i, 2 * k) = static_cast<T>(u);
    }
  };
  if (U.empty()) return;
  elements<decltype(draw)> const kernel{(U.rows + together - 1) / together, (U.cols + 1) / 2, draw};
  launch(device, kernel.tiles(), kernel);
}

}  // namespace HOFT_CUDA_NAMESPACE
