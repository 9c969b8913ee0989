// SPDX-License-Identifier: BSD-3-Clause
// The bodies of transform_calls.hpp; the machine's policy is complete here.
#pragma once
#include "transform_calls.hpp"

#include <hoft/cuda/dense.hpp>
#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/bind.hpp>
#include <hoft/adapter/finish.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/adapter/merge.hpp>

namespace hoft_test {

template <class M, class T, class L>
hoft::index_t transform_calls<M, T, L>::accumulate_size(M const& machine, form const& Q) {
  return hoft::accumulate_workspace<float>(machine.policy(), Q.rank(), Q.block);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::accumulate(M const& machine, hoft::matrix_view<float const> U, form& Q,
                                          hoft::workspace work) {
  hoft::accumulate(machine.policy(), U, Q, hoft::exact{}, work);
}
template <class M, class T, class L>
hoft::index_t transform_calls<M, T, L>::merge_size(M const& machine, adapter const& a, constant W) {
  return hoft::merge_workspace(machine.policy(), a, W);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::merge(M const& machine, adapter const& a, constant W, matrix What,
                                     hoft::workspace work) {
  hoft::merge(machine.policy(), a, W, What, work);
}
template <class M, class T, class L>
hoft::index_t transform_calls<M, T, L>::merge_backward_size(M const& machine, adapter const& a, constant W) {
  return hoft::merge_backward_workspace(machine.policy(), a, W);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::merge_backward(M const& machine, adapter const& a, constant W, constant dWhat,
                                              gradient dU, gradient dV, gradient_vector ds, hoft::workspace work) {
  hoft::merge_backward(machine.policy(), a, W, dWhat, dU, dV, ds, work);
}
template <class M, class T, class L>
hoft::index_t transform_calls<M, T, L>::bind_size(M const& machine, adapter const& a) {
  return hoft::bind_workspace<T, L>(machine.policy(), a);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::bind(M const& machine, adapter const& a, constant W, layer_type& layer,
                                    hoft::workspace work) {
  auto const base = dense(machine.policy(), W);
  hoft::bind_layer<T, L>(machine.policy(), a, base, layer, work);
}
template <class M, class T, class L>
hoft::index_t transform_calls<M, T, L>::forward_size(M const& machine, layer_type const& layer, constant x) {
  return hoft::forward_workspace(machine.policy(), layer, x);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::forward(M const& machine, layer_type const& layer, constant W, constant x, matrix y,
                                       state_type const& state, hoft::workspace work) {
  auto const base = dense(machine.policy(), W);
  hoft::forward(machine.policy(), layer, base, x, y, state, work);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::set_zero(M const& machine, sums_type const& g) {
  hoft::set_zero(machine.policy(), g);
}
template <class M, class T, class L>
hoft::index_t transform_calls<M, T, L>::backward_size(M const& machine, layer_type const& layer,
                                                      state_type const& state) {
  return hoft::backward_workspace(machine.policy(), layer, state);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::backward(M const& machine, layer_type const& layer, constant W, constant x, constant y,
                                        state_type const& state, constant dy, matrix dbase, matrix dx,
                                        sums_type const& g, hoft::workspace work) {
  auto const base = dense(machine.policy(), W);
  hoft::backward(machine.policy(), layer, base, x, y, state, dy, dbase, dx, g, work);
}
template <class M, class T, class L>
hoft::index_t transform_calls<M, T, L>::finish_size(M const& machine, layer_type const& layer) {
  return hoft::finish_workspace<T, L>(machine.policy(), layer);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::finish(M const& machine, layer_type const& layer, constant W, sums_type const& g,
                                      gradient dU, gradient dV, gradient_vector ds, hoft::workspace work) {
  auto const base = dense(machine.policy(), W);
  hoft::finish<T, L>(machine.policy(), layer, base, g, dU, dV, ds, work);
}

}  // namespace hoft_test
