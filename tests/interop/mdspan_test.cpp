// SPDX-License-Identifier: BSD-3-Clause
// cuda::std::mdspan as views and back: the same elements at the same indices.
#include <hoft/view/mdspan.hpp>

#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS
#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <string>

using namespace hoft;

namespace {

using cuda::std::dextents;
using cuda::std::layout_left;
using cuda::std::layout_right;
using cuda::std::layout_stride;

template <class View, class Span>
void same_elements(View const& a, Span const& b) {
  CHECK(a.rows == index_t(b.extent(0)));
  CHECK(a.cols == index_t(b.extent(1)));
  for (index_t i = 0; i < a.rows; ++i)
    for (index_t j = 0; j < a.cols; ++j)
      CHECK(&a(i, j) == b.data_handle() + b.mapping()(typename Span::index_type(i), typename Span::index_type(j)));
}

template <class F>
void refuses(std::string const& message, F const& f) {
  std::string thrown = "nothing";
  try {
    f();
  } catch (shape_error const& error) {
    thrown = error.what();
  }
  CHECK(thrown == message);
}

template <class Index = int>
auto strided(float* data, Index rows, Index cols, Index down, Index across) {
  using extents = dextents<Index, 2>;
  return cuda::std::mdspan<float, extents, layout_stride>(
      data, {extents(rows, cols), cuda::std::array<Index, 2>{down, across}});
}

}  // namespace

TEST_CASE("an mdspan is a view of the same elements") {
  std::array<float, 40> memory{};
  cuda::std::mdspan<float, dextents<int, 2>, layout_left> const left(memory.data(), 3, 4);
  cuda::std::mdspan<float const, cuda::std::extents<unsigned, 3, 4>, layout_right> const right(memory.data());
  auto const column = hoft::from_mdspan(left);
  auto const row = from_mdspan(right);
  static_assert(std::is_same_v<decltype(column), matrix_view<float, col_major> const>);
  static_assert(std::is_same_v<decltype(row), matrix_view<float const, row_major> const>);
  same_elements(column, left);
  same_elements(row, right);
  same_elements(from_mdspan<row_major>(strided(memory.data(), 3, 4, 7, 1)), strided(memory.data(), 3, 4, 7, 1));
  same_elements(from_mdspan<col_major>(strided(memory.data(), 3, 4, 1, 6)), strided(memory.data(), 3, 4, 1, 6));
  // One row, and no row: the stride that says nothing is not looked at.
  CHECK(from_mdspan<row_major>(strided(memory.data(), 1, 4, 2, 1)).ld == 4);
  CHECK(from_mdspan<col_major>(strided(memory.data(), 1, 4, 2, 5)).ld == 5);
  CHECK(from_mdspan<col_major>(strided(memory.data(), 0, 4, 9, 9)).ld == 0);
}

TEST_CASE("other strides are refused") {
  std::array<float, 40> memory{};
  auto const a = strided(memory.data(), 3, 4, 8, 2);
  refuses("hoft::from_mdspan: X.strides[1] is 2, must be 1 for a row-major view",
          [&] { from_mdspan<row_major>(a, "X"); });
  refuses("hoft::from_mdspan: a.strides[0] is 8, must be 1 for a column-major view",
          [&] { from_mdspan<col_major>(a); });
  cuda::std::mdspan<float, dextents<int, 2>, layout_left> const left(memory.data(), 3, 4);
  refuses("hoft::from_mdspan: a.strides[1] is 3, must be 1 for a row-major view",
          [&] { from_mdspan<row_major>(left); });
  using index = unsigned long long;
  refuses("hoft::from_mdspan: a.shape[0] is 9223372036854775808, must be in the range of hoft::index_t",
          [&] { from_mdspan<row_major>(strided<index>(nullptr, index(1) << 63, 1, 1, 1)); });
}

TEST_CASE("vectors") {
  std::array<double, 8> memory{};
  cuda::std::mdspan<double, dextents<int, 1>> const plain(memory.data(), 5);
  auto const a = from_mdspan(plain);
  CHECK((a.data == memory.data() && a.size == 5));
  auto const back = as_mdspan(a);
  CHECK((back.data_handle() == memory.data() && back.extent(0) == 5 && back.stride(0) == 1));
  using extents = dextents<int, 1>;
  cuda::std::mdspan<double, extents, layout_stride> const second(memory.data(),
                                                                 {extents(4), cuda::std::array<int, 1>{2}});
  refuses("hoft::from_mdspan: tau.strides[0] is 2, must be == 1", [&] { from_mdspan(second, "tau"); });
}

TEST_CASE("a view is an mdspan of the same elements") {
  std::array<float, 40> memory{};
  matrix_view<float, col_major> const column(memory.data(), 3, 4, 6);
  matrix_view<float const, row_major> const row(memory.data(), 3, 4, 7), dense(memory.data(), 3, 4);
  same_elements(column, as_mdspan(column));
  same_elements(row, as_mdspan(row));
  cuda::std::mdspan<float const, dextents<index_t, 2>, layout_right> const converted(as_mdspan(dense));
  same_elements(dense, converted);
  CHECK(as_mdspan(matrix_view<float>(nullptr, 0, 4)).extent(1) == 4);
  auto const again = from_mdspan<col_major>(as_mdspan(column));
  CHECK((again.data == column.data && again.rows == 3 && again.cols == 4 && again.ld == 6));
}

TEST_CASE("the words of others stay theirs") {
  // As a program may that has both: hoft must not declare what these name.
  using namespace hoft;
  using namespace cuda::std;
  std::array<float, 6> memory{};
  mdspan<float, dextents<int, 2>, layout_left> const a(memory.data(), 2, 3);
  extents<int, 2, 3> const e{};
  CHECK((from_mdspan(a).rows == 2 && e.rank() == 2));
}
