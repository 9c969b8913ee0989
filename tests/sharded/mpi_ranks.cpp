// SPDX-License-Identifier: BSD-3-Clause
// Every call of sharded problems over MPI: started by mpirun, ends with 0 where every rank is right and what is shared
// has the same bits on all of them. The judges are those of sharded_test, whose ranks are threads.
#define DOCTEST_CONFIG_IMPLEMENT  // what the judges share with doctest's tests refers to it; main is below
#include "all_calls.hpp"
#include "forms.hpp"

#include <hoft/mpi.hpp>

#include <chrono>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

using namespace hoft_test;

namespace {

using rank_policy = hoft::sharded<hoft::cpu, hoft::mpi::communicator>;

/// A rank with another number of reflectors is told on every rank.
void check_agreement(hoft::mpi::communicator& ranks, rank_failures& failures) {
  if (ranks.size() == 1) return;
  rank_policy const policy(hoft::cpu{}, ranks);
  std::string const expected =
      "hoft::sharded: ranks do not agree on the columns of reflectors to accumulate: 3 on rank 0, "
      "4 on rank 1";
  try {
    form_on_rank<float>(policy, gaussian<float>(5, ranks.rank() == 1 ? 4 : 3, 1), 64);
    failures.add("ranks that differ were not told");
  } catch (hoft::shape_error const& error) {
    if (error.what() != expected) failures.add(error.what());
  }
}

}  // namespace

/// mpi_ranks         checks all calls
/// mpi_ranks few     the same for the largest shape alone
/// mpi_ranks leave   rank 1 ends without a word: the others must not wait for ever
int main(int count, char** arguments) {
  bool failed = true;
  try {
    hoft::mpi::communicator too_early(MPI_COMM_WORLD);
  } catch (hoft::communication_error const&) {
    failed = false;
  }
  MPI_Init(&count, &arguments);
  {
    hoft::mpi::communicator ranks(MPI_COMM_WORLD);
    std::string const manner = count > 1 ? arguments[1] : "";
    if (manner == "leave") {
      if (ranks.rank() == 0) std::fprintf(stderr, "rank 0 waits for rank 1\n");
      MPI_Barrier(MPI_COMM_WORLD);
      if (ranks.rank() == 1) {  // not at once: mpirun may drop what it has not read from the others by then
        std::this_thread::sleep_for(std::chrono::seconds(1));
        std::_Exit(3);
      }
      rank_policy const policy(hoft::cpu{}, ranks);
      form_on_rank<float>(policy, gaussian<float>(5, 3, 1), 64);
      std::fprintf(stderr, "rank %d did not miss rank 1\n", ranks.rank());
      std::_Exit(0);
    }
    rank_failures failures(ranks.rank());
    if (failed) failures.add("a communicator was made before MPI_Init");
    check_sums<float>(hoft::cpu{}, ranks, failures), check_sums<double>(hoft::cpu{}, ranks, failures);
    bool const few = manner == "few";
    check_all_calls<float, hoft::col_major>(hoft::cpu{}, ranks, true, failures, few ? 3 : 0);
    // In pieces, since messages are larger than this, and without agreement.
    hoft::mpi::communicator few_bytes(MPI_COMM_WORLD, 1024);
    check_sums<std::complex<float>>(hoft::cpu{}, few_bytes, failures);
    check_all_calls<Eigen::half, hoft::row_major>(hoft::cpu{}, few_bytes, false, failures, few ? 3 : 0);
    check_agreement(ranks, failures);
    failed = failures.count() > 0;
    if (ranks.rank() == 0 && !failed) std::printf("%d ranks agree\n", ranks.size());
  }
  MPI_Finalize();
  return failed ? 1 : 0;
}
