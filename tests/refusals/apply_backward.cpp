// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is written, but it is const
#include <hoft/hoft.hpp>

#include <Eigen/Core>

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
#endif
}
