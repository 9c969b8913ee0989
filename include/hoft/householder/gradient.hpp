// SPDX-License-Identifier: BSD-3-Clause
// hoft/householder/gradient.hpp: the parts of the backward pass that a panel of columns and a whole matrix share.
// adapter/ builds its backward passes on them.
#pragma once
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>

namespace HOFT_TARGET_NAMESPACE::detail {

/// Sums over columns: D [m, r] = ∂L/∂Û without what flows through T, dF [b, r] = ∂L/∂F_i side by side, and
/// E [b, r] = Σ Z_i dW_iᴴ side by side, which U_i still has to multiply (from-output form, math: X dWᴴ = Y dWᴴ + U (Z
/// dWᴴ)). D is packed while panels add to it, plain in the total.
template <class A, class Matrix = matrix_view<A>>
struct gradient_sums {
  Matrix D;
  matrix_view<A> dF, E;
};

template <class Policy, class A, class Packed>
void clear_sums(Policy const& policy, gradient_sums<A, Packed> const& part) {
  ops<Policy>::clear_packed(policy, part.D);
  ops<Policy>::fill(policy, A(0), part.dF);
  ops<Policy>::fill(policy, A(0), part.E);
}
template <class Policy, class A>
void clear_sums(Policy const& policy, gradient_sums<A> const& total) {
  ops<Policy>::fill(policy, A(0), total.D);
  ops<Policy>::fill(policy, A(0), total.dF);
  ops<Policy>::fill(policy, A(0), total.E);
}
template <class Policy, class A, class Packed>
void add_sums(Policy const& policy, gradient_sums<A, Packed> const& part, gradient_sums<A> const& total) {
  ops<Policy>::add_packed(policy, part.D, total.D);
  ops<Policy>::add(policy, part.dF, total.dF);
  ops<Policy>::add(policy, part.E, total.E);
}

/// Cuts a total from `memory`.
template <class A>
gradient_sums<A> carve_gradient_sums(arena& memory, index_t m, index_t r, index_t block) {
  gradient_sums<A> total;
  total.D = memory.matrix<A>(m, r);
  total.dF = memory.matrix<A>(block, r);
  total.E = memory.matrix<A>(block, r);
  return total;
}

/// One partial sum for each worker.
template <class Policy, class A, class L>
struct gradient_parts {
  packed_each_t<Policy, A, L> D;
  per_worker<A> dF, E;
  gradient_parts(arena& memory, Policy const& policy, index_t workers, index_t m, index_t r, index_t block)
      : D(ops<Policy>::template carve_packed_each<A, L>(policy, memory, workers, m, r)),
        dF(memory, workers, block, r),
        E(memory, workers, block, r) {}
  auto operator()(index_t worker) const {
    return gradient_sums<A, packed_t<Policy, A, L>>{D(worker), dF(worker), E(worker)};
  }
};

/// What the backward pass of a panel knows about the forward pass. If T is not A, there is one factor.
template <class A, class L, class T = A>
struct forward_state {
  matrix_view<T const, L> X;  ///< input of the only factor (`is_input`), or output of the factor applied last
  matrix_view<A, L> rewind;   ///< memory in which X may be taken back through the factors; X itself, or without data
  matrix_view<A const, L> W;  ///< [r, w] projections; without data they are computed here
  bool is_input = false;
  bool wanted = false;  ///< leave the input of the whole product in `rewind`
};

/// W := UᴴX, if W has data, and P := UᴴG, while `next` is fetched. If rows lie on several ranks, both sums are one
/// message.
template <class Policy, class Packed, class T, class A, class L>
void project_both(Policy const& policy, Packed const& U, matrix_view<T const, L> X, matrix_view<T const, L> G,
                  matrix_view<A, L> W, matrix_view<A, L> P, matrix_view<T const, L> next) {
  if (W.data == nullptr) return ops<Policy>::project_packed(policy, U, G, P, next);
  decltype(auto) of_rank = ops<Policy>::of_rank(policy);
  ops<Policy>::project_packed(of_rank, U, X, W);
  ops<Policy>::project_packed(of_rank, U, G, P, next);
  ops<Policy>::template sum_ranks<A>(policy, W, P);
}

/// One panel: dX := op(Q)ᴴ G, and the panel's terms added to `sums`. dX may be G. U holds the vectors of Q.
/// scratch [4 b, w].
template <class Policy, class A, class Packed, class T, class TD, class L>
void backward_panel(Policy const& policy, compact_wy_view<A const> const& Q, Packed const& U, op o,
                    forward_state<A, L, T> state, matrix_view<T const, L> G, matrix_view<TD, L> dX,
                    gradient_sums<A, Packed> const& sums, matrix_view<A, L> scratch,
                    std::type_identity_t<prefetch_hint<T, L>> const& hint) {
  index_t const blocks = Q.blocks(), w = G.cols;
  if (blocks == 0) return ops<Policy>::copy(policy, G, dX);
  for (index_t n = blocks; n-- > 0;) {
    auto const q = Q.at(nth_applied(blocks, n, o));
    auto const vectors = U.columns(q.first, q.rank);
    auto const rows = [&](index_t part) { return scratch.block(part * Q.block, 0, q.rank, w); };
    auto const minus_Z = rows(0), P = rows(1), dW = rows(2);
    matrix_view<A const, L> W = rows(3);
    bool const knows_W = state.W.data != nullptr;
    if (knows_W) W = state.W.block(q.first, 0, q.rank, w);
    project_both(policy, vectors, state.X, G, knows_W ? matrix_view<A, L>{} : rows(3), P,
                 n + 1 == blocks ? hint.for_projection() : matrix_view<T const, L>{});
    if (knows_W || state.is_input) {
      ops<Policy>::multiply(policy, A(-1), q.T, o, W, minus_Z);
    } else {  // op(Q)ᴴ is the inverse: X = Y + U Z with Z = −Fᴴ UᴴY, and W = F⁻¹ Z
      ops<Policy>::multiply(policy, A(-1), q.T, adjoint_of(o), W, minus_Z);
      ops<Policy>::multiply_inverse_factor(policy, q.gram, q.tau, o, minus_Z, rows(3));
      ops<Policy>::negate(policy, minus_Z);
    }
    ops<Policy>::multiply(policy, A(-1), q.T, adjoint_of(o), P, dW);
    ops<Policy>::outer_packed_both(policy, G, minus_Z, state.X, dW, sums.D.columns(q.first, q.rank));
    ops<Policy>::outer(policy, A(-1), P, W, sums.dF.block(0, q.first, q.rank, q.rank));
    if (!state.is_input) ops<Policy>::outer(policy, A(-1), minus_Z, dW, sums.E.block(0, q.first, q.rank, q.rank));
    // The panel after X is fetched now, when X is no longer read and leaves it room in the cache.
    ops<Policy>::update_packed(policy, vectors, dW, G, dX, n == 0 ? hint.for_update() : prefetch_hint<T, L>{});
    if constexpr (std::same_as<T, A>) {  // otherwise this was the only factor
      G = dX;
      if (state.is_input || (n == 0 && !state.wanted)) continue;
      ops<Policy>::negate(policy, minus_Z);
      ops<Policy>::update_packed(policy, vectors, minus_Z, state.X, state.rewind);
      state.X = state.rewind;
    }
  }
}

template <class A>
struct finish_pieces {
  matrix_view<A> all, dT, dA, C, temp, L;
  finish_pieces(arena& memory, index_t block, inverse kind, bool explicit_tau) {
    if (kind.truncated) all = memory.matrix<A>(block, block * useful_terms(kind, block));
    dT = memory.matrix<A>(block, block);
    dA = memory.matrix<A>(block, block);
    C = memory.matrix<A>(block, block);
    temp = memory.matrix<A>(block, block);
    if (explicit_tau) L = memory.matrix<A>(block, block);
  }
  finish_pieces part(index_t r) const {
    auto const corner = [r](matrix_view<A> a) { return a.data == nullptr ? a : a.block(0, 0, r, r); };
    finish_pieces p = *this;
    p.dT = corner(dT), p.dA = corner(dA), p.C = corner(C), p.temp = corner(temp), p.L = corner(L);
    return p;
  }
};

/// dA := gradient with respect to A = striu(UᴴU) from dT. dT is overwritten when the inverse is truncated.
template <class Policy, class A>
void factor_backward(Policy const& policy, typename compact_wy_view<A const>::factor_view const& q, inverse kind,
                     finish_pieces<A> const& p) {
  ops<Policy>::fill(policy, A(0), p.dA);
  if (!kind.truncated) {  // −Tᴴ dT Tᴴ
    ops<Policy>::multiply(policy, A(-1), q.T, op::adjoint, p.dT, p.temp);
    ops<Policy>::outer(policy, A(1), p.temp, q.T, p.dA);
  } else {  // the gradient of the polynomial, not of the inverse: T_{j+1} = D − D A T_j backwards
    index_t const terms = useful_terms(kind, q.rank);
    neumann_terms(policy, q, terms, p.all, p.temp);
    for (index_t j = terms - 1; j >= 1; --j) {
      ops<Policy>::scale_rows(policy, q.tau, op::adjoint, p.dT, p.temp);
      ops<Policy>::outer(policy, A(-1), p.temp, p.all.columns((j - 1) * q.rank, q.rank), p.dA);
      ops<Policy>::multiply(policy, A(-1), q.gram, op::adjoint, p.temp, p.dT);
    }
  }
  ops<Policy>::keep_strictly_upper(policy, p.dA);
}

/// dtau_i = (Lᴴ dT Rᴴ)_ii with L = I − T A and R = I − A T: T = (I + D A)⁻¹ D differentiated without dividing by tau,
/// so that it is the true derivative at tau = 0 too.
template <class Policy, class A>
void tau_backward(Policy const& policy, typename compact_wy_view<A const>::factor_view const& q,
                  finish_pieces<A> const& p, vector_view<A> dtau) {
  ops<Policy>::set_identity(policy, p.L);
  ops<Policy>::update(policy, A(-1), q.T, q.gram, p.L, p.L);
  ops<Policy>::fill(policy, A(0), p.temp);
  ops<Policy>::outer(policy, A(1), p.dT, q.T, p.temp);
  ops<Policy>::copy(policy, p.dT, p.C);
  ops<Policy>::outer(policy, A(-1), p.temp, q.gram, p.C);
  ops<Policy>::column_dots(policy, p.L, p.C, dtau);
}

/// From the sums over all columns to the gradient with respect to Û (or V), in place in sums.D; and dtau [r] when tau
/// was given (else it has no data).
template <class Policy, class A>
void finish_gradient(Policy const& policy, compact_wy_view<A const> const& Q, op o, gradient_sums<A> const& sums,
                     vector_view<A> dtau, finish_pieces<A> const& pieces) {
  for (index_t i = 0; i < Q.blocks(); ++i) {
    auto const q = Q.at(i);
    auto const p = pieces.part(q.rank);
    auto const dF = sums.dF.block(0, q.first, q.rank, q.rank);
    if (o == op::plain) ops<Policy>::copy(policy, dF, p.dT);
    else ops<Policy>::conjugate_copy(policy, dF.transposed(), p.dT);
    if (dtau.data != nullptr) tau_backward(policy, q, p, dtau.part(q.first, q.rank));
    factor_backward(policy, q, Q.kind, p);
    ops<Policy>::conjugate_copy(policy, p.dA.transposed(), p.C);
    ops<Policy>::add(policy, p.dA, p.C);
    ops<Policy>::add(policy, sums.E.block(0, q.first, q.rank, q.rank), p.C);
    auto const D = sums.D.columns(q.first, q.rank);
    ops<Policy>::update(policy, A(1), q.U, p.C, D, D);
  }
}

/// The gradient of the caller's columns from that of Û (or V).
template <class Policy, class A, class TU, class LU>
void vectors_backward(Policy const& policy, compact_wy_view<A const> const& Q, matrix_view<A> D,
                      matrix_view<TU, LU> dU) {
  if (Q.explicit_tau) ops<Policy>::strictly_lower(policy, matrix_view<A const>(D), dU);
  else ops<Policy>::normalise_columns_backward(policy, Q.vectors, Q.scales, Q.tau, D, dU);
}

}  // namespace HOFT_TARGET_NAMESPACE::detail
