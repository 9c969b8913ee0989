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

  /// Calls one(work, 0), and one(work, w) for other w in [1, workers), each once at most: at the same time, or one
  /// after another in any order. Each share takes work that no other has begun, so any w but 0 may be left out, as
  /// where there are fewer threads or where this is called from within a share. Returns, or throws, when all that have
  /// begun have ended; none begins after that. A share that has begun may wait for others that have: all of them must
  /// get on. Called from several threads at once, if the calls with this executor are.
  virtual void run(index_t workers, share one, void* work) = 0;

 protected:
  executor() = default;
  executor(executor const&) = default;
  executor& operator=(executor const&) = default;
  ~executor() = default;
};

/// Threads that sleep between calls, so that no call starts one or allocates for it. Waking them takes a fraction of
/// starting them. May serve calls from several threads: one that finds it at work goes on alone, with the same result.
class thread_pool final : public executor {
 public:
  /// Starts threads - 1 of them, since a caller works too; below 1 counts as 1.
  /// @throws std::system_error if the system has no more threads, std::bad_alloc; none is left behind.
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
  /// No call may be under way.
  ~thread_pool() { end(); }

  /// With the caller's.
  [[nodiscard]] int threads() const noexcept { return int(slots_.size()) + 1; }

  void run(index_t workers, share one, void* work) override {
    if (busy_.test_and_set(std::memory_order_acquire)) return one(work, 0);
    one_ = one, work_ = work;
    std::size_t const others = (std::min)(std::size_t(std::max<index_t>(workers, 1) - 1), slots_.size());
    for (std::size_t i = 0; i < others; ++i) tell(slots_[i].state, called);
    one(work, 0);
    for (std::size_t i = 0; i < others; ++i) {
      std::atomic<int>& state = slots_[i].state;
      // Nothing is left for those that have not begun, so the caller does not wait until they wake.
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
    state.store(what);   // in one order with notify_one's look at what waits
    state.notify_one();  // of the caller and the thread of the slot, one waits at a time
  }
  static int wait_while(int what, std::atomic<int>& state) {
    int now;
    while ((now = state.load(std::memory_order_acquire)) == what) state.wait(what, std::memory_order_acquire);
    return now;
  }
  void serve(std::atomic<int>& state, index_t worker) {
    for (int now; (now = wait_while(idle, state)) != ended;) {
      // Called back meanwhile, or called back and called once more: then what it sees is the later call's.
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
  share one_ = nullptr;  // of the call under way
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
    // The system has no more threads or memory: those that run share the work, with the same result.
  }
  one(work, 0);
  for (std::thread& other : others) other.join();
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
