// scaling: what messages cost on these ranks, and steps of a layer split over them, frozen and adapted by LoRA and
// HOFT. Rank 0 prints JSON, one object a line; model.py reads it.
//
//   mpirun -n 2 scaling [--quick]
#include <hoft/hoft.hpp>
#include <hoft/mpi.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

namespace {

using hoft::index_t;
using hoft::split;
using matrix = Eigen::MatrixXf;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// A communicator that adds up the seconds that it takes.
class timed_communicator {
 public:
  explicit timed_communicator(hoft::mpi::communicator& carrier) : carrier_(&carrier) {}
  [[nodiscard]] int rank() const { return carrier_->rank(); }
  [[nodiscard]] int size() const { return carrier_->size(); }
  [[nodiscard]] hoft::workspace message_memory() const { return carrier_->message_memory(); }
  template <class Local, class A>
  void all_reduce(Local const& local, A* data, index_t count) {
    double const start = now();
    carrier_->all_reduce(local, data, count);
    seconds += now() - start;
  }
  void const* all_gather(void const* record, index_t bytes) {
    double const start = now();
    void const* const all = carrier_->all_gather(record, bytes);
    seconds += now() - start;
    return all;
  }
  double seconds = 0;

 private:
  hoft::mpi::communicator* carrier_;
};
using policy = hoft::sharded<hoft::cpu, timed_communicator>;

double median(std::vector<double> values) {
  auto const middle = values.begin() + index_t(values.size()) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Seconds of f(), of which `communicating` in messages: medians over runs that all ranks begin together.
struct times {
  double seconds, communicating;
};
template <class F>
times measure(timed_communicator& ranks, int runs, F const& f) {
  std::vector<double> all, messages;
  for (int run = 0; run < runs + 1; ++run) {
    MPI_Barrier(MPI_COMM_WORLD);
    ranks.seconds = 0;
    double const start = now();
    f();
    if (run == 0) continue;  // memory is touched, caches are warm
    all.push_back(now() - start), messages.push_back(ranks.seconds);
  }
  return {median(all), median(messages)};
}

void measure_messages(timed_communicator& ranks, int runs, index_t most) {
  for (index_t count = 64; count <= most; count *= 4) {
    std::vector<float> numbers(static_cast<std::size_t>(count), 1.0f / float(ranks.size()));
    auto const t = measure(ranks, runs, [&] { ranks.all_reduce(hoft::cpu{}, numbers.data(), count); });
    if (ranks.rank() == 0)
      std::printf("{\"kind\": \"message\", \"ranks\": %d, \"bytes\": %lld, \"seconds\": %.9f}\n", ranks.size(),
                  static_cast<long long>(4 * count), t.seconds);
  }
}

/// Forward and backward of a layer [m, n] on t tokens, split one way.
struct step {
  policy shards;
  matrix M, x, dy, U, V;
  index_t m, n, t;

  step(timed_communicator& ranks, split of, index_t m_, index_t n_, index_t t_, index_t r)
      : shards(hoft::cpu{}, ranks, of), m(m_), n(n_), t(t_) {
    index_t const p = ranks.size(), rows = of == split::rows ? m / p : m, cols = of == split::columns ? n / p : n;
    M = matrix::Random(rows, cols) / std::sqrt(float(n));
    x = matrix::Random(cols, t), dy = matrix::Random(rows, t);
    U = matrix::Random(rows, r), V = matrix::Random(cols, r);
  }
  /// The frozen layer with its own sum.
  times frozen(timed_communicator& ranks, int runs) {
    matrix y(M.rows(), t), dx(M.cols(), t);
    hoft::dense_operator const base(hoft::as_view(std::as_const(M)));
    auto const sum = [&](matrix& part) { ranks.all_reduce(hoft::cpu{}, part.data(), part.size()); };
    return measure(ranks, runs, [&] {
      base.apply(hoft::as_view(std::as_const(x)), hoft::as_view(y));
      if (shards.of == split::columns) sum(y);
      base.apply_adjoint(hoft::as_view(std::as_const(dy)), hoft::as_view(dx));
      if (shards.of == split::rows) sum(dx);
    });
  }
  /// M x + B A x of rank r, and all gradients: B's rows lie as M's, or A's columns do, and r t numbers are summed more.
  times lora(timed_communicator& ranks, int runs) {
    matrix y(M.rows(), t), dx(M.cols(), t), z(U.cols(), t), dz(U.cols(), t), dA(U.cols(), M.cols()),
        dB(M.rows(), U.cols());
    matrix const A = V.transpose();
    hoft::dense_operator const base(hoft::as_view(std::as_const(M)));
    auto const sum = [&](matrix& part) { ranks.all_reduce(hoft::cpu{}, part.data(), part.size()); };
    return measure(ranks, runs, [&] {
      z.noalias() = A * x;
      base.apply(hoft::as_view(std::as_const(x)), hoft::as_view(y));
      if (shards.of == split::columns) sum(z), sum(y);
      y.noalias() += U * z;
      dz.noalias() = U.transpose() * dy;
      base.apply_adjoint(hoft::as_view(std::as_const(dy)), hoft::as_view(dx));
      if (shards.of == split::rows) sum(dz), sum(dx);
      dx.noalias() += A.transpose() * dz;
      dA.noalias() = dz * x.transpose(), dB.noalias() = dy * z.transpose();
    });
  }
  times adapted(timed_communicator& ranks, int runs) {
    auto const layer = hoft::bind_layer(shards, hoft::adapter(shards, U, V), hoft::dense(M));
    hoft::layer_gradient g(layer);
    return measure(ranks, runs, [&] {
      auto const f = hoft::forward(shards, layer, x);
      static_cast<void>(hoft::backward(shards, layer, x, f, dy, g));
    });
  }
};

void measure_step(timed_communicator& ranks, char const* scaling, split of, index_t m, index_t n, int runs) {
  constexpr index_t t = 256, r = 16;
  step layer(ranks, of, m, n, t, r);
  times const frozen = layer.frozen(ranks, runs), lora = layer.lora(ranks, runs), adapted = layer.adapted(ranks, runs);
  if (ranks.rank() != 0) return;
  for (auto const& [name, of_name] : {std::pair{"frozen", frozen}, std::pair{"lora", lora}, std::pair{"hoft", adapted}})
    std::printf(
        "{\"kind\": \"step\", \"scaling\": \"%s\", \"split\": \"%s\", \"ranks\": %d, \"m\": %lld, \"n\": %lld, "
        "\"t\": %lld, \"r\": %lld, \"method\": \"%s\", \"seconds\": %.6f, \"communicating\": %.6f}\n",
        scaling, of == split::rows ? "rows" : "columns", ranks.size(), static_cast<long long>(m),
        static_cast<long long>(n), static_cast<long long>(t), static_cast<long long>(r), name, of_name.seconds,
        of_name.communicating);
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  {
    bool const quick = argc > 1 && std::string(argv[1]) == "--quick";
    hoft::mpi::communicator world(MPI_COMM_WORLD);
    timed_communicator ranks(world);
    int const runs = quick ? 3 : 15;
    index_t const size = quick ? 256 : 2048;
    measure_messages(ranks, runs, quick ? index_t{1} << 14 : index_t{1} << 20);
    for (split of : {split::rows, split::columns}) {
      measure_step(ranks, "strong", of, size, size, runs);
      // As much of the weight on every rank.
      index_t const p = ranks.size();
      measure_step(ranks, "weak", of, of == split::rows ? size / 2 * p : size,
                   of == split::columns ? size / 2 * p : size, runs);
    }
  }
  MPI_Finalize();
}
