// SPDX-License-Identifier: BSD-3-Clause
// householder.hpp: products of reflectors on the rows of a tensor, one product or a batch of them, for the backend of
// the one source that includes this and has declared before, in hoft_torch,
//   dispatch_householder(function, type, body)   body(T{}) for hoft's name of torch's element type
//   share_problems(count, body)                  body(policy, first, last) on parts that make up [0, count)
#pragma once
#include "batch.hpp"
#include "form.hpp"

#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

#include <c10/core/DeviceGuard.h>

#include <tuple>

namespace hoft_torch {

/// The tensors of one call, [count, rows, features] each; `tau` is undefined where it is not given.
struct householder_call {
  at::Tensor x, u, tau;
  index_t count, m, r;

  householder_call(char const* function, at::Tensor const& x_, at::Tensor const& u_,
                   c10::optional<at::Tensor> const& tau_) {
    auto const type = accumulator_of(x_.scalar_type());
    TORCH_CHECK(x_.dim() >= 2, function, ": x has the shape ", x_.sizes(), ", must have 2 dimensions or more");
    TORCH_CHECK(u_.dim() >= 2, function, ": u has the shape ", u_.sizes(), ", must have 2 dimensions or more");
    require_type(function, "u", u_, x_, type);
    require_shape(function, "u", u_, shape(batch_shape(x_, 2), {u_.size(-2), x_.size(-1)}));
    x = rows_of_each(x_), u = rows_of_each(u_);
    count = x.size(0), m = x.size(2), r = u.size(1);
    if (!tau_.has_value()) return;
    require_type(function, "tau", *tau_, x_, type);
    require_shape(function, "tau", *tau_, shape(batch_shape(x_, 2), {r}));
    tau = elements_of_each(*tau_);
    // Said by hoft as well, but not where the batch is empty.
    TORCH_CHECK(r <= m, function, ": V.cols is ", r, ", must be <= ", m,
                ": tau takes no more reflectors than features");
  }
};

/// Q of the reflectors in the columns of U.
template <class Policy, class A>
void accumulate_given(Policy const& policy, matrix_view<A const> U, hoft::vector_view<A const> tau, bool explicit_tau,
                      hoft::compact_wy_view<A>& Q, hoft::workspace work) {
  if (explicit_tau) hoft::accumulate(policy, U, tau, Q, work);
  else hoft::accumulate(policy, U, Q, hoft::exact{}, work);
}

/// Row i of y [..., t, m] is Q (adjoint: Qᴴ) times row i of x [..., t, m]. u [..., r, m] has a reflector in each row;
/// tau [..., r] makes them LAPACK's (v, tau). The extents in front are those of a batch. from_output says what the
/// backward pass is to have, and changes nothing here.
inline at::Tensor householder(at::Tensor const& x, at::Tensor const& u, c10::optional<at::Tensor> const& tau,
                              bool adjoint, bool /*from_output*/) {
  constexpr char const* function = "householder_apply";
  householder_call const call(function, x, u, tau);
  c10::OptionalDeviceGuard const guard(x.device());
  at::Tensor const y = at::empty(x.sizes(), x.options());
  dispatch_householder(function, x.scalar_type(), [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const X = columns_of_each<T const>(call.x);
    auto const Y = columns_of_each<T>(batch_of_matrices(y));
    auto const U = columns_of_each<A const>(call.u);
    auto const taus = vectors_of_each<A const>(call.tau);
    share_problems(call.count, [&](auto const& policy, index_t first, index_t last) {
      at::Tensor const form = bytes_for(x, [&](hoft::arena& memory) { carve_form<A>(memory, call.m, call.r); });
      hoft::arena memory(memory_of(form));
      auto Q = carve_form<A>(memory, call.m, call.r);
      at::Tensor const work = bytes(
          std::max(hoft::accumulate_workspace<A>(policy, call.r, Q.block), hoft::apply_workspace(policy, Q, X(first))),
          x);
      for (index_t i = first; i < last; ++i) {
        accumulate_given(policy, U(i), taus(i), call.tau.defined(), Q, memory_of(work));
        hoft::apply(policy, Q, X(i), Y(i), hoft::side::left, operation(adjoint), memory_of(work));
      }
    });
  });
  return y;
}

/// {dx, du, dtau} from dy and what the forward pass had (x), or what it gave (y) with `from_output`, as `known`. The
/// form is made again: beside the products with t rows it costs little, and memory would hold it in between.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> householder_backward(at::Tensor const& dy,
                                                                           at::Tensor const& known, at::Tensor const& u,
                                                                           c10::optional<at::Tensor> const& tau,
                                                                           bool from_output, bool adjoint) {
  constexpr char const* function = "householder_apply's gradient";
  householder_call const call(function, known, u, tau);
  require_type(function, "dy", dy, known, known.scalar_type());
  require_shape(function, "dy", dy, known.sizes());
  c10::OptionalDeviceGuard const guard(known.device());
  bool const explicit_tau = call.tau.defined();
  at::Tensor const dx = at::empty(dy.sizes(), known.options());
  at::Tensor const du = at::empty(u.sizes(), u.options());
  at::Tensor const dtau = explicit_tau ? at::empty(tau->sizes(), u.options()) : at::empty({0}, u.options());
  at::Tensor const dy_rows = rows_of_each(dy), dtau_each = explicit_tau ? batch_of_vectors(dtau) : at::Tensor();
  dispatch_householder(function, known.scalar_type(), [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const X = columns_of_each<T const>(call.x), dY = columns_of_each<T const>(dy_rows);
    auto const dX = columns_of_each<T>(batch_of_matrices(dx));
    auto const U = columns_of_each<A const>(call.u);
    auto const dU = columns_of_each<A>(batch_of_matrices(du));
    auto const taus = vectors_of_each<A const>(call.tau);
    auto const dtaus = vectors_of_each<A>(dtau_each);
    share_problems(call.count, [&](auto const& policy, index_t first, index_t last) {
      at::Tensor const form = bytes_for(known, [&](hoft::arena& memory) { carve_form<A>(memory, call.m, call.r); });
      hoft::arena memory(memory_of(form));
      auto Q = carve_form<A>(memory, call.m, call.r);
      Q.explicit_tau = explicit_tau;
      at::Tensor const work = bytes(std::max(hoft::accumulate_workspace<A>(policy, call.r, Q.block),
                                             hoft::apply_backward_workspace(policy, Q, X(first))),
                                    known);
      auto const o = operation(adjoint);
      for (index_t i = first; i < last; ++i) {
        accumulate_given(policy, U(i), taus(i), explicit_tau, Q, memory_of(work));
        if (from_output)
          hoft::apply_backward_from_output(policy, Q, X(i), dY(i), dX(i), dU(i), dtaus(i), hoft::side::left, o,
                                           memory_of(work));
        else hoft::apply_backward(policy, Q, X(i), dY(i), dX(i), dU(i), dtaus(i), hoft::side::left, o, memory_of(work));
      }
    });
  });
  return {dx, du, dtau};
}

}  // namespace hoft_torch
