// SPDX-License-Identifier: BSD-3-Clause
// What a first user writes: an adapter that starts as the identity, merged into a weight and taken out again.
#include <hoft/hoft.hpp>

#include <Eigen/Core>

#include <cmath>
#include <iostream>
#include <limits>
#include <random>

int main() {
  constexpr int m = 24, n = 16, r = 4;
  std::mt19937 rng(1);
  std::normal_distribution<double> gaussian;
  Eigen::MatrixXd M(m, n), U(m, r);
  for (auto* A : {&M, &U})
    for (auto& a : A->reshaped()) a = gaussian(rng);

  hoft::adapter<double> a{U, hoft::paired_gaussian<double>(n, r, 1)};
  Eigen::MatrixXd X = M;
  hoft::merge(a, X);
  double const moved = (X - M).norm();
  hoft::unmerge(a, X);
  double const error = (X - M).norm();

  // Two orthogonal products of 2 r reflectors in all, and back: each reflector adds a few roundings an entry.
  double const bound = 4 * 2 * r * m * std::numeric_limits<double>::epsilon() * M.norm();
  std::cout << "hoft " << HOFT_VERSION_MAJOR << '.' << HOFT_VERSION_MINOR << '.' << HOFT_VERSION_PATCH
            << ": merged, moved " << moved << ", unmerged, error " << error << ", bound " << bound << '\n';
  return moved > 1 && error <= bound ? 0 : 1;
}
