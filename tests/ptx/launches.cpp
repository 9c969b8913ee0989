// SPDX-License-Identifier: BSD-3-Clause
// Launches of kernels, and what a program asks and sets of them.
#include "runtime.hpp"

#include <algorithm>
#include <cstdio>

namespace emu {
namespace {

int dynamic_limit(kernel const& k, program const& p) {
  return k.max_dynamic >= 0 ? k.max_dynamic : shared_default - int(p.static_shared);
}

cudaError_t launch_kernel(void const* function, dim3 grid, dim3 threads, u32 cluster, void** arguments,
                          std::size_t shared, cudaStream_t stream) {
  state& a = all();
  if (a.sticky != cudaSuccess) return answer(a.sticky);
  kernel* const k = kernel_of(function);
  if (k == nullptr) return answer(cudaErrorInvalidDeviceFunction);
  if (!is_null(stream) && !a.streams.contains(stream)) return answer(cudaErrorInvalidResourceHandle);
  program const* code = nullptr;
  try {
    code = &compile(k->of->get(), *k->source);
  } catch (unsupported const& u) {
    std::fprintf(stderr, "ptxemu: not supported: %s\n", u.what());
    findings::get().add("not supported", k->name, u.what());
    return answer(cudaErrorInvalidPtx);
  }
  u64 const count = u64(threads.x) * threads.y * threads.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || count == 0 || count > 1024 || threads.z > 64 ||
      grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535)
    return answer(cudaErrorInvalidConfiguration);
  if (count > code->max_threads) return answer(cudaErrorInvalidValue);
  if (k->source->required_threads != 0 && count != k->source->required_threads) return answer(cudaErrorInvalidValue);
  if (cluster == 0 || cluster > 8) return answer(cudaErrorInvalidClusterSize);
  if (grid.x % cluster != 0) return answer(cudaErrorInvalidConfiguration);
  if (shared > std::size_t(std::max(0, dynamic_limit(*k, *code))) ||
      shared + code->static_shared > std::size_t(shared_optin))
    return answer(cudaErrorInvalidValue);
  auto l = std::make_shared<launch>();
  l->code = code;
  l->grid = {grid.x, grid.y, grid.z}, l->threads = {threads.x, threads.y, threads.z};
  l->cluster = cluster, l->dynamic_shared = u32(shared);
  if (code->param_bytes > 32764) return answer(cudaErrorInvalidValue);
  l->params.assign(code->param_bytes, 0);
  u32 offset = 0;
  for (std::size_t n = 0; n < k->source->params.size(); ++n) {
    auto const& v = k->source->params[n];
    offset = u32((offset + v.align - 1) / v.align * v.align);
    std::memcpy(l->params.data() + offset, arguments[n], std::size_t(v.size));
    offset += u32(v.size);
  }
  return answer(submit(
      stream,
      [l] {
        launch now = *l;
        if (options::get().trace)
          std::fprintf(stderr, "ptxemu: %s <<<%llu, %llu, %u, cluster %u>>>\n", now.code->name.c_str(),
                       static_cast<unsigned long long>(now.grid.volume()),
                       static_cast<unsigned long long>(now.threads.volume()), now.dynamic_shared, now.cluster);
        ++all().launches;
        run(now);
      },
      "kernel"));
}

}  // namespace
}  // namespace emu

using namespace emu;

extern "C" {

namespace {
struct configuration {
  dim3 grid, threads;
  size_t shared;
  cudaStream_t stream;
};
thread_local std::vector<configuration> configurations;
}  // namespace
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 threads, size_t shared, struct CUstream_st* stream) {
  configurations.push_back({grid, threads, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* threads, size_t* shared, void* stream) {
  if (configurations.empty()) return cudaErrorMissingConfiguration;
  configuration const c = configurations.back();
  configurations.pop_back();
  *grid = c.grid, *threads = c.threads, *shared = c.shared;
  *static_cast<cudaStream_t*>(stream) = c.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* handle, void const* host) {
  auto const at = all().kernels.find(host);
  if (at == all().kernels.end()) return cudaErrorInvalidDeviceFunction;
  *handle = reinterpret_cast<cudaKernel_t>(at->second.get());
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3 grid, dim3 threads, void** arguments, size_t shared,
                               cudaStream_t stream) {
  return launch_kernel(k, grid, threads, 1, arguments, shared, stream);
}
cudaError_t cudaLaunchKernel(void const* f, dim3 grid, dim3 threads, void** arguments, size_t shared,
                             cudaStream_t stream) {
  return launch_kernel(f, grid, threads, 1, arguments, shared, stream);
}
cudaError_t cudaLaunchKernelExC(cudaLaunchConfig_t const* c, void const* f, void** arguments) {
  u32 cluster = 1;
  for (unsigned n = 0; n < c->numAttrs; ++n) {
    cudaLaunchAttribute const& a = c->attrs[n];
    if (a.id == cudaLaunchAttributeClusterDimension) {
      if (a.val.clusterDim.y != 1 || a.val.clusterDim.z != 1) {
        std::fprintf(stderr, "ptxemu: clusters of more than one dimension are not supported\n");
        return answer(cudaErrorNotSupported);
      }
      cluster = a.val.clusterDim.x;
    } else if (a.id != cudaLaunchAttributeIgnore) {
      std::fprintf(stderr, "ptxemu: launch attribute %d is not supported\n", int(a.id));
      return answer(cudaErrorNotSupported);
    }
  }
  return launch_kernel(f, c->gridDim, c->blockDim, cluster, arguments, c->dynamicSmemBytes, c->stream);
}

// --- kernels ----------------------------------------------------------------------------------------------------

cudaError_t cudaFuncSetAttribute(void const* f, cudaFuncAttribute what, int value) {
  kernel* const k = kernel_of(f);
  if (k == nullptr) return answer(cudaErrorInvalidDeviceFunction);
  if (what == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    try {
      program const& p = compile(k->of->get(), *k->source);
      if (value < 0 || value + int(p.static_shared) > shared_optin) return answer(cudaErrorInvalidValue);
    } catch (unsupported const& u) {
      std::fprintf(stderr, "ptxemu: not supported: %s\n", u.what());
      return answer(cudaErrorInvalidPtx);
    }
    k->max_dynamic = value;
    return cudaSuccess;
  }
  if (what == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  return answer(cudaErrorNotSupported);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* to, void const* f) {
  kernel* const k = kernel_of(f);
  if (k == nullptr) return answer(cudaErrorInvalidDeviceFunction);
  program const& p = compile(k->of->get(), *k->source);
  *to = {};
  to->sharedSizeBytes = p.static_shared;
  to->maxThreadsPerBlock = int(p.max_threads);
  to->maxDynamicSharedSizeBytes = dynamic_limit(*k, p);
  to->numRegs = 64;  // what ptxas would take is not known here
  to->ptxVersion = to->binaryVersion = 90;
  to->localSizeBytes = p.local_bytes;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveClusters(int* count, void const* f, cudaLaunchConfig_t const* c) {
  kernel* const k = kernel_of(f);
  if (k == nullptr) return answer(cudaErrorInvalidDeviceFunction);
  unsigned size = 1;
  for (unsigned n = 0; n < c->numAttrs; ++n)
    if (c->attrs[n].id == cudaLaunchAttributeClusterDimension) size = c->attrs[n].val.clusterDim.x;
  program const& p = compile(k->of->get(), *k->source);
  if (size == 0 || size > 8) return answer(cudaErrorInvalidClusterSize);
  if (c->gridDim.x % size != 0 || c->blockDim.x == 0 || c->blockDim.x > p.max_threads)
    return answer(cudaErrorInvalidConfiguration);
  if (int(c->dynamicSmemBytes) > dynamic_limit(*k, p)) return answer(cudaErrorInvalidValue);
  // Groups of 16 processors, or 18 on the whole device, which no cluster crosses; blocks of a processor by threads and
  // shared memory.
  unsigned const by_threads = 2048 / c->blockDim.x,
                 by_shared = unsigned(228 * 1024 / (c->dynamicSmemBytes + p.static_shared + 1024));
  unsigned const each = std::min({by_threads, by_shared, 32u});
  unsigned const processors = unsigned(options::get().processors);
  *count = 0;
  for (unsigned n = 0; n < processors / 16; ++n) *count += int((n < processors % 16 / 2 ? 18 : 16) * each / size);
  if (processors < 16) *count = int(processors * each / size);
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* count, void const* f, int threads, size_t shared) {
  kernel* const k = kernel_of(f);
  if (k == nullptr) return answer(cudaErrorInvalidDeviceFunction);
  program const& p = compile(k->of->get(), *k->source);
  *count =
      threads <= 0 ? 0 : int(std::min<size_t>(size_t(2048 / threads), 228 * 1024 / (shared + p.static_shared + 1024)));
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* count, void const* f, int threads,
                                                                   size_t shared, unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(count, f, threads, shared);
}

}  // extern "C"
