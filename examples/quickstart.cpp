// SPDX-License-Identifier: BSD-3-Clause
#include <hoft/hoft.hpp>
#include <iostream>
int main() {
  Eigen::MatrixXf const M = Eigen::MatrixXf::Random(64, 32), x = Eigen::MatrixXf::Random(32, 100);
  Eigen::MatrixXf const y = M.lazyProduct(x.colwise().reverse());  // what to learn; a plain product compiles longer
  Eigen::MatrixXf U = hoft::paired_gaussian<float>(64, 16, 1), V = hoft::paired_gaussian<float>(32, 16, 2);
  for (int step = 0; step <= 900; ++step) {
    hoft::adapter const a{U, V};                                 // 16 reflectors on each side
    auto const f = hoft::forward(a, hoft::dense(M), x);          // f.y = Q_U M Q_V x
    Eigen::MatrixXf const dy = f.y - y;                          // the gradient of ‖f.y - y‖²/2
    auto const d = hoft::backward(a, hoft::dense(M), x, f, dy);  // d.dU, d.dV, and d.dx for a layer below
    U -= d.dU / 100, V -= d.dV / 100;
    if (step % 300 == 0) std::cout << "step " << step << ", error " << dy.norm() / y.norm() << '\n';
  }
}
