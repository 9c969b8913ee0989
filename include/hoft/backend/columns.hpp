// SPDX-License-Identifier: BSD-3-Clause
// hoft/backend/columns.hpp: work on single columns, as function objects f(team, j). A team works on one column: it is a
// thread of the CPU, or a block of a GPU. It offers
//
//   team.each(n, g)        g(i) for all i < n, in any order
//   team.largest(n, g)     the largest g(i) >= 0; NaN if one is
//   team.dot(X, Y, j)      Σ conj(X(i, j)) Y(i, j)
//   team.divide(X, j, s)   X(:, j) := X(:, j) / s, of elements that are at most 2 |s|
//
// and each of these ends for the whole team before the next begins.
#pragma once
#include <hoft/backend/scalar_math.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_TARGET_NAMESPACE::backend {

using namespace scalar_math;

/// Û := U with columns of norm 1; Û may be U. scales(:, j) = (μ, ν) with ‖u‖ = μ ν and μ a power of two: 1 where
/// squares stay in range, so that most columns need no division by it; 0 for a zero column, which stays zero.
template <class TU, class LU, class T>
struct normalise_column {
  using scalar = T;
  matrix_view<TU, LU> U;
  matrix_view<T> Uhat;
  matrix_view<real_t<T>> scales;

  template <class Team>
  HOFT_HOST_DEVICE void operator()(Team const& team, index_t j) const {
    using real = real_t<T>;
    if (static_cast<void const*>(U.data) != static_cast<void const*>(Uhat.data))
      team.each(U.rows, [&](index_t i) { Uhat(i, j) = static_cast<T>(U(i, j)); });
    matrix_view<T const> const column = Uhat;
    real mu(1), squares = real_part(team.dot(column, column, j));
    if (!is_safe_sum(squares)) {
      mu = power_of_two_below(team.largest(U.rows, [&](index_t i) { return magnitude(column(i, j)); }));
      if (mu != real(0)) team.divide(Uhat, j, mu);  // exact
      squares = mu == real(0) ? real(1) : real_part(team.dot(column, column, j));
    }
    real const nu = square_root(squares);
    team.divide(Uhat, j, nu);
    team.each(1, [&](index_t) { scales(0, j) = mu, scales(1, j) = nu; });
  }
};

/// du := (d − û (ûᴴd) tau / 2) / ‖u‖, and 0 for a zero column.
template <class T, class TU, class LU>
struct normalise_column_backward {
  using scalar = T;
  matrix_view<T const> Uhat;
  matrix_view<real_t<T> const> scales;
  vector_view<T const> tau;
  matrix_view<T const> D;
  matrix_view<TU, LU> dU;

  template <class Team>
  HOFT_HOST_DEVICE void operator()(Team const& team, index_t j) const {
    T const factor = negative(times_real(product(team.dot(Uhat, D, j), tau[j]), real_t<T>(0.5)));
    real_t<T> const mu = scales(0, j), nu = scales(1, j);
    if (mu == real_t<T>(0)) return team.each(D.rows, [&](index_t i) { dU(i, j) = static_cast<TU>(T(0)); });
    team.each(D.rows, [&](index_t i) {
      dU(i, j) = static_cast<TU>(over_real(over_real(multiply_add(Uhat(i, j), factor, D(i, j)), nu), mu));
    });
  }
};

/// d_j := Σ_i conj(X(i, j)) Y(i, j), or added to d_j.
template <class T, class L>
struct column_dot {
  using scalar = T;
  matrix_view<T const, L> X, Y;
  vector_view<T> d;
  bool adds;

  template <class Team>
  HOFT_HOST_DEVICE void operator()(Team const& team, index_t j) const {
    T const total = team.dot(X, Y, j);
    team.each(1, [&](index_t) { d[j] = adds ? sum(d[j], total) : total; });
  }
};

}  // namespace HOFT_TARGET_NAMESPACE::backend
