// SPDX-License-Identifier: BSD-3-Clause
// form.hpp: the memory of a compact WY form, as the operators carve it.
#pragma once
#include <hoft/householder/compact_wy.hpp>

namespace hoft_torch {

inline hoft::op operation(bool adjoint) { return adjoint ? hoft::op::adjoint : hoft::op::plain; }

template <class A>
hoft::compact_wy_view<A> carve_form(hoft::arena& memory, hoft::index_t m, hoft::index_t r) {
  return hoft::carve_compact_wy<A>(memory, m, r, hoft::block_for(r, hoft::exact{}));
}

}  // namespace hoft_torch
