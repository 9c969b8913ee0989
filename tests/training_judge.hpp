// SPDX-License-Identifier: BSD-3-Clause
// What training on another machine is judged by: the same training on the CPU, how far rounding may move its curve, and
// the orthogonality of what was trained.
#pragma once
#include "support.hpp"
#include "training.hpp"

#include <hoft/cpu/policy.hpp>
#include <hoft/cpu/backend.hpp>
#include <hoft/adapter/paired_gaussian.hpp>

#include <cmath>
#include <random>
#include <string>
#include <tuple>
#include <vector>

namespace hoft_test {

/// Paired reflectors and s = 1, where the layers are M, and a target that other reflectors near by reach.
inline training_data training_example() {
  training_data data;
  auto const numbers = [](auto const& X) { return std::vector<float>(X.data(), X.data() + X.size()); };
  dense_matrix<float> const x = gaussian<float>(training_layers[0].n, training_tokens, 70);
  data.x = numbers(x);
  wide_matrix<float> y = widen(x);
  for (std::size_t i = 0; i < 2; ++i) {
    layer_shape const& l = training_layers[i];
    unsigned const seed = 71 + 10 * unsigned(i);
    dense_matrix<float> const M = gaussian<float>(l.m, l.n, seed, 1 / std::sqrt(double(l.n)));
    dense_matrix<float> U(l.m, l.ru), V(l.n, l.rv);
    hoft::paired_gaussian(hoft::cpu{}, hoft::as_view(U), seed + 7);
    hoft::paired_gaussian(hoft::cpu{}, hoft::as_view(V), seed + 8);
    data.layers[i] = {numbers(M), numbers(U), numbers(V), std::vector<float>(std::size_t(l.scaled ? l.m : 0), 1.0f)};
    auto const moved = [&](dense_matrix<float> const& from, unsigned salt) {
      return wide_matrix<float>(widen(from) + 0.3L * widen(gaussian<float>(from.rows(), from.cols(), seed + salt)));
    };
    y = times(widen(M), reference_apply(moved(V, 1), y));
    for (index_t k = 0; k < y.rows() && l.scaled; ++k) y.row(k) *= 1 + 0.3L * std::sin(static_cast<long double>(k));
    y = reference_apply(moved(U, 2), y);
  }
  data.target = numbers(narrowed<float>(y));
  return data;
}

/// What one call in float may be off by, as noise: a quarter of the bounds of activations_test, which allow four
/// deviations (support.hpp), spread over the entries of each column.
class rounding_noise {
 public:
  explicit rounding_noise(unsigned seed) : engine_(seed) {}

  template <class Layer>
  void after_forward(Layer const& l, hoft::matrix_view<float> x, hoft::matrix_view<float> y) const {
    double const relative = deviation(l.shape) * size(l);
    for (index_t j = 0; j < y.cols; ++j) add(y.columns(j, 1), relative * size_of(x.columns(j, 1)));
  }
  double size_of(hoft::matrix_view<float> X) const { return double(widen(hoft::as_eigen(X)).norm()); }
  template <class Layer>
  void after_backward(Layer const& l, hoft::matrix_view<float> x, double gradient, hoft::matrix_view<float> dx) const {
    double const relative = deviation(l.shape) * size(l), both = size_of(x) * gradient;
    for (index_t j = 0; j < dx.cols; ++j) add(dx.columns(j, 1), relative * gradient / std::sqrt(double(dx.cols)));
    for (index_t j = 0; j < l.U.cols; ++j) add(l.dU.columns(j, 1), 16 * relative * both / size_of(l.U.columns(j, 1)));
    for (index_t j = 0; j < l.V.cols; ++j) add(l.dV.columns(j, 1), 16 * relative * both / size_of(l.V.columns(j, 1)));
    for (index_t i = 0; i < l.ds.rows; ++i) add(l.ds.block(i, 0, 1, 1), 2 * relative * both);
  }
  template <class Layer>
  void after_descent(Layer const& l) const {
    for (auto const& parameters : {l.U, l.V, l.s})
      for (index_t j = 0; j < parameters.cols; ++j)
        for (index_t i = 0; i < parameters.rows; ++i)
          parameters(i, j) *= 1 + static_cast<float>(normal_(engine_) * double(eps_of<float>()) / 4);
  }

 private:
  static double deviation(layer_shape const& l) {
    auto const root = [](index_t k) { return std::sqrt(static_cast<long double>(k)); };
    return double(line_bound<float>(l.m, l.ru) + line_bound<float>(l.n, l.rv) +
                  2 * (root(l.m) + root(l.n) + root(training_tokens) + 5) * eps_of<float>()) /
           4;
  }
  /// max |s_i| times a bound of ‖|M|‖₂.
  template <class Layer>
  static double size(Layer const& l) {
    auto const sizes = bound_matrix(widen(hoft::as_eigen(l.M)).cwiseAbs());
    double const mu = std::sqrt(double(sizes.colwise().sum().maxCoeff() * sizes.rowwise().sum().maxCoeff()));
    return mu * (l.shape.scaled ? double(widen(hoft::as_eigen(l.s)).cwiseAbs().maxCoeff()) : 1);
  }
  void add(hoft::matrix_view<float> column, double norm) const {
    for (index_t i = 0; i < column.rows; ++i)
      column(i, 0) += static_cast<float>(norm / std::sqrt(double(column.rows)) * normal_(engine_));
  }
  mutable std::mt19937_64 engine_;
  mutable std::normal_distribution<double> normal_;
};

/// The curve on the CPU, in float.
template <class Disturbance = undisturbed>
std::vector<double> curve_on_cpu(Disturbance const& disturbance = {}, int steps = training_steps) {
  hoft::cpu const policy;
  training<float, hoft::cpu> all(policy, training_example());
  std::vector<double> curve;
  for (int step = 0; step < steps; ++step) {
    all.step(policy, disturbance);
    curve.push_back(all.loss());
  }
  return curve;
}

/// The CPU's curve, and by how much another machine's may differ from it: four deviations of the difference of two
/// curves that are rounded apart. The deviation of one is measured, since only training itself says how an error made
/// in one step grows or dies in the next ones: 8 runs on the CPU, to whose every result the noise is added that
/// rounding may make of it. To that comes the rounding of the loss itself, a sum over all outputs.
class training_judge {
 public:
  training_judge() : expected_(curve_on_cpu()), allowed_(expected_.size()) {
    constexpr int runs = 8;
    for (unsigned run = 0; run < runs; ++run) {
      auto const noisy = curve_on_cpu(rounding_noise(900 + run));
      for (std::size_t k = 0; k < noisy.size(); ++k)
        allowed_[k] += (noisy[k] - expected_[k]) * (noisy[k] - expected_[k]) / runs;
    }
    double const outputs = double(training_layers[1].m * training_tokens);
    for (std::size_t k = 0; k < allowed_.size(); ++k)
      allowed_[k] =
          4 * std::sqrt(2 * allowed_[k]) + 4 * (std::sqrt(outputs) + 4) * double(eps_of<float>()) * expected_[k];
  }
  std::vector<double> const& expected() const { return expected_; }
  double allowed(std::size_t step) const { return allowed_[step]; }

  /// What is wrong with a curve of so many steps; empty if nothing is.
  std::string fault(std::vector<double> const& curve, int steps = training_steps) const {
    if (curve.size() != std::size_t(steps)) return "another number of steps";
    for (std::size_t k = 0; k < curve.size(); ++k)
      if (!(std::abs(curve[k] - expected_[k]) <= allowed_[k]))
        return "the loss of step " + std::to_string(k) + " is " + std::to_string(curve[k]) + ", on the CPU " +
               std::to_string(expected_[k]) + ", allowed " + std::to_string(allowed_[k]);
    return "";
  }

 private:
  std::vector<double> expected_, allowed_;
};

inline wide_matrix<double> wide_matrix_of(std::vector<double> const& X, index_t rows, index_t cols) {
  return widen(Eigen::Map<dense_matrix<double> const>(X.data(), rows, cols));
}

/// ‖I − QᵀQ‖_F / √m of Q = I − Û T Ûᵀ, from the form as the machine made it.
inline long double orthogonality_of(training_result::form const& f) {
  auto const U = wide_matrix_of(f.vectors, f.m, f.r), T = wide_matrix_of(f.factor, f.r, f.r);
  wide_matrix<float> const I = wide_matrix<float>::Identity(f.m, f.m), Q = I - times(U, T, adjoint_copy(U));
  return (I - times(adjoint_copy(Q), Q)).norm() / std::sqrt(static_cast<long double>(f.m));
}
/// Its bound by the documented accuracy, as in adapter_test: a column of Q is off by line_bound, in both factors of
/// each element of the Gram matrix.
inline long double orthogonality_bound(training_result::form const& f) {
  return 2 * line_bound<float>(f.m, f.r) * std::sqrt(static_cast<long double>(f.m));
}

/// 16-bit activations on a machine: the loss falls as in float, the parameters move, and what is made of them is
/// orthogonal to the accuracy of float, not of the activations.
inline void check_16_bit_training(training_judge const& judge, training_result const& result) {
  double const reached = judge.expected().back() / judge.expected().front();
  CHECK(result.curve.size() == std::size_t(training_steps));
  CHECK(result.curve.back() / result.curve.front() <= 2 * reached);
  auto const start = training_example();
  long double moved = 0, length = 0;
  auto const& trained = result.layers.at(0).U;
  for (std::size_t i = 0; i < trained.size(); ++i) {
    long double const before = start.layers[0].U[i], step = static_cast<long double>(trained[i]) - before;
    moved += step * step, length += before * before;
  }
  CHECK(std::sqrt(moved / length) >= 0.05L);
  REQUIRE(result.forms.size() == 4);
  for (auto const& form : result.forms) {
    CHECK(orthogonality_of(form) <= orthogonality_bound(form));
    CHECK(orthogonality_of(form) > 0);  // a form was made
  }
}

/// The merged weights, the weights back from them and the gradients of merge, by one reflector after another. Bounds as
/// of merge_test and activations_test, with norms of whole matrices; what is stored in 16 bits is rounded once by merge
/// and up to three times by unmerge, which divides by s.
template <class T>
void check_merged(training_result const& result) {
  REQUIRE(result.layers.size() == 2);
  auto const start = training_example();
  for (std::size_t i = 0; i < 2; ++i) {
    auto const& [m, n, ru, rv, scaled] = training_layers[i];
    auto const& got = result.layers[i];
    dense_matrix<T> const stored = Eigen::Map<dense_matrix<float> const>(start.layers[i].M.data(), m, n).cast<T>();
    auto const M = wide_matrix<double>(widen(stored));
    auto const U = wide_matrix_of(got.U, m, ru), V = wide_matrix_of(got.V, n, rv);
    auto const s = scaled ? wide_matrix_of(got.s, m, 1) : wide_matrix<double>(wide_matrix<double>::Ones(m, 1));
    auto const rows = [&](wide_matrix<double> X) {
      for (index_t k = 0; k < X.rows(); ++k) X.row(k) *= s(k, 0);
      return X;
    };
    wide_matrix<double> const rotated = reference_apply(V, M, side::right), P = rows(rotated);
    auto const left = reference_backward(U, P, M);
    auto const right = reference_backward(V, M, rows(left.X), side::right);
    auto const root = [](index_t k) { return std::sqrt(static_cast<long double>(k)); };
    long double const relative =
        line_bound<T>(m, ru) + line_bound<T>(n, rv) + 2 * (root(m) + 2 * root(n) + 5) * eps_of<T>();
    long double const sigma = s.cwiseAbs().maxCoeff(), condition = sigma / s.cwiseAbs().minCoeff(), size = M.norm();
    auto const check = [&](std::vector<double> const& part, wide_matrix<double> const& expected, bound_matrix bound) {
      CHECK(within(wide_matrix_of(part, expected.rows(), expected.cols()), expected, bound));
    };
    auto const everywhere = [](wide_matrix<double> const& X, long double bound) {
      return bound_matrix(bound_matrix::Constant(X.rows(), X.cols(), bound));
    };
    wide_matrix<double> const Mhat = reference_apply(U, P);
    check(got.Mhat, Mhat,
          everywhere(Mhat, relative * sigma * size + storage_rounding<T>() * Mhat.cwiseAbs().maxCoeff()));
    check(got.M, M, everywhere(M, (2 * relative + 4 * storage_rounding<T>()) * condition * size));
    for (auto const& [gradient, vectors, expected] :
         {std::tuple{&got.dU, &U, &left.U}, std::tuple{&got.dV, &V, &right.U}})
      for (index_t j = 0; j < vectors->cols(); ++j)
        CHECK(within(wide_matrix_of(*gradient, vectors->rows(), vectors->cols()).col(j), expected->col(j),
                     16 * relative * sigma * size * size / vectors->col(j).norm()));
    if (!scaled) continue;
    wide_matrix<double> ds(m, 1);
    for (index_t k = 0; k < m; ++k) ds(k, 0) = rotated.row(k).dot(left.X.row(k));
    check(got.ds, ds, everywhere(ds, 2 * relative * size * size));
  }
}

}  // namespace hoft_test
