// SPDX-License-Identifier: BSD-3-Clause
// base_of.hpp: somebody else's products as a base operator for hoft.
#pragma once
#include "products.hpp"

#include <hoft/blas.hpp>

namespace bench {

/// Y := M X and Y := MᵀX.
template <class T>
struct base_of {
  library by;
  matrix_view<T const> M;
  void apply(matrix_view<T const> X, matrix_view<T> Y) const {
    if (by == library::blas) return hoft::blas::dense_operator<T, hoft::col_major>(M).apply(X, Y);
    gemm(by, false, false, 1, M, X, 0, Y);
  }
  void apply_adjoint(matrix_view<T const> X, matrix_view<T> Y) const {
    if (by == library::blas) return hoft::blas::dense_operator<T, hoft::col_major>(M).apply_adjoint(X, Y);
    gemm(by, true, false, 1, M, X, 0, Y);
  }
};

}  // namespace bench
