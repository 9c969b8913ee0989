// SPDX-License-Identifier: BSD-3-Clause
// The caller's modes of floating-point arithmetic, rounding and flush-to-zero, reach every thread that works for it,
// and no other work of that thread.
#include "support.hpp"

#include <hoft/hoft.hpp>

#include <atomic>
#include <cfenv>
#include <limits>
#include <thread>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

using namespace hoft_test;

namespace {

/// Modes for as long as this lives.
struct modes {
  explicit modes(int rounding, bool flushes) {
    std::fesetround(rounding);
    if (flushes) flush();
  }
  modes(modes const&) = delete;
  ~modes() { std::fesetenv(&before); }

  static constexpr bool can_flush =
#if defined(__SSE__) || defined(__aarch64__)
      true;
#else
      false;
#endif
  static void flush() {
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | 0x8040);  // flush to zero, denormals are zero
#elif defined(__aarch64__)
    unsigned long word = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(word));
    __asm__ volatile("msr fpcr, %0" : : "r"(word | 1ul << 24));
#endif
  }

 private:
  std::fenv_t before = [] {
    std::fenv_t now;
    std::fegetenv(&now);
    return now;
  }();
};

/// Numbers that tell the modes of the thread that asks.
struct signs {
  float third, minus_third, tiny;
  long double wide_third;
  static signs of_this_thread() {
    float volatile one = 1, three = 3, least = std::numeric_limits<float>::min(), half = 0.5f;
    long double volatile wide_one = 1;
    return {one / three, -one / three, least * half, wide_one / three};
  }
  bool operator==(signs const&) const = default;
};

struct case_of_modes {
  int rounding;
  bool flushes;
};
std::vector<case_of_modes> cases() {
  std::vector<case_of_modes> all;
  for (int rounding : {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO})
    for (bool flushes : {false, true})
      if (!flushes || modes::can_flush) all.push_back({rounding, flushes});
  return all;
}

/// An executor of a framework's, whose threads flush: each share by a thread of its own.
struct flushing_executor final : hoft::executor {
  void run(index_t workers, share one, void* work) override {
    std::vector<std::thread> others;
    for (index_t w = 1; w < workers; ++w)
      others.emplace_back([this, one, work, w] {
        modes const its_own(FE_DOWNWARD, modes::can_flush);
        signs const before = signs::of_this_thread();
        one(work, w);
        if (!(signs::of_this_thread() == before)) ++spoiled;
      });
    one(work, 0);
    for (std::thread& t : others) t.join();
  }
  std::atomic<int> spoiled{0};
};

}  // namespace

TEST_CASE("every thread computes in the caller's modes, and has its own again afterwards") {
  constexpr index_t threads = 4;
  hoft::thread_pool pool(threads);
  flushing_executor foreign;
  signs const plain = signs::of_this_thread();
  for (auto const [rounding, flushes] : cases())
    for (hoft::executor* executor : {static_cast<hoft::executor*>(nullptr), static_cast<hoft::executor*>(&pool),
                                     static_cast<hoft::executor*>(&foreign)}) {
      std::vector<signs> seen(threads);
      signs expected;
      {
        modes const callers(rounding, flushes);
        expected = signs::of_this_thread();
        std::atomic<int> begun{0};
        parallel_for(hoft::cpu{threads, executor}, threads, [&](index_t, index_t task) {
          ++begun;
          while (begun < threads) std::this_thread::yield();  // so that each thread has one
          seen[std::size_t(task)] = signs::of_this_thread();
        });
        CHECK(signs::of_this_thread() == expected);
      }
      CHECK((expected == plain) == (rounding == FE_TONEAREST && !flushes));
      for (signs const& s : seen) CHECK(s == expected);
    }
  CHECK(foreign.spoiled == 0);
  // Work of others, directly on the pool's threads.
  struct watch {
    std::atomic<int> begun{0}, plain{0};
    signs expected;
  } watch{{}, {}, plain};
  pool.run(
      threads,
      [](void* work, index_t) noexcept {
        auto& w = *static_cast<struct watch*>(work);
        w.begun++;
        while (w.begun < threads) std::this_thread::yield();
        if (signs::of_this_thread() == w.expected) w.plain++;
      },
      &watch);
  CHECK(watch.plain == threads);
}

TEST_CASE("modes are restored where a share throws") {
  struct interruption {};
  flushing_executor foreign;
  CHECK_THROWS_AS(parallel_for(hoft::cpu{3, &foreign}, 3, [](index_t, index_t) { throw interruption{}; }),
                  interruption);
  CHECK(foreign.spoiled == 0);
}

TEST_CASE("any number of threads gives the same bits in every mode") {
  index_t const m = 40, r = 5, n = 700;
  hoft::thread_pool pool(4);
  // Squares and products of these are subnormal here and there.
  dense_matrix<float> const U = gaussian<float>(m, r, 11);
  dense_matrix<float> const X0 = gaussian<float>(m, n, 12) * 0x1p-124f;
  dense_matrix<float> plain;
  for (auto const [rounding, flushes] : cases()) {
    auto const Q = hoft::accumulate(U);
    std::vector<dense_matrix<float>> results;
    for (hoft::cpu const& policy : {hoft::cpu{}, hoft::cpu{4, &pool}, hoft::cpu{4}}) {
      dense_matrix<float> X = X0;
      {
        modes const callers(rounding, flushes);
        hoft::apply(policy, Q, X);
      }
      results.push_back(X);
    }
    if (plain.size() == 0) plain = results[0];
    else CHECK(!same_bits(results[0], plain));
    CHECK(same_bits(results[1], results[0]));
    CHECK(same_bits(results[2], results[0]));
  }
}
