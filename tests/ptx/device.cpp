// SPDX-License-Identifier: BSD-3-Clause
// The device and its memory.
#include "runtime.hpp"

#include <algorithm>
#include <cstdio>

using namespace emu;

extern "C" {

// --- memory -----------------------------------------------------------------------------------------------------

static cudaError_t allocate(void** to, size_t bytes, memory_kind kind) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (a.sticky != cudaSuccess) return answer(a.sticky);
  if (to == nullptr) return answer(cudaErrorInvalidValue);
  if (cudaError_t const e = unsafe_call(); e != cudaSuccess) return answer(e);
  if (bytes == 0) {
    *to = nullptr;
    return cudaSuccess;
  }
  if (kind == memory_kind::device && memory_space::get().used() + bytes > options::get().memory)
    return answer(cudaErrorMemoryAllocation);
  *to = memory_space::get().allocate(bytes, kind);
  return *to == nullptr ? answer(cudaErrorMemoryAllocation) : cudaSuccess;
}
cudaError_t cudaMalloc(void** to, size_t bytes) { return allocate(to, bytes, memory_kind::device); }
cudaError_t cudaHostAlloc(void** to, size_t bytes, unsigned) { return allocate(to, bytes, memory_kind::mapped); }
cudaError_t cudaMallocHost(void** to, size_t bytes) { return allocate(to, bytes, memory_kind::mapped); }
cudaError_t cudaMallocManaged(void** to, size_t bytes, unsigned) { return allocate(to, bytes, memory_kind::mapped); }
cudaError_t cudaHostGetDevicePointer(void** to, void* from, unsigned) {
  *to = from;
  return cudaSuccess;
}
static cudaError_t give_back(void* at) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (at == nullptr) return cudaSuccess;
  if (cudaError_t const e = unsafe_call(); e != cudaSuccess) return answer(e);
  flush_all();
  if (!memory_space::get().release(at)) return answer(cudaErrorInvalidValue);
  return a.sticky != cudaSuccess ? answer(a.sticky) : cudaSuccess;
}
cudaError_t cudaFree(void* at) { return give_back(at); }
cudaError_t cudaFreeHost(void* at) { return give_back(at); }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = options::get().memory;
  *free = *total - std::min(*total, memory_space::get().used());
  return cudaSuccess;
}

static bool inside(void const* at, size_t bytes) {
  auto const* const a = memory_space::get().find(u64(at));
  return a != nullptr && a->live && u64(at) + bytes <= a->base + a->size;
}
static cudaError_t check_copy(void* to, void const* from, size_t bytes, cudaMemcpyKind kind) {
  if (bytes == 0) return cudaSuccess;
  bool const to_device = memory_space::get().is_device(to), from_device = memory_space::get().is_device(from);
  if ((kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice) && !to_device) return cudaErrorInvalidValue;
  if ((kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice) && !from_device)
    return cudaErrorInvalidValue;
  if ((to_device && !inside(to, bytes)) || (from_device && !inside(from, bytes))) return cudaErrorInvalidValue;
  return cudaSuccess;
}
static void copy_now(void* to, void const* from, size_t bytes) {
  std::memmove(to, from, bytes);
  if (memory_space::get().is_device(to)) memory_space::get().mark_written(to, bytes);
}
cudaError_t cudaMemcpy(void* to, void const* from, size_t bytes, cudaMemcpyKind kind) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (a.sticky != cudaSuccess) return answer(a.sticky);
  if (a.capturing != nullptr && a.capturing->mode != cudaStreamCaptureModeRelaxed) {
    a.capturing->capture_broken = true;
    return answer(cudaErrorStreamCaptureImplicit);
  }
  if (cudaError_t const e = check_copy(to, from, bytes, kind); e != cudaSuccess) return answer(e);
  flush_blocking();
  if (a.sticky != cudaSuccess) return answer(a.sticky);
  copy_now(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, void const* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  if (cudaError_t const e = check_copy(to, from, bytes, kind); e != cudaSuccess) return answer(e);
  return answer(submit(
      stream, [=] { copy_now(to, from, bytes); }, "memcpy"));
}
static void set_now(void* at, int value, size_t bytes) {
  std::memset(at, value, bytes);
  memory_space::get().mark_written(at, bytes);
}
cudaError_t cudaMemset(void* at, int value, size_t bytes) {
  if (bytes > 0 && !inside(at, bytes)) return answer(cudaErrorInvalidValue);
  return answer(submit(
      nullptr, [=] { set_now(at, value, bytes); }, "memset"));
}
cudaError_t cudaMemsetAsync(void* at, int value, size_t bytes, cudaStream_t stream) {
  if (bytes > 0 && !inside(at, bytes)) return answer(cudaErrorInvalidValue);
  return answer(submit(
      stream, [=] { set_now(at, value, bytes); }, "memset"));
}

// --- the device -------------------------------------------------------------------------------------------------

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : answer(cudaErrorInvalidDevice); }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int device) {
  if (device != 0) return answer(cudaErrorInvalidDevice);
  switch (what) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = shared_default;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = shared_optin;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = 228 * 1024;
      break;
    case cudaDevAttrReservedSharedMemoryPerBlock:
      *value = 1024;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = options::get().processors;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *value = 32;
      break;
    case cudaDevAttrWarpSize:
      *value = 32;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      break;
    case cudaDevAttrClusterLaunch:
      *value = 1;
      break;
    case cudaDevAttrL2CacheSize:
      *value = 50 << 20;
      break;
    case cudaDevAttrClockRate:
      *value = 1755000;
      break;
    case cudaDevAttrCooperativeLaunch:
      *value = 1;
      break;
    case cudaDevAttrMemoryPoolsSupported:
      *value = 0;
      break;
    default:
      std::fprintf(stderr, "ptxemu: device attribute %d is not supported\n", int(what));
      return answer(cudaErrorInvalidValue);
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  std::memset(static_cast<void*>(p), 0, sizeof(*p));
  // "emulated": by that word a program knows that no time here is one.
  std::strcpy(p->name, "emulated H100 (sm_90)");
  p->totalGlobalMem = options::get().memory;
  p->sharedMemPerBlock = shared_default, p->sharedMemPerBlockOptin = shared_optin,
  p->sharedMemPerMultiprocessor = 228 * 1024;
  p->reservedSharedMemPerBlock = 1024;
  p->major = 9, p->minor = 0, p->multiProcessorCount = options::get().processors, p->warpSize = 32;
  p->maxThreadsPerBlock = 1024, p->maxThreadsPerMultiProcessor = 2048,
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->maxGridSize[0] = 0x7FFFFFFF, p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024, p->maxThreadsDim[2] = 64;
  p->l2CacheSize = 50 << 20, p->clusterLaunch = 1, p->unifiedAddressing = 1, p->canMapHostMemory = 1;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* v) {
  *v = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaDeviceReset() { return cudaSuccess; }

}  // extern "C"
