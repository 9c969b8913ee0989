// SPDX-License-Identifier: BSD-3-Clause
// hoft/backend/concept.hpp: what a backend is.
//
// A policy is a small object that says where to compute: hoft::cpu{...}, hoft::cuda::on(...). Its member type `backend`
// is a class of static functions, the operations, which take the policy first. Algorithms call nothing else:
//
//   ops<Policy>::project(policy, U, X, W);
//
// A backend derives from backend::defaults (defaults.hpp) and defines these, for matrices in the accumulator type A:
//
//   for_each_element(policy, X, f)        f(i, j) for every element of X; f is a function object that kernels can call
//   for_each_column(policy, m, n, f)      f(team, j) for every j < n, columns of m elements (columns.hpp)
//   project(policy, U, X, W)              W := UᴴX, a sum over rows
//   update(policy, alpha, U, Z, X, Y)     Y := X + alpha U Z; X may be Y, or have no data for zero
//   outer(policy, alpha, X, Z, D)         D := D + alpha X Zᴴ
//   multiply(policy, alpha, F, o, W, Z)   Z := alpha op(F) W, F small and square
//   form_factor(policy, A, tau, T, scratch)
//                                         T := (diag(1/tau) + A)⁻¹ for a strictly upper A, nothing divided by tau: a
//                                         zero tau gives a zero row and column
//
// Everything else has a default: walks over panels, batches, moving and filling, normalisation, packing, and whole
// algorithms. A class cannot be extended from outside, so no header that is included later changes what is called.
// examples/backend is a whole backend for reading.
#pragma once
#include <hoft/backend/defaults.hpp>

namespace HOFT_TARGET_NAMESPACE::backend {

/// The policy's backend has every operation with the signature above, for matrices of A.
template <class P, class A = float>
concept complete = execution_policy<P> &&
    requires(P const& policy, matrix_view<A> M, matrix_view<A const> C, vector_view<A> v, vector_view<A const> c,
             matrix_view<A, row_major> R, arena& memory, op o) {
  { ops<P>::worker_count(policy) } -> std::same_as<index_t>;
  ops<P>::serial(policy);
  { ops<P>::template panel_width<A, col_major>(policy, index_t{}, index_t{}) } -> std::same_as<index_t>;
  ops<P>::for_each_element(policy, M, fill_element<A, col_major>{});
  ops<P>::for_each_element(policy, R, fill_element<A, row_major>{});
  ops<P>::for_each_column(policy, index_t{}, index_t{}, column_dot<A, col_major>{});
  ops<P>::copy(policy, C, M);
  ops<P>::copy(policy, c, v);
  ops<P>::normalise_columns(policy, C, M, matrix_view<real_t<A>>{});
  ops<P>::gram_upper(policy, C, M, v);
  { ops<P>::form_factor_scratch(policy, index_t{}) } -> std::same_as<index_t>;
  ops<P>::form_factor(policy, C, c, M, static_cast<A*>(nullptr));
  ops<P>::project(policy, C, C, M);
  ops<P>::project(policy, C, R, R);
  ops<P>::update(policy, A(1), C, C, C, M);
  ops<P>::update(policy, A(1), C, R, {}, R);
  ops<P>::outer(policy, A(1), C, R, M);
  ops<P>::multiply(policy, A(1), C, o, C, M);
  ops<P>::pack(policy, C, ops<P>::template carve_packed<A, col_major>(policy, memory, index_t{}, index_t{}));
  { ops<P>::problems_at_once(policy, index_t{}) } -> std::same_as<index_t>;
};

}  // namespace HOFT_TARGET_NAMESPACE::backend
