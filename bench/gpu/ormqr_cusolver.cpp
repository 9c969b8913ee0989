// SPDX-License-Identifier: BSD-3-Clause
// ormqr_cusolver.cpp: ormqr by cuSOLVER.
#include "ormqr.hpp"

#include <hoft/cuda/error.hpp>

#include <cusolverDn.h>

#include <memory>
#include <string>

namespace bench::gpu {
namespace {

using hoft::cuda::detail::require;

void require(cusolverStatus_t answer, char const* call) {
  if (answer != CUSOLVER_STATUS_SUCCESS)
    throw hoft::cuda_error(std::string(call) + " answered " + std::to_string(int(answer)));
}

class ormqr {
 public:
  ormqr(cudaStream_t stream, float const* V, float const* tau, float* X, int m, int t, int r)
      : V_(V), tau_(tau), X_(X), m_(m), t_(t), r_(r) {
    require(cusolverDnCreate(&solver_), "cusolverDnCreate");
    require(cusolverDnSetStream(solver_, stream), "cusolverDnSetStream");
    cusolverStatus_t const answer =
        cusolverDnSormqr_bufferSize(solver_, CUBLAS_SIDE_LEFT, CUBLAS_OP_N, m, t, r, V, m, tau, X, m, &size_);
    require(answer, "cusolverDnSormqr_bufferSize");
    require(cudaMalloc(&memory_, (std::size_t(size_) + 1) * sizeof(float)), "cudaMalloc");
  }
  ormqr(ormqr const&) = delete;
  ormqr& operator=(ormqr const&) = delete;
  ~ormqr() {
    cudaFree(memory_);
    cusolverDnDestroy(solver_);
  }
  void submit() const {
    auto* const work = static_cast<float*>(memory_);
    int* const info = reinterpret_cast<int*>(work + size_);
    require(
        cusolverDnSormqr(solver_, CUBLAS_SIDE_LEFT, CUBLAS_OP_N, m_, t_, r_, V_, m_, tau_, X_, m_, work, size_, info),
        "cusolverDnSormqr");
  }

 private:
  float const *V_, *tau_;
  float* X_;
  int m_, t_, r_;
  cusolverDnHandle_t solver_{};
  int size_ = 0;
  void* memory_ = nullptr;  ///< workspace, and behind it what the call found
};

}  // namespace

std::function<void()> make_ormqr(cudaStream_t stream, float const* V, float const* tau, float* X, int m, int t, int r) {
  auto const made = std::make_shared<ormqr>(stream, V, tau, X, m, t, r);
  return [made] { made->submit(); };
}

}  // namespace bench::gpu
