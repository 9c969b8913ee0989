// SPDX-License-Identifier: BSD-3-Clause
// Shards over the CUDA backend, whose kernels run on the host here: fused where no sum runs over ranks, else its
// operations with messages between them.
#include "cuda_on_host/host.hpp"

#include "sharded/rank_calls.hpp"
#include "sharded/thread_ranks.hpp"

#include <hoft/cuda/dense.hpp>

using namespace hoft_test;
using hoft::split;

TEST_CASE("all calls on ranks: kernels") {
  using policy_type = hoft::sharded<hoft::cuda::host, thread_communicator>;
  unsigned seed = 1500;
  for (split of : {split::tall, split::rows, split::columns})
    for (shape const& s : {shape{9, 7, 3, 4, 0, 2}, shape{33, 20, 17, 5, 6, 64}})
      for (bool scaled : {false, true}) {
        if (of == split::tall && scaled) continue;
        int const ranks = 3;
        std::string const label = text_of({{"split", index_t(of)}, {"m", s.m}, {"scaled", index_t(scaled)}});
        INFO(label);
        std::vector<rank_report> reports(ranks);
        auto const thrown = on_ranks(ranks, 1 << 20, [&](thread_communicator& communicator) {
          policy_type const policy(hoft::cuda::host{}, communicator, of);
          rank_calls<float, col_major, policy_type> calls(policy, s, scaled, scaled, seed);
          reports[std::size_t(communicator.rank())] = calls.run();
        });
        seed += 20;
        for (std::size_t rank = 0; rank < reports.size(); ++rank) {
          CHECK_MESSAGE(thrown[rank].empty(), "rank ", rank, " threw: ", thrown[rank]);
          for (auto const& failure : reports[rank].failures)
            CHECK_MESSAGE(failure.empty(), "rank ", rank, ": ", failure);
          CHECK(reports[rank].judged == (of == split::tall ? 7 : scaled ? 19 : 16));
          CHECK(reports[rank].shared == reports[0].shared);
        }
      }
}
