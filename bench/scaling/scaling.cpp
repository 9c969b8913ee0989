// SPDX-License-Identifier: BSD-3-Clause
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

/// Seconds, of which `communicating` in messages.
struct times {
  double seconds, communicating;
};
/// Of each f(): medians over runs that all ranks begin together, in which they take turns.
template <class... F>
std::vector<times> measure(timed_communicator& ranks, int runs, F const&... f) {
  std::vector<double> all[sizeof...(F)], messages[sizeof...(F)];
  for (int run = 0; run < runs + 1; ++run) {
    std::size_t i = 0;
    auto const one = [&](auto const& call) {
      MPI_Barrier(MPI_COMM_WORLD);
      ranks.seconds = 0;
      double const start = now();
      call();
      double const taken = now() - start;
      if (run > 0) all[i].push_back(taken), messages[i].push_back(ranks.seconds);  // else memory is touched
      ++i;
    };
    (one(f), ...);
  }
  std::vector<times> medians;
  for (std::size_t i = 0; i < sizeof...(F); ++i) medians.push_back({median(all[i]), median(messages[i])});
  return medians;
}

void measure_messages(timed_communicator& ranks, int runs, index_t most) {
  for (index_t count = 64; count <= most; count *= 4) {
    std::vector<float> numbers(static_cast<std::size_t>(count), 1.0f / float(ranks.size()));
    auto const t = measure(ranks, runs, [&] { ranks.all_reduce(hoft::cpu{}, numbers.data(), count); })[0];
    if (ranks.rank() == 0)
      std::printf("{\"kind\": \"message\", \"ranks\": %d, \"bytes\": %td, \"seconds\": %.9f}\n", ranks.size(),
                  4 * count, t.seconds);
  }
}

/// A rank's part of a layer [m, n] and of t tokens, split one way. All methods write y and dx.
struct part {
  policy shards;
  matrix M, x, dy, U, V, y, dx;

  part(timed_communicator& ranks, split of, index_t m, index_t n, index_t t, index_t r)
      : shards(hoft::cpu{}, ranks, of, false) {
    index_t const p = ranks.size(), rows = of == split::rows ? m / p : m, cols = of == split::columns ? n / p : n;
    M = matrix::Random(rows, cols) / std::sqrt(float(n));
    x = matrix::Random(cols, t), dy = matrix::Random(rows, t);
    U = matrix::Random(rows, r), V = matrix::Random(cols, r);
    y.resize(rows, t), dx.resize(cols, t);
  }
  auto base() const { return hoft::dense_operator(hoft::as_view(M)); }
  void sum(matrix& numbers) { shards.ranks->all_reduce(hoft::cpu{}, numbers.data(), numbers.size()); }
};

/// Forward and backward of the frozen layer with its own sum.
struct frozen {
  part& p;
  void operator()() const {
    p.base().apply(hoft::as_view(std::as_const(p.x)), hoft::as_view(p.y));
    if (p.shards.of == split::columns) p.sum(p.y);
    p.base().apply_adjoint(hoft::as_view(std::as_const(p.dy)), hoft::as_view(p.dx));
    if (p.shards.of == split::rows) p.sum(p.dx);
  }
};

/// M x + B A x of rank r, and all gradients: B's rows lie as M's, or A's columns do, and r t numbers are summed more.
struct lora {
  part& p;
  matrix A, z, dz, dA, dB;
  explicit lora(part& of) : p(of), A(of.V.transpose()), z(A.rows(), of.x.cols()), dz(z), dA(A), dB(of.U) {}

  void operator()() {
    z.noalias() = A * p.x;
    p.base().apply(hoft::as_view(std::as_const(p.x)), hoft::as_view(p.y));
    if (p.shards.of == split::columns) p.sum(z), p.sum(p.y);
    p.y.noalias() += p.U * z;
    dz.noalias() = p.U.transpose() * p.dy;
    p.base().apply_adjoint(hoft::as_view(std::as_const(p.dy)), hoft::as_view(p.dx));
    if (p.shards.of == split::rows) p.sum(dz), p.sum(p.dx);
    p.dx.noalias() += A.transpose() * dz;
    dA.noalias() = dz * p.x.transpose(), dB.noalias() = p.dy * z.transpose();
  }
};

/// HOFT, bound before.
struct adapted {
  part& p;
  decltype(hoft::bind_layer(p.shards, std::declval<hoft::adapter<float>>(), p.base())) layer;
  hoft::layer_gradient<float> sums;
  hoft::state_storage<float, float, hoft::col_major> state;
  matrix dbase;
  std::vector<std::byte> memory;

  explicit adapted(part& of)
      : p(of),
        layer(hoft::bind_layer(p.shards, hoft::adapter(p.shards, p.U, p.V), p.base())),
        sums(layer),
        state(layer.view().adapter, p.x.cols()),
        dbase(p.dy) {
    auto const x = hoft::as_view(std::as_const(p.x));
    memory.resize(std::size_t((std::max)(hoft::forward_workspace(p.shards, layer.view(), x),
                                         hoft::backward_workspace(p.shards, layer.view(), state.view()))));
  }
  void operator()() {
    hoft::workspace const work{memory.data(), index_t(memory.size())};
    auto const x = hoft::as_view(std::as_const(p.x)), dy = hoft::as_view(std::as_const(p.dy));
    auto const y = hoft::as_view(p.y);
    hoft::forward(p.shards, layer.view(), p.base(), x, y, state.view(), work);
    hoft::backward(p.shards, layer.view(), p.base(), x, hoft::as_view(std::as_const(p.y)), state.view(), dy,
                   hoft::as_view(dbase), hoft::as_view(p.dx), sums.view(), work);
  }
};

void measure_step(timed_communicator& ranks, char const* scaling, split of, index_t m, index_t n, int runs) {
  constexpr index_t t = 256, r = 16;
  part p(ranks, of, m, n, t, r);
  frozen without{p};
  lora with_lora(p);
  adapted with_hoft(p);
  auto const all = measure(
      ranks, runs, [&] { without(); }, [&] { with_lora(); }, [&] { with_hoft(); });
  if (ranks.rank() != 0) return;
  char const* const names[] = {"frozen", "lora", "hoft"};
  for (std::size_t i = 0; i < all.size(); ++i)
    std::printf(
        "{\"kind\": \"step\", \"scaling\": \"%s\", \"split\": \"%s\", \"ranks\": %d, \"m\": %td, \"n\": %td, "
        "\"t\": %td, \"r\": %td, \"method\": \"%s\", \"seconds\": %.6f, \"communicating\": %.6f}\n",
        scaling, of == split::rows ? "rows" : "columns", ranks.size(), m, n, t, r, names[i], all[i].seconds,
        all[i].communicating);
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
