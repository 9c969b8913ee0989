// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: dense(M) refers to M, which must outlive it
// refused: hoft: dense(M) refers to M, which must outlive it
// refused: hoft::backward: x must have the element type and layout of the forward pass
#include <hoft/hoft.hpp>

#include <Eigen/Core>

void f(hoft::adapter<double> const& a, Eigen::MatrixXd const& M, Eigen::MatrixXd const& x, Eigen::MatrixXd const& dy) {
  auto const base = hoft::dense(M);
  auto const f = hoft::forward(a, base, x);
#if REFUSED == 0
  hoft::backward(a, base, x, f, dy);
#elif REFUSED == 1
  hoft::forward(a, base, 2 * x);
#elif REFUSED == 2
  hoft::dense(2 * M);
#elif REFUSED == 3
  hoft::dense(Eigen::MatrixXd(M));
#elif REFUSED == 4
  hoft::dense(hoft::materialize(a.left(), 1));
#elif REFUSED == 5
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const rows = x;
  hoft::backward(a, base, rows, f, dy);
#endif
}
