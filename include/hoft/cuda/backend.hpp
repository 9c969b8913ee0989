// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/backend.hpp: the operations of a GPU (backend/concept.hpp). Kernels take whole matrices, so that walks over
// panels are one panel.
#pragma once
#include <hoft/backend/concept.hpp>
#include <hoft/cuda/batch.hpp>
#include <hoft/cuda/fused_adapter.hpp>
#include <hoft/cuda/fused_householder.hpp>
#include <hoft/cuda/product.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// f(j, i) as a walk along rows calls it.
template <class F>
struct turned {
  F f;
  HOFT_HOST_DEVICE void operator()(index_t j, index_t i) const { f(i, j); }
};

struct operations : backend::defaults {
  /// f(i, j) for every element of X, along its lines.
  template <device_policy Device, class T, class L, class F>
  static void for_each_element(Device const& device, matrix_view<T, L> X, F const& f) {
    if (X.empty()) return;
    if constexpr (X.is_col_major) {
      elements<F> const kernel{X.rows, X.cols, f};
      launch(device, kernel.tiles(), kernel);
    } else {
      elements<turned<F>> const kernel{X.cols, X.rows, {f}};
      launch(device, kernel.tiles(), kernel);
    }
  }
  /// X := value for several X, by one launch.
  template <device_policy Device, class T, std::size_t N>
  static void fill_each(Device const& device, std::type_identity_t<T> value, matrix_view<T> const (&each)[N]) {
    backend::fill_each_element<T, N> f{value, {}};
    index_t rows = 0, cols = 0;
    for (std::size_t n = 0; n < N; ++n) {
      f.each[n] = each[n];
      rows = (std::max)(rows, each[n].rows);
      cols += each[n].cols;
    }
    for_each_element(device, matrix_view<T>(nullptr, rows, cols), f);
  }
  /// f(team, j) for every column j < n, a block for each.
  template <device_policy Device, class F>
  static void for_each_column(Device const& device, index_t, index_t n, F const& f) {
    if (n > 0) launch(device, n, columns_kernel<F>{n, f});
  }
  /// The host does not read what the device holds.
  template <device_policy Device, class T>
  static index_t find_zero(Device const&, vector_view<T const>) {
    return -1;
  }

  /// W := UᴴX.
  template <device_policy Device, class TU, class LU, class TX, class LX, class T, class LW>
  static void project(Device const& device, matrix_view<TU, LU> U, matrix_view<TX, LX> X, matrix_view<T, LW> W) {
    general_product<Device, T>(device, T(1), matrix_view<T const, LU>(U).transposed(), is_complex<T>,
                               matrix_view<T const, LX>(X), false, {}, W);
  }
  /// Y := X + alpha U Z. X may be Y, or have no data for zero.
  template <device_policy Device, class TU, class LU, class TZ, class LZ, class T, class LY>
  static void update(Device const& device, std::type_identity_t<T> alpha, matrix_view<TU, LU> U, matrix_view<TZ, LZ> Z,
                     std::type_identity_t<matrix_view<T const, LY>> X, matrix_view<T, LY> Y) {
    general_product<Device, T>(device, alpha, matrix_view<T const, LU>(U), false, matrix_view<T const, LZ>(Z), false, X,
                               Y);
  }
  /// D := D + alpha X Zᴴ.
  template <device_policy Device, class TX, class LX, class TZ, class LZ, class T, class LD>
  static void outer(Device const& device, std::type_identity_t<T> alpha, matrix_view<TX, LX> X, matrix_view<TZ, LZ> Z,
                    matrix_view<T, LD> D) {
    general_product<Device, T>(device, alpha, matrix_view<T const, LX>(X), false,
                               matrix_view<T const, LZ>(Z).transposed(), is_complex<T>, D, D);
  }
  /// Z := alpha op(F) W, F small and square.
  template <device_policy Device, class TF, class TW, class LW, class T, class LZ>
  static void multiply(Device const& device, std::type_identity_t<T> alpha, matrix_view<TF> F, op o,
                       matrix_view<TW, LW> W, matrix_view<T, LZ> Z) {
    if (o == op::plain)
      general_product<Device, T>(device, alpha, matrix_view<T const>(F), false, matrix_view<T const, LW>(W), false, {},
                                 Z);
    else
      general_product<Device, T>(device, alpha, matrix_view<T const>(F).transposed(), is_complex<T>,
                                 matrix_view<T const, LW>(W), false, {}, Z);
  }
  /// T := (diag(1/tau) + A)⁻¹ by one block.
  template <device_policy Device, class T>
  static void form_factor(Device const& device, matrix_view<T const> A, vector_view<T const> tau, matrix_view<T> F,
                          T*) {
    if (A.cols > 0) launch(device, 1, invert_triangle_kernel<T>{A, tau, F});
  }

  // --- batches (batch.hpp) ------------------------------------------------------------------------------------------

  template <device_policy Device>
  static index_t problems_at_once(Device const&, index_t count) {
    return (std::min)(count, most_together);
  }
  template <device_policy Device, class Body>
  static void for_each_problem(Device const& device, index_t count, Body const& body) {
    record_problems(device, count, body);
  }
  template <device_policy Device, class Base>
  static Base& in_order(Device const&, Base& base) {
    return base;
  }
  template <device_policy Device, class Base>
  static base_in_order<Device, Base> in_order(recorder<Device> const& s, Base& base) {
    return {s.to, &base};
  }

  // --- whole algorithms as few kernels ------------------------------------------------------------------------------

  template <device_policy Device, class TU, class LU, class Form>
  static bool accumulate_batch(Device const& device, std::span<matrix_view<TU, LU> const> U, std::span<Form> Q) {
    return accumulate_in_one_launch(device, U, Q);
  }
  template <class Panels>
  using apply_algorithm = fused_apply<Panels>;
  template <class Panels>
  using apply_backward_algorithm = fused_apply_backward<Panels>;
  template <class Panels>
  using project_algorithm = fused_or<Panels, fused_project>;
  template <class Panels>
  using adapt_algorithm = fused_or<Panels, fused_adapt>;
  template <class Panels>
  using adapt_backward_algorithm = fused_or<Panels, fused_adapt_backward>;
  template <class Panels>
  using update_algorithm = fused_or<Panels, fused_update>;
};

}  // namespace HOFT_CUDA_NAMESPACE
