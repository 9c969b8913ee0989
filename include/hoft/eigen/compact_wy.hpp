// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/compact_wy.hpp: a compact WY form that owns its memory, and how to make one.
#pragma once
#include <hoft/eigen/result.hpp>
#include <hoft/eigen/scratch.hpp>
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/adjoint.hpp>

#include <utility>

namespace HOFT_TARGET_NAMESPACE {

namespace detail {
struct filled_owner;
}

/// Q = H(u₁) ⋯ H(u_r) in compact WY form, held by value. A is an accumulator type: float for 16-bit reflectors.
template <accumulating A>
class compact_wy {
 public:
  using value_type = A;

  /// The identity of order m.
  explicit compact_wy(index_t m = 0) : compact_wy(m, 0, {}, 1) {}
  /// Memory for r reflectors of length m, which accumulate(policy, U, Q, kind, work) fills. Until then no call takes
  /// it.
  /// @throws hoft::shape_error if m or r is negative, or block < r for neumann{k}; hoft::argument_error if block or
  ///         neumann.terms is below 1
  compact_wy(index_t m, index_t r, inverse kind, index_t block)
      : vectors_(checked(m, r, kind, block), r),
        factor_(block, r),
        gram_(block, r),
        scales_(2, r),
        tau_(r),
        block_(block),
        kind_(kind) {}

  compact_wy(compact_wy const&) = default;
  /// Leaves the identity of order 0.
  compact_wy(compact_wy&& other) noexcept : compact_wy() { exchange(other); }
  /// All of a form or, if there is no memory for a copy, none of it. One of the same extents needs none.
  compact_wy& operator=(compact_wy const& other) {
    if (has_extents(other.rows(), other.rank(), other.block())) {
      copy_parts(other);
    } else {
      compact_wy copy(other);
      exchange(copy);
    }
    return *this;
  }
  compact_wy& operator=(compact_wy&& other) noexcept {
    compact_wy moved(std::move(other));
    exchange(moved);
    return *this;
  }

  [[nodiscard]] index_t rows() const { return vectors_.rows(); }  ///< m
  [[nodiscard]] index_t rank() const { return vectors_.cols(); }  ///< r
  [[nodiscard]] index_t block() const { return block_; }          ///< reflectors that share one triangle
  [[nodiscard]] inverse kind() const { return kind_; }            ///< exact or truncated
  [[nodiscard]] dense_matrix<A> const& vectors() const {
    return vectors_;
  }  ///< [m, r] normalised reflectors (V with explicit tau)
  [[nodiscard]] dense_matrix<A> const& factor() const { return factor_; }  ///< [block, r] the triangles T side by side
  [[nodiscard]] dense_vector<A> const& tau() const {
    return tau_;
  }  ///< [r] 2 / ‖û‖², 0 for a zero column; or the given tau

  /// For the calls that allocate nothing.
  [[nodiscard]] compact_wy_view<A const> view() const& { return bind<A const>(*this); }
  [[nodiscard]] compact_wy_view<A const> view() const&& = delete;  // would refer to a temporary

 private:
  friend detail::filled_owner;
  static index_t checked(index_t m, index_t r, inverse kind, index_t block) {
    constexpr char const* function = "compact_wy";
    detail::require_form_sizes(function, m, r, block);
    detail::require_inverse(function, kind);
    if (kind.truncated) detail::require_at_least(function, "block", block, r);
    return m;
  }
  template <class Element, class Self>
  static compact_wy_view<Element> bind(Self& self) {
    compact_wy_view<Element> q;
    q.vectors = as_view(self.vectors_);
    q.factor = as_view(self.factor_);
    q.gram = as_view(self.gram_);
    q.tau = as_vector_view(self.tau_);
    q.scales = as_view(self.scales_);
    q.block = self.block_;
    q.kind = self.kind_;
    q.explicit_tau = self.explicit_tau_;
    q.filled = self.filled_;
    q.ranks = self.ranks_;
    return q;
  }

  bool has_extents(index_t m, index_t r, index_t block) const { return rows() == m && rank() == r && block_ == block; }
  void copy_parts(compact_wy const& other) {
    vectors_ = other.vectors_, factor_ = other.factor_, gram_ = other.gram_;
    scales_ = other.scales_, tau_ = other.tau_;
    block_ = other.block_, kind_ = other.kind_;
    explicit_tau_ = other.explicit_tau_, filled_ = other.filled_, ranks_ = other.ranks_;
  }
  void exchange(compact_wy& other) noexcept {
    std::swap(vectors_, other.vectors_), std::swap(factor_, other.factor_), std::swap(gram_, other.gram_);
    std::swap(scales_, other.scales_), std::swap(tau_, other.tau_);
    std::swap(block_, other.block_), std::swap(kind_, other.kind_);
    std::swap(explicit_tau_, other.explicit_tau_), std::swap(filled_, other.filled_);
    std::swap(ranks_, other.ranks_);
  }

  dense_matrix<A> vectors_, factor_, gram_;
  dense_matrix<real_t<A>> scales_;
  dense_vector<A> tau_;
  index_t block_;
  inverse kind_;
  bool explicit_tau_ = false, filled_ = false;
  index_t ranks_ = 1;
};

namespace detail {

/// Nothing but accumulate writes to a form that owns its memory, and what the form says of itself comes with it.
struct filled_owner {
  template <class A, class Fill>
  static void by(compact_wy<A>& Q, Fill const& fill) {
    struct in_progress {
      compact_wy<A>& owner;
      compact_wy_view<A> view;
      // Also where `fill` throws: before it writes nothing has changed, and after that the form is not filled.
      ~in_progress() {
        owner.kind_ = view.kind, owner.explicit_tau_ = view.explicit_tau;
        owner.filled_ = view.filled, owner.ranks_ = view.ranks;
      }
    } q{Q, compact_wy<A>::template bind<A>(Q)};
    fill(q.view);
  }
  /// fill(Q) of a form with these extents: Q, or one that takes its place when it is filled.
  template <class A, class Fill>
  static void with_extents(compact_wy<A>& Q, index_t m, index_t r, inverse kind, index_t block, Fill const& fill) {
    if (Q.has_extents(m, r, block)) return fill(Q);
    compact_wy<A> made(m, r, kind, block);
    fill(made);
    Q = std::move(made);
  }
};

/// Reflectors, or their tau, lie in no memory of the form that is made of them.
template <class View, class A>
void require_apart(char const* function, char const* argument, View input, char const* name, compact_wy<A> const& Q) {
  require_apart(function, argument, input, name, Q.vectors());
  require_apart(function, argument, input, name, Q.factor());
  require_apart(function, argument, input, name, Q.tau());
}

}  // namespace detail

/// Q := H(u₁) ⋯ H(u_r) from the columns of U [m, r], into the memory of a form that was made for m, r and this kind:
/// nothing is allocated. @see accumulate with views for errors, workspace, cost, accuracy and source.
template <execution_policy Policy, class DU, class A>
void accumulate(Policy const& policy, DU const& U, compact_wy<A>& Q, inverse kind, workspace work) {
  auto const u = as_view(U);
  detail::filled_owner::by(Q, [&](compact_wy_view<A>& q) { accumulate(policy, u, q, kind, work); });
}
/// The same from V [m, r] and tau [r] as LAPACK's geqrf leaves them.
template <execution_policy Policy, class DV, class DT, class A>
void accumulate(Policy const& policy, DV const& V, DT const& tau, compact_wy<A>& Q, workspace work) {
  auto const v = as_view(V);
  auto const t = as_vector_view(tau);
  detail::filled_owner::by(Q, [&](compact_wy_view<A>& q) { accumulate(policy, v, t, q, work); });
}

/// Qᴴ, for every call that takes Q: apply(adjoint(Q), X). It refers to Q, which must outlive it, and computes nothing.
template <accumulating A>
class adjoint_wy {
 public:
  using value_type = A;

  explicit adjoint_wy(compact_wy<A> const& Q) : form_(&Q) {}

  [[nodiscard]] index_t rows() const { return form_->rows(); }        ///< m
  [[nodiscard]] index_t rank() const { return form_->rank(); }        ///< r
  [[nodiscard]] compact_wy<A> const& form() const { return *form_; }  ///< Q

  /// For the calls that allocate nothing.
  [[nodiscard]] adjoint_view<A const> view() const { return {form_->view()}; }

 private:
  compact_wy<A> const* form_;
};

/// Qᴴ.
template <class A>
[[nodiscard]] adjoint_wy<A> adjoint(compact_wy<A> const& Q) {
  return adjoint_wy<A>(Q);
}
template <class A>
[[nodiscard]] adjoint_wy<A> adjoint(compact_wy<A> const&& Q) {
  static_assert(detail::never<A>,
                "hoft: adjoint(Q) refers to Q, which must outlive it: pass a named form, not a temporary.");
  return adjoint_wy<A>(Q);
}
template <class Wrong = void>
auto adjoint(detail::a_matrix) {
  static_assert(detail::never<Wrong>,
                "hoft: adjoint(Q) takes what hoft::accumulate(U) returns; this argument is a matrix.");
  return compact_wy<double>();
}
/// (Qᴴ)ᴴ = Q.
template <class A>
[[nodiscard]] compact_wy<A> const& adjoint(adjoint_wy<A> const& Q) {
  return Q.form();
}

/// Q := H(u₁) ⋯ H(u_r) from the columns of U [m, r], exact by default or with the paper's neumann{k}, with at most
/// `block` reflectors to a triangle, in the memory that Q has if it is as large, else in new memory. U must not lie in
/// Q. @see accumulate with views for errors, cost, accuracy and source.
template <execution_policy Policy, class DU, class A>
void accumulate(Policy const& policy, DU const& U, compact_wy<A>& Q, inverse kind = {}, index_t block = default_block) {
  detail::require_inverse("accumulate", kind);
  detail::require_at_least<argument_error>("accumulate", "block", block, 1);
  auto const u = as_view(U);
  detail::require_apart("accumulate", "U", u, "Q", Q);
  block = block_for(u.cols, kind, block);
  detail::filled_owner::with_extents(Q, u.rows, u.cols, kind, block, [&](compact_wy<A>& form) {
    accumulate(policy, u, form, kind,
               detail::lent_workspace(policy, accumulate_workspace<A>(policy, u.cols, block, kind)));
  });
}
/// The same on one thread, with the policy cpu{}.
template <class DU, class A>
requires(!execution_policy<DU>) void accumulate(DU const& U, compact_wy<A>& Q, inverse kind = {},
                                                index_t block = default_block) {
  accumulate(cpu{}, U, Q, kind, block);
}

/// The same as a value.
template <execution_policy Policy, class DU>
requires(!std::same_as<std::remove_cvref_t<DU>, inverse>)
    [[nodiscard]] auto accumulate(Policy const& policy, DU const& U, inverse kind = {}, index_t block = default_block) {
  compact_wy<detail::accumulator_of<DU const>> Q;
  accumulate(policy, U, Q, kind, block);
  return Q;
}
/// The same on one thread, with the policy cpu{}.
template <class DU>
requires(!execution_policy<DU>)
    [[nodiscard]] auto accumulate(DU const& U, inverse kind = {}, index_t block = default_block) {
  return accumulate(cpu{}, U, kind, block);
}

/// Q := H₁ ⋯ H_r with H_i = I − tau_i v_i v_iᴴ from V [m, r] and tau [r] as LAPACK's geqrf leaves them (unit lower
/// trapezoid; the rest of V is not read), in the memory that Q has if it is as large, else in new memory. Neither V nor
/// tau may lie in Q. @see accumulate with views.
template <execution_policy Policy, class DV, class DT, class A>
void accumulate(Policy const& policy, DV const& V, DT const& tau, compact_wy<A>& Q, index_t block = default_block) {
  detail::require_at_least<argument_error>("accumulate", "block", block, 1);
  auto const v = as_view(V);
  auto const t = as_vector_view(tau);
  detail::require_apart("accumulate", "V", v, "Q", Q);
  detail::require_apart("accumulate", "tau", t, "Q", Q);
  block = block_for(v.cols, {}, block);
  detail::filled_owner::with_extents(Q, v.rows, v.cols, {}, block, [&](compact_wy<A>& form) {
    accumulate(policy, v, t, form, detail::lent_workspace(policy, accumulate_workspace<A>(policy, v.cols, block)));
  });
}
/// The same on one thread, with the policy cpu{}.
template <class DV, class DT, class A>
requires(!execution_policy<DV>) void accumulate(DV const& V, DT const& tau, compact_wy<A>& Q,
                                                index_t block = default_block) {
  accumulate(cpu{}, V, tau, Q, block);
}

/// The same as a value.
template <execution_policy Policy, class DV, class DT>
requires(!std::convertible_to<DT const&, inverse>)
    [[nodiscard]] auto accumulate(Policy const& policy, DV const& V, DT const& tau, index_t block = default_block) {
  compact_wy<detail::accumulator_of<DV const>> Q;
  accumulate(policy, V, tau, Q, block);
  return Q;
}
/// The same on one thread, with the policy cpu{}.
template <class DV, class DT>
requires(!execution_policy<DV> && !std::convertible_to<DT const&, inverse>)
    [[nodiscard]] auto accumulate(DV const& V, DT const& tau, index_t block = default_block) {
  return accumulate(cpu{}, V, tau, block);
}

}  // namespace HOFT_TARGET_NAMESPACE
