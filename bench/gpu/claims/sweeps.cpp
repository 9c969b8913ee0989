// SPDX-License-Identifier: BSD-3-Clause
// sweeps.cpp: what hoft_gpu_claims can do: the sweeps of bench/claims for the methods that exist on a GPU. Flops are
// not counted there; those of the algorithms are counted on the CPU, which runs the same ones.
#include "../../claims/commands.hpp"
#include "../../claims/progress.hpp"
#include "method.hpp"

#include <benchmark/benchmark.h>

#include <cstdint>
#include <ostream>
#include <random>

namespace bench::gpu {
namespace {

using claims::planned;

entry const& find(std::string const& name) {
  std::string known;
  for (entry const& e : list()) {
    if (e.about.name == name) return e;
    known += (known.empty() ? "" : ", ") + std::string(e.about.name);
  }
  throw std::invalid_argument("no method is called '" + name + "'; the methods are " + known);
}

bool is_backward(planned const& p) { return p.pass == "merge_backward" || p.pass == "backward"; }
bool on_weight(planned const& p) { return p.pass == "merge" || p.pass == "merge_backward"; }

methods::pass_cost const& cost(description const& about, std::string const& pass) {
  return pass == "merge"            ? about.merge
         : pass == "merge_backward" ? about.merge_backward
         : pass == "forward"        ? about.forward
                                    : about.backward;
}

/// One method at one size with all arguments of its passes. Numbers are uniform in [-1, 1), as for the CPU's.
class trial {
 public:
  trial(machine& owner, planned const& p) : machine_(owner), p_(p) {
    entry const& e = find(p.method);
    methods::require(cost(e.about, p.pass).flops[0] != '\0', p.method + " has no pass " + p.pass + " here");
    method_ = e.make(owner, p.s);
    auto const& s = p.s;
    M_ = filled(s.m, s.n);
    if (on_weight(p)) {
      Mhat_ = matrix(owner, s.m, s.n);
    } else {
      x_ = filled(s.n, s.t);
      y_ = matrix(owner, s.m, s.t);
    }
    if (p.pass == "merge_backward") dMhat_ = filled(s.m, s.n);
    if (p.pass == "backward") {
      dy_ = filled(s.m, s.t);
      dy_kept_ = filled(s.m, s.t);
      dx_ = matrix(owner, s.n, s.t);
    }
  }

  /// Before the pass: what comes before it, and what it overwrites.
  void prepare() {
    if (is_backward(p_) && !prepared_) run_forward();
    prepared_ = true;
    if (p_.pass == "backward") {
      auto const to = dy_.view();
      machine_.copy(to.data, dy_kept_.view().data, to.rows * to.cols * index_t(sizeof(float)));
    }
  }
  void run() {
    if (p_.pass == "merge_backward") method_->merge_backward(M_.fixed(), dMhat_.view());
    else if (p_.pass == "backward") method_->backward(M_.fixed(), x_.fixed(), y_.fixed(), dy_.view(), dx_.view());
    else run_forward();
  }
  double seconds() {
    prepare();
    return machine_.seconds([this] { run(); });
  }

  double trained() {
    double count = 0;
    for (parameter const& p : method_->parameters()) count += double(p.value.view().rows * p.value.view().cols);
    return count;
  }
  /// What a pass has at its peak beyond its arguments, with what the forward pass left for it.
  double peak_bytes() {
    index_t const before = machine_.in_use();
    prepare();
    machine_.forget_peak();
    run();
    return double(machine_.peak() - before);
  }

 private:
  matrix filled(index_t rows, index_t cols) {
    // Enough that no cache line is like its neighbours.
    constexpr index_t period = index_t{1} << 18;
    static std::vector<float> const numbers = [] {
      std::vector<float> some(period);
      std::mt19937 rng(1);
      for (float& x : some) x = float(rng() >> 8) * 0x1p-23f - 1.0f;
      return some;
    }();
    matrix made(machine_, rows, cols);
    float* const to = made.view().data;
    index_t const size = rows * cols, first = std::min(period, size);
    machine_.copy(to, numbers.data(), first * index_t(sizeof(float)));
    for (index_t done = first; done < size; done *= 2)
      machine_.copy(to + done, to, std::min(done, size - done) * index_t(sizeof(float)));
    return made;
  }
  void run_forward() {
    if (on_weight(p_)) method_->merge(M_.fixed(), Mhat_.view());
    else method_->forward(M_.fixed(), x_.fixed(), y_.view());
  }

  machine& machine_;
  planned p_;
  std::unique_ptr<method> method_;
  matrix M_, Mhat_, dMhat_, x_, y_, dy_, dy_kept_, dx_;
  bool prepared_ = false;
};

void describe(std::ostream& out) {
  claims::write_description_head(out);
  for (entry const& e : list()) claims::write_description(e.about, out);
}

void count(std::vector<planned> const& plan, std::ostream& out) {
  out << claims::case_head << "\tparameters\tbytes\n";
  out.precision(17);
  claims::progress shown("counting", plan.size());
  auto const device = make_machine();
  for (planned const& p : plan) {
    {
      trial t(*device, p);
      claims::write_case(p, out);
      out << '\t' << t.trained() << '\t' << t.peak_bytes() << '\n';
    }
    device->release_free();
    shown.step();
  }
}

/// Seconds of passes, once as many have run as make them like the later ones: the first launch of a kernel loads it.
template <class Use>
void warm_trial(machine& device, planned const& p, Use const& use) {
  {
    trial t(device, p);
    for (int warm = 0; warm < 2; ++warm) t.seconds();
    use(t);
  }
  device.release_free();
}

void time(std::vector<planned> const& plan, std::string const& out, int repetitions, double min_time) {
  claims::progress shown("timing", plan.size() * std::size_t(repetitions + 1));
  auto const device = make_machine();
  benchmark::AddCustomContext("device", device->name());
  benchmark::AddCustomContext("emulated", device->emulated() ? "true" : "false");
  for (planned const& p : plan) {
    double once = 0;
    warm_trial(*device, p, [&](trial& t) { once = std::min(t.seconds(), t.seconds()); });
    auto const iterations = std::clamp<std::int64_t>(std::int64_t(min_time / std::max(once, 1e-6)), 1, 1000);
    shown.step();
    benchmark::RegisterBenchmark(p.name().c_str(),
                                 [p, &shown, &device](benchmark::State& state) {
                                   warm_trial(*device, p, [&](trial& t) {
                                     for (auto _ : state) state.SetIterationTime(t.seconds());
                                   });
                                   shown.step();
                                 })
        ->Iterations(iterations)
        ->UseManualTime();
  }
  claims::run_registered(out, repetitions);
}

}  // namespace
}  // namespace bench::gpu

namespace bench::claims {

commands available() {
  return {.name = "hoft_gpu_claims",
          .purpose = "Measures on a GPU what bench/claims/harness.py judges.",
          .describe = gpu::describe,
          .count = gpu::count,
          .time = gpu::time,
          .missing = gpu::missing};
}

}  // namespace bench::claims
