// SPDX-License-Identifier: BSD-3-Clause
// hoft/householder/accumulate.hpp: from reflectors to their compact WY form.
#pragma once
#include <hoft/householder/compact_wy.hpp>
#include <hoft/view/shape.hpp>

#include <span>
#include <utility>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// T by the first k terms of the Neumann series, in Horner form: T₁ = D, T_{j+1} = D − D A T_j with D = diag(tau).
/// all [b, k b] receives T₁ … T_k side by side; scratch [b, b].
template <class Policy, class A>
void neumann_terms(Policy const& policy, typename compact_wy_view<A const>::factor_view const& q, index_t terms,
                   matrix_view<A> all, matrix_view<A> scratch) {
  index_t const b = q.rank;
  ops<Policy>::set_diagonal(policy, q.tau, all.columns(0, b));
  for (index_t term = 1; term < terms; ++term) {
    auto const next = all.columns(term * b, b);
    ops<Policy>::multiply(policy, A(-1), q.gram, op::plain, all.columns((term - 1) * b, b), scratch);
    ops<Policy>::scale_rows(policy, q.tau, op::plain, scratch, scratch);
    ops<Policy>::copy(policy, all.columns(0, b), next);
    ops<Policy>::add(policy, scratch, next);
  }
}

template <class A>
struct accumulate_pieces {
  A* form = nullptr;         // recursion of the triangular inverse
  matrix_view<A> all, term;  // the series
  template <class Policy>
  accumulate_pieces(arena& memory, Policy const& policy, index_t r, index_t block, inverse kind) {
    index_t const b = (std::min)(block, r);
    if (kind.truncated) {
      all = memory.matrix<A>(b, b * useful_terms(kind, b));
      term = memory.matrix<A>(b, b);
    } else {
      form = memory.array<A>(ops<Policy>::form_factor_scratch(policy, b));
    }
  }
};

inline void require_inverse(char const* function, inverse kind) {
  if (kind.truncated) require_at_least<argument_error>(function, "neumann.terms", kind.terms, 1);
}

template <class TU, class LU, class A>
void require_accumulate(matrix_view<TU, LU> U, compact_wy_view<A> const& Q, inverse kind) {
  constexpr char const* function = "accumulate";
  require_view(function, "U", U);
  require_inverse(function, kind);
  require_form_memory(function, "Q", Q, U.rows, U.cols);
  if (kind.truncated) require_at_least(function, "Q.block", Q.block, U.cols);
}

template <class Policy, class A>
void form_factors(Policy const& policy, compact_wy_view<A> const& Q, accumulate_pieces<A> const& pieces) {
  for (index_t i = 0; i < Q.blocks(); ++i) {
    auto const q = Q.at(i);
    // Below the smaller triangles of a last block.
    ops<Policy>::fill(policy, A(0), Q.factor.block(q.rank, q.first, Q.block - q.rank, q.rank));
    ops<Policy>::fill(policy, A(0), Q.gram.block(q.rank, q.first, Q.block - q.rank, q.rank));
    ops<Policy>::gram_upper(policy, matrix_view<A const>(q.U), q.gram, Q.explicit_tau ? vector_view<A>{} : q.tau);
    if (Q.kind.truncated) {
      auto const constant = compact_wy_view<A const>(Q).at(i);
      index_t const terms = useful_terms(Q.kind, q.rank);
      neumann_terms(policy, constant, terms, pieces.all, pieces.term);
      ops<Policy>::copy(policy, pieces.all.columns((terms - 1) * q.rank, q.rank), q.T);
    } else {
      ops<Policy>::form_factor(policy, matrix_view<A const>(q.gram), vector_view<A const>(q.tau), q.T, pieces.form);
    }
  }
}

}  // namespace detail

/// Bytes of workspace for `accumulate` of r reflectors in blocks of `block`.
/// @throws hoft::shape_error if r is negative, hoft::argument_error if block < 1 or neumann.terms < 1
template <accumulating A, execution_policy Policy>
[[nodiscard]] index_t accumulate_workspace(Policy const& policy, index_t r, index_t block, inverse kind = {}) {
  constexpr char const* function = "accumulate_workspace";
  detail::require_at_least(function, "r", r, 0);
  detail::require_at_least<argument_error>(function, "block", block, 1);
  detail::require_inverse(function, kind);
  return detail::workspace_size<detail::accumulate_pieces<A>>(policy, r, block, kind);
}

/// Q := H(u₁) H(u₂) ⋯ H(u_r) in compact WY form, H(u) = I − 2 u uᴴ/(uᴴu), H(0) = I.
///
/// @param policy where to compute
/// @param U      [m, r] In: the reflectors, of any non-zero length (16-bit storage is read as float)
/// @param Q      [m, r] Out: views cut by carve_compact_wy(memory, m, r, block_for(r, kind)); all of its memory is
///               overwritten and its `kind` and `filled` set. Must not overlap U.
/// @param kind   exact{} (Q is orthogonal to rounding) or neumann{k} (the paper's truncated series; needs block >= r)
/// @param work   at least accumulate_workspace bytes
/// @throws hoft::shape_error, hoft::argument_error (neumann.terms < 1), hoft::workspace_error, before anything is
/// written
///
/// Cost: 4 m r + m r b flops and 2 b² r / 3 for the triangles (b = Q.block), or 2 k r³ for neumann{k}. U is read once.
/// Accuracy (exact): ‖I − QᴴQ‖_F/√m ≤ 8 √(b r (1 + b/m)) ε, b = min(Q.block, r): linear in r in one triangle,
/// 64 √r √(1 + 64/m) ε in blocks of 64. Nearly parallel columns reach half of it at worst; Gaussian ones with m ≥ r
/// stay below 2 √r ε. Derived for rounding errors that are independent, from |T_ij| ≤ 4 (so ‖T‖_F ≤ √8 b). Columns may
/// have any norm that the type holds. NaN or infinity in U makes Q NaN. Source: Joffrain, Low, Quintana-Ortí, van de
/// Geijn, Van Zee, ACM TOMS 32(2), 2006 (the UT transform); LAPACK's larft.
template <execution_policy Policy, class TU, class LU, class A>
void accumulate(Policy const& policy, matrix_view<TU, LU> U, compact_wy_view<A>& Q, inverse kind, workspace work) {
  static_assert(accumulating<A> && std::same_as<accumulator_t<TU>, A>,
                "hoft::accumulate: Q must hold the accumulator type of U.");
  detail::require_accumulate(U, Q, kind);
  auto const pieces = detail::carve<detail::accumulate_pieces<A>>("accumulate", work, policy, U.cols, Q.block, kind);
  ops<Policy>::template agree_on_form<A>(policy, U.cols, Q.block, kind);
  Q.kind = kind;
  Q.explicit_tau = Q.filled = false;
  Q.ranks = ops<Policy>::rank_count(policy);
  if (!kind.truncated && ops<Policy>::accumulate_batch(policy, std::span(&std::as_const(U), 1), std::span(&Q, 1)))
    return void(Q.filled = true);
  ops<Policy>::normalise_columns(policy, U, Q.vectors, Q.scales);
  detail::form_factors(policy, Q, pieces);
  Q.filled = true;
}

/// Q := H₁ H₂ ⋯ H_r with H_i = I − tau_i v_i v_iᴴ, in the convention of LAPACK's geqrf and of
/// torch.linalg.householder_product: v_i is zero above row i, one in row i, and below it column i of V. What V holds on
/// and above its diagonal is not read.
///
/// @param policy where to compute
/// @param V      [m, r] In: r <= m
/// @param tau    [r] In: tau_i = 0 makes H_i the identity
/// @param Q      [m, r] Out: as in the form without tau
/// @param work   at least accumulate_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, before anything is written
///
/// Cost: m r b + 2 b² r / 3 flops. Accuracy: as LAPACK's larft. Q is unitary only if tau is what makes each H_i so.
template <execution_policy Policy, class TV, class LV, class TT, class A>
void accumulate(Policy const& policy, matrix_view<TV, LV> V, vector_view<TT> tau, compact_wy_view<A>& Q,
                workspace work) {
  static_assert(accumulating<A> && std::same_as<accumulator_t<TV>, A> && std::same_as<accumulator_t<TT>, A>,
                "hoft::accumulate: Q must hold the accumulator type of V and tau.");
  constexpr char const* function = "accumulate";
  detail::require_view(function, "V", V);
  detail::require_at_most(function, "V.cols", V.cols, V.rows);
  detail::require_equal(function, "tau.size", tau.size, V.cols);
  detail::require_form_memory(function, "Q", Q, V.rows, V.cols);
  auto const pieces = detail::carve<detail::accumulate_pieces<A>>(function, work, policy, V.cols, Q.block, inverse{});
  Q.kind = inverse{};
  Q.explicit_tau = true;
  Q.filled = false;
  Q.ranks = ops<Policy>::rank_count(policy);
  ops<Policy>::unit_lower(policy, V, Q.vectors);
  ops<Policy>::copy(policy, tau, Q.tau);
  ops<Policy>::fill(policy, real_t<A>(1), Q.scales);
  detail::form_factors(policy, Q, pieces);
  Q.filled = true;
}

}  // namespace HOFT_TARGET_NAMESPACE
