// SPDX-License-Identifier: BSD-3-Clause
// Programs that are right: they must pass, and nothing may be reported.
#include "bulk.cuh"
#include "check.cuh"
#include "instructions.cuh"

#include <cooperative_groups.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline_primitives.h>

#include <cstdint>

namespace cg = cooperative_groups;

__global__ void saxpy(int n, float a, float const* x, float* y) {
  int const i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a * x[i] + y[i];
}
void test_saxpy() {
  int const n = 1000;
  std::vector<float> x(n), y(n);
  for (int i = 0; i < n; ++i) x[i] = float(i), y[i] = 1;
  float *dx = device_copy(x), *dy = device_copy(y);
  saxpy<<<8, 128>>>(n, 2, dx, dy);
  CHECK_CUDA(cudaGetLastError());
  auto const got = host_copy(dy, n);
  for (int i = 0; i < n; ++i) CHECK_TRUE(got[i] == 2.0f * float(i) + 1);
}

__global__ void reduce(float const* x, int n, float* out) {
  __shared__ float partial[32];
  float sum = 0;
  for (int i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
  for (int by = 16; by > 0; by /= 2) sum += __shfl_down_sync(0xFFFFFFFFu, sum, by);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? partial[threadIdx.x] : 0;
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, by);
    if (threadIdx.x == 0) *out = sum;
  }
}
void test_reduce() {
  std::vector<float> x(777);
  float expected = 0;
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(i % 13), expected += x[i];
  float *dx = device_copy(x), *out = nullptr;
  CHECK_CUDA(cudaMalloc(&out, 4));
  reduce<<<1, 256>>>(dx, 777, out);
  CHECK_TRUE(host_copy(out, 1)[0] == expected);
}

// Fragments by NVIDIA's documentation, from and to matrices by rows.
template <class T>
__global__ void multiply(T const* A, T const* B, float const* C, float* D) {
  int const lane = threadIdx.x, group = lane >> 2, in_group = lane % 4;
  auto const pair = [](T a, T b) {
    std::uint16_t x, y;
    memcpy(&x, &a, 2), memcpy(&y, &b, 2);
    return std::uint32_t(x) | std::uint32_t(y) << 16;
  };
  std::uint32_t a[4], b[2];
  for (int e = 0; e < 4; ++e) {
    int const row = group + (e % 2) * 8, column = in_group * 2 + (e / 2) * 8;
    a[e] = pair(A[row * 16 + column], A[row * 16 + column + 1]);
  }
  for (int e = 0; e < 2; ++e) {
    int const row = in_group * 2 + e * 8;
    b[e] = pair(B[row * 8 + group], B[(row + 1) * 8 + group]);
  }
  float d[4];
  for (int e = 0; e < 4; ++e) d[e] = C[(group + e / 2 * 8) * 8 + in_group * 2 + e % 2];
  if constexpr (std::is_same_v<T, __half>)
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  for (int e = 0; e < 4; ++e) D[(group + e / 2 * 8) * 8 + in_group * 2 + e % 2] = d[e];
}
template <class T>
void test_multiply() {
  std::mt19937 engine(3);
  std::normal_distribution<float> normal;
  std::vector<T> A(256), B(128);
  std::vector<float> C(128), D(128, 0);
  for (auto& x : A) x = T(normal(engine));
  for (auto& x : B) x = T(normal(engine));
  for (auto& x : C) x = normal(engine);
  float* out = device_copy(D);
  multiply<T><<<1, 32>>>(device_copy(A), device_copy(B), device_copy(C), out);
  auto const got = host_copy(out, 128);
  for (int i = 0; i < 16; ++i)
    for (int j = 0; j < 8; ++j) {
      double sum = C[i * 8 + j], size = std::abs(sum);
      for (int k = 0; k < 16; ++k) {
        double const p = double(float(A[i * 16 + k])) * double(float(B[k * 8 + j]));
        sum += p, size += std::abs(p);
      }
      CHECK_TRUE(std::abs(got[i * 8 + j] - sum) <= size * 1e-6);
    }
}

// ldmatrix, plain and transposed, against the sentence of the documentation: thread l holds of row l / 4 the elements
// 2 (l mod 4) and 2 (l mod 4) + 1.
__global__ void load_matrices(std::uint16_t const* from, std::uint32_t* plain, std::uint32_t* turned) {
  __shared__ __align__(16) std::uint16_t lines[32][8];
  for (int i = threadIdx.x; i < 256; i += 32) lines[i / 8][i % 8] = from[i];
  __syncwarp();
  auto const at = std::uint32_t(__cvta_generic_to_shared(lines[threadIdx.x]));
  std::uint32_t r[4];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
  for (int j = 0; j < 4; ++j) plain[j * 32 + threadIdx.x] = r[j];
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
  for (int j = 0; j < 4; ++j) turned[j * 32 + threadIdx.x] = r[j];
}
void test_ldmatrix() {
  std::vector<std::uint16_t> from(256);
  for (int i = 0; i < 256; ++i) from[i] = std::uint16_t(i);
  std::vector<std::uint32_t> zero(128, 0);
  auto *plain = device_copy(zero), *turned = device_copy(zero);
  load_matrices<<<1, 32>>>(device_copy(from), plain, turned);
  auto const p = host_copy(plain, 128), t = host_copy(turned, 128);
  for (int j = 0; j < 4; ++j)
    for (int lane = 0; lane < 32; ++lane)
      for (int e = 0; e < 2; ++e) {
        int const row = lane / 4, column = lane % 4 * 2 + e;
        CHECK_TRUE((p[j * 32 + lane] >> (16 * e) & 0xFFFF) == std::uint32_t(j * 64 + row * 8 + column));
        CHECK_TRUE((t[j * 32 + lane] >> (16 * e) & 0xFFFF) == std::uint32_t(j * 64 + column * 8 + row));
      }
}

__global__ void copy_through(float const* from, float* to, int n) {
  extern __shared__ __align__(16) float line[];
  for (int i = threadIdx.x * 4; i < n; i += blockDim.x * 4) __pipeline_memcpy_async(line + i, from + i, 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  __syncthreads();
  for (int i = threadIdx.x; i < n; i += blockDim.x) to[i] = line[n - 1 - i];
}
void test_copies() {
  int const n = 1024;
  std::vector<float> x(n);
  for (int i = 0; i < n; ++i) x[i] = float(i);
  float *from = device_copy(x), *to = device_copy(x);
  copy_through<<<1, 128, n * 4>>>(from, to, n);
  auto const got = host_copy(to, n);
  for (int i = 0; i < n; ++i) CHECK_TRUE(got[i] == float(n - 1 - i));
}

/// Two turns through one buffer of 256 numbers, backwards.
__global__ void copy_in_bulk(float const* from, float* to) {
  __shared__ __align__(16) float line[256];
  __shared__ std::uint64_t barrier;
  if (threadIdx.x == 0) bulk::init(&barrier), bulk::fence();
  __syncthreads();
  for (int turn = 0; turn < 512; turn += 256) {
    if (threadIdx.x == 0) {
      bulk::wait_for_stores();
      bulk::load(line, from + turn, 512, &barrier);
      bulk::load(line + 128, from + turn + 128, 512, &barrier);
      bulk::wait(&barrier);
    }
    __syncthreads();
    float const other = line[255 - threadIdx.x];
    __syncthreads();
    line[threadIdx.x] = other;
    if (turn == 0) bulk::fence();
    __syncthreads();
    if (threadIdx.x == 0) {
      if (turn != 0) bulk::fence();  // behind the barrier one thread's is enough
      bulk::store(to + turn, line, 1024);
    }
  }
  if (threadIdx.x == 0) bulk::wait_for_stores();
}
void test_bulk_copies() {
  std::vector<float> x(512);
  for (int i = 0; i < 512; ++i) x[i] = float(i);
  float *from = device_copy(x), *to = device_copy(x);
  copy_in_bulk<<<1, 256>>>(from, to);
  auto const got = host_copy(to, 512);
  for (int i = 0; i < 512; ++i) CHECK_TRUE(got[i] == float(i / 256 * 256 + 255 - i % 256));
}

__global__ void __cluster_dims__(1) unused() {}
__global__ void ring(int* out) {
  __shared__ int mine;
  auto cluster = cg::this_cluster();
  if (threadIdx.x == 0) mine = 100 + int(cluster.block_rank());
  cluster.sync();
  int const* const next = cluster.map_shared_rank(&mine, (cluster.block_rank() + 1) % cluster.num_blocks());
  if (threadIdx.x == 0) out[blockIdx.x] = *next;
  cluster.sync();
}
cudaError_t launch_ring(void const* f, int* out, unsigned blocks, unsigned cluster, unsigned threads = 64,
                        std::size_t shared = 0) {
  cudaLaunchAttribute a{};
  a.id = cudaLaunchAttributeClusterDimension;
  a.val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t c{};
  c.gridDim = dim3(blocks), c.blockDim = dim3(threads), c.dynamicSmemBytes = shared, c.attrs = &a, c.numAttrs = 1;
  void* arguments[] = {&out};
  return cudaLaunchKernelExC(&c, f, arguments);
}
void test_cluster() {
  int* out = device_copy(std::vector<int>(16, 0));
  CHECK_CUDA(launch_ring(reinterpret_cast<void const*>(ring), out, 16, 8));
  auto const got = host_copy(out, 16);
  for (int i = 0; i < 16; ++i) CHECK_TRUE(got[i] == 100 + (i + 1) % 8);
}

// Launches that a device refuses.
__global__ void __launch_bounds__(64) bounded(int*) {}
__global__ void with_memory(int* out) {
  extern __shared__ int words[];
  words[threadIdx.x] = 1;
  out[0] = words[threadIdx.x];
}
void test_refusals() {
  int* out = device_copy(std::vector<int>(16, 0));
  auto const refused = [](cudaError_t e) {
    cudaGetLastError();
    return e != cudaSuccess;
  };
  CHECK_TRUE(refused(launch_ring(reinterpret_cast<void const*>(ring), out, 12, 8)));
  CHECK_TRUE(refused(launch_ring(reinterpret_cast<void const*>(ring), out, 16, 16)));
  CHECK_TRUE(refused(launch_ring(reinterpret_cast<void const*>(ring), out, 0, 1)));
  CHECK_TRUE(refused(launch_ring(reinterpret_cast<void const*>(bounded), out, 1, 1, 65)));
  auto const* const f = reinterpret_cast<void const*>(with_memory);
  CHECK_TRUE(refused(launch_ring(f, out, 1, 1, 32, 48 * 1024 + 1)));
  CHECK_TRUE(refused(cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024 + 1)));
  CHECK_CUDA(cudaFuncSetAttribute(f, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024));
  CHECK_CUDA(launch_ring(f, out, 1, 1, 1, 227 * 1024));
  with_memory<<<1, 2048>>>(out);
  CHECK_TRUE(cudaGetLastError() == cudaErrorInvalidConfiguration);
  CHECK_TRUE(cudaGetLastError() == cudaSuccess);
  CHECK_CUDA(cudaDeviceSynchronize());
}

__global__ void add_to(float* x, float by) { x[threadIdx.x] += by; }
void test_graph() {
  float* x = device_copy(std::vector<float>(32, 0.0f));
  cudaStream_t s;
  CHECK_CUDA(cudaStreamCreate(&s));
  CHECK_CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  float by = 1;
  add_to<<<1, 32, 0, s>>>(x, by);
  by = 5;  // was taken by value
  cudaGraph_t graph;
  CHECK_CUDA(cudaStreamEndCapture(s, &graph));
  cudaGraphExec_t run;
  CHECK_CUDA(cudaGraphInstantiate(&run, graph, 0));
  for (int k = 0; k < 3; ++k) CHECK_CUDA(cudaGraphLaunch(run, s));
  CHECK_CUDA(cudaStreamSynchronize(s));
  CHECK_TRUE(host_copy(x, 32)[7] == 3);
  // What a capture does not allow breaks it.
  CHECK_CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  void* p = nullptr;
  CHECK_TRUE(cudaMalloc(&p, 16) == cudaErrorStreamCaptureUnsupported);
  CHECK_TRUE(cudaStreamEndCapture(s, &graph) == cudaErrorStreamCaptureInvalidated);
  CHECK_CUDA(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
  CHECK_TRUE(cudaStreamSynchronize(s) == cudaErrorStreamCaptureUnsupported);
  CHECK_TRUE(cudaStreamEndCapture(s, &graph) != cudaSuccess);
  cudaGetLastError();
}

void test_blas() {
  int const m = 7, n = 5, k = 9;
  std::mt19937 engine(3);
  std::normal_distribution<float> normal;
  std::vector<float> A(m * k), B(k * n), C(m * n, 0);
  for (auto& x : A) x = normal(engine);
  for (auto& x : B) x = normal(engine);
  float *a = device_copy(A), *b = device_copy(B), *c = device_copy(C);
  cublasHandle_t h;
  CHECK_TRUE(cublasCreate(&h) == CUBLAS_STATUS_SUCCESS);
  float const one = 1, zero = 0;
  CHECK_TRUE(cublasGemmEx(h, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &one, a, CUDA_R_32F, k, b, CUDA_R_32F, k, &zero, c,
                          CUDA_R_32F, m, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS);
  CHECK_TRUE(cublasGemmEx(h, CUBLAS_OP_T, CUBLAS_OP_N, m, n, k, &one, a, CUDA_R_32F, k - 1, b, CUDA_R_32F, k, &zero, c,
                          CUDA_R_32F, m, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_INVALID_VALUE);
  auto const got = host_copy(c, m * n);
  for (int i = 0; i < m; ++i)
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int l = 0; l < k; ++l) sum += double(A[i * k + l]) * B[j * k + l];
      CHECK_TRUE(std::abs(got[j * m + i] - sum) < 1e-5);
    }
}

// Arithmetic against the host's.
__global__ void arithmetic(float const* x, double const* y, long long const* z, float* f, double* d, long long* l,
                           std::uint32_t* h, int n) {
  for (int i = threadIdx.x; i + 2 < n; i += blockDim.x) {
    f[4 * i] = x[i] / x[i + 1], f[4 * i + 1] = sqrtf(fabsf(x[i])), f[4 * i + 2] = fmaf(x[i], x[i + 1], x[i + 2]),
          f[4 * i + 3] = fminf(x[i], x[i + 1]);
    d[4 * i] = y[i] / y[i + 1], d[4 * i + 1] = sqrt(fabs(y[i])), d[4 * i + 2] = fma(y[i], y[i + 1], y[i + 2]),
          d[4 * i + 3] = double(x[i]);
    l[4 * i] = z[i] / z[i + 1], l[4 * i + 1] = z[i] % z[i + 1], l[4 * i + 2] = __mul64hi(z[i], z[i + 1]),
          l[4 * i + 3] = z[i] >> (z[i + 1] & 63);
    std::uint32_t two;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(two) : "f"(x[i]), "f"(x[i + 1]));
    h[2 * i] = two;
    h[2 * i + 1] = std::uint32_t(__half_as_ushort(__float2half_rn(x[i]))) | std::uint32_t(__clzll(z[i])) << 16;
  }
}
void test_arithmetic() {
  int const n = 500;
  std::mt19937_64 engine(5);
  std::normal_distribution<double> normal;
  std::vector<float> x(n);
  std::vector<double> y(n);
  std::vector<long long> z(n);
  for (int i = 0; i < n; ++i)
    x[i] = float(normal(engine)), y[i] = normal(engine),
    z[i] = (long long)(engine() >> (i % 60)) * (i % 2 ? 1 : -1) | 1;
  float* f = device_copy(std::vector<float>(4 * n, 0));
  double* d = device_copy(std::vector<double>(4 * n, 0));
  long long* l = device_copy(std::vector<long long>(4 * n, 0));
  std::uint32_t* h = device_copy(std::vector<std::uint32_t>(2 * n, 0));
  arithmetic<<<1, 96>>>(device_copy(x), device_copy(y), device_copy(z), f, d, l, h, n);
  auto const gf = host_copy(f, 4 * n);
  auto const gd = host_copy(d, 4 * n);
  auto const gl = host_copy(l, 4 * n);
  auto const gh = host_copy(h, 2 * n);
  for (int i = 0; i + 2 < n; ++i) {
    CHECK_TRUE(gf[4 * i] == x[i] / x[i + 1] && gf[4 * i + 1] == std::sqrt(std::abs(x[i])) &&
               gf[4 * i + 2] == std::fma(x[i], x[i + 1], x[i + 2]) && gf[4 * i + 3] == std::fmin(x[i], x[i + 1]));
    CHECK_TRUE(gd[4 * i] == y[i] / y[i + 1] && gd[4 * i + 1] == std::sqrt(std::abs(y[i])) &&
               gd[4 * i + 2] == std::fma(y[i], y[i + 1], y[i + 2]) && gd[4 * i + 3] == double(x[i]));
    CHECK_TRUE(gl[4 * i] == z[i] / z[i + 1] && gl[4 * i + 1] == z[i] % z[i + 1]);
    CHECK_TRUE(gl[4 * i + 2] == (long long)((static_cast<__int128>(z[i]) * z[i + 1]) >> 64) &&
               gl[4 * i + 3] == z[i] >> (z[i + 1] & 63));
    auto const bf = [](float v) {
      std::uint16_t bits;
      __nv_bfloat16 const b = __float2bfloat16_rn(v);
      std::memcpy(&bits, &b, 2);
      return std::uint32_t(bits);
    };
    CHECK_TRUE(gh[2 * i] == (bf(x[i]) << 16 | bf(x[i + 1])));
    std::uint16_t half;
    __half const hv = __float2half_rn(x[i]);
    std::memcpy(&half, &hv, 2);
    CHECK_TRUE(gh[2 * i + 1] ==
               (std::uint32_t(half) | std::uint32_t(z[i] == 0 ? 64 : __builtin_clzll((unsigned long long)z[i])) << 16));
  }
}

int main() {
  test_saxpy();
  test_reduce();
  test_multiply<__nv_bfloat16>();
  test_multiply<__half>();
  test_ldmatrix();
  test_copies();
  test_bulk_copies();
  test_cluster();
  test_refusals();
  test_graph();
  test_blas();
  test_arithmetic();
  instructions::test();
  CHECK_CUDA(cudaDeviceSynchronize());
  std::printf("all right\n");
}
