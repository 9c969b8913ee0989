// hoft/cuda/policy.hpp: the execution policy of a GPU.
#pragma once
#include <hoft/cuda/error.hpp>
#include <hoft/cuda/primitives.hpp>
#include <hoft/cuda/scalar.hpp>

#include <algorithm>
#include <complex>

namespace hoft::cuda {

/// Compute on the GPU that is current, in the order of a stream. Matrices and workspace are memory of that device. A
/// call returns when its kernels have been submitted; nothing is allocated or waited for, and a stream that is being
/// captured records it. Results have the same bits from run to run, as long as the handle serves this stream alone
/// (cuBLAS promises no more); a handle serves one thread of the host at a time.
struct device {
  using execution_policy_tag = void;
  using cuda_device_tag = void;
  cudaStream_t stream;
  cublasHandle_t blas;   ///< its stream is set to `stream` if it is another; its pointer mode is left as it is
  index_t shared_limit;  ///< bytes that a block may share
  index_t most_blocks;   ///< of a launch whose blocks take more than one task each
};

/// The policy for a stream and a cuBLAS handle of the caller's on the current device. For capture in a graph, cuBLAS
/// wants a workspace of the caller's: cublasSetStream first, which resets it, then cublasSetWorkspace.
/// @throws hoft::cuda_error if there is no device
inline device on(cudaStream_t stream, cublasHandle_t blas) {
  int current = 0, shared = 0, processors = 0;
  detail::require(cudaGetDevice(&current), "cudaGetDevice");
  detail::require(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, current),
                  "cudaDeviceGetAttribute");
  detail::require(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, current),
                  "cudaDeviceGetAttribute");
  return {stream, blas, shared, index_t(processors) * (2048 / threads)};
}

namespace detail {

#if defined(__CUDACC__)
// __grid_constant__: a kernel object is read where its arguments lie, and not copied by every thread.
template <class Kernel>
__global__ void __launch_bounds__(threads) run(__grid_constant__ Kernel const kernel) {
  extern __shared__ __align__(16) std::byte memory[];
  kernel(thread_block{index_t(blockIdx.x), index_t(gridDim.x), memory});
}
#endif

/// cuBLAS's name of a type, and of the type it computes in: never a shorter one.
template <class T>
struct blas_type;
template <>
struct blas_type<float> {
  static constexpr cudaDataType_t value = CUDA_R_32F;
  static constexpr cublasComputeType_t compute = CUBLAS_COMPUTE_32F_PEDANTIC;
};
template <>
struct blas_type<double> {
  static constexpr cudaDataType_t value = CUDA_R_64F;
  static constexpr cublasComputeType_t compute = CUBLAS_COMPUTE_64F_PEDANTIC;
};
template <>
struct blas_type<std::complex<float>> {
  static constexpr cudaDataType_t value = CUDA_C_32F;
  static constexpr cublasComputeType_t compute = CUBLAS_COMPUTE_32F_PEDANTIC;
};
template <>
struct blas_type<std::complex<double>> {
  static constexpr cudaDataType_t value = CUDA_C_64F;
  static constexpr cublasComputeType_t compute = CUBLAS_COMPUTE_64F_PEDANTIC;
};

/// Sets the handle's stream, unless it is that one already: setting it takes a workspace of the caller's away.
inline void use_stream(cublasHandle_t blas, cudaStream_t stream) {
  cudaStream_t now = nullptr;
  require(cublasGetStream(blas, &now), "cublasGetStream");
  if (now != stream) require(cublasSetStream(blas, stream), "cublasSetStream");
}

/// The handle's pointer mode set to the host's for the length of a call.
class host_scalars {
 public:
  explicit host_scalars(cublasHandle_t blas) : blas_(blas) {
    require(cublasGetPointerMode(blas_, &before_), "cublasGetPointerMode");
    require(cublasSetPointerMode(blas_, CUBLAS_POINTER_MODE_HOST), "cublasSetPointerMode");
  }
  host_scalars(host_scalars const&) = delete;
  host_scalars& operator=(host_scalars const&) = delete;
  ~host_scalars() { cublasSetPointerMode(blas_, before_); }

 private:
  cublasHandle_t blas_;
  cublasPointerMode_t before_{};
};

}  // namespace detail

#if defined(__CUDACC__)
/// kernel(block) by as many blocks as there are tasks, at most `most_blocks`.
template <class Kernel>
void launch(device const& policy, index_t tasks, Kernel const& kernel) {
  auto const function = reinterpret_cast<void const*>(detail::run<Kernel>);
  index_t const shared = kernel.shared_bytes();
  // The same value at every launch: it belongs to the kernel, which other threads of the host may be launching.
  detail::require(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(policy.shared_limit)),
                  "cudaFuncSetAttribute");
  dim3 const blocks(unsigned(std::min(tasks, policy.most_blocks))), size{unsigned(threads)};
  void* arguments[] = {const_cast<Kernel*>(&kernel)};
  detail::require(cudaLaunchKernel(function, blocks, size, arguments, std::size_t(shared), policy.stream),
                  "the launch of a kernel");
}
#endif

/// C [m, n], by columns, := S + alpha op(A) op(B) by cuBLAS; false if it has no name for the operation.
template <class T, class LA, class LB, class LC>
bool multiply_matrices(device const& policy, T alpha, matrix_view<T const, LA> A, bool conjugate_a,
                       matrix_view<T const, LB> B, bool conjugate_b, matrix_view<T const, LC> S, matrix_view<T, LC> C) {
  static_assert(C.is_col_major);
  conjugate_a = conjugate_a && is_complex<T>;
  conjugate_b = conjugate_b && is_complex<T>;
  if ((A.is_col_major && conjugate_a) || (B.is_col_major && conjugate_b)) return false;
  if (S.data != nullptr) copy(policy, S, C);
  auto const name = [](bool by_columns, bool conjugated) {
    return by_columns ? CUBLAS_OP_N : conjugated ? CUBLAS_OP_C : CUBLAS_OP_T;
  };
  using type = detail::blas_type<T>;
  T const beta(S.data == nullptr ? 0 : 1);
  detail::host_scalars const scalars(policy.blas);
  detail::use_stream(policy.blas, policy.stream);
  detail::require(cublasGemmEx_64(policy.blas, name(A.is_col_major, conjugate_a), name(B.is_col_major, conjugate_b),
                                  C.rows, C.cols, A.cols, &alpha, A.data, type::value, A.ld, B.data, type::value, B.ld,
                                  &beta, C.data, type::value, C.ld, type::compute, CUBLAS_GEMM_DEFAULT),
                  "cublasGemmEx");
  return true;
}

}  // namespace hoft::cuda
