// hoft/core/error.hpp: the errors of bad arguments. Every message names function, argument, value and expectation,
// and every check runs before the first output is written.
#pragma once
#include <hoft/core/view.hpp>

#include <exception>
#include <stdexcept>
#include <string>
#include <string_view>

namespace hoft {

/// An argument's extent contradicts another's.
struct shape_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
/// A caller's workspace is smaller than the query asked for.
struct workspace_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};
/// An argument's value is outside the function's domain.
struct argument_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

namespace detail {

template <class Error>
[[noreturn]] inline void refuse(char const* function, char const* argument, std::string const& got,
                                std::string const& expectation) {
  throw Error(std::string("hoft::") + function + ": " + argument + " is " + got + ", must be " + expectation);
}

/// `argument` is `got`, which is not `relation` `bound`: what every comparison below comes to, without its code.
template <class Error>
[[noreturn]] inline void refuse_number(char const* function, char const* argument, index_t got, char const* relation,
                                       index_t bound) {
  refuse<Error>(function, argument, std::to_string(got), relation + std::to_string(bound));
}

template <class Error = shape_error>
inline void require_equal(char const* function, char const* argument, index_t got, index_t expected) {
  if (got != expected) refuse_number<Error>(function, argument, got, "== ", expected);
}

template <class Error = shape_error>
inline void require_at_least(char const* function, char const* argument, index_t got, index_t bound) {
  if (!(got >= bound)) refuse_number<Error>(function, argument, got, ">= ", bound);
}

template <class Error = shape_error>
inline void require_at_most(char const* function, char const* argument, index_t got, index_t bound) {
  if (!(got <= bound)) refuse_number<Error>(function, argument, got, "<= ", bound);
}

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

/// check() of problem i of a batch: what it throws then says of which.
template <class Check>
inline void require_problem(index_t i, Check const& check) {
  auto const of_problem = [&](std::exception const& error) {
    return std::string(error.what()) + " (problem " + std::to_string(i) + ")";
  };
  try {
    check();
  } catch (shape_error const& error) {
    throw shape_error(of_problem(error));
  } catch (workspace_error const& error) {
    throw workspace_error(of_problem(error));
  } catch (argument_error const& error) {
    throw argument_error(of_problem(error));
  }
}

}  // namespace detail
}  // namespace hoft
