// SPDX-License-Identifier: BSD-3-Clause
// Work of streams, when it is done and what comes of it: errors, findings, the end of the program.
#include "runtime.hpp"

#include <unistd.h>

#include <cstdio>
#include <iterator>

namespace emu {
namespace {

thread_local cudaError_t last_error = cudaSuccess;

}  // namespace

state& all() {
  static state* const only = new state;
  return *only;
}
cudaError_t answer(cudaError_t e) {
  if (e != cudaSuccess) last_error = e;
  return e;
}

namespace {

void fail(int error, std::string const& what) {
  findings::get().add(std::string("fault ") + cudaGetErrorName(cudaError_t(error)), "", what);
  if (all().sticky == cudaSuccess) all().sticky = cudaError_t(error);
}

void run_one(std::function<void()> const& work) {
  if (all().sticky != cudaSuccess) return;  // the context is gone
  auto const begun = std::chrono::steady_clock::now();
  try {
    work();
  } catch (fault const& f) {
    fail(f.error, f.what());
  } catch (unsupported const& u) {
    std::fprintf(stderr, "ptxemu: not supported: %s\n", u.what());
    fail(cudaErrorInvalidPtx, u.what());
  }
  all().seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

void step(CUstream_st* s) {
  auto const work = std::move(s->queue.front());
  s->queue.pop_front();
  run_one(work.run);
}

}  // namespace

/// Work of other streams may come before, after or between.
void flush(CUstream_st* s) {
  options const& o = options::get();
  while (!s->queue.empty()) {
    if (o.order == schedule::random) {
      u64& r = all().random;
      r ^= r << 13, r ^= r >> 7, r ^= r << 17;
      if (r % 2 == 0) {
        std::vector<CUstream_st*> others;
        for (auto* t : all().streams)
          if (t != s && !t->queue.empty()) others.push_back(t);
        if (!others.empty()) {
          step(others[(r >> 8) % others.size()]);
          continue;
        }
      }
    }
    step(s);
  }
}
void flush_all() {
  options const& o = options::get();
  if (o.order == schedule::reverse)
    for (auto s = all().streams.rbegin(); s != all().streams.rend(); ++s) flush(*s);
  for (auto* s : all().streams) flush(s);
}
void flush_blocking() {
  for (auto* s : all().streams)
    if (s->blocking) flush(s);
}
/// Calls that may not be made while something is captured: they break the capture.
cudaError_t unsafe_call() {
  state& a = all();
  if (a.capturing == nullptr || a.capturing->mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  a.capturing->capture_broken = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t submit(cudaStream_t stream, std::function<void()> work, char const* name) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (a.sticky != cudaSuccess) return a.sticky;
  if (is_null(stream)) {
    if (a.capturing != nullptr && a.capturing->mode != cudaStreamCaptureModeRelaxed) {
      a.capturing->capture_broken = true;
      return cudaErrorStreamCaptureImplicit;
    }
    flush_blocking();
    run_one(work);
    return cudaSuccess;
  }
  if (!a.streams.contains(stream)) return cudaErrorInvalidResourceHandle;
  if (stream->capture != nullptr) {
    if (stream->capture_broken) return cudaErrorStreamCaptureInvalidated;
    stream->capture->nodes.push_back({std::move(work), name});
    return cudaSuccess;
  }
  if (options::get().eager) {
    run_one(work);
    return cudaSuccess;
  }
  stream->queue.push_back({std::move(work), name});
  return cudaSuccess;
}
bool is_stream(cudaStream_t stream) { return is_null(stream) || all().streams.contains(stream); }
void finish_everything() {
  std::lock_guard const lock(all().mutex);
  flush_all();
}
bool usable(void const* at, std::size_t bytes, char const* who) {
  try {
    memory_space::get().require(at, bytes, who);
    return true;
  } catch (fault const& f) {
    fail(f.error, f.what());
    return false;
  }
}

namespace {
struct at_end {
  ~at_end() {
    findings::get().summary();
    state& a = all();
    if (std::getenv("PTXEMU_STATISTICS") != nullptr)
      std::fprintf(stderr, "ptxemu: %llu launches in %.1f s\n", static_cast<unsigned long long>(a.launches), a.seconds);
    if (findings::get().count() > 0) {
      std::fflush(nullptr);
      _exit(86);
    }
  }
} const end;
}  // namespace

}  // namespace emu

using namespace emu;

extern "C" {

cudaError_t cudaGetLastError() {
  cudaError_t const e = all().sticky != cudaSuccess ? all().sticky : last_error;
  last_error = cudaSuccess;
  return e;
}
cudaError_t cudaPeekAtLastError() { return all().sticky != cudaSuccess ? all().sticky : last_error; }

namespace {

struct error_text {
  cudaError_t error;
  char const *name, *text;
};
#define EMU_ERROR(name, text) \
  { name, #name, text }
constexpr error_text errors[] = {
    EMU_ERROR(cudaSuccess, "no error"),
    EMU_ERROR(cudaErrorInvalidValue, "invalid argument"),
    EMU_ERROR(cudaErrorMemoryAllocation, "out of memory"),
    EMU_ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
    EMU_ERROR(cudaErrorInvalidSymbol, "invalid device symbol"),
    EMU_ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
    EMU_ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
    EMU_ERROR(cudaErrorInvalidPtx, "a PTX JIT compilation failed"),
    EMU_ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
    EMU_ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
    EMU_ERROR(cudaErrorMisalignedAddress, "misaligned address"),
    EMU_ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
    EMU_ERROR(cudaErrorIllegalInstruction, "an illegal instruction was encountered"),
    EMU_ERROR(cudaErrorAssert, "device-side assert triggered"),
    EMU_ERROR(cudaErrorNotSupported, "operation not supported"),
    EMU_ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
    EMU_ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
    EMU_ERROR(cudaErrorStreamCaptureImplicit,
              "operation would make the legacy stream depend on a capturing blocking stream"),
    EMU_ERROR(cudaErrorStreamCaptureUnmatched, "the capture was not initiated in this stream"),
    EMU_ERROR(cudaErrorIllegalState, "illegal state"),
    EMU_ERROR(cudaErrorInvalidClusterSize, "invalid cluster size"),
    EMU_ERROR(cudaErrorMissingConfiguration, "__global__ function call is not configured"),
};
#undef EMU_ERROR

error_text const& text_of(cudaError_t e) {
  static constexpr char unknown[] = "unrecognized error code";
  static constexpr error_text none{cudaErrorUnknown, unknown, unknown};
  for (error_text const& known : errors)
    if (known.error == e) return known;
  return none;
}

}  // namespace
char const* cudaGetErrorName(cudaError_t e) { return text_of(e).name; }
char const* cudaGetErrorString(cudaError_t e) { return text_of(e).text; }

}  // extern "C"
