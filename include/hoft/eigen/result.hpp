// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/result.hpp: results that a call refills in the memory that they have.
#pragma once
#include <hoft/eigen/dense_matrix.hpp>
#include <hoft/view/shape.hpp>
#include <hoft/view/vector_view.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <string>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE::detail {

/// A result has this shape from here on. Where this ends by an exception the result has its old shape again, and its
/// old elements: calls throw before they write. An operator of the caller's may throw later, and callers see to that.
template <class T, class Layout, int Columns>
class reshaped {
 public:
  reshaped(dense_matrix<T, Layout, Columns>& result, index_t rows, index_t cols)
      : result_(result), rows_(result.rows()), cols_(result.cols()) {
    if (rows >= 0 && cols > 0 && rows > result.capacity() / cols) {
      before_ = dense_matrix<T, Layout, Columns>(rows, cols);
      exchange();
    } else {
      result.resize(rows, cols);
    }
  }
  reshaped(dense_matrix<T, Layout, Columns>& result, index_t size) : reshaped(result, size, 1) {}
  reshaped(reshaped const&) = delete;
  reshaped& operator=(reshaped const&) = delete;
  ~reshaped() {
    if (std::uncaught_exceptions() == exceptions_) return;
    if (exchanged_) exchange();
    else result_.resize(rows_, cols_);  // as much as there is memory for
  }

 private:
  void exchange() noexcept {
    result_.swap(before_);
    exchanged_ = true;
  }

  dense_matrix<T, Layout, Columns>& result_;
  dense_matrix<T, Layout, Columns> before_;
  index_t rows_, cols_;
  bool exchanged_ = false;
  int exceptions_ = std::uncaught_exceptions();
};

template <class D>
inline constexpr bool is_dense = false;
template <class T, class Layout, int Columns>
inline constexpr bool is_dense<dense_matrix<T, Layout, Columns>> = true;
template <class D>
inline constexpr bool is_dense_matrix = is_dense<std::remove_cvref_t<D>>;

/// What stands for `reshaped` where the caller's output must have its shape.
struct of_its_shape {};

/// An output takes its shape if it is one of hoft's matrices.
template <class T, class Layout, int Columns>
[[nodiscard]] auto with_shape(dense_matrix<T, Layout, Columns>& result, index_t rows, index_t cols) {
  return reshaped<T, Layout, Columns>(result, rows, cols);
}
template <class D>
[[nodiscard]] of_its_shape with_shape(D&, index_t, index_t) {
  return {};
}

/// The memory from the first element of a matrix to behind its last.
struct memory_range {
  void const *begin = nullptr, *end = nullptr;
  memory_range() = default;
  template <class T, class Layout>
  explicit memory_range(matrix_view<T, Layout> a) {
    if (a.rows <= 0 || a.cols <= 0) return;
    bool const columns = std::same_as<Layout, col_major>;
    begin = a.data, end = a.data + ((columns ? a.cols : a.rows) - 1) * a.ld + (columns ? a.rows : a.cols);
  }
  template <class T>
  explicit memory_range(vector_view<T> a) : memory_range(matrix_view<T>(a.data, a.size, 1)) {}
  /// All memory of a result.
  template <class T, class Layout, int Columns>
  explicit memory_range(dense_matrix<T, Layout, Columns> const& a) : begin(a.data()), end(a.data() + a.capacity()) {}
};

inline bool overlap(memory_range a, memory_range b) {
  std::less<> const before;
  return before(a.begin, b.end) && before(b.begin, a.end);
}

/// A matrix as contiguous lines of equal length, one stride apart, in bytes: its columns, or the rows of a row-major
/// one.
struct memory_lines {
  std::uintptr_t begin;
  std::ptrdiff_t length, stride;
  index_t count;
  template <class T, class Layout>
  explicit memory_lines(matrix_view<T, Layout> a)
      : begin(reinterpret_cast<std::uintptr_t>(a.data)),
        length((a.is_col_major ? a.rows : a.cols) * std::ptrdiff_t(sizeof(T))),
        stride(a.ld * std::ptrdiff_t(sizeof(T))),
        count(a.is_col_major ? a.cols : a.rows) {}
};

/// Some element of `a` lies in memory of an element of `b`. Blocks of one matrix that lie beside or below each other
/// share none, though their ranges of memory do.
template <class TA, class LA, class TB, class LB>
bool share_elements(matrix_view<TA, LA> a, matrix_view<TB, LB> b) {
  if (!valid(a) || !valid(b) || !overlap(memory_range(a), memory_range(b))) return false;
  memory_lines const of_a(a), of_b(b);
  for (index_t i = 0; i < of_a.count; ++i) {
    // The first line of b that ends behind the begin of this line, and whether it begins before its end.
    auto const begin = std::ptrdiff_t(of_a.begin - of_b.begin) + i * of_a.stride;
    index_t const k = begin < of_b.length ? 0 : (begin - of_b.length) / of_b.stride + 1;
    if (k < of_b.count && k * of_b.stride < begin + of_a.length) return true;
  }
  return false;
}
template <class TA, class LA, class TB, class LB>
bool same_elements(matrix_view<TA, LA> a, matrix_view<TB, LB> b) {
  return a.data == b.data && a.rows == b.rows && a.cols == b.cols && (a.ld == b.ld || memory_lines(a).count <= 1);
}

[[noreturn]] inline void refuse_overlap(char const* function, char const* argument, char const* name) {
  refuse<argument_error>(function, argument, std::string("in the memory of ") + name, "in memory of its own");
}
/// An input is in no memory of a result that the call refills.
template <class View, class T, class Layout, int Columns>
void require_apart(char const* function, char const* argument, View input, char const* name,
                   dense_matrix<T, Layout, Columns> const& result) {
  if (overlap(memory_range(input), memory_range(result))) refuse_overlap(function, argument, name);
}
/// An input shares no element with memory of the caller's that the call writes.
template <class View, class T, class Layout>
void require_apart(char const* function, char const* argument, View input, char const* name,
                   matrix_view<T, Layout> output) {
  if (share_elements(input, output)) refuse_overlap(function, argument, name);
}
template <class T, class Layout>
index_t elements_of(matrix_view<T, Layout> a) {
  return a.rows * a.cols;
}
template <class T>
index_t elements_of(vector_view<T> a) {
  return a.size;
}
/// The same, but the input may be the whole result itself: all of its elements, with nothing between its lines.
template <class View, class T, class Layout, int Columns>
void require_apart_or_same(char const* function, char const* argument, View input, char const* name,
                           dense_matrix<T, Layout, Columns> const& result) {
  memory_range const a(input), b(as_view(result));
  bool const same = a.begin == b.begin && a.end == b.end && elements_of(input) == result.size();
  if (!same) require_apart(function, argument, input, name, result);
}
/// The same for memory of the caller's.
template <class View, class T, class Layout>
void require_apart_or_same(char const* function, char const* argument, View input, char const* name,
                           matrix_view<T, Layout> output) {
  if (!same_elements(input, output)) require_apart(function, argument, input, name, output);
}
/// What the two take for an output: a result of hoft's itself, all of whose memory counts; else the view of it.
template <class D>
decltype(auto) memory_of(D& output) {
  if constexpr (is_dense_matrix<D>) return (output);
  else return as_view(output);
}

}  // namespace HOFT_TARGET_NAMESPACE::detail
