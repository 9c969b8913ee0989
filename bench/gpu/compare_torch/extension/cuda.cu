// cuda.cu: the calls on hoft's CUDA backend, on torch's current stream and with torch's handle of cuBLAS.
#include "calls.hpp"

#include <ATen/cuda/CUDAContext.h>

#include <hoft/cuda.hpp>

namespace compare {

hoft::cuda::device policy() {
  return hoft::cuda::on(at::cuda::getCurrentCUDAStream().stream(), at::cuda::getCurrentCUDABlasHandle());
}

template <class F>
void dispatch(at::ScalarType type, F const& function) {
  if (type == at::kFloat) function(float{});
  else if (type == at::kBFloat16) function(__nv_bfloat16{});
  else TORCH_CHECK(false, "hoft: no computing with ", type, " here, only with float and bfloat16");
}

}  // namespace compare

#include "layer.hpp"
