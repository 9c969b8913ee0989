// SPDX-License-Identifier: BSD-3-Clause
// What cutting the series for T costs: the table of the mathematics page, within a factor of 2.
#include <hoft/eigen/apply.hpp>
#include <hoft/reference/orthogonality.hpp>

#include "support.hpp"

#include <array>

using namespace hoft_test;

namespace {

/// ‖I − QᴴQ‖_F/√m = ‖I − QQᴴ‖_F/√m of Q = I − U T Uᴴ: I − QQᵀ = U E Uᵀ with E = T + Tᵀ − T G Tᵀ, G = UᵀU, and
/// ‖U E Uᵀ‖_F² = tr(E G Eᵀ G), all of order r and in long double: it measures U and T, without the rounding of an m × m
/// product.
long double orthogonality_error_of_form(hoft::compact_wy<double> const& Q) {
  auto const U = widen(Q.vectors()), T = widen(Q.factor());
  wide_matrix<double> const G = times(adjoint_copy(U), U);
  wide_matrix<double> const E = T + adjoint_copy(T) - times(T, G, adjoint_copy(T));
  long double const square = times(E, G, adjoint_copy(E), G).trace();
  return std::sqrt(std::max(square, 0.0L) / static_cast<long double>(Q.rows()));
}

constexpr unsigned seeds = 20;

bool within_a_factor_of_2(long double measured, long double documented) {
  return measured <= 2 * documented && measured >= documented / 2;
}

long double median(std::vector<long double> errors) {
  for (long double const e : errors) REQUIRE(std::isfinite(e));
  std::sort(errors.begin(), errors.end());
  return (errors[(errors.size() - 1) / 2] + errors[errors.size() / 2]) / 2;
}

/// For 2, 3 and 4 terms: the mathematics page's number, which is that of one random matrix, and the median of 40
/// matrices from an independent computation in NumPy. The error of a single matrix spreads over a factor of 10.
struct row {
  index_t m, r;
  long double exact, page[3], median[3];
};
constexpr row table[] = {
    {64, 16, 8e-16L, {6e-1L, 2e-1L, 4e-2L}, {7.1e-1L, 2.3e-1L, 7.8e-2L}},
    {256, 16, 6e-16L, {4e-2L, 7e-3L, 9e-4L}, {6.6e-2L, 1.26e-2L, 2.1e-3L}},
    {1024, 16, 6e-16L, {6e-3L, 8e-4L, 5e-5L}, {7.9e-3L, 8.7e-4L, 7.4e-5L}},
    {1024, 64, 8e-16L, {7e-2L, 2e-2L, 3e-3L}, {7.3e-2L, 1.7e-2L, 3.7e-3L}},
};

long double distance_from_identity(hoft::compact_wy<double> const& Q) {
  auto E = hoft::materialize(Q, Q.rows());
  E.diagonal().array() -= 1;
  return static_cast<long double>(E.norm()) / std::sqrt(static_cast<long double>(Q.rows()));
}

dense_matrix<double> pairs(index_t m, index_t r, unsigned seed) {
  dense_matrix<double> const u = gaussian<double>(m, r / 2, seed);
  dense_matrix<double> U(m, r);
  for (index_t j = 0; j < r; ++j) U.col(j) = u.col(j / 2);
  return U;
}

}  // namespace

TEST_CASE("the orthogonality error of the truncated inverse, and of the exact one") {
  for (auto const& entry : table) {
    std::string const label = text_of({{"m", entry.m}, {"r", entry.r}});
    INFO(label);
    std::vector<long double> exact;
    std::array<std::vector<long double>, 3> truncated;
    for (unsigned seed = 1; seed <= seeds; ++seed) {
      dense_matrix<double> const U = gaussian<double>(entry.m, entry.r, seed);
      exact.push_back(orthogonality_error_of_form(hoft::accumulate(U)));
      for (std::size_t i = 0; i < 3; ++i)
        truncated[i].push_back(orthogonality_error_of_form(hoft::accumulate(U, hoft::neumann{index_t(i) + 2})));
    }
    for (std::size_t i = 0; i < 3; ++i) {
      long double const measured = median(truncated[i]);
      auto const near_the_page = std::count_if(truncated[i].begin(), truncated[i].end(),
                                               [&](long double e) { return within_a_factor_of_2(e, entry.page[i]); });
      CAPTURE(i);
      CAPTURE(measured);
      CHECK(within_a_factor_of_2(measured, entry.median[i]));
      CHECK(near_the_page >= index_t(seeds / 4));
    }
    // The page's numbers are rounding errors, which may be smaller on other machines.
    CAPTURE(median(exact));
    CHECK(median(exact) <= 2 * entry.exact);
  }
}

TEST_CASE("the same numbers from Q as a matrix") {
  for (auto const& entry : {table[0], table[1]})
    for (index_t const terms : {2, 3, 4}) {
      std::string const label = text_of({{"m", entry.m}, {"r", entry.r}, {"terms", terms}});
      INFO(label);
      auto const Q = hoft::accumulate(gaussian<double>(entry.m, entry.r, 1), hoft::neumann{terms});
      auto const measured = static_cast<long double>(hoft::orthogonality_error(hoft::materialize(Q, entry.m)));
      // The same number but for the rounding of materialize, each column by line_bound, and of the measure.
      auto const order = static_cast<long double>(entry.m);
      long double const rounding =
          2 * line_bound<double>(entry.m, entry.r) + order * std::sqrt(order) * eps_of<double>();
      CHECK(std::abs(measured - orthogonality_error_of_form(Q)) <= (1 + measured) * (1 + measured) * rounding);
    }
  auto const Q = hoft::accumulate(gaussian<double>(64, 16, 1));
  CHECK(hoft::orthogonality_error(widen(hoft::materialize(Q, 64))) <= 2 * table[0].exact);
}

TEST_CASE("paired columns give the identity with the exact inverse, and not with 2 terms") {
  struct paired {
    index_t m, r;
    long double two_terms;
  };
  for (auto const& entry : {paired{1024, 16, 8e-2L}, paired{64, 16, 1.65L}}) {
    std::string const label = text_of({{"m", entry.m}, {"r", entry.r}});
    INFO(label);
    std::vector<long double> errors;
    for (unsigned seed = 1; seed <= 5; ++seed)
      errors.push_back(distance_from_identity(hoft::accumulate(pairs(entry.m, entry.r, seed), hoft::neumann{2})));
    long double const measured = median(errors);
    CAPTURE(measured);
    CHECK(within_a_factor_of_2(measured, entry.two_terms));
    auto const exact = hoft::accumulate(pairs(entry.m, entry.r, 1));
    CHECK(distance_from_identity(exact) <= line_bound<double>(entry.m, entry.r));
    auto const all = hoft::accumulate(pairs(entry.m, entry.r, 1), hoft::neumann{entry.r});
    // All r terms are the inverse again; they grow before they cancel.
    neumann_form const series(pairs(entry.m, entry.r, 1), entry.r);
    CHECK(distance_from_identity(all) <= line_bound<double>(entry.m, entry.r) * series.growth);
  }
}
