// SPDX-License-Identifier: BSD-3-Clause
// refused: hoft::backward: backward(a, base, x, f, dy) takes as f what forward(a, base, x) returned
// refused: hoft::backward: backward(a, base, x, f, dy) takes as f what forward(a, base, x) returned
// refused: hoft::backward: backward(layer, x, f, dy, g) takes as f what forward(layer, x) returned
// refused: hoft: the adapter must hold the accumulator type of the activations x
// refused: hoft: the adapter must hold the accumulator type of the activations x
// refused: hoft: the base operator must have apply(X, Y) and apply_adjoint(X, Y)
// refused: hoft: the base operator must have apply(X, Y) and apply_adjoint(X, Y)
// refused: hoft: adapter<A> must be of the accumulator type of U and V
// refused: hoft: adapter<A> must be of the accumulator type of U and V
// refused: hoft: the adapter must hold the accumulator type of the activations x
// refused: hoft::bind_layer: a weight is given as hoft::dense(M)
// refused: hoft::forward: a weight is given as hoft::dense(M)
// refused: hoft::backward: dy must have the element type and layout of x
// refused: hoft::apply_backward: Q must hold the accumulator type of X, dU and dtau
// refused: hoft::merge_backward: the adapter must hold the accumulator type of M
// refused: hoft::low_rank: the adapter must hold the accumulator type of M and of the factors
// refused: hoft: this argument is no Eigen matrix
// refused: hoft: this argument is no Eigen matrix
// refused: hoft::unmerge: the adapter must hold the accumulator type of M
// refused among others: hoft: dU, dV and ds are written
// refused: hoft::scaled_low_rank: the adapter must hold the accumulator type of M and of the factors
#include <hoft/hoft.hpp>

#include <Eigen/Core>

#include <vector>

using Eigen::MatrixXd;
using Eigen::MatrixXf;
using row_major_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// The types that must be the same, each time but one.
void f(MatrixXf const& U, MatrixXf const& M, MatrixXf const& x, MatrixXf const& dy, MatrixXd& Md, MatrixXd const& xd,
       std::vector<float>& memory) {
  auto const base = hoft::dense(M);
  hoft::adapter const a{U, U};
  auto const layer = hoft::bind_layer(a, base);
  auto const f = hoft::forward(layer, x);
  hoft::layer_gradient g(layer);
#if REFUSED == 0
  auto const one = hoft::forward(a, base, x);
  auto const d = hoft::backward(a, base, x, one, 2 * dy);
  auto const dx = hoft::backward(layer, x, f, dy, g);
#elif REFUSED == 1
  auto const d = hoft::backward(a, base, x, x, dy);
#elif REFUSED == 2
  auto const d = hoft::backward(hoft::cpu{}, a, base, x, f, dy);
#elif REFUSED == 3
  auto const dx = hoft::backward(layer, x, x, dy, g);
#elif REFUSED == 4
  auto const y = hoft::forward(a, base, xd);
#elif REFUSED == 5
  auto const y = hoft::forward(layer, xd);
#elif REFUSED == 6
  auto const y = hoft::forward(hoft::adapter<double>{xd, xd}, base, xd);
#elif REFUSED == 7
  auto const bound = hoft::bind_layer<double>(hoft::adapter<double>{xd, xd}, base);
#elif REFUSED == 8
  hoft::adapter<double> const z{U, U};
#elif REFUSED == 9
  hoft::adapter const z{U, xd};
#elif REFUSED == 10
  auto const bound = hoft::bind_layer(hoft::adapter<double>{xd, xd}, base);
#elif REFUSED == 11
  auto const bound = hoft::bind_layer(a, M);
#elif REFUSED == 12
  auto const y = hoft::forward(a, M, x);
#elif REFUSED == 13
  auto const dx = hoft::backward(layer, x, f, row_major_matrix(dy), g);
#elif REFUSED == 14
  auto const d = hoft::apply_backward(a.left(), xd, xd);
#elif REFUSED == 15
  auto const d = hoft::merge_backward(a, xd, xd);
#elif REFUSED == 16
  auto const d = hoft::low_rank(a, xd);
#elif REFUSED == 17
  auto const Q = hoft::accumulate(memory);
#elif REFUSED == 18
  hoft::apply(a.left(), memory);
#elif REFUSED == 19
  hoft::unmerge(a, Md);
#elif REFUSED == 20
  hoft::finish<float>(hoft::cpu{}, layer.view(), base, g.view(), hoft::as_view(U), hoft::as_view(U),
                      hoft::vector_view<float>{}, {});
#elif REFUSED == 21
  auto const d = hoft::scaled_low_rank(a, xd);
#endif
}
