// SPDX-License-Identifier: BSD-3-Clause
// main.cpp: the rotation between two clouds of points (orthogonal Procrustes), found by Ceres with gradients by hoft.
// Ceres sees a function of m r numbers; hoft makes them a product of r reflectors, which is orthogonal at every step.
#include <hoft/hoft.hpp>

#include <ceres/first_order_function.h>
#include <ceres/gradient_problem.h>
#include <ceres/gradient_problem_solver.h>

#include <Eigen/SVD>

#include <cmath>
#include <cstdio>
#include <random>

using Matrix = Eigen::MatrixXd;

/// ½ ‖Q(U) A − B‖² as a function of the reflectors U [m, r], column by column.
class procrustes : public ceres::FirstOrderFunction {
 public:
  procrustes(Matrix const& A, Matrix const& B, int rank) : A_(A), B_(B), rank_(rank) {}
  int NumParameters() const override { return int(A_.rows()) * rank_; }

  bool Evaluate(double const* parameters, double* cost, double* gradient) const override {
    Eigen::Map<Matrix const> const U(parameters, A_.rows(), rank_);
    auto const Q = hoft::accumulate(U);
    Matrix Y = A_;
    hoft::apply(Q, Y);
    Matrix const difference = Y - B_;
    *cost = difference.squaredNorm() / 2;
    if (gradient != nullptr)  // ∂cost/∂Y = Y − B
      Eigen::Map<Matrix>(gradient, A_.rows(), rank_) = hoft::apply_backward(Q, A_, difference).dU;
    return true;
  }

 private:
  Matrix A_, B_;
  int rank_;
};

int main() {
  constexpr int m = 24, points = 200;
  std::mt19937 rng(1);
  std::normal_distribution<double> normal;
  auto const gaussian = [&](int rows, int cols) {
    return Matrix(Matrix::NullaryExpr(rows, cols, [&] { return normal(rng); }));
  };

  // B is A turned by an unknown rotation, with noise.
  Matrix const A = gaussian(m, points);
  Matrix B = A;
  hoft::apply(hoft::accumulate(gaussian(m, m)), B);  // an even number of reflections
  B += 0.1 * gaussian(m, points);

  // The known solution: Q = W Zᵀ for B Aᵀ = W Σ Zᵀ.
  Eigen::JacobiSVD<Matrix> const svd(B * A.transpose(), Eigen::ComputeFullU | Eigen::ComputeFullV);
  Matrix const best = svd.matrixU() * svd.matrixV().transpose();
  double const least = (best * A - B).squaredNorm() / 2;

  // The search starts at the identity: reflectors in pairs.
  Matrix U = hoft::paired_gaussian<double>(m, m, 1);
  ceres::GradientProblem const problem(new procrustes(A, B, m));
  ceres::GradientProblemSolver::Options options;  // L-BFGS with a Wolfe line search
  options.max_num_iterations = 500;
  options.function_tolerance = 1e-12;
  options.logging_type = ceres::SILENT;
  ceres::GradientProblemSolver::Summary summary;
  ceres::Solve(options, problem, U.data(), &summary);

  auto const Q = hoft::accumulate(U);
  double const distance = (hoft::materialize(Q, m) - best).norm() / std::sqrt(m);
  double const error = hoft::orthogonality_error(Q), excess = summary.final_cost / least - 1;
  std::printf("cost: %.6g at the identity, %.6g after %zu steps of L-BFGS, %.6g by singular value decomposition\n",
              summary.initial_cost, summary.final_cost, summary.iterations.size(), least);
  std::printf("distance of the two rotations %.1e, orthogonality error of the product %.1e\n", distance, error);
  bool const good = excess < 1e-6 && distance < 1e-3 && error < 1e-13;
  if (!good) std::fprintf(stderr, "procrustes: the product of reflectors missed the rotation\n");
  return good ? 0 : 1;
}
