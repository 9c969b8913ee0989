// contest.hpp: hoft beside its peers. Every contestant is checked against another one before any is timed.
#pragma once
#include "data.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <iostream>
#include <limits>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bench {

/// One way to do the job. Those of one group do the same job: their results are compared with the first of the group.
template <class T>
struct contestant {
  std::string name;
  std::function<void()> run;                  ///< timed
  std::vector<matrix_view<T const>> results;  ///< what run leaves
  hoft::cost work;                            ///< of one run, by hoft/core/cost.hpp
  std::function<void()> prepare = [] {};      ///< before the first run of a series, not timed
  std::string group = "hoft";
};

/// The contestants of one operation on one shape.
template <class T>
struct contest {
  std::vector<contestant<T>> contestants;
  index_t longest_sum;  ///< terms in the longest inner product of the operation
};

namespace detail {

/// max over results of ‖a − b‖_F / ‖b‖_F, NaN if there is one.
template <class T>
double relative_error(std::vector<matrix_view<T const>> const& a, std::vector<hoft::dense_matrix<T>> const& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    double square = 0, total = 0;
    for (index_t j = 0; j < b[i].cols(); ++j) {
      square += double((as_eigen(a[i]).col(j) - b[i].col(j)).squaredNorm());
      total += double(b[i].col(j).squaredNorm());
    }
    double const error = std::sqrt(square / total);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

/// Google Benchmark's own rule for --benchmark_filter: a leading minus means all but these.
inline bool selected(std::string const& name) {
  std::string filter = benchmark::GetBenchmarkFilter();
  if (filter.empty() || filter == "all") return true;
  bool const inverted = filter[0] == '-';
  if (inverted) filter.erase(0, 1);
  return std::regex_search(name, std::regex(filter, std::regex::extended)) != inverted;
}

template <class T>
struct checked_results {
  std::string group, name;
  std::vector<hoft::dense_matrix<T>> values;
};

/// Checks the selected contestants and registers them. Returns whether all of them agree.
template <class T>
bool enter(std::string const& prefix, contest<T> const& c) {
  // A sum of k products carries a relative error of at most k ε to first order, in random data about √k ε. Two results
  // are compared, and each operation chains sums.
  double const bound = 4 * double(c.longest_sum) * double(std::numeric_limits<T>::epsilon());
  bool agree = true;
  std::vector<checked_results<T>> firsts;
  for (contestant<T> const& entry : c.contestants) {
    std::string const name = prefix + entry.name;
    auto const run = [&] {
      entry.prepare();
      std::clock_t const start = std::clock();  // processor time: others on the machine do not count
      entry.run();
      return double(std::clock() - start) / CLOCKS_PER_SEC;
    };
    auto const first =
        std::find_if(firsts.begin(), firsts.end(), [&](auto const& f) { return f.group == entry.group; });
    bool const wanted = selected(name);
    if (first != firsts.end() && !wanted) continue;
    if (first == firsts.end() && std::none_of(c.contestants.begin(), c.contestants.end(), [&](auto const& other) {
          return other.group == entry.group && selected(prefix + other.name);
        }))
      continue;
    double const seconds = run();
    if (first == firsts.end()) {
      firsts.push_back({entry.group, entry.name, {}});
      for (auto const& result : entry.results) firsts.back().values.emplace_back(as_eigen(result));
    } else if (double const error = relative_error(entry.results, first->values); !(error <= bound)) {
      std::cerr << name << " differs from " << first->name << " by " << error << ", more than " << bound << '\n';
      agree = false;
    }
    if (!wanted) continue;
    auto* const timed = benchmark::RegisterBenchmark(name.c_str(), [entry](benchmark::State& state) {
      entry.prepare();
      for (auto _ : state) {
        entry.run();
        benchmark::ClobberMemory();
      }
      using benchmark::Counter;
      state.counters["FLOP/s"] = Counter(entry.work.flops, Counter::kIsIterationInvariantRate);
      state.counters["B/s"] = Counter(entry.work.bytes, Counter::kIsIterationInvariantRate);
    });
    timed->Unit(benchmark::kMillisecond);
    constexpr double budget = 0.6;  // seconds for all repetitions of one contestant, or three repetitions
    if (seconds > budget / 9) timed->Repetitions(seconds > budget / 5 ? 3 : 5);
  }
  return agree;
}

}  // namespace detail

namespace detail {

/// One line for each contestant, its median: the other aggregates are in the file.
class median_reporter : public benchmark::ConsoleReporter {
 public:
  median_reporter() : ConsoleReporter(OO_Tabular) {}
  void ReportRuns(std::vector<Run> const& runs) override {
    std::vector<Run> shown;
    for (Run const& run : runs)
      if (run.aggregate_name == "median" || (run.run_type == Run::RT_Iteration && run.repetitions <= 1))
        shown.push_back(run);
    if (!shown.empty()) ConsoleReporter::ReportRuns(shown);
  }
};

}  // namespace detail

/// The main function of a benchmark. make(T{}, shape) returns the contest of one operation on T.
/// Options: Google Benchmark's, and --quick: the smallest shape, three short repetitions.
template <class Make>
int run(int argc, char** argv, std::string const& operation, Make const& make) {
  openblas_set_num_threads(1);
  bool quick = false;
  // Before the caller's, which come last and so have the last word.
  std::vector<std::string> options = {argv[0], "--benchmark_min_time=0.02", "--benchmark_repetitions=9",
                                      "--benchmark_enable_random_interleaving=true"};
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "--quick") {
      quick = true;
      options.insert(options.end(), {"--benchmark_min_time=0.01", "--benchmark_repetitions=3"});
    } else {
      options.emplace_back(argv[i]);
    }
  }
  std::vector<char*> pointers;
  for (std::string& option : options) pointers.push_back(option.data());
  int count = int(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  if (benchmark::ReportUnrecognizedArguments(count, pointers.data())) return 2;
  benchmark::AddCustomContext("openblas_core", openblas_get_corename());

  bool agree = true;
  auto const enter = [&](auto type, char const* type_name, shape s) {
    std::string const prefix = operation + "/" + type_name + "/" + std::to_string(s.m) + "/" + std::to_string(s.n) +
                               "/" + std::to_string(s.r) + "/";
    agree &= detail::enter(prefix, make(type, s));
  };
  for (shape s : shapes) {
    if (quick && s.m != shapes[0].m) continue;
    enter(float{}, "float", s);
    enter(double{}, "double", s);
  }
  if (!agree) return 1;  // a wrong peer is not worth timing
  detail::median_reporter reporter;
  // Only what was selected is entered; Google Benchmark would match its own, longer names (".../repeats:3").
  benchmark::RunSpecifiedBenchmarks(&reporter, std::string("."));
  benchmark::Shutdown();
  return 0;
}

}  // namespace bench
