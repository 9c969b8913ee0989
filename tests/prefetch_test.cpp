// SPDX-License-Identifier: BSD-3-Clause
// What is read next is fetched once, whatever the shape. Results cannot tell; here fetches are counted.
#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace {
constexpr std::uintptr_t line = 64;
std::unordered_map<std::uintptr_t, int> fetches;  // of each cache line
void count_fetch(void const* address) { ++fetches[reinterpret_cast<std::uintptr_t>(address) / line]; }
}  // namespace

// Views with bounds checks are other types, so that the linker takes nothing from sources without this macro.
#define HOFT_CHECK_BOUNDS
#define __builtin_prefetch(address, ...) count_fetch(address)
#include <hoft/hoft.hpp>
#undef __builtin_prefetch

#include <doctest/doctest.h>

namespace {

using hoft::index_t;

/// Shares of the lines of X, behind `first` columns, that are never fetched, or more than `often`.
struct shares {
  double missed = 0, repeated = 0;
};
template <class T>
shares shares_of(hoft::matrix_view<T const> X, index_t first, int often = 1) {
  index_t all = 0, missed = 0, repeated = 0;
  for (index_t j = first; j < X.cols; ++j) {
    auto const begin = reinterpret_cast<std::uintptr_t>(X.data + j * X.ld),
               end = begin + std::size_t(X.rows) * sizeof(T);
    for (auto at = (begin + line - 1) / line; at < end / line; ++at) {  // whole lines
      auto const found = fetches.find(at);
      int const count = found == fetches.end() ? 0 : found->second;
      ++all, missed += count == 0, repeated += count > often;
    }
  }
  REQUIRE(all > 0);
  return {double(missed) / double(all), double(repeated) / double(all)};
}

template <class T>
void check_panels(index_t m, index_t n, index_t r, bool in_place) {
  INFO("m = ", m, ", n = ", n, ", r = ", r, ", in place: ", in_place);
  using A = hoft::accumulator_t<T>;
  Eigen::Matrix<A, Eigen::Dynamic, Eigen::Dynamic> const U = Eigen::MatrixXf::Random(m, r).template cast<A>();
  auto const Q = hoft::accumulate(U);
  hoft::dense_matrix<T> X = Eigen::MatrixXf::Random(m, n).template cast<T>(), Y = X;
  auto const x = hoft::as_view(X), y = in_place ? x : hoft::as_view(Y);
  std::vector<std::byte> memory(std::size_t(hoft::apply_workspace(hoft::cpu{}, Q.view(), x)) + line);
  fetches.clear();
  hoft::apply(hoft::cpu{}, Q.view(), x, y, hoft::side::left, hoft::op::plain,
              hoft::workspace{memory.data(), index_t(memory.size())});
  index_t const width = hoft::ops<hoft::cpu>::panel_width<T, hoft::col_major>(hoft::cpu{}, m, r);
  REQUIRE(width < n);
  // Matrices in place in the caches are fetched by the update: vector by vector, of which a line may have several.
  constexpr int vectors = std::max(1, int(line / sizeof(hoft::cpu_backend::kernel::packet<T>)));
  bool const early = hoft::ops<hoft::cpu>::fetches_early(hoft::cpu{}, m * n * index_t(sizeof(T)), in_place);
  shares const s = shares_of(hoft::matrix_view<T const>(x), width, early ? 1 : vectors);
  // Columns that are no whole tile of the panel before are not fetched, and lines at the ends of columns seldom twice.
  CHECK(s.missed < 0.1);
  CHECK(s.repeated < 0.05);
}

}  // namespace

TEST_CASE("each panel is fetched once while the panel before it is worked on") {
#if !defined(__GNUC__)
  MESSAGE("nothing is fetched with this compiler");
#else
  for (bool in_place : {false, true})
    for (index_t m : {4096, 1024, 700})
      for (index_t r : {1, 4, 7, 8, 16, 40}) {
        check_panels<float>(m, 200, r, in_place);
        check_panels<double>(m, 200, r, in_place);
      }
  check_panels<float>(4096, 600, 16, true);  // in place, but from memory
  check_panels<float>(64, 300, 8, false);
  check_panels<float>(64, 300, 5, false);
#endif
}

TEST_CASE("a batch on one thread fetches the next problem, whose columns may lie further apart") {
  for (index_t m : {64, 512}) {
    constexpr index_t n = 16, r = 8;
    Eigen::MatrixXf const U = Eigen::MatrixXf::Random(m, r);
    auto Q = hoft::accumulate(U);
    Eigen::MatrixXf first = Eigen::MatrixXf::Random(m, n), room = Eigen::MatrixXf::Random(m + 16, n);
    std::vector<hoft::compact_wy_view<float const>> const forms{Q.view(), Q.view()};
    std::vector<hoft::matrix_view<float>> const X{hoft::as_view(first), {room.data(), m, n, m + 16}};
    std::vector<std::byte> memory(1 << 20);
    fetches.clear();
    hoft::apply(hoft::cpu{}, forms, X, X, hoft::side::left, hoft::op::plain,
                hoft::workspace{memory.data(), index_t(memory.size())});
#if defined(__GNUC__)
    CHECK(shares_of(hoft::matrix_view<float const>(X[1]), 0).missed < 0.1);
#endif
  }
}
