// SPDX-License-Identifier: BSD-3-Clause
// Products of a large matrix with few columns, or few rows, against plain loops in long double.
#include "compiled.hpp"

#include <hoft/cpu/kernel/product.hpp>

#include <doctest/doctest.h>

#include <complex>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace {

using hoft::col_major;
using hoft::index_t;
using hoft::matrix_view;
using hoft::row_major;
namespace cpu_backend = hoft::cpu_backend;

/// A matrix whose lines lie further apart than they are long, with NaN between them.
template <class T, class L>
struct spaced {
  index_t rows, cols, ld;
  std::vector<T> data;
  spaced(index_t m, index_t n, unsigned seed, index_t gap = 3)
      : rows(m), cols(n), ld((std::same_as<L, col_major> ? m : n) + gap) {
    data.assign(std::size_t(ld * (std::same_as<L, col_major> ? n : m)), T(std::numeric_limits<double>::quiet_NaN()));
    std::mt19937_64 rng(seed);
    std::uniform_real_distribution<double> uniform(-1, 1);
    auto const at = view();
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < n; ++j) {
        if constexpr (hoft::is_complex<T>) {
          double const re = uniform(rng), im = uniform(rng);
          at(i, j) = T(hoft::real_t<T>(re), hoft::real_t<T>(im));
        } else {
          at(i, j) = T(uniform(rng));
        }
      }
  }
  matrix_view<T, L> view() { return {data.data(), rows, cols, ld}; }
  matrix_view<T const, L> fixed() const { return {data.data(), rows, cols, ld}; }
};

template <class T>
auto wide(T a) {
  if constexpr (hoft::is_complex<T>) return std::complex<long double>(a.real(), a.imag());
  else return static_cast<long double>(a);
}

enum class start { none, apart, in_place };

/// C = S + alpha op(A) op(B) on one to three threads, against long double, and the threads against each other.
template <class T, class LA, class LB, class LC>
void check(index_t m, index_t n, index_t k, bool conj_a, bool conj_b, start from) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
  CAPTURE(conj_a);
  CAPTURE(conj_b);
  spaced<T, LA> const A(m, k, 1);
  spaced<T, LB> const B(k, n, 2);
  spaced<T, LC> const S(m, n, 3, 6);
  T const alpha(-0.75);
  spaced<T, LC> first(0, 0, 1);
  for (int threads : {1, 2, 3}) {
    spaced<T, LC> C(m, n, 3);
    spaced<T, LC> const before = C;
    matrix_view<T const, LC> s;
    if (from == start::apart) s = S.fixed();
    if (from == start::in_place) s = C.fixed();
    cpu_backend::product(hoft::cpu{.threads = threads}, alpha, cpu_backend::operand<T, LA>{A.fixed(), conj_a},
                         cpu_backend::operand<T, LB>{B.fixed(), conj_b}, s, C.view());
    if (threads > 1) {
      CHECK(std::memcmp(C.data.data(), first.data.data(), C.data.size() * sizeof(T)) == 0);
      continue;
    }
    first = C;
    auto const a = A.fixed();
    auto const b = B.fixed();
    auto const c = C.fixed();
    // A sum of k products, each of which is scaled, in any order: γ_{k + 3} of what is added, twice that for complex
    // ones.
    long double const gamma = (hoft::is_complex<T> ? 2 : 1) * static_cast<long double>(k + 3) *
                              static_cast<long double>(std::numeric_limits<hoft::real_t<T>>::epsilon());
    bool all = true;
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < n; ++j) {
        auto sum = wide(T(0));
        long double size = 0;
        for (index_t l = 0; l < k; ++l) {
          auto const left = wide(conj_a ? hoft::conjugate(a(i, l)) : a(i, l));
          auto const right = wide(conj_b ? hoft::conjugate(b(l, j)) : b(l, j));
          sum += left * right;
          size += std::abs(left) * std::abs(right);
        }
        sum *= wide(alpha);
        if (from != start::none) sum += wide(S.fixed()(i, j)), size += std::abs(wide(S.fixed()(i, j)));
        all = all && std::abs(wide(c(i, j)) - sum) <= gamma * size;
      }
    CHECK(all);
    // Between the lines of C nothing is written.
    index_t const length = std::same_as<LC, col_major> ? m : n, lines = std::same_as<LC, col_major> ? n : m;
    for (index_t line = 0; line < lines; ++line)
      CHECK(std::memcmp(&C.data[std::size_t(line * C.ld + length)], &before.data[std::size_t(line * C.ld + length)],
                        std::size_t(C.ld - length) * sizeof(T)) == 0);
  }
}

template <class T, class LA, class LX>
void check_shapes() {
  struct shape {
    index_t m, k;
  };
  // Odd, one over a part of either kernel, tall and wide; all larger than a first-level cache.
  for (auto const& [m, k] : {shape{131, 701}, {1, 20001}, {3, 8193}, {20001, 3}, {1025, 65}})
    for (index_t n : {1, 2, 3, 7, 8}) {
      bool const conj = (m + n) % 2 == 0 && hoft::is_complex<T>;
      start const from = start((m + n) % 3);
      check<T, LA, LX, LX>(m, n, k, conj, !conj && hoft::is_complex<T>, from);
      // Few rows: Cᵀ = BᵀAᵀ.
      check<T, LX, LA, LX>(n, m, k, conj, !conj && hoft::is_complex<T>, from);
    }
}

}  // namespace

TEST_CASE_TEMPLATE("a large matrix times few columns", T, float, double, std::complex<float>, std::complex<double>) {
  check_shapes<T, col_major, col_major>();
  check_shapes<T, col_major, row_major>();
  check_shapes<T, row_major, col_major>();
  check_shapes<T, row_major, row_major>();
}

TEST_CASE_TEMPLATE("one column more than few", T, float, std::complex<double>) {
  check<T, col_major, col_major, col_major>(1025, 9, 65, false, false, start::apart);
  check<T, row_major, col_major, col_major>(1025, 9, 65, false, false, start::in_place);
  check<T, col_major, row_major, row_major>(9, 65, 1025, false, false, start::none);
}

// Whole squares of vectors and what is left of them, in rows and in sums, over more than one sweep.
TEST_CASE_TEMPLATE("a product of many columns, whose rows are packed from either layout", T, float, double,
                   std::complex<float>) {
  struct shape {
    index_t m, n, k;
  };
  // Contiguous columns: slabs are deeper where C has many.
  check<T, col_major, col_major, col_major>(70, 150, 517, false, false, start::none);
  check<T, col_major, col_major, col_major>(70, 140, 517, false, false, start::none);
  for (auto const& [m, n, k] : {shape{129, 130, 517}, {143, 133, 17}, {190, 129, 3}, {67, 140, 70}}) {
    start const from = start((m + n) % 3);
    check<T, row_major, col_major, col_major>(m, n, k, hoft::is_complex<T>, false, from);
    if (k > 100) continue;
    check<T, col_major, col_major, col_major>(m, n, k, false, hoft::is_complex<T>, from);
    check<T, row_major, row_major, col_major>(m, n, k, false, false, from);
    check<T, col_major, row_major, row_major>(m, n, k, false, false, from);
  }
}

TEST_CASE_TEMPLATE("a NaN in a row of the matrix comes out in that row alone", L, col_major, row_major) {
  index_t const m = 257, k = 501;
  for (index_t n : {1, 5, 8}) {
    spaced<float, L> A(m, k, 1);
    spaced<float, col_major> const B(k, n, 2);
    spaced<float, col_major> C(m, n, 3);
    for (index_t row : {0, 255, 256}) {
      float const kept = A.view()(row, 77);
      A.view()(row, 77) = std::numeric_limits<float>::quiet_NaN();
      cpu_backend::product(hoft::cpu{}, 1.0f, cpu_backend::plain(A.fixed()), cpu_backend::plain(B.fixed()), {},
                           C.view());
      bool all = true;
      for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < n; ++j) all = all && std::isnan(C.view()(i, j)) == (i == row);
      CHECK(all);
      A.view()(row, 77) = kept;
    }
  }
}
