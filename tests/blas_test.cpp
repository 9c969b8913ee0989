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

namespace {

template <class T, class LM, class L>
void check_nan_stays_behind(index_t m, index_t n, index_t t) {
  dense_matrix<T, LM> const M = gaussian<T, LM>(m, n, 70);
  dense_matrix<T, L> const X = gaussian<T, L>(n, t, 71), G = gaussian<T, L>(m, t, 75);
  T const nan(std::numeric_limits<hoft::real_t<T>>::quiet_NaN());
  dense_matrix<T, L> Y = dense_matrix<T, L>::Constant(m, t, nan), D = dense_matrix<T, L>::Constant(n, t, nan);
  hoft::blas::dense(M).apply(hoft::as_view(X), hoft::as_view(Y));
  hoft::blas::dense(M).apply_adjoint(hoft::as_view(G), hoft::as_view(D));
  CHECK((Y.allFinite() && D.allFinite()));
}

}  // namespace

TEST_CASE_TEMPLATE("blas::dense reads no output: NaN there stays behind", T, float, std::complex<double>) {
  check_nan_stays_behind<T, col_major, col_major>(6, 5, 4);
  check_nan_stays_behind<T, col_major, row_major>(6, 5, 4);
  check_nan_stays_behind<T, row_major, col_major>(6, 5, 4);
  // Sums of nothing are zeros, and what is empty needs no address.
  matrix_view<T const> const nothing(nullptr, 0, 5), nowhere(nullptr, 5, 0);
  dense_matrix<T> D = dense_matrix<T>::Constant(5, 3, T(std::numeric_limits<hoft::real_t<T>>::quiet_NaN()));
  hoft::blas::dense_operator<T, col_major>(nothing).apply_adjoint(matrix_view<T const>(nullptr, 0, 3),
                                                                  hoft::as_view(D));
  CHECK((D.array() == T(0)).all());
  D.setConstant(T(7));
  hoft::blas::dense_operator<T, col_major>(nowhere).apply(matrix_view<T const>(nullptr, 0, 3), hoft::as_view(D));
  CHECK((D.array() == T(0)).all());
  hoft::blas::dense_operator<T, col_major>(nowhere).apply(matrix_view<T const>(nullptr, 0, 0),
                                                          matrix_view<T>(nullptr, 5, 0));
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
  CHECK_THROWS_WITH_AS(operator_of_M(matrix_view<double const>(M.data(), beyond, 1)),
                       "hoft::blas::dense_operator: M.rows is 2147483648, must be <= 2147483647", hoft::argument_error);
  CHECK_THROWS_WITH_AS(operator_of_M(matrix_view<double const>(M.data(), 4, 3, beyond)),
                       "hoft::blas::dense_operator: M.ld is 2147483648, must be <= 2147483647", hoft::argument_error);
  auto far_x = x;
  far_x.ld = beyond;
  CHECK_THROWS_WITH_AS(base.apply(far_x, y),
                       "hoft::blas::dense_operator::apply: X.ld is 2147483648, must be <= 2147483647",
                       hoft::argument_error);
  CHECK_THROWS_WITH_AS(
      base.apply(matrix_view<double const>(X.data(), 3, beyond), matrix_view<double>(Y.data(), 4, beyond)),
      "hoft::blas::dense_operator::apply: X.cols is 2147483648, must be <= 2147483647", hoft::argument_error);
  CHECK_THROWS_WITH_AS(operator_of_M(matrix_view<double const>(M.data(), -1, 3)),
                       "hoft::blas::dense_operator: M.rows is -1, must be >= 0", hoft::shape_error);
  CHECK(same_bits(Y, before));
}
