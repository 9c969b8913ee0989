// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/packed.hpp: reflectors packed once for the panels of a whole call, and the terms of the products of
// panels.
//
//   project   W := UᴴX       update   Y := X + U Z       outer   D := D + X Zᴴ
//
// Panels with contiguous columns want U in slabs of whole vectors of rows, [slab][column][row]: one stream of aligned
// vectors for both products, zero beyond the last row. Panels with contiguous rows read U element by element, and want
// the elements of a row side by side. D, the gradient of U, is summed in the same form.
#pragma once
#include <hoft/cpu/kernel/storage.hpp>
#include <hoft/cpu/policy.hpp>
#include <hoft/memory/arena.hpp>

#include <algorithm>

namespace HOFT_TARGET_NAMESPACE::cpu_backend {

/// A matrix [rows, cols] in the form that panels of layout L want.
template <class T, class L>
struct packed_matrix {
  static constexpr bool in_slabs = std::same_as<L, col_major>;
  static constexpr index_t slab_rows = in_slabs ? kernel::tile_vectors<T> * kernel::lanes<T> : 1;

  T* data = nullptr;
  index_t rows = 0, cols = 0;
  index_t stride = 0;  ///< from one slab, or row, to the next

  static index_t size(index_t rows, index_t cols) { return (rows + slab_rows - 1) / slab_rows * slab_rows * cols; }
  packed_matrix columns(index_t j, index_t count) const { return {data + j * slab_rows, rows, count, stride}; }
  index_t slabs() const { return (rows + slab_rows - 1) / slab_rows; }
  index_t rows_of(index_t slab) const { return (std::min)(slab_rows, rows - slab * slab_rows); }
  T* slab(index_t i) const { return data + i * stride; }

  /// f(first, count, j, part, step): `count` rows of column j, from `first`, lie at part[0], part[step], .... For
  /// moving elements from or to a matrix in another order: so few rows at a time that the lines of both stay in the
  /// first-level cache until all their elements have been met.
  template <class F>
  void for_each_part(F const& f) const {
    constexpr index_t height = in_slabs ? slab_rows : 64 / index_t(sizeof(T));
    for (index_t first = 0; first < rows; first += height)
      for (index_t j = 0; j < cols; ++j) {
        index_t const count = (std::min)(height, rows - first);
        if constexpr (in_slabs) f(first, count, j, slab(first / height) + j * height, index_t{1});
        else f(first, count, j, slab(first) + j, stride);
      }
  }
};

/// One packed matrix [rows, cols] for each worker.
template <class T, class L>
class packed_per_worker {
 public:
  packed_per_worker(arena& memory, index_t workers, index_t rows, index_t cols)
      : first_{memory.array<T>(workers * packed::size(rows, cols)), rows, cols, packed::slab_rows * cols} {}
  packed_matrix<T, L> operator()(index_t worker) const {
    packed p = first_;
    p.data += worker * packed::size(p.rows, p.cols);
    return p;
  }

 private:
  using packed = packed_matrix<T, L>;
  packed first_;
};

/// U Z, one term of Y := X + Σ U Z.
template <class T, class L>
struct update_term {
  packed_matrix<T, L> U;
  matrix_view<T const, L> Z;
};
/// X Zᴴ, one term of D := D + Σ X Zᴴ.
template <class T, class L, class S = T>
struct outer_term {
  matrix_view<S const, L> X;
  matrix_view<T const, L> Z;
};

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
