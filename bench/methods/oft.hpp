// oft.hpp: orthogonal fine-tuning, M̂ = Q M with Q block-diagonal, each block by the exact Cayley map.
#pragma once
#include "block_rotations.hpp"

namespace bench::methods {

template <class T>
class oft : public block_rotations<T> {
 public:
  static constexpr description about{
      .name = "oft",
      .text = "OFT, blocks by the exact Cayley map",
      .variables = "mnbt",
      .parameters = "m * (b - 1) / 2",
      .merge = {"TODO", "TODO", "TODO"},
      .merge_backward = {"TODO", "TODO", "TODO"},
      .forward = {"TODO", "TODO", "TODO"},
      .backward = {"TODO", "TODO", "TODO"},
      .coverage = "b",
  };
  oft(sizes const& s, std::mt19937_64&) : block_rotations<T>("oft", s.m, s.b, 1, cayley::exact) {}

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    this->form();
    as_eigen(Mhat) = as_eigen(M);
    this->apply(Mhat);
  }
  void merge_backward(matrix_view<T const>, matrix_view<T const> Mhat, matrix_view<T const> dMhat) override {
    matrix<T> G = as_eigen(dMhat);
    this->turn_back(Mhat, as_view(G));
  }
  void forward(matrix_view<T const> M, matrix_view<T> x, matrix_view<T> y) override {
    this->form();
    multiply(M, x, y);
    this->apply(y);
  }
  void backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T const> y, matrix_view<T> dy,
                matrix_view<T> dx) override {
    this->turn_back(y, dy);
    multiply_tn(M, dy, dx);
  }
};

}  // namespace bench::methods

BENCH_METHOD(oft)
