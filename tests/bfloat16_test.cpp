// SPDX-License-Identifier: BSD-3-Clause
// Conversions of bfloat16 by the CPU's own loops, judged by Eigen's, which convert one number at a time.
#include "support.hpp"

#include <hoft/cpu/backend.hpp>
#include <hoft/eigen/apply.hpp>
#include <hoft/eigen/apply_backward.hpp>

#include <bit>
#include <cstdint>

using hoft::index_t;

namespace {

using floats = Eigen::Matrix<float, Eigen::Dynamic, 1>;
using shorts = Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, 1>;

/// Numbers of every exponent, ties, infinities and NaNs: all upper halves, each with lower halves around a tie.
floats floats_of_all_kinds() {
  std::uint32_t const lower[] = {0, 1, 0x7fff, 0x8000, 0x8001, 0xffff};
  floats all(65536 * 6);
  for (std::uint32_t upper = 0; upper < 65536; ++upper)
    for (std::uint32_t k = 0; k < 6; ++k) all[index_t(upper * 6 + k)] = std::bit_cast<float>(upper << 16 | lower[k]);
  return all;
}

}  // namespace

TEST_CASE("floats become bfloat16 as Eigen rounds them, and back") {
  floats const x = floats_of_all_kinds();
  shorts y(x.size());
  hoft::ops<hoft::cpu>::copy(hoft::cpu{}, hoft::as_view(x), hoft::as_view(y));
  index_t wrong = 0;
  for (index_t i = 0; i < x.size(); ++i) wrong += y[i].value != Eigen::bfloat16(x[i]).value ? 1 : 0;
  CHECK(wrong == 0);
  floats back(y.size());
  hoft::ops<hoft::cpu>::copy(hoft::cpu{}, hoft::as_view(y), hoft::as_view(back));
  for (index_t i = 0; i < y.size(); ++i)
    wrong += std::bit_cast<std::uint32_t>(back[i]) != std::uint32_t{y[i].value} << 16 ? 1 : 0;
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("padded columns and rows are converted, and no more", L, hoft::col_major, hoft::row_major) {
  using hoft_test::padded;
  for (auto const& [m, n] : {std::pair<index_t, index_t>{0, 3}, {1, 1}, {5, 7}, {33, 18}}) {
    padded<float, L> const x(hoft_test::gaussian<float, L>(m, n, 7));
    padded<Eigen::bfloat16, L> y(m, n);
    hoft::ops<hoft::cpu>::copy(hoft::cpu{}, x.view(), y.view());
    CHECK(y.map() == x.map().template cast<Eigen::bfloat16>());
    CHECK(y.intact());
  }
}

TEST_CASE("kernels load and store bfloat16 as Eigen converts it") {
  namespace kernel = hoft::cpu_backend::kernel;
  constexpr index_t lanes = kernel::lanes<float>;
  floats const x = floats_of_all_kinds();
  shorts y(x.size() + 1);  // stored behind an odd address
  index_t wrong = 0;
  if constexpr (kernel::converts<Eigen::bfloat16, float>) {
    for (index_t i = 0; i < x.size(); i += lanes) {
      Eigen::bfloat16* const to = y.data() + 1 + i;
      kernel::store_as<float>(to, kernel::load(x.data() + i));
      floats back(lanes);
      Eigen::internal::pstoreu(back.data(), kernel::load_as<float>(to));
      for (index_t l = 0; l < lanes; ++l) {
        wrong += to[l].value != Eigen::bfloat16(x[i + l]).value ? 1 : 0;
        wrong += std::bit_cast<std::uint32_t>(back[l]) != std::uint32_t{to[l].value} << 16 ? 1 : 0;
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("panels give the bits of converted copies", L, hoft::col_major, hoft::row_major) {
  using hoft_test::padded, hoft_test::same_bits;
  using matrix = hoft_test::dense_matrix<float, L>;
  using half = hoft_test::dense_matrix<Eigen::bfloat16, L>;
  // Around a vector, a slab of rows and a panel; several factors, and none.
  struct shape {
    index_t m, r, n, block;
  };
  for (auto const [m, r, n, block] : {shape{1, 1, 1, 64},
                                      {3, 2, 50, 64},
                                      {17, 5, 13, 64},
                                      {64, 8, 100, 64},
                                      {65, 16, 9, 64},
                                      {130, 7, 301, 64},
                                      {71, 9, 40, 4},
                                      {20, 0, 11, 64},
                                      {1500, 6, 30, 64}}) {
    std::string const label = hoft_test::text_of({{"m", m}, {"r", r}, {"n", n}});
    INFO(label);
    auto const Q = hoft::accumulate(hoft_test::gaussian<float>(m, r, 3), hoft::exact{}, block);
    half const X = hoft_test::gaussian<float, L>(m, n, 4).template cast<Eigen::bfloat16>();
    half const dY = hoft_test::gaussian<float, L>(m, n, 5).template cast<Eigen::bfloat16>();
    matrix const X_copy = X.template cast<float>(), dY_copy = dY.template cast<float>();

    padded<Eigen::bfloat16, L> Y(m, n);
    hoft::apply(Q, X, Y.map());
    matrix Y_copy = X_copy;
    hoft::apply(Q, Y_copy);
    CHECK(same_bits(Y.map(), half(Y_copy.template cast<Eigen::bfloat16>())));
    CHECK(Y.intact());

    auto const g = hoft::apply_backward(Q, X, dY);
    auto const of_copies = hoft::apply_backward(Q, X_copy, dY_copy);
    CHECK(same_bits(g.dX, half(of_copies.dX.template cast<Eigen::bfloat16>())));
    if (std::same_as<L, hoft::col_major>) CHECK(same_bits(g.dU, of_copies.dU));  // panels of rows are less wide
  }
}
