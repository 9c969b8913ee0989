// oft_neumann.hpp: orthogonal fine-tuning with the inverse of Cayley's map cut after five terms of its Neumann series
// (OFTv2).
#pragma once
#include "block_rotations.hpp"

namespace bench::methods {

template <class T>
class oft_neumann : public block_rotations<T> {
 public:
  static constexpr description about{
      .name = "oft_neumann",
      .text = "OFT, blocks by five terms of the Neumann series (OFTv2)",
      .variables = "mnbt",
      .parameters = "m * (b - 1) / 2",
      .merge = {"TODO", "TODO", "TODO"},
      .merge_backward = {"TODO", "TODO", "TODO"},
      .forward = {"TODO", "TODO", "TODO"},
      .backward = {"TODO", "TODO", "TODO"},
  };
  oft_neumann(sizes const& s, std::mt19937_64&) : block_rotations<T>("oft_neumann", s.m, s.b, 1, cayley::neumann) {}

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    z_.resize(0, 0);
    this->form();
    as_eigen(Mhat) = as_eigen(M);
    this->apply(Mhat);
  }
  void merge_backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T const> dMhat) override {
    matrix<T> G = as_eigen(dMhat);
    this->turn_back(M, as_view(G));
  }
  void forward(matrix_view<T const> M, matrix_view<T> x, matrix_view<T> y) override {
    this->form();
    multiply(M, x, y);
    z_ = as_eigen(y);
    this->apply(y);
  }
  void backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T const>, matrix_view<T> dy,
                matrix_view<T> dx) override {
    this->turn_back(as_view(z_), dy);
    multiply_tn(M, dy, dx);
  }

 private:
  matrix<T> z_;  ///< M x: Q is only nearly a rotation, so that it cannot be had from y
};

}  // namespace bench::methods

BENCH_METHOD(oft_neumann)
