// SPDX-License-Identifier: BSD-3-Clause
// refused: hoft: adjoint(Q) refers to Q, which must outlive it
// refused: hoft::apply: apply(X, Q) says the side by its order
// refused: hoft::apply: apply(X, Q) says the side by its order
// refused: hoft::apply: the side comes before the operation
// refused: hoft: this argument is no Eigen matrix
// refused: hoft: this argument is written, but it is a temporary
// refused: hoft: this argument is written, but it is const
#include <hoft/hoft.hpp>

#include <Eigen/Core>

void f(hoft::compact_wy<double> const& Q, Eigen::MatrixXd& X, Eigen::MatrixXd const& C) {
#if REFUSED == 0
  hoft::apply(adjoint(Q), X);
  hoft::apply(X, hoft::adjoint(Q));
  hoft::apply(X.leftCols(1), Q);
  hoft::apply(Q, X, hoft::op::adjoint);
  hoft::apply(C, Q, X);
#elif REFUSED == 1
  hoft::apply(hoft::adjoint(hoft::accumulate(C)), X);
#elif REFUSED == 2
  hoft::apply(X, Q, hoft::side::right);
#elif REFUSED == 3
  hoft::apply(hoft::cpu{}, X, Q, hoft::side::left, hoft::op::adjoint);
#elif REFUSED == 4
  hoft::apply(Q, X, hoft::op::adjoint, hoft::side::right);
#elif REFUSED == 5
  hoft::apply(Q, Q);
#elif REFUSED == 6
  hoft::apply(Eigen::MatrixXd(X), Q);
#elif REFUSED == 7
  hoft::apply(C, Q);
#endif
}
