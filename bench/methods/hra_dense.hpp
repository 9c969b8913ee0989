// SPDX-License-Identifier: BSD-3-Clause
// hra_dense.hpp: HRA with Q = H(u₁) ⋯ H(u_r) formed as a dense matrix [m, m], then M̂ = Q M formed, as PEFT does.
#pragma once
#include "reflections.hpp"

#include <optional>

namespace bench::methods {

template <class T>
class hra_dense : public method<T> {
 public:
  static constexpr description about{
      .name = "hra_dense",
      .text = "HRA with its product of reflections and the adapted weight formed",
      .variables = "mnrt",
      .parameters = "m * r",
      .merge = {"2*m**2*n + 4*m**2*r", "2*m*n + 2*m**2 + m*r", "m**2 + m*r"},
      .merge_backward = {"2*m**2*n + 12*m**2*r", "2*m*n + 3*m**2 + 2*m*r", "2*m**2 + m*r + min(m**2, 2**17)"},
      .forward = {"2*m*n*t + 2*m**2*n + 4*m**2*r", "3*m*n + 2*m**2 + (m + n)*t + m*r", "m*n + m**2 + m*r"},
      .backward = {"4*m*n*t + 2*m**2*n + 12*m**2*r", "4*m*n + 3*m**2 + (m + 2*n)*t + 2*m*r",
                   "2*m*n + 2*m**2 + m*r + min(m**2, 2**17)"},
  };
  hra_dense(sizes const& s, std::mt19937_64& rng) : U_(this->make(s.m, s.r)) { fill_paired(U_.value, rng); }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    Mhat_.resize(0, 0);
    Q_ = matrix<T>::Identity(M.rows, M.rows);
    reflections_.emplace(U_.value);
    reflections_->apply(as_view(Q_));
    multiply(as_view(Q_), M, Mhat);
  }
  void merge_backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T> dMhat) override {
    matrix<T> dQ(M.rows, M.rows);
    multiply_nt(dMhat, M, as_view(dQ));
    reflections_->backward(as_view(Q_), as_view(dQ), U_.gradient);
  }
  void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) override {
    matrix<T> formed(M.rows, M.cols);
    merge(M, as_view(formed));
    Mhat_ = std::move(formed);
    multiply(as_view(Mhat_), x, y);
  }
  void backward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T const>, matrix_view<T> dy,
                matrix_view<T> dx) override {
    multiply_tn(as_view(Mhat_), dy, dx);
    matrix<T> dMhat(M.rows, M.cols);
    multiply_nt(dy, x, as_view(dMhat));
    merge_backward(M, as_view(Mhat_), as_view(dMhat));
  }

 private:
  parameter<T>& U_;
  std::optional<reflections<T>> reflections_;
  matrix<T> Q_, Mhat_;
};

}  // namespace bench::methods

BENCH_METHOD(hra_dense)
