// SPDX-License-Identifier: BSD-3-Clause
// hoft/view/strides.hpp: which extents and strides of others are one of hoft's layouts.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/view/shape.hpp>

#include <limits>
#include <string>
#include <string_view>

namespace HOFT_TARGET_NAMESPACE::detail {

/// name.part[i], for messages.
inline std::string part_of(std::string_view name, char const* part, int i) {
  return std::string(name) + '.' + part + '[' + std::to_string(i) + ']';
}

/// The `ld` of a view in this layout over elements (i, j) at i * strides[0] + j * strides[1]. The stride of a dimension
/// with one element, or of a matrix with none, says nothing and is not looked at.
/// @throws hoft::shape_error if an extent is negative, the strides are not those of the layout, or memory could not
/// hold the whole.
template <class T, class Layout>
index_t leading_dimension(char const* function, std::string_view name, index_t const (&shape)[2],
                          index_t const (&strides)[2]) {
  constexpr bool col = matrix_view<T, Layout>::is_col_major;
  constexpr int inner = col ? 0 : 1, outer = 1 - inner;
  for (int i : {0, 1})
    if (shape[i] < 0) require_at_least(function, part_of(name, "shape", i).c_str(), shape[i], 0);
  if (shape[0] == 0 || shape[1] == 0) return shape[inner];
  if (shape[inner] > 1 && strides[inner] != 1)
    refuse<shape_error>(function, part_of(name, "strides", inner).c_str(), std::to_string(strides[inner]),
                        col ? "1 for a column-major view" : "1 for a row-major view");
  index_t const ld = shape[outer] > 1 ? strides[outer] : shape[inner];
  if (ld < shape[inner])
    refuse<shape_error>(function, part_of(name, "strides", outer).c_str(), std::to_string(ld),
                        ">= " + std::to_string(shape[inner]) + ", the other extent");
  constexpr index_t most = (std::numeric_limits<index_t>::max)() / index_t(sizeof(T));
  if (shape[inner] > most) require_at_most(function, part_of(name, "shape", inner).c_str(), shape[inner], most);
  if (shape[outer] - 1 > (most - shape[inner]) / ld)
    require_at_most(function, part_of(name, "shape", outer).c_str(), shape[outer], (most - shape[inner]) / ld + 1);
  return ld;
}

/// @throws hoft::shape_error unless these are extent and stride of a contiguous vector
template <class T>
void require_contiguous(char const* function, std::string_view name, index_t size, index_t stride) {
  if (size < 0) require_at_least(function, part_of(name, "shape", 0).c_str(), size, 0);
  if (size > 1 && stride != 1) require_equal(function, part_of(name, "strides", 0).c_str(), stride, 1);
  constexpr index_t most = (std::numeric_limits<index_t>::max)() / index_t(sizeof(T));
  if (size > most) require_at_most(function, part_of(name, "shape", 0).c_str(), size, most);
}

}  // namespace HOFT_TARGET_NAMESPACE::detail
