// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/columns.hpp: what is done to columns whose rows lie on several ranks, as function objects.
#pragma once
#include <hoft/backend/scalar_math.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/view/vector_view.hpp>

#include <limits>

namespace HOFT_TARGET_NAMESPACE::sharded_backend {

using namespace scalar_math;

/// 2^exponent at compile time.
template <class R>
constexpr R power_of_two(int exponent) {
  R result(1);
  for (; exponent > 0; --exponent) result *= R(2);
  for (; exponent < 0; ++exponent) result /= R(2);
  return result;
}

/// Norms whose squares would overflow are squared behind a factor, as those whose squares would vanish: three sums,
/// from which the norm of a column over all ranks follows. (Blue, ACM TOMS 4(1), 1978; LAPACK's nrm2 since 3.10.)
template <class R>
struct norm_ranges {
  using limits = std::numeric_limits<R>;
  static constexpr int floor_half(int a) { return a >= 0 ? a / 2 : -((1 - a) / 2); }
  static constexpr int ceil_half(int a) { return -floor_half(-a); }
  static constexpr R least = power_of_two<R>(ceil_half(limits::min_exponent - 1));
  static constexpr R most = power_of_two<R>(floor_half(limits::max_exponent - limits::digits + 1));
  static constexpr R small_factor = power_of_two<R>(-floor_half(limits::min_exponent - limits::digits));
  static constexpr R large_factor = power_of_two<R>(-ceil_half(limits::max_exponent + limits::digits - 1));
};

/// sums(:, j) := the square of this rank's ‖u_j‖ = μ ν in the first, second or third row: tiny, ordinary or huge.
template <class R>
struct square_norm {
  matrix_view<R const> scales;
  matrix_view<R> sums;
  HOFT_HOST_DEVICE void operator()(index_t, index_t j) const {
    using ranges = norm_ranges<R>;
    R const mu = scales(0, j), nu = scales(1, j), norm = mu * nu;
    bool const tiny = norm < ranges::least;
    bool const huge = norm > ranges::most;
    R const factor = tiny ? ranges::small_factor : huge ? ranges::large_factor : R(1), part = mu * factor * nu;
    for (index_t i = 0; i < 3; ++i) sums(i, j) = R(0);
    sums(tiny ? 0 : huge ? 2 : 1, j) = part * part;
  }
};

/// scales(:, j) := (μ, ν) of the whole column, and ratio[j] := this rank's ‖u_j‖ over it.
template <class R>
struct join_norms {
  matrix_view<R const> sums;
  matrix_view<R> scales;
  vector_view<R> ratio;
  HOFT_HOST_DEVICE void operator()(index_t, index_t j) const {
    using ranges = norm_ranges<R>;
    R const tiny = sums(0, j), ordinary = sums(1, j), huge = sums(2, j);
    R mu(1), square = ordinary;
    if (huge > R(0)) {
      mu = R(1) / ranges::large_factor;
      square = huge + ordinary * ranges::large_factor * ranges::large_factor;
    } else if (ordinary == R(0) && tiny > R(0)) {
      mu = R(1) / ranges::small_factor;
      square = tiny;
    } else {
      square = ordinary + tiny / ranges::small_factor / ranges::small_factor;
    }
    if (square == R(0)) mu = R(0), square = R(1);
    R const nu = square_root(square);
    ratio[j] = mu == R(0) ? R(0) : scales(0, j) / mu * (scales(1, j) / nu);
    scales(0, j) = mu, scales(1, j) = nu;
  }
};

/// X(:, j) := X(:, j) factor[j].
template <class T>
struct scale_column {
  vector_view<real_t<T> const> factor;
  matrix_view<T> X;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const { X(i, j) = times_real(X(i, j), factor[j]); }
};

/// du := (d − û dot tau / 2) / ‖u‖ with dot = ûᴴd over all ranks, and 0 for a zero column.
template <class T, class TU, class LU>
struct normalise_backward_element {
  matrix_view<T const> Uhat;
  matrix_view<real_t<T> const> scales;
  vector_view<T const> tau, dots;
  matrix_view<T const> D;
  matrix_view<TU, LU> dU;
  HOFT_HOST_DEVICE void operator()(index_t i, index_t j) const {
    real_t<T> const mu = scales(0, j), nu = scales(1, j);
    T const factor = negative(times_real(product(T(dots[j]), T(tau[j])), real_t<T>(0.5)));
    T const du = multiply_add(Uhat(i, j), factor, D(i, j));
    dU(i, j) = static_cast<TU>(mu == real_t<T>(0) ? T(0) : over_real(over_real(du, nu), mu));
  }
};

}  // namespace HOFT_TARGET_NAMESPACE::sharded_backend
