// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/base.hpp: the concept of a base operator, and how the passes call it.
#pragma once
#include <hoft/adapter/adapter.hpp>
#include <hoft/core/options.hpp>

namespace HOFT_NAMESPACE {

/// A linear operator M [m, n] that hoft adapts without seeing its elements: dense, quantised, sharded, anything.
///   base.apply(X, Y)          Y [m, t'] := M X,  X [n, t']
///   base.apply_adjoint(X, Y)  Y [n, t'] := MᴴX,  X [m, t']
/// X and Y are the views that the call was given, with their leading dimensions, or hoft's own scratch memory.
/// An operator may take a policy too: base.apply(policy, X, Y) and base.apply_adjoint(policy, X, Y). It then gets the
/// policy of forward or backward, or in a batch that of one problem, and may use its threads.
/// If it has rows() const and cols() const, they are checked against the adapter. If it has weight() const, which
/// returns a matrix_view of what it reads at no cost, each call in Eigen storage refuses results in that memory; calls
/// with views check no overlap. Its exceptions reach the caller.
template <class Base, class T, class L>
concept base_operator = requires(Base& base, matrix_view<T const, L> X, matrix_view<T, L> Y) {
  base.apply(X, Y);
  base.apply_adjoint(X, Y);
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE::detail {

/// y := M x on the threads of the call, if the operator takes a policy of that kind.
template <class Policy, class Base, class X, class Y>
void apply_base(Policy const& policy, Base& base, X x, Y y) {
  decltype(auto) where = ops<Policy>::of_base(policy);
  if constexpr (requires { base.apply(where, x, y); }) base.apply(where, x, y);
  else base.apply(x, y);
}
/// y := Mᴴx likewise.
template <class Policy, class Base, class X, class Y>
void apply_base_adjoint(Policy const& policy, Base& base, X x, Y y) {
  decltype(auto) where = ops<Policy>::of_base(policy);
  if constexpr (requires { base.apply_adjoint(where, x, y); }) base.apply_adjoint(where, x, y);
  else base.apply_adjoint(x, y);
}

/// A base operator that knows its extents must have the adapter's.
template <class Base, class A>
void require_base(char const* function, Base const& base, adapter_view<A> const& a) {
  if constexpr (requires { base.rows(), base.cols(); }) require_extents(function, "base", base.rows(), base.cols(), a);
}

}  // namespace HOFT_TARGET_NAMESPACE::detail
