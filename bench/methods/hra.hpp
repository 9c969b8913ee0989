// SPDX-License-Identifier: BSD-3-Clause
// hra.hpp: Householder reflection adaptation, M̂ = H(u₁) ⋯ H(u_r) M, reflections one by one.
#pragma once
#include "reflections.hpp"

#include <optional>

namespace bench::methods {

template <class T>
class hra : public method<T> {
 public:
  static constexpr description about{
      .name = "hra",
      .text = "HRA, reflections one by one",
      .variables = "mnrt",
      .parameters = "m * r",
      .merge = {"4*m*n*r", "2*m*n + m*r", "m*r"},
      .merge_backward = {"12*m*n*r", "3*m*n + 2*m*r", "m*r + min(m*n, 2**17)"},
      .forward = {"2*m*n*t + 4*m*r*t", "m*n + (m + n)*t + m*r", "m*r"},
      .backward = {"2*m*n*t + 12*m*r*t", "m*n + (3*m + n)*t + 2*m*r", "m*r + min(m*t, 2**17)"},
      .coverage = "r",
  };
  hra(sizes const& s, std::mt19937_64& rng) : U_(this->make(s.m, s.r)) { fill_paired(U_.value, rng); }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    as_eigen(Mhat) = as_eigen(M);
    Q_.emplace(U_.value);
    Q_->apply(Mhat);
  }
  void merge_backward(matrix_view<T const>, matrix_view<T const> Mhat, matrix_view<T> dMhat) override {
    Q_->backward(Mhat, dMhat, U_.gradient);
  }
  void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) override {
    multiply(M, x, y);
    Q_.emplace(U_.value);
    Q_->apply(y);
  }
  void backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T const> y, matrix_view<T> dy,
                matrix_view<T> dx) override {
    Q_->backward(y, dy, U_.gradient);
    multiply_tn(M, dy, dx);
  }

 private:
  parameter<T>& U_;
  std::optional<reflections<T>> Q_;
};

}  // namespace bench::methods

BENCH_METHOD(hra)
