// SPDX-License-Identifier: BSD-3-Clause
// What the forms with views and workspace promise: no allocation, nothing written outside outputs and workspace.
#include "allocations.hpp"
#include "everything.hpp"
#include "sharded/thread_ranks.hpp"

#include <hoft/sharded/backend.hpp>

#include <set>
#include <string>

using namespace hoft_test;

namespace {

constexpr shape shapes[] = {{70, 90, 300, 5, 4, 64}, {33, 17, 40, 9, 3, 4},   {300, 160, 560, 20, 12, 16},
                            {5, 4, 3, 0, 2, 64},     {5, 4, 3, 2, 0, 64},     {4, 3, 0, 2, 2, 64},
                            {1, 1, 1, 1, 1, 64},     {65, 65, 65, 65, 65, 64}};

}  // namespace

TEST_CASE("the allocation counter counts") {
  long const before = allocations;
  std::vector<double> const some(1000);
  Eigen::MatrixXd const matrix(3, 5);
  CHECK(allocations >= before + 2);
}

TEST_CASE_TEMPLATE("the forms with a workspace allocate nothing", T, float, std::complex<double>, Eigen::half) {
  hoft::thread_pool pool(3);
  for (shape const& s : shapes) {
    if (s.ru > s.m) continue;
    everything<T, col_major> columns(s, true, true, 1);
    everything<T, row_major> rows(s, true, false, 1);
    auto const counted = [&](char const* name, auto const& call) {
      long const before = allocations;
      call();
      long const after = allocations;
      // dense() documents that 16-bit weights are converted in memory of its own
      static std::set<std::string> const with_base{"bind_layer", "forward", "forward, nothing saved", "backward",
                                                   "finish"};
      bool const converts = is_stored_in_16_bits<T> && with_base.contains(name);
      if (!converts) CHECK_MESSAGE(after == before, std::string(name), " allocated ", after - before, " times");
    };
    for (hoft::cpu const& policy : {hoft::cpu{}, hoft::cpu{.threads = 4, .executor = &pool}}) {
      columns.run(policy, counted);
      rows.run(policy, counted);
    }
  }
}

TEST_CASE("messages between ranks allocate nothing, nor does agreeing on them") {
  int const ranks = 3;
  std::vector<long> counted(ranks, -1);
  auto const thrown = on_ranks(ranks, 256, [&](thread_communicator& c) {
    hoft::sharded const policy(hoft::cpu{}, c);
    std::vector<float> memory(100 * 20);
    hoft::matrix_view<float> const W(memory.data(), 90, 20, 100);  // padded, and too large for one message
    c.all_gather(&ranks, sizeof ranks);                            // all are here, with their memory
    long const before = allocations;
    hoft::sharded_backend::operations::sum_ranks<float>(policy, W);
    counted[std::size_t(c.rank())] = allocations - before;
    c.all_gather(&ranks, sizeof ranks);  // all have counted
  });
  for (auto const& text : thrown) CHECK(text == "");
  for (long const count : counted) CHECK(count == 0);
}

TEST_CASE_TEMPLATE("the same bits wherever memory begins and whatever its leading dimensions", T, float, double,
                   std::complex<float>, Eigen::bfloat16) {
  for (shape const& s : shapes) {
    if (s.ru > s.m) continue;
    auto const moved = [&]<class L>(L, index_t padding, index_t shift) {
      everything<T, L> all(s, true, true, 1, padding, shift);
      all.run(hoft::cpu{});
      return results_of<hoft::accumulator_t<T>>(all);
    };
    auto const compare = [&](auto layout) {
      auto const expected = moved(layout, 3, 0);
      for (auto const& at : {std::pair<index_t, index_t>{0, 0}, {5, 1}, {64, 7}}) {
        index_t const padding = at.first, shift = at.second;
        auto const actual = moved(layout, padding, shift);
        for (std::size_t i = 0; i < expected.size(); ++i)
          CHECK_MESSAGE(same_bits(actual[i].second, expected[i].second), expected[i].first, " differs, m = ", s.m,
                        ", padding ", padding, ", shift ", shift);
      }
    };
    compare(col_major{}), compare(row_major{});
  }
}

TEST_CASE_TEMPLATE("nothing is written outside outputs and workspace, nothing is read outside inputs", T, float,
                   std::complex<double>, Eigen::half) {
  for (shape const& s : shapes) {
    if (s.ru > s.m) continue;
    for (bool scaled : {false, true}) {
      everything<T, col_major> columns(s, scaled, true, 1);
      everything<T, row_major> rows(s, scaled, false, 1);
      columns.run(hoft::cpu{.threads = 2});
      rows.run(hoft::cpu{.threads = 2});
      CHECK(columns.intact());
      CHECK(rows.intact());
      auto const finite = [](char const* name, auto const& a) {
        // padding holds NaN: one that was read would show here
        if (std::string(name) != "backward ds")
          CHECK_MESSAGE(a.template cast<hoft::accumulator_t<T>>().allFinite(), std::string(name));
      };
      if (!is_stored_in_16_bits<T>) columns.for_each_result(finite), rows.for_each_result(finite);
    }
  }
}
