// The kernels of the CUDA backend on the host: what they compute, in steps forwards and backwards.
#include <hoft/cuda/host.hpp>

#include "cuda/bodies.hpp"
#include "cuda/calls_of.hpp"

using namespace hoft_test;

namespace {

struct host_machine {
  template <class T>
  using Allocator = std::allocator<T>;
  bool reversed = false;
  hoft::cuda::host policy() const { return {reversed}; }
  void finish() const {}
};

host_machine machine() { return {}; }

}  // namespace

HOFT_CUDA_TESTS(host_machine, machine, float, double, std::complex<float>, Eigen::half, Eigen::bfloat16)

TEST_CASE_TEMPLATE("no step depends on the order of its parts", T, float, std::complex<float>, Eigen::half) {
  for (auto const [m, r, n, block] : {cuda_shape{70, 65, 40, 64}, {300, 33, 9, 16}, {33, 6, 70, 64}}) {
    dense_matrix<T, row_major> const U = gaussian<T, row_major>(m, r, 9100), X = gaussian<T, row_major>(m, n, 9101);
    using tests = cuda_tests<host_machine, T, row_major>;
    host_machine const forwards{false}, backwards{true};
    auto const a = tests{forwards}.accumulated(U, block), b = tests{backwards}.accumulated(U, block);
    for (auto part :
         {&hoft::compact_wy_view<hoft::accumulator_t<T>>::vectors,
          &hoft::compact_wy_view<hoft::accumulator_t<T>>::factor, &hoft::compact_wy_view<hoft::accumulator_t<T>>::gram})
      CHECK(same_bits(hoft::as_eigen(a.view.*part), hoft::as_eigen(b.view.*part)));
    CHECK(same_bits(tests{forwards}.applied(a, X, side::left, op::plain),
                    tests{backwards}.applied(b, X, side::left, op::plain)));
  }
}

TEST_CASE_TEMPLATE("the inverse of a triangle by one block, of orders around its blocks", T, double,
                   std::complex<float>) {
  for (index_t r : {1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 100, 128, 129, 200, 256, 300}) {
    std::string const label = text_of({{"r", r}});
    INFO(label);
    dense_matrix<T> A =
        gaussian<T>(r, r, unsigned(r), 0.3 / std::sqrt(double(r))).template triangularView<Eigen::StrictlyUpper>();
    Eigen::Matrix<T, Eigen::Dynamic, 1> tau = gaussian<T>(r, 1, unsigned(r + 1));
    if (r > 3) tau(3) = T(0);
    dense_matrix<T> F(r, r);
    for (bool reversed : {false, true}) {
      F.setConstant(scalar_of<T>(std::numeric_limits<double>::quiet_NaN()));
      hoft::cuda::form_factor(hoft::cuda::host{reversed}, hoft::as_view(std::as_const(A)),
                              hoft::as_vector_view(std::as_const(tau)), hoft::as_view(F), static_cast<T*>(nullptr));
      // (I + D A) F = D, each sum to λ √k u of its terms' magnitudes.
      auto const f = widen(F), a = widen(A);
      wide_matrix<T> D = wide_matrix<T>::Zero(r, r), residual(r, r);
      for (index_t j = 0; j < r; ++j) D(j, j) = widened(tau(j));
      residual = f + times(D, times(a, f)) - D;
      bound_matrix const size = f.cwiseAbs() + times(bound_matrix(D.cwiseAbs()),
                                                     times(bound_matrix(a.cwiseAbs()), bound_matrix(f.cwiseAbs())));
      long double const factor = 4 * (std::sqrt(static_cast<long double>(r)) + 8) * eps_of<T>();
      CHECK(within(residual, wide_matrix<T>::Zero(r, r),
                   bound_matrix((bound_matrix::Identity(r, r) + size * (1 + f.cwiseAbs().maxCoeff())) * factor)));
      for (index_t j = 0; j < r; ++j)
        for (index_t i = j + 1; i < r; ++i) CHECK(F(i, j) == T(0));
    }
  }
}
