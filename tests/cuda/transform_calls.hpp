// The transforms that the tests of the CUDA backend call, as calls.hpp has the compact WY forms.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/eigen.hpp>
#include <hoft/adapter/forward.hpp>

namespace hoft_test {

template <class Machine, class T, class L>
struct transform_calls {
  using form = hoft::compact_wy_view<float>;
  using adapter = hoft::adapter_view<float const>;
  using matrix = hoft::matrix_view<T, L>;
  using constant = hoft::matrix_view<T const, L>;
  using gradient = hoft::matrix_view<float>;
  using gradient_vector = hoft::vector_view<float>;
  using saved_type = hoft::saved_activations<float, T, L>;
  using index_t = hoft::index_t;

  static index_t accumulate_size(Machine const&, form const& Q);
  static void accumulate(Machine const&, hoft::matrix_view<float const> U, form& Q, hoft::workspace work);
  static index_t merge_size(Machine const&, adapter const& a, constant M);
  static void merge(Machine const&, adapter const& a, constant M, matrix Mhat, hoft::workspace work);
  static index_t merge_backward_size(Machine const&, adapter const& a, constant M);
  static void merge_backward(Machine const&, adapter const& a, constant M, constant dMhat, gradient dU, gradient dV,
                             gradient_vector ds, hoft::workspace work);
  static index_t forward_size(Machine const&, adapter const& a, matrix x);
  static void forward(Machine const&, adapter const& a, constant M, matrix x, matrix y, saved_type const& saved,
                      hoft::workspace work);
  static index_t backward_size(Machine const&, adapter const& a, saved_type const& saved);
  static void backward(Machine const&, adapter const& a, constant M, constant x, constant y, saved_type const& saved,
                       matrix dy, matrix dx, gradient dU, gradient dV, gradient_vector ds, hoft::workspace work);
};

}  // namespace hoft_test
