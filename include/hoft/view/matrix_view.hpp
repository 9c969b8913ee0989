// SPDX-License-Identifier: BSD-3-Clause
// hoft/view/matrix_view.hpp: matrices in memory that belongs to the caller.
#pragma once
#include <hoft/view/bounds.hpp>

#include <concepts>
#include <type_traits>

namespace HOFT_NAMESPACE {

/// Consecutive elements of a column are neighbours in memory.
struct col_major {};
/// Consecutive elements of a row are neighbours in memory.
struct row_major {};

template <class Layout>
using transposed_layout = std::conditional_t<std::same_as<Layout, col_major>, row_major, col_major>;

/// A matrix [rows, cols] in memory owned by somebody else: element (i, j) of a column-major view is data[i + j * ld],
/// of a row-major view data[i * ld + j]. The unit inner stride is part of the type, so that kernels need no test for
/// it; `ld` may exceed the inner extent (padding is never read or written). 32 bytes, trivially copyable, passed by
/// value.
template <class T, class Layout = col_major>
struct matrix_view {
  static_assert(std::same_as<Layout, col_major> || std::same_as<Layout, row_major>);
  using element_type = T;
  using value_type = std::remove_cv_t<T>;
  using layout_type = Layout;
  static constexpr bool is_col_major = std::same_as<Layout, col_major>;

  T* data = nullptr;
  index_t rows = 0, cols = 0, ld = 0;

  HOFT_VIEW_MEMBER constexpr matrix_view() noexcept {}  // NOLINT(modernize-use-equals-default): inlined
  HOFT_VIEW_MEMBER constexpr matrix_view(T* first, index_t m, index_t n, index_t stride) noexcept
      : data(first), rows(m), cols(n), ld(stride) {}
  /// A dense view without padding.
  HOFT_VIEW_MEMBER constexpr matrix_view(T* first, index_t m, index_t n) noexcept
      : matrix_view(first, m, n, is_col_major ? m : n) {}
  /// A view of mutable elements is a view of constant ones.
  template <class U>
  requires std::same_as<U const, T> HOFT_VIEW_MEMBER constexpr matrix_view(matrix_view<U, Layout> a) noexcept
      : matrix_view(a.data, a.rows, a.cols, a.ld) {}

  HOFT_VIEW_MEMBER constexpr index_t offset(index_t i, index_t j) const noexcept {
    if constexpr (is_col_major) return i + j * ld;
    else return i * ld + j;
  }
  HOFT_VIEW_MEMBER constexpr T& operator()(index_t i, index_t j) const noexcept {
    view_detail::check_index("matrix_view::operator()", "i", i, rows);
    view_detail::check_index("matrix_view::operator()", "j", j, cols);
    return data[offset(i, j)];
  }
  HOFT_VIEW_MEMBER constexpr bool empty() const noexcept { return rows == 0 || cols == 0; }
  /// Rows [i, i + p) and columns [j, j + q).
  HOFT_VIEW_MEMBER constexpr matrix_view block(index_t i, index_t j, index_t p, index_t q) const noexcept {
    view_detail::check_range("matrix_view::block", "rows", i, p, rows);
    view_detail::check_range("matrix_view::block", "columns", j, q, cols);
    return {data + (p == 0 || q == 0 ? 0 : offset(i, j)), p, q, ld};
  }
  HOFT_VIEW_MEMBER constexpr matrix_view columns(index_t j, index_t q) const noexcept {
    // Without rows there is nothing in any column: a matrix that is not given, 0 by 0, may be cut like those that are.
    if (rows > 0) view_detail::check_range("matrix_view::columns", "columns", j, q, cols);
    return {data + (rows == 0 || q == 0 ? 0 : offset(0, j)), rows, q, ld};
  }
  /// The transpose of the same memory: no element moves, the layout flips.
  HOFT_VIEW_MEMBER constexpr matrix_view<T, transposed_layout<Layout>> transposed() const noexcept {
    return {data, cols, rows, ld};
  }
};
static_assert(std::is_trivially_copyable_v<matrix_view<float>> && sizeof(matrix_view<float>) == 4 * sizeof(index_t));

}  // namespace HOFT_NAMESPACE
