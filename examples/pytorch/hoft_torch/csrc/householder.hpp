// householder.hpp: a product of reflectors on the rows of a tensor, for the backend of the one source that includes
// this and has declared before, in hoft_torch,
//   policy()                              on torch's current stream
//   dispatch(function, type, body)        body(T{}) for hoft's name of torch's element type
#pragma once
#include "tensors.hpp"

#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

#include <c10/core/DeviceGuard.h>

#include <tuple>

namespace hoft_torch {

inline hoft::op operation(bool adjoint) { return adjoint ? hoft::op::adjoint : hoft::op::plain; }

template <class A>
hoft::compact_wy_view<A> carve_form(hoft::arena& memory, index_t m, index_t r) {
  return hoft::carve_compact_wy<A>(memory, m, r, hoft::block_for(r, hoft::exact{}));
}

/// {y, form}: row i of y [t, m] is Q (adjoint: Qᴴ) times row i of x [t, m], and what `householder_backward` needs of Q.
/// u [r, m] has a reflector in each row; tau [r] makes them LAPACK's (v, tau), an empty one says that it is not given.
inline std::tuple<at::Tensor, at::Tensor> householder_forward(at::Tensor const& x, at::Tensor const& u,
                                                              at::Tensor const& tau, bool adjoint) {
  constexpr char const* function = "householder_apply";
  auto const type = x.scalar_type();
  require_rows(function, "x", x, x, type);
  require_rows(function, "u", u, x, accumulator_of(type));
  require_vector(function, "tau", tau, x, accumulator_of(type));
  require_size(function, "the number of features of u", u.size(1), x.size(1));
  if (tau.numel() > 0) require_size(function, "the length of tau", tau.numel(), u.size(0));
  c10::OptionalDeviceGuard const guard(x.device());
  at::Tensor const y = at::empty(x.sizes(), x.options());
  at::Tensor form;
  dispatch(function, type, [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const device = policy();
    index_t const m = u.size(1), r = u.size(0);
    form = bytes_for(x, [&](hoft::arena& memory) { carve_form<A>(memory, m, r); });
    hoft::arena memory(memory_of(form));
    auto Q = carve_form<A>(memory, m, r);
    auto const X = columns_of<T const>(x);
    at::Tensor const work =
        bytes(std::max(hoft::accumulate_workspace<A>(device, r, Q.block), hoft::apply_workspace(device, Q, X)), x);
    auto const U = columns_of<A const>(u);
    if (tau.numel() > 0) hoft::accumulate(device, U, vector_of<A const>(tau), Q, memory_of(work));
    else hoft::accumulate(device, U, Q, hoft::exact{}, memory_of(work));
    hoft::apply(device, Q, X, columns_of<T>(y), hoft::side::left, operation(adjoint), memory_of(work));
  });
  return {y, form};
}

/// {dx, du, dtau} from dy and what the forward pass had (x), or what it gave (y) with `from_output`.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> householder_backward(at::Tensor const& dy,
                                                                           at::Tensor const& known,
                                                                           at::Tensor const& form, index_t r,
                                                                           bool explicit_tau, bool from_output,
                                                                           bool adjoint) {
  constexpr char const* function = "householder_apply's gradient";
  auto const type = known.scalar_type();
  require_rows(function, "x", known, known, type);
  require_rows(function, "dy", dy, known, type);
  c10::OptionalDeviceGuard const guard(known.device());
  auto const parameters = known.options().dtype(accumulator_of(type));
  at::Tensor const dx = at::empty(dy.sizes(), known.options());
  at::Tensor const du = at::empty({r, known.size(1)}, parameters);
  at::Tensor const dtau = at::empty({explicit_tau ? r : 0}, parameters);
  dispatch(function, type, [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const device = policy();
    hoft::arena memory(memory_of(form));
    auto Q = carve_form<A>(memory, known.size(1), r);
    Q.explicit_tau = explicit_tau, Q.filled = true;  // by the forward pass
    auto const X = columns_of<T const>(known), dY = columns_of<T const>(dy);
    auto const dX = columns_of<T>(dx);
    auto const dU = columns_of<A>(du);
    at::Tensor const work = bytes(hoft::apply_backward_workspace(device, Q, X), known);
    auto const run = [&](auto const& backward) {
      backward(device, Q, X, dY, dX, dU, vector_of<A>(dtau), hoft::side::left, operation(adjoint), memory_of(work));
    };
    if (from_output) run([](auto const&... a) { hoft::apply_backward_from_output(a...); });
    else run([](auto const&... a) { hoft::apply_backward(a...); });
  });
  return {dx, du, dtau};
}

}  // namespace hoft_torch
