// SPDX-License-Identifier: BSD-3-Clause
// method.hpp: what a fine-tuning method is to the harness. A method is one header of this folder and one line of
// all.hpp.
#pragma once
#include "description.hpp"

#include <hoft/eigen/adapter.hpp>

#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace bench::methods {

using hoft::as_eigen;
using hoft::as_view;
using hoft::matrix_view;
template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

template <class T>
struct parameter {
  matrix<T> value, gradient;
};

/// A method on one weight, with its parameters as training starts. Everything that a pass needs beyond its arguments it
/// allocates itself, so that an allocator can count it; backward passes follow the forward pass of the same arguments.
template <class T>
class method {
 public:
  virtual ~method() = default;
  method() = default;
  method(method const&) = delete;
  method& operator=(method const&) = delete;

  std::deque<parameter<T>>& parameters() { return parameters_; }
  std::deque<parameter<T>> const& parameters() const { return parameters_; }

  /// On the weight: Mhat from M, both [m, n]; gradients from dMhat = ∂L/∂M̂, which may be overwritten.
  virtual void merge(matrix_view<T const> M, matrix_view<T> Mhat) = 0;
  virtual void merge_backward(matrix_view<T const> M, matrix_view<T const> Mhat, matrix_view<T> dMhat) = 0;
  /// On activations: y [m, t] = M̂ x; gradients and dx from dy = ∂L/∂y, which may be overwritten.
  virtual void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) = 0;
  virtual void backward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T const> y, matrix_view<T> dy,
                        matrix_view<T> dx) = 0;

 protected:
  parameter<T>& make(index_t rows, index_t cols) {
    return parameters_.emplace_back(parameter<T>{matrix<T>::Constant(rows, cols, T(0)), matrix<T>(rows, cols)});
  }

 private:
  std::deque<parameter<T>> parameters_;
};

template <class T, class Rng>
void fill_gaussian(matrix<T>& A, double deviation, Rng& rng) {
  std::normal_distribution<double> normal(0, deviation);
  for (index_t j = 0; j < A.cols(); ++j)
    for (index_t i = 0; i < A.rows(); ++i) A(i, j) = static_cast<T>(normal(rng));
}

/// (u₁ u₁ u₂ u₂ …): a product of reflectors that starts as the identity; an odd last column is not zero, so that it
/// trains.
template <class T, class Rng>
void fill_paired(matrix<T>& U, Rng& rng) {
  fill_gaussian(U, 1, rng);
  for (index_t j = 0; j + 1 < U.cols(); j += 2) U.col(j + 1) = U.col(j);
}

// --- the list ---------------------------------------------------------------------------------------------------

template <class T>
struct entry {
  description const* about;
  std::function<std::unique_ptr<method<T>>(sizes const&, std::mt19937_64&)> make;
};

/// All methods over numbers of type T, in the order of all.hpp.
template <class T>
std::vector<entry<T>>& list() {
  static std::vector<entry<T>> methods;
  return methods;
}

template <template <class> class Method, class T>
bool enter() {
  list<T>().push_back({&Method<T>::about, [](sizes const& s, std::mt19937_64& rng) -> std::unique_ptr<method<T>> {
                         return std::make_unique<Method<T>>(s, rng);
                       }});
  return true;
}

/// Ends the header of a method. Its source is compiled for one BENCH_SCALAR after another.
#define BENCH_METHOD(name)                                                                                      \
  namespace {                                                                                                   \
  [[maybe_unused]] bool const name##_entered = ::bench::methods::enter<::bench::methods::name, BENCH_SCALAR>(); \
  }

// --- the products that all of them share ---------------------------------------------------------------------------

namespace detail {

/// By Eigen; compiled once for each scalar, in methods.cpp.
template <class T>
void gemm(bool transpose_a, bool transpose_b, T alpha, matrix_view<T const> A, matrix_view<T const> B, T beta,
          matrix_view<T> C);

template <class T>
using constant = std::type_identity_t<matrix_view<T const>>;

}  // namespace detail

/// C := beta C + alpha A B, beta 0 or 1.
template <class T>
void multiply(detail::constant<T> A, detail::constant<T> B, matrix_view<T> C, double alpha = 1, double beta = 0) {
  detail::gemm<T>(false, false, T(alpha), A, B, T(beta), C);
}
/// C := beta C + alpha AᵀB.
template <class T>
void multiply_tn(detail::constant<T> A, detail::constant<T> B, matrix_view<T> C, double alpha = 1, double beta = 0) {
  detail::gemm<T>(true, false, T(alpha), A, B, T(beta), C);
}
/// C := beta C + alpha A Bᵀ.
template <class T>
void multiply_nt(detail::constant<T> A, detail::constant<T> B, matrix_view<T> C, double alpha = 1, double beta = 0) {
  detail::gemm<T>(false, true, T(alpha), A, B, T(beta), C);
}

}  // namespace bench::methods
