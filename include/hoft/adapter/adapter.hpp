// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/adapter.hpp: what HOFT and SHOFT train, as views.
#pragma once
#include <hoft/householder/compact_wy.hpp>

namespace HOFT_NAMESPACE {

/// HOFT M̂ = Q_U M Q_V, or SHOFT M̂ = Q_U diag(s) M Q_V, of a base weight M [m, n] (out × in). Either rank may be 0.
/// Both sides are built from reflectors alone, without explicit tau. Q_V must be one block (block >= rank): on
/// activations K = M V T_V needs its triangle whole.
template <class A>
struct adapter_view {
  compact_wy_view<A> left;   ///< Q_U [m, m] of rank ru
  compact_wy_view<A> right;  ///< Q_V [n, n] of rank rv
  vector_view<A> scale;      ///< s [m]; size 0 for HOFT

  adapter_view() = default;
  adapter_view(compact_wy_view<A> u, compact_wy_view<A> v, vector_view<A> s = {}) : left(u), right(v), scale(s) {}
  template <class B>
  requires std::same_as<B const, A> adapter_view(adapter_view<B> const& a)
      : left(a.left), right(a.right), scale(a.scale) {}

  [[nodiscard]] index_t rows() const { return left.rows(); }
  [[nodiscard]] index_t cols() const { return right.rows(); }
  [[nodiscard]] bool scaled() const { return scale.size > 0; }
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

namespace detail {

/// All that a query asks of an adapter.
template <class A>
void require_adapter_sizes(char const* function, adapter_view<A> const& a) {
  require_at_least(function, "a.right.block", a.right.block, a.right.rank());
  require_form_memory(function, "a.left", a.left, a.rows(), a.left.rank());
  require_form_memory(function, "a.right", a.right, a.cols(), a.right.rank());
  if (a.scaled()) require_equal(function, "a.scale.size", a.scale.size, a.rows());
}

/// On how many ranks the rows of Q_U and of Q_V lie.
struct side_ranks {
  index_t left, right;
};
template <class Policy>
side_ranks ranks_of(Policy const& policy) {
  using O = ops<Policy>;
  auto const count = [](auto const& side) { return O::rank_count(side); };
  return {count(O::of_left(policy)), count(O::of_right(policy))};
}

template <class A>
void require_adapter(char const* function, side_ranks ranks, adapter_view<A> const& a) {
  require_adapter_sizes(function, a);
  require_form(function, "a.left", ranks.left, a.left, a.rows(), a.left.rank());
  require_form(function, "a.right", ranks.right, a.right, a.cols(), a.right.rank());
  for (auto const* q : {&a.left, &a.right})
    if (q->explicit_tau)
      refuse<argument_error>(function, q == &a.left ? "a.left" : "a.right", "built with explicit tau",
                             "built from reflectors alone");
}

/// Of what is made for either method.
inline void require_method(char const* function, char const* argument, bool scaled, bool expected) {
  if (scaled != expected)
    refuse<shape_error>(function, argument, scaled ? "of SHOFT" : "of HOFT", expected ? "of SHOFT" : "of HOFT");
}

/// An extent of the weight is the length of the reflectors U or V of that side. The fault may lie in the adapter.
/// Reflectors given as rows: then their number is the expected length. Sides swapped: then U has the length that V
/// should have.
inline void require_length(char const* function, char const* argument, index_t got, char const* reflectors,
                           index_t length, index_t rank, bool swapped) {
  if (got == length) return;
  auto const number = [](index_t a) { return std::to_string(a); };
  if (rank > length && rank == got)
    refuse<shape_error>(function, reflectors, '[' + number(length) + ", " + number(rank) + ']',
                        "of " + number(got) + " rows (" + argument + "); it looks transposed: reflectors are columns");
  std::string const hint = swapped ? "; U and V look swapped, or M transposed" : "";
  refuse<shape_error>(function, argument, number(got), "== " + number(length) + ", the rows of " + reflectors + hint);
}
template <class A>
void require_extents(char const* function, std::string_view weight, index_t rows, index_t cols,
                     adapter_view<A> const& a) {
  if (rows == a.rows() && cols == a.cols()) return;
  std::string const text(weight);
  bool const swapped = rows == a.cols() && cols == a.rows();
  require_length(function, (text + ".rows").c_str(), rows, "U", a.rows(), a.left.rank(), swapped);
  require_length(function, (text + ".cols").c_str(), cols, "V", a.cols(), a.right.rank(), swapped);
}
/// A weight that is at hand.
template <class A, class T, class L>
void require_weight(char const* function, adapter_view<A> const& a, matrix_view<T, L> M) {
  require_not_empty(function, "a.left", a.left, M.rows);
  require_not_empty(function, "a.right", a.right, M.cols);
  require_extents(function, "M", M.rows, M.cols, a);
  require_view(function, "M", M);
}

/// Asked last: ranks that share a weight tell each other what they find.
template <class Policy, class A>
void require_no_zero(char const* function, Policy const& policy, adapter_view<A> const& a) {
  if (index_t const zero = ops<Policy>::find_zero(policy, vector_view<std::remove_const_t<A> const>(a.scale));
      zero >= 0)
    refuse<argument_error>(function, ("a.scale[" + std::to_string(zero) + "]").c_str(), "0", "!= 0");
}

}  // namespace detail
}  // namespace HOFT_TARGET_NAMESPACE
