// SPDX-License-Identifier: BSD-3-Clause
// products.cpp: the three libraries' products, instantiated here only.
#include "products.hpp"

#include "eigen_gemm.hpp"
#include "lapack.hpp"

#include <hoft/cpu/kernel/product.hpp>

#include <stdexcept>

namespace bench::detail {
namespace {

template <class T, class L>
void hoft_gemm(bool transpose_a, bool transpose_b, T alpha, matrix_view<T const, L> A, matrix_view<T const, L> B,
               T beta, matrix_view<T, L> C, hoft::cpu policy) {
  using hoft::cpu_backend::plain;
  matrix_view<T const, L> const start = beta == T(0) ? matrix_view<T const, L>{} : C;
  auto const multiply = [&](auto a, auto b) { hoft::cpu_backend::product(policy, alpha, a, b, start, C); };
  if (transpose_a) multiply(plain(A.transposed()), plain(B));
  else if (transpose_b) multiply(plain(A), plain(B.transposed()));
  else multiply(plain(A), plain(B));
}

}  // namespace

template <class T, class L>
void gemm(library by, bool transpose_a, bool transpose_b, T alpha, matrix_view<T const, L> A, matrix_view<T const, L> B,
          T beta, matrix_view<T, L> C, hoft::cpu policy) {
  if (transpose_a && transpose_b) throw std::logic_error("bench::gemm: no case needs both operands transposed");
  switch (by) {
    case library::eigen:
      return eigen_gemm(transpose_a, transpose_b, alpha, A, B, beta, C);
    case library::blas:
      return lapack::gemm(transpose_a, transpose_b, alpha, A, B, beta, C);
    case library::hoft:
      // Not a contestant on rows, where it would only take time to compile.
      if constexpr (C.is_col_major) return hoft_gemm(transpose_a, transpose_b, alpha, A, B, beta, C, policy);
      throw std::logic_error("bench::gemm: hoft's plain product is compiled for columns only");
  }
}

template void gemm(library, bool, bool, float, matrix_view<float const>, matrix_view<float const>, float,
                   matrix_view<float>, hoft::cpu);
template void gemm(library, bool, bool, double, matrix_view<double const>, matrix_view<double const>, double,
                   matrix_view<double>, hoft::cpu);
template void gemm(library, bool, bool, float, matrix_view<float const, hoft::row_major>,
                   matrix_view<float const, hoft::row_major>, float, matrix_view<float, hoft::row_major>, hoft::cpu);

}  // namespace bench::detail
