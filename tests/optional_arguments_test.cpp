// SPDX-License-Identifier: BSD-3-Clause
// What may be left out: projections without columns, q of an adapter without a scale, and strides that nothing uses.
#include <hoft/eigen/activations.hpp>
#include <hoft/eigen/apply.hpp>

#include <doctest/doctest.h>

#include <cstddef>
#include <vector>

using namespace hoft;

TEST_CASE("apply writes no projections to a view without columns") {
  using matrix = dense_matrix<double>;
  matrix U(9, 3), X(9, 5);
  U.setRandom(), X.setRandom();
  auto const Q = accumulate(U);
  matrix expected(X);
  apply(Q, expected);
  double guard[32];
  for (double& g : guard) g = 7;
  detail::lent_workspace const work(apply_workspace(cpu{}, Q.view(), as_view(X)));
  apply(cpu{}, Q.view(), as_view(X), as_view(X), side::left, op::plain, work, matrix_view<double>(guard + 1, 3, 0));
  CHECK(X == expected);
  for (double g : guard) CHECK(g == 7);
}

TEST_CASE("q is saved for an adapter with a scale only") {
  using matrix = dense_matrix<Eigen::half>;
  dense_matrix<float> U(6, 2), V(5, 1);
  U.setRandom(), V.setRandom();
  matrix M(6, 5), x(5, 4), y(6, 4), dy(6, 4), dbase(6, 4), dx(5, 4), q(6, 4);
  for (matrix* a : {&M, &x, &y, &dy, &dbase, &dx, &q}) a->setConstant(Eigen::half(1.0f));
  adapter<float> const hoft_adapter(U, V);
  auto const a = hoft_adapter.view();
  auto base = dense(M);
  std::vector<std::byte> memory(1 << 16);
  arena carved(workspace{memory.data(), index_t(memory.size())});
  auto layer = carve_layer(carved, a);
  auto state = carve_layer_state<Eigen::half, col_major>(carved, a, 4);
  auto const g = carve_layer_gradient(carved, a);
  detail::lent_workspace const work(1 << 20);
  bind_layer<Eigen::half>(cpu{}, a, base, layer, work);
  set_zero(cpu{}, g);
  auto const run_forward = [&] { forward(cpu{}, layer, base, as_view(x), as_view(y), state, work); };
  auto const run_adapt = [&] { adapt(cpu{}, layer, as_view(dbase), as_view(y), state, work); };
  auto const run_backward = [&] {
    backward(cpu{}, layer, base, as_view(x), as_view(y), state, as_view(dy), as_view(dbase), as_view(dx), g, work);
  };
  CHECK_NOTHROW(run_forward());
  state.q = as_view(q);
  CHECK_THROWS_WITH_AS(run_forward(), "hoft::forward: state is of SHOFT, must be of HOFT", shape_error);
  CHECK_THROWS_WITH_AS(run_adapt(), "hoft::adapt: state is of SHOFT, must be of HOFT", shape_error);
  CHECK_THROWS_WITH_AS(run_backward(), "hoft::backward: state is of SHOFT, must be of HOFT", shape_error);
  CHECK((q.array() == Eigen::half(1.0f)).all());
  state.q = {};
  CHECK_NOTHROW(run_backward());
}

TEST_CASE("the stride of an Eigen map with one column, or none, says nothing") {
  using map = Eigen::Map<Eigen::MatrixXd const, 0, Eigen::OuterStride<>>;
  using rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  auto const Q = accumulate(Eigen::MatrixXd::Random(20, 3).eval());
  Eigen::MatrixXd const X = Eigen::MatrixXd::Random(20, 2);
  dense_matrix<double> expected, Y;
  apply(Q, X.leftCols(1), expected);
  for (index_t const ld : {0, 7, 20, 33}) {
    Eigen::OuterStride<> const stride(ld);
    apply(Q, map(X.data(), 20, 1, stride), Y);
    CHECK(Y == expected);
    apply(Q, map(nullptr, 20, 0, stride), Y);
    CHECK((Y.rows() == 20 && Y.cols() == 0));
    CHECK(as_view(Eigen::Map<rows const, 0, Eigen::OuterStride<>>(X.data(), 1, 20, stride)).ld >= 20);
  }
  CHECK_THROWS_AS(apply(Q, map(X.data(), 20, 2, Eigen::OuterStride<>(0)), Y), shape_error);
}
