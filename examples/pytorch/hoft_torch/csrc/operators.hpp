// operators.hpp: torch.ops.hoft.*, and the functions of one backend behind them.
#pragma once
#include "adapter.hpp"

#include <torch/library.h>

namespace hoft_torch {

/// Shapes and meanings stand beside the functions in householder.hpp and adapter.hpp.
inline void declare(torch::Library& library) {
  library.def("householder_forward(Tensor x, Tensor u, Tensor? tau, bool adjoint) -> Tensor y");
  library.def(
      "householder_backward(Tensor dy, Tensor known, Tensor u, Tensor? tau, bool from_output, bool adjoint)"
      " -> (Tensor dx, Tensor du, Tensor dtau)");
  library.def("accumulate(Tensor u, Tensor v) -> Tensor");
  library.def("begin_layer(Tensor u, Tensor v, Tensor s) -> (Tensor layer, Tensor directions)");
  library.def("bind_layer(Tensor(a!) layer, int[] sizes, Tensor product) -> ()");
  library.def("project(Tensor x, Tensor layer, int[] sizes) -> Tensor v");
  library.def(
      "adapt(Tensor base_output, Tensor v, Tensor layer, int[] sizes, bool keep_q, Tensor(a!) y)"
      " -> (Tensor w, Tensor q)");
  library.def(
      "adapt_backward(Tensor dy, Tensor y, Tensor v, Tensor w, Tensor q, Tensor layer, int[] sizes, Tensor(a!) dbase)"
      " -> (Tensor dv, Tensor sums)");
  library.def("project_backward(Tensor x, Tensor dv, Tensor layer, int[] sizes, Tensor(a!) dx, Tensor(b!) sums) -> ()");
  library.def("finish(Tensor layer, int[] sizes, Tensor(a!) sums, Tensor weight) -> (Tensor du, Tensor dv, Tensor ds)");
  library.def("finish_product(Tensor layer, int[] sizes, Tensor sums) -> Tensor dproduct");
  library.def(
      "finish_given(Tensor layer, int[] sizes, Tensor(a!) sums, Tensor product)"
      " -> (Tensor du, Tensor dv, Tensor ds)");
  library.def("merge(Tensor forms, Tensor s, int ru, int rv, Tensor weight, Tensor(a!) merged) -> ()");
  library.def("unmerge(Tensor forms, Tensor s, int ru, int rv, Tensor(a!) merged) -> ()");
  library.def(
      "merge_backward(Tensor forms, Tensor s, int ru, int rv, Tensor weight, Tensor dmerged)"
      " -> (Tensor du, Tensor dv, Tensor ds)");
}

inline void implement(torch::Library& library) {
  library.impl("accumulate", accumulate);
  library.impl("begin_layer", begin_layer);
  library.impl("bind_layer", bind_layer);
  library.impl("project", project);
  library.impl("adapt", adapt);
  library.impl("adapt_backward", adapt_backward);
  library.impl("project_backward", project_backward);
  library.impl("finish", finish);
  library.impl("finish_product", finish_product);
  library.impl("finish_given", finish_given);
  library.impl("merge", merge);
  library.impl("unmerge", unmerge);
  library.impl("merge_backward", merge_backward);
}

}  // namespace hoft_torch
