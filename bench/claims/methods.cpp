// SPDX-License-Identifier: BSD-3-Clause
// methods.cpp: all methods and their products for one BENCH_SCALAR, which bench/claims/CMakeLists.txt names.
#include "counted.hpp"

#include "heap.hpp"

#include "../eigen_gemm.hpp"
#include "../methods/method.hpp"

namespace bench::methods::detail {

template <>
void gemm<BENCH_SCALAR>(bool transpose_a, bool transpose_b, BENCH_SCALAR alpha, matrix_view<BENCH_SCALAR const> A,
                        matrix_view<BENCH_SCALAR const> B, BENCH_SCALAR beta, matrix_view<BENCH_SCALAR> C) {
  claims::uncounted_heap const panels;
  eigen_gemm(transpose_a, transpose_b, alpha, A, B, beta, C);
}

}  // namespace bench::methods::detail

#include "../methods/all.hpp"
