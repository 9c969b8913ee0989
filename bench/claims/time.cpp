// SPDX-License-Identifier: BSD-3-Clause
// time.cpp: processor times of passes in float, by Google Benchmark.
#include "measures.hpp"
#include "heap.hpp"
#include "progress.hpp"
#include "trial.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <ctime>
#include <fstream>

namespace bench::claims {
namespace {

double seconds_of(trial<float>& t) {
  t.refresh();
  std::clock_t const start = std::clock();
  t.run();
  return double(std::clock() - start) / CLOCKS_PER_SEC;
}

/// How often a case runs in one repetition: long enough to be measured, by the faster of two trials.
std::int64_t iterations_of(planned const& p, double min_time) {
  trial<float> t(p);
  t.prepare();
  double const once = seconds_of(t), again = seconds_of(t);
  return std::clamp<std::int64_t>(std::int64_t(min_time / std::max(std::min(once, again), 1e-6)), 1, 1000);
}

}  // namespace

void time(std::vector<planned> const& plan, std::string const& out, int repetitions, double min_time) {
  heap_keep_memory();
  progress shown("timing", plan.size() * std::size_t(repetitions + 1));
  for (planned const& p : plan) {
    auto const iterations = iterations_of(p, min_time);
    shown.step();
    benchmark::RegisterBenchmark(p.name().c_str(), [p, &shown](benchmark::State& state) {
      trial<float> t(p);
      t.prepare();
      for (auto _ : state) {
        if (t.is_backward()) {
          state.PauseTiming();
          t.refresh();
          state.ResumeTiming();
        }
        t.run();
        benchmark::ClobberMemory();
      }
      shown.step();
    })->Iterations(iterations);
  }
  run_registered(out, repetitions);
}

}  // namespace bench::claims
