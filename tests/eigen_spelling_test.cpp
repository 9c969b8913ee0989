// SPDX-License-Identifier: BSD-3-Clause
// Eigen's development branch has called predux_half_dowto4 predux_half since November 2025: the kernels compile and sum
// with that name too. Eigen's own headers are renamed here, so the other name is not there at all.
#define predux_half_dowto4 predux_half
#include <Eigen/Core>
#undef predux_half_dowto4

#include <hoft/cpu/kernel/dot_tiles.hpp>

#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS
#include <doctest/doctest.h>

#include <array>
#include <complex>

using namespace hoft;
namespace kernel = hoft::cpu_backend::kernel;

TEST_CASE_TEMPLATE("sums over lanes under the new name of Eigen's half sums", T, float, double, std::complex<float>) {
  constexpr int lane = kernel::lanes<T>;
  constexpr index_t length = 2 * lane + 1;
  std::array<T, 4 * length> a{};
  std::array<T, 2 * length> b{};
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = T(float(i % 7));  // sums of small integers are exact
  for (std::size_t i = 0; i < b.size(); ++i) b[i] = T(float(i % 5));
  std::array<T, 8> c{};
  kernel::dot_term<T> const term{a.data(), lane, length, b.data(), length, length};
  kernel::dot_tiles<4, 2, 1, false, false, T>(1, T(1), 1, &term, {}, {c.data(), 1, 4});
  for (index_t j = 0; j < 2; ++j)
    for (index_t k = 0; k < 4; ++k) {
      T expected(0);
      for (index_t l = 0; l < length; ++l) expected += a[std::size_t(k * length + l)] * b[std::size_t(j * length + l)];
      CHECK(c[std::size_t(k + 4 * j)] == expected);
    }
}
