// SPDX-License-Identifier: BSD-3-Clause
// HOFT and SHOFT through the kernels of the CUDA backend, run by the host.
#include "cuda_on_host/host.hpp"

#include "cuda/transform_calls_of.hpp"
#include "cuda/transforms.hpp"

#include <cmath>

using namespace hoft_test;

namespace {

struct host_machine {
  template <class T>
  using Allocator = std::allocator<T>;
  hoft::cuda::host device{};
  hoft::cuda::host const& policy() const { return device; }
  host_machine limited(index_t shared, index_t cluster) const {
    return {{.reversed = shared / 1024 % 16 == 12, .shared_limit = shared, .most_blocks = 17, .most_cluster = cluster}};
  }
  void finish() const {}
};

}  // namespace

TEST_CASE_TEMPLATE("HOFT and SHOFT on matrices as they are stored", Case, HOFT_TRANSFORM_CASES) {
  transform_tests<host_machine, typename Case::first_type, typename Case::second_type>::check(
      {}, {{227, 8}, {60, 8}, {87, 1}, {20, 3}});
}
TEST_CASE_TEMPLATE("parts of floats in HOFT and SHOFT", Case, HOFT_TRANSFORM_CASES) {
  transform_tests<host_machine, typename Case::first_type, typename Case::second_type>::check_parts(
      {}, {{227, 8}, {60, 8}, {87, 1}, {20, 3}});
}

// Slices leave parts of a projection, and a device of one processor takes few columns at a time for them.
TEST_CASE("projections by slices, some columns at a time") {
  using namespace hoft::cuda;
  index_t const m = 300, n = 500, r = 21;
  dense_matrix<float> const U = gaussian<float>(m, r, 1), X = gaussian<float>(m, n, 2), s = gaussian<float>(m, 1, 3);
  host const small{.shared_limit = 40 * 1024, .most_blocks = 1, .most_cluster = 1};
  auto const carved = [&](hoft::arena& memory) { return project_room<float>(small, memory, m, r, n, true); };
  hoft::arena count;
  auto const wanted = carved(count);
  REQUIRE(wanted.shape.slices > 1);
  REQUIRE(wanted.width < n - 16);
  REQUIRE(n % wanted.width != 0);
  guarded_workspace work(count.size());
  hoft::arena memory{hoft::workspace(work)};
  padded<float, col_major> W(r, n);
  project_stored(small, carved(memory), hoft::as_view(U), hoft::vector_view<float const>(s.data(), m), hoft::as_view(X),
                 W.view());
  CHECK(work.intact());
  CHECK(W.intact());
  dense_matrix<double> const expected =
      U.cast<double>().transpose() * s.cast<double>().col(0).asDiagonal() * X.cast<double>();
  double const error = (W.map().cast<double>() - expected).norm();
  CHECK(error <= std::ldexp(std::sqrt(double(m)), -24) * expected.norm());
}
