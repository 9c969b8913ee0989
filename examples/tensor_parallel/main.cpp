// SPDX-License-Identifier: BSD-3-Clause
// tensor_parallel: the MLP of a transformer, y = W2 relu(W1 x), split over ranks as Megatron does: W1 by rows, W2 by
// columns, so that what lies between them never leaves its rank. Both stay frozen. HOFT turns them, on each rank its
// own parts, until the network does what a turned one does.
//
//   mpirun -n 4 tensor_parallel [csv]
#include <hoft/hoft.hpp>
#include <hoft/mpi.hpp>

#include <cstdio>
#include <fstream>
#include <vector>

namespace {

using matrix = Eigen::MatrixXf;
using hoft::index_t;
using communicator = hoft::counting_communicator<hoft::mpi::communicator>;
using policy = hoft::sharded<hoft::cpu, communicator>;

constexpr index_t features = 64, hidden = 256, tokens = 128, rank = 8;
constexpr int steps = 480, report_every = 80;

/// The same numbers on every rank.
matrix gaussian(index_t rows, index_t cols, std::uint64_t seed, float scale) {
  matrix A(rows, cols);
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) A(i, j) = scale * hoft::standard_gaussian<float>(seed, i, j);
  return A;
}

/// Adam's step, element by element: the rows of a rank take the steps that they would take in the whole.
class adam {
 public:
  adam(index_t rows, index_t cols) : mean_(matrix::Zero(rows, cols)), square_(matrix::Zero(rows, cols)) {}
  void step(matrix& A, matrix const& dA) {
    constexpr float rate = 0.05f, beta1 = 0.9f, beta2 = 0.99f;
    ++steps_;
    mean_ = beta1 * mean_ + (1 - beta1) * dA;
    square_ = beta2 * square_ + (1 - beta2) * dA.cwiseAbs2();
    float const of_mean = 1 - std::pow(beta1, float(steps_)), of_square = 1 - std::pow(beta2, float(steps_));
    A.array() -= rate * (mean_ / of_mean).array() / ((square_ / of_square).array().sqrt() + 1e-8f);
  }

 private:
  matrix mean_, square_;
  int steps_ = 0;
};

/// A rank's part of a frozen weight and of what is trained beside it.
struct layer {
  policy shards;
  matrix M, U, V;
  adam of_U, of_V;

  layer(policy const& p, matrix weight, matrix left, matrix right)
      : shards(p),
        M(std::move(weight)),
        U(std::move(left)),
        V(std::move(right)),
        of_U(U.rows(), U.cols()),
        of_V(V.rows(), V.cols()) {}
  auto bind() const { return hoft::bind_layer(shards, hoft::adapter(shards, U, V), hoft::dense(M)); }
  template <class Bound>
  void train(Bound const& bound, hoft::layer_gradient<float> const& sums) {
    auto const d = hoft::finish(shards, bound, sums);
    of_U.step(U, d.dU), of_V.step(V, d.dV);
  }
};

/// Both layers on the rank that holds `count` of the hidden features from `first` on.
struct network {
  layer first, second;

  network(communicator& ranks, std::uint64_t seed, matrix const& reflectors_1, matrix const& reflectors_2, index_t from,
          index_t count)
      : first(policy(hoft::cpu{}, ranks, hoft::split::rows),
              gaussian(hidden, features, seed, 0.12f).middleRows(from, count),
              reflectors_1.topRows(hidden).middleRows(from, count), reflectors_1.bottomRows(features)),
        second(policy(hoft::cpu{}, ranks, hoft::split::columns),
               gaussian(features, hidden, seed + 1, 0.06f).middleCols(from, count), reflectors_2.topRows(features),
               reflectors_2.bottomRows(hidden).middleRows(from, count)) {}

  matrix output(matrix const& x) const {
    auto const a = first.bind(), b = second.bind();
    matrix const h = hoft::forward(first.shards, a, x).y;
    return hoft::forward(second.shards, b, matrix(h.cwiseMax(0.0f))).y;
  }

  /// One step of training; answers the loss before it, the same on every rank.
  float step(matrix const& x, matrix const& target) {
    auto const a = first.bind(), b = second.bind();
    auto const f = hoft::forward(first.shards, a, x);
    matrix const z = f.y, h = z.cwiseMax(0.0f);
    auto const g = hoft::forward(second.shards, b, h);
    matrix const dy = (matrix(g.y) - target) / float(tokens);
    hoft::layer_gradient<float> of_a(a), of_b(b);
    matrix const dh = hoft::backward(second.shards, b, h, g, dy, of_b);
    matrix const dz = (z.array() > 0).select(dh, 0.0f);
    static_cast<void>(hoft::backward(first.shards, a, x, f, dz, of_a));
    first.train(a, of_a), second.train(b, of_b);
    return dy.squaredNorm() * float(tokens) / 2;
  }
};

/// Numbers that a step sums over ranks: the frozen layers' alone, and with LoRA of the same rank beside them. LoRA's
/// A x rides on y where columns are split, and Bᵀ dy on dx where rows are.
void print_costs(hoft::message_counts const& counts) {
  double const frozen = 4.0 * 2 * features * tokens, lora = frozen + 4.0 * 2 * rank * tokens;
  std::printf(
      "bytes that a step sums: HOFT %.0f in %td messages (counted, with those of bind and finish); by their "
      "formulas the frozen layers %.0f, LoRA %.0f\n",
      double(counts.bytes) / steps, counts.sums / steps, frozen, lora);
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  {
    hoft::mpi::communicator world(MPI_COMM_WORLD);
    communicator ranks(world);
    index_t const from = hidden * ranks.rank() / ranks.size();
    index_t const count = hidden * (ranks.rank() + 1) / ranks.size() - from;
    index_t const both = hidden + features;
    matrix const x = gaussian(features, tokens, 1, 1);
    network const turned(ranks, 2, gaussian(both, rank, 10, 1), gaussian(both, rank, 11, 1), from, count);
    matrix const target = turned.output(x);
    // Pairs of reflectors cancel: training begins with what is frozen.
    network trained(ranks, 2, hoft::paired_gaussian<float>(both, rank, 20),
                    hoft::paired_gaussian<float>(both, rank, 21), from, count);
    ranks.reset();
    std::vector<float> losses;
    for (int step = 0; step < steps; ++step) {
      losses.push_back(trained.step(x, target));
      if (ranks.rank() == 0 && (step % report_every == 0 || step + 1 == steps))
        std::printf("ranks: %d, step %3d of %d, loss %.6f\n", ranks.size(), step + 1, steps, losses.back());
    }
    if (ranks.rank() == 0) {
      if (ranks.size() > 1) print_costs(ranks.counts());
      if (argc > 1) {
        std::ofstream csv(argv[1]);
        for (float const loss : losses) csv << loss << '\n';
      }
    }
  }
  MPI_Finalize();
}
