// SPDX-License-Identifier: BSD-3-Clause
// eigen_gemm.hpp: the general product by Eigen.
#pragma once
#include <hoft/view/eigen.hpp>

namespace bench {

/// C := beta C + alpha op(A) op(B), beta 0 or 1, not both transposed.
template <class T, class L>
void eigen_gemm(bool transpose_a, bool transpose_b, T alpha, hoft::matrix_view<T const, L> A,
                hoft::matrix_view<T const, L> B, T beta, hoft::matrix_view<T, L> C) {
  auto const a = hoft::as_eigen(A), b = hoft::as_eigen(B);
  auto c = hoft::as_eigen(C);
  auto const assign = [&](auto const& product) {
    if (beta == T(0)) c.noalias() = alpha * product;
    else c.noalias() += alpha * product;
  };
  if (transpose_a) assign(a.transpose() * b);
  else if (transpose_b) assign(a * b.transpose());
  else assign(a * b);
}

}  // namespace bench
