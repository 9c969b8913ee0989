// SPDX-License-Identifier: BSD-3-Clause
// Base operators of any type, which hoft calls and never looks into, and dense.
#include "dense_products.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <random>
#include <tuple>

namespace {

using namespace hoft_test;

/// A weight of 8-bit integers with one scale for each row: M = diag(scale) codes.
struct quantised {
  Eigen::Matrix<std::int8_t, Eigen::Dynamic, Eigen::Dynamic> codes;
  vector<float> scale;

  quantised(index_t m, index_t n, unsigned seed) : codes(m, n), scale(m) {
    std::mt19937_64 engine(seed);
    std::uniform_int_distribution<int> code(-127, 127);
    for (index_t i = 0; i < m; ++i) {
      scale(i) = std::ldexp(1.0f, -7 - int(i % 3));
      for (index_t j = 0; j < n; ++j) codes(i, j) = static_cast<std::int8_t>(code(engine));
    }
  }
  float at(index_t i, index_t j) const { return scale(i) * static_cast<float>(codes(i, j)); }
  dense_matrix<float> weight() const {
    dense_matrix<float> M(codes.rows(), codes.cols());
    for (index_t j = 0; j < M.cols(); ++j)
      for (index_t i = 0; i < M.rows(); ++i) M(i, j) = at(i, j);
    return M;
  }
  template <class L>
  void apply(matrix_view<float const, L> X, matrix_view<float, L> Y) const {
    for (index_t k = 0; k < X.cols; ++k)
      for (index_t i = 0; i < codes.rows(); ++i) {
        float sum = 0;
        for (index_t j = 0; j < codes.cols(); ++j) sum += static_cast<float>(codes(i, j)) * X(j, k);
        Y(i, k) = scale(i) * sum;
      }
  }
  template <class L>
  void apply_adjoint(matrix_view<float const, L> X, matrix_view<float, L> Y) const {
    for (index_t k = 0; k < X.cols; ++k)
      for (index_t j = 0; j < codes.cols(); ++j) {
        float sum = 0;
        for (index_t i = 0; i < codes.rows(); ++i) sum += at(i, j) * X(i, k);
        Y(j, k) = sum;
      }
  }
};

/// Two shards of rows behind one plain, stateful, row-major interface: no templates, nothing but the two calls.
class sharded {
 public:
  explicit sharded(dense_matrix<double> const& M)
      : upper_(M.topRows(M.rows() / 2)), lower_(M.bottomRows(M.rows() - M.rows() / 2)) {}
  sharded(sharded const&) = delete;

  void apply(matrix_view<double const, row_major> X, matrix_view<double, row_major> Y) {
    hoft::dense(upper_).apply(X, Y.block(0, 0, upper_.rows(), X.cols));
    hoft::dense(lower_).apply(X, Y.block(upper_.rows(), 0, lower_.rows(), X.cols));
    ++calls;
  }
  void apply_adjoint(matrix_view<double const, row_major> X, matrix_view<double, row_major> Y) {
    dense_matrix<double, row_major> part(Y.rows, Y.cols);
    hoft::dense(upper_).apply_adjoint(X.block(0, 0, upper_.rows(), X.cols), Y);
    hoft::dense(lower_).apply_adjoint(X.block(upper_.rows(), 0, lower_.rows(), X.cols), hoft::as_view(part));
    hoft::as_eigen(Y) += part;
    ++calls;
  }
  int calls = 0;

 private:
  dense_matrix<double> upper_, lower_;
};

struct half_an_operator {
  void apply(matrix_view<double const>, matrix_view<double>);
};

static_assert(hoft::base_operator<quantised const, float, row_major>);
static_assert(hoft::base_operator<sharded, double, row_major>);
static_assert(!hoft::base_operator<sharded, double, col_major>);
static_assert(!hoft::base_operator<sharded const, double, row_major>);
static_assert(!hoft::base_operator<half_an_operator, double, col_major>);
static_assert(hoft::base_operator<hoft::dense_operator<double, col_major> const, double, row_major>);

}  // namespace

TEST_CASE("any type with apply and apply_adjoint is a base operator") {
  for (bool scaled : {false, true})
    for (bool keep_q : {false, true}) {
      quantised const base(19, 13, 50);
      problem<float> p({19, 13, 21, 4, 3}, scaled);
      p.M = base.weight();
      check_views(p, counted<float, col_major>(base), keep_q);
      check_views(p, counted<float, row_major>(base), keep_q);

      problem<double> const q({11, 6, 14, 2, 5}, scaled);
      sharded state(q.M);
      check_views(q, counted<double, row_major>(state), keep_q);
      CHECK(state.calls == 4);
    }
  // The value-returning calls take it directly.
  problem<double> const p({11, 6, 14, 2, 5}, true);
  sharded state(p.M);
  dense_matrix<double, row_major> const x = p.x, dy = p.g;
  auto const f = hoft::forward(p.make(), state, x);
  auto const g = hoft::backward(p.make(), state, x, f, dy);
  CHECK(state.calls == 4);
  check_values({widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), widen(g.ds)}, answers_of(p), allowed_for(p));
}

namespace {

template <class T>
void check_dense_layouts(index_t m, index_t n, index_t t) {
  auto const on_one = [](auto const& M) { return hoft::dense(M); };
  auto const on_two = [](auto const& M) { return hoft::dense(cpu{.threads = 2}, M); };
  check_dense<T, col_major, col_major>(m, n, t, on_one);
  check_dense<T, col_major, row_major>(m, n, t, on_one);
  check_dense<T, row_major, col_major>(m, n, t, on_one);
  check_dense<T, row_major, row_major>(m, n, t, on_two);
}

}  // namespace

TEST_CASE_TEMPLATE("dense: every pair of layouts", T, std::complex<double>, Eigen::half, Eigen::bfloat16) {
  for (auto [m, n, t] : {std::tuple<index_t, index_t, index_t>{7, 5, 3},
                         {1, 1, 1},
                         {13, 1, 2},
                         {0, 3, 2},
                         {3, 0, 2},
                         {3, 2, 0},
                         {17, 33, 6}})
    check_dense_layouts<T>(m, n, t);
  if (is_stored_in_16_bits<T>)  // converted by 256 outputs and 256 tokens
    for (index_t edge : {255, 256, 257, 513, 1025}) {
      check_dense_layouts<T>(edge, 3, 5);
      check_dense_layouts<T>(3, edge, 5);
      check_dense_layouts<T>(4, 5, edge);
    }
}

TEST_CASE("dense: where the kernel of the adjoint product changes with the number of tokens and the size of M") {
  auto const on_one = [](auto const& M) { return hoft::dense(M); };
  for (index_t tokens : {35, 36, 37}) check_dense<float, col_major, col_major>(140, 130, tokens, on_one);
  for (index_t tokens : {8, 9, 13}) check_dense<float, col_major, col_major>(1800, 1800, tokens, on_one);
}

TEST_CASE("dense refuses wrong shapes before it writes") {
  dense_matrix<double> const M = gaussian<double>(4, 3, 63), X = gaussian<double>(3, 2, 64);
  auto const base = hoft::dense(M);
  dense_matrix<double> Y = gaussian<double>(4, 2, 65);
  auto const before = Y;
  auto const view = [](auto& A) { return hoft::as_view(A); };
  CHECK_THROWS_WITH_AS(base.apply(view(Y), view(Y)), "hoft::dense_operator::apply: X.rows is 4, must be == 3",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(base.apply(view(X), view(Y).columns(0, 1)),
                       "hoft::dense_operator::apply: Y.cols is 1, must be == 2", hoft::shape_error);
  CHECK_THROWS_WITH_AS(base.apply_adjoint(view(X), view(Y)),
                       "hoft::dense_operator::apply_adjoint: X.rows is 3, must be == 4", hoft::shape_error);
  CHECK_THROWS_WITH_AS(base.apply_adjoint(view(before), view(Y)),
                       "hoft::dense_operator::apply_adjoint: Y.rows is 4, must be == 3", hoft::shape_error);
  CHECK(same_bits(Y, before));
}
