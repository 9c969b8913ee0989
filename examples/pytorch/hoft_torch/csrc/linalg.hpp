// SPDX-License-Identifier: BSD-3-Clause
// linalg.hpp: torch.linalg.householder_product and torch.ormqr, and their gradients, for the backend that
// householder.hpp speaks of; it also declares
//   dispatch_linalg(function, type, body)   body(T{}) for the types of torch.linalg that it has
#pragma once
#include "batch.hpp"
#include "form.hpp"
#include "trapezoid.hpp"

#include <c10/core/DeviceGuard.h>

#include <tuple>

namespace hoft_torch {

/// A [..., m, n] in hoft's column-major order: its transpose as [count, n, m].
inline at::Tensor column_major(at::Tensor const& a) { return rows_of_each(a.transpose(-2, -1)); }
/// A new one, as its transpose [..., n, m].
inline at::Tensor new_columns(at::IntArrayRef front, index_t m, index_t n, at::Tensor const& like) {
  return at::empty(shape(front, {n, m}), like.options());
}

/// The reflectors of one call: V [count, n, m] transposed, tau [count, k].
struct reflectors_call {
  at::Tensor V, tau;
  index_t count, m, n, k;

  reflectors_call(char const* function, at::Tensor const& A, at::Tensor const& tau_) {
    TORCH_CHECK(A.dim() >= 2, function, ": A has the shape ", A.sizes(), ", must have 2 dimensions or more");
    TORCH_CHECK(tau_.dim() >= 1, function, ": tau has no dimension");
    require_type(function, "tau", tau_, A, A.scalar_type());
    m = A.size(-2), n = A.size(-1), k = tau_.size(-1);
    require_shape(function, "tau", tau_, shape(batch_shape(A, 2), {k}));
    TORCH_CHECK(k <= std::min(m, n), function, ": tau has ", k, " elements, must have at most ", std::min(m, n));
    V = column_major(A), tau = elements_of_each(tau_);
    count = V.size(0);
  }

  /// body(product, policy, its workspace, problem) for every problem, `product` filled with the reflectors. The other
  /// side of a product has `columns`.
  template <class T, class Body>
  void each(index_t columns, bool backward, Body const& body) const {
    auto const vectors = columns_of_each<T const>(V);
    auto const taus = vectors_of_each<T const>(tau);
    share_problems(count, [&](auto const& policy, index_t first, index_t last) {
      at::Tensor const form = bytes_for(V, [&](hoft::arena& memory) { trapezoid<T>(memory, m, k, columns); });
      hoft::arena memory(memory_of(form));
      trapezoid<T> product(memory, m, k, columns);
      at::Tensor const work = bytes(product.workspace(policy, backward), V);
      for (index_t i = first; i < last; ++i) {
        product.accumulate(policy, vectors(i).columns(0, k), taus(i), memory_of(work));
        body(product, policy, memory_of(work), i);
      }
    });
  }
};

/// [..., columns, k]: what the factors project, transposed; without elements where nobody wants it.
inline at::Tensor new_projections(bool keep, at::IntArrayRef front, index_t k, index_t columns, at::Tensor const& A) {
  return keep ? new_columns(front, k, columns, A) : at::empty({0}, A.options());
}
template <class T>
matrices<T> projections_of_each(at::Tensor const& W) {
  if (W.dim() < 2) return {nullptr, 0, 0, 0, 0};
  return columns_of_each<T>(batch_of_matrices(W));
}

/// {Q, W}: the first n columns of H₁ ⋯ H_k, A [..., m, n], tau [..., k] in LAPACK's convention, and with `keep` what
/// the gradient needs beside them.
inline std::tuple<at::Tensor, at::Tensor> householder_product(at::Tensor const& A, at::Tensor const& tau, bool keep) {
  constexpr char const* function = "householder_product";
  reflectors_call const call(function, A, tau);
  TORCH_CHECK(call.n <= call.m, function, ": A has ", call.n, " columns, must have at most ", call.m);
  c10::OptionalDeviceGuard const guard(A.device());
  at::Tensor const Q = new_columns(batch_shape(A, 2), call.m, call.n, A);
  at::Tensor const W = new_projections(keep, batch_shape(A, 2), call.k, call.n, A);
  dispatch_linalg(function, A.scalar_type(), [&]<class T>(T) {
    auto const E = columns_of_each<T>(batch_of_matrices(Q));
    auto const projections = projections_of_each<T>(W);
    call.each<T>(call.n, false, [&](auto const& product, auto const& policy, hoft::workspace work, index_t i) {
      product.materialize(policy, E(i), projections(i), work);
    });
  });
  return {Q.transpose(-2, -1), W};
}

/// {dA, dtau, dX} of Y = op(Q) X from dY, Y and W; A [..., m, n], the others [..., m, columns].
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> product_backward(char const* function, bool of_identity,
                                                                       at::Tensor const& dY, at::Tensor const& Y,
                                                                       at::Tensor const& W, at::Tensor const& A,
                                                                       at::Tensor const& tau, bool adjoint) {
  reflectors_call const call(function, A, tau);
  index_t const columns = Y.size(-1);
  require_type(function, "dY", dY, A, A.scalar_type());
  require_type(function, "Y", Y, A, A.scalar_type());
  require_shape(function, "Y", Y, shape(batch_shape(A, 2), {call.m, columns}));
  require_shape(function, "dY", dY, Y.sizes());
  require_shape(function, "W", W, shape(batch_shape(A, 2), {columns, call.k}));
  c10::OptionalDeviceGuard const guard(A.device());
  bool const walks_back = call.k > hoft::default_block;  // the output, of which this needs a copy then
  at::Tensor const transposed = Y.transpose(-2, -1);
  at::Tensor const output = rows_of_each(walks_back ? transposed.clone(at::MemoryFormat::Contiguous) : transposed);
  at::Tensor const dX = dY.transpose(-2, -1).clone(at::MemoryFormat::Contiguous);
  at::Tensor const dA = at::zeros(shape(batch_shape(A, 2), {call.n, call.m}), A.options());
  at::Tensor const dtau = at::empty(tau.sizes(), tau.options());
  dispatch_linalg(function, A.scalar_type(), [&]<class T>(T) {
    auto const what = of_identity ? trapezoid<T>::of::identity : trapezoid<T>::of::any;
    auto const y = columns_of_each<T>(output), g = columns_of_each<T>(batch_of_matrices(dX));
    auto const dV = columns_of_each<T>(batch_of_matrices(dA));
    auto const projections = projections_of_each<T>(W);
    auto const dtaus = vectors_of_each<T>(batch_of_vectors(dtau));
    call.each<T>(columns, true, [&](auto const& product, auto const& policy, hoft::workspace work, index_t i) {
      product.backward(policy, what, y(i), projections(i), g(i), dV(i).columns(0, call.k), dtaus(i), operation(adjoint),
                       work);
    });
  });
  return {dA.transpose(-2, -1), dtau, dX.transpose(-2, -1)};
}

/// {dA, dtau}: the true derivatives for every tau, that of A below its diagonal.
inline std::tuple<at::Tensor, at::Tensor> householder_product_backward(at::Tensor const& dQ, at::Tensor const& Q,
                                                                       at::Tensor const& W, at::Tensor const& A,
                                                                       at::Tensor const& tau) {
  auto const [dA, dtau, unused] = product_backward("householder_product's gradient", true, dQ, Q, W, A, tau, false);
  return {dA, dtau};
}

/// {Y, W}: Y = Q other or Qᴴ other for other [..., m, columns] and Q [m, m] of A [..., m, n] and tau [..., k], and with
/// `keep` what the gradient needs beside it.
inline std::tuple<at::Tensor, at::Tensor> ormqr(at::Tensor const& A, at::Tensor const& tau, at::Tensor const& other,
                                                bool adjoint, bool keep) {
  constexpr char const* function = "ormqr";
  reflectors_call const call(function, A, tau);
  require_type(function, "other", other, A, A.scalar_type());
  TORCH_CHECK(other.dim() >= 2, function, ": other has the shape ", other.sizes(), ", must have 2 dimensions or more");
  index_t const columns = other.size(-1);
  require_shape(function, "other", other, shape(batch_shape(A, 2), {call.m, columns}));
  c10::OptionalDeviceGuard const guard(A.device());
  at::Tensor const Y = other.transpose(-2, -1).clone(at::MemoryFormat::Contiguous);
  at::Tensor const W = new_projections(keep, batch_shape(A, 2), call.k, columns, A);
  dispatch_linalg(function, A.scalar_type(), [&]<class T>(T) {
    auto const X = columns_of_each<T>(batch_of_matrices(Y));
    auto const projections = projections_of_each<T>(W);
    call.each<T>(columns, false, [&](auto const& product, auto const& policy, hoft::workspace work, index_t i) {
      product.apply(policy, X(i), projections(i), operation(adjoint), work);
    });
  });
  return {Y.transpose(-2, -1), W};
}

/// {dA, dtau, dother}.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> ormqr_backward(at::Tensor const& dY, at::Tensor const& Y,
                                                                     at::Tensor const& W, at::Tensor const& A,
                                                                     at::Tensor const& tau, bool adjoint) {
  return product_backward("ormqr's gradient", false, dY, Y, W, A, tau, adjoint);
}

}  // namespace hoft_torch
