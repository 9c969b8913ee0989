// SPDX-License-Identifier: BSD-3-Clause
// hoft/blas.hpp: a dense weight as a base operator whose products a BLAS makes. For programs that link one anyway;
// the rest of hoft needs none. Sources that include this header find <cblas.h> and link its library: OpenBLAS, or
// another with the same header.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/cpu/backend.hpp>
#include <hoft/eigen/scratch.hpp>
#include <hoft/view/shape.hpp>

#include <cblas.h>

#include <complex>
#include <concepts>
#include <limits>

namespace HOFT_TARGET_NAMESPACE::blas {

/// The types that BLAS has: float, double, std::complex<float> and std::complex<double>.
template <class T>
concept blas_scalar = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::complex<float>> ||
    std::same_as<T, std::complex<double>>;

namespace detail {

/// Y := op(A) X by ?gemm, where A lies in memory as a matrix in the order of X and Y.
template <class T, class LA, class L>
void multiply(CBLAS_TRANSPOSE op, matrix_view<T const, LA> A, matrix_view<T const, L> X, matrix_view<T, L> Y) {
  auto const order = Y.is_col_major ? CblasColMajor : CblasRowMajor;
  int const m = int(Y.rows), n = int(Y.cols), k = int(X.rows);
  int const lda = int(A.ld), ldx = int(X.ld), ldy = int(Y.ld);
  T const one(1), zero(0);
  auto const gemm = [&](auto call, auto alpha, auto beta) {
    call(order, op, CblasNoTrans, m, n, k, alpha, A.data, lda, X.data, ldx, beta, Y.data, ldy);
  };
  if constexpr (std::same_as<T, float>) gemm(cblas_sgemm, one, zero);
  else if constexpr (std::same_as<T, double>) gemm(cblas_dgemm, one, zero);
  else if constexpr (std::same_as<T, std::complex<float>>) gemm(cblas_cgemm, &one, &zero);
  else gemm(cblas_zgemm, &one, &zero);
}

}  // namespace detail

/// The base operator of a dense weight M [m, n] that somebody else owns: Y := M X and Y := MᴴX for X and Y of one
/// layout, by one call of the BLAS that the program links. The BLAS decides how many threads it takes and in which
/// order it sums, so hoft's promise of the same bits for any number of threads ends at these products. Of few tokens
/// hoft::dense is usually faster. Complex MᴴX where M has the other layout has no name in BLAS: hoft makes it, on the
/// threads of the pass that calls it.
template <blas_scalar T, class LM>
class dense_operator {
 public:
  using value_type = T;

  /// @throws hoft::shape_error if M has a negative extent or a leading dimension that does not hold the other one;
  ///         hoft::argument_error if an extent or the leading dimension is larger than BLAS's int holds
  explicit dense_operator(matrix_view<T const, LM> M) : M_(M) {
    constexpr char const* function = "blas::dense_operator";
    hoft::detail::require_view(function, "M", M);
    require_int(function, "M.rows", M.rows);
    require_int(function, "M.cols", M.cols);
    require_int(function, "M.ld", M.ld);
  }

  [[nodiscard]] index_t rows() const { return M_.rows; }
  [[nodiscard]] index_t cols() const { return M_.cols; }
  [[nodiscard]] matrix_view<T const, LM> weight() const { return M_; }

  /// Y [m, t] := M X, X [n, t]. X and Y must not overlap. @throws hoft::shape_error, hoft::argument_error (t or a
  /// leading dimension is larger than BLAS's int holds), before anything is written. Cost: 2 m n t flops.
  template <class TX, class L>
  void apply(matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    apply(cpu{}, X, Y);
  }
  template <class TX, class L>
  void apply(cpu const& caller, matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    multiply("blas::dense_operator::apply", caller, false, matrix_view<T const, L>(X), Y);
  }
  /// Y [n, t] := MᴴX, X [m, t]. X and Y must not overlap. @throws as apply does. Cost: 2 m n t flops.
  template <class TX, class L>
  void apply_adjoint(matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    apply_adjoint(cpu{}, X, Y);
  }
  template <class TX, class L>
  void apply_adjoint(cpu const& caller, matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    multiply("blas::dense_operator::apply_adjoint", caller, true, matrix_view<T const, L>(X), Y);
  }

 private:
  static void require_int(char const* function, char const* argument, index_t value) {
    hoft::detail::require_at_most<argument_error>(function, argument, value, (std::numeric_limits<int>::max)());
  }

  template <class L>
  void multiply(char const* function, cpu const& caller, bool adjoint, matrix_view<T const, L> X,
                matrix_view<T, L> Y) const {
    hoft::detail::require_shape(function, "X", X, adjoint ? M_.rows : M_.cols, X.cols);
    hoft::detail::require_shape(function, "Y", Y, adjoint ? M_.cols : M_.rows, X.cols);
    require_int(function, "X.cols", X.cols);
    require_int(function, "X.ld", X.ld);
    require_int(function, "Y.ld", Y.ld);
    constexpr bool same_layout = std::same_as<LM, L>;
    if (X.empty() || Y.empty()) {  // a BLAS need not take what has no address
      cpu_backend::operations::fill(cpu{}, T(0), Y);
    } else if (!adjoint) {
      detail::multiply(same_layout ? CblasNoTrans : CblasTrans, M_, X, Y);
    } else if constexpr (same_layout) {
      detail::multiply(CblasConjTrans, M_, X, Y);
    } else if constexpr (!is_complex<T>) {
      detail::multiply(CblasNoTrans, M_, X, Y);
    } else {
      cpu_backend::product(caller, T(1), cpu_backend::adjoint(M_), cpu_backend::plain(X), {}, Y);
    }
  }

  matrix_view<T const, LM> M_;
};

/// The base operator of M, which must outlive it: hoft::blas::dense(M) in the place of hoft::dense(M).
template <class DM>
[[nodiscard]] auto dense(DM&& M) {
  static_assert(!hoft::detail::ends_with_the_call<DM>,
                "hoft: blas::dense(M) refers to M, which must outlive it: pass a named matrix, not a temporary.");
  auto const view = as_view(M);
  using view_type = decltype(view);
  static_assert(blas_scalar<typename view_type::value_type>,
                "hoft: blas::dense(M) takes float, double and their complex types, which BLAS has. For weights in 16 "
                "bits: hoft::dense(M).");
  return dense_operator<typename view_type::value_type, typename view_type::layout_type>(view);
}

}  // namespace HOFT_TARGET_NAMESPACE::blas
