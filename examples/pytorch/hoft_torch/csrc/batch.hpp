// SPDX-License-Identifier: BSD-3-Clause
// batch.hpp: a batch of matrices or vectors in one tensor, as hoft's views, one for each problem.
#pragma once
#include "tensors.hpp"

namespace hoft_torch {

/// Matrices of one shape that lie `apart` elements from each other; 0 apart, they are one.
template <class T>
struct matrices {
  T* data;
  index_t rows, cols, ld, apart;
  matrix_view<T> operator()(index_t i) const { return {data + i * apart, rows, cols, ld}; }
};
template <class T>
struct vectors {
  T* data;
  index_t size, apart;
  hoft::vector_view<T> operator()(index_t i) const { return {data + i * apart, size}; }
};

/// [count, t, m] as the column-major views [m, t] of the same memory (`require_rows_each`).
template <class T>
matrices<T> columns_of_each(at::Tensor const& a) {
  return {static_cast<T*>(a.data_ptr()), a.size(2), a.size(1), std::max(a.stride(1), a.size(2)), a.stride(0)};
}
/// [count, r], rows contiguous. Without a tensor: vectors without elements.
template <class T>
vectors<T> vectors_of_each(at::Tensor const& a) {
  if (!a.defined()) return {nullptr, 0, 0};
  return {static_cast<T*>(a.data_ptr()), a.size(1), a.stride(0)};
}

/// [..., t, m] as [count, t, m], [..., r] as [count, r]; without a copy where memory allows.
inline at::Tensor batch_of_matrices(at::Tensor const& a) { return a.dim() == 2 ? a.unsqueeze(0) : a.flatten(0, -3); }
inline at::Tensor batch_of_vectors(at::Tensor const& a) { return a.dim() == 1 ? a.unsqueeze(0) : a.flatten(0, -2); }

/// The same with what hoft needs of rows: neighbouring elements in each. Copies where that is not so.
inline at::Tensor rows_of_each(at::Tensor const& a) {
  at::Tensor const batch = batch_of_matrices(a);
  bool const elements = batch.size(2) <= 1 || batch.stride(2) == 1;
  bool const apart = batch.size(1) <= 1 || batch.stride(1) >= batch.size(2);
  return elements && apart ? batch : batch.contiguous();
}
inline at::Tensor elements_of_each(at::Tensor const& a) {
  at::Tensor const batch = batch_of_vectors(a);
  return batch.size(1) <= 1 || batch.stride(1) == 1 ? batch : batch.contiguous();
}

inline void require_type(char const* function, char const* name, at::Tensor const& a, at::Tensor const& like,
                         at::ScalarType type) {
  TORCH_CHECK(a.device() == like.device(), function, ": ", name, " is on ", a.device(), ", must be on ", like.device());
  TORCH_CHECK(a.scalar_type() == type, function, ": ", name, " holds ", a.scalar_type(), ", must hold ", type);
}
inline void require_shape(char const* function, char const* name, at::Tensor const& a, at::IntArrayRef shape) {
  TORCH_CHECK(a.sizes() == shape, function, ": ", name, " has the shape ", a.sizes(), ", must have ", shape);
}
/// The extents in front of the last `own`.
inline at::IntArrayRef batch_shape(at::Tensor const& a, int64_t own) { return a.sizes().slice(0, a.dim() - own); }
/// `front` with more extents behind.
inline std::vector<int64_t> shape(at::IntArrayRef front, std::initializer_list<int64_t> rest) {
  std::vector<int64_t> all(front.begin(), front.end());
  all.insert(all.end(), rest);
  return all;
}

}  // namespace hoft_torch
