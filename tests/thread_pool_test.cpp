// SPDX-License-Identifier: BSD-3-Clause
// The pool of threads by itself, and executors of a caller's own: each task once, by as many threads as there are,
// whoever else calls, and if the system has no more.
#include "sanitized.hpp"

#include <hoft/cpu/backend.hpp>
#include <hoft/cpu/policy.hpp>
#include <hoft/cpu/thread_pool.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <set>
#include <system_error>
#include <thread>
#include <vector>

#if !defined(HOFT_TEST_SANITIZED)
#include <dlfcn.h>
#include <pthread.h>

// The C library's, until no more threads may start.
namespace {
std::atomic<int> may_start{1 << 30};
}
extern "C" int pthread_create(pthread_t* thread, pthread_attr_t const* attributes, void* (*run)(void*),
                              void* argument) noexcept {
  static auto const start = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return may_start-- > 0 ? start(thread, attributes, run, argument) : EAGAIN;
}
#endif

using hoft::index_t;
using hoft::cpu_backend::parallel_for;

namespace {

/// Runs the tasks and counts how often each was; sums of plain numbers, so that a race shows to ThreadSanitizer.
std::vector<int> counted(hoft::cpu const& policy, index_t tasks) {
  std::vector<int> times(std::size_t(tasks), 0);
  std::vector<index_t> of_worker(std::size_t(hoft::ops<hoft::cpu>::worker_count(policy)), 0);
  parallel_for(policy, tasks, [&](index_t worker, index_t task) {
    ++times[std::size_t(task)];
    ++of_worker[std::size_t(worker)];
  });
  index_t sum = 0;
  for (index_t n : of_worker) sum += n;
  CHECK(sum == tasks);
  return times;
}

/// As many tasks as threads, none of which ends before all have begun; waits for ever if fewer threads are at work.
template <class Body>
void all_at_once(hoft::cpu const& policy, index_t tasks, Body const& body) {
  std::atomic<index_t> begun{0};
  parallel_for(policy, tasks, [&](index_t worker, index_t task) {
    ++begun;
    while (begun < tasks) std::this_thread::yield();
    body(worker, task);
  });
}

}  // namespace

TEST_CASE("every task runs once, whatever the sizes of pool, policy and work") {
  for (int in_pool : {-3, 0, 1, 2, 5}) {
    hoft::thread_pool pool(in_pool);
    CHECK(pool.threads() == std::max(in_pool, 1));
    for (int threads : {-1, 1, 2, 3, 9})
      for (index_t tasks : {0, 1, 2, 7, 100})
        CHECK(counted({.threads = threads, .executor = &pool}, tasks) == std::vector<int>(std::size_t(tasks), 1));
  }
}

TEST_CASE("a pool's threads work at the same time, as different workers, and none is started again") {
  hoft::thread_pool pool(3);
  for (int call = 1; call <= 200; ++call) {
    std::array<int, 3> calls{};
    std::array<index_t, 3> worker{};
    all_at_once({.threads = 3, .executor = &pool}, 3, [&](index_t w, index_t task) {
      static thread_local int calls_of_thread = 0;
      calls[std::size_t(task)] = ++calls_of_thread;
      worker[std::size_t(task)] = w;
    });
    CHECK(calls == std::array{call, call, call});
    CHECK(std::set<index_t>(worker.begin(), worker.end()) == std::set<index_t>{0, 1, 2});
  }
}

TEST_CASE("a call returns when all of its workers have ended, with what they wrote") {
  hoft::thread_pool pool(2);
  for (hoft::executor* lender : {static_cast<hoft::executor*>(nullptr), static_cast<hoft::executor*>(&pool)})
    for (int call = 0; call < 20; ++call) {
      std::array<int, 2> written{}, twice{};
      hoft::cpu const policy{.threads = 2, .executor = lender};
      all_at_once(policy, 2, [&](index_t worker, index_t task) {
        if (worker == call % 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        written[std::size_t(task)] = call;
      });
      CHECK(written == std::array{call, call});
      all_at_once(policy, 2, [&](index_t, index_t task) { twice[std::size_t(task)] = 2 * call; });  // other code
      CHECK(twice == std::array{2 * call, 2 * call});
    }
}

TEST_CASE("no more threads work than the policy says") {
  hoft::thread_pool pool(4);
  for (int call = 0; call < 50; ++call) {
    std::array<std::thread::id, 64> by;
    parallel_for({.threads = 2, .executor = &pool}, 64, [&](index_t worker, index_t task) {
      REQUIRE(worker < 2);
      by[std::size_t(task)] = std::this_thread::get_id();
      std::this_thread::yield();
    });
    CHECK(std::set<std::thread::id>(by.begin(), by.end()).size() <= 2);
  }
}

TEST_CASE("calls from several threads share a pool, and a task may call it again") {
  hoft::thread_pool pool(3);
  hoft::cpu const policy{.threads = 3, .executor = &pool};
  std::atomic<int> wrong{0};
  auto const call_often = [&] {
    for (int call = 0; call < 300; ++call) {
      std::array<std::atomic<int>, 12> times{};
      parallel_for(policy, 3, [&](index_t, index_t outer) {
        parallel_for(policy, 4, [&](index_t, index_t inner) { ++times[std::size_t(4 * outer + inner)]; });
      });
      for (auto& n : times) wrong += n != 1;
    }
  };
  std::thread other(call_often), third(call_often);
  call_often();
  other.join(), third.join();
  CHECK(wrong == 0);
}

TEST_CASE("many small calls from several threads") {
  hoft::thread_pool pool(3);
  std::atomic<int> wrong{0};
  auto const call_often = [&](int threads) {
    for (int call = 0; call < 2000; ++call) {
      std::array<int, 4> numbers{};  // plain, so that a race shows
      parallel_for({.threads = threads, .executor = &pool}, 4,
                   [&](index_t, index_t task) { numbers[std::size_t(task)] += call; });
      wrong += numbers != std::array{call, call, call, call};
    }
  };
  std::thread second(call_often, 2), third(call_often, 3), fourth(call_often, 4);
  call_often(3);
  second.join(), third.join(), fourth.join();
  CHECK(wrong == 0);
}

TEST_CASE("what a task throws ends the call and leaves the pool as it was") {
  hoft::thread_pool pool(2);
  hoft::cpu const policy{.threads = 2, .executor = &pool};
  for (index_t thrower : {0, 5, 9}) {
    CHECK_THROWS_AS(parallel_for(policy, 10,
                                 [&](index_t, index_t task) {
                                   if (task == thrower) throw thrower;
                                 }),
                    index_t);
    CHECK(counted(policy, 50) == std::vector<int>(50, 1));
  }
  // Both at once: one of the two arrives.
  for (int call = 0; call < 50; ++call)
    CHECK_THROWS_AS(all_at_once(policy, 2, [](index_t, index_t task) { throw task; }), index_t);
}

#if !defined(HOFT_TEST_SANITIZED)
TEST_CASE("where the system has no more threads, a pool is refused and a call makes do with those it got") {
  for (int available = 0; available < 6; ++available) {
    may_start = available;
    if (available < 4) CHECK_THROWS_AS(hoft::thread_pool(5), std::system_error);
    else CHECK(hoft::thread_pool(5).threads() == 5);
    may_start = available;
    CHECK(counted({.threads = 5}, 50) == std::vector<int>(50, 1));
  }
  may_start = 1 << 30;
}
#endif

namespace {

struct in_order final : hoft::executor {
  void run(index_t workers, share one, void* work) override {
    for (index_t w = 0; w < workers; ++w) one(work, w);
  }
};
struct in_reverse final : hoft::executor {
  void run(index_t workers, share one, void* work) override {
    for (index_t w = workers; w-- > 0;) one(work, w);
  }
};
struct first_alone final : hoft::executor {
  void run(index_t, share one, void* work) override { one(work, 0); }
};

}  // namespace

TEST_CASE_TEMPLATE("an executor may run the shares one after another, or the first alone", Executor, in_order,
                   in_reverse, first_alone) {
  Executor executor;
  hoft::cpu const policy{.threads = 4, .executor = &executor};
  CHECK(counted(policy, 30) == std::vector<int>(30, 1));
  int begun = 0;
  auto const throwing = [&](index_t, index_t task) {
    ++begun;
    if (task == 2) throw task;
  };
  CHECK_THROWS_AS(parallel_for(policy, 10, throwing), index_t);
  CHECK(begun == 3);
}
