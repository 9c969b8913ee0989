// products.hpp: the same formulas through plain matrix products, by hoft, by Eigen or by OpenBLAS.
#pragma once
#include "data.hpp"

namespace bench {

/// C := beta C + alpha op(A) op(B), beta 0 or 1.
struct eigen_products {
  template <class T>
  static void gemm(bool transpose_a, bool transpose_b, T alpha, matrix_view<T const> A, matrix_view<T const> B, T beta,
                   matrix_view<T> C) {
    auto const a = as_eigen(A), b = as_eigen(B);
    auto c = as_eigen(C);
    auto const assign = [&](auto const& product) {
      if (beta == T(0)) c.noalias() = alpha * product;
      else c.noalias() += alpha * product;
    };
    if (!transpose_a && !transpose_b) assign(a * b);
    else if (!transpose_b) assign(a.transpose() * b);
    else if (!transpose_a) assign(a * b.transpose());
    else assign(a.transpose() * b.transpose());
  }
};

struct blas_products {
  template <class T>
  static void gemm(bool transpose_a, bool transpose_b, T alpha, matrix_view<T const> A, matrix_view<T const> B, T beta,
                   matrix_view<T> C) {
    lapack::gemm(transpose_a, transpose_b, alpha, A, B, beta, C);
  }
};

struct hoft_products {
  template <class T>
  static void gemm(bool transpose_a, bool transpose_b, T alpha, matrix_view<T const> A, matrix_view<T const> B, T beta,
                   matrix_view<T> C) {
    using hoft::cpu_backend::plain;
    matrix_view<T const> const start = beta == T(0) ? matrix_view<T const>{} : C;
    auto const multiply = [&](auto a, auto b) { hoft::cpu_backend::product(hoft::cpu{}, alpha, a, b, start, C); };
    if (!transpose_a && !transpose_b) multiply(plain(A), plain(B));
    else if (!transpose_b) multiply(plain(A.transposed()), plain(B));
    else if (!transpose_a) multiply(plain(A), plain(B.transposed()));
    else multiply(plain(A.transposed()), plain(B.transposed()));
  }
};

/// C := beta C + alpha op(A) op(B), with mutable views welcome as operands.
template <class P, class T>
void gemm(P, bool transpose_a, bool transpose_b, std::type_identity_t<T> alpha,
          std::type_identity_t<matrix_view<T const>> A, std::type_identity_t<matrix_view<T const>> B,
          std::type_identity_t<T> beta, matrix_view<T> C) {
  P::template gemm<T>(transpose_a, transpose_b, alpha, A, B, beta, C);
}

/// Scratch of `apply_products`, [r, n] each.
template <class T>
struct projections {
  hoft::dense_matrix<T> W, Z;
  projections(index_t r, index_t n) : W(r, n), Z(r, n) {}
};

/// X := X − U F UᵀX: three plain products.
template <class P, class T>
void apply_products(P p, reflectors<T> const& Q, matrix_view<T> X, projections<T>& scratch) {
  auto const U = as_view(Q.U), F = as_view(Q.F);
  auto const W = as_view(scratch.W), Z = as_view(scratch.Z);
  gemm(p, true, false, 1, U, X, 0, W);
  gemm(p, false, false, 1, F, W, 0, Z);
  gemm(p, false, false, -1, U, Z, 1, X);
}

/// X := Q X (left) or X Q (right), one reflector after another as vectorised matrix-vector products and rank-1 updates,
/// on panels that stay in the second-level cache.
template <class T>
void reflect_left(reflectors<T> const& Q, matrix_view<T> X, hoft::dense_vector<T>& scratch) {
  index_t const m = X.rows, width = std::max<index_t>(8, (index_t{1} << 19) / (m * index_t(sizeof(T))));
  for (index_t j = 0; j < X.cols; j += width) {
    index_t const w = std::min(width, X.cols - j);
    auto panel = as_eigen(X.columns(j, w));
    auto dots = scratch.head(w);
    for (index_t k = Q.U.cols(); k-- > 0;) {
      auto const v = Q.U.col(k).tail(m - k);
      auto rows = panel.bottomRows(m - k);
      dots.noalias() = rows.transpose() * v;
      dots *= -Q.tau(k);
      rows.noalias() += v * dots.transpose();
    }
  }
}
template <class T>
void reflect_right(reflectors<T> const& Q, matrix_view<T> X, hoft::dense_vector<T>& scratch) {
  index_t const n = X.cols, height = std::max<index_t>(64, (index_t{1} << 19) / (n * index_t(sizeof(T))));
  for (index_t i = 0; i < X.rows; i += height) {
    index_t const h = std::min(height, X.rows - i);
    auto panel = as_eigen(X.block(i, 0, h, n));
    auto dots = scratch.head(h);
    for (index_t k = 0; k < Q.U.cols(); ++k) {
      auto const v = Q.U.col(k).tail(n - k);
      auto cols = panel.rightCols(n - k);
      dots.noalias() = cols * v;
      dots *= -Q.tau(k);
      cols.noalias() += dots * v.transpose();
    }
  }
}

/// Eigen's own product of reflectors, on the form that geqrf leaves.
template <class T>
auto eigen_sequence(reflectors<T> const& Q) {
  return Eigen::householderSequence(Q.packed, Q.tau);
}

}  // namespace bench
