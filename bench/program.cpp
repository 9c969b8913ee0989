// SPDX-License-Identifier: BSD-3-Clause
// program.cpp: registers what is to be timed with Google Benchmark and writes down what it found.
#include "program.hpp"

#include "lapack.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string_view>

namespace bench {

/// All contests in one file, and on the console one line for each contestant: its median.
class program::reporter : public benchmark::BenchmarkReporter {
 public:
  explicit reporter(std::string const& file) {
    console_.SetOutputStream(&std::cout);
    console_.SetErrorStream(&std::cerr);
    if (file.empty()) return;
    out_.open(file);
    if (!out_) {
      std::cerr << "cannot write " << file << '\n';
      std::exit(2);
    }
    json_.SetOutputStream(&out_);
    json_.SetErrorStream(&std::cerr);
  }
  // Google Benchmark begins and ends a report with each contest.
  bool ReportContext(Context const& context) override {
    if (std::exchange(begun_, true)) return true;
    console_.begin(context);
    return !out_.is_open() || json_.ReportContext(context);
  }
  void ReportRuns(std::vector<Run> const& runs) override {
    if (out_.is_open()) json_.ReportRuns(runs);
    std::vector<Run> shown;
    for (Run const& run : runs)
      if (run.aggregate_name == "median" || (run.run_type == Run::RT_Iteration && run.repetitions <= 1))
        shown.push_back(run);
    if (!shown.empty()) console_.ReportRuns(shown);
  }
  void finish() {
    if (out_.is_open() && begun_) json_.Finalize();
    out_.flush();
  }

 private:
  struct plain_console : benchmark::ConsoleReporter {
    plain_console() : ConsoleReporter(OO_None) {}
    void begin(Context const&) { name_field_width_ = 60; }  // of the longest name, unknown before the last contest
  } console_;
  benchmark::JSONReporter json_;
  std::ofstream out_;
  bool begun_ = false;
};

program::program(int argc, char** argv) : only_("") {
  openblas_set_num_threads(1);
  // Before the caller's, which come last and so have the last word.
  auto& options = options_;
  options = {argv[0], "--benchmark_min_time=0.02", "--benchmark_repetitions=15",
             "--benchmark_enable_random_interleaving=true"};
  for (int i = 1; i < argc; ++i) {
    std::string_view const option = argv[i];
    if (option == "--quick") {
      quick_ = true;
      options.insert(options.end(), {"--benchmark_min_time=0.001", "--benchmark_repetitions=3"});
    } else if (option == "--training") {
      training_ = true;
      options.insert(options.end(), {"--benchmark_repetitions=3"});  // many times a few
    } else if (option.starts_with("--out=")) {
      out_ = option.substr(option.find('=') + 1);
    } else if (option.starts_with("--only=")) {
      only_.assign(std::string(option.substr(option.find('=') + 1)), std::regex::extended);
    } else {
      options.emplace_back(option);
    }
  }
  std::vector<char*> pointers;
  for (std::string& option : options) pointers.push_back(option.data());
  int count = int(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) std::exit(2);
  for (auto const& [name, text] : description()) benchmark::AddCustomContext(name, text);
  reporter_ = std::make_unique<reporter>(out_);
}

program::~program() = default;

/// Google Benchmark's own rule for --benchmark_filter: a leading minus means all but these.
bool program::selected(std::string const& name) const {
  std::string filter = benchmark::GetBenchmarkFilter();
  if (filter.empty() || filter == "all") return true;
  bool const inverted = filter[0] == '-';
  if (inverted) filter.erase(0, 1);
  return std::regex_search(name, std::regex(filter, std::regex::extended)) != inverted;
}

void program::enter(std::string const& prefix, task const& job, std::optional<double> seconds) {
  if (seconds && !selected(prefix + job.name)) return;
  constexpr double budget = 1;  // seconds for all repetitions of one contestant, or three repetitions
  int repetitions = 0;
  if (seconds && *seconds * 15 > budget) repetitions = std::clamp(int(budget / *seconds), 3, 15);
  if (quick_ || training_) repetitions = 0;
  entered_.push_back({prefix + job.name, job, repetitions});
}

void program::run_entered() {
  for (registration const& e : entered_) {
    auto* const timed = benchmark::RegisterBenchmark(e.name.c_str(), [job = e.job](benchmark::State& state) {
      job.prepare();
      for (auto _ : state) {
        job.run();
        benchmark::ClobberMemory();
      }
      using benchmark::Counter;
      if (job.work.flops > 0) state.counters["FLOP/s"] = Counter(job.work.flops, Counter::kIsIterationInvariantRate);
      state.counters["flops"] = job.work.flops;
      state.counters["bytes"] = job.work.bytes;
      if (job.measures)
        for (auto const& [name, value] : job.measures()) state.counters[name] = value;
    });
    timed->Unit(benchmark::kMillisecond);
    if (e.job.wall) timed->UseRealTime();
    if (e.repetitions > 0) timed->Repetitions(e.repetitions);
  }
  entered_.clear();
  // Only what was selected is entered; Google Benchmark would match its own, longer names (".../repeats:3").
  benchmark::RunSpecifiedBenchmarks(reporter_.get(), std::string("."));
  benchmark::ClearRegisteredBenchmarks();
}

int program::finish() {
  reporter_->finish();
  benchmark::Shutdown();
  return agreed_ ? 0 : 1;
}

}  // namespace bench
