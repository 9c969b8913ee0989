// SPDX-License-Identifier: BSD-3-Clause
// Streams, events and graphs.
#include "runtime.hpp"

using namespace emu;

extern "C" {

// --- streams and events -----------------------------------------------------------------------------------------

static cudaError_t make_stream(cudaStream_t* to, bool blocking) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  auto* const s = new CUstream_st;
  s->blocking = blocking;
  a.streams.insert(s);
  *to = s;
  return a.sticky != cudaSuccess ? answer(a.sticky) : cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* to) { return make_stream(to, true); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* to, unsigned flags) {
  return make_stream(to, (flags & cudaStreamNonBlocking) == 0);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* to, unsigned flags, int) {
  return make_stream(to, (flags & cudaStreamNonBlocking) == 0);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (!a.streams.contains(s)) return answer(cudaErrorInvalidResourceHandle);
  flush(s);
  a.streams.erase(s);
  if (a.capturing == s) a.capturing = nullptr;
  delete s;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (is_null(s)) {
    if (cudaError_t const e = unsafe_call(); e != cudaSuccess) return answer(e);
    flush_blocking();
  } else {
    if (!a.streams.contains(s)) return answer(cudaErrorInvalidResourceHandle);
    if (s->capture != nullptr) {
      if (a.capturing != nullptr) a.capturing->capture_broken = true;
      return answer(cudaErrorStreamCaptureUnsupported);
    }
    if (options::get().order == schedule::reverse) flush_all();
    flush(s);
  }
  return a.sticky != cudaSuccess ? answer(a.sticky) : cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) { return cudaStreamSynchronize(s); }
cudaError_t cudaDeviceSynchronize() {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (a.capturing != nullptr) {
    a.capturing->capture_broken = true;
    return answer(cudaErrorStreamCaptureUnsupported);
  }
  flush_all();
  return a.sticky != cudaSuccess ? answer(a.sticky) : cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* to) {
  *to = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* to, unsigned) { return cudaEventCreate(to); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  delete e;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
  e->recorded = true;
  if (!is_null(s) && s->capture != nullptr) {
    e->capture = s->capture, e->stream = s;
    return cudaSuccess;
  }
  e->capture.reset();
  e->stream = is_null(s) ? nullptr : s;
  return answer(submit(
      s, [e] { e->at = std::chrono::steady_clock::now(); }, "event"));
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
  if (!e->recorded) return cudaSuccess;
  return cudaStreamSynchronize(e->stream);
}
cudaError_t cudaEventQuery(cudaEvent_t e) { return cudaEventSynchronize(e); }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  cudaEventSynchronize(a), cudaEventSynchronize(b);
  *ms = std::chrono::duration<float, std::milli>(b->at - a->at).count();
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (!is_null(s) && e->capture != nullptr && s->capture == nullptr) {
    s->capture = e->capture;  // joins the capture
    return cudaSuccess;
  }
  if (!is_null(s) && s->capture != nullptr) return cudaSuccess;
  if (e->recorded && e->stream != nullptr && e->stream != s && a.streams.contains(e->stream)) flush(e->stream);
  return cudaSuccess;
}

// --- graphs -----------------------------------------------------------------------------------------------------

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  if (is_null(s)) return answer(cudaErrorStreamCaptureUnsupported);
  if (!a.streams.contains(s)) return answer(cudaErrorInvalidResourceHandle);
  if (s->capture != nullptr) return answer(cudaErrorIllegalState);
  s->capture = std::make_shared<CUgraph_st>();
  s->capture_origin = true, s->capture_broken = false, s->mode = mode;
  a.capturing = s;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* graph) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  *graph = nullptr;
  if (is_null(s) || !a.streams.contains(s)) return answer(cudaErrorInvalidResourceHandle);
  if (s->capture == nullptr || !s->capture_origin) return answer(cudaErrorStreamCaptureUnmatched);
  bool const broken = s->capture_broken;
  auto const captured = s->capture;
  for (auto* t : a.streams)
    if (t->capture == captured) t->capture.reset();
  s->capture_origin = false;
  a.capturing = nullptr;
  if (broken) return answer(cudaErrorStreamCaptureInvalidated);
  *graph = new CUgraph_st(*captured);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* status) {
  *status = is_null(s) || s->capture == nullptr ? cudaStreamCaptureStatusNone
            : s->capture_broken                 ? cudaStreamCaptureStatusInvalidated
                                                : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* to, cudaGraph_t graph, unsigned long long) {
  *to = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* to, cudaGraph_t graph, unsigned long long flags) {
  return cudaGraphInstantiate(to, graph, flags);
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t s) {
  for (auto const& node : graph->nodes)
    if (cudaError_t const e = submit(s, node.work, node.name); e != cudaSuccess) return answer(e);
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = graph->nodes.size();
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  finish_everything();
  delete graph;
  return cudaSuccess;
}

}  // extern "C"
