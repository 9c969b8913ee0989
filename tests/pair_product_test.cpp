// SPDX-License-Identifier: BSD-3-Clause
// Products of bfloat16 by the instruction that adds two of them to a float, against plain loops in double, where every
// product is exact.
#include "compiled.hpp"

#include <hoft/cpu/kernel/pair_product.hpp>

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#if defined(__AVX512BF16__) && defined(EIGEN_VECTORIZE_AVX512)

namespace {

using hoft::col_major;
using hoft::index_t;
using hoft::matrix_view;
using hoft::row_major;
using bf16 = Eigen::bfloat16;

/// A matrix whose lines lie further apart than they are long, with NaN between them.
template <class L>
struct spaced {
  index_t rows, cols, ld;
  std::vector<bf16> data;
  spaced(index_t m, index_t n, unsigned seed, index_t gap = 3)
      : rows(m), cols(n), ld((std::same_as<L, col_major> ? m : n) + gap) {
    data.assign(std::size_t(ld * (std::same_as<L, col_major> ? n : m)), bf16(std::numeric_limits<float>::quiet_NaN()));
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < m; ++i) view()(i, j) = bf16(normal(rng));
  }
  matrix_view<bf16, L> view() { return {data.data(), rows, cols, ld}; }
  matrix_view<bf16 const, L> view() const { return {data.data(), rows, cols, ld}; }
};

template <class LA, class LB>
void multiply(hoft::cpu policy, spaced<LA> const& A, spaced<LB> const& B, matrix_view<bf16> C) {
  hoft::cpu_backend::pair_product(policy, A.view(), B.view(), C);
}

/// Elements that are off by more than k roundings of a sum of floats, and one to bfloat16; and those that were written
/// outside of C.
template <class LA, class LB>
index_t wrong_elements(index_t m, index_t k, index_t n) {
  spaced<LA> const A(m, k, 1);
  spaced<LB> const B(k, n, 2);
  spaced<col_major> C(m, n, 3);
  std::vector<bf16> const before = C.data;
  multiply({}, A, B, C.view());
  index_t wrong = 0;
  double const sum = double(k) * 0x1p-24 / (1 - double(k) * 0x1p-24), storage = 0x1p-8;  // half their spacings above 1
  for (index_t j = 0; j < n; ++j) {
    for (index_t i = 0; i < m; ++i) {
      double exact = 0, size = 0;
      for (index_t l = 0; l < k; ++l) {
        double const term = double(float(A.view()(i, l))) * double(float(B.view()(l, j)));
        exact += term;
        size += std::abs(term);
      }
      double const off = std::abs(double(float(C.view()(i, j))) - exact);
      if (!(off <= sum * size + storage * (std::abs(exact) + sum * size))) ++wrong;
    }
    std::size_t const gap = std::size_t(j * C.ld + m);
    if (std::memcmp(C.data.data() + gap, before.data() + gap, std::size_t(C.ld - m) * sizeof(bf16)) != 0) ++wrong;
  }
  return wrong;
}

}  // namespace

TEST_CASE("products of pairs: layouts, odd sums, edges of vectors, tiles, sweeps and blocks") {
  struct shape {
    index_t m, k, n;
  };
  for (shape const& s : {shape{1, 1, 1},
                         {3, 0, 2},
                         {0, 3, 2},
                         {3, 2, 0},
                         {7, 5, 3},
                         {15, 16, 6},
                         {16, 17, 7},
                         {17, 31, 8},
                         {64, 33, 13},
                         {65, 64, 12},
                         {130, 1023, 5},
                         {66, 1024, 9},
                         {64, 1025, 6},
                         {40, 2049, 19},
                         {5, 7, 255},
                         {70, 3, 257},
                         {129, 40, 515}}) {
    CAPTURE(s.m);
    CAPTURE(s.k);
    CAPTURE(s.n);
    CHECK(wrong_elements<col_major, col_major>(s.m, s.k, s.n) == 0);
    CHECK(wrong_elements<row_major, col_major>(s.m, s.k, s.n) == 0);
    CHECK(wrong_elements<col_major, row_major>(s.m, s.k, s.n) == 0);
    CHECK(wrong_elements<row_major, row_major>(s.m, s.k, s.n) == 0);
  }
}

TEST_CASE("products of pairs: the same bits for any threads, layouts, places and neighbours") {
  index_t const m = 150, k = 1300, n = 300;
  spaced<col_major> const A(m, k, 1), B(k, n, 2);
  spaced<row_major> A_rows(m, k, 1), B_rows(k, n, 2);
  spaced<col_major> C(m, n, 3, 0), D(m, n, 3, 0);
  multiply({}, A, B, C.view());
  auto const same = [&] { return std::memcmp(C.data.data(), D.data.data(), C.data.size() * sizeof(bf16)) == 0; };
  multiply({.threads = 3}, A, B, D.view());
  CHECK(same());
  multiply({.threads = 2}, A_rows, B, D.view());
  CHECK(same());
  multiply({}, A_rows, B_rows, D.view());
  CHECK(same());
  // A part of the result by itself, behind an odd address.
  index_t const i = 5, j = 7, rows = 97, cols = 11;
  spaced<col_major> part(rows, cols, 4);
  hoft::cpu_backend::pair_product({.threads = 2}, A.view().block(i, 0, rows, k), B.view().columns(j, cols),
                                  part.view());
  index_t wrong = 0;
  for (index_t q = 0; q < cols; ++q)
    for (index_t p = 0; p < rows; ++p) wrong += part.view()(p, q).value != C.view()(i + p, j + q).value ? 1 : 0;
  CHECK(wrong == 0);
}

TEST_CASE("products of pairs: NaN and infinity stay in their rows and columns") {
  spaced<col_major> A(40, 7, 1), B(7, 20, 2), C(40, 20, 3);
  A.view()(33, 6) = bf16(std::numeric_limits<float>::infinity());
  B.view()(2, 18) = bf16(std::numeric_limits<float>::quiet_NaN());
  multiply({}, A, B, C.view());
  index_t wrong = 0;
  for (index_t j = 0; j < 20; ++j)
    for (index_t i = 0; i < 40; ++i) {
      float const c(C.view()(i, j));
      wrong += (j == 18 ? std::isnan(c) : i == 33 ? std::isinf(c) : std::isfinite(c)) ? 0 : 1;
    }
  CHECK(wrong == 0);
}

#endif
