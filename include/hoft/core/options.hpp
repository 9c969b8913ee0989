// SPDX-License-Identifier: BSD-3-Clause
// hoft/core/options.hpp: the small words that choose a variant.
#pragma once
#include <hoft/core/index.hpp>

#include <concepts>
#include <type_traits>

namespace HOFT_NAMESPACE {

/// On which side of X the product stands: Q X or X Q.
enum class side { left, right };

/// Q itself or its adjoint Qᴴ.
enum class op { plain, adjoint };

[[nodiscard]] constexpr op adjoint_of(op o) noexcept { return o == op::plain ? op::adjoint : op::plain; }

/// T = S⁻¹ to rounding: Q is orthogonal (unitary). The default everywhere.
struct exact {};

/// T by the first `terms` terms of the Neumann series, as in the HOFT paper (terms = 2): Q is only approximately
/// orthogonal. Kept to reproduce the paper; `terms >= r` equals the exact inverse.
struct neumann {
  index_t terms = 2;
};

/// How T is obtained from S.
struct inverse {
  bool truncated = false;
  index_t terms = 0;  ///< of the series, when truncated
  inverse() = default;
  constexpr inverse(exact) noexcept {}
  constexpr inverse(neumann series) noexcept : truncated(true), terms(series.terms) {}
};

/// What an adapter's backward pass knows of its forward pass y = Q_U diag(s) q, q = base − K v, beside projections.
enum class saved_quantity { y, q, base };

/// A type that says where and how to compute. Its member type `backend` has the operations (backend/concept.hpp).
template <class P>
concept execution_policy = requires {
  typename std::remove_cvref_t<P>::backend;
};

/// The operations of a policy's backend: static functions that take the policy first.
template <execution_policy P>
using ops = typename std::remove_cvref_t<P>::backend;

}  // namespace HOFT_NAMESPACE
