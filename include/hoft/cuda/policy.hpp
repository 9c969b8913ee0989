// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/policy.hpp: the execution policy of a GPU.
#pragma once
#include <hoft/cuda/backend.hpp>
#include <hoft/cuda/error.hpp>
#include <hoft/cuda/scalar.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <complex>

namespace HOFT_CUDA_NAMESPACE {

/// Compute on the current GPU, in the order of a stream. Matrices and workspace are memory of that device. A call
/// returns when its kernels have been submitted: it allocates no device memory and does not wait. A stream that is
/// being captured records the call. Results have the same bits from run to run if the handle serves this stream alone
/// (cuBLAS promises no more). A handle serves one thread of the host at a time.
struct device {
  using backend = operations;
  using cuda_device_tag = void;
  cudaStream_t stream;
  cublasHandle_t blas;   ///< its stream is set to `stream` if it is another; its pointer mode is left as it is
  index_t shared_limit;  ///< bytes that a block may share, behind memory_in_front
  index_t most_blocks;   ///< of a launch whose blocks take more than one task each
  index_t most_cluster;  ///< blocks of a cluster: 8, or 1 where there are no clusters
  index_t all_clusters;  ///< of most_cluster blocks, one block a processor, that run at a time
  tuning tuned{};
  index_t processors() const { return most_blocks / blocks_each; }
  /// Clusters of `size` blocks, one a processor, that run at a time. Processors come in groups that no cluster crosses.
  index_t clusters(index_t size) const {
    return size == 1 ? processors()
                     : (std::min)(processors() / size, all_clusters * std::max<index_t>(1, most_cluster / size));
  }
  static constexpr index_t blocks_each = 2048 / threads;  ///< that a processor runs at a time
};

#if defined(__CUDACC__)
namespace detail {
template <class = void>
__global__ void __launch_bounds__(2 * threads) fill_processor() {}
/// A launch of that many blocks in clusters of `size`. `attribute` is memory to which the result points.
inline cudaLaunchConfig_t launch_config(index_t blocks, cluster_size size, index_t shared, cudaStream_t stream,
                                        cudaLaunchAttribute& attribute) {
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {unsigned(size.blocks), 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(unsigned(size.threads));
  config.dynamicSmemBytes = std::size_t(shared);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = size.blocks > 1 ? 1 : 0;
  return config;
}
/// Clusters of `size` blocks that fill their processors, as many as run at a time on device `which`, the current one.
/// The device is asked once, because many calls make a policy; `size` and `shared` are always the same on a device.
inline index_t count_clusters(int which, index_t size, index_t shared) {
  static std::array<std::atomic<int>, 64> known{};  // by device; one more than the answer
  bool const kept = which < int(known.size());
  if (kept && known[std::size_t(which)] > 0) return known[std::size_t(which)] - 1;
  auto const* const function = reinterpret_cast<void const*>(fill_processor<>);
  require(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared)),
          "cudaFuncSetAttribute");
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t const config = launch_config(size, {size, 2 * threads}, shared, nullptr, attribute);
  int count = 0;
  require(cudaOccupancyMaxActiveClusters(&count, function, &config), "cudaOccupancyMaxActiveClusters");
  if (kept) known[std::size_t(which)] = count + 1;
  return count;
}
}  // namespace detail

/// The policy for a stream and a cuBLAS handle of the caller's on the current device, in sources of nvcc. For capture
/// in a graph, cuBLAS wants a workspace of the caller's: cublasSetStream first, which resets it, then
/// cublasSetWorkspace.
/// @throws hoft::cuda_error if there is no device
inline device on(cudaStream_t stream, cublasHandle_t blas) {
  int current = 0, shared = 0, processors = 0, clusters = 0;
  detail::require(cudaGetDevice(&current), "cudaGetDevice");
  detail::require(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, current),
                  "cudaDeviceGetAttribute");
  detail::require(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, current),
                  "cudaDeviceGetAttribute");
  detail::require(cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, current), "cudaDeviceGetAttribute");
  // A device with clusters may be running code that was compiled for one without.
  int major = 0, minor = 0, compiled = 0;
  detail::require(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, current), "cudaDeviceGetAttribute");
  detail::require(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, current), "cudaDeviceGetAttribute");
  for (int architecture : {__CUDA_ARCH_LIST__})
    if (architecture <= major * 100 + minor * 10) compiled = (std::max)(compiled, architecture);
  if (compiled < 900) clusters = 0;
  constexpr index_t largest = 8;  // that every device with clusters can
  index_t const at_a_time = clusters != 0 ? detail::count_clusters(current, largest, shared) : 0;
  return {stream,
          blas,
          shared - memory_in_front,
          processors * device::blocks_each,
          at_a_time > 0 ? largest : 1,
          at_a_time,
          tuning_for(major * 100 + minor * 10)};
}
#endif

namespace detail {

#if defined(__CUDACC__)
// __grid_constant__: a kernel object is read where its arguments lie, and not copied by every thread.
template <class Kernel>
__global__ void __launch_bounds__(threads) run(__grid_constant__ Kernel const kernel) {
  extern __shared__ __align__(16) std::byte memory[];
  kernel(thread_block{index_t(blockIdx.x), index_t(gridDim.x), memory + memory_in_front, threads});
}
// Two blocks a processor, or one with twice the threads, as shape_clusters wants it.
template <class Kernel>
__global__ void __launch_bounds__(2 * threads) run_cluster(__grid_constant__ Kernel const kernel, index_t size) {
  extern __shared__ __align__(16) std::byte memory[];
  index_t const x = index_t(blockIdx.x) / size, clusters = index_t(gridDim.x) / size;
  thread_block const block{x, clusters, memory + memory_in_front, int(blockDim.x)};
  block.begin();
  kernel(thread_cluster{x, clusters, block, size});
  block.end();
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

/// Sets the handle's stream unless it is set already, because setting it removes a workspace that the caller has set.
inline void use_stream(cublasHandle_t blas, cudaStream_t stream) {
  cudaStream_t now = nullptr;
  require(cublasGetStream(blas, &now), "cublasGetStream");
  if (now != stream) require(cublasSetStream(blas, stream), "cublasSetStream");
}

/// Sets the handle's pointer mode to the host's for the duration of a call.
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

/// Makes cuBLAS sum 16-bit products in float for the duration of a call, also where several blocks compute a sum.
class sums_in_float {
 public:
  explicit sums_in_float(cublasHandle_t blas) : blas_(blas) {
    require(cublasGetMathMode(blas_, &before_), "cublasGetMathMode");
    require(cublasSetMathMode(blas_, cublasMath_t(before_ | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION)),
            "cublasSetMathMode");
  }
  sums_in_float(sums_in_float const&) = delete;
  sums_in_float& operator=(sums_in_float const&) = delete;
  ~sums_in_float() { cublasSetMathMode(blas_, before_); }

 private:
  cublasHandle_t blas_;
  cublasMath_t before_{};
};

}  // namespace detail

#if defined(__CUDACC__)
namespace detail {
/// `function` on that many blocks in clusters of `size`.
inline void launch(device const& policy, void const* function, index_t blocks, cluster_size size, index_t shared,
                   void** arguments) {
  // The same value at every launch: it belongs to the kernel, which other threads of the host may be launching.
  require(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               int(policy.shared_limit + memory_in_front)),
          "cudaFuncSetAttribute");
  cudaLaunchAttribute attribute{};
  cudaLaunchConfig_t const config = launch_config(blocks, size, shared + memory_in_front, policy.stream, attribute);
  require(cudaLaunchKernelExC(&config, function, arguments), "the launch of a kernel");
}
}  // namespace detail

/// kernel(block) on that many blocks.
template <class Kernel>
void launch_blocks(device const& policy, index_t blocks, Kernel const& kernel) {
  void* arguments[] = {const_cast<Kernel*>(&kernel)};
  detail::launch(policy, reinterpret_cast<void const*>(detail::run<Kernel>), blocks, {}, kernel.shared_bytes(),
                 arguments);
}
/// kernel(cluster) on that many clusters.
template <class Kernel>
void launch_clusters(device const& policy, index_t clusters, cluster_size size, Kernel const& kernel) {
  static_assert(sizeof(Kernel) + sizeof(size.blocks) <= 32764, "what the arguments of a kernel have room for");
  void* arguments[] = {const_cast<Kernel*>(&kernel), &size.blocks};
  detail::launch(policy, reinterpret_cast<void const*>(detail::run_cluster<Kernel>), clusters * size.blocks, size,
                 kernel.shared_bytes(), arguments);
}
#endif

/// C [m, n], by columns, := A B for 16-bit storage, with sums in float.
template <class T, class LA, class LB>
void multiply_stored(device const& policy, matrix_view<T const, LA> A, matrix_view<T const, LB> B, matrix_view<T> C) {
  static_assert(sizeof(T) == 2 && std::same_as<accumulator_t<T>, float>);
  if (C.empty()) return;
  if (A.cols == 0) return ops<device>::fill(policy, static_cast<T>(0.0f), C);
  cudaDataType_t const type = significand_bits<T> == 8 ? CUDA_R_16BF : CUDA_R_16F;
  float const one = 1, zero = 0;
  detail::host_scalars const scalars(policy.blas);
  detail::sums_in_float const sums(policy.blas);
  detail::use_stream(policy.blas, policy.stream);
  detail::require(
      cublasGemmEx_64(policy.blas, A.is_col_major ? CUBLAS_OP_N : CUBLAS_OP_T,
                      B.is_col_major ? CUBLAS_OP_N : CUBLAS_OP_T, C.rows, C.cols, A.cols, &one, A.data, type, A.ld,
                      B.data, type, B.ld, &zero, C.data, type, C.ld, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
      "cublasGemmEx");
}

/// Whether cuBLAS computes the product: it must have a name for the operation, and the product must be worth a launch
/// of its own, which no other problem of a batch can share.
template <class T, class LA, class LB, class LC>
bool multiplies(device const& policy, matrix_view<T const, LA> A, bool conjugate_a, matrix_view<T const, LB> B,
                bool conjugate_b, matrix_view<T, LC> C) {
  tuning const& tuned = policy.tuned;
  bool const few =
      (std::max)(A.cols, (std::min)(C.rows, C.cols)) <= tuned.narrow && (std::max)(C.rows, C.cols) <= tuned.long_side;
  return !few && !(is_complex<T> && ((A.is_col_major && conjugate_a) || (B.is_col_major && conjugate_b)));
}
/// C [m, n], by columns, := S + alpha op(A) op(B) by cuBLAS; false, and nothing done, if it is not to.
template <class T, class LA, class LB, class LC>
bool multiply_matrices(device const& policy, T alpha, matrix_view<T const, LA> A, bool conjugate_a,
                       matrix_view<T const, LB> B, bool conjugate_b, matrix_view<T const, LC> S, matrix_view<T, LC> C) {
  static_assert(C.is_col_major);
  if (!multiplies(policy, A, conjugate_a, B, conjugate_b, C)) return false;
  conjugate_a = conjugate_a && is_complex<T>;
  conjugate_b = conjugate_b && is_complex<T>;
  if (S.data != nullptr) ops<device>::copy(policy, S, C);
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

}  // namespace HOFT_CUDA_NAMESPACE
