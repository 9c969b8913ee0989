// two_forms.cpp: each operation twice, once for people and once for frameworks. docs/forms.md quotes it.
#include <hoft/hoft.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <iostream>
#include <random>
#include <vector>

using Matrix = Eigen::MatrixXf;

// For people: values in, values out.
Matrix gradient_for_people(Matrix const& U, Matrix const& X, Matrix const& dY) {
  auto const Q = hoft::accumulate(U);
  Matrix Y = X;
  hoft::apply(Q, Y);
  auto const g = hoft::apply_backward_from_output(Q, Y, dY);
  return g.dU;
}

// For frameworks: memory is asked for once and lent to every call.
class reflector_layer {
 public:
  reflector_layer(hoft::index_t m, hoft::index_t r, hoft::index_t n, hoft::cpu policy) : policy_(policy) {
    hoft::index_t const block = hoft::block_for(r, hoft::exact{});
    hoft::carver count;
    hoft::carve_compact_wy<float>(count, m, r, block);
    form_.resize(std::size_t(count.size()));
    hoft::carver memory({form_.data(), count.size()});
    Q_ = hoft::carve_compact_wy<float>(memory, m, r, block);
    hoft::matrix_view<float> const X(nullptr, m, n);
    hoft::index_t const bytes =
        std::max({hoft::accumulate_workspace<float>(policy_, r, block), hoft::apply_workspace(policy_, Q_, X),
                  hoft::apply_backward_workspace(policy_, Q_, X)});
    work_.resize(std::size_t(bytes));
  }

  // X := Q X
  void forward(hoft::matrix_view<float const> U, hoft::matrix_view<float> X) {
    hoft::accumulate(policy_, U, Q_, hoft::exact{}, work());
    hoft::apply(policy_, Q_, X, X, hoft::side::left, hoft::op::plain, work());
  }

  // dY := ∂L/∂X, dU := ∂L/∂U
  void backward(hoft::matrix_view<float const> Y, hoft::matrix_view<float> dY, hoft::matrix_view<float> dU) {
    hoft::apply_backward_from_output(policy_, Q_, Y, dY, dY, dU, hoft::vector_view<float>{}, hoft::side::left,
                                     hoft::op::plain, work());
  }

 private:
  hoft::workspace work() { return {work_.data(), hoft::index_t(work_.size())}; }

  hoft::cpu policy_;
  std::vector<std::byte> form_, work_;
  hoft::compact_wy_view<float> Q_;
};

int main() {
  Matrix const U = Matrix::Random(96, 8), X = Matrix::Random(96, 40), dY = Matrix::Random(96, 40);
  Matrix const expected = gradient_for_people(U, X, dY);

  Matrix Y = X, g = dY, dU(96, 8);
  reflector_layer layer(96, 8, 40, hoft::cpu{.threads = 2});
  layer.forward(hoft::as_view(U), hoft::as_view(Y));
  layer.backward(hoft::as_view(Y), hoft::as_view(g), hoft::as_view(dU));

  std::cout << "both forms give the same bits: " << (dU == expected ? "yes" : "no") << '\n';
  return dU == expected ? 0 : 1;
}
