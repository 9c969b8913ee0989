// SPDX-License-Identifier: BSD-3-Clause
// The bodies of calls.hpp; the machine's policy is complete here.
#pragma once
#include "calls.hpp"

#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

namespace hoft_test {

template <class M, class T, class L>
hoft::index_t calls<M, T, L>::accumulate_size(M const& machine, form const& Q, hoft::inverse kind) {
  return hoft::accumulate_workspace<A>(machine.policy(), Q.rank(), Q.block, kind);
}
template <class M, class T, class L>
void calls<M, T, L>::accumulate(M const& machine, constant U, form& Q, hoft::inverse kind, hoft::workspace work) {
  hoft::accumulate(machine.policy(), U, Q, kind, work);
}
template <class M, class T, class L>
void calls<M, T, L>::accumulate(M const& machine, constant V, hoft::vector_view<A const> tau, form& Q,
                                hoft::workspace work) {
  hoft::accumulate(machine.policy(), V, tau, Q, work);
}
template <class M, class T, class L>
hoft::index_t calls<M, T, L>::apply_size(M const& machine, constant_form const& Q, constant X, hoft::side s) {
  return hoft::apply_workspace(machine.policy(), Q, X, s);
}
template <class M, class T, class L>
void calls<M, T, L>::apply(M const& machine, constant_form const& Q, constant X, matrix Y, hoft::side s, hoft::op o,
                           hoft::workspace work, hoft::matrix_view<A> W) {
  hoft::apply(machine.policy(), Q, X, Y, s, o, work, W);
}
template <class M, class T, class L>
hoft::index_t calls<M, T, L>::apply_backward_size(M const& machine, constant_form const& Q, constant X, hoft::side s) {
  return hoft::apply_backward_workspace(machine.policy(), Q, X, s);
}
template <class M, class T, class L>
void calls<M, T, L>::apply_backward(M const& machine, constant_form const& Q, constant X, constant dY, matrix dX,
                                    matrix dU, hoft::vector_view<A> dtau, hoft::side s, hoft::op o,
                                    hoft::workspace work) {
  hoft::apply_backward(machine.policy(), Q, X, dY, dX, dU, dtau, s, o, work);
}
template <class M, class T, class L>
void calls<M, T, L>::apply_backward_from_output(M const& machine, constant_form const& Q, constant Y, constant dY,
                                                matrix dX, matrix dU, hoft::side s, hoft::op o, hoft::workspace work) {
  hoft::apply_backward_from_output(machine.policy(), Q, Y, dY, dX, dU, hoft::vector_view<A>{}, s, o, work);
}

}  // namespace hoft_test
