// SPDX-License-Identifier: BSD-3-Clause
// The transforms that the tests of the CUDA backend call, as calls.hpp has the compact WY forms.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/eigen.hpp>
#include <hoft/adapter/layer.hpp>

namespace hoft_test {

template <class Machine, class T, class L>
struct transform_calls {
  using form = hoft::compact_wy_view<float>;
  using adapter = hoft::adapter_view<float const>;
  using matrix = hoft::matrix_view<T, L>;
  using constant = hoft::matrix_view<T const, L>;
  using gradient = hoft::matrix_view<float>;
  using gradient_vector = hoft::vector_view<float>;
  using layer_type = hoft::bound_layer_view<float>;
  using state_type = hoft::layer_state<float, T, L>;
  using sums_type = hoft::layer_gradient_view<float>;
  using index_t = hoft::index_t;

  static index_t accumulate_size(Machine const&, form const& Q);
  static void accumulate(Machine const&, hoft::matrix_view<float const> U, form& Q, hoft::workspace work);
  static index_t merge_size(Machine const&, adapter const& a, constant M);
  static void merge(Machine const&, adapter const& a, constant M, matrix Mhat, hoft::workspace work);
  static index_t merge_backward_size(Machine const&, adapter const& a, constant M);
  static void merge_backward(Machine const&, adapter const& a, constant M, constant dMhat, gradient dU, gradient dV,
                             gradient_vector ds, hoft::workspace work);
  static index_t bind_size(Machine const&, adapter const& a);
  static void bind(Machine const&, adapter const& a, constant M, layer_type& layer, hoft::workspace work);
  static index_t forward_size(Machine const&, layer_type const& layer, constant x);
  static void forward(Machine const&, layer_type const& layer, constant M, constant x, matrix y,
                      state_type const& state, hoft::workspace work);
  static void set_zero(Machine const&, sums_type const& g);
  static index_t backward_size(Machine const&, layer_type const& layer, state_type const& state);
  static void backward(Machine const&, layer_type const& layer, constant M, constant x, constant y,
                       state_type const& state, constant dy, matrix dbase, matrix dx, sums_type const& g,
                       hoft::workspace work);
  static index_t finish_size(Machine const&, layer_type const& layer);
  static void finish(Machine const&, layer_type const& layer, constant M, sums_type const& g, gradient dU, gradient dV,
                     gradient_vector ds, hoft::workspace work);
};

}  // namespace hoft_test
