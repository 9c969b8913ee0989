// SPDX-License-Identifier: BSD-3-Clause
// tensors.hpp: torch's tensors as hoft's views, and torch's allocator for hoft's memory, which so counts it.
#pragma once
#include <ATen/ATen.h>

#include <hoft/view/matrix_view.hpp>
#include <hoft/memory/arena.hpp>

#include <algorithm>
#include <string>

namespace hoft_torch {

using hoft::index_t;
using hoft::matrix_view;

/// Tokens × features [t, m] as the column-major view [m, t] of the same memory; rows may lie apart (`require_rows`).
template <class T>
matrix_view<T> columns_of(at::Tensor const& a) {
  return {static_cast<T*>(a.data_ptr()), a.size(1), a.size(0), std::max(a.stride(0), a.size(1))};
}
template <class T>
hoft::vector_view<T> vector_of(at::Tensor const& a) {
  return {static_cast<T*>(a.data_ptr()), a.numel()};
}

/// The type that 16-bit numbers are computed in.
inline at::ScalarType accumulator_of(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16 ? at::kFloat : type;
}

inline void require(char const* function, char const* name, at::Tensor const& a, int64_t dimensions,
                    at::Tensor const& like, at::ScalarType type) {
  TORCH_CHECK(a.dim() == dimensions, function, ": ", name, " has ", a.dim(), " dimensions, must have ", dimensions);
  TORCH_CHECK(a.device() == like.device(), function, ": ", name, " is on ", a.device(), ", must be on ", like.device());
  TORCH_CHECK(a.scalar_type() == type, function, ": ", name, " holds ", a.scalar_type(), ", must hold ", type);
}
inline void require_vector(char const* function, char const* name, at::Tensor const& a, at::Tensor const& like,
                           at::ScalarType type) {
  require(function, name, a, 1, like, type);
  TORCH_CHECK(a.is_contiguous(), function, ": ", name, " is not contiguous");
}
/// Rows of neighbouring elements that do not overlap.
inline void require_rows(char const* function, char const* name, at::Tensor const& a, at::Tensor const& like,
                         at::ScalarType type) {
  require(function, name, a, 2, like, type);
  bool const rows = (a.size(1) <= 1 || a.stride(1) == 1) && (a.size(0) <= 1 || a.stride(0) >= a.size(1));
  TORCH_CHECK(rows || a.numel() == 0, function, ": ", name, " has the strides [", a.stride(0), ", ", a.stride(1),
              "], its rows must be contiguous");
}
/// `a` itself, or a copy whose rows are contiguous.
inline at::Tensor with_rows(at::Tensor const& a) {
  bool const rows =
      a.dim() == 2 && (a.size(1) <= 1 || a.stride(1) == 1) && (a.size(0) <= 1 || a.stride(0) >= a.size(1));
  return rows ? a : a.contiguous();
}
inline void require_size(char const* function, char const* name, index_t got, index_t expected) {
  TORCH_CHECK(got == expected, function, ": ", name, " is ", got, ", must be ", expected);
}

inline at::Tensor bytes(index_t size, at::Tensor const& like) {
  return at::empty({size}, like.options().dtype(at::kByte));
}
inline hoft::workspace memory_of(at::Tensor const& memory) {
  return {static_cast<std::byte*>(memory.data_ptr()), index_t(memory.numel()) * index_t(memory.element_size())};
}
/// Memory for whatever `carve` cuts from a arena.
template <class Carve>
at::Tensor bytes_for(at::Tensor const& like, Carve const& carve) {
  hoft::arena count;
  carve(count);
  return bytes(count.size(), like);
}
/// The same as a tensor of A, which tells the operators the type.
template <class A, class Carve>
at::Tensor elements_for(at::Tensor const& like, Carve const& carve) {
  hoft::arena count;
  carve(count);
  return at::empty({(count.size() + index_t(sizeof(A)) - 1) / index_t(sizeof(A))},
                   like.options().dtype(sizeof(A) == 8 ? at::kDouble : at::kFloat));
}

}  // namespace hoft_torch
