// SPDX-License-Identifier: BSD-3-Clause
// hoft/view/shape.hpp: checks of the shapes of views.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/view/matrix_view.hpp>

#include <string>
#include <string_view>

namespace HOFT_TARGET_NAMESPACE::detail {

/// What is checked of a matrix, whatever its elements and layout.
struct extents {
  index_t rows, cols, ld, inner;  ///< inner: what ld has to hold
  template <class T, class Layout>
  constexpr extents(matrix_view<T, Layout> a)
      : rows(a.rows), cols(a.cols), ld(a.ld), inner(a.is_col_major ? a.rows : a.cols) {}
};

/// Non-negative extents, and a leading dimension that holds the inner one.
constexpr bool valid(extents a) { return a.rows >= 0 && a.cols >= 0 && a.ld >= a.inner; }
constexpr bool has_shape(extents a, index_t rows, index_t cols) { return valid(a) && a.rows == rows && a.cols == cols; }

// Names are put together on the way to an error only: the good path allocates nothing.
inline void require_view(char const* function, std::string_view name, extents a) {
  if (valid(a)) return;
  std::string const text(name);
  require_at_least(function, (text + ".rows").c_str(), a.rows, 0);
  require_at_least(function, (text + ".cols").c_str(), a.cols, 0);
  require_at_least(function, (text + ".ld").c_str(), a.ld, a.inner);
}

inline void require_shape(char const* function, std::string_view name, extents a, index_t rows, index_t cols) {
  if (has_shape(a, rows, cols)) return;
  std::string const text(name);
  require_equal(function, (text + ".rows").c_str(), a.rows, rows);
  require_equal(function, (text + ".cols").c_str(), a.cols, cols);
  require_view(function, text, a);
}

}  // namespace HOFT_TARGET_NAMESPACE::detail
