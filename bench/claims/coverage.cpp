// SPDX-License-Identifier: BSD-3-Clause
// coverage.cpp: which orthogonal targets a method reaches, and what that takes.
#include "measures.hpp"
#include "progress.hpp"
#include "trial.hpp"

#include <Eigen/LU>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <cmath>
#include <ctime>
#include <limits>
#include <ostream>

namespace bench::claims {
namespace {

using matrix = Eigen::MatrixXd;

/// Uniform over the orthogonal matrices of the given determinant.
matrix random_orthogonal(index_t m, double determinant, std::mt19937_64& rng) {
  std::normal_distribution<double> normal;
  matrix A(m, m);
  for (double& a : A.reshaped()) a = normal(rng);
  Eigen::HouseholderQR<matrix> const qr(A);
  matrix Q = qr.householderQ();
  for (index_t j = 0; j < m; ++j)
    if (qr.matrixQR()(j, j) < 0) Q.col(j) *= -1;
  if (Q.determinant() * determinant < 0) Q.col(0) *= -1;
  return Q;
}

struct target {
  char const* name;
  matrix M, wanted;
};

/// The least ‖Q M − wanted‖_F over orthogonal Q (Procrustes), relative to ‖wanted‖_F.
double procrustes(target const& t) {
  Eigen::JacobiSVD<matrix> const svd(t.wanted * t.M.transpose(), Eigen::ComputeFullU | Eigen::ComputeFullV);
  matrix const Q = svd.matrixU() * svd.matrixV().transpose();
  return (Q * t.M - t.wanted).norm() / t.wanted.norm();
}

struct descent {
  double residual, seconds, seconds_to_reach;  ///< the last: NaN if it was not reached
};
constexpr double reached = 1e-2;  // page.py says so

/// Adam on ‖M̂ − wanted‖_F², its step falling as a cosine; from near the method's start, which may be a saddle.
descent descend(methods::method<double>& method, target const& t, int steps, std::mt19937_64& rng) {
  constexpr double rate = 0.05, beta1 = 0.9, beta2 = 0.999, small = 1e-12, spread = 0.3;
  std::vector<matrix> first, second;
  for (auto& p : method.parameters()) {
    matrix noise(p.value.rows(), p.value.cols());
    methods::fill_gaussian(noise, spread, rng);
    p.value += noise;
    first.push_back(matrix::Zero(p.value.rows(), p.value.cols()));
    second.push_back(first.back());
  }
  matrix Mhat(t.M.rows(), t.M.cols());
  descent found{std::numeric_limits<double>::infinity(), 0, std::numeric_limits<double>::quiet_NaN()};
  std::clock_t const start = std::clock();
  auto const seconds = [&] { return double(std::clock() - start) / CLOCKS_PER_SEC; };
  for (int step = 1; step <= steps; ++step) {
    method.merge(as_view(t.M), as_view(Mhat));
    matrix error = Mhat - t.wanted;
    double const residual = error.norm() / t.wanted.norm();
    if (residual < found.residual) found.residual = residual;
    if (residual < reached && std::isnan(found.seconds_to_reach)) found.seconds_to_reach = seconds();
    method.merge_backward(as_view(t.M), as_view(std::as_const(Mhat)), as_view(error));
    double const now = rate * 0.5 * (1 + std::cos(std::acos(-1.0) * step / steps));
    double const grown1 = 1 - std::pow(beta1, step), grown2 = 1 - std::pow(beta2, step);
    std::size_t i = 0;
    for (auto& p : method.parameters()) {
      first[i] = beta1 * first[i] + (1 - beta1) * p.gradient;
      second[i] = beta2 * second[i] + (1 - beta2) * p.gradient.cwiseAbs2();
      p.value.array() -= now * (first[i].array() / grown1) / ((second[i].array() / grown2).sqrt() + small);
      ++i;
    }
  }
  found.seconds = seconds();
  return found;
}

/// What the size of a method runs over: up to what Table 1 says covers everything, and one beyond it for ranks.
std::vector<sizes> sizes_of(std::string const& over, index_t m) {
  sizes const least{m, m, 1, 2, 1, 1};
  std::vector<sizes> all;
  sizes s = least;
  if (over == "r")
    for (index_t r : {m / 8, m / 4, m / 2, m - 1, m}) s.r = r, all.push_back(s);
  else if (over == "b")
    for (s.b = 2; s.b <= m; s.b *= 2) all.push_back(s);
  else if (over == "bk")
    for (s.b = 2; s.b <= m; s.b *= 2)
      for (s.k = 1; m % ((s.b / 2) << s.k) == 0; ++s.k) all.push_back(s);
  else if (over == "all") all.push_back(s);
  return all;
}

}  // namespace

void coverage(int order, int steps, int seeds, std::ostream& out) {
  index_t const m = order;
  methods::require(m >= 8 && (m & (m - 1)) == 0,
                   "--order is " + std::to_string(order) + ", expected a power of two >= 8");
  out << "method\tr\tb\tk\tparameters\ttarget\tseed\tresidual\tone_sided\tseconds\tseconds_to_reach\n";
  std::size_t total = 0;
  for (auto const& e : methods::list<double>()) total += sizes_of(e.about->coverage, m).size();
  progress shown("coverage", total);
  for (auto const& e : methods::list<double>())
    for (sizes const& s : sizes_of(e.about->coverage, m)) {
      for (int seed = 1; seed <= seeds; ++seed) {
        std::mt19937_64 rng(static_cast<unsigned long>(seed));
        matrix const left = random_orthogonal(m, 1, rng), right = random_orthogonal(m, 1, rng);
        matrix const M = left * Eigen::VectorXd::LinSpaced(m, 2, 1).asDiagonal() * right;
        matrix const Q = random_orthogonal(m, 1, rng), P = random_orthogonal(m, 1, rng);
        matrix const R = random_orthogonal(m, -1, rng);
        for (target const& t :
             {target{"rotation", M, Q * M}, target{"reflection", M, R * M}, target{"two_sided", M, Q * M * P}}) {
          descent best{std::numeric_limits<double>::infinity(), 0, std::numeric_limits<double>::quiet_NaN()};
          double parameters = 0;
          for (int start = 0; start < 2; ++start) {
            auto const method = e.make(s, rng);
            parameters = 0;
            for (auto const& p : method->parameters()) parameters += double(p.value.size());
            descent const found = descend(*method, t, steps, rng);
            if (found.residual < best.residual) best = found;
          }
          out << e.about->name << '\t' << s.r << '\t' << s.b << '\t' << s.k << '\t' << parameters << '\t' << t.name
              << '\t' << seed << '\t' << best.residual << '\t' << procrustes(t) << '\t' << best.seconds << '\t'
              << best.seconds_to_reach << '\n';
        }
      }
      shown.step();
    }
}

}  // namespace bench::claims
