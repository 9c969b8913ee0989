// SPDX-License-Identifier: BSD-3-Clause
// Random numbers by place: the generator, the accuracy and distribution of the Gaussian numbers, and their bits, which
// are those of every compiler, flag and backend.
#include <hoft/adapter/paired_gaussian.hpp>
#include <hoft/cpu/backend.hpp>

#include "support.hpp"

#include <array>
#include <bit>
#include <cstdint>

using namespace hoft_test;

namespace {

constexpr std::uint32_t ones = 0xFFFFFFFF;
constexpr long double u = 0x1p-53L;

template <class T, class L = col_major>
dense_matrix<T, L> drawn(index_t m, index_t r, std::uint64_t seed) {
  padded<T, L> U(m, r);
  hoft::paired_gaussian(hoft::cpu{}, U.view(), seed);
  CHECK(U.intact());
  return U.map();
}

/// √(−2 log a) (cos 2πb, sin 2πb) in long double, from what the generator drew.
std::array<long double, 2> expected(hoft::philox_block const& from) {
  auto const part = [&](int which) {
    auto const bits = std::uint64_t{from.word[which + 1]} << 32 | from.word[which];
    return static_cast<long double>(bits >> 11 | 1) * u;
  };
  // Whole quarters of a turn are taken off first, exactly: the relative error of 2πb would be that of a small sine.
  long double const quarters = 4 * part(2), rest = std::remainder(quarters, 1.0L);
  long double const angle = rest * 1.57079632679489661923132169163975144L;
  long double const radius = std::sqrt(-2 * std::log(part(0))), c = std::cos(angle), s = std::sin(angle);
  switch (static_cast<int>(quarters - rest) % 4) {
    case 0:
      return {radius * c, radius * s};
    case 1:
      return {-radius * s, radius * c};
    case 2:
      return {-radius * c, -radius * s};
    default:
      return {radius * s, -radius * c};
  }
}

/// The larger relative error of a pair, in u.
long double error_in_u(hoft::philox_block const& from) {
  auto const numbers = hoft::detail::gaussians(from);
  auto const exact = expected(from);
  auto const error = [](double x, long double y) { return std::abs((static_cast<long double>(x) - y) / y) / u; };
  long double const first = error(numbers.first, exact[0]), second = error(numbers.second, exact[1]);
  return !(first <= second) ? first : second;  // NaN stays
}

hoft::philox_block words(std::uint64_t a, std::uint64_t b) {
  return {{std::uint32_t(a), std::uint32_t(a >> 32), std::uint32_t(b), std::uint32_t(b >> 32)}};
}

template <class T>
std::uint64_t bits_of(T const& a) {
  if constexpr (sizeof(T) == 2) return std::bit_cast<std::uint16_t>(a);
  else if constexpr (sizeof(T) == 4) return std::bit_cast<std::uint32_t>(a);
  else return std::bit_cast<std::uint64_t>(a);
}

/// All bits of U, column by column, real before imaginary parts: FNV-1a, a number at a time.
template <class T>
std::uint64_t hash_of(deducible<T> const& U) {
  std::uint64_t hash = 0xCBF29CE484222325;
  auto const add = [&](auto const& a) { hash = (hash ^ bits_of(a)) * 0x100000001B3; };
  for (index_t j = 0; j < U.cols(); ++j)
    for (index_t i = 0; i < U.rows(); ++i) {
      if constexpr (is_complex_scalar<T>) add(U(i, j).real()), add(U(i, j).imag());
      else add(U(i, j));
    }
  return hash;
}

}  // namespace

// The known answers that come with the generator's first implementation, Random123.
TEST_CASE("Philox4x32-10 draws what it should") {
  using block = std::array<std::uint32_t, 4>;
  struct known {
    block counter;
    std::uint64_t key;
    block drawn;
  };
  constexpr known all[] = {
      {{0, 0, 0, 0}, 0, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
      {{ones, ones, ones, ones}, ~std::uint64_t{0}, {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
      {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344},
       0x299F31D0A4093822,
       {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}}};
  for (known const& k : all) {
    auto const answer = hoft::philox({{k.counter[0], k.counter[1], k.counter[2], k.counter[3]}}, k.key);
    for (std::size_t i = 0; i < 4; ++i) CHECK(answer.word[i] == k.drawn[i]);
  }
}

TEST_CASE("numbers are those of Box and Muller within 6 u") {
  // Where the functions change: powers of two, √½ and √2 times them, 1; and eighths of a turn. The words hold 11 bits
  // below those that count.
  std::vector<std::uint64_t> ends{0, ~std::uint64_t{0}};
  constexpr std::uint64_t root = 0xB504F333F9DE6484;  // √½ of 2⁶⁴
  for (int shift = 0; shift < 54; ++shift)
    for (std::uint64_t const at : {std::uint64_t{1} << 63, root, ~std::uint64_t{0}})
      for (int step = -2; step <= 2; ++step) ends.push_back((at >> shift) + std::uint64_t(step) * 2048);
  for (int shift = 0; shift < 53; ++shift) ends.push_back(~std::uint64_t{0} - (std::uint64_t{2048} << shift));
  for (std::uint64_t eighth = 0; eighth < 8; ++eighth)
    for (int step = -2; step <= 2; ++step) ends.push_back((eighth << 61) + std::uint64_t(step) * 2048);
  long double worst = 0;
  auto const judge = [&](hoft::philox_block const& from) {
    long double const error = error_in_u(from);
    if (!(error <= worst)) worst = error;
  };
  for (std::uint64_t const a : ends)
    for (std::uint64_t const b : ends) judge(words(a, b));
  for (std::uint32_t i = 0; i < 100000; ++i) judge(hoft::philox({{i, 0, 0, 0}}, 1));
  CAPTURE(worst);
  CHECK(worst <= 6);
}

TEST_CASE("tails reach to 8.57, and no number is 0") {
  double largest = 0, least = 1;
  for (std::uint64_t const a : {std::uint64_t{0}, ~std::uint64_t{0}})
    for (std::uint64_t const b :
         {std::uint64_t{0}, std::uint64_t{1} << 62, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
      auto const numbers = hoft::detail::gaussians(words(a, b));
      for (double const x : {numbers.first, numbers.second}) {
        CHECK(std::isfinite(x));
        largest = std::max(largest, std::abs(x));
        least = std::min(least, std::abs(x));
      }
    }
  CHECK(largest > 8.57);
  CHECK(largest < 8.58);
  CHECK(least > static_cast<double>(std::numeric_limits<float>::min()));
}

// A compiler, a flag or a processor that gives another hash rounds where it should not.
TEST_CASE("every compiler, flag and backend gives these bits") {
  CHECK(hash_of(drawn<float>(64, 6, 2024)) == 0x58BA7FC6378C6741);
  CHECK(hash_of(drawn<double>(64, 6, 2024)) == 0xD1AECA6FB0C73F5D);
  CHECK(hash_of(drawn<std::complex<float>>(64, 6, 2024)) == 0x48AFE5E566D82939);
  CHECK(hash_of(drawn<std::complex<double>>(64, 6, 2024)) == 0x6BE2C934A64C8BB1);
  CHECK(hash_of(drawn<Eigen::half>(64, 6, 2024)) == 0x05817ED83FB4F6CD);
  CHECK(hash_of(drawn<Eigen::bfloat16>(64, 6, 2024)) == 0x25F1E61FBCEBFDE1);
}

TEST_CASE_TEMPLATE("numbers depend on their place and the seed alone", T, HOFT_ALL_SCALARS) {
  for (index_t m : {1, 2, 5, 130})
    for (index_t r : {0, 1, 2, 5, 67}) {
      CAPTURE(m);
      CAPTURE(r);
      auto const U = widen(drawn<T>(m, r, 30));
      for (index_t j = 0; j + 1 < r; j += 2) {
        CHECK(same_bits(U.col(j), U.col(j + 1)));
        CHECK(U.col(j).norm() > 0);
        if (j > 0) CHECK_FALSE(same_bits(U.col(j), U.col(j - 1)));
      }
      if (r % 2 == 1) CHECK(same_bits(U.col(r - 1), wide_matrix<T>::Zero(m, 1)));
      if (r >= 2) CHECK_FALSE(same_bits(widen(drawn<T>(m, r, 31)), U));
      if (r >= 2) CHECK_FALSE(same_bits(widen(drawn<T>(m, r, 30 + (std::uint64_t{1} << 32))), U));
      CHECK(same_bits(widen(drawn<T, row_major>(m, r, 30)), U));
      auto const larger = widen(drawn<T>(m + 3, r + r % 2 + 2, 30));
      CHECK(same_bits(larger.topLeftCorner(m, r - r % 2), U.leftCols(r - r % 2)));
      for (index_t k = 0; 2 * k + 1 < r; ++k)
        for (index_t i = 0; i < m; ++i) CHECK(widened<T>(hoft::standard_gaussian<T>(30, i, k)) == U(i, 2 * k));
    }
  // Places beyond 32 bits are places of their own.
  constexpr index_t beyond = index_t{1} << 32;
  auto const at = [](index_t i, index_t k) { return widened<T>(hoft::standard_gaussian<T>(30, i, k)); };
  CHECK(at(beyond, 0) != at(0, 0));
  CHECK(at(0, beyond) != at(0, 0));
  CHECK(at(0, beyond) != at(beyond, 0));
}

TEST_CASE("every type has the numbers of double, rounded") {
  auto const U = drawn<double>(50, 6, 32);
  CHECK(same_bits(drawn<float>(50, 6, 32), U.cast<float>()));
  CHECK(same_bits(drawn<Eigen::half>(50, 6, 32), U.cast<float>().cast<Eigen::half>()));
  CHECK(same_bits(drawn<Eigen::bfloat16>(50, 6, 32), U.cast<float>().cast<Eigen::bfloat16>()));
  CHECK(same_bits(widen(drawn<long double>(50, 6, 32)), widen(U)));
  auto const Z = drawn<std::complex<double>>(50, 6, 32);
  CHECK(same_bits(Z.real(), U));
  CHECK(same_bits(drawn<std::complex<float>>(50, 6, 32), Z.cast<std::complex<float>>()));
}

TEST_CASE_TEMPLATE("numbers are standard Gaussian and independent", T, float, double, std::complex<double>) {
  constexpr index_t m = 1000, pairs = 100;
  constexpr long double n = m * pairs;
  auto const U = widen(drawn<T>(m, 2 * pairs, 33));
  auto const part = [&](index_t i, index_t k) { return std::real(U(i, 2 * k)); };
  auto const imaginary = [&](index_t i, index_t k) { return std::imag(U(i, 2 * k)); };
  std::vector<long double> numbers;
  for (index_t k = 0; k < pairs; ++k)
    for (index_t i = 0; i < m; ++i) numbers.push_back(is_complex_scalar<T> ? imaginary(i, k) : part(i, k));
  // Kolmogorov and Smirnov: √n sup |F_n − F| exceeds 1.95 once in a thousand samples.
  std::vector<long double> sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  long double distance = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    long double const F = std::erfc(-sorted[i] / std::sqrt(2.0L)) / 2, at = static_cast<long double>(i) / n;
    distance = std::max({distance, std::abs(F - at), std::abs(F - at - 1 / n)});
  }
  CHECK(distance <= 1.95L / std::sqrt(n));
  // Means of x, x² − 1, x³ and x⁴ − 3 have deviations √(1, 2, 15, 96) / √n; four of them.
  std::array<long double, 4> moments{};
  for (long double const x : numbers) {
    long double const square = x * x;
    moments[0] += x, moments[1] += square - 1, moments[2] += square * x, moments[3] += square * square - 3;
  }
  constexpr std::array<long double, 4> variances{1, 2, 15, 96};
  for (std::size_t p = 0; p < 4; ++p) CHECK(std::abs(moments[p]) <= 4 * std::sqrt(variances[p] * n));
  CHECK(sorted.back() > 3.5L);  // tails: the largest of 10⁵ is below 3.5 once in 10¹⁰ samples
  CHECK(sorted.front() < -3.5L);
  // Products of independent numbers, and of their squares less 1, have mean 0 and deviations 1 and 2; five deviations.
  auto const uncorrelated = [&](auto const& f, auto const& g) {
    long double products = 0, squares = 0, count = 0;
    for (index_t k = 0; k + 1 < pairs; ++k)
      for (index_t i = 0; i + 4 < m; ++i, ++count) {
        long double const a = f(i, k), b = g(i, k);
        products += a * b, squares += (a * a - 1) * (b * b - 1);
      }
    return std::abs(products) <= 5 * std::sqrt(count) && std::abs(squares) <= 5 * 2 * std::sqrt(count);
  };
  for (index_t apart : {1, 2, 3, 4})
    CHECK(uncorrelated(part, [&](index_t i, index_t k) { return part(i + apart, k); }));
  CHECK(uncorrelated(part, [&](index_t i, index_t k) { return part(i, k + 1); }));
  if (is_complex_scalar<T>) CHECK(uncorrelated(part, imaginary));
  auto const other = widen(drawn<T>(m, 2 * pairs, 34));
  CHECK(uncorrelated(part, [&](index_t i, index_t k) { return std::real(other(i, 2 * k)); }));
}

TEST_CASE("a bad view is refused before anything is drawn") {
  float kept = 7;
  CHECK_THROWS_WITH_AS(hoft::paired_gaussian(hoft::cpu{}, hoft::matrix_view<float>(&kept, 2, 1, 1), 1),
                       "hoft::paired_gaussian: U.ld is 1, must be >= 2", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::paired_gaussian(hoft::cpu{}, hoft::matrix_view<float>(&kept, 1, -1, 1), 1),
                       "hoft::paired_gaussian: U.cols is -1, must be >= 0", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::paired_gaussian(hoft::cpu{}, hoft::matrix_view<float>(&kept, -1, 1, 1), 1),
                       "hoft::paired_gaussian: U.rows is -1, must be >= 0", hoft::shape_error);
  CHECK(kept == 7);
}
