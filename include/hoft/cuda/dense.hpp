// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/dense.hpp: a dense weight as a base operator.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/cuda/backend.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// The base operator of a dense weight M [m, n] that somebody else owns: Y := M X and Y := MᴴX for X and Y of one
/// layout, by cuBLAS where it has a name for the product. 16-bit weights take 16-bit X and Y and sums in float.
template <device_policy Device, class T, class LM>
class dense_operator {
 public:
  /// @throws hoft::shape_error if M has a negative extent or a leading dimension that does not hold the other one
  dense_operator(Device const& device, matrix_view<T const, LM> M) : device_(device), M_(M) {
    hoft::detail::require_view("cuda::dense_operator", "M", M);
  }

  [[nodiscard]] index_t rows() const { return M_.rows; }
  [[nodiscard]] index_t cols() const { return M_.cols; }

  /// Y [m, t] := M X, X [n, t]. @throws hoft::shape_error, hoft::cuda_error. Cost: 2 m n t flops.
  template <class TX, class L>
  void apply(matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    hoft::detail::require_shape("cuda::dense_operator::apply", "X", X, M_.cols, X.cols);
    hoft::detail::require_shape("cuda::dense_operator::apply", "Y", Y, M_.rows, X.cols);
    multiply(M_, false, matrix_view<T const, L>(X), Y);
  }
  /// Y [n, t] := MᴴX, X [m, t]. @throws hoft::shape_error, hoft::cuda_error. Cost: 2 m n t flops.
  template <class TX, class L>
  void apply_adjoint(matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    hoft::detail::require_shape("cuda::dense_operator::apply_adjoint", "X", X, M_.rows, X.cols);
    hoft::detail::require_shape("cuda::dense_operator::apply_adjoint", "Y", Y, M_.cols, X.cols);
    multiply(M_.transposed(), true, matrix_view<T const, L>(X), Y);
  }

 private:
  template <class LA, class L>
  void multiply(matrix_view<T const, LA> A, bool conjugated, matrix_view<T const, L> X, matrix_view<T, L> Y) const {
    if constexpr (std::same_as<T, accumulator_t<T>>) general_product(device_, T(1), A, conjugated, X, false, {}, Y);
    else if constexpr (Y.is_col_major) multiply_stored(device_, A, X, Y);
    else multiply_stored(device_, X.transposed(), A.transposed(), Y.transposed());
  }

  Device device_;
  matrix_view<T const, LM> M_;
};

/// The base operator of M, memory of the device that must outlive it.
template <device_policy Device, class T, class L>
[[nodiscard]] auto dense(Device const& device, matrix_view<T, L> M) {
  return dense_operator<Device, std::remove_const_t<T>, L>(device, M);
}

}  // namespace HOFT_CUDA_NAMESPACE
