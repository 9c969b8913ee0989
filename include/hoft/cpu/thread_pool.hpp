// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/thread_pool.hpp: where the CPU backend takes its threads from.
#pragma once
#include <hoft/view/matrix_view.hpp>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <exception>
#include <thread>
#include <vector>

namespace HOFT_NAMESPACE {

/// Lends threads to calls on the CPU. hoft::thread_pool is one; derive from it to lend those of a framework.
class executor {
 public:
  /// One worker's share of some work: worker numbers are different for all that run at once.
  using share = void (*)(void* work, index_t worker) noexcept;

  /// Calls one(work, 0), and one(work, w) for other w in [1, workers), each at most once: at the same time, or one
  /// after another in any order. A share takes the work that no other share has begun. So every w but 0 may be left
  /// out, for example because there are fewer threads, or because this call comes from within a share. Returns or
  /// throws when all shares that have begun have ended; no share begins after that. A share may wait for another that
  /// has begun, so every share that has begun must make progress. Several threads may call this function at once, if
  /// they use one executor.
  virtual void run(index_t workers, share one, void* work) = 0;

 protected:
  executor() = default;
  executor(executor const&) = default;
  executor& operator=(executor const&) = default;
  ~executor() = default;
};

/// Threads that sleep between calls, so that a call neither starts threads nor allocates. Waking a thread takes a
/// fraction of the time of starting it. Several threads may call at once: a call that finds the pool busy runs on its
/// own thread alone, with the same result.
class thread_pool final : public executor {
 public:
  /// Starts threads - 1 threads, because the caller works too. A value below 1 counts as 1.
  /// @throws std::system_error if the system has no more threads, std::bad_alloc; no thread is left running.
  explicit thread_pool(int threads) : slots_(std::size_t((std::max)(threads, 1) - 1)) {
    try {
      for (std::size_t i = 0; i < slots_.size(); ++i)
        slots_[i].thread = std::thread([this, i] { serve(slots_[i].state, index_t(i) + 1); });
    } catch (...) {
      end();
      throw;
    }
  }
  thread_pool(thread_pool const&) = delete;
  thread_pool& operator=(thread_pool const&) = delete;
  /// No call may be running.
  ~thread_pool() { end(); }

  /// The number of threads, the caller's included.
  [[nodiscard]] int threads() const noexcept { return int(slots_.size()) + 1; }

  void run(index_t workers, share one, void* work) override {
    if (busy_.test_and_set(std::memory_order_acquire)) return one(work, 0);
    one_ = one, work_ = work;
    std::size_t const others = (std::min)(std::size_t(std::max<index_t>(workers, 1) - 1), slots_.size());
    for (std::size_t i = 0; i < others; ++i) tell(slots_[i].state, called);
    one(work, 0);
    for (std::size_t i = 0; i < others; ++i) {
      std::atomic<int>& state = slots_[i].state;
      // No work is left for threads that have not begun, so the caller does not wait for them to wake.
      int now = called;
      if (!state.compare_exchange_strong(now, idle, std::memory_order_acquire)) wait_while(running, state);
    }
    busy_.clear(std::memory_order_release);
  }

 private:
  enum : int { idle, called, running, ended };
  struct alignas(64) slot {  // a cache line each
    std::atomic<int> state{idle};
    std::thread thread;
  };

  static void tell(std::atomic<int>& state, int what) {
    state.store(what);   // sequentially consistent, as notify_one needs it to see a waiting thread
    state.notify_one();  // either the caller or the slot's thread waits, never both
  }
  static int wait_while(int what, std::atomic<int>& state) {
    int now;
    while ((now = state.load(std::memory_order_acquire)) == what) state.wait(what, std::memory_order_acquire);
    return now;
  }
  void serve(std::atomic<int>& state, index_t worker) {
    for (int now; (now = wait_while(idle, state)) != ended;) {
      // The share may have been withdrawn since, or withdrawn and given again: then it belongs to the later call.
      if (!state.compare_exchange_strong(now, running, std::memory_order_acquire)) continue;
      one_(work_, worker);
      tell(state, idle);
    }
  }
  void end() {
    for (slot& s : slots_) {
      if (!s.thread.joinable()) continue;
      tell(s.state, ended);
      s.thread.join();
    }
  }

  std::vector<slot> slots_;
  std::atomic_flag busy_;
  share one_ = nullptr;  // of the running call
  void* work_ = nullptr;
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE::cpu_backend {

/// Starts threads for this one piece of work.
inline void run_on_new_threads(index_t workers, executor::share one, void* work) {
  std::vector<std::thread> others;
  try {
    others.reserve(std::size_t(workers - 1));
    for (index_t worker = 1; worker < workers; ++worker) others.emplace_back(one, work, worker);
  } catch (std::exception const&) {
    // The system has no more threads or memory: the running threads share the work, with the same result.
  }
  one(work, 0);
  for (std::thread& other : others) other.join();
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
