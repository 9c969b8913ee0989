// SPDX-License-Identifier: BSD-3-Clause
// parts: the parallel parts of calls on the CPU, one after the other: the tasks of each, and the time that one thread
// takes for them. Prints JSON, one object a line; threads.py reads it.
//
//   parts [--counts]    --counts: tasks alone, which nobody takes
#include <hoft/core/cost.hpp>
#include <hoft/hoft.hpp>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <limits>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace {

using hoft::index_t;
using matrix = hoft::dense_matrix<float>;

/// Processor time of this thread.
double now() {
  std::timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

double median(std::vector<double> values) {
  auto const middle = values.begin() + index_t(values.size()) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Lends no thread but the caller's, which then takes all tasks, and notes what each part of a call asks for. A part of
/// one task asks for nothing. An idle one takes no task either: what the tasks would write stays as it was.
class watcher final : public hoft::executor {
 public:
  std::vector<index_t> workers;
  std::vector<double> seconds;
  explicit watcher(bool idle) : idle_(idle) {}
  void run(index_t wanted, share one, void* work) override {
    double const start = now();
    if (!idle_) one(work, 0);
    seconds.push_back(now() - start);
    workers.push_back(wanted);
  }
  void clear() { workers.clear(), seconds.clear(); }

 private:
  bool idle_;
};
constexpr int endless = std::numeric_limits<int>::max();  // threads: as many as a part has tasks

/// Workspace that begins as zeros: where nobody takes the tasks, what one thread does behind them reads it.
class filled_scratch {
 public:
  filled_scratch() {
    std::memset(memory_.take(size_)->data, 0, std::size_t(size_));
    memory_.give_back();
  }
  hoft::scratch* lend() { return &memory_; }
  /// @throws std::logic_error if a call has taken more
  void check() {
    if (memory_.take(0)->size > size_)
      throw std::logic_error("parts: a call takes more workspace than there are zeros");
    memory_.give_back();
  }

 private:
  static constexpr index_t size_ = index_t{1} << 27;
  hoft::scratch memory_;
};

struct setting {
  int repetitions;  // 0: tasks are counted alone
  filled_scratch& scratch;
};
struct shape {
  index_t m, n, r, t;  // t: tokens, or 0 for calls on a matrix [m, n]
};

/// Prints the parts of body(policy). Times are those of two threads' shares, taken by one.
template <class Body>
void watch(char const* call, shape s, hoft::cost cost, setting of, Body const& body) {
  watcher counting(true), watched(of.repetitions == 0);
  body(hoft::cpu{endless, &counting, of.scratch.lend()});
  of.scratch.check();
  std::vector<index_t> const tasks = counting.workers;
  std::vector<std::vector<double>> seconds(tasks.size());
  std::vector<double> total;
  for (int i = 0; i <= of.repetitions; ++i) {
    watched.clear();
    double const start = now();
    body(hoft::cpu{2, &watched, of.scratch.lend()});
    if (i == 0 && of.repetitions > 0) continue;  // warms up
    total.push_back(now() - start);
    for (std::size_t k = 0; k < tasks.size(); ++k) seconds[k].push_back(watched.seconds.at(k));
  }
  std::printf(R"({"call": "%s", "m": %td, "n": %td, "r": %td, "t": %td, "flops": %.0f, "bytes": %.0f, "ms": %.4f, )",
              call, s.m, s.n, s.r, s.t, cost.flops, cost.bytes, 1e3 * median(total));
  std::printf(R"("parts": [)");
  for (std::size_t k = 0; k < tasks.size(); ++k)
    std::printf(R"(%s{"tasks": %td, "ms": %.4f})", k == 0 ? "" : ", ", tasks[k], 1e3 * median(seconds[k]));
  std::printf("]}\n");
}

void reflectors(shape s, setting of) {
  constexpr double size = sizeof(float);
  double const m = double(s.m), n = double(s.n), r = double(s.r), block = double(hoft::default_block);
  auto const Q = hoft::accumulate(Eigen::MatrixXf::Random(s.m, s.r).eval());
  matrix const start = Eigen::MatrixXf::Random(s.m, s.n), dY = Eigen::MatrixXf::Random(s.m, s.n);
  matrix X = start;
  watch("apply", s, hoft::apply_cost(m, n, r, block, size), of, [&](auto policy) { apply(policy, Q, X); });
  hoft::apply_gradient<float, float, hoft::col_major> g{matrix::Zero(s.m, s.n), matrix::Zero(s.m, s.r), {}};
  watch("apply_backward", s, hoft::apply_backward_cost(m, n, r, block, size), of,
        [&](auto policy) { apply_backward(policy, Q, start, dY, g); });
}

void layers(shape s, setting of) {
  constexpr double size = sizeof(float);
  double const m = double(s.m), n = double(s.n), r = double(s.r), t = double(s.t);
  Eigen::MatrixXf const M = Eigen::MatrixXf::Random(s.m, s.n), U = Eigen::MatrixXf::Random(s.m, s.r),
                        V = Eigen::MatrixXf::Random(s.n, s.r);
  matrix const x = Eigen::MatrixXf::Random(s.n, s.t), dy = Eigen::MatrixXf::Random(s.m, s.t);
  auto const layer = hoft::bind_layer(hoft::adapter{U, V}, hoft::dense(M));
  hoft::forward_result<float, float, hoft::col_major> f;
  f.y = matrix::Zero(s.m, s.t), f.state.v = f.state.w = matrix::Zero(s.r, s.t);
  watch("forward", s, hoft::forward_cost(m, n, t, r, r, size), of, [&](auto policy) { forward(policy, layer, x, f); });
  hoft::layer_gradient g(layer);
  matrix dx = matrix::Zero(s.n, s.t);
  watch("backward", s, hoft::backward_cost(m, n, t, r, r, size), of,
        [&](auto policy) { backward(policy, layer, x, f, dy, g, dx); });
}

/// The runs in which threads take panels, by a thread that takes all of them.
void runs(index_t panels, int threads) {
  watcher watched(false);
  std::printf(R"({"panels": %td, "threads": %d, "runs": [)", panels, threads);
  index_t run = 0;
  bool first = true;
  hoft::ops<hoft::cpu>::for_each_panel(hoft::cpu{threads, &watched}, panels, 1, [&](index_t, auto panel) {
    ++run;
    if (panel.next > 0) return;
    std::printf("%s%td", first ? "" : ", ", run);
    run = 0, first = false;
  });
  std::printf("]}\n");
}

}  // namespace

int main(int argc, char** argv) {
  bool const counts = argc > 1 && std::string_view(argv[1]) == "--counts";
  filled_scratch scratch;
  setting const of{counts ? 0 : 9, scratch};
  namespace kernel = hoft::cpu_backend::kernel;
  // Blocks of products have the rows of a tile.
  std::printf("{\"tile_rows\": %d}\n", kernel::tile_vectors<float> * kernel::lanes<float>);
  for (int threads : {1, 2, 7, 64})
    for (index_t panels : {5, 43, 342}) runs(panels, threads);
  for (shape s : {shape{1024, 1024, 16, 0}, {4096, 4096, 16, 0}, {4096, 4096, 64, 0}}) reflectors(s, of);
  for (shape s : {shape{1024, 1024, 16, 2048}, {4096, 4096, 16, 512}, {4096, 4096, 16, 2048}}) layers(s, of);
}
