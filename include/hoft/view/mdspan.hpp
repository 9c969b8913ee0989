// SPDX-License-Identifier: BSD-3-Clause
// hoft/view/mdspan.hpp: matrices and vectors as cuda::std::mdspan and back, without a copy. No other header
// includes it; it needs the headers of CUDA's core libraries (CCCL), for nvcc or any other compiler. No name here is
// one of std's: after using-directives for hoft and std, mdspan is still std::mdspan.
#pragma once
#include <hoft/view/shape.hpp>
#include <hoft/view/strides.hpp>
#include <hoft/view/vector_view.hpp>

#include <cuda/std/array>
#include <cuda/std/mdspan>

#include <concepts>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace HOFT_TARGET_NAMESPACE {

/// What `as_mdspan` makes of a view. Its strides are known at run time only; where a view has no padding,
/// cuda::std::mdspan converts it (explicitly) to layout_left or layout_right.
template <class T, std::size_t Rank>
using strided_mdspan = ::cuda::std::mdspan<T, ::cuda::std::dextents<index_t, Rank>, ::cuda::std::layout_stride>;

namespace detail {

template <class Policy>
struct mdspan_layout {
  using type = void;  // layout_stride can be either
};
template <>
struct mdspan_layout<::cuda::std::layout_left> {
  using type = col_major;
};
template <>
struct mdspan_layout<::cuda::std::layout_right> {
  using type = row_major;
};

/// Extents and strides in hoft's index type; an mdspan may count in any.
template <int Rank, class Span>
void read_mapping(std::string_view name, Span const& a, index_t (&shape)[Rank], index_t (&strides)[Rank]) {
  auto const checked = [&](char const* part, int i, auto value) {
    if (!std::in_range<index_t>(value))
      refuse<shape_error>("from_mdspan", part_of(name, part, i).c_str(), std::to_string(value),
                          "in the range of hoft::index_t");
    return index_t(value);
  };
  for (int i = 0; i < Rank; ++i) {
    auto const at = typename Span::rank_type(i);
    shape[i] = checked("shape", i, a.extent(at));
    strides[i] = checked("strides", i, a.stride(at));
  }
}

}  // namespace detail

/// The elements of an mdspan as a view: a matrix_view of one with two dimensions, a vector_view of one with one.
///
/// @tparam Layout hoft::col_major or hoft::row_major; may be left out for vectors, and for layout_left and
///   layout_right, which say it.
/// @param a [rows, cols] or [size] In. Any extents, static or not; layout_left, layout_right or layout_stride. The view
///   refers to its memory.
/// @param name its name in messages.
/// @throws hoft::shape_error for strides that are not of the layout (the inner one is 1 and the outer one at least the
///   inner extent; the stride of a dimension with one element says nothing).
/// Cost: none in flops; nothing is copied or allocated.
/// Source: P0009, mdspan.
template <class Layout = void, class T, class Extents, class Policy>
auto from_mdspan(::cuda::std::mdspan<T, Extents, Policy> const& a, std::string_view name = "a") {
  constexpr auto rank = Extents::rank();
  static_assert(rank == 1 || rank == 2, "hoft: a matrix is an mdspan of rank 2, a vector one of rank 1.");
  if constexpr (rank == 1) {
    index_t shape[1], strides[1];
    detail::read_mapping(name, a, shape, strides);
    detail::require_contiguous<T>("from_mdspan", name, shape[0], strides[0]);
    return vector_view<T>(a.data_handle(), shape[0]);
  } else if constexpr (rank == 2) {
    using layout = std::conditional_t<std::is_void_v<Layout>, typename detail::mdspan_layout<Policy>::type, Layout>;
    static_assert(!std::is_void_v<layout>, "hoft: name the layout, from_mdspan<hoft::row_major>(a): strides do not.");
    if constexpr (!std::is_void_v<layout>) {
      index_t shape[2], strides[2];
      detail::read_mapping(name, a, shape, strides);
      index_t const ld = detail::leading_dimension<T, layout>("from_mdspan", name, shape, strides);
      return matrix_view<T, layout>(a.data_handle(), shape[0], shape[1], ld);
    }
  }
}

/// A view as an mdspan: element (i, j) of the one is element (i, j) of the other. On the host and on a device.
///
/// @param a [rows, cols] In. The mdspan refers to its memory.
/// Cost: none.
/// Source: P0009, mdspan.
template <class T, class Layout>
HOFT_HOST_DEVICE strided_mdspan<T, 2> as_mdspan(matrix_view<T, Layout> a) {
  index_t const ld = a.ld > 0 ? a.ld : 1;  // an mdspan wants positive strides of empty matrices too
  ::cuda::std::array<index_t, 2> const strides{a.is_col_major ? 1 : ld, a.is_col_major ? ld : 1};
  return {a.data, {::cuda::std::dextents<index_t, 2>(a.rows, a.cols), strides}};
}

/// A vector as an mdspan of one dimension. On the host and on a device.
///
/// @param a [size] In. The mdspan refers to its memory.
/// Cost: none.
/// Source: P0009, mdspan.
template <class T>
HOFT_HOST_DEVICE strided_mdspan<T, 1> as_mdspan(vector_view<T> a) {
  return {a.data, {::cuda::std::dextents<index_t, 1>(a.size), ::cuda::std::array<index_t, 1>{1}}};
}

}  // namespace HOFT_TARGET_NAMESPACE
