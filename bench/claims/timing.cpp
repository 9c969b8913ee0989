// SPDX-License-Identifier: BSD-3-Clause
// timing.cpp: Google Benchmark, set up alike for all programs.
#include "commands.hpp"

#include <benchmark/benchmark.h>

namespace bench::claims {
namespace {

/// Nothing on the console: the progress line is enough.
struct silent : benchmark::BenchmarkReporter {
  bool ReportContext(Context const&) override { return true; }
  void ReportRuns(std::vector<Run> const&) override {}
};

}  // namespace

void run_registered(std::string const& out, int repetitions) {
  std::vector<std::string> options{available().name, "--benchmark_enable_random_interleaving=true",
                                   "--benchmark_repetitions=" + std::to_string(repetitions), "--benchmark_out=" + out,
                                   "--benchmark_out_format=json"};
  std::vector<char*> pointers;
  for (std::string& option : options) pointers.push_back(option.data());
  int argc = int(pointers.size());
  benchmark::Initialize(&argc, pointers.data());
  silent reporter;
  // The name of a benchmark in the file has Google's suffixes behind it; all are run.
  benchmark::RunSpecifiedBenchmarks(&reporter, std::string("."));
  benchmark::Shutdown();
}

}  // namespace bench::claims
