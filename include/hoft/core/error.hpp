// SPDX-License-Identifier: BSD-3-Clause
// hoft/core/error.hpp: the errors of bad arguments. Every message names function, argument, value and expectation,
// and every check runs before the first output is written.
#pragma once
#include <hoft/core/index.hpp>

#include <exception>
#include <stdexcept>
#include <string>

namespace HOFT_NAMESPACE {

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

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

namespace detail {

// Errors are cold and never inlined, so that checks are short and texts of messages cost little to compile.
template <class Error>
[[noreturn, gnu::noinline, gnu::cold]] inline void refuse(char const* function, char const* argument,
                                                          std::string const& got, std::string const& expectation) {
  throw Error(std::string("hoft::") + function + ": " + argument + " is " + got + ", must be " + expectation);
}

/// `argument` is `got`, which is not `relation` `bound`: what every comparison below comes to, without its code.
template <class Error>
[[noreturn, gnu::noinline, gnu::cold]] inline void refuse_number(char const* function, char const* argument,
                                                                 index_t got, char const* relation, index_t bound) {
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

/// `argument` is the size of memory that the caller lends, in bytes.
inline void require_bytes(char const* function, char const* argument, index_t got, index_t needed) {
  if (!(got >= needed))
    refuse<workspace_error>(function, argument, std::to_string(got), ">= " + std::to_string(needed) + " bytes");
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
}  // namespace HOFT_TARGET_NAMESPACE
