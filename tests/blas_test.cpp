// SPDX-License-Identifier: BSD-3-Clause
// hoft/blas.hpp: a dense weight whose products the program's BLAS makes.
#include "dense_products.hpp"

#include <hoft/blas.hpp>

#include <doctest/doctest.h>

#include <complex>
#include <limits>
#include <tuple>

namespace {

using namespace hoft_test;

template <class T>
void check_blas_layouts(index_t m, index_t n, index_t t) {
  auto const by_blas = [](auto const& M) { return hoft::blas::dense(M); };
  check_dense<T, col_major, col_major>(m, n, t, by_blas);
  check_dense<T, col_major, row_major>(m, n, t, by_blas);
  check_dense<T, row_major, col_major>(m, n, t, by_blas);
  check_dense<T, row_major, row_major>(m, n, t, by_blas);
}

static_assert(hoft::base_operator<hoft::blas::dense_operator<double, col_major> const, double, row_major>);

}  // namespace

TEST_CASE_TEMPLATE("blas::dense: every pair of layouts", T, float, double, std::complex<float>, std::complex<double>) {
  for (auto [m, n, t] : {std::tuple<index_t, index_t, index_t>{7, 5, 3},
                         {1, 1, 1},
                         {13, 1, 2},
                         {1, 13, 2},
                         {0, 3, 2},
                         {3, 0, 2},
                         {3, 2, 0},
                         {0, 0, 0},
                         {17, 33, 6},
                         {130, 70, 1}})
    check_blas_layouts<T>(m, n, t);
}

TEST_CASE("blas::dense serves forward and backward as dense does") {
  for (bool scaled : {false, true}) {
    problem<double> const p({23, 17, 29, 4, 3}, scaled);
    auto const base = hoft::blas::dense(p.M);
    check_views(p, counted<double, col_major>(base), false);
    check_views(p, counted<double, row_major>(base), false);
    auto const f = hoft::forward(p.make(), base, p.x);
    auto const g = hoft::backward(p.make(), base, p.x, f, p.g);
    check_values({widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), widen(g.ds)}, answers_of(p),
                 allowed_for(p));
  }
}

TEST_CASE("blas::dense reads no output: NaN there stays behind") {
  dense_matrix<float> const M = gaussian<float>(6, 5, 70), X = gaussian<float>(5, 4, 71);
  dense_matrix<float> Y = dense_matrix<float>::Constant(6, 4, std::numeric_limits<float>::quiet_NaN());
  hoft::blas::dense(M).apply(hoft::as_view(X), hoft::as_view(Y));
  CHECK(Y.allFinite());
}

TEST_CASE("blas::dense refuses wrong shapes and extents beyond BLAS's int before it writes") {
  dense_matrix<double> const M = gaussian<double>(4, 3, 72), X = gaussian<double>(3, 2, 73);
  auto const base = hoft::blas::dense(M);
  dense_matrix<double> Y = gaussian<double>(4, 2, 74);
  auto const before = Y;
  auto const x = hoft::as_view(X);
  auto const y = hoft::as_view(Y);
  CHECK_THROWS_WITH_AS(base.apply(y, y), "hoft::blas::dense_operator::apply: X.rows is 4, must be == 3",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(base.apply(x, y.columns(0, 1)), "hoft::blas::dense_operator::apply: Y.cols is 1, must be == 2",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(base.apply_adjoint(x, y), "hoft::blas::dense_operator::apply_adjoint: X.rows is 3, must be == 4",
                       hoft::shape_error);
  index_t const beyond = index_t{1} << 31;
  auto far = y;
  far.ld = beyond;
  CHECK_THROWS_WITH_AS(base.apply(x, far),
                       "hoft::blas::dense_operator::apply: Y.ld is 2147483648, must be <= 2147483647",
                       hoft::argument_error);
  using operator_of_M = hoft::blas::dense_operator<double, col_major>;
  CHECK_THROWS_WITH_AS(operator_of_M(matrix_view<double const>(M.data(), 4, beyond)),
                       "hoft::blas::dense_operator: M.cols is 2147483648, must be <= 2147483647", hoft::argument_error);
  CHECK_THROWS_WITH_AS(operator_of_M(matrix_view<double const>(M.data(), -1, 3)),
                       "hoft::blas::dense_operator: M.rows is -1, must be >= 0", hoft::shape_error);
  CHECK(same_bits(Y, before));
}
