// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/orthogonality.hpp: the orthogonality of a compact WY form.
#pragma once
#include <hoft/eigen/apply.hpp>
#include <hoft/reference/orthogonality.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// ‖I − QᴴQ‖_F/√m of Q as `apply` computes it: Q is materialised, 4 m² r and m³ flops, m² elements.
/// @see orthogonality_error of a dense matrix.
template <class A>
[[nodiscard]] auto orthogonality_error(compact_wy<A> const& Q) {
  return orthogonality_error(materialize(Q, Q.rows()));
}

}  // namespace HOFT_TARGET_NAMESPACE
