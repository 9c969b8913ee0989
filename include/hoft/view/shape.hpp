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

/// What an argument was made for, said in the words of its maker: `argument` is of `got` `what`. Where it has parts
/// that a caller may have put together, `part` is the one that says so.
inline void require_count(char const* function, char const* argument, index_t got, index_t expected, char const* what,
                          std::string_view part = {}) {
  if (got == expected) return;
  std::string of = "of " + std::to_string(got) + ' ' + what;
  if (!part.empty()) (of += " (") += std::string(part) + ')';
  refuse<shape_error>(function, argument, of, "of " + std::to_string(expected));
}

/// What an extent counts, and how many there must be.
struct expected_count {
  index_t count;
  char const* what;
};
/// The shape of argument.part, which is made together with other parts.
inline void require_part(char const* function, char const* argument, char const* part, extents a, expected_count rows,
                         expected_count cols) {
  if (has_shape(a, rows.count, cols.count)) return;
  std::string const text = std::string(argument) + '.' + part;
  require_count(function, argument, a.rows, rows.count, rows.what, text + ".rows");
  require_count(function, argument, a.cols, cols.count, cols.what, text + ".cols");
  require_view(function, text, a);
}

}  // namespace HOFT_TARGET_NAMESPACE::detail
