// SPDX-License-Identifier: BSD-3-Clause
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is written, but it is const
// refused: hoft: this argument is written, but it is const
// refused: hoft: this argument is written, but it is const
// refused: hoft::apply: Q must hold the accumulator type of X
// refused: hoft::apply: X and Y must have the same element type
// refused: hoft::apply: X and Y must have the same element type and layout
// refused: hoft: this argument is written, but it is a temporary
// refused: hoft: this argument is written, but it is a temporary
// refused: hoft: this argument is written, but it is a temporary
// refused: hoft::materialize: Q must hold the accumulator type of E
#include <hoft/hoft.hpp>

#include <Eigen/Core>

void f(hoft::compact_wy<double> const& Q, Eigen::MatrixXd& X, Eigen::MatrixXd const& C, Eigen::MatrixXf& F) {
#if REFUSED == 0
  hoft::apply(Q, X);
  hoft::apply(Q, X.leftCols(1));
  hoft::apply(Q, X.transpose(), hoft::side::right);
  hoft::apply(Q, C, X);
  hoft::apply(hoft::cpu{.threads = 2}, Q, Eigen::Map<Eigen::MatrixXd>(X.data(), 4, 2));
  hoft::apply(Q, Eigen::Ref<Eigen::MatrixXd>(X));
#elif REFUSED == 1
  hoft::apply(Q, 2 * X);
#elif REFUSED == 2
  hoft::apply(Q, C + C, X);
#elif REFUSED == 3
  hoft::apply(Q,
              Eigen::Map<Eigen::MatrixXd, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic> >(X.data(), 4, 2, {8, 2}));
#elif REFUSED == 4
  hoft::apply(Q, C, Eigen::Map<Eigen::MatrixXd, 0, Eigen::InnerStride<2> >(X.data(), 4, 2));
#elif REFUSED == 5
  hoft::apply(Q, C);
#elif REFUSED == 6
  hoft::apply(Q, X, C);
#elif REFUSED == 7
  hoft::apply(Q, Eigen::Map<Eigen::MatrixXd const>(C.data(), 4, 2));
#elif REFUSED == 8
  hoft::apply(Q, F);
#elif REFUSED == 9
  hoft::apply(Q, C, F);
#elif REFUSED == 10
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(X);
  hoft::apply(Q, X, rows);
#elif REFUSED == 11
  hoft::apply(Q, Eigen::MatrixXd(X));
#elif REFUSED == 12
  hoft::apply(hoft::cpu{}, Q, X.eval().transpose().eval(), hoft::side::right);
#elif REFUSED == 13
  hoft::apply(Q, C, Eigen::MatrixXd(X));
#elif REFUSED == 14
  hoft::materialize(hoft::cpu{}, Q.view(), hoft::as_view(F), {});
#endif
}
