// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/dense_matrix.hpp: the matrices that value-returning calls return.
//
// An Eigen::Matrix is allocated and aligned as the instruction set of its source says, under names that all sources of
// a program share: memory from one source's malloc may meet the free of another. These matrices have one rule for every
// source, and their names hold the instruction set, and so do those of the Eigen expressions that are made of them.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/view/eigen.hpp>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace HOFT_TARGET_NAMESPACE {

/// A matrix [rows, cols] that owns its elements, contiguous and aligned to 64 bytes (whole cache lines and vectors).
/// It is an Eigen expression: it stands wherever an Eigen::Matrix may stand, and converts to one by a copy. New
/// elements are not initialised. Assigning another shape resizes it. Memory that holds a new shape is kept, so a matrix
/// whose extents go up and down allocates for the largest alone. Columns is 1 for dense_vector.
template <class T, class Layout = col_major, int Columns = Eigen::Dynamic>
class dense_matrix;

/// A contiguous column vector that owns its elements.
template <class T>
using dense_vector = dense_matrix<T, col_major, 1>;

namespace detail {

/// The Eigen matrix of the same elements.
template <class T, class Layout, int Columns>
using plain_matrix = Eigen::Matrix<T, Eigen::Dynamic, Columns,
                                   std::same_as<Layout, col_major> ? int(Eigen::ColMajor) : int(Eigen::RowMajor)>;
inline constexpr int dense_alignment = 64;
template <class T, class Layout, int Columns>
inline constexpr bool owns_elements<dense_matrix<T, Layout, Columns>> = true;

}  // namespace detail
}  // namespace HOFT_TARGET_NAMESPACE

// What Eigen asks of a new expression: everything is as for its own matrix but the alignment.
namespace Eigen::internal {

template <class T, class Layout, int Columns>
struct traits<hoft::dense_matrix<T, Layout, Columns>> : traits<hoft::detail::plain_matrix<T, Layout, Columns>> {
  enum { Alignment = hoft::detail::dense_alignment };
};

template <class T, class Layout, int Columns>
struct evaluator<hoft::dense_matrix<T, Layout, Columns>>
    : mapbase_evaluator<hoft::dense_matrix<T, Layout, Columns>, hoft::detail::plain_matrix<T, Layout, Columns>> {
  using XprType = hoft::dense_matrix<T, Layout, Columns>;
  enum { Flags = traits<XprType>::EvaluatorFlags, Alignment = traits<XprType>::Alignment };
  explicit evaluator(XprType const& a)
      : mapbase_evaluator<XprType, hoft::detail::plain_matrix<T, Layout, Columns>>(a) {}
};

}  // namespace Eigen::internal

namespace HOFT_TARGET_NAMESPACE {

template <class T, class Layout, int Columns>
class dense_matrix : public Eigen::MatrixBase<dense_matrix<T, Layout, Columns>> {
  static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= detail::dense_alignment);
  static constexpr bool is_vector = Columns == 1;

 public:
  using Base = Eigen::MatrixBase<dense_matrix>;
  using Scalar = T;
  using PointerType = T*;
  using Nested = typename Eigen::internal::ref_selector<dense_matrix>::type;
  using Base::operator=;  // what is no expression of elements: permutations, solvers; of the same shape

  dense_matrix() noexcept : dense_matrix(unallocated{}) {}
  /// @throws hoft::shape_error if an extent is negative; std::bad_alloc
  dense_matrix(index_t rows, index_t cols) : dense_matrix(unallocated{}) { resize(rows, cols); }
  explicit dense_matrix(index_t size) requires is_vector : dense_matrix(size, 1) {}

  dense_matrix(dense_matrix const& other) : dense_matrix(other.rows_, other.cols_) { copy_elements(other); }
  dense_matrix(dense_matrix&& other) noexcept : dense_matrix(unallocated{}) { swap(other); }
  /// The elements of an Eigen expression.
  template <class D>
  dense_matrix(Eigen::EigenBase<D> const& a) : dense_matrix(a.rows(), a.cols()) {
    Base::operator=(a.derived());
  }
  ~dense_matrix() { release(); }

  dense_matrix& operator=(dense_matrix const& other) {
    if (this == &other) return *this;
    resize(other.rows_, other.cols_);
    copy_elements(other);
    return *this;
  }
  dense_matrix& operator=(dense_matrix&& other) noexcept {
    dense_matrix moved(std::move(other));
    swap(moved);
    return *this;
  }
  template <class D>
  dense_matrix& operator=(Eigen::DenseBase<D> const& a) {
    // The expression may read the old elements.
    if (a.rows() != rows_ || a.cols() != cols_) return *this = dense_matrix(a.derived());
    Base::operator=(a.derived());
    return *this;
  }

  index_t rows() const noexcept { return rows_; }
  index_t cols() const noexcept { return cols_; }
  index_t innerStride() const noexcept { return 1; }
  index_t outerStride() const noexcept {
    if constexpr (is_vector) return rows_;
    else return std::same_as<Layout, col_major> ? rows_ : cols_;
  }
  T* data() noexcept { return data_; }
  T const* data() const noexcept { return data_; }
  /// Elements that there is memory for.
  index_t capacity() const noexcept { return capacity_; }
  // Eigen's products take addresses of constant elements this way.
  using Base::coeffRef;
  T const& coeffRef(index_t i) const { return data_[i]; }
  T const& coeffRef(index_t i, index_t j) const {
    return data_[std::same_as<Layout, col_major> ? j * outerStride() + i : i * outerStride() + j];
  }

  /// New extents. Elements stay in their places in memory where capacity() holds the new number; else they are lost.
  void resize(index_t rows, index_t cols) {
    detail::require_at_least("dense_matrix", "rows", rows, 0);
    detail::require_at_least("dense_matrix", "cols", cols, is_vector ? 1 : 0);
    if constexpr (is_vector) detail::require_at_most("dense_vector", "cols", cols, 1);
    if (cols != 0 && rows > (PTRDIFF_MAX - alignment) / index_t(sizeof(T)) / cols) throw std::bad_alloc();
    if (rows * cols > capacity_) {
      release();
      memory_ = nullptr, data_ = nullptr, rows_ = capacity_ = 0;  // in case there is no memory
      allocate(std::size_t(rows * cols) * sizeof(T));
      capacity_ = rows * cols;
    }
    rows_ = rows, cols_ = cols;
  }
  void resize(index_t size) requires is_vector { resize(size, 1); }

  using Base::swap;
  void swap(dense_matrix& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(data_, other.data_);
    std::swap(capacity_, other.capacity_);
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
  }
  friend void swap(dense_matrix& a, dense_matrix& b) noexcept { a.swap(b); }

 private:
  struct unallocated {};
  explicit dense_matrix(unallocated) noexcept {}

  static constexpr index_t alignment = detail::dense_alignment;
  /// Aligned here, from plain memory: allocators take ten times longer over small memory with an alignment.
  void allocate(std::size_t bytes) {
    std::size_t space = bytes + alignment;
    void* first = memory_ = ::operator new(space);
    data_ = static_cast<T*>(std::align(alignment, bytes, first, space));
  }
  void release() noexcept { ::operator delete(memory_); }
  void copy_elements(dense_matrix const& other) noexcept { std::copy_n(other.data_, rows_ * cols_, data_); }

  void* memory_ = nullptr;  ///< as allocated; data_ is its first aligned address
  T* data_ = nullptr;
  index_t capacity_ = 0, rows_ = 0, cols_ = is_vector ? 1 : 0;
};

}  // namespace HOFT_TARGET_NAMESPACE
