// SPDX-License-Identifier: BSD-3-Clause
// hoft/householder/compact_wy.hpp: the compact WY form of a product of reflectors, as views.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/core/options.hpp>
#include <hoft/core/scalar.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/shape.hpp>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace HOFT_NAMESPACE {

/// Reflectors that share one triangle when the caller does not choose. Beside the 4 m n r flops of an apply to n
/// columns, a triangle of b costs b / 2m of them, and b / 4n of them once in accumulate (core/cost.hpp), so it should
/// be small beside m; b = 64 is where products with [m, b] reach full speed, and 64² elements of T fit the first-level
/// cache. One triangle for r = m = n = 4096 would nearly double the work. Rounding errors for nearly parallel columns
/// grow with √b.
inline constexpr index_t default_block = 64;

/// The compact WY form Q = Q₁ Q₂ ⋯ with Q_i = I − U_i T_i U_iᴴ, one factor for every `block` columns of U; a single
/// factor Q = I − U T Uᴴ when block >= rank. Views on memory that somebody else owns; `A` is an accumulator type, const
/// in every use but `accumulate`. m = rows(), r = rank(), b = block.
template <class A>
struct compact_wy_view {
  static_assert(accumulating<A>);
  using value_type = std::remove_const_t<A>;
  using real = std::conditional_t<std::is_const_v<A>, real_t<A> const, real_t<A>>;

  matrix_view<A> vectors;     ///< [m, r]: Û, columns of norm 1 (or 0); with explicit tau the unit lower trapezoid V
  matrix_view<A> factor;      ///< [b, r]: the upper triangles T_i side by side
  matrix_view<A> gram;        ///< [b, r]: the strictly upper parts of U_iᴴU_i side by side
  vector_view<A> tau;         ///< [r]: H_j = I − tau_j u_j u_jᴴ; 0 marks the identity
  matrix_view<real> scales;   ///< [2, r]: ‖u_j‖ = scales(0, j) · scales(1, j) of the caller's columns
  index_t block = 1;          ///< b, at least 1
  inverse kind;               ///< how T came from S
  bool explicit_tau = false;  ///< tau was given: columns are not normalised
  /// The memory holds a form: set by `accumulate`, asked by every call that reads one, for a GPU's memory as well.
  /// Views copied before do not learn of it. Set it, `kind`, `explicit_tau` and `ranks` yourself where you put the
  /// arrays together, or carve again what `accumulate` has filled.
  bool filled = false;
  index_t ranks = 1;  ///< on which its rows lie (sharded/policy.hpp): what it holds are sums over as many

  compact_wy_view() = default;
  compact_wy_view(compact_wy_view const&) = default;
  compact_wy_view& operator=(compact_wy_view const&) = default;
  template <class B>
  requires std::same_as<B const, A> compact_wy_view(compact_wy_view<B> const& q)
      : vectors(q.vectors),
        factor(q.factor),
        gram(q.gram),
        tau(q.tau),
        scales(q.scales),
        block(q.block),
        kind(q.kind),
        explicit_tau(q.explicit_tau),
        filled(q.filled),
        ranks(q.ranks) {}

  [[nodiscard]] index_t rows() const { return vectors.rows; }
  [[nodiscard]] index_t rank() const { return vectors.cols; }
  [[nodiscard]] index_t blocks() const { return (rank() + block - 1) / block; }
  /// Q is orthogonal by construction, so that its adjoint is its inverse.
  [[nodiscard]] bool orthogonal() const { return !kind.truncated && !explicit_tau; }

  /// One factor Q_i.
  struct factor_view {
    index_t first, rank;
    matrix_view<A> U, T, gram;
    vector_view<A> tau;
  };
  [[nodiscard]] factor_view at(index_t i) const {
    index_t const j = i * block, k = (std::min)(block, rank() - j);
    return {j, k, vectors.columns(j, k), factor.block(0, j, k, k), gram.block(0, j, k, k), tau.part(j, k)};
  }
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// The block that `accumulate` uses for r reflectors: all of them in one triangle when the inverse is truncated (a
/// series in blocks would be another function), else at most `wanted`.
/// @throws hoft::shape_error if r is negative, hoft::argument_error if wanted < 1
[[nodiscard]] inline index_t block_for(index_t r, inverse kind, index_t wanted = default_block) {
  detail::require_at_least("block_for", "r", r, 0);
  detail::require_at_least<argument_error>("block_for", "wanted", wanted, 1);
  return std::max<index_t>(1, kind.truncated ? r : (std::min)(r, wanted));
}

namespace detail {

/// Of a form that is to be made.
inline void require_form_sizes(char const* function, index_t m, index_t r, index_t block) {
  require_at_least(function, "m", m, 0);
  require_at_least(function, "r", r, 0);
  require_at_least<argument_error>(function, "block", block, 1);
}

}  // namespace detail

/// Cuts the storage of a compact WY form from `memory`; with a counting arena it tells the size.
/// @throws hoft::shape_error if m or r is negative; hoft::argument_error if block < 1; hoft::workspace_error if
///         `memory` is used up
template <accumulating A>
compact_wy_view<A> carve_compact_wy(arena& memory, index_t m, index_t r, index_t block) {
  detail::require_form_sizes("carve_compact_wy", m, r, block);
  compact_wy_view<A> q;
  q.block = block;
  q.vectors = memory.matrix<A>(m, r);
  q.factor = memory.matrix<A>(q.block, r);
  q.gram = memory.matrix<A>(q.block, r);
  q.tau = memory.vector<A>(r);
  q.scales = memory.matrix<real_t<A>>(2, r);
  return q;
}

namespace detail {

/// What a backend makes of a matrix [m, r] that meets every panel of layout L: reflectors to multiply by, or a gradient
/// to add to.
template <class Policy, class A, class L>
using packed_t = decltype(ops<Policy>::template carve_packed<A, L>(std::declval<Policy const&>(),
                                                                   std::declval<arena&>(), index_t{}, index_t{}));
template <class Policy, class A, class L>
using packed_each_t = decltype(ops<Policy>::template carve_packed_each<A, L>(
    std::declval<Policy const&>(), std::declval<arena&>(), index_t{}, index_t{}, index_t{}));

/// Terms of a series over r reflectors that differ from zero: A is nilpotent.
inline index_t useful_terms(inverse kind, index_t r) { return std::max<index_t>(1, (std::min)(kind.terms, r)); }

/// The extents that carve_compact_wy gives.
template <class A>
bool has_form(compact_wy_view<A> const& Q, index_t m, index_t r) {
  return Q.block >= 1 && has_shape(Q.vectors, m, r) && has_shape(Q.factor, Q.block, r) &&
         has_shape(Q.gram, Q.block, r) && Q.tau.size == r && has_shape(Q.scales, 2, r);
}

/// Says which part of a form is not as has_form wants it.
inline void require_form_parts(char const* function, std::string_view name, index_t block, extents vectors,
                               extents factor, extents gram, index_t tau, extents scales, index_t m, index_t r) {
  std::string const text(name);
  require_at_least(function, (text + ".block").c_str(), block, 1);
  require_shape(function, text + ".vectors", vectors, m, r);
  require_shape(function, text + ".factor", factor, block, r);
  require_shape(function, text + ".gram", gram, block, r);
  require_equal(function, (text + ".tau.size").c_str(), tau, r);
  require_shape(function, text + ".scales", scales, 2, r);
}

/// Memory for a form, to be written.
template <class A>
void require_form_memory(char const* function, std::string_view name, compact_wy_view<A> const& Q, index_t m,
                         index_t r) {
  if (!has_form(Q, m, r))
    require_form_parts(function, name, Q.block, Q.vectors, Q.factor, Q.gram, Q.tau.size, Q.scales, m, r);
}
inline std::string on_ranks(index_t count) { return std::to_string(count) + (count == 1 ? " rank" : " ranks"); }
/// A form, to be read by a policy whose rows lie on so many ranks. Without reflectors it is the identity, and has no
/// memory to fill.
template <class A>
void require_form(char const* function, std::string_view name, index_t ranks, compact_wy_view<A> const& Q, index_t m,
                  index_t r) {
  require_form_memory(function, name, Q, m, r);
  if (r == 0) return;
  if (!Q.filled)
    refuse<argument_error>(function, std::string(name).c_str(), "memory that has not been accumulated",
                           "filled by accumulate first");
  if (Q.ranks != ranks)
    refuse<argument_error>(function, std::string(name).c_str(), "accumulated with its rows on " + on_ranks(Q.ranks),
                           "accumulated on " + on_ranks(ranks) + ", as the policy of this call has its rows");
}

/// A form that multiplies something with `extent` rows (or columns): one without rows has never been given any.
template <class A>
void require_not_empty(char const* function, std::string_view name, compact_wy_view<A> const& Q, index_t extent) {
  if (Q.rows() == 0 && extent > 0)
    refuse<shape_error>(function, std::string(name).c_str(), "empty (it has 0 rows and has not been accumulated)",
                        "what accumulate made of U with " + std::to_string(extent) + " rows");
}

}  // namespace detail
}  // namespace HOFT_TARGET_NAMESPACE
