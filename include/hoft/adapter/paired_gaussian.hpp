// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/paired_gaussian.hpp: reflectors at the start of training, when Q = I, drawn where they are needed.
#pragma once
#include <hoft/backend/random.hpp>
#include <hoft/core/options.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// U := (u₁ u₁ u₂ u₂ ⋯) with standard Gaussian u_k, so that H(u_k) H(u_k) = I cancels and Q(U) = I (with the exact
/// inverse; the truncated one is not the identity here). An odd last column is zero, which is the identity by itself
/// and, its gradient being zero, never trains: choose an even r.
///
/// @param policy where to compute
/// @param U      [m, r] Out: real or complex, or stored in 16 bits
/// @param seed   another one for another U: two of the same seed begin with the same numbers
/// @throws hoft::shape_error before anything is written
///
/// U(i, 2k) is standard_gaussian<T>(seed, i, k): the same bits for any size, layout, backend, compiler and standard
/// library.
/// Cost: one pass over U; on a GPU one launch.
/// Accuracy: ‖Q − I‖_F/√m ≤ √r ε for m ≥ r (the errors of r/2 pairs), for smaller m the bound of `accumulate`.
/// Source: the initialisation of Arcas et al., arXiv 2505.16531.
template <execution_policy Policy, scalar T, class L>
void paired_gaussian(Policy const& policy, matrix_view<T, L> U, std::uint64_t seed) {
  detail::require_view("paired_gaussian", "U", U);
  if (U.empty()) return;
  // As many columns as there are pairs: it says how far to walk.
  matrix_view<T, L> const pairs(U.data, U.rows, (U.cols + 1) / 2, U.ld);
  ops<Policy>::for_each_element(policy, pairs, detail::draw_pair<T, L>{U, seed});
}

}  // namespace HOFT_TARGET_NAMESPACE
