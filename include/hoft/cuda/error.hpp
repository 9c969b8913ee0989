// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/error.hpp: errors of the CUDA runtime and of cuBLAS.
#pragma once
#include <hoft/cuda/abi.hpp>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace HOFT_NAMESPACE {

/// What the CUDA runtime or cuBLAS answered to a call of hoft's: a launch that was refused, a handle that is none. A
/// kernel's own faults are reported by CUDA at a later call.
struct cuda_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_CUDA_NAMESPACE::detail {

inline void require(cudaError_t answer, char const* call) {
  if (answer != cudaSuccess)
    throw cuda_error(std::string("hoft::cuda: ") + call + " answered " + cudaGetErrorName(answer) + ": " +
                     cudaGetErrorString(answer));
}
inline void require(cublasStatus_t answer, char const* call) {
  if (answer != CUBLAS_STATUS_SUCCESS)
    throw cuda_error(std::string("hoft::cuda: ") + call + " answered " + cublasGetStatusString(answer));
}

}  // namespace HOFT_CUDA_NAMESPACE::detail
