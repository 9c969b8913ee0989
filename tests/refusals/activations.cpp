// SPDX-License-Identifier: BSD-3-Clause
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: dense(M) refers to M, which must outlive it
// refused: hoft: dense(M) refers to M, which must outlive it
// refused: hoft::backward: x must have the element type and layout of the forward pass
// refused: hoft::bind_layer: a weight is given as hoft::dense(M), or as an operator of your own
// refused: hoft::backward: x must have the element type and layout of the forward pass
// refused: hoft::backward: dy must have the element type and layout of x
// refused among others: deleted
// refused: hoft: this argument is an Eigen expression or has a non-unit inner stride
// refused: hoft: the adapter must hold the accumulator type of the activations x
#include <hoft/hoft.hpp>

#include <Eigen/Core>

void f(hoft::adapter<double> const& a, Eigen::MatrixXd const& M, Eigen::MatrixXd const& x, Eigen::MatrixXd const& dy) {
  auto const base = hoft::dense(M);
  auto const f = hoft::forward(a, base, x);
  auto const layer = hoft::bind_layer(a, base);
  auto const g = hoft::forward(layer, x);
  hoft::layer_gradient sums(layer);
#if REFUSED == 0
  hoft::backward(a, base, x, f, dy);
  hoft::backward(layer, x, g, dy, sums);
  hoft::finish(layer, sums);
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
#elif REFUSED == 6
  hoft::bind_layer(a, M);
#elif REFUSED == 7
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const rows = x;
  hoft::backward(layer, rows, g, dy, sums);
#elif REFUSED == 8
  Eigen::MatrixXf const other = dy.cast<float>();
  hoft::backward(layer, x, g, other, sums);
#elif REFUSED == 9
  hoft::bind_layer(a, base).view();
#elif REFUSED == 10
  hoft::forward(layer, x * 2);
#elif REFUSED == 11
  hoft::bind_layer<float>(a, hoft::dense(Eigen::Map<Eigen::MatrixXf const>(nullptr, 2, 2)));
#endif
}
