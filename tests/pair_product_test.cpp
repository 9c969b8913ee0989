// SPDX-License-Identifier: BSD-3-Clause
// Products of bfloat16 by the instructions that add them to floats, against plain loops in double, where every product
// is exact. Where the processor has no tiles, plain loops stand in for their instructions.
#include "compiled.hpp"

#include <hoft/eigen/dense.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <latch>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#if HOFT_HAS_PAIR_TILES
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if HOFT_HAS_PAIRS

namespace {

using hoft::col_major;
using hoft::index_t;
using hoft::matrix_view;
using hoft::row_major;
using bf16 = Eigen::bfloat16;

/// A matrix whose lines lie further apart than they are long, with NaN between them. Nothing is behind the last.
template <class L>
struct spaced {
  index_t rows, cols, ld;
  std::vector<bf16> data;
  spaced(index_t m, index_t n, unsigned seed, index_t gap = 3, float scale = 1)
      : rows(m), cols(n), ld((std::same_as<L, col_major> ? m : n) + gap) {
    index_t const lines = std::same_as<L, col_major> ? n : m;
    data.assign(std::size_t(lines > 0 ? lines * ld - gap : 0), bf16(std::numeric_limits<float>::quiet_NaN()));
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < m; ++i) view()(i, j) = bf16(scale * normal(rng));
  }
  matrix_view<bf16, L> view() { return {data.data(), rows, cols, ld}; }
  matrix_view<bf16 const, L> view() const { return {data.data(), rows, cols, ld}; }
};

/// Threads that begin together, four at most: workers that shared memory would spoil each other's.
struct meeting final : hoft::executor {
  void run(index_t workers, share one, void* work) override {
    index_t const count = (std::min)(workers, index_t{4});
    std::latch all(count);
    std::vector<std::thread> threads;
    for (index_t w = 0; w < count; ++w)
      threads.emplace_back([&all, one, work, w] {
        all.arrive_and_wait();
        one(work, w);
      });
    for (auto& thread : threads) thread.join();
  }
};

float flushed(float a) { return std::abs(a) < 0x1p-126f ? std::copysign(0.0f, a) : a; }

/// The instructions on tiles as their manual says: even terms and odd ones apart, each step rounded, none subnormal.
struct loops {
  static constexpr bool may_be_used() { return true; }
  struct registers {};
  template <int V, int N>
  static void multiply(index_t depth, hoft::cpu_backend::kernel::pair_tiles A, hoft::cpu_backend::kernel::pair_tiles B,
                       hoft::cpu_backend::kernel::float_tiles<hoft::cpu_backend::kernel::float_tile const> S,
                       hoft::cpu_backend::kernel::float_tiles<hoft::cpu_backend::kernel::float_tile> C) {
    constexpr index_t lines = hoft::cpu_backend::kernel::pair_tile::lines;
    for (index_t n = 0; n < N; ++n)
      for (index_t v = 0; v < V; ++v)
        for (index_t j = 0; j < lines; ++j)
          for (index_t i = 0; i < lines; ++i) {
            float sum = S.data == nullptr ? 0 : S.at(v, n).data->numbers[j * lines + i];
            for (index_t l = 0; l < depth; ++l) {
              float even = 0, odd = 0;
              for (index_t p = 0; p < lines; ++p) {
                auto const a = A.at(v, l).data->pairs[p * lines + i], b = B.at(n, l).data->pairs[j * lines + p];
                even = flushed(std::fma(number(a.first), number(b.first), even));
                odd = flushed(std::fma(number(a.second), number(b.second), odd));
              }
              sum = flushed(sum + flushed(even + odd));
            }
            C.at(v, n).data->numbers[j * lines + i] = sum;
          }
  }

 private:
  static float number(std::uint16_t bits) { return flushed(std::bit_cast<float>(std::uint32_t{bits} << 16)); }
};

/// How a product is made.
struct by_pairs {
  /// Steps of a sum of k terms that round, and may each lose what is below 2^-126.
  static constexpr index_t steps(index_t k) { return k; }
  static constexpr bool may_be_used() { return true; }
  template <class... Arguments>
  static void multiply(Arguments const&... a) {
    hoft::cpu_backend::detail::multiply_by_pairs(a...);
  }
};
template <class Tiles>
struct by_tiles {
  /// The terms, and for each 32 of them even to odd ones and both to the sum.
  static constexpr index_t steps(index_t k) { return k + 2 * ((k + 31) / 32); }
  static bool may_be_used() { return Tiles::may_be_used(); }
  template <class... Arguments>
  static void multiply(Arguments const&... a) {
    hoft::cpu_backend::detail::multiply_by_tiles<Tiles>(a...);
  }
};
struct as_it_is {  // dense()'s product
  static constexpr index_t steps(index_t k) {
    return HOFT_HAS_PAIR_TILES ? by_tiles<loops>::steps(k) : by_pairs::steps(k);
  }
  static constexpr bool may_be_used() { return true; }
  template <class... Arguments>
  static void multiply(Arguments const&... a) {
    hoft::cpu_backend::pair_product(a...);
  }
};
#if HOFT_HAS_PAIR_TILES
#define HOFT_ALL_WAYS as_it_is, by_pairs, by_tiles<loops>, by_tiles<hoft::cpu_backend::kernel::amx>
#else
#define HOFT_ALL_WAYS as_it_is, by_pairs, by_tiles<loops>
#endif

template <class Way, class LA, class LB>
void multiply(hoft::cpu policy, spaced<LA> const& A, spaced<LB> const& B, matrix_view<bf16> C) {
  Way::multiply(policy, A.view(), B.view(), C);
}

/// Elements that are off by more than k roundings of a sum of floats, and one to bfloat16; what numbers below 2^-126
/// may lose is added. And those that were written outside of C.
template <class Way, class LA, class LB>
index_t wrong_elements(index_t m, index_t k, index_t n, float scale_a = 1, float scale_b = 1) {
  spaced<LA> const A(m, k, 1, 3, scale_a);
  spaced<LB> const B(k, n, 2, 3, scale_b);
  spaced<col_major> C(m, n, 3);
  std::vector<bf16> const before = C.data;
  multiply<Way>({}, A, B, C.view());
  index_t wrong = 0;
  double const sum = double(k) * 0x1p-24 / (1 - double(k) * 0x1p-24), storage = 0x1p-8;  // half their spacings above 1
  for (index_t j = 0; j < n; ++j) {
    for (index_t i = 0; i < m; ++i) {
      double exact = 0, size = 0, lost = double(Way::steps(k)) * 0x1p-126;
      for (index_t l = 0; l < k; ++l) {
        double const a = double(float(A.view()(i, l))), b = double(float(B.view()(l, j))), term = a * b;
        exact += term;
        size += std::abs(term);
        if ((std::min)(std::abs(a), std::abs(b)) < 0x1p-126) lost += std::abs(term);
      }
      double const off = std::abs(double(float(C.view()(i, j))) - exact), of_sum = sum * size + lost;
      if (!(off <= of_sum + storage * (std::abs(exact) + of_sum) + 0x1p-134)) ++wrong;  // the least bfloat16, halved
    }
    if (j + 1 == n) continue;  // nothing is behind the last column
    std::size_t const gap = std::size_t(j * C.ld + m);
    if (std::memcmp(C.data.data() + gap, before.data() + gap, std::size_t(C.ld - m) * sizeof(bf16)) != 0) ++wrong;
  }
  return wrong;
}

}  // namespace

TEST_CASE_TEMPLATE("products of pairs: layouts, odd sums, edges of vectors, tiles, sweeps and blocks", Way,
                   HOFT_ALL_WAYS) {
  if (!Way::may_be_used()) return;
  struct shape {
    index_t m, k, n;
  };
  for (shape const& s : {shape{1, 1, 1}, {3, 0, 2},      {0, 3, 2},      {3, 2, 0},      {7, 5, 3},      {15, 16, 6},
                         {16, 17, 7},    {17, 31, 8},    {64, 33, 13},   {65, 64, 12},   {130, 1023, 5}, {66, 1024, 9},
                         {64, 1025, 6},  {40, 2049, 19}, {31, 70, 32},   {32, 70, 33},   {1, 515, 300},  {5, 7, 255},
                         {70, 3, 257},   {129, 40, 515}, {515, 40, 530}, {300, 600, 100}}) {
    CAPTURE(s.m);
    CAPTURE(s.k);
    CAPTURE(s.n);
    CHECK(wrong_elements<Way, col_major, col_major>(s.m, s.k, s.n) == 0);
    CHECK(wrong_elements<Way, row_major, col_major>(s.m, s.k, s.n) == 0);
    CHECK(wrong_elements<Way, col_major, row_major>(s.m, s.k, s.n) == 0);
    CHECK(wrong_elements<Way, row_major, row_major>(s.m, s.k, s.n) == 0);
  }
}

TEST_CASE_TEMPLATE("products of pairs: the same bits for any threads, layouts, places and neighbours", Way,
                   HOFT_ALL_WAYS) {
  if (!Way::may_be_used()) return;
  // Some tasks for each thread, and sums kept between sweeps.
  index_t const m = 150, k = 1300, n = 1100;
  spaced<col_major> const A(m, k, 1), B(k, n, 2);
  spaced<row_major> A_rows(m, k, 1), B_rows(k, n, 2);
  spaced<col_major> C(m, n, 3, 0), D(m, n, 3, 0);
  multiply<Way>({}, A, B, C.view());
  auto const same = [&] { return std::memcmp(C.data.data(), D.data.data(), C.data.size() * sizeof(bf16)) == 0; };
  meeting threads;
  multiply<Way>({.threads = 3, .executor = &threads}, A, B, D.view());
  CHECK(same());
  multiply<Way>({.threads = std::numeric_limits<int>::max(), .executor = &threads}, A_rows, B, D.view());
  CHECK(same());
  multiply<Way>({.threads = 2}, A_rows, B_rows, D.view());
  CHECK(same());
  // Few columns are shared by rows.
  spaced<col_major> few(n, m, 3, 0), few_by_threads(n, m, 3, 0);
  Way::multiply(hoft::cpu{}, B.view().transposed(), A.view().transposed(), few.view());
  Way::multiply(hoft::cpu{.threads = 3, .executor = &threads}, B.view().transposed(), A.view().transposed(),
                few_by_threads.view());
  CHECK(std::memcmp(few.data.data(), few_by_threads.data.data(), few.data.size() * sizeof(bf16)) == 0);
  // A part of the result by itself, behind an odd address.
  index_t const i = 5, j = 7, rows = 97, cols = 11;
  spaced<col_major> part(rows, cols, 4);
  Way::multiply(hoft::cpu{.threads = 2}, A.view().block(i, 0, rows, k), B.view().columns(j, cols), part.view());
  index_t wrong = 0;
  for (index_t q = 0; q < cols; ++q)
    for (index_t p = 0; p < rows; ++p) wrong += part.view()(p, q).value != C.view()(i + p, j + q).value ? 1 : 0;
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("products of pairs: NaN and infinity stay in their rows and columns", Way, HOFT_ALL_WAYS) {
  if (!Way::may_be_used()) return;
  spaced<col_major> A(40, 7, 1), B(7, 20, 2), C(40, 20, 3);
  A.view()(33, 6) = bf16(std::numeric_limits<float>::infinity());
  B.view()(2, 18) = bf16(std::numeric_limits<float>::quiet_NaN());
  multiply<Way>({}, A, B, C.view());
  index_t wrong = 0;
  for (index_t j = 0; j < 20; ++j)
    for (index_t i = 0; i < 40; ++i) {
      float const c(C.view()(i, j));
      wrong += (j == 18 ? std::isnan(c) : i == 33 ? std::isinf(c) : std::isfinite(c)) ? 0 : 1;
    }
  CHECK(wrong == 0);
}

TEST_CASE("products of pairs: a term is added after another, the second of a pair first") {
  // 2^24 + 1 is no float and becomes 2^24, so what a sum keeps of a 1 tells when it was added.
  struct order {
    float terms[4], sum;
  };
  for (order const& o : {order{{0x1p24f, 0, -0x1p24f, 1}, 0}, order{{0x1p24f, 0, 1, -0x1p24f}, 1},
                         order{{1, 0x1p24f, -0x1p24f, 0}, 0}, order{{-0x1p24f, 0x1p24f, 1, 0}, 1}})
    for (index_t rows : {2, 40}) {
      spaced<row_major> A(rows, 4, 1), B(4, 35, 2);
      spaced<col_major> C(rows, 35, 3);
      for (index_t l = 0; l < 4; ++l) {
        for (index_t i = 0; i < rows; ++i) A.view()(i, l) = bf16(o.terms[l]);
        for (index_t j = 0; j < 35; ++j) B.view()(l, j) = bf16(1);
      }
      multiply<by_pairs>({}, A, B, C.view());
      index_t wrong = 0;
      for (index_t j = 0; j < 35; ++j)
        for (index_t i = 0; i < rows; ++i) wrong += float(C.view()(i, j)) == o.sum ? 0 : 1;
      CHECK(wrong == 0);
    }
}

#if HOFT_HAS_PAIR_TILES
TEST_CASE("products of tiles: taken where Linux says that the process may use them") {
  // 2^24 + 1 is no float: pair by pair 1 is left, but tiles add it to 2^24 first.
  spaced<row_major> A(1, 4, 1), B(4, 1, 2);
  spaced<col_major> C(1, 1, 3);
  float const terms[4] = {0x1p24f, 0, 1, -0x1p24f};
  for (index_t l = 0; l < 4; ++l) A.view()(0, l) = bf16(terms[l]), B.view()(l, 0) = bf16(1);
  multiply<as_it_is>({}, A, B, C.view());
  constexpr long get_permissions = 0x1022, tile_data = 18;
  unsigned long permitted = 0;
  REQUIRE(::syscall(SYS_arch_prctl, get_permissions, &permitted) == 0);
  bool const may = (permitted >> tile_data & 1) != 0;
  if (!may) MESSAGE("Linux does not let this process use tiles: pairs are multiplied");
  CHECK(hoft::cpu_backend::kernel::amx::may_be_used() == may);
  CHECK(float(C.view()(0, 0)) == (may ? 0 : 1));
}

TEST_CASE("products of tiles: the processor's bits are those of plain loops") {
  if (!hoft::cpu_backend::kernel::amx::may_be_used()) return;
  struct shape {
    index_t m, k, n;
  };
  for (shape const& s : {shape{1, 1, 1}, {17, 31, 8}, {70, 600, 33}, {300, 1030, 530}})
    for (float scale : {1.0f, 1e-19f, 1e18f}) {
      spaced<row_major> const A(s.m, s.k, 1, 3, scale);
      spaced<col_major> const B(s.k, s.n, 2, 3, scale);
      spaced<col_major> C(s.m, s.n, 3), D(s.m, s.n, 3);
      multiply<by_tiles<hoft::cpu_backend::kernel::amx>>({}, A, B, C.view());
      multiply<by_tiles<loops>>({}, A, B, D.view());
      CHECK(std::memcmp(C.data.data(), D.data.data(), C.data.size() * sizeof(bf16)) == 0);
    }
}
#endif

TEST_CASE_TEMPLATE("products of pairs: very large and very small numbers", Way, HOFT_ALL_WAYS) {
  if (!Way::may_be_used()) return;
  struct scales {
    float a, b;
  };
  for (scales const& s : {scales{1e20f, 1e-20f},
                          {1e-20f, 1e-20f},
                          {1e-20f, 1e-17f},
                          {1e37f, 1e-37f},
                          {1e-38f, 1e37f},
                          {1e37f, 1e-38f},
                          {1e-38f, 1e-38f},
                          {1e-38f, 1}}) {
    CAPTURE(s.a);
    CAPTURE(s.b);
    CHECK(wrong_elements<Way, col_major, col_major>(40, 90, 7, s.a, s.b) == 0);
    CHECK(wrong_elements<Way, row_major, row_major>(7, 1030, 40, s.a, s.b) == 0);
  }
}

namespace {

/// M X, or MᴴX, of small whole numbers by dense(). Every sum of floats is exact, and grows large before it ends small:
/// the second half of the terms takes back the first but for a few ones, so each wrong bit of a sum is seen.
template <class LM, class L>
index_t wrong_wholes(bool adjoint, index_t outputs, index_t k, index_t tokens, hoft::cpu const& policy) {
  spaced<LM> M(adjoint ? k : outputs, adjoint ? outputs : k, 1);
  spaced<L> X(k, tokens, 2);
  auto const m = [&](index_t i, index_t l) -> bf16& { return adjoint ? M.view()(l, i) : M.view()(i, l); };
  for (index_t l = 0; l < k; ++l) {
    index_t const mirror = k - 1 - l;
    for (index_t i = 0; i < outputs; ++i)
      m(i, l) = mirror < l ? m(i, mirror) : bf16(float((7 * l + 5 * i + l * i) % 16));
    for (index_t j = 0; j < tokens; ++j) {
      float const rest = (l + j) % 61 == 0 ? 1.0f : 0.0f;
      X.view()(l, j) = bf16(mirror < l ? rest - float(X.view()(mirror, j)) : float((11 * l + 3 * j + l * j) % 16));
    }
  }
  spaced<L> Y(outputs, tokens, 3);
  hoft::dense_operator<bf16, LM> const dense(policy, M.view());
  matrix_view<bf16 const, L> const x = X.view();
  if (adjoint) dense.apply_adjoint(x, Y.view());
  else dense.apply(x, Y.view());
  index_t wrong = 0;
  for (index_t j = 0; j < tokens; ++j)
    for (index_t i = 0; i < outputs; ++i) {
      int exact = 0;
      for (index_t l = 0; l < k; ++l) exact += int(float(m(i, l))) * int(float(X.view()(l, j)));
      wrong += Y.view()(i, j).value == bf16(float(exact)).value ? 0 : 1;
    }
  return wrong;
}

}  // namespace

TEST_CASE("dense() of whole numbers in bfloat16 is their exact sum, rounded once") {
  hoft::thread_pool pool(2);
  for (index_t k : {1, 2, 511, 512, 513, 1023, 1024, 1025, 1537, 2050})
    for (index_t tokens : {1, 3, 35}) {
      CAPTURE(k);
      CAPTURE(tokens);
      for (bool adjoint : {false, true})
        for (hoft::cpu const& policy : {hoft::cpu{}, hoft::cpu{std::numeric_limits<int>::max(), &pool}}) {
          CHECK(wrong_wholes<col_major, col_major>(adjoint, 67, k, tokens, policy) == 0);
          CHECK(wrong_wholes<row_major, col_major>(adjoint, 67, k, tokens, policy) == 0);
          CHECK(wrong_wholes<col_major, row_major>(adjoint, 67, k, tokens, policy) == 0);
          CHECK(wrong_wholes<row_major, row_major>(adjoint, 67, k, tokens, policy) == 0);
        }
    }
}

#endif
