// SPDX-License-Identifier: BSD-3-Clause
// lapack.hpp: the peers from OpenBLAS and LAPACK under one name for both types. The LAPACKE calls are the _work forms:
// they allocate nothing and do not scan their arguments for NaN.
#pragma once
#include <hoft/view/matrix_view.hpp>

#include <complex>
#include <type_traits>

#define LAPACK_COMPLEX_CUSTOM
#define lapack_complex_float std::complex<float>
#define lapack_complex_double std::complex<double>
#include <cblas.h>
#include <lapacke.h>

// Declared by OpenBLAS's own cblas.h only, which need not be the one that is found.
extern "C" void openblas_set_num_threads(int threads);
extern "C" char* openblas_get_corename();
extern "C" char* openblas_get_config();

namespace bench::lapack {

using hoft::index_t;
using hoft::matrix_view;

inline lapack_int as_int(index_t n) { return static_cast<lapack_int>(n); }

/// C := beta C + alpha op(A) op(B), in either layout.
template <class T, class L>
void gemm(bool transpose_a, bool transpose_b, T alpha, matrix_view<T const, L> A, matrix_view<T const, L> B, T beta,
          matrix_view<T, L> C) {
  auto const layout = C.is_col_major ? CblasColMajor : CblasRowMajor;
  auto const op_a = transpose_a ? CblasTrans : CblasNoTrans, op_b = transpose_b ? CblasTrans : CblasNoTrans;
  lapack_int const m = as_int(C.rows), n = as_int(C.cols), k = as_int(transpose_a ? A.rows : A.cols);
  lapack_int const lda = as_int(A.ld), ldb = as_int(B.ld), ldc = as_int(C.ld);
  if constexpr (std::is_same_v<T, float>)
    cblas_sgemm(layout, op_a, op_b, m, n, k, alpha, A.data, lda, B.data, ldb, beta, C.data, ldc);
  else cblas_dgemm(layout, op_a, op_b, m, n, k, alpha, A.data, lda, B.data, ldb, beta, C.data, ldc);
}

/// A [m, r] in: any matrix, out: reflectors below the diagonal; tau [r].
inline void geqrf(matrix_view<float> A, float* tau, float* work, index_t size) {
  LAPACKE_sgeqrf_work(LAPACK_COL_MAJOR, as_int(A.rows), as_int(A.cols), A.data, as_int(A.ld), tau, work, as_int(size));
}
inline void geqrf(matrix_view<double> A, double* tau, double* work, index_t size) {
  LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, as_int(A.rows), as_int(A.cols), A.data, as_int(A.ld), tau, work, as_int(size));
}

/// T [r, r] of H(1) ... H(r) = I − V T Vᵀ; only its upper triangle is written.
inline void larft(matrix_view<float const> V, float const* tau, matrix_view<float> T) {
  LAPACKE_slarft_work(LAPACK_COL_MAJOR, 'F', 'C', as_int(V.rows), as_int(V.cols), V.data, as_int(V.ld), tau, T.data,
                      as_int(T.ld));
}
inline void larft(matrix_view<double const> V, double const* tau, matrix_view<double> T) {
  LAPACKE_dlarft_work(LAPACK_COL_MAJOR, 'F', 'C', as_int(V.rows), as_int(V.cols), V.data, as_int(V.ld), tau, T.data,
                      as_int(T.ld));
}

/// X := Q X (side 'L') or X Q ('R'). work: ormqr_size elements.
inline void ormqr(char side, matrix_view<float const> V, float const* tau, matrix_view<float> X, float* work,
                  index_t size) {
  LAPACKE_sormqr_work(LAPACK_COL_MAJOR, side, 'N', as_int(X.rows), as_int(X.cols), as_int(V.cols), V.data, as_int(V.ld),
                      tau, X.data, as_int(X.ld), work, as_int(size));
}
inline void ormqr(char side, matrix_view<double const> V, double const* tau, matrix_view<double> X, double* work,
                  index_t size) {
  LAPACKE_dormqr_work(LAPACK_COL_MAJOR, side, 'N', as_int(X.rows), as_int(X.cols), as_int(V.cols), V.data, as_int(V.ld),
                      tau, X.data, as_int(X.ld), work, as_int(size));
}
template <class T>
index_t ormqr_size(char side, matrix_view<T const> V, matrix_view<T> X) {
  T best(0);
  ormqr(side, V, static_cast<T const*>(nullptr), X, &best, -1);
  return static_cast<index_t>(best);
}

/// X := (I − V F Vᵀ) X (side 'L') or X (I − V F Vᵀ) ('R'). work: r times the other extent of X.
inline void larfb(char side, matrix_view<float const> V, matrix_view<float const> F, matrix_view<float> X,
                  float* work) {
  LAPACKE_slarfb_work(LAPACK_COL_MAJOR, side, 'N', 'F', 'C', as_int(X.rows), as_int(X.cols), as_int(V.cols), V.data,
                      as_int(V.ld), F.data, as_int(F.ld), X.data, as_int(X.ld), work,
                      as_int(side == 'L' ? X.cols : X.rows));
}
inline void larfb(char side, matrix_view<double const> V, matrix_view<double const> F, matrix_view<double> X,
                  double* work) {
  LAPACKE_dlarfb_work(LAPACK_COL_MAJOR, side, 'N', 'F', 'C', as_int(X.rows), as_int(X.cols), as_int(V.cols), V.data,
                      as_int(V.ld), F.data, as_int(F.ld), X.data, as_int(X.ld), work,
                      as_int(side == 'L' ? X.cols : X.rows));
}

/// X := (I − V F Vᵀ) X: geqrt's form with all reflectors in one block (nb = r). work: r times the columns of X.
inline void gemqrt(matrix_view<float const> V, matrix_view<float const> F, matrix_view<float> X, float* work) {
  LAPACKE_sgemqrt_work(LAPACK_COL_MAJOR, 'L', 'N', as_int(X.rows), as_int(X.cols), as_int(V.cols), as_int(V.cols),
                       V.data, as_int(V.ld), F.data, as_int(F.ld), X.data, as_int(X.ld), work);
}
inline void gemqrt(matrix_view<double const> V, matrix_view<double const> F, matrix_view<double> X, double* work) {
  LAPACKE_dgemqrt_work(LAPACK_COL_MAJOR, 'L', 'N', as_int(X.rows), as_int(X.cols), as_int(V.cols), as_int(V.cols),
                       V.data, as_int(V.ld), F.data, as_int(F.ld), X.data, as_int(X.ld), work);
}

}  // namespace bench::lapack
