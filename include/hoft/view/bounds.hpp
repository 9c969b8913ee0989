// SPDX-License-Identifier: BSD-3-Clause
// hoft/view/bounds.hpp: checks of indices, where HOFT_CHECK_BOUNDS is defined.
#pragma once
#include <hoft/core/index.hpp>

#if defined(HOFT_CHECK_BOUNDS)
#include <cstdio>
#include <cstdlib>
#endif

// What belongs to a view and names no instruction set: the linker may keep the copy of any source, so there must be
// none. Every call is inlined, in builds without optimisation too.
#if defined(__GNUC__)
#define HOFT_VIEW_MEMBER [[gnu::always_inline]] HOFT_HOST_DEVICE
#elif defined(_MSC_VER)
#define HOFT_VIEW_MEMBER [[msvc::forceinline]] HOFT_HOST_DEVICE
#else
#define HOFT_VIEW_MEMBER HOFT_HOST_DEVICE
#endif

#if defined(HOFT_CHECK_BOUNDS)
namespace HOFT_TARGET_NAMESPACE::index_errors {

// They end the program: an index out of bounds is a mistake in it, found where no exception could leave (members of
// views are noexcept, and are called on other threads).
[[noreturn, gnu::noinline, gnu::cold]] inline void index_out_of_bounds(char const* function, char const* name,
                                                                       index_t index, index_t extent) noexcept {
  std::fprintf(stderr, "hoft::%s: %s is %td, must be >= 0 and < %td\n", function, name, index, extent);
  std::abort();
}
[[noreturn, gnu::noinline, gnu::cold]] inline void range_out_of_bounds(char const* function, char const* name,
                                                                       index_t first, index_t count,
                                                                       index_t extent) noexcept {
  std::fprintf(stderr, "hoft::%s: %td %s from %td on, must be in [0, %td)\n", function, count, name, first, extent);
  std::abort();
}

}  // namespace HOFT_TARGET_NAMESPACE::index_errors
#endif

namespace HOFT_NAMESPACE::view_detail {

/// index in [0, extent). On the host, and where HOFT_CHECK_BOUNDS is defined; else nothing.
HOFT_VIEW_MEMBER constexpr void check_index([[maybe_unused]] char const* function, [[maybe_unused]] char const* name,
                                            [[maybe_unused]] index_t index, [[maybe_unused]] index_t extent) noexcept {
#if defined(HOFT_CHECK_BOUNDS) && !defined(__CUDA_ARCH__)
  if (index < 0 || index >= extent) index_errors::index_out_of_bounds(function, name, index, extent);
#endif
}
/// [first, first + count) in [0, extent), as check_index.
HOFT_VIEW_MEMBER constexpr void check_range([[maybe_unused]] char const* function, [[maybe_unused]] char const* name,
                                            [[maybe_unused]] index_t first, [[maybe_unused]] index_t count,
                                            [[maybe_unused]] index_t extent) noexcept {
#if defined(HOFT_CHECK_BOUNDS) && !defined(__CUDA_ARCH__)
  if (first < 0 || count < 0 || first > extent || count > extent - first)
    index_errors::range_out_of_bounds(function, name, first, count, extent);
#endif
}

}  // namespace HOFT_NAMESPACE::view_detail
