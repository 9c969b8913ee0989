// SPDX-License-Identifier: BSD-3-Clause
// hoft/reference/hyperspherical_energy.hpp: how evenly the columns of a matrix spread over the sphere.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/reference/arithmetic.hpp>

#include <Eigen/Core>

namespace HOFT_TARGET_NAMESPACE {

namespace reference::detail {

/// The columns of W at length 1, zero columns left out.
template <class A, class D>
columns<A> directions(Eigen::MatrixBase<D> const& W) {
  using R = real_of_t<A>;
  columns<A> V = converted<A>(W);
  index_t count = 0;
  for (index_t j = 0; j < V.cols(); ++j) {
    column<A> v = V.col(j);
    if (!scale_to_one(v)) continue;
    R square(0);
    for (index_t i = 0; i < v.size(); ++i) square += squared_magnitude(A(v(i)));
    R const norm = square_root(square);
    for (index_t i = 0; i < v.size(); ++i) V(i, count) = divided(A(v(i)), norm);
    ++count;
  }
  V.conservativeResize(V.rows(), count);
  return V;
}

template <class A, class D>
real_of_t<A> energy(Eigen::MatrixBase<D> const& W) {
  using R = real_of_t<A>;
  columns<A> const V = directions<A>(W);
  R sum(0);
  for (index_t j = 0; j < V.cols(); ++j)
    for (index_t i = 0; i < j; ++i) {
      R square(0);
      // The difference itself: √(2 − 2 cos) would lose half the digits between near neighbours.
      for (index_t l = 0; l < V.rows(); ++l) square += squared_magnitude(A(V(l, i) - V(l, j)));
      sum += R(R(1) / square_root(square));
    }
  return R(sum + sum);  // each pair in both orders
}

}  // namespace reference::detail

/// The hyperspherical energy Σ_{i ≠ j} 1 / ‖ŵ_i − ŵ_j‖₂ over ordered pairs of columns, ŵ = w / ‖w‖₂.
///
/// A unitary matrix from the left keeps it: hyperspherical_energy(Q W) = hyperspherical_energy(W). From the right
/// columns are mixed and it changes.
///
/// @param W [m, n] In. Any Eigen matrix or expression, any scalar of the reference that also has sqrt.
/// @return a real number in W's real type (float for 16-bit W). 0 for fewer than two columns. A zero column has no
///   direction and is left out of the sum. Two equal columns, or two that differ by a power of two, coincide and give
///   infinity; columns that are parallel only to rounding give infinity or a term of order 1/ε. NaN if W holds a NaN or
///   an infinity.
/// Cost: 3 m n² / 2 flops, n² / 2 square roots and a copy of W.
/// Accuracy: computed in double for float and 16-bit W, else in W's own type. Relative error of at most
/// (m + 8) ε / min_{i≠j} ‖ŵ_i − ŵ_j‖₂ plus n² ε / 2 for the sum, ε the epsilon of the type computed in, and one
/// rounding to the result. Columns of any magnitude work: each is divided by its largest element first. Source: Liu et
/// al., Learning towards Minimum Hyperspherical Energy, 2018 (arXiv 1805.09298), and appendix B of the HOFT paper
/// (arXiv 2505.16531).
template <class D>
[[nodiscard]] auto hyperspherical_energy(Eigen::MatrixBase<D> const& W) {
  namespace ref = reference::detail;
  using T = typename D::Scalar;
  return static_cast<ref::measure_t<T>>(ref::energy<ref::measuring_t<T>>(W));
}

/// hyperspherical_energy(What) − hyperspherical_energy(W), with its sign.
///
/// @param W [m, n] In. The weight before.
/// @param What [m, n] In. The weight after; the same element type.
/// @return a real number in W's real type. NaN if W and What both have coinciding columns (infinite energies).
/// @throws hoft::shape_error if the shapes differ.
/// Cost: two energies.
/// Accuracy: the two energies are subtracted in the type they are computed in (at least double), before the rounding to
/// the result; the error is that of the two energies.
/// Source: appendix B of the HOFT paper (arXiv 2505.16531).
template <class D, class Dhat>
[[nodiscard]] auto hyperspherical_energy_change(Eigen::MatrixBase<D> const& W, Eigen::MatrixBase<Dhat> const& What) {
  namespace ref = reference::detail;
  using T = typename D::Scalar;
  static_assert(std::is_same_v<T, typename Dhat::Scalar>, "hoft: W and What must have the same element type.");
  using A = ref::measuring_t<T>;
  detail::require_equal("hyperspherical_energy_change", "What.rows", What.rows(), W.rows());
  detail::require_equal("hyperspherical_energy_change", "What.cols", What.cols(), W.cols());
  using R = ref::real_of_t<A>;
  return static_cast<ref::measure_t<T>>(R(ref::energy<A>(What) - ref::energy<A>(W)));
}

}  // namespace HOFT_TARGET_NAMESPACE
