// hoft/eigen/as_eigen.hpp: a view as an Eigen::Map, without a copy.
#pragma once
#include <hoft/core/view.hpp>

#include <Eigen/Core>

namespace hoft {

/// The dense Eigen matrix of the same element type and layout as a view: what value-returning calls return.
template <class T, class Layout = col_major>
using dense_matrix = Eigen::Matrix<std::remove_cv_t<T>, Eigen::Dynamic, Eigen::Dynamic,
                                   std::same_as<Layout, col_major> ? Eigen::ColMajor : Eigen::RowMajor>;

/// The same memory as an Eigen::Map with the view's outer stride.
template <class T, class Layout>
auto as_eigen(matrix_view<T, Layout> a) {
  using plain = dense_matrix<T, Layout>;
  using target = std::conditional_t<std::is_const_v<T>, plain const, plain>;
  return Eigen::Map<target, Eigen::Unaligned, Eigen::OuterStride<>>(a.data, a.rows, a.cols, Eigen::OuterStride<>(a.ld));
}

/// The same memory as an Eigen::Map of a column vector.
template <class T>
auto as_eigen(vector_view<T> a) {
  using plain = Eigen::Matrix<std::remove_cv_t<T>, Eigen::Dynamic, 1>;
  using target = std::conditional_t<std::is_const_v<T>, plain const, plain>;
  return Eigen::Map<target>(a.data, a.size);
}

}  // namespace hoft
