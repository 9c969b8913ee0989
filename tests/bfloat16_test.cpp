// Conversions of bfloat16 by the CPU's own loops, judged by Eigen's, which convert one number at a time.
#include "support.hpp"

#include <hoft/cpu/backend.hpp>

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
