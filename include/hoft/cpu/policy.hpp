// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/policy.hpp: the execution policy of the CPU, and how its threads share work.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/core/scalar.hpp>
#include <hoft/cpu/float_modes.hpp>
#include <hoft/cpu/thread_pool.hpp>
#include <hoft/memory/scratch.hpp>
#include <hoft/view/matrix_view.hpp>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <exception>
#include <mutex>
#include <vector>

namespace HOFT_TARGET_NAMESPACE {
namespace cpu_backend {

struct operations;  // backend.hpp

/// Compute on the CPU. Results have the same bits for every number of threads.
/// `threads` > 1 takes them from `executor`, for example a thread_pool, which must outlive the calls. Without one, each
/// parallel part of a call starts threads of its own, which allocates and takes longer than a small problem. Workspace
/// grows with the threads that a problem keeps busy. A value below 1 counts as 1.
/// `scratch` keeps the workspace of calls that return or refill values. Without it each of them allocates its own.
struct cpu {
  using backend = operations;
  int threads = 1;
  hoft::executor* executor = nullptr;
  hoft::scratch* scratch = nullptr;
};

/// How many workers may run at once.
inline index_t worker_count(cpu const& policy) { return (std::max)(policy.threads, 1); }

/// Calls body(worker, task) once for each task in [0, tasks). Up to `threads` workers take the tasks in ascending
/// order. If a body throws, no further task begins, and the exception is thrown here when all workers have ended.
template <class Body>
void parallel_for(cpu const& policy, index_t tasks, Body const& body) {
  index_t const workers = (std::min)(worker_count(policy), tasks);
  if (workers <= 1) {
    for (index_t task = 0; task < tasks; ++task) body(index_t{0}, task);
    return;
  }
  struct shared_work {
    Body const& body;
    index_t const tasks;
    std::atomic<index_t> next{0};
    std::exception_ptr error{};
    std::once_flag first_error{};
    float_modes const modes = float_modes::of_this_thread();  // the caller's
  } work{body, tasks};
  auto const one = [](void* shared, index_t worker) noexcept {
    auto& w = *static_cast<shared_work*>(shared);
    float_modes_scope const same_modes(w.modes);
    try {
      for (index_t task; (task = w.next.fetch_add(1, std::memory_order_relaxed)) < w.tasks;) w.body(worker, task);
    } catch (...) {
      std::call_once(w.first_error, [&] { w.error = std::current_exception(); });
      w.next.store(w.tasks, std::memory_order_relaxed);
    }
  };
  if (policy.executor != nullptr) policy.executor->run(workers, one, &work);
  else run_on_new_threads(workers, one, &work);
  if (work.error) std::rethrow_exception(work.error);
}

/// Calls body(own, first, count) for parts of up to `size` that cover [0, extent). `own` is of the worker, in `memory`,
/// which gets as many as may find a part.
template <class Memory, class Body>
void parallel_parts(cpu const& policy, index_t extent, index_t size, std::vector<Memory>& memory, Body const& body) {
  index_t const parts = (extent + size - 1) / size;
  memory.resize(static_cast<std::size_t>((std::min)(worker_count(policy), parts)));
  parallel_for(policy, parts, [&](index_t worker, index_t part) {
    body(memory[static_cast<std::size_t>(worker)], part * size, (std::min)(size, extent - part * size));
  });
}

/// The policy for independent work of that many multiply-adds: one thread if waking or starting others takes longer.
inline cpu worth_threads(cpu const& policy, index_t work) {
  constexpr index_t least = index_t{1} << 20;
  return work < least ? cpu{} : policy;
}

}  // namespace cpu_backend

using cpu_backend::cpu;

}  // namespace HOFT_TARGET_NAMESPACE
