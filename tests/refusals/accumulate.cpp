// SPDX-License-Identifier: BSD-3-Clause
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: elements must be float, double
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument must be a contiguous Eigen vector
// refused: hoft: this argument must be a contiguous Eigen vector
// refused: hoft::accumulate: Q must hold the accumulator type of V and tau
#include <hoft/hoft.hpp>

#include <Eigen/Core>

void f(Eigen::MatrixXd const& U, Eigen::MatrixXi const& I, Eigen::VectorXd const& tau, Eigen::VectorXf const& wrong) {
#if REFUSED == 0
  hoft::accumulate(U);
  hoft::accumulate(U, hoft::neumann{2});
  hoft::accumulate(U, tau);
  hoft::accumulate(U.leftCols(2), tau.head(2));
#elif REFUSED == 1
  hoft::accumulate(2 * U);
#elif REFUSED == 2
  hoft::accumulate(I);
#elif REFUSED == 3
  hoft::accumulate(U.cwiseAbs(), tau);
#elif REFUSED == 4
  hoft::accumulate(U, 2 * tau);
#elif REFUSED == 5
  hoft::accumulate(U, U);
#elif REFUSED == 6
  hoft::accumulate(U, wrong);
#endif
}
