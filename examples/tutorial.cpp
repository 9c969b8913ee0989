// SPDX-License-Identifier: BSD-3-Clause
// tutorial.cpp: the code of docs/guide/tutorial.md, in its order. Prints what the text says.
#include <hoft/hoft.hpp>

#include <Eigen/Core>

#include <iostream>

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

// A base operator hoft knows nothing about: 8-bit integers with one scale for each row.
struct quantised {
  Eigen::Matrix<signed char, Eigen::Dynamic, Eigen::Dynamic> codes;
  Vector scales;
  hoft::index_t rows() const { return codes.rows(); }  // with these two hoft checks the shape
  hoft::index_t cols() const { return codes.cols(); }
  void apply(hoft::matrix_view<double const> X, hoft::matrix_view<double> Y) const {
    hoft::as_eigen(Y) = scales.asDiagonal() * (codes.cast<double>() * hoft::as_eigen(X));
  }
  void apply_adjoint(hoft::matrix_view<double const> X, hoft::matrix_view<double> Y) const {
    hoft::as_eigen(Y) = codes.cast<double>().transpose() * (scales.asDiagonal() * hoft::as_eigen(X));
  }
};

// y = M x learns the same inputs upside down, by gradient descent on U and V.
void train(Matrix const& M, Matrix const& x) {
  Matrix const target = M.lazyProduct(x.colwise().reverse());
  Matrix U = hoft::paired_gaussian<double>(M.rows(), 16, 1), V = hoft::paired_gaussian<double>(M.cols(), 16, 2), dy;
  hoft::scratch scratch;
  hoft::cpu const policy{.scratch = &scratch};
  hoft::adapter a(policy, U, V);
  auto layer = hoft::bind_layer(policy, a, hoft::dense(M));
  hoft::layer_gradient sums(layer);
  auto f = hoft::forward(policy, layer, x);
  hoft::dense_matrix<double> dx;
  hoft::adapter_gradient<double> d;
  for (int step = 0; step <= 300; ++step) {
    a.assign(policy, U, V);
    hoft::bind_layer(policy, a, layer);
    hoft::forward(policy, layer, x, f);
    dy = f.y - target;
    sums.set_zero();
    hoft::backward(policy, layer, x, f, dy, sums, dx);
    hoft::finish(policy, layer, sums, d);
    U -= d.dU / 500;
    V -= d.dV / 500;
    if (step % 100 == 0) std::cout << "step " << step << ", error " << dy.norm() / target.norm() << '\n';
  }
}

int main() {
  std::cout << "1. Reflectors\n";
  Matrix const U = Matrix::Random(100, 6);
  auto const Q = hoft::accumulate(U);
  Matrix const X = Matrix::Random(100, 20);
  Matrix Y = X;
  hoft::apply(Q, Y);
  Matrix Z = X;
  hoft::reference::apply(U, Z);
  std::cout << "against one reflector after another: " << (Y - Z).norm() / Z.norm() << '\n';
  std::cout << "orthogonality error, exact:   " << hoft::orthogonality_error(Q) << '\n';
  std::cout << "orthogonality error, 2 terms: " << hoft::orthogonality_error(hoft::accumulate(U, hoft::neumann{2}))
            << '\n';

  std::cout << "2. Gradients\n";
  Matrix const C = Matrix::Random(100, 20);
  auto const loss = [&](Matrix const& u) {
    Matrix y = X;
    hoft::apply(hoft::accumulate(u), y);
    return y.cwiseProduct(C).sum();
  };
  auto const g = hoft::apply_backward(Q, X, C);
  std::cout << "against central differences: " << hoft::check_gradient(loss, U, g.dU).error << '\n';
  auto const h = hoft::apply_backward_from_output(Q, Y, C);
  std::cout << "from the output instead of the input: " << (h.dU - g.dU).norm() / g.dU.norm() << '\n';

  std::cout << "3. A weight\n";
  Matrix const M = Matrix::Random(60, 40);
  Matrix const left = Matrix::Random(60, 4), right = Matrix::Random(40, 4);  // U and V of four reflectors each
  hoft::adapter<double> const hoft_adapter{left, right};
  Matrix Mhat = M;
  hoft::merge(hoft_adapter, Mhat);
  std::cout << "singular value drift: " << hoft::singular_value_drift(M, Mhat) << '\n';
  auto const lora = hoft::low_rank(hoft_adapter, M);
  std::cout << "as LoRA factors of rank " << lora.L.cols() << ": " << (M + lora.L * lora.R - Mhat).norm() / M.norm()
            << '\n';
  hoft::unmerge(hoft_adapter, Mhat);
  std::cout << "there and back: " << (Mhat - M).norm() / M.norm() << '\n';

  std::cout << "4. Activations\n";
  quantised const base{(M * 127).cast<signed char>(), Vector::Constant(60, 1.0 / 127)};
  Vector const s = Vector::Ones(60);
  Matrix const u = hoft::paired_gaussian<double>(60, 8, 1), v = hoft::paired_gaussian<double>(40, 8, 2);
  hoft::cpu const two_threads{.threads = 2};
  auto const layer = hoft::bind_layer(two_threads, hoft::adapter{u, v, s}, base);
  Matrix const x = Matrix::Random(40, 256);
  auto f = hoft::forward(two_threads, layer, x);
  Matrix y0(60, 256);
  base.apply(hoft::as_view(x), hoft::as_view(y0));
  std::cout << "training starts at the base weight: " << (f.y - y0).norm() / y0.norm() << '\n';
  hoft::layer_gradient sums(layer);
  auto dx = hoft::backward(two_threads, layer, x, f, f.y, sums);
  auto const d = hoft::finish(two_threads, layer, sums);
  std::cout << "gradients " << d.dU.cols() << " + " << d.dV.cols() << " columns, " << d.ds.size() << " scales\n";

  std::cout << "5. Micro-batches\n";
  hoft::scratch scratch;
  hoft::thread_pool pool(2);
  hoft::cpu const policy{.threads = pool.threads(), .executor = &pool, .scratch = &scratch};
  sums.set_zero();
  for (Eigen::Index first = 0; first < x.cols(); first += 64) {
    auto const part = x.middleCols(first, 64);
    hoft::forward(policy, layer, part, f);
    hoft::backward(policy, layer, part, f, f.y, sums, dx);
  }
  auto const e = hoft::finish(policy, layer, sums);
  std::cout << "four of 64 tokens against one of 256: " << (e.dV - d.dV).norm() / d.dV.norm() << '\n';

  std::cout << "6. A training loop\n";
  train(M, x);
}
