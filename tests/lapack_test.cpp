// SPDX-License-Identifier: BSD-3-Clause
// The compact WY form against LAPACK wherever LAPACK has the operation: larft, ormqr and unmqr, orgqr and ungqr, on
// what geqrf returns.
#include <hoft/eigen/apply.hpp>

#include "support.hpp"

#define lapack_complex_float std::complex<float>
#define lapack_complex_double std::complex<double>
#include <lapacke.h>

using namespace hoft_test;

namespace {

// A test of few scalars leaves some of these alone.
#define HOFT_OVERLOAD(Scalar, prefix, orthogonal)                                                                   \
  [[maybe_unused]] void geqrf(index_t m, index_t n, Scalar* a, Scalar* tau) {                                       \
    REQUIRE(LAPACKE_##prefix##geqrf(LAPACK_COL_MAJOR, int(m), int(n), a, int(m), tau) == 0);                        \
  }                                                                                                                 \
  [[maybe_unused]] void larft(index_t m, index_t k, Scalar const* v, index_t ldv, Scalar const* tau, Scalar* t) {   \
    REQUIRE(LAPACKE_##prefix##larft(LAPACK_COL_MAJOR, 'F', 'C', int(m), int(k), v, int(ldv), tau, t, int(k)) == 0); \
  }                                                                                                                 \
  [[maybe_unused]] void mqr(char s, char trans, index_t rows, index_t cols, index_t k, index_t m, Scalar const* v,  \
                            Scalar const* tau, Scalar* c) {                                                         \
    REQUIRE(LAPACKE_##prefix##orthogonal##mqr(LAPACK_COL_MAJOR, s, trans, int(rows), int(cols), int(k), v, int(m),  \
                                              tau, c, int(rows)) == 0);                                             \
  }                                                                                                                 \
  [[maybe_unused]] void gqr(index_t m, index_t n, index_t k, Scalar* a, Scalar const* tau) {                        \
    REQUIRE(LAPACKE_##prefix##orthogonal##gqr(LAPACK_COL_MAJOR, int(m), int(n), int(k), a, int(m), tau) == 0);      \
  }
HOFT_OVERLOAD(float, s, or)
HOFT_OVERLOAD(double, d, or)
HOFT_OVERLOAD(std::complex<float>, c, un)
HOFT_OVERLOAD(std::complex<double>, z, un)
#undef HOFT_OVERLOAD

template <class T>
struct factorisation {
  dense_matrix<T> V;  // R on and above the diagonal, which is not to be read
  Eigen::Matrix<T, Eigen::Dynamic, 1> tau;
};
template <class T>
factorisation<T> factorised(index_t m, index_t r, unsigned seed) {
  factorisation<T> f{gaussian<T>(m, r, seed), {}};
  f.tau.resize(r);
  geqrf(m, r, f.V.data(), f.tau.data());
  return f;
}

struct shape {
  index_t m, r, n, block;
};
// Square shapes end in tau = 0 for real scalars.
constexpr shape shapes[] = {{1, 1, 1, 64},   {2, 1, 3, 64},  {2, 2, 2, 64},   {5, 3, 1, 64},   {9, 9, 4, 4},
                            {33, 17, 9, 64}, {64, 64, 5, 7}, {66, 65, 7, 64}, {200, 31, 3, 8}, {130, 129, 2, 64}};

std::string text(shape const& s) { return text_of({{"m", s.m}, {"r", s.r}, {"n", s.n}, {"block", s.block}}); }

}  // namespace

TEST_CASE_TEMPLATE("larft's T is factor()", T, HOFT_LAPACK_SCALARS) {
  for (shape const& s : shapes) {
    std::string const label = text(s);
    INFO(label);
    auto const f = factorised<T>(s.m, s.r, 11);
    auto const Q = hoft::accumulate(f.V, f.tau, s.block);
    index_t const b = Q.block();
    REQUIRE(b == std::min(s.r, s.block));
    dense_matrix<T> expected = dense_matrix<T>::Zero(b, s.r);
    bound_matrix bound = bound_matrix::Zero(b, s.r);
    for (index_t first = 0; first < s.r; first += b) {
      index_t const k = std::min(b, s.r - first);
      dense_matrix<T> t = dense_matrix<T>::Zero(k, k);
      // The vectors of a later block begin with zeros, which larft does not expect.
      larft(s.m - first, k, f.V.data() + first * (s.m + 1), s.m, f.tau.data() + first, t.data());
      for (index_t j = 0; j < k; ++j)
        for (index_t i = 0; i <= j; ++i) {
          expected(i, first + j) = t(i, j);
          // T_ij = −τ_i τ_j v_iᴴ H ⋯ H v_j, and |τ| ‖v‖² = 1 + |1 − τ ‖v‖²| at most 2: |τ_i| ‖v_i‖ ≤ √(2 |τ_i|). Both
          // judge and judged are off.
          long double const weight = 2 * std::sqrt(widened(std::abs(f.tau(first + i))) * std::abs(f.tau(first + j)));
          bound(i, first + j) = i == j ? 0 : 2 * weight * line_bound<T>(s.m, k);
        }
    }
    CHECK(within(Q.factor(), expected, bound));
  }
}

TEST_CASE_TEMPLATE("ormqr and unmqr are apply", T, HOFT_LAPACK_SCALARS) {
  char const adjoint = is_complex_scalar<T> ? 'C' : 'T';
  for (shape const& sh : shapes) {
    auto const f = factorised<T>(sh.m, sh.r, 21);
    auto const Q = hoft::accumulate(f.V, f.tau, sh.block);
    for (side s : sides)
      for (op o : ops) {
        std::string const label = text(sh) + text_of({{"side", index_t(s)}, {"op", index_t(o)}});
        INFO(label);
        dense_matrix<T> const X = s == side::left ? gaussian<T>(sh.m, sh.n, 22) : gaussian<T>(sh.n, sh.m, 22);
        dense_matrix<T> expected = X;
        mqr(s == side::left ? 'L' : 'R', o == op::plain ? 'N' : adjoint, X.rows(), X.cols(), sh.r, sh.m, f.V.data(),
            f.tau.data(), expected.data());
        auto const bound = per_line<T>(X, X, s, 2 * line_bound<T>(sh.m, sh.r));
        padded<T> Y(X);
        hoft::apply(Q, Y.map(), s, o);
        CHECK(within(Y.map(), expected, bound));
        CHECK(Y.intact());
        padded<T, row_major> rows(X.rows(), X.cols()), rows_in(X);
        hoft::apply(Q, rows_in.map(), rows.map(), s, o);
        CHECK(within(rows.map(), expected, bound));
        CHECK(rows.intact());
      }
  }
}

TEST_CASE_TEMPLATE("orgqr and ungqr are materialize", T, HOFT_LAPACK_SCALARS) {
  for (shape const& s : shapes)
    for (index_t const k : {s.r, (s.m + s.r) / 2, s.m}) {
      std::string const label = text(s) + text_of({{"k", k}});
      INFO(label);
      auto const f = factorised<T>(s.m, s.r, 31);
      dense_matrix<T> expected = dense_matrix<T>::Zero(s.m, k);
      expected.leftCols(s.r) = f.V;
      gqr(s.m, k, s.r, expected.data(), f.tau.data());
      CHECK(within(hoft::materialize(hoft::accumulate(f.V, f.tau, s.block), k), expected, 2 * line_bound<T>(s.m, s.r)));
    }
}

TEST_CASE_TEMPLATE("geqrf's reflectors rebuild the matrix: A = Q R", T, HOFT_LAPACK_SCALARS) {
  index_t const m = 40, r = 12;
  auto const f = factorised<T>(m, r, 41);
  dense_matrix<T, row_major> QR = f.V.template triangularView<Eigen::Upper>();
  hoft::apply(hoft::accumulate(f.V, f.tau), QR);
  dense_matrix<T> const A = gaussian<T>(m, r, 41);
  CHECK(within(QR, A, per_line<T>(A, A, side::left, 2 * line_bound<T>(m, r))));
  // The vectors alone, normalised by accumulate, are the same reflectors where these are orthogonal: for real scalars.
  if constexpr (!is_complex_scalar<T>) {
    dense_matrix<T> V = f.V;
    for (index_t j = 0; j < r; ++j) {
      V.col(j).head(j).setZero();
      V(j, j) = T(1);
    }
    dense_matrix<T> again = f.V.template triangularView<Eigen::Upper>();
    hoft::apply(hoft::accumulate(V), again);
    CHECK(within(again, QR, per_line<T>(A, A, side::left, 2 * line_bound<T>(m, r))));
  }
}
