// SPDX-License-Identifier: BSD-3-Clause
// quickstart.cpp: a layer y = M x learns the same inputs upside down. M stays frozen; U and V turn its two sides.
#include <hoft/hoft.hpp>

#include <iostream>

int main() {
  Eigen::MatrixXf const M = Eigen::MatrixXf::Random(64, 32), x = Eigen::MatrixXf::Random(32, 100);
  Eigen::MatrixXf const y = M.lazyProduct(x.colwise().reverse());
  Eigen::MatrixXf U = hoft::paired_gaussian<float>(64, 16, 1), V = hoft::paired_gaussian<float>(32, 16, 2);
  hoft::adapter a{U, V};
  auto layer = hoft::bind_layer(a, hoft::dense(M));  // what depends on weights alone
  hoft::layer_gradient g(layer);                     // sums over all tokens of a step
  auto f = hoft::forward(layer, x);                  // f.y = Q_U M Q_V x
  hoft::dense_matrix<float> dx;                      // for the layer below
  hoft::adapter_gradient<float> d;                   // dU and dV
  for (int step = 0; step <= 900; ++step) {          // each call refills what it returned before
    a.assign(U, V);
    hoft::bind_layer(a, layer);
    hoft::forward(layer, x, f);
    Eigen::MatrixXf const dy = f.y - y;
    g.set_zero();
    hoft::backward(layer, x, f, dy, g, dx);
    hoft::finish(layer, g, d);
    U -= d.dU / 100, V -= d.dV / 100;
    if (step % 300 == 0) std::cout << "step " << step << ", error " << dy.norm() / y.norm() << '\n';
  }
}
