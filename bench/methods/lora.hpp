// SPDX-License-Identifier: BSD-3-Clause
// lora.hpp: low-rank adaptation, M̂ = M + B A.
#pragma once
#include "costs.hpp"
#include "method.hpp"

namespace bench::methods {

template <class T>
class lora : public method<T> {
 public:
  static constexpr description about = about_lora;
  lora(sizes const& s, std::mt19937_64& rng) : B_(this->make(s.m, s.r)), A_(this->make(s.r, s.n)) {
    fill_gaussian(A_.value, 1 / std::sqrt(double(s.n)), rng);
  }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    as_eigen(Mhat) = as_eigen(M);
    multiply(as_view(B_.value), as_view(A_.value), Mhat, 1, 1);
  }
  void merge_backward(matrix_view<T const>, matrix_view<T const>, matrix_view<T> dMhat) override {
    multiply_nt(dMhat, as_view(A_.value), as_view(B_.gradient));
    multiply_tn(as_view(B_.value), dMhat, as_view(A_.gradient));
  }
  void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) override {
    h_.resize(A_.value.rows(), x.cols);
    multiply(M, x, y);
    multiply(as_view(A_.value), x, as_view(h_));
    multiply(as_view(B_.value), as_view(h_), y, 1, 1);
  }
  void backward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T const>, matrix_view<T> dy,
                matrix_view<T> dx) override {
    matrix<T> dh(h_.rows(), h_.cols());
    multiply_nt(dy, as_view(h_), as_view(B_.gradient));
    multiply_tn(as_view(B_.value), dy, as_view(dh));
    multiply_nt(as_view(dh), x, as_view(A_.gradient));
    multiply_tn(M, dy, dx);
    multiply_tn(as_view(A_.value), as_view(dh), dx, 1, 1);
  }

 private:
  parameter<T>&B_, &A_;
  matrix<T> h_;  ///< A x
};

}  // namespace bench::methods

BENCH_METHOD(lora)
