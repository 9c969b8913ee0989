// SPDX-License-Identifier: BSD-3-Clause
// hoft/householder/items.hpp: what a call for many problems takes: contiguous elements, whatever holds them.
#pragma once
#include <hoft/householder/compact_wy.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/view/vector_view.hpp>

#include <iterator>
#include <span>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

template <class R>
concept has_items = requires(R& all) {
  *std::data(all);
  std::size(all);
};
template <class R>
using item_pointer = decltype(std::data(std::declval<R&>()));
template <has_items R>
using item_of = std::remove_cv_t<std::remove_pointer_t<item_pointer<R>>>;

/// The elements, as constant as they are. Nothing is copied.
template <has_items R>
auto items(R& all) {
  return std::span<std::remove_pointer_t<item_pointer<R>>>(std::data(all), std::size(all));
}

template <template <class...> class Template, class V>
inline constexpr bool is_a = false;
template <template <class...> class Template, class... Arguments>
inline constexpr bool is_a<Template, Template<Arguments...>> = true;

/// Contiguous elements of Template<...>.
template <class R, template <class...> class Template>
concept many = has_items<std::remove_reference_t<R>> && is_a<Template, item_of<std::remove_reference_t<R>>>;

}  // namespace detail

/// std::vector, std::array, an array or std::span of matrix views, of constant or mutable elements.
template <class R>
concept many_matrices = detail::many<R, matrix_view>;
/// The same of vector views.
template <class R>
concept many_vectors = detail::many<R, vector_view>;
/// The same of compact WY views.
template <class R>
concept many_forms = detail::many<R, compact_wy_view>;

}  // namespace HOFT_TARGET_NAMESPACE
