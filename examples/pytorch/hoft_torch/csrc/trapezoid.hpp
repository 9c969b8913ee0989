// SPDX-License-Identifier: BSD-3-Clause
// trapezoid.hpp: LAPACK's products of reflectors, whose vectors begin one row further down each. In blocks of columns
// they leave alone the rows above their first one, which saves up to half of the work of a product with a matrix, and
// two thirds where the matrix is the identity.
#pragma once
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

#include <algorithm>
#include <vector>

namespace hoft_torch {

/// Q = Q₁ Q₂ ⋯ Q_p of k reflectors of m elements, one factor for each block of columns. X is [m, n].
template <class A>
class trapezoid {
 public:
  using matrix = hoft::matrix_view<A>;
  using index_t = hoft::index_t;

  /// What a product with the factors is of: any matrix X, or the identity, of which a factor finds the rows and columns
  /// in front of its own as they were.
  enum class of { any, identity };

  trapezoid(hoft::arena& memory, index_t m, index_t k, index_t n) : n_(n) {
    for (index_t j = 0; j < k; j += hoft::default_block) {
      index_t const rank = std::min(hoft::default_block, k - j);
      factors_.push_back({j, hoft::carve_compact_wy<A>(memory, m - j, rank, rank)});
    }
    W_ = memory.matrix<A>(std::min(hoft::default_block, k), n);
    Z_ = memory.matrix<A>(std::min(hoft::default_block, k), n);
  }

  template <class Policy>
  index_t workspace(Policy const& policy, bool backward) const {
    index_t most = 0;
    for (auto const& [first, form] : factors_) {
      auto Q = form;
      Q.explicit_tau = true;
      matrix const X(nullptr, Q.rows(), n_);
      most = std::max({most, hoft::accumulate_workspace<A>(policy, Q.rank(), Q.block),
                       backward ? hoft::apply_backward_workspace(policy, Q, X) : hoft::apply_workspace(policy, Q, X)});
    }
    return most;
  }

  /// V [m, k] as LAPACK leaves it: what stands on and above its diagonal is not read.
  template <class Policy>
  void accumulate(Policy const& policy, hoft::matrix_view<A const> V, hoft::vector_view<A const> tau,
                  hoft::workspace work) {
    for (auto& [j, Q] : factors_)
      hoft::accumulate(policy, V.block(j, j, Q.rows(), Q.rank()), tau.part(j, Q.rank()), Q, work);
  }

  /// X := Q X or QᴴX. W [k, n] receives what each factor projects, if it has rows.
  template <class Policy>
  void apply(Policy const& policy, matrix X, matrix W, hoft::op o, hoft::workspace work) const {
    for (index_t i = 0; i < count(); ++i)
      apply_factor(policy, at(o == hoft::op::plain ? count() - 1 - i : i), of::any, X, W, o, work);
  }

  /// E [m, n] := the first n columns of Q. W as of `apply`.
  template <class Policy>
  void materialize(Policy const& policy, matrix E, matrix W, hoft::workspace work) const {
    hoft::ops<Policy>::set_identity(policy, E);
    if (count() == 0) return;
    apply_to_identity(policy, factors_.back(), E, W);
    for (index_t i = count() - 1; i-- > 0;) apply_factor(policy, at(i), of::identity, E, W, hoft::op::plain, work);
  }

  /// From G = ∂L/∂Y of Y = op(Q) X: dV [m, k], zero before, and dtau. G becomes ∂L/∂X. With more than one factor Y is
  /// walked back to the input of the factor that was applied first.
  template <class Policy>
  void backward(Policy const& policy, of what, matrix Y, matrix W, matrix G, matrix dV, hoft::vector_view<A> dtau,
                hoft::op o, hoft::workspace work) const {
    for (index_t i = 0; i < count(); ++i) {
      auto const& [j, Q] = at(o == hoft::op::plain ? i : count() - 1 - i);
      matrix const y = part(what, j, Y), g = part(what, j, G), w = projections(what, j, Q.rank(), W);
      hoft::apply_backward_from_output(policy, Q, y, w, g, g, dV.block(j, j, Q.rows(), Q.rank()),
                                       dtau.part(j, Q.rank()), hoft::side::left, o, work);
      if (i + 1 == count()) return;
      auto const Z = Z_.block(0, 0, w.rows, w.cols);
      hoft::ops<Policy>::multiply(policy, A(1), hoft::matrix_view<A const>(Q.at(0).T), o, w, Z);
      hoft::ops<Policy>::update(policy, A(1), hoft::matrix_view<A const>(Q.vectors), Z, y, y);
    }
  }

 private:
  struct factor {
    index_t first;
    hoft::compact_wy_view<A> Q;
  };

  index_t count() const { return index_t(factors_.size()); }
  factor const& at(index_t i) const { return factors_[std::size_t(i)]; }

  /// The rows, and of the identity the columns, that a factor whose first row is j changes.
  static matrix part(of what, index_t j, matrix X) {
    index_t const left = what == of::identity ? j : 0;
    return X.block(j, left, X.rows - j, X.cols - left);
  }
  static matrix projections(of what, index_t j, index_t rank, matrix W) {
    index_t const left = what == of::identity ? j : 0;
    return W.rows == 0 ? matrix() : W.block(j, left, rank, W.cols - left);
  }

  template <class Policy>
  static void apply_factor(Policy const& policy, factor const& f, of what, matrix X, matrix W, hoft::op o,
                           hoft::workspace work) {
    matrix const x = part(what, f.first, X);
    hoft::apply(policy, f.Q, x, x, hoft::side::left, o, work, projections(what, f.first, f.Q.rank(), W));
  }

  /// Of the identity: W = UᴴE is there already, in the first rows of U.
  template <class Policy>
  void apply_to_identity(Policy const& policy, factor const& f, matrix E, matrix W) const {
    using ops = hoft::ops<Policy>;
    matrix const e = part(of::identity, f.first, E);
    matrix w = projections(of::identity, f.first, f.Q.rank(), W);
    if (w.rows == 0) w = W_.block(0, 0, f.Q.rank(), e.cols);
    auto const Z = Z_.block(0, 0, f.Q.rank(), e.cols);
    hoft::matrix_view<A const> const U = f.Q.vectors;
    ops::conjugate_copy(policy, U.block(0, 0, e.cols, f.Q.rank()).transposed(), w);
    ops::multiply(policy, A(-1), hoft::matrix_view<A const>(f.Q.at(0).T), hoft::op::plain, w, Z);
    ops::update(policy, A(1), U, Z, e, e);
  }

  std::vector<factor> factors_;
  matrix W_, Z_;  // of one factor
  index_t n_;
};

}  // namespace hoft_torch
