// SPDX-License-Identifier: BSD-3-Clause
// row_scale.hpp: M̂ = diag(s) M, a method that is not on the list: the test of adding one.
#pragma once
#include "method.hpp"

namespace bench::methods {

template <class T>
class row_scale : public method<T> {
 public:
  static constexpr description about{
      .name = "row_scale",
      .text = "a scale for each row",
      .variables = "mnt",
      .parameters = "m",
      .merge = {"m*n", "2*m*n + m", "0"},
      .merge_backward = {"2*m*n", "2*m*n + m", "0"},
      .forward = {"2*m*n*t", "m*n + (m + n)*t + m", "0"},
      .backward = {"2*m*n*t", "m*n + (3*m + n)*t + 2*m", "0"},
  };
  row_scale(sizes const& s, std::mt19937_64&) : s_(this->make(s.m, 1)) { s_.value.setConstant(T(1)); }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    for (index_t j = 0; j < M.cols; ++j) as_eigen(Mhat).col(j) = as_eigen(M).col(j).cwiseProduct(s_.value);
  }
  void merge_backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T> dMhat) override {
    s_.gradient.setConstant(T(0));
    for (index_t j = 0; j < M.cols; ++j) s_.gradient += as_eigen(M).col(j).cwiseProduct(as_eigen(dMhat).col(j));
  }
  void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) override {
    multiply(M, x, y);
    for (index_t j = 0; j < y.cols; ++j) as_eigen(y).col(j) = as_eigen(y).col(j).cwiseProduct(s_.value);
  }
  void backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T const> y, matrix_view<T> dy,
                matrix_view<T> dx) override {
    s_.gradient.setConstant(T(0));
    for (index_t j = 0; j < y.cols; ++j) s_.gradient += as_eigen(y).col(j).cwiseProduct(as_eigen(dy).col(j));
    s_.gradient = s_.gradient.cwiseQuotient(s_.value);
    for (index_t j = 0; j < y.cols; ++j) as_eigen(dy).col(j) = as_eigen(dy).col(j).cwiseProduct(s_.value);
    multiply_tn(M, dy, dx);
  }

 private:
  parameter<T>& s_;
};

}  // namespace bench::methods

BENCH_METHOD(row_scale)
