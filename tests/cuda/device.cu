// SPDX-License-Identifier: BSD-3-Clause
#include "device.hpp"

#include <hoft/cuda/policy.hpp>

#include <algorithm>

namespace hoft_test {

using hoft::cuda::detail::require;

std::byte* allocate_pinned(std::size_t bytes) {
  void* memory = nullptr;
  require(cudaHostAlloc(&memory, bytes == 0 ? 1 : bytes, cudaHostAllocMapped), "cudaHostAlloc");
  return static_cast<std::byte*>(memory);
}
void free_pinned(std::byte* memory) { cudaFreeHost(memory); }

struct device_machine::parts {
  cudaStream_t stream{};
  cublasHandle_t blas{};
  hoft::cuda::device policy{};
  parts() {
    require(cudaStreamCreate(&stream), "cudaStreamCreate");
    require(cublasCreate(&blas), "cublasCreate");
    policy = hoft::cuda::on(stream, blas);
  }
  parts(parts const&) = delete;
  parts& operator=(parts const&) = delete;
  ~parts() {
    cublasDestroy(blas);
    cudaStreamDestroy(stream);
  }
};

std::string device_machine::missing() {
  int count = 0;
  cudaError_t const answer = cudaGetDeviceCount(&count);
  if (answer != cudaSuccess) return cudaGetErrorString(answer);
  return count > 0 ? "" : "CUDA counts no devices";
}

device_machine::device_machine() : parts_(std::make_shared<parts>()) {}
hoft::cuda::device const& device_machine::policy() const { return parts_->policy; }
device_machine device_machine::limited(std::ptrdiff_t shared, std::ptrdiff_t cluster) const {
  device_machine other;
  auto& policy = other.parts_->policy;
  policy.shared_limit = std::min<hoft::index_t>(policy.shared_limit, shared);
  policy.most_cluster = std::min<hoft::index_t>(policy.most_cluster, cluster);
  return other;
}
void device_machine::finish() const { require(cudaStreamSynchronize(parts_->stream), "a kernel"); }

}  // namespace hoft_test
