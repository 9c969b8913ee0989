// SPDX-License-Identifier: BSD-3-Clause
// operators.hpp: torch.ops.hoft.*, and the functions of one backend behind them.
#pragma once
#include "functional.hpp"

#include <torch/library.h>

namespace hoft_torch {

/// Shapes and meanings stand beside the functions in householder.hpp, adapter.hpp and functional.hpp.
inline void declare(torch::Library& library) {
  library.def("householder(Tensor x, Tensor u, Tensor? tau, bool adjoint, bool from_output) -> Tensor y");
  library.def(
      "householder_backward(Tensor dy, Tensor known, Tensor u, Tensor? tau, bool from_output, bool adjoint)"
      " -> (Tensor dx, Tensor du, Tensor dtau)");
  library.def("householder_product(Tensor A, Tensor tau, bool keep) -> (Tensor Q, Tensor W)");
  library.def(
      "householder_product_backward(Tensor dQ, Tensor Q, Tensor W, Tensor A, Tensor tau) -> (Tensor dA, Tensor dtau)");
  library.def("ormqr(Tensor A, Tensor tau, Tensor other, bool adjoint, bool keep) -> (Tensor Y, Tensor W)");
  library.def(
      "ormqr_backward(Tensor dY, Tensor Y, Tensor W, Tensor A, Tensor tau, bool adjoint)"
      " -> (Tensor dA, Tensor dtau, Tensor dother)");
  library.def(
      "adapted(Tensor base_output, Tensor x, Tensor u, Tensor v, Tensor s, Tensor product, bool keep_q)"
      " -> (Tensor y, Tensor projected, Tensor w, Tensor q)");
  library.def(
      "adapted_backward(Tensor dy, Tensor y, Tensor projected, Tensor w, Tensor q, Tensor x, Tensor u, Tensor v,"
      " Tensor s, Tensor product) -> (Tensor dbase, Tensor dx, Tensor du, Tensor dv, Tensor ds, Tensor dproduct)");
  library.def(
      "bound_linear(Tensor x, Tensor weight, Tensor? bias, Tensor layer, int[] sizes, bool keep_q)"
      " -> (Tensor y, Tensor projected, Tensor w, Tensor q)");
  library.def(
      "bound_linear_backward(Tensor dy, Tensor y, Tensor projected, Tensor w, Tensor q, Tensor x, Tensor weight,"
      " Tensor? bias, Tensor layer, int[] sizes, bool want_dx, bool want_parameters)"
      " -> (Tensor dx, Tensor du, Tensor dv, Tensor ds)");
  library.def("merged(Tensor weight, Tensor u, Tensor v, Tensor s) -> Tensor");
  library.def(
      "merged_backward(Tensor dmerged, Tensor weight, Tensor u, Tensor v, Tensor s)"
      " -> (Tensor du, Tensor dv, Tensor ds)");
  library.def("unmerged(Tensor merged, Tensor u, Tensor v, Tensor s) -> Tensor");
  library.def("begin_layer(Tensor u, Tensor v, Tensor s) -> (Tensor layer, Tensor directions)");
  library.def("bind_layer(Tensor(a!) layer, int[] sizes, Tensor product) -> ()");
  library.def("project(Tensor x, Tensor layer, int[] sizes) -> Tensor v");
  library.def(
      "adapt(Tensor base_output, Tensor v, Tensor? bias, Tensor layer, int[] sizes, bool keep_q, Tensor(a!) y)"
      " -> (Tensor w, Tensor q)");
  library.def(
      "adapt_backward(Tensor dy, Tensor y, Tensor v, Tensor w, Tensor q, Tensor? bias, Tensor layer, int[] sizes,"
      " Tensor(a!) dbase)"
      " -> (Tensor dv, Tensor sums)");
  library.def("project_backward(Tensor x, Tensor dv, Tensor layer, int[] sizes, Tensor(a!) dx, Tensor(b!) sums) -> ()");
  library.def("finish_product(Tensor layer, int[] sizes, Tensor sums) -> Tensor dproduct");
  library.def(
      "finish_given(Tensor layer, int[] sizes, Tensor(a!) sums, Tensor product)"
      " -> (Tensor du, Tensor dv, Tensor ds)");
}

inline void implement(torch::Library& library) {
  library.impl("adapted", adapted);
  library.impl("adapted_backward", adapted_backward);
  library.impl("bound_linear", bound_linear);
  library.impl("bound_linear_backward", bound_linear_backward);
  library.impl("merged", merged);
  library.impl("merged_backward", merged_backward);
  library.impl("unmerged", unmerged);
  library.impl("begin_layer", begin_layer);
  library.impl("bind_layer", bind_layer);
  library.impl("project", project);
  library.impl("adapt", adapt);
  library.impl("adapt_backward", adapt_backward);
  library.impl("project_backward", project_backward);
  library.impl("finish_product", finish_product);
  library.impl("finish_given", finish_given);
}

}  // namespace hoft_torch
