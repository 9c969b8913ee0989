// The bodies of transform_calls.hpp; the machine's policy is complete here.
#pragma once
#include "transform_calls.hpp"

#include <hoft/cuda/dense.hpp>
#include <hoft/adapter/backward.hpp>
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
hoft::index_t transform_calls<M, T, L>::forward_size(M const& machine, adapter const& a, matrix x) {
  return hoft::forward_workspace(machine.policy(), a, x);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::forward(M const& machine, adapter const& a, constant W, matrix x, matrix y,
                                       saved_type const& saved, hoft::workspace work) {
  auto const base = dense(machine.policy(), W);
  hoft::forward(machine.policy(), a, base, x, y, saved, work);
}
template <class M, class T, class L>
hoft::index_t transform_calls<M, T, L>::backward_size(M const& machine, adapter const& a, saved_type const& saved) {
  return hoft::backward_workspace(machine.policy(), a, saved);
}
template <class M, class T, class L>
void transform_calls<M, T, L>::backward(M const& machine, adapter const& a, constant W, constant x, constant y,
                                        saved_type const& saved, matrix dy, matrix dx, gradient dU, gradient dV,
                                        gradient_vector ds, hoft::workspace work) {
  auto const base = dense(machine.policy(), W);
  hoft::backward(machine.policy(), a, base, x, y, saved, dy, dx, dU, dV, ds, work);
}

}  // namespace hoft_test
