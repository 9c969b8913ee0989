// SPDX-License-Identifier: BSD-3-Clause
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is written, but it is const
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is written, but it is const
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft::merge: the adapter must hold the accumulator type of M
// refused: hoft: this argument must be a contiguous Eigen vector
// refused: hoft::merge_backward: M and dMhat must have the same layout
// refused: hoft: this argument is written, but it is a temporary
// refused: hoft: this argument is written, but it is a temporary
#include <hoft/hoft.hpp>

#include <Eigen/Core>

void f(hoft::adapter<double> const& a, Eigen::MatrixXd& M, Eigen::MatrixXd const& C, Eigen::MatrixXf& F) {
#if REFUSED == 0
  hoft::merge(a, M);
  hoft::unmerge(a, M.topRows(3));
  hoft::merge_backward(a, C, M);
  hoft::low_rank(a, C);
  hoft::adapter<double>{M, C, C.col(0)};
#elif REFUSED == 1
  hoft::merge(a, M * 2);
#elif REFUSED == 2
  hoft::merge(a, C);
#elif REFUSED == 3
  hoft::unmerge(a, M - C);
#elif REFUSED == 4
  hoft::unmerge(a, C);
#elif REFUSED == 5
  hoft::merge_backward(a, C, M * 2);
#elif REFUSED == 6
  hoft::low_rank(a, M + C);
#elif REFUSED == 7
  hoft::merge(a, F);
#elif REFUSED == 8
  hoft::adapter<double>{M, C, M};
#elif REFUSED == 9
  hoft::merge_backward(a, C, Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>(M));
#elif REFUSED == 10
  hoft::merge(a, Eigen::MatrixXd(M));
#elif REFUSED == 11
  hoft::unmerge(hoft::cpu{}, a, Eigen::MatrixXd(M));
#endif
}
