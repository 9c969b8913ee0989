// full.hpp: full fine-tuning, M̂ = M + D with every element trained.
#pragma once
#include "costs.hpp"
#include "method.hpp"

namespace bench::methods {

template <class T>
class full : public method<T> {
 public:
  static constexpr description about = about_full;
  full(sizes const& s, std::mt19937_64&) : D_(this->make(s.m, s.n)) {}

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override { as_eigen(Mhat) = as_eigen(M) + D_.value; }
  void merge_backward(matrix_view<T const>, matrix_view<T const>, matrix_view<T> dMhat) override {
    D_.gradient = as_eigen(dMhat);
  }
  void forward(matrix_view<T const> M, matrix_view<T> x, matrix_view<T> y) override {
    Mhat_.resize(0, 0);
    Mhat_ = as_eigen(M) + D_.value;
    multiply(as_view(Mhat_), x, y);
  }
  void backward(matrix_view<T const>, matrix_view<T const> x, matrix_view<T const>, matrix_view<T> dy,
                matrix_view<T> dx) override {
    multiply_nt(dy, x, as_view(D_.gradient));
    multiply_tn(as_view(Mhat_), dy, dx);
  }

 private:
  parameter<T>& D_;
  matrix<T> Mhat_;  ///< for the products with tokens
};

}  // namespace bench::methods

BENCH_METHOD(full)
