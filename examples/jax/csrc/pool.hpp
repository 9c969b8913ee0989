// SPDX-License-Identifier: BSD-3-Clause
// pool.hpp: XLA's threads at work for hoft, and the problems of a batch on them.
#pragma once
#include <hoft/cpu/policy.hpp>
#include <hoft/memory/workspace.hpp>

#include <xla/ffi/api/ffi.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <vector>

namespace hoft_jax {

namespace ffi = xla::ffi;
using hoft::index_t;

/// Lends the threads of XLA's intra-op pool to one call, which runs on one of them or on Python's. The pool may be at
/// work with other calls, so a share that has not begun when the caller's own has ended is taken back: no call waits
/// for a thread to become free.
class xla_threads final : public hoft::executor {
 public:
  explicit xla_threads(ffi::ThreadPool pool) : pool_(pool) {}

  /// As many workers as the pool has threads.
  hoft::cpu policy() { return {.threads = int(std::max<std::int64_t>(1, pool_.num_threads())), .executor = this}; }

 private:
  enum : int { called, taken_back, running, ended };

  void run(index_t workers, share one, void* work) override {
    // A share that was taken back looks at its state after this call has returned.
    auto const states = std::make_shared<std::vector<std::atomic<int>>>(std::size_t(workers - 1));
    try {
      for (index_t worker = 1; worker < workers; ++worker)
        pool_.Schedule([states, worker, one, work] { serve((*states)[std::size_t(worker - 1)], one, work, worker); });
    } catch (std::bad_alloc const&) {
      // The shares that could be scheduled do the work, with the same result.
    }
    one(work, 0);
    for (std::atomic<int>& state : *states) {
      int now = called;
      if (!state.compare_exchange_strong(now, taken_back)) state.wait(running);
    }
  }
  static void serve(std::atomic<int>& state, share one, void* work, index_t worker) {
    int now = called;
    if (!state.compare_exchange_strong(now, running)) return;
    one(work, worker);
    state = ended;
    state.notify_one();
  }

  ffi::ThreadPool pool_;
};

/// body(policy, i, memory) for each of `count` problems of one shape: a single one on all threads, many with a thread
/// each. The bits are the same. bytes(policy) is what one of them takes.
template <class Bytes, class Body>
void for_each_problem(hoft::cpu const& threads, index_t count, Bytes const& bytes, Body const& body) {
  if (count == 0) return;
  bool const single = count == 1;
  hoft::cpu const within = single ? threads : hoft::cpu{}, across = single ? hoft::cpu{} : threads;
  index_t const size = bytes(within), workers = std::min<index_t>(count, across.threads);
  auto const memory = std::make_unique_for_overwrite<std::byte[]>(std::size_t(size * workers));
  hoft::cpu_backend::parallel_for(across, count, [&](index_t worker, index_t i) {
    body(within, i, hoft::workspace{memory.get() + worker * size, size});
  });
}

}  // namespace hoft_jax
