// SPDX-License-Identifier: BSD-3-Clause
// dense_products.hpp: judges the products of a dense base operator, whoever makes them.
#pragma once
#include "activations.hpp"

#include <doctest/doctest.h>

#include <cmath>

namespace hoft_test {

/// A B, the entries allowed to be off by 4 √k ε |A| |B|, and by rounding to 16-bit storage. The worst case is about
/// k ε / 2 for reals and twice that for complex numbers; but errors of k terms have both signs and add up like √k.
template <class W>
void check_product(deducible<W> const& A, deducible<W> const& B, deducible<W> const& got, long double eps,
                   long double storage, long double floor) {
  auto const expected = times(A, B);
  bound_matrix bound = times(bound_matrix(A.cwiseAbs()), bound_matrix(B.cwiseAbs()));
  bound *= 4 * std::sqrt(static_cast<long double>(A.cols())) * eps;
  for (index_t j = 0; j < bound.cols(); ++j)
    for (index_t i = 0; i < bound.rows(); ++i)
      bound(i, j) += storage * (std::abs(expected(i, j)) + bound(i, j)) + floor;
  CHECK(within(got, expected, bound));
}

/// M X and MᴴG by make(M), between guarded borders.
template <class T, class LM, class L, class Make>
void check_dense(index_t m, index_t n, index_t t, Make const& make) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(t);
  padded<T, LM> const M(gaussian<T, LM>(m, n, 60));
  padded<T, L> const X(gaussian<T, L>(n, t, 61)), G(gaussian<T, L>(m, t, 62));
  auto const base = make(M.map());
  CHECK((base.rows() == m && base.cols() == n));
  padded<T, L> Y(m, t), D(n, t);
  base.apply(X.view(), Y.view());
  base.apply_adjoint(G.view(), D.view());
  auto const weight = widen(M.map());
  long double const eps = eps_of<T>(), storage = storage_rounding<T>(), floor = storage_floor<T>();
  check_product(weight, widen(X.map()), widen(Y.map()), eps, storage, floor);
  check_product(adjoint_copy(weight), widen(G.map()), widen(D.map()), eps, storage, floor);
  CHECK((Y.intact() && D.intact()));
}

}  // namespace hoft_test
