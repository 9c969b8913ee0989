// SPDX-License-Identifier: BSD-3-Clause
// Shards: the same calls on ranks that are threads of this process (sharded/thread_ranks.hpp). mpi_ranks.cpp runs them
// over MPI.
#include "sanitized.hpp"
#include "sharded/forms.hpp"
#include "sharded/thread_ranks.hpp"

#include <hoft/sharded/orthogonality.hpp>

using namespace hoft_test;

namespace {

using hoft::sharded;
using hoft::split;
using rank_policy = sharded<hoft::cpu, thread_communicator>;

constexpr index_t message_bytes = index_t{1} << 20;

/// Fewer rows than ranks, no rows, ranks 0, several blocks, more columns than a panel of the CPU.
constexpr shape shapes[] = {{2, 3, 1, 2, 1, 1}, {7, 5, 0, 2, 1, 64},   {6, 5, 3, 0, 2, 64},
                            {9, 7, 3, 4, 0, 2}, {33, 20, 17, 5, 6, 2}, {40, 21, 131, 8, 3, 64}};

/// HOFT, SHOFT, and SHOFT that recovers q from the output.
struct variant {
  bool scaled, keeps_q;
};
constexpr variant variants[] = {{false, true}, {true, true}, {true, false}};

/// A sanitizer takes many times as long, and sees nothing more with other numbers of ranks.
#if defined(HOFT_TEST_SANITIZED)
constexpr int numbers_of_ranks[] = {1, 3};
#else
constexpr int numbers_of_ranks[] = {1, 2, 3, 5};
#endif

template <class T, class L>
std::vector<rank_report> reports_of(int ranks, split of, shape const& s, variant v, unsigned seed, index_t bytes,
                                    hoft::cpu const& where = {}) {
  std::vector<rank_report> reports(static_cast<std::size_t>(ranks));
  std::vector<std::string> const thrown = on_ranks(ranks, bytes, [&](thread_communicator& communicator) {
    rank_policy const policy(where, communicator, of);
    auto& report = reports[std::size_t(communicator.rank())];
    report = rank_calls<T, L, rank_policy>(policy, s, v.scaled, v.keeps_q, seed).run();
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
        for (int ranks : numbers_of_ranks) {
          if (of == split::tall && v.scaled) continue;
          std::string const label = text_of(
              {{"ranks", ranks}, {"split", index_t(of)}, {"m", s.m}, {"t", s.t}, {"scaled", index_t(v.scaled)}});
          INFO(label);
          auto const reports = reports_of<T, L>(ranks, of, s, v, seed += 20, bytes, where);
          for (std::size_t rank = 0; rank < reports.size(); ++rank) {
            auto const& report = reports[rank];
            bool const has_rows = of == split::columns || of == split::none || part_on(s.m, int(rank), ranks).count > 0;
            for (auto const& failure : report.failures) CHECK_MESSAGE(failure.empty(), "rank ", rank, ": ", failure);
            CHECK(report.judged == (of == split::tall ? 7 : v.scaled && has_rows ? 19 : 16));
            CHECK(report.shared.size() >= 2);
            for (auto const& of_first : reports[0].shared)  // by name
              CHECK_MESSAGE(report.shared.at(of_first.first) == of_first.second, of_first.first, " differs on rank ",
                            rank);
          }
        }
}

/// The CPU's policy where tests expect that of a rank.
struct cpu_alone : hoft::cpu {
  split of;
  thread_communicator* ranks;
  cpu_alone(thread_communicator& communicator, split what) : of(what), ranks(&communicator) {}
  cpu_alone const& left() const { return *this; }
  cpu_alone const& right() const { return *this; }
};

}  // namespace

#if !defined(HOFT_TEST_SANITIZED)  // the other two take the same ways through messages
TEST_CASE("all calls on ranks: float") { check_ranks<float, col_major>(); }
#endif
TEST_CASE("all calls on ranks: 16 bits, row by row, several threads a rank") {
  check_ranks<Eigen::half, row_major>(message_bytes, {.threads = 3});
}
TEST_CASE("all calls on ranks: complex, in short messages") { check_ranks<std::complex<double>, col_major>(1024); }

TEST_CASE("one rank has the bits of the local policy") {
  for (split of : {split::tall, split::rows, split::columns})
    for (shape const& s : shapes)
      for (variant const v : variants) {
        rank_report const report = reports_of<float, col_major>(1, of, s, v, 900, message_bytes)[0];
        on_ranks(1, message_bytes, [&](thread_communicator& communicator) {
          cpu_alone const policy(communicator, of);
          rank_report const local = rank_calls<float, col_major, cpu_alone>(policy, s, v.scaled, v.keeps_q, 900).run();
          CHECK(report.results.size() >= 7);
          CHECK(report.results == local.results);
          CHECK(report.shared == local.shared);
        });
      }
}

TEST_CASE_TEMPLATE("bits depend on the number of ranks alone, not on runs, threads or how messages are cut", T, float,
                   Eigen::half) {
  using L = std::conditional_t<std::is_same_v<T, float>, col_major, row_major>;
  for (split of : {split::tall, split::rows, split::columns}) {
    auto const run = [&](index_t bytes, int threads) {  // several panels and groups of reflectors for the threads
      return reports_of<T, L>(3, of, {40, 21, 300, 20, 3, 64}, {true, true}, 950, bytes, {.threads = threads});
    };
    auto const once = run(message_bytes, 1), again = run(message_bytes, 1), short_ones = run(2048, 4);
    for (std::size_t rank = 0; rank < once.size(); ++rank) {
      CHECK(again[rank].results == once[rank].results);
      CHECK(short_ones[rank].results == once[rank].results);
      CHECK(short_ones[rank].shared == once[rank].shared);
    }
  }
}

TEST_CASE("columns of any norm, spread over ranks in any way") {
  index_t const m = 30, n = 4;
  float const far = 1e30f;
  dense_matrix<float> U = gaussian<float>(m, 9, 40);
  U.col(1).setZero();
  U.col(2) *= far, U.col(3) /= far;
  U.col(4).head(m / 2) *= far, U.col(4).tail(m / 2) /= far;       // huge here, tiny there
  U.col(5).head(m / 2).setZero(), U.col(5).tail(m / 2) /= far;    // nothing here
  U.col(6).head(m / 2) *= 1e-15f, U.col(6).tail(m / 2) *= 1e15f;  // squares span the range
  // On either side of where squares are scaled: norms of 2^-63 and 2^52.
  U.col(7).head(m / 2) *= 4e-20f, U.col(7).tail(m / 2) *= 2e-20f;
  U.col(8).head(m / 2) *= 1.5e15f, U.col(8).tail(m / 2) *= 5e14f;
  dense_matrix<float> const X = gaussian<float>(m, n, 41);
  auto const expected = reference_apply(U, X);
  bound_matrix const bound = per_line<float>(X, expected, side::left, line_bound<float>(m, U.cols()));
  for (int ranks : {2, 3, 5}) {
    auto const thrown = on_ranks(ranks, message_bytes, [&](thread_communicator& communicator) {
      rank_policy const policy(hoft::cpu{}, communicator);
      form_on_rank<float> const form(policy, rows_on(U, communicator), 64);
      auto const part = part_on(m, communicator.rank(), ranks);
      auto const Y = applied(policy, form.Q, rows_on(X, communicator));
      CHECK(within(Y, wide_matrix<float>(expected.middleRows(part.first, part.count)),
                   bound_matrix(bound.middleRows(part.first, part.count))));
      CHECK(form.Q.tau[1] == 0);
      for (index_t j : {0, 2, 3, 4, 5, 6, 7, 8}) {
        long double const norm = static_cast<long double>(form.Q.scales(0, j)) * form.Q.scales(1, j);
        CHECK(std::abs(norm / widen(U).col(j).norm() - 1) <= 8 * eps_of<float>());
      }
      // A NaN on the last rank is one on all.
      dense_matrix<float> spoilt = rows_on(U, communicator);
      if (communicator.rank() == ranks - 1) spoilt(spoilt.rows() - 1, 0) = std::numeric_limits<float>::quiet_NaN();
      form_on_rank<float> const nan(policy, spoilt, 64);
      CHECK(all_nan(hoft::as_eigen(nan.Q.vectors).col(0)));
      CHECK(std::isnan(nan.Q.tau[0]));
    });
    for (auto const& text : thrown) CHECK(text == "");
  }
}

TEST_CASE("orthogonality of what is spread over ranks") {
  index_t const m = 40, r = 9;
  dense_matrix<float> const U = gaussian<float>(m, r, 50);
  auto const whole = hoft::orthogonality_error(U);
  for (int ranks : {1, 2, 5}) {
    auto const thrown = on_ranks(ranks, message_bytes, [&](thread_communicator& communicator) {
      rank_policy const policy(hoft::cpu{}, communicator);
      dense_matrix<float> const mine = rows_on(U, communicator);
      CHECK(hoft::orthogonality_error(policy, hoft::as_view(mine)) == doctest::Approx(whole).epsilon(1e-6));
      // A form that is far from orthogonal, beside its columns; and two that are orthogonal.
      form_on_rank<float> const series(policy, mine, r, hoft::neumann{2});
      neumann_form const wide(U, 2);
      auto const Q = wide.apply(wide_matrix<float>(wide_matrix<float>::Identity(m, m)), side::left, op::plain);
      CHECK(hoft::orthogonality_error(policy, series.Q, m) ==
            doctest::Approx(double(hoft::orthogonality_error(Q))).epsilon(1e-4));
      for (index_t block : {2, 64}) {
        form_on_rank<float> const exact(policy, mine, block);
        CHECK(hoft::orthogonality_error(policy, exact.Q, m) <= 8 * std::sqrt(float(r * r)) * eps_of<float>());
      }
    });
    for (auto const& text : thrown) CHECK(text == "");
  }
}
