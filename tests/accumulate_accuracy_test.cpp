// SPDX-License-Identifier: BSD-3-Clause
// accumulate: how far from orthogonal Q = I − U T Uᴴ may be, for columns from independent to equal. Nearly parallel
// ones are the worst: T then holds numbers of size 4 and of alternating signs.
#include <hoft/eigen/adapter.hpp>
#include <hoft/eigen/merge.hpp>
#include <hoft/reference/orthogonality.hpp>

#include "support.hpp"

using namespace hoft_test;

namespace {

/// The documented bound of ‖I − QᴴQ‖_F/√m, 8 √(b r (1 + b/m)) ε = 16 √(b r (1 + b/m)) u. Rounding errors count as
/// independent and of mean zero (as in support.hpp), to first order.
///
/// Columns of U T are τ_j H₁ ⋯ H_{j−1} û_j and rows of T Uᴴ are alike: all of norm 2. Sums over a range of neighbours
/// among the terms of û_iᴴ (U T)_j have size 4 at most, since what is left of U T behind a column has norm 2 too.
/// - The triangle of UᴴU: each sum of m products is off by √m u, and Q by the sum over i ≤ j of (U T)_i δ_ij (T Uᴴ)_j:
///   4 √(b²/2) √m u.
/// - T₁₂ = −T₁₁ (A₁₂ T₂₂), halves of h: the inner product is off by 4 √h u, which U T₁₁ doubles; the outer one by
///   4 √h u. On h² elements: √(8² + 4²) h^{3/2} u. All levels of halves: times √(b³/6) instead of h^{3/2}.
/// - I − QᴴQ is off by twice that: √(32 b² m + 53 b³) u; the errors of r/b blocks add in squares:
///   8 √(b r (m + b)) u. Products that are rounded before they are added double the squares, complex ones again.
template <class T>
long double orthogonality_bound(index_t m, index_t r, index_t block) {
  long double const b = static_cast<long double>(std::min(block, r)), k = static_cast<long double>(r);
  return 8 * std::sqrt(b * k * (1 + b / static_cast<long double>(m))) * eps_of<T>();
}

/// Columns of one direction plus noise of size 10^−digits.
template <class T>
dense_matrix<T> nearly_parallel(index_t m, index_t r, double digits, unsigned seed) {
  dense_matrix<T> U = gaussian<T>(m, r, seed, std::pow(10.0, -digits));
  dense_matrix<T> const direction = gaussian<T>(m, 1, seed + 1);
  U.colwise() += direction.col(0);
  return U;
}

/// I − U T Uᴴ of the computed U and T, evaluated in long double.
template <class A>
wide_matrix<A> exact_product(hoft::compact_wy<A> const& form) {
  index_t const m = form.rows(), r = form.rank(), b = form.block();
  auto const U = widen(form.vectors()), T = widen(form.factor());
  wide_matrix<A> Q = wide_matrix<A>::Identity(m, m);
  for (index_t first = 0; first < r; first += b) {
    index_t const count = std::min(b, r - first);
    wide_matrix<A> const V = U.middleCols(first, count), triangle = T.block(0, first, count, count);
    Q -= times(Q, times(V, triangle), adjoint_copy(V));
  }
  return Q;
}

/// The error in terms of the documented bound.
template <class T>
long double share_of_bound(dense_matrix<T> const& U, index_t block) {
  auto const Q = hoft::accumulate(U, hoft::exact{}, block);
  return static_cast<long double>(hoft::orthogonality_error(exact_product(Q))) /
         orthogonality_bound<T>(U.rows(), U.cols(), block);
}

}  // namespace

TEST_CASE_TEMPLATE("Q is orthogonal within the documented bound for noise of every size", T, float, double,
                   std::complex<float>) {
  struct shape {
    index_t m, r, block;
  };
  long double worst = 0;
  for (shape const& s :
       {shape{1, 1, 1}, {1, 40, 64}, {2, 1, 64}, {2, 64, 64}, {3, 2, 64}, {8, 64, 64}, {64, 64, 64}, {32, 160, 32}})
    for (double digits = 0; digits <= 16; digits += digits < 4 ? 0.5 : 4) {
      INFO(text_of({{"m", s.m}, {"r", s.r}, {"block", s.block}, {"tenths of digits", index_t(10 * digits)}}));
      long double const share = share_of_bound<T>(nearly_parallel<T>(s.m, s.r, digits, 11 + unsigned(digits)), s.block);
      CHECK(share <= 1);
      worst = std::max(worst, share);
    }
  // The bound says something: errors of a twentieth of it are common.
  CHECK(worst >= 0.05L);
}

#if !defined(HOFT_TEST_FEW_SCALARS)  // says nothing to sanitizers, and takes long with them
TEST_CASE("1024 reflectors of order 64 in one triangle") {
  long double worst = 0;
  for (double const digits : {0.0, 1.5, 2.0, 4.0}) {
    CAPTURE(digits);
    long double const share = share_of_bound<float>(nearly_parallel<float>(64, 1024, digits, 1), 1024);
    CHECK(share <= 1);
    worst = std::max(worst, share);
  }
  // More than 30 u √r: the error grows faster than the root of the number of reflectors.
  CHECK(worst * orthogonality_bound<float>(64, 1024, 1024) > 30 * eps_of<float>() / 2 * 32);
}
#endif

TEST_CASE("the elements of T stay below 4, its norm below √8 b") {
  for (double const digits : {0.0, 1.0, 2.0, 9.0})
    for (index_t const m : {8, 64}) {
      index_t const r = 100;
      auto const Q = hoft::accumulate(nearly_parallel<double>(m, r, digits, 21), hoft::exact{}, r);
      long double const rounding = 1 + orthogonality_bound<double>(m, r, r);
      auto const T = widen(Q.factor());
      CHECK(T.cwiseAbs().maxCoeff() <= 4 * rounding);
      CHECK(T.norm() <= std::sqrt(8.0L) * static_cast<long double>(r) * rounding);
    }
}

// Its K = M V T is off by √n u (from M V; T V̂ᴴ has rows of norm 2) and by 4 √b u (from the product with T) in each
// element, M − K V̂ᴴ by partial sums of norm 4 over b terms. All of it twice in I − QᴴQ.
TEST_CASE("an adapter with all of V in one triangle stays within the bound of that triangle") {
  index_t const n = 48, r = 192;
  auto const b = static_cast<long double>(r);
  long double const bound =
      orthogonality_bound<float>(n, r, r) + (2 * std::sqrt(n * b) + 4 * b + 4 * std::sqrt(b)) * eps_of<float>();
  for (double digits = 0; digits <= 4; digits += 0.5) {
    CAPTURE(digits);
    hoft::adapter<float> const a(dense_matrix<float>(n, 0), nearly_parallel<float>(n, r, digits, 31));
    CHECK(a.right().block() == r);
    dense_matrix<float> M = dense_matrix<float>::Identity(n, n);
    hoft::merge(a, M);
    CHECK(static_cast<long double>(hoft::orthogonality_error(widen(M))) <= bound);
  }
}

TEST_CASE_TEMPLATE("independent columns with m ≥ r, and equal pairs", T, float, std::complex<double>) {
  for (index_t const m : {1, 2, 8, 64})
    for (index_t const r : {1, 2, 8, 64, 160}) {
      INFO(text_of({{"m", m}, {"r", r}}));
      long double const root = std::sqrt(static_cast<long double>(r)) * eps_of<T>();
      if (r <= m) {
        auto const Q = exact_product(hoft::accumulate(gaussian<T>(m, r, 51)));
        CHECK(static_cast<long double>(hoft::orthogonality_error(Q)) <= 2 * root);
      }
      auto const Q = exact_product(hoft::accumulate(hoft::paired_gaussian<T>(m, r, 52)));
      wide_matrix<T> const difference = Q - wide_matrix<T>::Identity(m, m);
      long double const bound = r <= m ? root : orthogonality_bound<T>(m, r, hoft::default_block);
      CHECK(difference.norm() <= std::sqrt(static_cast<long double>(m)) * bound);
    }
}

// Its error is one of s_i times an element of M Q_V, so that of HOFT times max|s|.
TEST_CASE("SHOFT on the weight is accurate relative to its largest scale") {
  index_t const m = 6, n = 40, r = 16;
  for (double const size : {1e-3, 1.0, 1e3}) {
    CAPTURE(size);
    dense_matrix<float> const U = nearly_parallel<float>(m, r, 2, 61), V = nearly_parallel<float>(n, r, 2, 63);
    dense_matrix<float> const M = gaussian<float>(m, n, 65);
    Eigen::VectorXf const s = gaussian<float>(m, 1, 66, size);
    dense_matrix<float> merged = M;
    hoft::merge(hoft::adapter<float>(U, V, s), merged);
    wide_matrix<float> expected = reference_apply(V, M, side::right);
    for (index_t i = 0; i < m; ++i) expected.row(i) *= static_cast<long double>(s(i));
    expected = reference_apply(U, expected);
    auto const terms = static_cast<long double>(2 * r) * std::sqrt(static_cast<long double>(m + n + r));
    long double const bound = terms * eps_of<float>() * static_cast<long double>(s.cwiseAbs().maxCoeff() * M.norm());
    CHECK(within(merged, expected, bound));
    // Not relative to M alone.
    if (size == 1e3) CHECK_FALSE(within(merged, expected, bound / static_cast<long double>(s.cwiseAbs().maxCoeff())));
  }
}

TEST_CASE("a NaN in U is outside every bound") {
  dense_matrix<float> U = nearly_parallel<float>(8, 5, 2, 41);
  U(3, 2) = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(share_of_bound<float>(U, 5) <= 1);
}
