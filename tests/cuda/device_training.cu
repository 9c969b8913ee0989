// SPDX-License-Identifier: BSD-3-Clause
#include "device_training.hpp"

#include "../training.hpp"

#include <hoft/cuda.hpp>
#include <hoft/view/eigen.hpp>

namespace hoft_test {
namespace {

using hoft::cuda::detail::require;

/// A stream, and a handle with a workspace of its own, as capture wants it.
struct capturing {
  static constexpr std::size_t blas_bytes = std::size_t{1} << 25;
  cudaStream_t stream{};
  cublasHandle_t blas{};
  void* blas_memory = nullptr;
  capturing() {
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    require(cublasCreate(&blas), "cublasCreate");
    require(cudaMalloc(&blas_memory, blas_bytes), "cudaMalloc");
    require(cublasSetStream(blas, stream), "cublasSetStream");
    require(cublasSetWorkspace(blas, blas_memory, blas_bytes), "cublasSetWorkspace");
  }
  capturing(capturing const&) = delete;
  capturing& operator=(capturing const&) = delete;
  ~capturing() {
    cublasDestroy(blas);
    cudaFree(blas_memory);
    cudaStreamDestroy(stream);
  }
  void finish() const { require(cudaStreamSynchronize(stream), "a kernel"); }
};

}  // namespace

template <class T>
training_result trained_on_device(training_data const& data) {
  capturing const on;
  hoft::cuda::device const policy = hoft::cuda::on(on.stream, on.blas);
  using layers = training<T, hoft::cuda::device, device_machine::Allocator>;
  {
    layers first(policy, data);  // kernels are loaded on their first launch
    first.step(policy);
    on.finish();
  }
  layers all(policy, data);
  cudaGraph_t graph{};
  cudaGraphExec_t step{};
  require(cudaStreamBeginCapture(on.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  all.step(policy);
  require(cudaStreamEndCapture(on.stream, &graph), "cudaStreamEndCapture");
  require(cudaGraphInstantiate(&step, graph, 0), "cudaGraphInstantiate");
  std::vector<double> curve;
  for (int k = 0; k < training_steps; ++k) {
    require(cudaGraphLaunch(step, on.stream), "cudaGraphLaunch");
    on.finish();
    curve.push_back(all.loss());
  }
  cudaGraphExecDestroy(step);
  cudaGraphDestroy(graph);
  all.merge(policy);
  on.finish();
  training_result result = all.result();
  result.curve = curve;
  return result;
}

template training_result trained_on_device<float>(training_data const&);
template training_result trained_on_device<Eigen::bfloat16>(training_data const&);
#if !defined(HOFT_TEST_FEW_TRAINED_SCALARS)
template training_result trained_on_device<double>(training_data const&);
template training_result trained_on_device<Eigen::half>(training_data const&);
#endif

}  // namespace hoft_test
