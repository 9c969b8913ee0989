// SPDX-License-Identifier: BSD-3-Clause
// Programs that are wrong, one for each argument: each must be reported, with the words beside it in wrong.sh.
#include "bulk.cuh"
#include "check.cuh"

#include <cooperative_groups.h>
#include <cuda_pipeline_primitives.h>

#include <cstdint>
#include <string>

namespace cg = cooperative_groups;

__global__ void race_in_block(float* out) {
  __shared__ float x[64];
  x[threadIdx.x] = float(threadIdx.x);
  out[threadIdx.x] = x[63 - threadIdx.x];  // no __syncthreads
}
__global__ void race_in_warp(float* out) {
  __shared__ float x[32];
  x[threadIdx.x] = float(threadIdx.x);
  out[threadIdx.x] = x[31 - threadIdx.x];  // no __syncwarp
}
__global__ void race_of_blocks(float* out) { out[0] = float(blockIdx.x); }
__global__ void race_write_after_read(float* out) {
  __shared__ float x[64];
  x[threadIdx.x] = 1;
  __syncthreads();
  float const y = x[(threadIdx.x + 32) % 64];
  x[threadIdx.x] = y + 1;
  __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}
__global__ void unwaited(float const* from, float* out) {
  __shared__ __align__(16) float x[128];
  __pipeline_memcpy_async(x + 4 * threadIdx.x, from + 4 * threadIdx.x, 16);
  __pipeline_commit();
  __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}
__global__ void overwritten_copy(float const* from, float* out) {
  __shared__ __align__(16) float x[128];
  __pipeline_memcpy_async(x + 4 * threadIdx.x, from + 4 * threadIdx.x, 16);
  __pipeline_commit();
  __syncthreads();
  x[4 * (31 - threadIdx.x)] = 2;  // the copy may arrive behind it
  __pipeline_wait_prior(0);
  __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}
__global__ void unsynchronised_copy(float const* from, float* out) {
  __shared__ __align__(16) float x[128];
  __pipeline_memcpy_async(x + 4 * threadIdx.x, from + 4 * threadIdx.x, 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  out[threadIdx.x] = x[127 - threadIdx.x];  // no barrier
}
/// fault 0: nobody waits for what comes; 1: more is waited for than comes; 2: what goes is overwritten; 3: nobody waits
/// for what goes; 4: a part of 16 bytes. No fence is behind what threads wrote where 5: something goes from; 6: the
/// barrier is; 7: something comes to. 8: the barrier is written over.
__global__ void in_bulk(float const* from, float* out, int fault) {
  __shared__ __align__(16) float x[64];
  __shared__ std::uint64_t barrier;
  if (threadIdx.x == 0) {
    bulk::init(&barrier);
    if (fault != 6) bulk::fence();
    if (fault == 1) bulk::wait(&barrier), bulk::wait(&barrier);
    if (fault == 8) barrier = 0;
    bulk::load(x, from, fault == 4 ? 8 : 256, &barrier);
    if (fault == 1)
      asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], 16;" ::"r"(bulk::shared(&barrier)));
    if (fault != 0) bulk::wait(&barrier);
  }
  __syncthreads();
  if (fault == 0) out[threadIdx.x] = x[threadIdx.x];
  if (fault == 5 || fault == 7) x[threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x == 0 && fault == 7) bulk::load(x, from, 256, &barrier), bulk::wait(&barrier);
  if (threadIdx.x == 0 && fault >= 2 && fault < 7) bulk::store(out, x, 256);
  if (fault == 2) x[threadIdx.x] = 1;
  if (threadIdx.x == 0 && fault != 3) bulk::wait_for_stores();
}
/// Two lanes copy, and one waits for both.
__global__ void in_bulk_by_lanes(float const* from, float* out) {
  __shared__ __align__(16) float x[64];
  __shared__ std::uint64_t barrier;
  if (threadIdx.x == 0) bulk::init(&barrier), bulk::fence();
  __syncthreads();
  if (threadIdx.x < 2) bulk::load(x + 32 * threadIdx.x, from, 128, &barrier);
  if (threadIdx.x == 0) bulk::wait(&barrier);  // no __syncwarp
  __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}
__global__ void beyond(float* out) { out[threadIdx.x + 1] = 1; }
__global__ void beyond_shared(float* out) {
  extern __shared__ float x[];
  x[threadIdx.x + 1] = 1;
  out[threadIdx.x] = 1;
}
__global__ void misaligned(char* out) { *reinterpret_cast<float4*>(out + 8) = float4{1, 2, 3, 4}; }
__global__ void uninitialised(float* out) {
  __shared__ float x[64];
  if (threadIdx.x < 31) x[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = x[threadIdx.x];
}
__global__ void divergent(float* out) {
  if (threadIdx.x < 16) __syncthreads();
  out[threadIdx.x] = 1;
  if (threadIdx.x >= 16) {
    out[threadIdx.x] = 2;
    __syncthreads();
  }
}
__global__ void missing_warp(float* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
    out[threadIdx.x] = 1;
  } else {
    for (int i = 0; i < 2; ++i) __syncthreads();
  }
}
__global__ void cluster_too_early(int* out) {
  __shared__ int mine;
  auto cluster = cg::this_cluster();
  if (threadIdx.x == 0) mine = int(cluster.block_rank());
  __syncthreads();  // not the cluster's
  if (threadIdx.x == 0)
    out[blockIdx.x] = *cluster.map_shared_rank(&mine, (cluster.block_rank() + 1) % cluster.num_blocks());
  cluster.sync();
}
__global__ void cluster_left(int* out) {
  __shared__ int mine;
  auto cluster = cg::this_cluster();
  if (threadIdx.x == 0) mine = int(cluster.block_rank());
  cluster.sync();
  if (threadIdx.x == 0)
    out[blockIdx.x] = *cluster.map_shared_rank(&mine, (cluster.block_rank() + 1) % cluster.num_blocks());
}
__global__ void ldmatrix_misaligned(std::uint32_t* out) {
  __shared__ __align__(16) std::uint16_t x[512];
  for (int i = threadIdx.x; i < 512; i += 32) x[i] = 1;
  __syncwarp();
  auto const at = std::uint32_t(__cvta_generic_to_shared(x + threadIdx.x * 9));
  std::uint32_t r;
  asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r) : "r"(at) : "memory");
  out[threadIdx.x] = r;
}
__global__ void of_freed(float* out) { out[threadIdx.x] = 1; }

void launch(void const* f, void* out, unsigned blocks, unsigned cluster) {
  cudaLaunchAttribute a{};
  a.id = cudaLaunchAttributeClusterDimension;
  a.val.clusterDim = {cluster, 1, 1};
  cudaLaunchConfig_t c{};
  c.gridDim = dim3(blocks), c.blockDim = dim3(32), c.attrs = &a, c.numAttrs = 1;
  void* arguments[] = {&out};
  CHECK_CUDA(cudaLaunchKernelExC(&c, f, arguments));
}

int main(int, char** arguments) {
  std::string const which = arguments[1];
  float *out = nullptr, *from = device_copy(std::vector<float>(256, 1.0f));
  CHECK_CUDA(cudaMalloc(&out, 64 * 4));
  if (which == "race_in_block") race_in_block<<<1, 64>>>(out);
  else if (which == "race_in_warp") race_in_warp<<<1, 32>>>(out);
  else if (which == "race_of_blocks") race_of_blocks<<<2, 1>>>(out);
  else if (which == "race_write_after_read") race_write_after_read<<<1, 64>>>(out);
  else if (which == "unwaited") unwaited<<<1, 32>>>(from, out);
  else if (which == "overwritten_copy") overwritten_copy<<<1, 32>>>(from, out);
  else if (which == "unsynchronised_copy") unsynchronised_copy<<<1, 32>>>(from, out);
  else if (which.starts_with("bulk_")) in_bulk<<<1, 64>>>(from, out, which.back() - '0');
  else if (which == "unsynchronised_bulk") in_bulk_by_lanes<<<1, 64>>>(from, out);
  else if (which == "beyond") beyond<<<1, 64>>>(out);
  else if (which == "beyond_shared") beyond_shared<<<1, 64, 64 * 4>>>(out);
  else if (which == "misaligned") misaligned<<<1, 1>>>(reinterpret_cast<char*>(out));
  else if (which == "uninitialised") uninitialised<<<1, 64>>>(out);
  else if (which == "uninitialised_global") {
    float* other = nullptr;
    CHECK_CUDA(cudaMalloc(&other, 256));
    unsynchronised_copy<<<1, 8>>>(out, other);
  } else if (which == "divergent") divergent<<<1, 32>>>(out);
  else if (which == "missing_warp") missing_warp<<<1, 64>>>(out);
  else if (which == "cluster_too_early") launch(reinterpret_cast<void const*>(cluster_too_early), out, 2, 2);
  else if (which == "cluster_left") launch(reinterpret_cast<void const*>(cluster_left), out, 2, 2);
  else if (which == "ldmatrix_misaligned") ldmatrix_misaligned<<<1, 32>>>(reinterpret_cast<std::uint32_t*>(out));
  else if (which == "of_freed") {
    cudaFree(out);
    of_freed<<<1, 32>>>(out);
  } else return std::printf("no case %s\n", which.c_str()), 3;
  cudaDeviceSynchronize();
  std::printf("%s: %s\n", which.c_str(), cudaGetErrorName(cudaGetLastError()));
}
