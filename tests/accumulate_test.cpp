// SPDX-License-Identifier: BSD-3-Clause
// accumulate: the normalised reflectors and the triangles T, their definition, and what must hold for every input.
#include <hoft/eigen/apply.hpp>
#include <hoft/reference/orthogonality.hpp>

#include "support.hpp"

using namespace hoft_test;

namespace {

template <class T>
T not_a_number() {
  return scalar_of<T>(std::numeric_limits<long double>::quiet_NaN());
}

template <class D>
bool is_zero(Eigen::MatrixBase<D> const& A) {
  return (A.array() == typename D::Scalar(0)).all();
}

/// The triangles of blocks of `block` reflectors I − τ v vᴴ side by side, column by column as in LAPACK's larft: τ_j on
/// the diagonal, above it −τ_j T VᴴV e_j.
template <class W>
deducible<W> triangles(deducible<W> const& V, deducible<W> const& tau, index_t block) {
  deducible<W> T = deducible<W>::Zero(block, V.cols());
  for (index_t j = 0; j < V.cols(); ++j) {
    index_t const first = j / block * block;
    T(j - first, j) = tau(j, 0);
    for (index_t l = first; l < j; ++l) {
      W const product = V.col(l).dot(V.col(j)) * tau(j, 0);
      for (index_t i = first; i <= l; ++i) T(i - first, j) -= T(i - first, l) * product;
    }
  }
  return T;
}

/// The normalised columns in long double, and 2, or 0 for a column of zeros.
template <class D>
auto normalised(Eigen::MatrixBase<D> const& A) {
  auto U = widen(A);
  deducible<wide_t<typename D::Scalar>> tau(U.cols(), 1);
  for (index_t j = 0; j < U.cols(); ++j) {
    long double const length = U.col(j).norm();
    tau(j, 0) = length > 0 ? 2 : 0;
    if (length > 0) U.col(j) /= length;
  }
  return std::pair(U, tau);
}

/// û is off by the error of its norm, a sum of m squares under a root, and two roundings: an element by so much of
/// itself.
template <class T, class W>
bound_matrix vector_bound(deducible<W> const& Uhat) {
  return (std::sqrt(static_cast<long double>(Uhat.rows())) + 3) * eps_of<T>() * Uhat.cwiseAbs();
}

/// T_ij = −τ_i τ_j û_iᴴ H_{i+1} ⋯ H_{j−1} û_j: the error of a line under r reflectors, times τ_i τ_j = 4.
template <class T>
long double factor_bound(index_t m, index_t r) {
  return 4 * line_bound<T>(m, r);
}

template <class T, class L>
void check_definition() {
  struct shape {
    index_t m, r, block;
  };
  unsigned seed = 10;
  for (auto const [m, r, block] : {shape{0, 0, 64},
                                   {0, 2, 64},
                                   {1, 0, 64},
                                   {1, 1, 1},
                                   {1, 4, 64},
                                   {2, 1, 64},
                                   {2, 2, 1},
                                   {5, 9, 4},
                                   {40, 17, 64},
                                   {33, 16, 64},
                                   {300, 65, 64},
                                   {130, 130, 50},
                                   {200, 150, 150},
                                   {9, 70, 64}}) {
    std::string const label = text_of({{"m", m}, {"r", r}, {"block", block}});
    INFO(label);
    padded<T, L> const U(gaussian<T, L>(m, r, ++seed));
    auto const Q = hoft::accumulate(U.map(), hoft::exact{}, block);
    CHECK(U.intact());
    CHECK(Q.rows() == m);
    CHECK(Q.rank() == r);
    CHECK(Q.block() == std::max<index_t>(1, std::min(r, block)));
    CHECK_FALSE(Q.kind().truncated);
    auto const [Uhat, tau] = normalised(U.map());
    CHECK(within(Q.vectors(), Uhat, vector_bound<T>(Uhat)));
    CHECK(within(Q.tau(), tau, factor_bound<T>(m, 1)));
    auto const S = triangles(Uhat, tau, Q.block());
    CHECK(within(Q.factor(), S, factor_bound<T>(m, std::min(r, block))));
    // |T_ij| ≤ τ_i τ_j, by the formula above and Cauchy-Schwarz.
    CHECK(within(Q.factor(), 0 * S, 4 + factor_bound<T>(m, std::min(r, block))));

    // The form that takes views, over scratch full of NaN and storage full of NaN.
    using A = hoft::accumulator_t<T>;
    hoft::arena count;
    hoft::carve_compact_wy<A>(count, m, r, Q.block());
    guarded_workspace storage(count.size()), work(hoft::accumulate_workspace<A>(hoft::cpu{}, r, Q.block()));
    hoft::arena memory{hoft::workspace(storage)};
    auto q = hoft::carve_compact_wy<A>(memory, m, r, Q.block());
    hoft::accumulate(hoft::cpu{}, U.view(), q, hoft::exact{}, work);
    CHECK(storage.intact());
    CHECK(work.intact());
    CHECK(same_bits(hoft::as_eigen(q.vectors), Q.vectors()));
    CHECK(same_bits(hoft::as_eigen(q.factor), Q.factor()));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("vectors and triangles against their definition in long double, column-major", T, HOFT_ALL_SCALARS) {
  check_definition<T, col_major>();
}
TEST_CASE_TEMPLATE("vectors and triangles against their definition in long double, row-major", T, HOFT_ALL_SCALARS) {
  check_definition<T, row_major>();
}

TEST_CASE_TEMPLATE("tau as LAPACK gives it: the definition, any tau, nothing read above the strict lower part", T,
                   HOFT_ALL_SCALARS) {
  struct shape {
    index_t m, r, block;
  };
  for (auto const [m, r, block] : {shape{0, 0, 64}, {1, 1, 64}, {4, 0, 64}, {5, 5, 2}, {40, 17, 64}, {130, 65, 64}}) {
    std::string const label = text_of({{"m", m}, {"r", r}});
    INFO(label);
    padded<T, row_major> V(gaussian<T, row_major>(m, r, 31));
    dense_matrix<T> const scatter = gaussian<T>(r, 1, 32);
    Eigen::Matrix<T, Eigen::Dynamic, 1> tau(r);
    wide_matrix<T> v = widen(V.map());
    wide_matrix<T> exact_tau(r, 1);
    bound_matrix vectors_bound = bound_matrix::Zero(m, r);
    dense_matrix<long double> weight(r, 1);
    for (index_t j = 0; j < r; ++j) {
      for (index_t i = 0; i <= j; ++i) {
        v(i, j) = i == j ? 1 : 0;
        V.map()(i, j) = not_a_number<T>();
      }
      // Shrinking reflectors, |1 − τ ‖v‖²| ≤ 1, and the identity among them.
      auto const s = widened(scatter(j, 0));
      long double const square = v.col(j).squaredNorm();
      wide_t<T> const value = j % 4 == 1 ? wide_t<T>(0) : (1.0L - s / std::max(1.0L, std::abs(s))) / square;
      tau(j) = scalar_of<T>(std::real(value), std::imag(value));
      exact_tau(j, 0) = widened(tau(j));
      weight(j, 0) = std::abs(exact_tau(j, 0)) * std::sqrt(square);
    }
    auto const Q = hoft::accumulate(V.map(), tau, block);
    CHECK(within(Q.vectors(), v, 0.0L));
    CHECK(within(Q.tau(), exact_tau, 0.0L));
    bound_matrix bound = bound_matrix::Zero(Q.block(), r);
    for (index_t j = 0; j < r; ++j)
      for (index_t i = j / Q.block() * Q.block(); i < j; ++i)  // |τ_i| ‖v_i‖ |τ_j| ‖v_j‖ × the error of a line
        bound(i % Q.block(), j) = weight(i, 0) * weight(j, 0) * line_bound<T>(m, Q.block());
    CHECK(within(Q.factor(), triangles(v, exact_tau, Q.block()), bound));
    for (index_t j = 1; j < r; j += 4) {
      CHECK(is_zero(Q.factor().col(j)));
      index_t const first = j / Q.block() * Q.block(), count = std::min(Q.block(), r - first);
      CHECK(is_zero(Q.factor().row(j - first).segment(first, count)));
    }
  }
}

TEST_CASE_TEMPLATE("a column of zeros is the identity and leaves the others as they are", T, HOFT_ALL_SCALARS) {
  index_t const m = 23, r = 19;
  dense_matrix<T> U = gaussian<T>(m, r, 41), others(m, r - 3);
  index_t kept = 0;
  for (index_t j = 0; j < r; ++j) {
    if (j == 0 || j == 7 || j == r - 1) U.col(j).setZero();
    else others.col(kept++) = U.col(j);
  }
  auto const Q = hoft::accumulate(U), P = hoft::accumulate(others);
  CHECK(within(Q.factor(), triangles(normalised(U).first, normalised(U).second, r), factor_bound<T>(m, r)));
  kept = 0;
  dense_matrix<hoft::accumulator_t<T>> factor(P.rank(), P.rank());
  for (index_t j = 0; j < r; ++j) {
    if (is_zero(U.col(j))) {
      CHECK(is_zero(Q.vectors().col(j)));
      CHECK(is_zero(Q.factor().col(j)));
      CHECK(is_zero(Q.factor().row(j)));
      CHECK(Q.tau()(j) == hoft::accumulator_t<T>(0));
    } else {
      index_t column = 0;
      for (index_t i = 0; i < r; ++i)
        if (!is_zero(U.col(i))) factor(column++, kept) = Q.factor()(i, j);
      ++kept;
    }
  }
  CHECK(within(factor, widen(P.factor()), 2 * factor_bound<T>(m, r)));

  auto const nothing = hoft::accumulate(dense_matrix<T>(dense_matrix<T>::Zero(4, 3)));
  CHECK(is_zero(nothing.factor()));
  CHECK(same_bits(hoft::materialize(nothing, 4), dense_matrix<hoft::accumulator_t<T>>::Identity(4, 4)));
}

TEST_CASE_TEMPLATE("the length of a column does not matter", T, HOFT_ALL_SCALARS) {
  using R = hoft::real_t<T>;
  index_t const m = 37, r = 6;
  dense_matrix<T> const U = gaussian<T>(m, r, 51);
  auto const Q = hoft::accumulate(U);
  dense_matrix<T> scaled = U;
  // Powers of two, but for the last: the direction stays to the bit.
  int const far = is_stored_in_16_bits<T>     ? 3
                  : std::is_same_v<R, float>  ? 100
                  : std::is_same_v<R, double> ? 1000
                                              : 16000;
  scaled.col(0) *= scalar_of<T>(std::ldexp(1.0L, far));
  scaled.col(1) *= scalar_of<T>(std::ldexp(-1.0L, -far));
  scaled.col(2) *= scalar_of<T>(-1);
  auto const P = hoft::accumulate(scaled);
  dense_matrix<hoft::accumulator_t<T>> expected = Q.vectors();
  expected.middleCols(1, 2) *= hoft::accumulator_t<T>(-1);
  CHECK(same_bits(P.vectors(), expected));
  if constexpr (!is_stored_in_16_bits<T>) {
    long double const big = std::is_same_v<R, float> ? 1e30L : std::is_same_v<R, double> ? 1e200L : 1e3000L;
    dense_matrix<T> X = gaussian<T>(m, 3, 52);
    for (long double alpha : {big, 1 / big, -big, std::numeric_limits<R>::min() * 4.0L}) {
      CAPTURE(alpha);
      // α U is rounded again, so the judge sees the rounded one.
      dense_matrix<T> const V = narrowed<T>(widen(U) * wide_t<T>(alpha));
      auto const [Vhat, tau] = normalised(widen(V) / wide_t<T>(alpha));
      auto const S = hoft::accumulate(V);
      CHECK(within(S.vectors(), std::real(alpha) < 0 ? wide_matrix<T>(-Vhat) : Vhat, vector_bound<T>(Vhat)));
      CHECK(within(S.factor(), triangles(Vhat, tau, r), factor_bound<T>(m, r)));
      dense_matrix<T> Y = X;
      hoft::apply(S, Y);
      CHECK(within(Y, reference_apply(widen(V) / wide_t<T>(alpha), X),
                   per_line<T>(X, X, side::left, line_bound<T>(m, r))));
    }
  }
}

TEST_CASE_TEMPLATE("subnormal columns are columns", T, HOFT_ALL_SCALARS) {
  using R = std::conditional_t<is_stored_in_16_bits<T>, T, hoft::real_t<T>>;
  index_t const m = 9, r = 4;
  auto const tiny = static_cast<long double>(std::numeric_limits<R>::denorm_min());
  dense_matrix<T> U(m, r);
  dense_matrix<T> const X = gaussian<T>(m, 3, 61);
  wide_matrix<T> multiples(m, r);
  for (index_t j = 0; j < r; ++j)
    for (index_t i = 0; i < m; ++i) {
      multiples(i, j) = wide_t<T>((i * 7 + j * 3) % 11 - 5);
      if (j == 0) multiples(i, j) = wide_t<T>(i == 3 ? 1 : 0);  // the smallest column there is
      U(i, j) = scalar_of<T>(std::real(multiples(i, j)) * tiny);
    }
  auto const Q = hoft::accumulate(U);
  auto const [Uhat, tau] = normalised(multiples);
  CHECK(within(Q.vectors(), Uhat, vector_bound<T>(Uhat)));
  CHECK(within(Q.factor(), triangles(Uhat, tau, r), factor_bound<T>(m, r)));
  dense_matrix<T> Y = X;
  hoft::apply(Q, Y);
  auto const expected = reference_apply(multiples, X);
  CHECK(within(Y, expected, per_line<T>(X, expected, side::left, line_bound<T>(m, r))));
}

TEST_CASE("16-bit columns near the limits of their type") {
  using T = Eigen::half;
  index_t const m = 600;
  dense_matrix<T> U = gaussian<T>(m, 3, 71);
  U.col(0).setConstant(scalar_of<T>(65504));  // the squares are far outside, the norm is too
  U.col(1) *= scalar_of<T>(1e4);
  U(0, 1) = scalar_of<T>(-65504);
  U.col(2).setConstant(scalar_of<T>(0));
  U(5, 2) = std::numeric_limits<T>::denorm_min();
  auto const Q = hoft::accumulate(U);
  auto const [Uhat, tau] = normalised(U);
  CHECK(within(Q.vectors(), Uhat, vector_bound<T>(Uhat)));
  CHECK(within(Q.factor(), triangles(Uhat, tau, 3), factor_bound<T>(m, 3)));
}

TEST_CASE_TEMPLATE("a NaN or an infinity in U or tau makes everything NaN", T, HOFT_ALL_SCALARS) {
  using A = hoft::accumulator_t<T>;
  auto const infinity = scalar_of<T>(std::numeric_limits<long double>::infinity());
  std::vector<T> bad{not_a_number<T>(), infinity, scalar_of<T>(-1) * infinity};
  if constexpr (is_complex_scalar<T>) bad.push_back(T(0, std::real(bad[0]))), bad.push_back(T(1, std::real(bad[1])));
  for (index_t const column : {0, 4, 12})
    for (index_t const row : {0, 6, 19})
      for (T const value : bad)
        for (bool const alone : {false, true}) {
          dense_matrix<T> U = gaussian<T>(20, 13, 81);
          if (alone) U.col(column).setZero();
          U(row, column) = value;
          std::string const label = text_of({{"column", column}, {"row", row}, {"alone", alone}});
          INFO(label);
          auto const Q = hoft::accumulate(U, hoft::exact{}, 5);
          CHECK(all_nan(hoft::materialize(Q, 20)));
          CHECK(all_nan(Q.vectors().col(column)));
        }
  dense_matrix<T> const V = gaussian<T>(20, 13, 82, 0.1);
  Eigen::Matrix<T, Eigen::Dynamic, 1> tau = gaussian<T>(13, 1, 83);
  tau(7) = not_a_number<T>();
  CHECK(all_nan(hoft::materialize(hoft::accumulate(V, tau, 5), 20)));
  dense_matrix<A> Q = hoft::materialize(hoft::accumulate(V, hoft::neumann{3}), 20);
  CHECK_FALSE(all_nan(Q));
  dense_matrix<T> broken = V;
  broken(3, 12) = infinity;
  CHECK(all_nan(hoft::materialize(hoft::accumulate(broken, hoft::neumann{3}), 20)));
}

TEST_CASE_TEMPLATE("Q is orthogonal or unitary, with the determinant of its reflectors", T, HOFT_ALL_SCALARS) {
  using W = wide_t<T>;
  struct shape {
    index_t m, r, block;
  };
  for (auto const [m, r, block] : {shape{1, 1, 64}, {1, 2, 64}, {7, 4, 64}, {20, 9, 4}, {30, 67, 64}}) {
    dense_matrix<T> U = gaussian<T>(m, r, 91 + unsigned(r));
    if (r == 9) U.col(5).setZero();
    wide_matrix<T> Q = widen(hoft::materialize(hoft::accumulate(U, hoft::exact{}, block), m));
    // Each column is off a unitary matrix's by line_bound.
    CHECK(hoft::orthogonality_error(Q) <= 2 * line_bound<T>(m, r));
    // Gaussian elimination with pivots: the determinant is ±1 but for m errors of that size.
    W determinant(1);
    for (index_t k = 0; k < m; ++k) {
      index_t pivot = k;
      for (index_t i = k; i < m; ++i)
        if (std::abs(Q(i, k)) > std::abs(Q(pivot, k))) pivot = i;
      if (pivot != k) {
        Q.row(k).swap(Q.row(pivot));
        determinant = -determinant;
      }
      determinant *= Q(k, k);
      for (index_t i = k + 1; i < m; ++i) {
        W const factor = Q(i, k) / Q(k, k);
        for (index_t j = k; j < m; ++j) Q(i, j) -= factor * Q(k, j);
      }
    }
    index_t const reflectors = r == 9 ? 8 : r;
    long double const sign = reflectors % 2 == 0 ? 1 : -1;
    CHECK(std::abs(determinant - W(sign)) <= static_cast<long double>(m) * line_bound<T>(m, r));
  }
}

TEST_CASE_TEMPLATE("equal pairs give the identity to rounding", T, HOFT_ALL_SCALARS) {
  index_t const m = 40;
  for (index_t const pairs : {1, 4, 33}) {
    dense_matrix<T> U(m, 2 * pairs);
    for (index_t j = 0; j < pairs; ++j) {
      dense_matrix<T> const u = gaussian<T>(m, 1, 95 + unsigned(j));
      U.col(2 * j) = u;
      U.col(2 * j + 1) = u * scalar_of<T>(j % 2 == 0 ? 1 : -2);
    }
    auto const identity = wide_matrix<T>::Identity(m, m);
    for (index_t const block : {64, 5})  // with 5, pairs are cut
      CHECK(within(hoft::materialize(hoft::accumulate(U, hoft::exact{}, block), m), identity,
                   line_bound<T>(m, 2 * pairs)));
  }
}

TEST_CASE_TEMPLATE("256 nearly parallel vectors", T, float, double, std::complex<double>) {
  index_t const m = 300, r = 256;
  dense_matrix<T> const direction = gaussian<T>(m, 1, 97);
  for (double const spread : {1e-1, 1e-4, 1e-9, 0.0}) {
    CAPTURE(spread);
    dense_matrix<T> U = gaussian<T>(m, r, 98, spread);
    U.colwise() += direction.col(0);
    for (index_t const block : {64, 256}) {
      auto const Q = hoft::accumulate(U, hoft::exact{}, block);
      long double const largest = widen(Q.factor()).cwiseAbs().maxCoeff();
      CHECK(largest <= 4 + factor_bound<T>(m, block));
      CHECK(largest >= 2);
      auto const E = hoft::materialize(Q, 40);  // 40 columns say enough
      CHECK(static_cast<long double>(hoft::orthogonality_error(widen(E))) <= 2 * line_bound<T>(m, r));
      wide_matrix<T> const identity = wide_matrix<T>::Identity(m, 40);
      CHECK(within(E, reference_apply(U, identity), line_bound<T>(m, r)));
    }
  }
}

TEST_CASE_TEMPLATE("the truncated inverse is the series, and r terms are exact", T, HOFT_ALL_SCALARS) {
  using A = hoft::accumulator_t<T>;
  struct shape {
    index_t m, r, terms;
  };
  for (auto const [m, r, terms] :
       {shape{3, 0, 2}, {4, 1, 1}, {4, 1, 3}, {20, 6, 1}, {20, 6, 2}, {20, 6, 4}, {200, 70, 2}, {30, 7, 7}}) {
    std::string const label = text_of({{"m", m}, {"r", r}, {"terms", terms}});
    INFO(label);
    padded<T, row_major> const U(gaussian<T, row_major>(m, r, 101));
    neumann_form const series(U.map(), terms);
    auto const Q = hoft::accumulate(U.map(), hoft::neumann{terms}, 16);  // the block gives way to the series
    CHECK(Q.kind().truncated);
    CHECK(Q.kind().terms == terms);
    CHECK(Q.block() == std::max<index_t>(1, r));
    // Each term is a sum over m, then r elements, of which |Û|, |T| in `growth` bound the size.
    CHECK(within(Q.factor().topRows(r), series.T, line_bound<T>(m + r * terms, 1) * series.growth));
    if (terms == 1) CHECK(same_bits(Q.factor().topRows(r), dense_matrix<A>(Q.tau().asDiagonal())));
    if (terms == 2) {  // 2 I − 4 A
      wide_matrix<T> const G = times(adjoint_copy(series.U), series.U);
      wide_matrix<T> expected = wide_matrix<T>::Zero(r, r);
      for (index_t j = 0; j < r; ++j)
        for (index_t i = 0; i <= j; ++i) expected(i, j) = i == j ? wide_t<T>(2) : -4.0L * G(i, j);
      CHECK(
          within(Q.factor().topRows(r), expected, 4 * (std::sqrt(static_cast<long double>(m)) + 5) * 2 * eps_of<T>()));
    }
    if (r > 0) {
      auto const all = hoft::accumulate(U.map(), hoft::neumann{r + terms % 2});
      auto const inverse = hoft::accumulate(U.map(), hoft::exact{}, r);
      neumann_form const complete(U.map(), std::min<index_t>(r, 8));
      if (r <= 8)
        CHECK(within(all.factor(), widen(inverse.factor()), 2 * line_bound<T>(m + r * r, 1) * complete.growth));
    }
  }
}

TEST_CASE("blocks share nothing: each triangle is that of its own columns") {
  dense_matrix<double> const U = gaussian<double>(50, 23, 111);
  auto const Q = hoft::accumulate(U, hoft::exact{}, 9);
  REQUIRE(Q.factor().rows() == 9);
  for (index_t const first : {0, 9, 18}) {
    index_t const count = std::min<index_t>(9, 23 - first);
    auto const part = hoft::accumulate(U.middleCols(first, count));
    CHECK(same_bits(Q.factor().block(0, first, count, count), part.factor()));
    CHECK(same_bits(Q.vectors().middleCols(first, count), part.vectors()));
  }
  CHECK(hoft::accumulate(gaussian<double>(3, 65, 112)).block() == 64);
  CHECK(hoft::accumulate(gaussian<double>(3, 64, 112)).factor().rows() == 64);
}

TEST_CASE("accumulate refuses what it cannot do") {
  dense_matrix<double> const U = gaussian<double>(5, 3, 121);
  Eigen::VectorXd const tau = gaussian<double>(3, 1, 122), two = tau.head(2);
  CHECK_THROWS_WITH_AS(hoft::accumulate(U, hoft::neumann{0}), "hoft::accumulate: neumann.terms is 0, must be >= 1",
                       hoft::argument_error);
  CHECK_THROWS_WITH_AS(hoft::accumulate(U, hoft::exact{}, 0), "hoft::accumulate: block is 0, must be >= 1",
                       hoft::argument_error);
  CHECK_THROWS_WITH_AS(hoft::accumulate(U, tau, -1), "hoft::accumulate: block is -1, must be >= 1",
                       hoft::argument_error);
  CHECK_THROWS_WITH_AS(hoft::accumulate(U, two), "hoft::accumulate: tau.size is 2, must be == 3", hoft::shape_error);
  dense_matrix<double> const wide = U.transpose();
  Eigen::VectorXd const five = gaussian<double>(5, 1, 123);
  CHECK_THROWS_WITH_AS(hoft::accumulate(wide, five), "hoft::accumulate: V.cols is 5, must be <= 3", hoft::shape_error);

  form_memory memory;
  auto q = memory.cut<double>(5, 3, 2);
  guarded_workspace work(hoft::accumulate_workspace<double>(hoft::cpu{}, 3, 2));
  CHECK_THROWS_WITH_AS(hoft::accumulate(hoft::cpu{}, hoft::as_view(U), q, hoft::neumann{2}, work),
                       "hoft::accumulate: Q.block is 2, must be >= 3", hoft::shape_error);
  hoft::workspace small = work;
  --small.size;
  CHECK_THROWS_AS(hoft::accumulate(hoft::cpu{}, hoft::as_view(U), q, hoft::exact{}, small), hoft::workspace_error);
  CHECK_THROWS_WITH_AS(hoft::accumulate(hoft::cpu{}, hoft::as_view(wide), q, hoft::exact{}, work),
                       "hoft::accumulate: Q.vectors.rows is 5, must be == 3", hoft::shape_error);
}
