// SPDX-License-Identifier: BSD-3-Clause
// hoft/reference/gradient.hpp: a claimed gradient against central differences.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/reference/arithmetic.hpp>

#include <Eigen/Core>

#include <cmath>
#include <initializer_list>
#include <limits>
#include <string>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE {

/// What `check_gradient` found. NaN and infinity anywhere make `error` and `difference` infinite, so that no bound lets
/// them pass, however the comparison is written.
template <class Real>
struct gradient_comparison {
  Real error = 0;       ///< difference / scale; 0 when both are 0
  Real difference = 0;  ///< the largest |claimed − numeric| over all elements, real and imaginary parts on their own
  Real scale = 0;       ///< the largest |claimed| or |numeric| over all elements
  index_t row = -1;     ///< where the largest difference, or the first value that is not finite, stands
  index_t col = -1;
};

namespace reference::detail {

/// x + h or x + i h, and x itself for h = 0, in the type x is stored in.
template <class T>
T moved(T const& x, real_of_t<computing_t<T>> const& h, bool imaginary) {
  using C = computing_t<T>;
  using R = real_of_t<C>;
  C const a = static_cast<C>(x);
  if constexpr (is_complex_number<C>)
    return imaginary ? C(real_part(a), R(imaginary_part(a) + h)) : C(R(real_part(a) + h), imaginary_part(a));
  else return static_cast<T>(C(a + h));
}

/// The spacing of T's numbers above 1, in V. From the digits: numeric_limits<Eigen::half>::epsilon() of Eigen 3.4 is 8
/// times too small.
template <class V, class T>
V spacing() {
  using limits = std::numeric_limits<T>;
  if constexpr (limits::radix == 2) {
    using std::ldexp;
    return V(ldexp(V(1), 1 - limits::digits));
  } else {
    return static_cast<V>(limits::epsilon());
  }
}

template <class C>
real_of_t<C> part(C const& a, bool imaginary) {
  return imaginary ? imaginary_part(a) : real_part(a);
}

/// Takes in one part of one element. False if it is not finite.
template <class V>
bool compare(gradient_comparison<V>& found, V const& claimed, V const& numeric, index_t i, index_t j) {
  V const difference = absolute(V(claimed - numeric));
  if (!finite(difference)) {
    found.error = found.difference = std::numeric_limits<V>::infinity();
    found.row = i;
    found.col = j;
    return false;
  }
  if (found.row < 0 || found.difference < difference) {
    found.difference = difference;
    found.row = i;
    found.col = j;
  }
  for (V const& a : {absolute(claimed), absolute(numeric)})
    if (found.scale < a) found.scale = a;
  return true;
}

}  // namespace reference::detail

/// Compares a claimed gradient dx of f at x with central differences, (f(x + h e) − f(x − h e)) / 2h for each element;
/// with complex x for its real and its imaginary part: dL = Re tr(dxᴴ dX), so dx = ∂f/∂Re x + i ∂f/∂Im x.
///
/// @param f a function of a matrix of x's type and shape that returns a real floating-point number (also of a wider
///   type than x's, which helps: then only x is rounded). Called with one element of x moved, the others exact.
/// @param x [m, n] In. The point. Its elements and f's value must be of types with std::numeric_limits and an infinity.
/// @param dx [m, n] In. The claimed gradient.
/// @param step h, the same for every element; 0 chooses ε^{1/3} max(1, |x_ij|), ε the coarser of x's type and f's. Give
/// one when f varies on another scale than 1 (a scale-invariant f at a tiny x, say).
/// @return the largest difference over the matrix, also relative to the largest element of either gradient, and where
///   it stands; compare `error` with a bound. A difference is not measured against its own element: small elements
///   carry the rounding noise of the whole f. Where the true gradient is zero everywhere, `error` compares noise with
///   noise: look at `difference`.
/// @throws hoft::shape_error if the shapes differ; hoft::argument_error if step is negative or not finite.
/// Cost: 2 m n evaluations of f, 4 m n with complex x.
/// Accuracy: a right gradient has a difference of at most h² |f‴| / 6 + δ / h to first order, δ the absolute error of
/// f; about ε^{2/3} where f and its derivatives are of order 1: 4e-11 in double, 2e-5 in float. A step lost to rounding
/// (x + h = x) counts as failure.
/// Source: the definition; Dennis and Schnabel, Numerical Methods for Unconstrained Optimization, section 5.4.
template <class F, class DX, class DG>
[[nodiscard]] auto check_gradient(F&& f, Eigen::MatrixBase<DX> const& x, Eigen::MatrixBase<DG> const& dx,
                                  double step = 0) {
  namespace ref = reference::detail;
  using T = typename DX::Scalar;
  using R = ref::measure_t<T>;
  using G = ref::computing_t<typename DG::Scalar>;
  using Point = typename DX::PlainObject;
  using V = ref::computing_t<std::remove_cvref_t<std::invoke_result_t<F&, Point const&>>>;
  static_assert(!ref::is_complex_number<V> && std::numeric_limits<V>::has_infinity,
                "hoft: f must return a real floating-point number.");
  static_assert(ref::is_complex_number<G> == ref::is_complex_number<ref::computing_t<T>>,
                "hoft: the gradient at a complex x is complex, at a real x it is real.");
  detail::require_equal("check_gradient", "dx.rows", dx.rows(), x.rows());
  detail::require_equal("check_gradient", "dx.cols", dx.cols(), x.cols());
  if (!(step >= 0 && ref::finite(step)))
    detail::refuse<argument_error>("check_gradient", "step", std::to_string(step), "finite and >= 0");

  using std::cbrt;
  // The epsilon of storage, not of computing: x + h is rounded to what x is stored in.
  V const storage = ref::spacing<V, typename Eigen::NumTraits<T>::Real>(), value = ref::spacing<V, V>();
  R const relative = static_cast<R>(V(cbrt(V(storage < value ? value : storage))));

  Point point = x;
  ref::columns<G> const claimed = ref::converted<G>(dx);
  gradient_comparison<V> found;
  for (index_t j = 0; j < point.cols(); ++j)
    for (index_t i = 0; i < point.rows(); ++i)
      for (bool imaginary : {false, true}) {
        if (imaginary && !ref::is_complex_number<G>) continue;
        T const here = point(i, j);
        R const size = ref::largest_part(static_cast<ref::computing_t<T>>(here));
        R const h = step > 0 ? static_cast<R>(step) : R(relative * (size < R(1) ? R(1) : size));
        T const above = ref::moved(here, h, imaginary), below = ref::moved(here, R(-h), imaginary);
        point(i, j) = above;
        V const upper = static_cast<V>(f(static_cast<Point const&>(point)));
        point(i, j) = below;
        V const lower = static_cast<V>(f(static_cast<Point const&>(point)));
        point(i, j) = here;
        // The step that was taken, after the rounding of x ± h.
        R const taken = ref::part(static_cast<ref::computing_t<T>>(above), imaginary) -
                        ref::part(static_cast<ref::computing_t<T>>(below), imaginary);
        V const numeric = V(upper - lower) / static_cast<V>(taken);
        if (!ref::compare(found, static_cast<V>(ref::part(G(claimed(i, j)), imaginary)), numeric, i, j)) return found;
      }
  if (found.difference > V(0)) found.error = found.difference / found.scale;
  return found;
}

}  // namespace HOFT_TARGET_NAMESPACE
