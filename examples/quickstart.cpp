// quickstart.cpp: a product of Householder reflectors, and a frozen weight fine-tuned through two of them.
#include <hoft/hoft.hpp>

#include <Eigen/Core>

#include <iostream>

int main() {
  using Matrix = Eigen::MatrixXf;
  // Q = H(u1) ... H(u8) in compact WY form: orthogonal to rounding, and never formed.
  Matrix const U = Matrix::Random(64, 8);
  auto const Q = hoft::accumulate(U);
  Matrix X = Matrix::Random(64, 100);
  hoft::apply(Q, X);                                       // X := Q X
  hoft::apply(Q, X, hoft::side::left, hoft::op::adjoint);  // X := Qᵀ X, the old X again
  std::cout << "orthogonality error " << hoft::orthogonality_error(Q) << '\n';

  // HOFT learns y = Q M x from examples: M stays frozen, U and V are trained from Q_U = Q_V = I on.
  Matrix const M = Matrix::Random(64, 32), x = Matrix::Random(32, 100);
  Matrix y = M * x;
  hoft::apply(Q, y);
  Matrix u = hoft::paired_gaussian<float>(64, 16, 1), v = hoft::paired_gaussian<float>(32, 16, 2);
  auto const base = hoft::dense(M);
  for (int step = 0; step <= 300; ++step) {
    hoft::adapter<float> const a{u, v};
    auto const f = hoft::forward(a, base, x);  // f.y = Q_U M Q_V x without forming Q_U M Q_V
    Matrix const dy = (f.y - y) / static_cast<float>(y.cols());
    auto const g = hoft::backward(a, base, x, f, dy);
    if (step % 100 == 0) std::cout << "step " << step << ", error " << (f.y - y).norm() / y.norm() << '\n';
    u -= g.dU;
    v -= g.dV;
  }
  Matrix Mhat = M;
  hoft::merge(hoft::adapter<float>{u, v}, Mhat);  // Mhat := Q_U M Q_V, with the singular values of M
  std::cout << "singular value drift " << hoft::singular_value_drift(M, Mhat) << '\n';
}
