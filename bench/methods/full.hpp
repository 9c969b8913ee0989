// SPDX-License-Identifier: BSD-3-Clause
// full.hpp: full fine-tuning: every element of the weight is trained, so that M̂ is the parameter and M is not read.
#pragma once
#include "costs.hpp"
#include "method.hpp"

namespace bench::methods {

template <class T>
class full : public method<T> {
 public:
  static constexpr description about = about_full;
  full(sizes const& s, std::mt19937_64&) : W_(this->make(s.m, s.n)) {}

  void merge(matrix_view<T const>, matrix_view<T> Mhat) override { as_eigen(Mhat) = W_.value; }
  void merge_backward(matrix_view<T const>, matrix_view<T const>, matrix_view<T> dMhat) override {
    W_.gradient = as_eigen(dMhat);
  }
  void forward(matrix_view<T const>, matrix_view<T const> x, matrix_view<T> y) override {
    multiply(as_view(W_.value), x, y);
  }
  void backward(matrix_view<T const>, matrix_view<T const> x, matrix_view<T const>, matrix_view<T> dy,
                matrix_view<T> dx) override {
    multiply_nt(dy, x, as_view(W_.gradient));
    multiply_tn(as_view(W_.value), dy, dx);
  }

 private:
  parameter<T>& W_;
};

}  // namespace bench::methods

BENCH_METHOD(full)
