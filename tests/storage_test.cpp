// SPDX-License-Identifier: BSD-3-Clause
// Conversions of 16-bit storage by the CPU's own loops, judged by Eigen's, which convert one number at a time.
#include "support.hpp"

#include <hoft/cpu/backend.hpp>
#include <hoft/eigen/apply.hpp>
#include <hoft/eigen/apply_backward.hpp>

#if defined(__SSE__)
#include <immintrin.h>
#endif

#include <array>
#include <bit>
#include <cfenv>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

using hoft::index_t;

namespace {

namespace kernel = hoft::cpu_backend::kernel;

using floats = Eigen::Matrix<float, Eigen::Dynamic, 1>;
template <class S>
using stored = Eigen::Matrix<S, Eigen::Dynamic, 1>;

/// Numbers of every exponent, infinities and NaNs: all upper 16 bits, each with lower bits around the ties of both
/// types, which round off 16 or 13 bits, and more of half's subnormal numbers.
floats floats_of_all_kinds() {
  std::uint32_t const lower[] = {0, 1, 0xfff, 0x1000, 0x1001, 0x3000, 0x7fff, 0x8000, 0x8001, 0xffff};
  constexpr std::uint32_t kinds = std::size(lower);
  floats all(65536 * kinds);
  for (std::uint32_t upper = 0; upper < 65536; ++upper)
    for (std::uint32_t k = 0; k < kinds; ++k)
      all[index_t(upper) * kinds + k] = std::bit_cast<float>(upper << 16 | lower[k]);
  return all;
}
template <class S>
stored<S> all_of_storage() {
  stored<S> all(65536);
  for (std::uint32_t bits = 0; bits < 65536; ++bits) all[index_t(bits)] = std::bit_cast<S>(std::uint16_t(bits));
  return all;
}

template <class X>
auto bits_of(X x) {
  return std::bit_cast<std::conditional_t<sizeof(X) == 2, std::uint16_t, std::uint32_t>>(x);
}
/// How many elements of y are not what Eigen makes of those of x, bit by bit. A NaN has to be one: its bits are
/// the processor's.
template <class X, class Y>
index_t wrong_bits(index_t n, X const* x, Y const* y) {
  index_t wrong = 0;
  for (index_t i = 0; i < n; ++i) {
    auto const expected = static_cast<Y>(x[i]);
    bool const same = (Eigen::numext::isnan)(x[i]) ? (Eigen::numext::isnan)(y[i]) : bits_of(y[i]) == bits_of(expected);
    wrong += same ? 0 : 1;
  }
  return wrong;
}

}  // namespace

TEST_CASE_TEMPLATE("floats become 16 bits as Eigen rounds them, and back", S, Eigen::bfloat16, Eigen::half) {
  floats const x = floats_of_all_kinds();
  stored<S> y(x.size());
  hoft::ops<hoft::cpu>::copy(hoft::cpu{}, hoft::as_view(x), hoft::as_view(y));
  CHECK(wrong_bits(x.size(), x.data(), y.data()) == 0);
  stored<S> const all = all_of_storage<S>();
  floats back(all.size());
  hoft::ops<hoft::cpu>::copy(hoft::cpu{}, hoft::as_view(all), hoft::as_view(back));
  CHECK(wrong_bits(all.size(), all.data(), back.data()) == 0);
}

TEST_CASE_TEMPLATE("padded columns and rows are converted, and no more", S, Eigen::bfloat16, Eigen::half) {
  auto const check = [](auto layout) {
    using L = decltype(layout);
    using hoft_test::padded;
    for (auto const& [m, n] : {std::pair<index_t, index_t>{0, 3}, {1, 1}, {5, 7}, {33, 18}}) {
      padded<float, L> const x(hoft_test::gaussian<float, L>(m, n, 7));
      padded<S, L> y(m, n);
      hoft::ops<hoft::cpu>::copy(hoft::cpu{}, x.view(), y.view());
      CHECK(y.map() == x.map().template cast<S>());
      CHECK(y.intact());
      padded<float, L> back(m, n);
      hoft::ops<hoft::cpu>::copy(hoft::cpu{}, y.view(), back.view());
      CHECK(back.map() == y.map().template cast<float>());
      CHECK(back.intact());
    }
  };
  check(hoft::col_major{});
  check(hoft::row_major{});
}

TEST_CASE_TEMPLATE("kernels load and store 16 bits as Eigen converts them", S, Eigen::bfloat16, Eigen::half) {
  if constexpr (kernel::converts<S, float>) {
    constexpr index_t lanes = kernel::lanes<float>;
    floats const x = floats_of_all_kinds();
    stored<S> y(x.size() + 1);  // stored behind an odd address
    floats back(x.size());
    for (index_t i = 0; i < x.size(); i += lanes) {
      S* const to = y.data() + 1 + i;
      kernel::store_as<float>(to, kernel::load(x.data() + i));
      Eigen::internal::pstoreu(back.data() + i, kernel::load_as<float>(to));
    }
    CHECK(wrong_bits(x.size(), x.data(), y.data() + 1) == 0);
    CHECK(wrong_bits(x.size(), y.data() + 1, back.data()) == 0);
  }
}

TEST_CASE_TEMPLATE("16 bits are rounded to the nearest, whatever the caller's mode", S, Eigen::bfloat16, Eigen::half) {
  if constexpr (kernel::converts<S, float>) {
    floats const x = floats_of_all_kinds();
    stored<S> nearest(x.size()), y(x.size());
    hoft::ops<hoft::cpu>::copy(hoft::cpu{}, hoft::as_view(x), hoft::as_view(nearest));
    std::fesetround(FE_UPWARD);
    hoft::ops<hoft::cpu>::copy(hoft::cpu{}, hoft::as_view(x), hoft::as_view(y));
    std::fesetround(FE_TONEAREST);
    CHECK(wrong_bits(x.size(), nearest.data(), y.data()) == 0);
  }
}

namespace {

/// Whole numbers alone tell how a float becomes bfloat16: no mode of floating-point arithmetic reaches them.
std::uint16_t rounded(std::uint32_t bits) {
  bool const is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
  return std::uint16_t((is_nan ? bits | 0x400000u : bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
/// How many of all kinds of numbers become another bfloat16 than alone, in vectors whose other numbers are `others`.
index_t wrong_beside(float others) {
  constexpr index_t lanes = kernel::lanes<float>;
  floats const x = floats_of_all_kinds();
  index_t wrong = 0;
  for (index_t i = 0; i < x.size(); ++i) {
    std::array<float, lanes> from;
    std::array<Eigen::bfloat16, lanes> to{};
    from.fill(others);
    std::memcpy(&from[std::size_t(i % lanes)], &x[i], sizeof(float));
    kernel::store_as<float>(to.data(), kernel::load(from.data()));
    std::uint32_t bits = 0;
    std::memcpy(&bits, &x[i], sizeof(bits));
    wrong += bits_of(to[std::size_t(i % lanes)]) == rounded(bits) ? 0 : 1;
  }
  return wrong;
}

}  // namespace

TEST_CASE("bfloat16 has the same bits whatever stands beside it, and where subnormal numbers are taken for zeros") {
  if constexpr (kernel::converts<Eigen::bfloat16, float>) {
    float const others[] = {1.5f, std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::denorm_min()};
    for (float other : others) CHECK(wrong_beside(other) == 0);
#if defined(__SSE__)
    unsigned const modes = _mm_getcsr();
    _mm_setcsr(modes | 0x8040);
    std::array<index_t, 3> wrong{};
    for (std::size_t k = 0; k < 3; ++k) wrong[k] = wrong_beside(others[k]);
    _mm_setcsr(modes);
    for (index_t count : wrong) CHECK(count == 0);
#endif
  }
}

namespace {

/// Around a vector, a slab of rows and a panel; several factors, and none.
struct shape {
  index_t m, r, n, block;
};
std::vector<shape> const shapes = {{1, 1, 1, 64},    {3, 2, 50, 64},  {17, 5, 13, 64},
                                   {64, 8, 100, 64}, {65, 16, 9, 64}, {130, 7, 301, 64},
                                   {71, 9, 40, 4},   {20, 0, 11, 64}, {1500, 6, 30, 64}};

/// Calls on panels of S give the bits of calls on copies of them as floats.
template <class S, class L>
void check_panels() {
  using hoft_test::padded, hoft_test::same_bits;
  using matrix = hoft_test::dense_matrix<float, L>;
  using narrow = hoft_test::dense_matrix<S, L>;
  for (auto const [m, r, n, block] : shapes) {
    std::string const label = hoft_test::text_of({{"m", m}, {"r", r}, {"n", n}});
    INFO(label);
    auto const Q = hoft::accumulate(hoft_test::gaussian<float>(m, r, 3), hoft::exact{}, block);
    narrow const X = hoft_test::gaussian<float, L>(m, n, 4).template cast<S>();
    narrow const dY = hoft_test::gaussian<float, L>(m, n, 5).template cast<S>();
    matrix const X_copy = X.template cast<float>(), dY_copy = dY.template cast<float>();

    padded<S, L> Y(m, n);
    hoft::apply(Q, X, Y.map());
    matrix Y_copy = X_copy;
    hoft::apply(Q, Y_copy);
    CHECK(same_bits(Y.map(), narrow(Y_copy.template cast<S>())));
    CHECK(Y.intact());

    auto const g = hoft::apply_backward(Q, X, dY);
    auto const of_copies = hoft::apply_backward(Q, X_copy, dY_copy);
    CHECK(same_bits(g.dX, narrow(of_copies.dX.template cast<S>())));
    if (std::same_as<L, hoft::col_major>) CHECK(same_bits(g.dU, of_copies.dU));  // panels of rows are less wide
  }
}

}  // namespace

TEST_CASE_TEMPLATE("panels give the bits of converted copies", S, Eigen::bfloat16, Eigen::half) {
  check_panels<S, hoft::col_major>();
  check_panels<S, hoft::row_major>();
}

TEST_CASE_TEMPLATE("outputs that go past the caches have the bits of others", S, Eigen::bfloat16, Eigen::half) {
  index_t const m = 2128, n = 2000;  // more than 8 MiB, whole vectors, and rows behind the last slab
  hoft_test::dense_matrix<S> X(m, n), Y(m, n);
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) X(i, j) = static_cast<S>(float((7 * i + 13 * j) % 31 - 15));
  auto const Q = hoft::accumulate(hoft_test::gaussian<float>(m, 3, 6));
  hoft::apply(Q, X, Y);
  // Where vectors are not aligned, in the first line or in others, none is stored past the caches.
  hoft_test::dense_matrix<S> memory(m * n + 64 + n, 1);
  S* const aligned = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64 / sizeof(S);
  auto const behind = hoft::as_eigen(hoft::matrix_view<S>(aligned + 1, m, n));
  hoft::apply(Q, X, hoft::as_eigen(hoft::matrix_view<S>(aligned + 1, m, n)));
  CHECK(hoft_test::same_bits(Y, behind));
  auto const apart = hoft::as_eigen(hoft::matrix_view<S>(aligned, m, n, m + 1));
  hoft::apply(Q, X, hoft::as_eigen(hoft::matrix_view<S>(aligned, m, n, m + 1)));
  CHECK(hoft_test::same_bits(Y, apart));
  hoft::apply(Q, X);  // in place, over what the caches hold
  CHECK(hoft_test::same_bits(X, Y));
}
