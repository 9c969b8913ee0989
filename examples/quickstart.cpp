// SPDX-License-Identifier: BSD-3-Clause
// quickstart.cpp: a layer y = M x learns the same inputs upside down. M stays frozen; U and V turn its two sides.
#include <hoft/hoft.hpp>

#include <iostream>

int main() {
  Eigen::MatrixXf const M = Eigen::MatrixXf::Random(64, 32), x = Eigen::MatrixXf::Random(32, 100);
  Eigen::MatrixXf const y = M.lazyProduct(x.colwise().reverse());
  Eigen::MatrixXf U = hoft::paired_gaussian<float>(64, 16, 1), V = hoft::paired_gaussian<float>(32, 16, 2);
  for (int step = 0; step <= 900; ++step) {
    auto const layer = hoft::bind_layer(hoft::adapter{U, V}, hoft::dense(M));  // what depends on weights alone
    auto const f = hoft::forward(layer, x);                                    // f.y = Q_U M Q_V x
    Eigen::MatrixXf const dy = f.y - y;
    hoft::layer_gradient g(layer);                       // sums over all tokens of a step
    auto const dx = hoft::backward(layer, x, f, dy, g);  // for the layer below
    auto const d = hoft::finish(layer, g);
    U -= d.dU / 100, V -= d.dV / 100;
    if (step % 300 == 0) std::cout << "step " << step << ", error " << dy.norm() / y.norm() << '\n';
  }
}
