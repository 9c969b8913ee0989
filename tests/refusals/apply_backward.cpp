// SPDX-License-Identifier: BSD-3-Clause
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is written, but it is const
// refused: hoft::apply_backward: X and dY must have the same element type and layout
// refused: hoft::apply_backward_from_output: Y and dY must have the same element type and layout
// refused: hoft::apply_backward_from_output: Y and dY must have the same element type and layout
// refused: hoft::apply_backward_from_output: W must be column-major, of the accumulator type
// refused: hoft: this argument is written, but it is a temporary
#include <hoft/hoft.hpp>

#include <Eigen/Core>

using row_major_matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void f(hoft::compact_wy<double> const& Q, Eigen::MatrixXd& X, Eigen::MatrixXd const& dY) {
#if REFUSED == 0
  hoft::apply_backward(Q, X, dY);
  hoft::apply_backward_from_output(Q, X, dY);
  hoft::apply_backward_from_output(Q, X, hoft::apply_and_save(Q, X), dY);
#elif REFUSED == 1
  hoft::apply_backward(Q, X, 2 * dY);
#elif REFUSED == 2
  hoft::apply_backward_from_output(Q, X - dY, dY);
#elif REFUSED == 3
  hoft::apply_backward_from_output(Q, X, X * dY, dY);
#elif REFUSED == 4
  hoft::apply_and_save(Q, dY);
#elif REFUSED == 5
  hoft::apply_backward(Q, X, row_major_matrix(dY));
#elif REFUSED == 6
  hoft::apply_backward_from_output(Q, X, Eigen::MatrixXf(dY.cast<float>()));
#elif REFUSED == 7
  hoft::apply_backward_from_output(Q, X, hoft::apply_and_save(Q, X), row_major_matrix(dY));
#elif REFUSED == 8
  hoft::apply_backward_from_output(Q, X, row_major_matrix(X), dY);
#elif REFUSED == 9
  hoft::apply_and_save(Q, Eigen::MatrixXd(X));
#endif
}
