// SPDX-License-Identifier: BSD-3-Clause
// The calls of hoft that the tests of the CUDA backend make, so that nvcc compiles these and nothing else: the bodies
// of the tests, their judges and Eigen's products are the ordinary compiler's.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/core/scalar.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/eigen.hpp>
#include <hoft/householder/compact_wy.hpp>

#include <complex>

namespace hoft_test {

/// Every call by machine `Machine` (which has policy()) on matrices of T and layout L.
template <class Machine, class T, class L>
struct calls {
  using A = hoft::accumulator_t<T>;
  using form = hoft::compact_wy_view<A>;
  using constant_form = hoft::compact_wy_view<A const>;
  using matrix = hoft::matrix_view<T, L>;
  using constant = hoft::matrix_view<T const, L>;
  using index_t = hoft::index_t;

  static index_t accumulate_size(Machine const&, form const& Q, hoft::inverse kind);
  static void accumulate(Machine const&, constant U, form& Q, hoft::inverse kind, hoft::workspace work);
  static void accumulate(Machine const&, constant V, hoft::vector_view<A const> tau, form& Q, hoft::workspace work);
  static index_t apply_size(Machine const&, constant_form const& Q, constant X, hoft::side s);
  static void apply(Machine const&, constant_form const& Q, constant X, matrix Y, hoft::side s, hoft::op o,
                    hoft::workspace work, hoft::matrix_view<A> W);
  static index_t apply_backward_size(Machine const&, constant_form const& Q, constant X, hoft::side s);
  static void apply_backward(Machine const&, constant_form const& Q, constant X, constant dY, matrix dX, matrix dU,
                             hoft::vector_view<A> dtau, hoft::side s, hoft::op o, hoft::workspace work);
  static void apply_backward_from_output(Machine const&, constant_form const& Q, constant Y, constant dY, matrix dX,
                                         matrix dU, hoft::side s, hoft::op o, hoft::workspace work);
};

}  // namespace hoft_test
