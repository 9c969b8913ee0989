// SPDX-License-Identifier: BSD-3-Clause
// Calls the public face for every scalar, so that the templates behind it are compiled where their warnings show.
// It is compiled and not run: what the numbers are is for the tests.
#include <hoft/hoft.hpp>
#if __has_include(<dlpack/dlpack.h>)
#include <hoft/view/dlpack.hpp>
#endif

#include <Eigen/Core>

#include <complex>
#include <iostream>
#include <random>
#include <type_traits>

namespace {

using hoft::index_t;

template <class T, int Order>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Order>;

bool all_right = true;

template <class M>
void expect_shape(M const& A, index_t rows, index_t cols) {
  all_right = all_right && A.rows() == rows && A.cols() == cols;
}

template <class Policy, class Q, class X>
void use_product(Policy policy, Q const& q, X const& x) {
  using storage = X;
  for (auto o : {hoft::op::plain, hoft::op::adjoint}) {
    storage Y = x, Z = x;
    hoft::apply(policy, q, Y, hoft::side::left, o);
    hoft::apply(policy, q, x, Z, hoft::side::left, o);
    storage R = x.transpose();
    hoft::apply(policy, q, R, hoft::side::right, o);
    auto const g = hoft::apply_backward(policy, q, x, Y, hoft::side::left, o);
    expect_shape(g.dX, x.rows(), x.cols());
    expect_shape(g.dU, q.rows(), q.rank());
    storage W = x;
    auto const saved = hoft::apply_and_save(policy, q, W, hoft::side::left, o);
    auto const h = hoft::apply_backward_from_output(policy, q, W, saved, Y, hoft::side::left, o);
    expect_shape(h.dX, x.rows(), x.cols());
  }
}

template <class A, class T, int Order, class Policy>
void use_all(Policy policy) {
  constexpr index_t m = 9, n = 7, r = 3, t = 5;
  using storage = matrix<T, Order>;
  std::mt19937 rng(2);
  std::normal_distribution<float> gaussian;
  auto random = [&](index_t rows, index_t cols) {
    storage X(rows, cols);
    for (index_t j = 0; j < cols; ++j)
      for (index_t i = 0; i < rows; ++i) X(i, j) = T(gaussian(rng));
    return X;
  };

  storage const U = random(m, r), V = random(n, r), M = random(m, n), X = random(m, t), x = random(n, t),
                dy = random(m, t);
  auto const q = hoft::accumulate(policy, U);
  use_product(policy, q, X);
  use_product(policy, hoft::accumulate(policy, U, hoft::neumann{2}), X);
  use_product(policy, hoft::accumulate(policy, U, Eigen::Vector<A, Eigen::Dynamic>::Ones(r).eval()), X);
  expect_shape(hoft::materialize(policy, q, 2), m, 2);
  all_right = all_right && hoft::orthogonality_error(q) < 1;

  storage dX = X;
  auto const g = hoft::apply_backward_from_output(policy, q, X, dX);
  expect_shape(g.dU, m, r);

  Eigen::Vector<A, Eigen::Dynamic> const s = Eigen::Vector<A, Eigen::Dynamic>::Ones(m);
  for (hoft::adapter<A> const& a : {hoft::adapter<A>{U, V}, hoft::adapter<A>{U, V, s}}) {
    storage Mhat = M;
    hoft::merge(policy, a, Mhat);
    auto const gw = hoft::merge_backward(policy, a, M, Mhat);
    expect_shape(gw.dU, m, r);
    expect_shape(gw.dV, n, r);
    hoft::unmerge(policy, a, Mhat);
    auto const base = hoft::dense(M);
    auto const f = hoft::forward(policy, a, base, x);
    expect_shape(f.y, m, t);
    auto const gx = hoft::backward(policy, a, base, x, f, dy);
    expect_shape(gx.dx, n, t);
    auto const layer = hoft::bind_layer(policy, a, base);
    auto const fl = hoft::forward(policy, layer, x);
    hoft::layer_gradient<A> sums(layer);
    expect_shape(hoft::backward(policy, layer, x, fl, dy, sums), n, t);
    expect_shape(hoft::finish(policy, layer, sums).dV, n, r);
    auto const lr = hoft::low_rank(policy, a, M);
    expect_shape(lr.L, m, 2 * r);
    expect_shape(lr.R, 2 * r, n);
    expect_shape(hoft::scaled_low_rank(policy, a, M).magnitude, m, 1);
  }
}

#if __has_include(<dlpack/dlpack.h>)
template <class T>
void use_tensors() {
  if constexpr (!std::is_same_v<T, long double>) {  // which DLPack has no name for
    matrix<T, Eigen::RowMajor> X = matrix<T, Eigen::RowMajor>::Zero(3, 2);
    hoft::dlpack::tensor_extents lent;
    DLTensor const tensor = hoft::dlpack::as_tensor(hoft::as_view(X), lent);
    expect_shape(hoft::as_eigen(hoft::dlpack::as_matrix<T, hoft::row_major>(tensor)), 3, 2);
  }
}
#else
template <class T>
void use_tensors() {}
#endif

template <class A, class T>
void use_scalar() {
  use_tensors<T>();
  use_all<A, T, Eigen::ColMajor>(hoft::cpu{});
  use_all<A, T, Eigen::RowMajor>(hoft::cpu{.threads = 2});
}

}  // namespace

int main() {
  use_scalar<float, float>();
  use_scalar<double, double>();
  use_scalar<long double, long double>();
  use_scalar<std::complex<float>, std::complex<float>>();
  use_scalar<std::complex<double>, std::complex<double>>();
  use_scalar<float, Eigen::half>();
  use_scalar<float, Eigen::bfloat16>();
  std::cout << (all_right ? "shapes as expected" : "unexpected shapes") << '\n';
  return all_right ? 0 : 1;
}
