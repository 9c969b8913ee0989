// SPDX-License-Identifier: BSD-3-Clause
// testing_orthogonality.cpp: three orthogonal layers that know nothing of hoft, and their tests against its reference.
// docs/guide/testing-orthogonality.md quotes it. Fails if a layer does.
#include <hoft/reference/gradient.hpp>
#include <hoft/reference/hyperspherical_energy.hpp>
#include <hoft/reference/orthogonality.hpp>
#include <hoft/reference/reflectors.hpp>
#include <hoft/reference/singular_values.hpp>

#include <Eigen/Core>
#include <Eigen/Jacobi>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <cmath>
#include <iostream>
#include <limits>

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

// Your layer, number one: m - 1 rotations, each of two neighbouring rows.
template <class T>
struct rotation_layer {
  vector<T> angles;
  Eigen::JacobiRotation<T> rotation(Eigen::Index k) const { return {std::cos(angles(k)), std::sin(angles(k))}; }

  matrix<T> forward(matrix<T> X) const {
    for (Eigen::Index k = 0; k < angles.size(); ++k) X.applyOnTheLeft(k, k + 1, rotation(k));
    return X;
  }
  // ∂L/∂angles from Y and dY = ∂L/∂Y.
  vector<T> backward(matrix<T> Y, matrix<T> dY) const {
    vector<T> dangles(angles.size());
    for (Eigen::Index k = angles.size(); k-- > 0;) {
      dangles(k) = dY.row(k).dot(Y.row(k + 1)) - dY.row(k + 1).dot(Y.row(k));
      Y.applyOnTheLeft(k, k + 1, rotation(k).adjoint());
      dY.applyOnTheLeft(k, k + 1, rotation(k).adjoint());
    }
    return dangles;
  }
};

// Your layer, number two: H(u1) ... H(ur) X, one reflector after another.
template <class T>
matrix<T> reflected(matrix<T> const& U, matrix<T> X) {
  for (Eigen::Index k = U.cols(); k-- > 0;)
    for (Eigen::Index j = 0; j < X.cols(); ++j)
      X.col(j) -= U.col(k) * (2 * U.col(k).dot(X.col(j)) / U.col(k).squaredNorm());
  return X;
}

// Your layer, number three: the columns of A made orthonormal, one after another (modified Gram-Schmidt).
template <class T>
matrix<T> orthonormalised(matrix<T> A) {
  for (Eigen::Index j = 0; j < A.cols(); ++j) {
    for (Eigen::Index k = 0; k < j; ++k) A.col(j) -= A.col(k) * A.col(k).dot(A.col(j));
    A.col(j).normalize();
  }
  return A;
}

int failures = 0;

void check(char const* what, double error, double bound) {
  bool const good = error <= bound;  // NaN is not
  std::cout << (good ? "passed: " : "FAILED: ") << what << ' ' << error << ", allowed " << bound << '\n';
  if (!good) ++failures;
}

constexpr double eps_float = std::numeric_limits<float>::epsilon(), eps_double = std::numeric_limits<double>::epsilon();

void is_it_orthogonal() {
  constexpr int m = 40, n = 12;
  rotation_layer<float> const layer{3 * vector<float>::Random(m - 1)};
  matrix<float> const W = matrix<float>::Random(m, n);

  matrix<float> const Q = layer.forward(matrix<float>::Identity(m, m)), What = layer.forward(W);
  double const bound = 3 * m * eps_float;  // a rotation adds at most 3 ε to what it turns, its cosine and sine included
  check("orthogonality error", hoft::orthogonality_error(Q), bound);
  check("singular value drift", hoft::singular_value_drift(W, What), bound);
  double const energy = hoft::hyperspherical_energy(W), change = hoft::hyperspherical_energy_change(W, What);
  check("change of energy", std::abs(change) / energy, bound);
}

void is_its_gradient_right() {
  constexpr int m = 9, n = 4;
  rotation_layer<double> const layer{vector<double>::Random(m - 1)};
  matrix<double> const X = matrix<double>::Random(m, n), C = matrix<double>::Random(m, n);
  // The loss is the sum of C ∘ Y, so that C is its gradient at the output.
  auto const loss = [&](vector<double> const& angles) {
    return rotation_layer<double>{angles}.forward(X).cwiseProduct(C).sum();
  };
  auto const compared = hoft::check_gradient(loss, layer.angles, layer.backward(layer.forward(X), C));
  check("gradient", compared.error, 10 * std::pow(eps_double, 2. / 3));
}

void is_it_the_product() {
  constexpr int m = 50, r = 7, n = 5;
  matrix<float> const U = matrix<float>::Random(m, r), X = matrix<float>::Random(m, n), Y = reflected(U, X);
  matrix<long double> expected = X.cast<long double>();
  hoft::reference::apply(U.cast<long double>(), expected);
  // A reflector adds a few roundings of sums of m terms.
  double const bound = 4 * r * std::sqrt(m) * eps_float;
  for (int j = 0; j < n; ++j) {
    auto const off = Y.col(j).cast<long double>() - expected.col(j);
    check("a column of H(u1) ... H(ur) X", static_cast<double>(off.norm() / expected.col(j).norm()), bound);
  }
}

void how_far_is_it() {
  constexpr int m = 40, n = 8;
  matrix<float> A = matrix<float>::Random(m, n);
  A.col(n - 1) = A.col(0) + 1e-2f * A.col(n - 1);  // nearly parallel
  matrix<double> const Q = orthonormalised(A).cast<double>(), exact = A.cast<double>();

  // The nearest matrix with orthonormal columns.
  Eigen::JacobiSVD<matrix<double>> const svd(Q, Eigen::ComputeThinU | Eigen::ComputeThinV), of_A(exact);
  matrix<double> const nearest = svd.matrixU() * svd.matrixV().transpose();
  // The Q of A = Q R, where R has a positive diagonal.
  Eigen::HouseholderQR<matrix<double>> const qr(exact);
  matrix<double> expected = qr.householderQ() * matrix<double>::Identity(m, n);
  for (int j = 0; j < n; ++j)
    if (qr.matrixQR()(j, j) < 0) expected.col(j) *= -1;

  // Rounding of A's size, of which nearly parallel columns leave little: the condition number of A says how little.
  double const condition = of_A.singularValues()(0) / of_A.singularValues()(n - 1), bound = n * condition * eps_float;
  check("distance from the nearest orthonormal columns", (Q - nearest).norm() / std::sqrt(n), bound);
  check("distance from the Q of A = Q R", (Q - expected).norm() / std::sqrt(n), bound);
}

int main() {
  is_it_orthogonal();
  is_its_gradient_right();
  is_it_the_product();
  how_far_is_it();
  return failures == 0 ? 0 : 1;
}
