// hoft/adapter/paired_gaussian.hpp: reflectors at the start of training, when Q = I.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/view/matrix_view.hpp>

#include <random>

namespace HOFT_TARGET_NAMESPACE {

/// U := (u₁ u₁ u₂ u₂ ⋯) with standard Gaussian u_k, so that H(u_k) H(u_k) = I cancels and Q(U) = I (with the exact
/// inverse; the truncated one is not the identity here). An odd last column is zero, which is the identity by itself
/// and, its gradient being zero, never trains: choose an even r.
///
/// @param U   [m, r] Out
/// @param rng a standard uniform random bit generator; the draws depend on m and r alone
/// Accuracy: ‖Q − I‖_F/√m ≤ √r ε for m ≥ r (the errors of r/2 pairs), for smaller m the bound of `accumulate`.
/// Source: the initialisation of Arcas et al., arXiv 2505.16531.
template <class T, class L, class Rng>
void paired_gaussian(matrix_view<T, L> U, Rng& rng) {
  using real = real_t<T>;
  using A = accumulator_t<T>;
  std::normal_distribution<real> normal;
  for (index_t j = 0; j < U.cols; j += 2) {
    bool const pair = j + 1 < U.cols;
    for (index_t i = 0; i < U.rows; ++i) {
      A u(0);
      if (pair) {
        if constexpr (is_complex<A>) {
          real const re = normal(rng), im = normal(rng);
          u = A(re, im);
        } else {
          u = normal(rng);
        }
        U(i, j + 1) = static_cast<T>(u);
      }
      U(i, j) = static_cast<T>(u);
    }
  }
}

}  // namespace HOFT_TARGET_NAMESPACE
