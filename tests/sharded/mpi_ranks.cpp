// Every call of sharded problems over MPI: started by mpirun, ends with 0 where every rank is right and what is shared
// has the same bits on all of them. The judges are those of sharded_test, whose ranks are threads.
#define DOCTEST_CONFIG_IMPLEMENT  // what the judges share with doctest's tests refers to it; main is below
#include "forms.hpp"

#include <hoft/mpi.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using namespace hoft_test;

namespace {

using hoft::split;
using rank_policy = hoft::sharded<hoft::cpu, hoft::mpi::communicator>;

constexpr shape shapes[] = {{2, 3, 1, 2, 1, 1}, {7, 5, 0, 2, 1, 64}, {33, 20, 17, 5, 6, 2}, {40, 21, 131, 8, 3, 64}};

int failures = 0;

void fail(int rank, std::string const& text) {
  ++failures;
  std::fprintf(stderr, "rank %d: %s\n", rank, text.c_str());
}

/// The digests of all ranks are those of this one.
void compare_bits(hoft::mpi::communicator& ranks, rank_report const& report, std::string const& label) {
  for (auto const& [name, bits] : report.shared) {
    auto const* const all = static_cast<std::uint64_t const*>(ranks.all_gather(&bits, index_t(sizeof bits)));
    for (int rank = 0; rank < ranks.size(); ++rank)
      if (all[rank] != bits) fail(ranks.rank(), label + name + " differs on rank " + std::to_string(rank));
  }
}

template <class T, class L>
void check_all(hoft::mpi::communicator& ranks, bool agrees) {
  unsigned seed = 1200;
  for (split of : {split::tall, split::rows, split::columns})
    for (shape const& s : shapes)
      for (bool scaled : {false, true}) {
        if (of == split::tall && scaled) continue;
        std::string const label = text_of({{"split", index_t(of)}, {"m", s.m}, {"scaled", index_t(scaled)}});
        rank_policy const policy(hoft::cpu{}, ranks, of, agrees);
        auto const report = rank_calls<T, L, rank_policy>(policy, s, scaled, scaled, seed += 20).run();
        for (auto const& text : report.failures) fail(ranks.rank(), label + text);
        if (report.judged < 7) fail(ranks.rank(), label + "judges are missing");
        compare_bits(ranks, report, label);
      }
}

/// A rank with another number of reflectors is told on every rank.
void check_agreement(hoft::mpi::communicator& ranks) {
  if (ranks.size() == 1) return;
  rank_policy const policy(hoft::cpu{}, ranks);
  std::string const expected =
      "hoft::sharded: ranks do not agree on the columns of norms of reflectors: 3 on rank 0, "
      "4 on rank 1";
  try {
    form_on_rank<float>(policy, gaussian<float>(5, ranks.rank() == 1 ? 4 : 3, 1), 64);
    fail(ranks.rank(), "ranks that differ were not told");
  } catch (hoft::shape_error const& error) {
    if (error.what() != expected) fail(ranks.rank(), error.what());
  }
}

}  // namespace

/// mpi_ranks         checks all calls
/// mpi_ranks leave   rank 1 ends without a word: the others must not wait for ever
int main(int count, char** arguments) {
  MPI_Init(&count, &arguments);
  {
    hoft::mpi::communicator ranks(MPI_COMM_WORLD);
    if (count > 1 && std::string(arguments[1]) == "leave") {
      if (ranks.rank() == 1) std::_Exit(3);
      if (ranks.rank() == 0) std::fprintf(stderr, "rank 0 waits for rank 1\n");
      rank_policy const policy(hoft::cpu{}, ranks);
      form_on_rank<float>(policy, gaussian<float>(5, 3, 1), 64);
      std::fprintf(stderr, "rank %d did not miss rank 1\n", ranks.rank());
      std::_Exit(0);
    }
    check_all<float, hoft::col_major>(ranks, true);
    // In pieces, since messages are larger than this, and without agreement.
    hoft::mpi::communicator few_bytes(MPI_COMM_WORLD, 1024);
    check_all<Eigen::half, hoft::row_major>(few_bytes, false);
    check_agreement(ranks);
    if (ranks.rank() == 0 && failures == 0) std::printf("%d ranks agree\n", ranks.size());
  }
  MPI_Finalize();
  return failures == 0 ? 0 : 1;
}
