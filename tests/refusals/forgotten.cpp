// SPDX-License-Identifier: BSD-3-Clause
// refused: hoft: Q must come from hoft::accumulate(U)
// refused: hoft: Q must come from hoft::accumulate(U)
// refused: hoft: Q must come from hoft::accumulate(U)
// refused: hoft: Q must come from hoft::accumulate(U)
// refused: hoft: Q must come from hoft::accumulate(U)
// refused: hoft: Q must come from hoft::accumulate(U)
// refused: hoft: Q must come from hoft::accumulate(U)
// refused: hoft: Q must come from hoft::accumulate(U)
// refused: hoft: adjoint(Q) takes what hoft::accumulate(U) returns
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
// refused: hoft: a must be a hoft::adapter
#include <hoft/hoft.hpp>

#include <Eigen/Core>

// What a program of its own calls by these names is not taken from it.
namespace own {

using namespace hoft;
using Eigen::MatrixBase;
struct layer {};

template <class D, class E>
int apply(MatrixBase<D> const&, MatrixBase<E> const&) {
  return 1;
}
int materialize(Eigen::Ref<Eigen::MatrixXd const> const&, int) { return 1; }
template <class D>
int adjoint(MatrixBase<D> const&) {
  return 1;
}
template <class D>
int merge(MatrixBase<D> const&, Eigen::Ref<Eigen::MatrixXd const> const&) {
  return 1;
}
template <class D>
int forward(layer const&, MatrixBase<D> const&) {
  return 1;
}
template <class D>
int forward(MatrixBase<D> const&, layer const&, int) {
  return 1;
}
int use(dense_matrix<double> const& U, Eigen::MatrixXd& X) {
  return apply(U, X) + materialize(U, 3) + materialize(X, 3) + adjoint(U) + merge(U, X) + forward(layer{}, U) +
         forward(U, layer{}, 2);
}

}  // namespace own

void f(Eigen::MatrixXd const& U, Eigen::MatrixXd& X, Eigen::MatrixXd const& Y) {
  auto const base = hoft::dense(Y);
  hoft::cpu const policy;
  auto const Q = hoft::accumulate(U);
#if REFUSED == 0
  hoft::apply(Q, X);
#elif REFUSED == 1
  hoft::apply(U, X);
#elif REFUSED == 2
  hoft::apply(policy, U, X, hoft::op::adjoint);
#elif REFUSED == 3
  hoft::apply(2 * U, Y, X);
#elif REFUSED == 4
  auto const W = hoft::apply_and_save(U, X);
#elif REFUSED == 5
  auto const E = hoft::materialize(U, 3);
#elif REFUSED == 6
  Eigen::MatrixXd const E = hoft::materialize(policy, U, 3);
#elif REFUSED == 7
  auto const g = hoft::apply_backward(U, X, Y);
  Eigen::MatrixXd const dU = g.dU;
#elif REFUSED == 8
  auto const g = hoft::apply_backward_from_output(policy, U, X, Y, hoft::side::right);
#elif REFUSED == 9
  hoft::apply(hoft::adjoint(U), X);
#elif REFUSED == 10
  hoft::merge(U, X);
#elif REFUSED == 11
  hoft::merge(policy, Q, X);
#elif REFUSED == 12
  hoft::unmerge(U, X);
#elif REFUSED == 13
  auto const d = hoft::merge_backward(U, X, Y);
#elif REFUSED == 14
  auto const d = hoft::low_rank(Q, X);
#elif REFUSED == 15
  auto const y = hoft::forward(U, base, X);
#elif REFUSED == 16
  auto const y = hoft::forward(policy, Q, base, X).y;
#elif REFUSED == 17
  auto const d = hoft::backward(U, base, X, X, Y);
#elif REFUSED == 18
  auto const layer = hoft::bind_layer(U, base);
#elif REFUSED == 19
  auto const d = hoft::scaled_low_rank(policy, U, X);
#endif
}
