// SPDX-License-Identifier: BSD-3-Clause
// One of two sources of a program, compiled for other architectures than the other.
#include <hoft/cuda.hpp>

#define HOFT_LINK_JOIN_EXPANDED(a, b) a##b
#define HOFT_LINK_JOIN(a, b) HOFT_LINK_JOIN_EXPANDED(a, b)

void HOFT_LINK_JOIN(draw_and_normalise_, HOFT_LINK_SELF)(cudaStream_t stream, cublasHandle_t blas,
                                                         hoft::compact_wy_view<float> Q, hoft::workspace work) {
  auto const policy = hoft::cuda::on(stream, blas);
  hoft::paired_gaussian(policy, Q.vectors, 1);
  accumulate(policy, hoft::matrix_view<float const>(Q.vectors), Q, hoft::exact{}, work);
}
