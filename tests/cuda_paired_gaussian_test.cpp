// paired_gaussian of the CUDA backend, its kernel run by the host.
#include "cuda_on_host/host.hpp"
#include <hoft/cuda/paired_gaussian.hpp>

#include "support.hpp"

#include <array>
#include <cstdint>

using namespace hoft_test;

namespace {

template <class T, class L = col_major>
dense_matrix<T, L> drawn(index_t m, index_t r, std::uint64_t seed, hoft::cuda::host const& device = {}) {
  padded<T, L> U(m, r);
  hoft::cuda::paired_gaussian(device, U.view(), seed);
  CHECK(U.intact());
  return U.map();
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
  constexpr std::uint32_t ones = 0xFFFFFFFF;
  constexpr known all[] = {
      {{0, 0, 0, 0}, 0, {0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}},
      {{ones, ones, ones, ones}, ~std::uint64_t{0}, {0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}},
      {{0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344},
       0x299F31D0A4093822,
       {0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}}};
  for (known const& k : all) {
    auto const answer = hoft::cuda::philox({{k.counter[0], k.counter[1], k.counter[2], k.counter[3]}}, k.key);
    for (std::size_t i = 0; i < 4; ++i) CHECK(answer.word[i] == k.drawn[i]);
  }
}

TEST_CASE_TEMPLATE("numbers are finite at both ends of the generator", R, float, double) {
  constexpr std::uint32_t ones = 0xFFFFFFFF;
  for (std::uint32_t a : {std::uint32_t{0}, ones})
    for (std::uint32_t b : {std::uint32_t{0}, ones})
      for (R const x : hoft::cuda::normals<R>({{a, a, b, b}}).value) CHECK(std::isfinite(x));
}

TEST_CASE_TEMPLATE("paired Gaussian reflectors by the kernel: pairs, a zero column at the end of odd ranks, and Q = I",
                   T, float, std::complex<double>, Eigen::bfloat16) {
  for (index_t m : {1, 2, 5, 130})
    for (index_t r : {0, 1, 2, 5, 67}) {
      CAPTURE(m);
      CAPTURE(r);
      auto const U = drawn<T>(m, r, 30);
      auto const wide = widen(U);
      for (index_t j = 0; j + 1 < r; j += 2) {
        CHECK(same_bits(wide.col(j), wide.col(j + 1)));
        CHECK(wide.col(j).norm() > 0);
        if (j > 0) CHECK_FALSE(same_bits(wide.col(j), wide.col(j - 1)));
      }
      if (r % 2 == 1) CHECK(wide.col(r - 1).isZero(0));
      if (r >= 2) CHECK_FALSE(same_bits(widen(drawn<T>(m, r, 31)), wide));
      if (r >= 2) CHECK_FALSE(same_bits(widen(drawn<T>(m, r, 30 + (std::uint64_t{1} << 32))), wide));
      // Another layout, grid, order and size: the same numbers where both have them.
      CHECK(same_bits(widen(drawn<T, row_major>(m, r, 30, {.reversed = true, .most_blocks = 2})), wide));
      auto const larger = widen(drawn<T>(m + 3, r + r % 2 + 2, 30));
      CHECK(same_bits(larger.topLeftCorner(m, r - r % 2), wide.leftCols(r - r % 2)));
      if (m > 5 && r < 10) {
        deducible<wide_t<T>> const I = deducible<wide_t<T>>::Identity(m, m);
        CHECK(within(reference_apply(U, I), I, 1e-15L));
      }
    }
  if constexpr (is_stored_in_16_bits<T>)
    CHECK(same_bits(drawn<T>(50, 6, 32), drawn<float>(50, 6, 32).template cast<T>()));
}

TEST_CASE_TEMPLATE("numbers of the kernel are standard Gaussian and independent", T, float, double,
                   std::complex<float>) {
  constexpr index_t m = 1000, pairs = 100;
  constexpr long double n = m * pairs;
  auto const U = widen(drawn<T>(m, 2 * pairs, 33));
  auto const part = [&](index_t i, index_t k, bool imaginary = false) {
    return imaginary ? std::imag(U(i, 2 * k)) : std::real(U(i, 2 * k));
  };
  std::vector<long double> numbers;
  for (index_t k = 0; k < pairs; ++k)
    for (index_t i = 0; i < m; ++i) numbers.push_back(part(i, k));
  // Kolmogorov and Smirnov: √n sup |F_n − F| exceeds 1.95 once in a thousand samples.
  std::vector<long double> sorted = numbers;
  std::sort(sorted.begin(), sorted.end());
  long double distance = 0;
  for (std::size_t i = 0; i < sorted.size(); ++i) {
    long double const F = std::erfc(-sorted[i] / std::sqrt(2.0L)) / 2, at = static_cast<long double>(i) / n;
    distance = std::max({distance, std::abs(F - at), std::abs(F - at - 1 / n)});
  }
  CHECK(distance <= 1.95L / std::sqrt(n));
  // The mean of the squares has deviation √(2 / n) = 0.0045: four of them.
  long double square = 0;
  for (long double x : numbers) square += x * x / n;
  CHECK(std::abs(square - 1) <= 0.018L);
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
  if (is_complex_scalar<T>) CHECK(uncorrelated(part, [&](index_t i, index_t k) { return part(i, k, true); }));
  auto const other = widen(drawn<T>(m, 2 * pairs, 34));
  CHECK(uncorrelated(part, [&](index_t i, index_t k) { return std::real(other(i, 2 * k)); }));
}

TEST_CASE("a bad view is refused before anything is drawn") {
  hoft::cuda::host const device;
  float kept = 7;
  CHECK_THROWS_WITH_AS(hoft::cuda::paired_gaussian(device, hoft::matrix_view<float>(&kept, 2, 1, 1), 1),
                       "hoft::paired_gaussian: U.ld is 1, must be >= 2", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::cuda::paired_gaussian(device, hoft::matrix_view<float>(&kept, 1, -1, 1), 1),
                       "hoft::paired_gaussian: U.cols is -1, must be >= 0", hoft::shape_error);
  CHECK(kept == 7);
}
