// SPDX-License-Identifier: BSD-3-Clause
// paired_gaussian of the CUDA backend, its kernel run by the host: the numbers of random_test.
#include "cuda_on_host/host.hpp"
#include <hoft/adapter/paired_gaussian.hpp>

#include "support.hpp"

#include <cstdint>

using namespace hoft_test;

namespace {

template <class T, class L = col_major>
dense_matrix<T, L> drawn(index_t m, index_t r, hoft::cuda::host const& device) {
  padded<T, L> U(m, r);
  hoft::paired_gaussian(device, U.view(), 30);
  CHECK(U.intact());
  return U.map();
}

}  // namespace

TEST_CASE_TEMPLATE("the kernel draws the numbers of the host, for any layout, grid and order", T, HOFT_ALL_SCALARS) {
  for (index_t m : {0, 1, 2, 5, 130})
    for (index_t r : {0, 1, 2, 5, 67}) {
      CAPTURE(m);
      CAPTURE(r);
      dense_matrix<T> U(m, r);
      hoft::paired_gaussian(hoft::cpu{}, hoft::as_view(U), 30);
      CHECK(same_bits(widen(drawn<T>(m, r, {})), widen(U)));
      CHECK(same_bits(widen(drawn<T, row_major>(m, r, {.reversed = true, .most_blocks = 2})), widen(U)));
    }
}

TEST_CASE("a bad view is refused before anything is drawn") {
  hoft::cuda::host const device;
  float kept = 7;
  CHECK_THROWS_WITH_AS(hoft::paired_gaussian(device, hoft::matrix_view<float>(&kept, 2, 1, 1), 1),
                       "hoft::paired_gaussian: U.ld is 1, must be >= 2", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::paired_gaussian(device, hoft::matrix_view<float>(&kept, 1, -1, 1), 1),
                       "hoft::paired_gaussian: U.cols is -1, must be >= 0", hoft::shape_error);
  CHECK(kept == 7);
}
