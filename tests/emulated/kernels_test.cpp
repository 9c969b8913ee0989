// SPDX-License-Identifier: BSD-3-Clause
// The kernels on a processor that is emulated, and whose long double may be made by software: small matrices only,
// which cross the borders of vectors and register tiles. What is larger, the kernels' tests have on a real processor.
#include <hoft/hoft.hpp>

#include "../support.hpp"

#include <cmath>
#include <complex>
#include <string>

using namespace hoft_test;

namespace {

struct shape {
  index_t m, r, n;
};

// Sums (m and n) and lines end behind 0 to 3 elements of the last of up to 4 vectors of 2 or 4; runs of tiles are 6, 4,
// 2 and 1 columns wide (8 = 4 + 4, 9 = 6 + 2 + 1, 13 = 6 + 6 + 1), groups of vectors 4, 2 and 1.
constexpr shape shapes[] = {{1, 1, 1},  {2, 1, 3},   {3, 2, 2},   {4, 4, 4},   {5, 3, 8},   {6, 7, 5},
                            {7, 2, 13}, {8, 5, 6},   {9, 6, 9},   {12, 8, 17}, {15, 4, 7},  {16, 9, 12},
                            {17, 5, 3}, {19, 13, 2}, {31, 3, 11}, {33, 6, 10}, {66, 1, 14}, {65, 70, 1}};

template <class T, class L>
struct problem {
  using A = hoft::accumulator_t<T>;
  side s;
  op o;
  dense_matrix<T, L> U, X, dY;
  hoft::compact_wy<A> Q;

  problem(shape d, index_t block, side s_, op o_, unsigned seed)
      : s(s_), o(o_), U(gaussian<T, L>(d.m, d.r, seed)), Q(hoft::accumulate(U, hoft::exact{}, block)) {
    bool const left = s == side::left;
    X = left ? gaussian<T, L>(d.m, d.n, seed + 1) : gaussian<T, L>(d.n, d.m, seed + 1);
    dY = gaussian<T, L>(X.rows(), X.cols(), seed + 2);
  }
};

template <class T, class L>
void check_apply(problem<T, L> const& p) {
  auto const Y = reference_apply(p.U, p.X, p.s, p.o);
  padded<T, L> in_place(p.X);
  padded<T, L> const X(p.X);
  padded<T, L> apart(p.X.rows(), p.X.cols());
  hoft::apply(p.Q, in_place.map(), p.s, p.o);
  hoft::apply(p.Q, X.map(), apart.map(), p.s, p.o);
  CHECK(within(in_place.map(), Y, per_line<T>(p.X, Y, p.s, line_bound<T>(p.U.rows(), p.U.cols()))));
  CHECK(same_bits(in_place.map(), apart.map()));
  CHECK((in_place.intact() && apart.intact()));
}

template <class T, class L>
void check_backward(problem<T, L> const& p, index_t n) {
  auto const expected = reference_backward(p.U, p.X, p.dY, p.s, p.o);
  auto const g = hoft::apply_backward(p.Q, p.X, p.dY, p.s, p.o);
  long double const relative = line_bound<T>(p.U.rows(), p.U.cols());
  CHECK(within(g.dX, expected.X, per_line<T>(p.dY, expected.X, p.s, relative)));
  CHECK(within(g.dU, expected.U, per_reflector<T>(p.U, p.X, p.dY, expected.U, n)));
}

/// y = Q_U diag(s) M Q_V x without forming the product, with the accuracy that activations_test derives.
template <class T, class L>
void check_forward(shape d, unsigned seed) {
  using A = hoft::accumulator_t<T>;
  index_t const tokens = 7, other = d.n + 3, rv = 2;
  dense_matrix<A> const U = gaussian<A>(d.m, d.r, seed), V = gaussian<A>(other, rv, seed + 1);
  Eigen::Matrix<A, Eigen::Dynamic, 1> const s = gaussian<A>(d.m, 1, seed + 2, 0.25).array() + A(1);
  dense_matrix<T> const M = gaussian<T>(d.m, other, seed + 3);
  dense_matrix<T, L> const x = gaussian<T, L>(other, tokens, seed + 4);
  wide_matrix<T> y = times(widen(M), reference_apply(V, x));
  for (index_t i = 0; i < d.m; ++i) y.row(i) *= widened<A>(s(i, 0));
  y = reference_apply(U, y);

  auto const root = [](index_t k) { return std::sqrt(static_cast<long double>(k)); };
  long double const relative = line_bound<T>(d.m, d.r) + line_bound<T>(other, rv) +
                               2 * (root(d.m) + root(other) + root(tokens) + 5) * eps_of<T>() +
                               static_cast<long double>(2 + 4 * rv) * storage_rounding<T>();
  long double const size = widen(s).cwiseAbs().maxCoeff() * widen(M).norm();
  bound_matrix bound(d.m, tokens);
  for (index_t j = 0; j < tokens; ++j) bound.col(j).setConstant(relative * size * widen(x).col(j).norm());
  CHECK(within(hoft::forward(hoft::adapter<A>(U, V, s), hoft::dense(M), x).y, y, bound));
}

template <class T, class L>
void check_all() {
  unsigned seed = 0;
  for (shape const d : shapes) {
    std::string const label = text_of({{"m", d.m}, {"r", d.r}, {"n", d.n}});
    INFO(label);
    for (side s : sides)
      for (op o : ops) {
        std::string const how = text_of({{"s", index_t(s)}, {"o", index_t(o)}});
        INFO(how);
        problem<T, L> const p(d, seed % 2 == 0 ? 64 : 3, s, o, seed);
        seed += 5;
        check_apply(p);
        check_backward(p, d.n);
      }
    check_forward<T, L>(d, seed);
  }
}

}  // namespace

#define EMULATED_SCALARS float, double, std::complex<float>, Eigen::half, Eigen::bfloat16

TEST_CASE_TEMPLATE("kernels at the borders of vectors and tiles, column-major", T, EMULATED_SCALARS) {
  check_all<T, col_major>();
}
TEST_CASE_TEMPLATE("kernels at the borders of vectors and tiles, row-major", T, EMULATED_SCALARS) {
  check_all<T, row_major>();
}
TEST_CASE("Eigen knows the vectors of this processor") {
  CHECK(Eigen::internal::packet_traits<float>::Vectorizable);
  CHECK(Eigen::internal::packet_traits<float>::size >= 4);
}
