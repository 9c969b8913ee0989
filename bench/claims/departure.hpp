// SPDX-License-Identifier: BSD-3-Clause
// departure.hpp: how far a compact WY form is from an orthogonal matrix.
#pragma once
#include <hoft/eigen/compact_wy.hpp>

#include <algorithm>
#include <cmath>

namespace bench::claims {

/// ‖I − QᵀQ‖_F = ‖I − QQᵀ‖_F of Q = I − U T Uᵀ without an m×m product: I − QQᵀ = U S Uᵀ with S = T + Tᵀ − T G Tᵀ and
/// G = UᵀU, and ‖U S Uᵀ‖_F² = tr(G S G S). In long double, so that the measure's own rounding stays below that of T and
/// U.
inline long double departure(hoft::compact_wy<double> const& Q) {
  using wide = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic>;
  wide const U = Q.vectors().cast<long double>(), T = Q.factor().cast<long double>();
  wide const G = U.transpose() * U, S = T + T.transpose() - T * G * T.transpose(), GS = G * S;
  return std::sqrt(std::max(0.0L, GS.cwiseProduct(GS.transpose()).sum()));
}

}  // namespace bench::claims
