// SPDX-License-Identifier: BSD-3-Clause
// hoft/reference/orthogonality.hpp: how far columns are from orthonormal.
#pragma once
#include <hoft/reference/arithmetic.hpp>

#include <Eigen/Core>

namespace HOFT_TARGET_NAMESPACE {

/// ‖I − QᴴQ‖_F / √k, the root mean square, over columns, of the deviation from orthonormality.
///
/// @param Q [m, k] In. Any Eigen matrix or expression, any scalar of the reference; a complex type is one that
///   Eigen::NumTraits declares complex.
/// @return a real number in Q's real type (float for 16-bit Q). 0 if Q has no columns. NaN if Q holds a NaN or an
///   infinity. Columns without rows, or more columns than rows, are no orthonormal set: the error is then at least
///   √((k − m) / k).
/// Cost: m k² flops and a copy of Q.
/// Accuracy: computed in double for float and 16-bit Q, else in Q's own type, where an absolute error of about m ε per
/// Gram element, so m √k ε in all, comes from the measure itself. Elements whose squares overflow give infinity or
/// NaN.
/// Source: the definition; Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 19.3.
template <class D>
[[nodiscard]] auto orthogonality_error(Eigen::MatrixBase<D> const& Q) {
  namespace ref = reference::detail;
  using A = ref::measuring_t<typename D::Scalar>;
  using R = ref::real_of_t<A>;
  using Result = ref::measure_t<typename D::Scalar>;
  ref::columns<A> const E = ref::converted<A>(Q);
  index_t const k = E.cols();
  if (k == 0) return Result(0);
  // Sums would turn an infinity into NaN here and into infinity there.
  for (index_t j = 0; j < k; ++j)
    for (index_t i = 0; i < E.rows(); ++i)
      for (R const& part : {R(ref::real_part(A(E(i, j)))), R(ref::imaginary_part(A(E(i, j))))})
        // NaN is what an infinity less itself is. NOLINTNEXTLINE(misc-redundant-expression)
        if (!ref::finite(part)) return static_cast<Result>(R(part - part));
  R sum(0);
  for (index_t j = 0; j < k; ++j)
    for (index_t i = 0; i <= j; ++i) {
      A gram(0);
      for (index_t l = 0; l < E.rows(); ++l) gram += A(ref::conjugate_of(A(E(l, i))) * E(l, j));
      if (i == j) gram -= A(1);
      R const square = ref::squared_magnitude(gram);
      sum += i == j ? square : R(square + square);  // the lower triangle is the conjugate of the upper one
    }
  return static_cast<Result>(ref::square_root(R(sum / R(static_cast<int>(k)))));
}

}  // namespace HOFT_TARGET_NAMESPACE
