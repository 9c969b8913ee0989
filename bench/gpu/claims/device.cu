// SPDX-License-Identifier: BSD-3-Clause
// device.cu: the GPU.
#include "../emulated.hpp"
#include "methods.hpp"

#include <hoft/cuda/policy.hpp>

#include <algorithm>
#include <chrono>

namespace bench::gpu {
namespace {

using hoft::cuda::detail::require;

/// Keeps the stream busy for so many nanoseconds.
__global__ void hold(long long nanoseconds) {
  long long start = 0, now = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do {
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  } while (now - start < nanoseconds);
}

class device_machine final : public machine {
 public:
  device_machine() {
    require(cudaStreamCreate(&stream_), "cudaStreamCreate");
    require(cublasCreate(&blas_), "cublasCreate");
    require(cudaEventCreate(&begin_), "cudaEventCreate");
    require(cudaEventCreate(&end_), "cudaEventCreate");
    policy_ = hoft::cuda::on(stream_, blas_);
  }
  ~device_machine() override {
    cudaStreamSynchronize(stream_);
    release_free();
    cudaEventDestroy(end_);
    cudaEventDestroy(begin_);
    cublasDestroy(blas_);
    cudaStreamDestroy(stream_);
  }
  hoft::cuda::device const& policy() const { return policy_; }

  std::string name() const override { return properties().name; }
  bool emulated() const override { return is_emulated(properties()); }
  void copy(void* to, void const* from, index_t bytes) override {
    require(cudaMemcpyAsync(to, from, std::size_t(bytes), cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
    require(cudaStreamSynchronize(stream_), "a kernel");
  }

  /// Between two events. The stream is held until the host has submitted all of the pass, which it was seen to need
  /// twice as much time for at most, so that the device has no gaps; never longer than that, so that nothing can hang.
  double seconds(std::function<void()> const& pass) override {
    using clock = std::chrono::steady_clock;
    constexpr long long most = 20'000'000;
    require(cudaStreamSynchronize(stream_), "a kernel");
    hold<<<1, 1, 0, stream_>>>(std::min(2 * submitting_ + 20'000, most));
    require(cudaGetLastError(), "the launch of a kernel");
    require(cudaEventRecord(begin_, stream_), "cudaEventRecord");
    auto const start = clock::now();
    pass();
    submitting_ = std::chrono::duration_cast<std::chrono::nanoseconds>(clock::now() - start).count();
    require(cudaEventRecord(end_, stream_), "cudaEventRecord");
    require(cudaEventSynchronize(end_), "cudaEventSynchronize");
    float milliseconds = 0;
    require(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    return double(milliseconds) / 1000;
  }

 private:
  static cudaDeviceProp properties() {
    int current = 0;
    cudaDeviceProp device{};
    require(cudaGetDevice(&current), "cudaGetDevice");
    require(cudaGetDeviceProperties(&device, current), "cudaGetDeviceProperties");
    return device;
  }
  void* allocate(index_t bytes) override {
    void* memory = nullptr;
    require(cudaMalloc(&memory, std::size_t(bytes) + 1), "cudaMalloc");
    return memory;
  }
  void release(void* memory) override { cudaFree(memory); }

  cudaStream_t stream_{};
  cublasHandle_t blas_{};
  cudaEvent_t begin_{}, end_{};
  hoft::cuda::device policy_{};
  long long submitting_ = 0;  ///< nanoseconds, of the pass before
};

}  // namespace

std::string missing() {
  int count = 0;
  cudaError_t const answer = cudaGetDeviceCount(&count);
  if (answer != cudaSuccess) return cudaGetErrorString(answer);
  return count > 0 ? "" : "CUDA counts no devices";
}
std::unique_ptr<machine> make_machine() { return std::make_unique<device_machine>(); }
std::vector<entry> const& list() {
  static std::vector<entry> const all =
      make_list([](machine& owner) { return static_cast<device_machine&>(owner).policy(); });
  return all;
}

}  // namespace bench::gpu
