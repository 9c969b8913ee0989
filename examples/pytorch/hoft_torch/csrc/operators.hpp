// operators.hpp: torch.ops.hoft.*, and the functions of one backend behind them.
#pragma once
#include "adapter.hpp"

#include <torch/library.h>

namespace hoft_torch {

/// Shapes and meanings stand beside the functions in householder.hpp and adapter.hpp.
inline void declare(torch::Library& library) {
  library.def("householder_forward(Tensor x, Tensor u, Tensor tau, bool adjoint) -> (Tensor y, Tensor form)");
  library.def(
      "householder_backward(Tensor dy, Tensor known, Tensor form, int r, bool explicit_tau, bool from_output,"
      " bool adjoint) -> (Tensor dx, Tensor du, Tensor dtau)");
  library.def("accumulate(Tensor u, Tensor v) -> Tensor");
  library.def(
      "forward(Tensor x, Tensor weight, Tensor u, Tensor v, Tensor s, bool keep_q, bool spare_rows)"
      " -> (Tensor y, Tensor kept)");
  library.def(
      "backward(Tensor dy, Tensor x, Tensor y, Tensor weight, Tensor kept, Tensor s, int ru, int rv, bool keep_q)"
      " -> (Tensor dx, Tensor du, Tensor dv, Tensor ds)");
  library.def("merge(Tensor forms, Tensor s, int ru, int rv, Tensor weight, Tensor(a!) merged) -> ()");
  library.def("unmerge(Tensor forms, Tensor s, int ru, int rv, Tensor(a!) merged) -> ()");
  library.def(
      "merge_backward(Tensor forms, Tensor s, int ru, int rv, Tensor weight, Tensor dmerged)"
      " -> (Tensor du, Tensor dv, Tensor ds)");
}

inline void implement(torch::Library& library) {
  library.impl("householder_forward", householder_forward);
  library.impl("householder_backward", householder_backward);
  library.impl("accumulate", accumulate);
  library.impl("forward", forward);
  library.impl("backward", backward);
  library.impl("merge", merge);
  library.impl("unmerge", unmerge);
  library.impl("merge_backward", merge_backward);
}

}  // namespace hoft_torch
