// SPDX-License-Identifier: BSD-3-Clause
// naive.hpp: a whole backend of hoft in plain loops, to be read by somebody who writes one.
//
// It computes on one thread, on memory of the host, and is slow. It is right, and it is complete: every algorithm of
// hoft/householder and hoft/adapter runs on it, for every scalar and layout.
#pragma once
#include <hoft/backend/concept.hpp>

namespace naive_backend {

using hoft::accumulating;
using hoft::index_t;
using hoft::matrix_view;
using hoft::op;
using hoft::vector_view;

struct naive_operations;

/// The policy: what a caller passes first, hoft::apply(naive{}, ...). It holds what the operations need to know, such
/// as a number of threads or a stream. It is copied, and every operation gets it. This one needs nothing.
struct naive {
  using backend = naive_operations;  ///< where hoft finds the operations; the class may be incomplete here
};

/// A team is what works on one column, and here that is a single loop. On a GPU it would be a block of threads, and
/// each function would end in a barrier.
struct one_loop {
  /// f(i) for all i < n.
  template <class F>
  void each(index_t n, F const& f) const {
    for (index_t i = 0; i < n; ++i) f(i);
  }
  /// The largest f(i) >= 0. `larger` keeps a NaN, which std::max would drop.
  template <class F>
  auto largest(index_t n, F const& f) const {
    decltype(f(index_t{})) found(0);
    for (index_t i = 0; i < n; ++i) found = hoft::scalar_math::larger(found, f(i));
    return found;
  }
  /// Σ conj(X(i, j)) Y(i, j).
  template <class T, class L>
  T dot(matrix_view<T const, L> X, matrix_view<T const, L> Y, index_t j) const {
    T sum(0);
    for (index_t i = 0; i < X.rows; ++i) sum += hoft::conjugate(X(i, j)) * Y(i, j);
    return sum;
  }
  /// X(:, j) := X(:, j) / s. A true division: the inverse of a tiny s is infinite.
  template <class T>
  void divide(matrix_view<T> X, index_t j, hoft::real_t<T> s) const {
    for (index_t i = 0; i < X.rows; ++i) X(i, j) /= s;
  }
};

/// The operations: static functions that take the policy first. Copying, normalising, packing, walking and the rest
/// come from `defaults`, which is written with the seven below. They get matrices in the accumulator type: storage in
/// 16 bits is converted before, by `copy`, panel by panel.
///
/// Each view has a layout of its own, and inputs may be views of T or of T const. Hence the many template parameters:
/// what is written, the last view, fixes the scalar T.
struct naive_operations : hoft::backend::defaults {
  // --- walking: hoft brings the function -------------------------------------------------------------------------

  /// f(i, j) for every element of X. Any order, or at the same time: f changes element (i, j) and reads no other that
  /// changes. A GPU launches f as it is, since f is a function object without pointers to the host.
  template <class T, class L, class F>
  static void for_each_element(naive const&, matrix_view<T, L> X, F const& f) {
    for (index_t j = 0; j < X.cols; ++j)
      for (index_t i = 0; i < X.rows; ++i) f(i, j);
  }

  /// f(team, j) for every column j < n. m is the length of a column: how much work each one is.
  template <class F>
  static void for_each_column(naive const&, index_t /*m*/, index_t n, F const& f) {
    for (index_t j = 0; j < n; ++j) f(one_loop{}, j);
  }

  // --- four products -----------------------------------------------------------------------------------------------

  /// W := UᴴX, for U [m, r], X [m, n], W [r, n]. This one sums over rows: where rows are spread over machines, it ends
  /// in an all-reduce, and `update` does not.
  template <class TU, class LU, class TX, class LX, accumulating T, class LW>
  static void project(naive const&, matrix_view<TU, LU> U, matrix_view<TX, LX> X, matrix_view<T, LW> W) {
    for (index_t j = 0; j < W.cols; ++j)
      for (index_t i = 0; i < W.rows; ++i) {
        T sum(0);
        for (index_t l = 0; l < U.rows; ++l) sum += hoft::conjugate(U(l, i)) * X(l, j);
        W(i, j) = sum;
      }
  }

  /// Y := X + alpha U Z, for U [m, r], Z [r, n], X and Y [m, n]. X may be Y, so X(i, j) is read before Y(i, j) is
  /// written; or X has no data, which stands for zero. type_identity_t leaves T to Y: X may then be a view of T, of
  /// T const, or {}.
  template <class TU, class LU, class TZ, class LZ, accumulating T, class LY>
  static void update(naive const&, std::type_identity_t<T> alpha, matrix_view<TU, LU> U, matrix_view<TZ, LZ> Z,
                     std::type_identity_t<matrix_view<T const, LY>> X, matrix_view<T, LY> Y) {
    for (index_t j = 0; j < Y.cols; ++j)
      for (index_t i = 0; i < Y.rows; ++i) {
        T sum(0);
        for (index_t l = 0; l < U.cols; ++l) sum += U(i, l) * Z(l, j);
        Y(i, j) = X.data == nullptr ? alpha * sum : X(i, j) + alpha * sum;
      }
  }

  /// D := D + alpha X Zᴴ, for X [m, n], Z [r, n], D [m, r]: the gradients of U and V, summed over tokens.
  template <class TX, class LX, class TZ, class LZ, accumulating T, class LD>
  static void outer(naive const&, std::type_identity_t<T> alpha, matrix_view<TX, LX> X, matrix_view<TZ, LZ> Z,
                    matrix_view<T, LD> D) {
    for (index_t j = 0; j < D.cols; ++j)
      for (index_t i = 0; i < D.rows; ++i) {
        T sum(0);
        for (index_t l = 0; l < X.cols; ++l) sum += X(i, l) * hoft::conjugate(Z(j, l));
        D(i, j) += alpha * sum;
      }
  }

  /// Z := alpha F W or alpha Fᴴ W, for a small square F [r, r] and W, Z [r, n] that do not overlap.
  template <class TF, class TW, class LW, accumulating T, class LZ>
  static void multiply(naive const& policy, std::type_identity_t<T> alpha, matrix_view<TF> F, op o,
                       matrix_view<TW, LW> W, matrix_view<T, LZ> Z) {
    if (o == op::plain) return update(policy, alpha, F, W, {}, Z);
    project(policy, F, W, Z);
    for_each_element(policy, Z, [=](index_t i, index_t j) { Z(i, j) *= alpha; });
  }

  // --- the triangular factor ---------------------------------------------------------------------------------------

  /// F := (diag(1/tau) + A)⁻¹, upper triangular, for A strictly upper: column j from the columns before it. Nothing is
  /// divided by tau, since tau = 0 says that a reflector is the identity: its row and column of F are zero. `scratch`
  /// has form_factor_scratch(policy, r) elements, by default none.
  template <accumulating T>
  static void form_factor(naive const&, matrix_view<T const> A, vector_view<T const> tau, matrix_view<T> F,
                          T* /*scratch*/) {
    for (index_t j = 0; j < A.cols; ++j)
      for (index_t i = 0; i < A.rows; ++i) {
        T sum(0);
        for (index_t l = i; l < j; ++l) sum += F(i, l) * A(l, j);
        F(i, j) = i < j ? -sum * tau[j] : i == j ? tau[j] : T(0);
      }
  }
};

// Names what is missing, or has another signature, here and not deep inside an algorithm.
static_assert(hoft::backend::complete<naive> && hoft::backend::complete<naive, std::complex<double>>,
              "naive is no complete backend: the compiler names the operation that is missing, below.");

}  // namespace naive_backend
