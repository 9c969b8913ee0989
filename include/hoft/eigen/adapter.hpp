// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/adapter.hpp: an adapter that owns its memory.
#pragma once
#include <hoft/adapter/adapter.hpp>
#include <hoft/adapter/paired_gaussian.hpp>
#include <hoft/eigen/compact_wy.hpp>

#include <new>

namespace HOFT_TARGET_NAMESPACE {

/// HOFT M̂ = Q_U M Q_V from reflectors {U, V}, or SHOFT M̂ = Q_U diag(s) M Q_V from {U, V, s}. U [m, ru], V [n, rv], s
/// [m]; a side without reflectors has zero columns. neumann{k} as the last argument truncates both inverses as in the
/// paper. A is the accumulator type; U, V and s may be stored in 16 bits. Made anew after each change of U, V or s, or
/// filled anew by `assign` (cost as of accumulate: 2 (m ru² + n rv²) flops at most). Q_U has blocks of 64 reflectors,
/// Q_V one triangle: its distance from orthogonality is that of accumulate with b = rv, linear in rv where columns of V
/// are nearly parallel.
/// @throws hoft::shape_error if s.size() is not m; hoft::argument_error if neumann.terms < 1
template <accumulating A>
class adapter {
 public:
  /// HOFT on one thread, with the policy cpu{}.
  template <class DU, class DV>
  requires(!execution_policy<DU>) adapter(DU const& U, DV const& V, inverse kind = {}) : adapter(cpu{}, U, V, kind) {}
  /// SHOFT on one thread, with the policy cpu{}.
  template <class DU, class DV, class DS>
  requires(!execution_policy<DU> && !std::convertible_to<DS const&, inverse>)
      adapter(DU const& U, DV const& V, DS const& s, inverse kind = {})
      : adapter(cpu{}, U, V, s, kind) {}

  /// HOFT.
  template <execution_policy Policy, class DU, class DV>
  adapter(Policy const& policy, DU const& U, DV const& V, inverse kind = {}) {
    assign(policy, U, V, kind);
  }
  /// SHOFT.
  template <execution_policy Policy, class DU, class DV, class DS>
  requires(!std::convertible_to<DS const&, inverse>)
      adapter(Policy const& policy, DU const& U, DV const& V, DS const& s, inverse kind = {}) {
    assign(policy, U, V, s, kind);
  }

  adapter(adapter const&) = default;
  adapter(adapter&&) noexcept = default;
  adapter& operator=(adapter&&) noexcept = default;
  /// All of an adapter or, if there is no memory for a copy, none of it. One of the same extents needs none.
  adapter& operator=(adapter const& other) {
    if (same_extents(left_, other.left_) && same_extents(right_, other.right_) &&
        scale_.size() == other.scale_.size()) {
      left_ = other.left_, right_ = other.right_, scale_ = other.scale_;
    } else {
      *this = adapter(other);
    }
    return *this;
  }

  /// Becomes the adapter of these U and V, in the memory that it has where that is as large. Neither may lie in it.
  /// What is refused changes nothing; where only the second side fails (no memory, ranks that disagree), it becomes an
  /// adapter of no weight, of order 0.
  /// @throws as the constructors, and hoft::argument_error
  template <execution_policy Policy, class DU, class DV>
  void assign(Policy const& policy, DU const& U, DV const& V, inverse kind = {}) {
    assign_parts(policy, U, V, vector_view<A const>(), kind);
  }
  /// The same with a scale, which may be scale() itself.
  template <execution_policy Policy, class DU, class DV, class DS>
  requires(!std::convertible_to<DS const&, inverse>) void assign(Policy const& policy, DU const& U, DV const& V,
                                                                 DS const& s, inverse kind = {}) {
    auto const scale = as_vector_view(s);
    detail::require_equal("adapter", "s.size()", scale.size, as_view(U).rows);
    assign_parts(policy, U, V, scale, kind);
  }
  /// On one thread, with the policy cpu{}.
  template <class DU, class DV, class... Rest>
  requires(!execution_policy<DU>) void assign(DU const& U, DV const& V, Rest const&... s_and_kind) {
    assign(cpu{}, U, V, s_and_kind...);
  }

  [[nodiscard]] index_t rows() const { return left_.rows(); }            ///< m, of the weight
  [[nodiscard]] index_t cols() const { return right_.rows(); }           ///< n
  [[nodiscard]] compact_wy<A> const& left() const { return left_; }      ///< Q_U
  [[nodiscard]] compact_wy<A> const& right() const { return right_; }    ///< Q_V
  [[nodiscard]] dense_vector<A> const& scale() const { return scale_; }  ///< s, empty for HOFT

  /// For the calls that allocate nothing.
  [[nodiscard]] adapter_view<A const> view() const& { return {left_.view(), right_.view(), as_vector_view(scale_)}; }
  [[nodiscard]] adapter_view<A const> view() const&& = delete;  // would refer to a temporary

 private:
  adapter() = default;

  static bool same_extents(compact_wy<A> const& a, compact_wy<A> const& b) {
    return a.rows() == b.rows() && a.rank() == b.rank() && a.block() == b.block();
  }

  template <class Policy, class DU, class DV, class S>
  void assign_parts(Policy const& policy, DU const& U, DV const& V, vector_view<S> s, inverse kind) {
    constexpr bool fits =
        std::same_as<detail::accumulator_of<DU const>, A> && std::same_as<detail::accumulator_of<DV const>, A>;
    static_assert(
        fits,
        "hoft: adapter<A> must be of the accumulator type of U and V: adapter<float> for float, half and bfloat16.");
    if constexpr (fits) {
      auto const u = as_view(U);
      auto const v = as_view(V);
      require_reflectors("U", u);
      require_reflectors("V", v);
      detail::require_apart("adapter", "s", s, "the adapter", left_);
      detail::require_apart("adapter", "s", s, "the adapter", right_);
      detail::require_apart_or_same("adapter", "s", s, "the adapter", scale_);
      bool left_is_new = false;
      try {
        fill(policy, u, v, s, kind, left_is_new);
      } catch (...) {
        if (left_is_new) *this = adapter();  // not one side of this and one of that
        throw;
      }
    }
  }
  template <class Policy, class View, class OtherView, class S>
  void fill(Policy const& policy, View U, OtherView V, vector_view<S> s, inverse kind, bool& left_is_new) {
    detail::reshaped const shape(scale_, s.size);
    accumulate(ops<Policy>::of_left(policy), U, left_, kind);
    left_is_new = true;
    // one triangle however many reflectors: on activations K = M V T needs it whole
    accumulate(ops<Policy>::of_right(policy), V, right_, kind, std::max<index_t>(1, V.cols));
    if (static_cast<void const*>(s.data) != scale_.data()) ops<Policy>::copy(policy, s, as_vector_view(scale_));
  }
  /// Before one side is filled, what the other is made of.
  template <class View>
  void require_reflectors(char const* name, View U) const {
    detail::require_view("adapter", name, U);
    detail::require_apart("adapter", name, U, "the adapter", left_);
    detail::require_apart("adapter", name, U, "the adapter", right_);
    detail::require_apart("adapter", name, U, "the adapter", scale_);
  }

  compact_wy<A> left_, right_;
  dense_vector<A> scale_;
};

namespace detail {

/// The accumulator type of U; something for a policy, since compilers may ask before they look at constraints.
template <class DU>
struct deduce_accumulator {
  using type = accumulator_of<DU const>;
};
template <execution_policy Policy>
struct deduce_accumulator<Policy> {
  using type = float;
};
template <class DU>
using deduced_accumulator = typename deduce_accumulator<DU>::type;

}  // namespace detail

// hoft::adapter a{U, V} and {U, V, s} have the accumulator type of U; a policy first and the inverse last change
// nothing.
template <class DU, class DV>
requires(!execution_policy<DU>) adapter(DU const&, DV const&, inverse = {})
->adapter<detail::deduced_accumulator<DU>>;
template <class DU, class DV, class DS>
requires(!execution_policy<DU> && !std::convertible_to<DS const&, inverse>)
    adapter(DU const&, DV const&, DS const&, inverse = {})
->adapter<detail::deduced_accumulator<DU>>;
template <execution_policy Policy, class DU, class DV>
adapter(Policy const&, DU const&, DV const&, inverse = {}) -> adapter<detail::deduced_accumulator<DU>>;
template <execution_policy Policy, class DU, class DV, class DS>
requires(!std::convertible_to<DS const&, inverse>) adapter(Policy const&, DU const&, DV const&, DS const&, inverse = {})
->adapter<detail::deduced_accumulator<DU>>;

namespace detail {

/// A matrix or a form, where an adapter must stand: see a_matrix.
struct no_adapter {
  template <class D>
  requires is_eigen<D> no_adapter(D const&) {}
  template <class A>
  no_adapter(compact_wy<A> const&) {}
};
template <class Wrong>
constexpr void refuse_adapter() {
  static_assert(never<Wrong>,
                "hoft: a must be a hoft::adapter; this argument is a matrix or a form. Write `hoft::adapter a{U, V};` "
                "and pass a.");
}

}  // namespace detail

/// U [m, r] = (u₁ u₁ u₂ u₂ ⋯), standard Gaussian: Q = I at the start of training. Another seed for another U: two of
/// the same seed begin with the same numbers. @see paired_gaussian with a view.
/// @throws hoft::shape_error if m or r is negative
template <scalar T>
[[nodiscard]] dense_matrix<T> paired_gaussian(index_t m, index_t r, std::uint64_t seed) {
  detail::require_at_least("paired_gaussian", "m", m, 0);
  detail::require_at_least("paired_gaussian", "r", r, 0);
  dense_matrix<T> U(m, r);
  paired_gaussian(cpu{}, as_view(U), seed);
  return U;
}

}  // namespace HOFT_TARGET_NAMESPACE
