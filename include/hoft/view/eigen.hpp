// SPDX-License-Identifier: BSD-3-Clause
// hoft/view/eigen.hpp: Eigen storage as views and views as Eigen maps, without a copy. What is not storage is refused
// at compile time. Eigen's 16-bit types are stored in 16 bits and computed in float.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/view/vector_view.hpp>

#include <Eigen/Core>

#include <algorithm>

namespace HOFT_NAMESPACE {
template <>
struct scalar_traits<Eigen::half> {
  using accumulator = float;
};

template <>
struct scalar_traits<Eigen::bfloat16> {
  using accumulator = float;
};
}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// Memory that Eigen can address directly with unit inner stride: Matrix, Array, Map, Ref, Block.
template <class D>
concept eigen_storage = requires(std::remove_reference_t<D>& a) {
  a.derived();
  a.data();
  a.outerStride();
  requires(int(Eigen::internal::traits<std::remove_cvref_t<D>>::Flags) & Eigen::DirectAccessBit) != 0;
  requires int(std::remove_cvref_t<D>::InnerStrideAtCompileTime) == 1;
};

/// Storage of one column or one row: a contiguous vector.
template <class D>
concept eigen_vector_storage = eigen_storage<D> && bool(std::remove_cvref_t<D>::IsVectorAtCompileTime);

namespace detail {

/// Eigen's, be it storage, an expression or a decomposition.
template <class D>
inline constexpr bool is_eigen = std::is_base_of_v<Eigen::EigenBase<std::remove_cvref_t<D>>, std::remove_cvref_t<D>>;

/// A view of nothing for an argument that has been refused, as like to it as can be: one message says enough.
template <class D>
struct refused_view {
  using type = matrix_view<float>;
};
template <class D>
requires requires {
  D::IsRowMajor;
  requires scalar<typename D::Scalar>;
}
struct refused_view<D> {
  using type = matrix_view<typename D::Scalar, std::conditional_t<bool(D::IsRowMajor), row_major, col_major>>;
};

/// Between one column and the next, or one row and the next. Where there is no next one the stride says nothing.
template <class D>
index_t outer_stride_of(D const& a) {
  index_t const stride = a.outerStride();
  return a.outerSize() > 1 ? stride : (std::max)(stride, index_t(a.innerSize()));
}

}  // namespace detail

/// The matrix in Eigen storage. An expression, or a map with a run-time inner stride, does not compile.
template <class D>
[[nodiscard]] auto as_view(D&& a) {
  static_assert(detail::is_eigen<D>,
                "hoft: this argument is no Eigen matrix. Make a Map of its memory: `Eigen::Map<Eigen::MatrixXf> "
                "A(data, rows, cols);` and pass A.");
  static_assert(
      eigen_storage<D> || !detail::is_eigen<D>,
      "hoft: this argument is an Eigen expression or has a non-unit inner stride, and hoft makes no silent copies. "
      "Pass a Matrix, Map, Ref or Block (for an expression: `auto A = (expression).eval();` and pass A).");
  if constexpr (eigen_storage<D>) {
    using storage = std::remove_reference_t<D>;
    using element = std::remove_pointer_t<decltype(a.data())>;
    using layout = std::conditional_t<bool(storage::IsRowMajor), row_major, col_major>;
    static_assert(scalar<element>,
                  "hoft: elements must be float, double, long double, std::complex of these, Eigen::half, "
                  "Eigen::bfloat16, or of a type with hoft::scalar_traits of its own.");
    if constexpr (scalar<element>)
      return matrix_view<element, layout>{a.data(), a.rows(), a.cols(), detail::outer_stride_of(a)};
    else return matrix_view<float>{};
  } else {
    return typename detail::refused_view<std::remove_cvref_t<D>>::type{};
  }
}
template <class T, class Layout>
[[nodiscard]] auto as_view(matrix_view<T, Layout> a) {
  return a;
}

/// The vector in Eigen storage.
template <class D>
[[nodiscard]] auto as_vector_view(D&& a) {
  static_assert(eigen_vector_storage<D>,
                "hoft: this argument must be a contiguous Eigen vector (Vector, Map or Ref of one), not an expression "
                "or a matrix.");
  if constexpr (eigen_vector_storage<D>) {
    using element = std::remove_pointer_t<decltype(a.data())>;
    return vector_view<element>{a.data(), a.size()};
  } else {
    return vector_view<typename detail::refused_view<std::remove_cvref_t<D>>::type::value_type>{};
  }
}
template <class T>
[[nodiscard]] auto as_vector_view(vector_view<T> a) {
  return a;
}

namespace detail {

/// A matrix whose elements go when it goes. dense_matrix is another.
template <class D>
inline constexpr bool owns_elements = std::is_base_of_v<Eigen::PlainObjectBase<D>, D>;

// Eigen's strides under names that hold the instruction set: so do those of the expressions that are made of the maps
// below, and no source runs the loops that Eigen made for another.
struct outer_stride : Eigen::OuterStride<> {
  using Eigen::OuterStride<>::OuterStride;
};
struct no_stride : Eigen::Stride<0, 0> {};

}  // namespace detail

/// The same memory as an Eigen::Map with the view's outer stride.
template <class T, class Layout>
[[nodiscard]] auto as_eigen(matrix_view<T, Layout> a) {
  using plain = Eigen::Matrix<std::remove_cv_t<T>, Eigen::Dynamic, Eigen::Dynamic,
                              std::same_as<Layout, col_major> ? Eigen::ColMajor : Eigen::RowMajor>;
  using target = std::conditional_t<std::is_const_v<T>, plain const, plain>;
  return Eigen::Map<target, Eigen::Unaligned, detail::outer_stride>(a.data, a.rows, a.cols, detail::outer_stride(a.ld));
}

/// The same memory as an Eigen::Map of a column vector.
template <class T>
[[nodiscard]] auto as_eigen(vector_view<T> a) {
  using plain = Eigen::Matrix<std::remove_cv_t<T>, Eigen::Dynamic, 1>;
  using target = std::conditional_t<std::is_const_v<T>, plain const, plain>;
  return Eigen::Map<target, Eigen::Unaligned, detail::no_stride>(a.data, a.size);
}

}  // namespace HOFT_TARGET_NAMESPACE
