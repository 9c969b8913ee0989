// Optional outputs where there is no place for them: projections without columns, and q of an adapter without a scale.
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
  detail::scratch const work(apply_workspace(cpu{}, Q.view(), as_view(X)));
  apply(cpu{}, Q.view(), as_view(X), as_view(X), side::left, op::plain, work, matrix_view<double>(guard + 1, 3, 0));
  CHECK(X == expected);
  for (double g : guard) CHECK(g == 7);
}

TEST_CASE("q is saved for an adapter with a scale only") {
  using matrix = dense_matrix<Eigen::half>;
  dense_matrix<float> U(6, 2), V(5, 1);
  U.setRandom(), V.setRandom();
  matrix M(6, 5), x(5, 4 + 1), y(6, 4 + 1), dy(6, 4 + 1), dx(5, 4 + 1), q(6, 4);
  for (matrix* a : {&M, &x, &y, &dy, &dx, &q}) a->setConstant(Eigen::half(1.0f));
  dense_matrix<float> dU(6, 2), dV(5, 1);
  adapter<float> const hoft_adapter(U, V);
  auto const a = hoft_adapter.view();
  auto base = dense(M);
  std::vector<std::byte> memory(4096);
  arena carved(workspace{memory.data(), index_t(memory.size())});
  auto saved = carve_saved<Eigen::half, col_major>(carved, a, 4);
  detail::scratch const work(1 << 20);
  auto const run_forward = [&] { forward(cpu{}, a, base, as_view(x), as_view(y), saved, work); };
  auto const run_backward = [&] {
    backward(cpu{}, a, base, as_view(x).columns(0, 4), as_view(y).columns(0, 4), saved, as_view(dy), as_view(dx),
             as_view(dU), as_view(dV), vector_view<float>{}, work);
  };
  CHECK_NOTHROW(run_forward());
  saved.q = as_view(q);
  CHECK_THROWS_WITH_AS(run_forward(), "hoft::forward: saved.q.rows is 6, must be == 0", shape_error);
  CHECK_THROWS_WITH_AS(run_backward(), "hoft::backward: saved.q.rows is 6, must be == 0", shape_error);
  CHECK((q.array() == Eigen::half(1.0f)).all());
  saved.q = {};
  CHECK_NOTHROW(run_backward());
}
