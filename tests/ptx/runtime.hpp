// SPDX-License-Identifier: BSD-3-Clause
// What a program registered, its streams and its errors: the state behind the CUDA runtime.
#pragma once
#include "machine.hpp"
#include "streams.hpp"

#include <cuda_runtime_api.h>

#include <chrono>
#include <deque>
#include <memory>
#include <set>
#include <unordered_map>

namespace emu {

struct loaded_module;

struct kernel {
  loaded_module* of = nullptr;
  std::string name;
  function* source = nullptr;
  int max_dynamic = -1;  ///< as set by cudaFuncSetAttribute; -1: what is left of 48 KB
};

struct loaded_module {
  std::string text;
  std::string missing;  ///< why there is no text
  std::unique_ptr<module> parsed;
  /// The module, parsed on first use. Without PTX there is nothing to run: says so and ends the program.
  module& get();
};

}  // namespace emu

// The runtime's opaque types.
struct CUgraph_st {
  struct node {
    std::function<void()> work;
    char const* name;
  };
  std::vector<node> nodes;
};
struct CUgraphExec_st {
  std::vector<CUgraph_st::node> nodes;
};
struct CUstream_st {
  bool blocking = true;
  struct work {
    std::function<void()> run;
    char const* name;
  };
  std::deque<work> queue;
  std::shared_ptr<CUgraph_st> capture;
  bool capture_origin = false, capture_broken = false;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
};
struct CUevent_st {
  CUstream_st* stream = nullptr;
  std::shared_ptr<CUgraph_st> capture;
  std::chrono::steady_clock::time_point at{};
  bool recorded = false;
};

namespace emu {

inline constexpr int shared_optin = 227 * 1024, shared_default = 48 * 1024;

struct state {
  std::recursive_mutex mutex;
  std::vector<std::unique_ptr<loaded_module>> modules;
  std::unordered_map<void const*, std::unique_ptr<kernel>> kernels;
  std::set<kernel const*> handles;
  std::unordered_map<void const*, std::pair<loaded_module*, std::string>> variables;
  std::set<CUstream_st*> streams;
  CUstream_st* capturing = nullptr;  ///< that this process captures (any one)
  cudaError_t sticky = cudaSuccess;
  u64 launches = 0;
  double seconds = 0;
  u64 random = 12345;
};
state& all();
/// e, remembered for cudaGetLastError if it is one.
cudaError_t answer(cudaError_t e);
/// Calls that may not be made while something is captured: they break the capture.
cudaError_t unsafe_call();
inline bool is_null(cudaStream_t s) { return s == nullptr || s == cudaStreamLegacy || s == cudaStreamPerThread; }

/// Does the work of a stream, of all, of those that the null stream waits for.
void flush(CUstream_st* s);
void flush_all();
void flush_blocking();

/// The kernel behind a function of the host or a handle; none if nobody registered it.
kernel* kernel_of(void const* function);

}  // namespace emu
