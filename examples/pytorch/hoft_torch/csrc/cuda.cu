// SPDX-License-Identifier: BSD-3-Clause
// cuda.cu: the operators on hoft's CUDA backend, on torch's current stream and with torch's handle of cuBLAS.
#include "tensors.hpp"

#include <ATen/cuda/CUDAContext.h>

#include <hoft/cuda.hpp>

namespace hoft_torch {

inline hoft::cuda::device policy() {
  return hoft::cuda::on(at::cuda::getCurrentCUDAStream().stream(), at::cuda::getCurrentCUDABlasHandle());
}

/// Problems follow each other on the stream.
template <class Body>
void share_problems(index_t count, Body const& body) {
  if (count > 0) body(policy(), index_t{0}, count);
}

template <class Body>
void dispatch(char const* function, at::ScalarType type, Body const& body) {
  if (type == at::kFloat) body(float{});
  else if (type == at::kBFloat16) body(__nv_bfloat16{});
  else TORCH_CHECK(false, function, ": ", type, " is not among float and bfloat16, the types compiled for GPUs here");
}
template <class Body>
void dispatch_linalg(char const* function, at::ScalarType type, Body const& body) {
  TORCH_CHECK(type == at::kFloat, function, ": ", type, " is not float, the type compiled for GPUs here");
  body(float{});
}
template <class Body>
void dispatch_householder(char const* function, at::ScalarType type, Body const& body) {
  dispatch(function, type, body);
}

}  // namespace hoft_torch

#include "linalg_operators.hpp"
#include "operators.hpp"

TORCH_LIBRARY_IMPL(hoft, CUDA, library) {
  hoft_torch::implement(library);
  hoft_torch::implement_linalg(library);
}
