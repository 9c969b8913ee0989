// SPDX-License-Identifier: BSD-3-Clause
// reflectors.hpp: one product of reflectors in every form that a contestant wants, and the peers that take reflectors
// one by one. Compiled once, in reflectors.cpp, for float and double.
#pragma once
#include <hoft/eigen/compact_wy.hpp>

namespace bench {

using hoft::index_t;
using hoft::matrix_view;

/// Q = H(u₁) ⋯ H(u_r) = I − U F Uᵀ. The columns of U are those of a QR factorisation, ones on the diagonal and zeros
/// above, so that LAPACK can apply the same Q.
template <class T>
struct reflectors {
  hoft::dense_matrix<T> start;   ///< [m, r] the matrix that was factorised
  hoft::dense_matrix<T> packed;  ///< [m, r] as geqrf leaves it
  hoft::dense_vector<T> tau;     ///< [r]
  hoft::dense_matrix<T> U, F;    ///< [m, r] unit lower trapezoidal, [r, r] upper triangular
  hoft::compact_wy<T> form;

  reflectors(index_t m, index_t r, unsigned seed);
};

/// X := Q X (left) or X Q (right), one reflector after another as vectorised matrix-vector products and rank-1 updates,
/// on panels that stay in the second-level cache. scratch: max(m, n) numbers.
template <class T>
void reflect_left(reflectors<T> const& Q, matrix_view<T> X, hoft::dense_vector<T>& scratch);
template <class T>
void reflect_right(reflectors<T> const& Q, matrix_view<T> X, hoft::dense_vector<T>& scratch);

/// The same by Eigen's HouseholderSequence on the form that geqrf leaves.
template <class T>
void eigen_sequence_left(reflectors<T> const& Q, matrix_view<T> X);
template <class T>
void eigen_sequence_right(reflectors<T> const& Q, matrix_view<T> X);

/// X := Q X with Q from Eigen's own factorisation of Q.start.
template <class T>
void eigen_qr_left(reflectors<T> const& Q, matrix_view<T> X);

}  // namespace bench
