// SPDX-License-Identifier: BSD-3-Clause
// What every backend must do: each operation by itself, and all calls together, on the CPU, on the CUDA backend run by
// the host, and on the naive backend of the examples. The tests of the CPU (apply_test, merge_test, ...) and of kernels
// (cuda_kernels_test) ask more of these two; what is asked here is what somebody who writes a backend may run.
#include "cuda_on_host/host.hpp"

#include "../examples/backend/naive.hpp"
#include "conformance/batches.hpp"
#include "conformance/calls.hpp"
#include "conformance/layers.hpp"
#include "conformance/operations.hpp"

#include <hoft/cuda/dense.hpp>

namespace naive_backend {

/// A weight as a base operator.
template <class T, class L>
struct dense_weight {
  naive policy;
  hoft::matrix_view<T const, L> M;
  void apply(hoft::matrix_view<T const, L> X, hoft::matrix_view<T, L> Y) const { product(M, false, X, Y); }
  void apply_adjoint(hoft::matrix_view<T const, L> X, hoft::matrix_view<T, L> Y) const {
    product(M.transposed(), true, X, Y);
  }

 private:
  template <class LM>
  static void product(hoft::matrix_view<T const, LM> A, bool conjugated, hoft::matrix_view<T const, L> X,
                      hoft::matrix_view<T, L> Y) {
    using sum_type = hoft::accumulator_t<T>;
    for (index_t j = 0; j < Y.cols; ++j)
      for (index_t i = 0; i < Y.rows; ++i) {
        sum_type sum(0);
        for (index_t l = 0; l < X.rows; ++l)
          sum += hoft::scalar_math::conjugate_if(conjugated, static_cast<sum_type>(A(i, l))) *
                 static_cast<sum_type>(X(l, j));
        Y(i, j) = static_cast<T>(sum);
      }
  }
};
template <class T, class L>
dense_weight<T, L> dense(naive const& policy, hoft::matrix_view<T const, L> M) {
  return {policy, M};
}

}  // namespace naive_backend

using namespace hoft_test;
using naive_backend::naive;

namespace {

hoft::cpu const one_thread{}, three_threads{.threads = 3};
hoft::cuda::host const kernels{}, kernels_backwards{.reversed = true};

}  // namespace

TEST_CASE_TEMPLATE("each operation: the naive backend", T, float, std::complex<double>) {
  check_operations<T>(naive{});
}
TEST_CASE_TEMPLATE("each operation: the CPU", T, float, std::complex<double>) {
  check_operations<T>(one_thread);
  check_operations<T>(three_threads);
}
TEST_CASE_TEMPLATE("each operation: kernels", T, float, std::complex<double>) {
  check_operations<T>(kernels);
  check_operations<T>(kernels_backwards);
}

TEST_CASE("all calls: the naive backend") {
  check_calls<std::complex<double>, col_major>(naive{});
  check_calls<Eigen::half, row_major>(naive{});
}
TEST_CASE("all calls: the CPU") {
  check_calls<std::complex<double>, col_major>(one_thread);
  check_calls<std::complex<double>, col_major>(three_threads);
  check_calls<Eigen::half, row_major>(three_threads);
}
// The largest shape takes the host, as a GPU, as long as all others; cuda_kernels_test has large ones.
TEST_CASE("all calls: kernels") {
  check_calls<std::complex<double>, col_major>(kernels, std::span(conformance_shapes).first(7));
}

TEST_CASE("batches: the naive backend") { check_batches<float, row_major>(naive{}); }

TEST_CASE("bound layers: the naive backend") {
  check_layers<std::complex<double>, col_major>(naive{});
  check_layers<float, row_major>(naive{});
}
TEST_CASE("bound layers: the CPU") {
  check_layers<std::complex<double>, col_major>(one_thread);
  check_layers<Eigen::half, row_major>(three_threads);
}
TEST_CASE("bound layers: kernels") {
  check_layers<std::complex<double>, col_major>(kernels);
  check_layers<Eigen::half, row_major>(kernels_backwards);
}
