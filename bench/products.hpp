// SPDX-License-Identifier: BSD-3-Clause
// products.hpp: plain matrix products by three libraries. Compiled once, in products.cpp: the cases choose at run time.
#pragma once
#include <hoft/cpu/policy.hpp>
#include <hoft/view/matrix_view.hpp>

#include <type_traits>

namespace bench {

using hoft::index_t;
using hoft::matrix_view;

enum class library { hoft, eigen, blas };

namespace detail {

/// Defined for float in both layouts and for double in columns.
template <class T, class L>
void gemm(library by, bool transpose_a, bool transpose_b, T alpha, matrix_view<T const, L> A, matrix_view<T const, L> B,
          T beta, matrix_view<T, L> C, hoft::cpu policy);

}  // namespace detail

/// C := beta C + alpha op(A) op(B), beta 0 or 1, not both transposed; mutable views are welcome as operands. hoft's own
/// product takes a policy.
template <class T, class L>
void gemm(library by, bool transpose_a, bool transpose_b, std::type_identity_t<T> alpha,
          std::type_identity_t<matrix_view<T const, L>> A, std::type_identity_t<matrix_view<T const, L>> B,
          std::type_identity_t<T> beta, matrix_view<T, L> C, hoft::cpu policy = {}) {
  detail::gemm<T, L>(by, transpose_a, transpose_b, alpha, A, B, beta, C, policy);
}

/// X := X − U F UᵀX: three plain products. W and Z [r, n] are scratch.
template <class T, class L>
void apply_products(library by, std::type_identity_t<matrix_view<T const, L>> U,
                    std::type_identity_t<matrix_view<T const, L>> F, matrix_view<T, L> X, matrix_view<T, L> W,
                    matrix_view<T, L> Z) {
  gemm(by, true, false, 1, U, X, 0, W);
  gemm(by, false, false, 1, F, W, 0, Z);
  gemm(by, false, false, -1, U, Z, 1, X);
}

}  // namespace bench
