// Shards: the same calls on ranks that are threads of this process (sharded/thread_ranks.hpp). mpi_ranks.cpp runs them
// over MPI.
#include "sharded/rank_calls.hpp"
#include "sharded/thread_ranks.hpp"

using namespace hoft_test;

namespace {

using hoft::sharded;
using hoft::split;
using local_policy = sharded<hoft::cpu, thread_communicator>;

constexpr index_t message_bytes = index_t{1} << 20;

/// Fewer rows than ranks, no rows, ranks 0, several blocks, more columns than a panel of the CPU.
constexpr shape shapes[] = {{2, 3, 1, 2, 1, 1},   {7, 5, 0, 2, 1, 64},   {6, 5, 3, 0, 2, 64},
                            {9, 7, 3, 4, 0, 2},   {33, 20, 17, 5, 6, 2}, {40, 21, 131, 8, 3, 64}};

/// HOFT, SHOFT, and SHOFT that recovers q from the output.
struct variant {
  bool scaled, keeps_q;
};
constexpr variant variants[] = {{false, true}, {true, true}, {true, false}};

template <class T, class L>
std::vector<rank_report> reports_of(int ranks, split of, shape const& s, variant v, unsigned seed, index_t bytes,
                                    hoft::cpu const& where = {}) {
  std::vector<rank_report> reports(static_cast<std::size_t>(ranks));
  std::vector<std::string> const thrown = on_ranks(ranks, bytes, [&](thread_communicator& communicator) {
    local_policy const policy(where, communicator, of);
    auto& report = reports[std::size_t(communicator.rank())];
    report = rank_calls<T, L, local_policy>(policy, s, v.scaled, v.keeps_q, seed).run();
  });
  for (std::size_t rank = 0; rank < reports.size(); ++rank)
    CHECK_MESSAGE(thrown[rank].empty(), "rank ", rank, " threw: ", thrown[rank]);
  return reports;
}

template <class T, class L>
void check_ranks(index_t bytes = message_bytes, hoft::cpu const& where = {}) {
  unsigned seed = 700;
  for (split of : {split::tall, split::rows, split::columns, split::none})
    for (shape const& s : shapes)
      for (variant const v : variants)
        for (int ranks : {1, 2, 3, 5}) {
          if (of == split::tall && v.scaled) continue;
          std::string const label = text_of(
              {{"ranks", ranks}, {"split", index_t(of)}, {"m", s.m}, {"t", s.t}, {"scaled", index_t(v.scaled)}});
          INFO(label);
          auto const reports = reports_of<T, L>(ranks, of, s, v, seed += 20, bytes, where);
          for (std::size_t rank = 0; rank < reports.size(); ++rank) {
            auto const& report = reports[rank];
            bool const has_rows = of == split::columns || of == split::none ||
                                  part_on(s.m, int(rank), ranks).count > 0;
            for (auto const& failure : report.failures) CHECK_MESSAGE(failure.empty(), "rank ", rank, ": ", failure);
            CHECK(report.judged == (of == split::tall ? 7 : v.scaled && has_rows ? 12 : 10));
            CHECK(report.shared.size() >= 2);
            for (auto const& [name, bits] : reports[0].shared)
              CHECK_MESSAGE(report.shared.at(name) == bits, name, " differs on rank ", rank);
          }
        }
}

}  // namespace

TEST_CASE("all calls on ranks: float") { check_ranks<float, col_major>(); }
TEST_CASE("all calls on ranks: 16 bits, row by row, several threads a rank") {
  check_ranks<Eigen::half, row_major>(message_bytes, {.threads = 3});
}
TEST_CASE("all calls on ranks: complex, in short messages") { check_ranks<std::complex<double>, col_major>(1024); }
