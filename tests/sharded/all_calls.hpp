// SPDX-License-Identifier: BSD-3-Clause
// What a program of ranks checks, whatever connects them: all calls on uneven parts, and that what is shared has the
// same bits on all ranks.
#pragma once
#include "rank_calls.hpp"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace hoft_test {

inline constexpr shape rank_shapes[] = {
    {2, 3, 1, 2, 1, 1}, {7, 5, 0, 2, 1, 64}, {33, 20, 17, 5, 6, 2}, {40, 21, 131, 8, 3, 64}};

/// One rank's failures.
class rank_failures {
 public:
  explicit rank_failures(int rank) : rank_(rank) {}
  void add(std::string const& text) {
    ++count_;
    std::fprintf(stderr, "rank %d: %s\n", rank_, text.c_str());
  }
  int count() const { return count_; }

 private:
  int rank_, count_ = 0;
};

/// The digests of all ranks are those of this one.
template <class Communicator>
void compare_bits(Communicator& ranks, rank_report const& report, std::string const& label, rank_failures& failures) {
  for (auto const& [name, bits] : report.shared) {
    auto const* const all = static_cast<std::uint64_t const*>(ranks.all_gather(&bits, index_t(sizeof bits)));
    for (int rank = 0; rank < ranks.size(); ++rank)
      if (all[rank] != bits) failures.add(label + name + " differs on rank " + std::to_string(rank));
  }
}

/// Sums of as many elements as nothing divides, added from rank 0 upwards: other orders have other bits.
template <class A, template <class> class Memory = std::allocator, class Local, class Communicator>
void check_sums(
    Local const& local, Communicator& ranks, rank_failures& failures, std::function<void()> const& finish = [] {}) {
  index_t const p = ranks.size();
  for (index_t count : {index_t{1}, p - 1, p + 1, index_t{1025}, index_t{9001}}) {
    dense_matrix<A> expected = gaussian<A>(count, 1, 0);
    for (int rank = 1; rank < ranks.size(); ++rank) expected += gaussian<A>(count, 1, unsigned(rank));
    auto const mine = gaussian<A>(count, 1, unsigned(ranks.rank()));
    std::vector<A, Memory<A>> data(std::size_t(count + 1), A(7));
    std::copy_n(mine.data(), count, data.begin());
    ranks.all_reduce(local, data.data(), count);
    finish();
    std::string const which = std::to_string(count) + " elements of " + std::to_string(sizeof(A)) + " bytes";
    if (!std::equal(expected.data(), expected.data() + count, data.begin())) failures.add("sums of " + which);
    if (data.back() != A(7)) failures.add("what lies behind " + which);
  }
}

/// All calls for every split and the shapes from number `first` on. finish() waits for what was submitted to `local`.
template <class T, class L, template <class> class Memory = std::allocator, class Local, class Communicator>
void check_all_calls(
    Local const& local, Communicator& ranks, bool agrees, rank_failures& failures, std::size_t first = 0,
    std::function<void()> const& finish = [] {}) {
  using policy_type = hoft::sharded<Local, Communicator>;
  unsigned seed = 1200;
  for (hoft::split of : {hoft::split::tall, hoft::split::rows, hoft::split::columns})
    for (shape const& s : std::span(rank_shapes).subspan(first))
      for (bool scaled : {false, true}) {
        if (of == hoft::split::tall && scaled) continue;
        std::string const label = text_of({{"split", index_t(of)}, {"m", s.m}, {"scaled", index_t(scaled)}});
        policy_type const policy(local, ranks, of, agrees);
        auto const report = rank_calls<T, L, policy_type, Memory>(policy, s, scaled, scaled, seed += 20, finish).run();
        for (auto const& text : report.failures) failures.add(label + text);
        if (report.judged < 7) failures.add(label + "judges are missing");
        compare_bits(ranks, report, label, failures);
      }
}

}  // namespace hoft_test
