// SPDX-License-Identifier: BSD-3-Clause
// The same bits for any number of threads, and independent calls at the same time.
#include "everything.hpp"

#include <array>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

using namespace hoft_test;

namespace {

// More than one chunk of columns (128 at least), more than one panel, more than one block, rows past a task's edge.
constexpr shape wide{150, 333, 1030, 20, 9, 8};
// A right side that is much larger than the left: a worker's part of dV laid over its neighbour's memory would reach
// what is still in use.
constexpr shape flat{20, 600, 1030, 2, 9, 64};
constexpr shape small{13, 7, 29, 3, 2, 64};

template <class T, class L>
void same_for_any_number_of_threads(shape s, bool scaled, bool keep_q) {
  everything<T, L> one(s, scaled, keep_q, 1);
  one.run(hoft::cpu{});
  hoft::thread_pool pool(3);
  using hoft::cpu;
  for (cpu const& policy : {cpu{2}, cpu{3}, cpu{7}, cpu{2, &pool}, cpu{3, &pool}, cpu{7, &pool}}) {
    everything<T, L> many(s, scaled, keep_q, 1);
    many.run(policy);
    std::vector<dense_matrix<hoft::accumulator_t<T>>> expected;
    std::vector<std::string> names;
    one.for_each_result([&](char const* name, auto const& a) {
      expected.push_back(a.template cast<hoft::accumulator_t<T>>());
      names.push_back(name);
    });
    std::size_t i = 0;
    many.for_each_result([&](char const*, auto const& a) {
      dense_matrix<hoft::accumulator_t<T>> const actual = a.template cast<hoft::accumulator_t<T>>();
      CHECK_MESSAGE(same_bits(actual, expected[i]), names[i], " differs with ", policy.threads, " threads",
                    policy.executor != nullptr ? " of a pool" : "");
      ++i;
    });
  }
}

}  // namespace

#if defined(HOFT_TEST_FEW_SCALARS)
#define HOFT_THREADED_SCALARS float, Eigen::bfloat16  // threads share panels of complex numbers in the same way
#else
#define HOFT_THREADED_SCALARS float, double, std::complex<float>, Eigen::bfloat16
#endif
TEST_CASE_TEMPLATE("any number of threads gives the same bits", T, HOFT_THREADED_SCALARS) {
  same_for_any_number_of_threads<T, col_major>(wide, true, true);
  same_for_any_number_of_threads<T, row_major>(wide, true, false);
  same_for_any_number_of_threads<T, col_major>(flat, true, true);
  same_for_any_number_of_threads<T, col_major>(small, false, false);
}

TEST_CASE("what one thread throws is thrown by the call, and no other waits for it") {
  struct interruption {};
  hoft::thread_pool pool(2);
  for (hoft::cpu const& policy : {hoft::cpu{}, hoft::cpu{2}, hoft::cpu{3}, hoft::cpu{2, &pool}, hoft::cpu{3, &pool}})
    for (index_t thrower : {0, 3, 9}) {
      std::atomic<int> begun{0};
      auto const body = [&](index_t at) {
        ++begun;
        if (at == thrower) throw interruption{};
      };
      CHECK_THROWS_AS(
          hoft::ops<hoft::cpu>::for_each_problem(policy, 10, [&](auto const&, index_t, index_t i) { body(i); }),
          interruption);
      auto const nothing = [](index_t) {};
      CHECK_THROWS_AS(hoft::ops<hoft::cpu>::for_each_panel(policy, 10, 1, [&](index_t, auto p) { body(p.first); }),
                      interruption);
      // Sums of ten chunks of 256 columns, merged in turn.
      CHECK_THROWS_AS(hoft::ops<hoft::cpu>::for_each_panel_summed(
                          policy, 2560, 256, nothing, [&](index_t, auto p) { body(p.first / 256); }, nothing),
                      interruption);
      CHECK(begun >= 3);
    }
}

TEST_CASE("sums are merged in the order of their chunks, and who waits for a chunk that throws waits no longer") {
  hoft::thread_pool pool(3);
  auto const nothing = [](index_t) {};
  auto const wait_for = [](std::atomic<bool> const& flag) {
    while (!flag) std::this_thread::yield();
  };
  // Long enough for another to have begun to wait.
  auto const nap = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  struct interruption {};

  for (bool throws : {false, true}) {  // the first chunk ends when the second waits for its turn
    std::atomic<bool> second_begun{false};
    std::array<index_t, 2> chunk_of{};
    std::vector<index_t> merged;
    auto const add = [&](index_t worker, auto panel) {
      chunk_of[std::size_t(worker)] = panel.first;
      if (panel.first == 256) return void(second_begun = true);
      wait_for(second_begun), nap();
      if (throws) throw interruption{};
    };
    auto const walk = [&] {
      hoft::ops<hoft::cpu>::for_each_panel_summed(hoft::cpu{2, &pool}, 512, 256, nothing, add, [&](index_t worker) {
        merged.push_back(chunk_of[std::size_t(worker)]);
      });
    };
    if (throws) CHECK_THROWS_AS(walk(), interruption);
    else walk();
    CHECK(merged == (throws ? std::vector<index_t>{} : std::vector<index_t>{0, 256}));
  }

  // The second chunk throws while the first is merged, before the third asks for its turn.
  std::atomic<bool> third_begun{false}, first_merging{false}, second_thrown{false}, first_merged{false};
  auto const add = [&](index_t, auto panel) {
    if (panel.first == 256) {
      wait_for(third_begun), wait_for(first_merging);
      second_thrown = true;
      throw interruption{};
    }
    if (panel.first == 512) third_begun = true, wait_for(first_merged), nap();
  };
  auto const merge = [&](index_t) {
    first_merging = true;
    wait_for(second_thrown), nap();
    first_merged = true;
  };
  CHECK_THROWS_AS(hoft::ops<hoft::cpu>::for_each_panel_summed(hoft::cpu{3, &pool}, 768, 256, nothing, add, merge),
                  interruption);
}

TEST_CASE("a thread count below one counts as one") {
  everything<double, col_major> one(small, false, false, 2), none(small, false, false, 2);
  one.run(hoft::cpu{.threads = 1});
  none.run(hoft::cpu{.threads = -3});
  one.for_each_result([&](char const* name, auto const& a) {
    none.for_each_result([&](char const* other, auto const& b) {
      if (std::string(name) == other) {
        dense_matrix<double> const x = a, y = b;
        CHECK(same_bits(x, y));
      }
    });
  });
}

TEST_CASE("two threads on different data do not disturb each other") {
  everything<float, col_major> a(wide, true, true, 3), b(wide, false, false, 4), alone_a(wide, true, true, 3),
      alone_b(wide, false, false, 4);
  std::thread first([&] { a.run(hoft::cpu{}); }), second([&] { b.run(hoft::cpu{.threads = 2}); });
  first.join(), second.join();
  alone_a.run(hoft::cpu{});
  alone_b.run(hoft::cpu{});
  auto const compare = [](auto const& x, auto const& y) {
    std::vector<dense_matrix<float>> expected;
    y.for_each_result([&](char const*, auto const& r) { expected.push_back(r); });
    std::size_t i = 0;
    x.for_each_result([&](char const* name, auto const& r) {
      dense_matrix<float> const actual = r;
      CHECK_MESSAGE(same_bits(actual, expected[i++]), std::string(name));
    });
  };
  compare(a, alone_a);
  compare(b, alone_b);
}
