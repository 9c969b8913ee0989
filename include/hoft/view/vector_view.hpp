// SPDX-License-Identifier: BSD-3-Clause
// hoft/view/vector_view.hpp: contiguous vectors in memory that belongs to the caller.
#pragma once
#include <hoft/view/bounds.hpp>

#include <concepts>
#include <type_traits>

namespace HOFT_NAMESPACE {

/// A contiguous vector in memory owned by somebody else.
template <class T>
struct vector_view {
  using element_type = T;
  using value_type = std::remove_cv_t<T>;

  T* data = nullptr;
  index_t size = 0;

  HOFT_VIEW_MEMBER constexpr vector_view() noexcept {}  // NOLINT(modernize-use-equals-default): inlined
  HOFT_VIEW_MEMBER constexpr vector_view(T* first, index_t n) noexcept : data(first), size(n) {}
  template <class U>
  requires std::same_as<U const, T> HOFT_VIEW_MEMBER constexpr vector_view(vector_view<U> a) noexcept
      : vector_view(a.data, a.size) {}

  HOFT_VIEW_MEMBER constexpr T& operator[](index_t i) const noexcept {
    view_detail::check_index("vector_view::operator[]", "i", i, size);
    return data[i];
  }
  HOFT_VIEW_MEMBER constexpr vector_view part(index_t i, index_t n) const noexcept {
    view_detail::check_range("vector_view::part", "elements", i, n, size);
    return {data + (n == 0 ? 0 : i), n};
  }
};

}  // namespace HOFT_NAMESPACE
