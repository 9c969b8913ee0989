// SPDX-License-Identifier: BSD-3-Clause
// one_weight: a weight whose rows lie on the ranks of MPI, adapted by HOFT, forward and backward.
#include <hoft/hoft.hpp>
#include <hoft/mpi.hpp>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  {  // the communicator ends before MPI does
    hoft::mpi::communicator ranks(MPI_COMM_WORLD);
    hoft::counting_communicator counted(ranks);  // `ranks` itself where nobody wants to know what travels
    hoft::sharded const shards(hoft::cpu{}, counted, hoft::split::rows);
    // V and x are the same on all ranks; the weight and U have 32 rows on each, its own.
    Eigen::MatrixXf const V = Eigen::MatrixXf::Random(48, 4), x = Eigen::MatrixXf::Random(48, 10);
    std::srand(unsigned(ranks.rank()) + 2);
    Eigen::MatrixXf const M = Eigen::MatrixXf::Random(32, 48), U = Eigen::MatrixXf::Random(32, 4);
    auto const layer = hoft::bind_layer(shards, hoft::adapter(shards, U, V), hoft::dense(M));
    auto const f = hoft::forward(shards, layer, x);  // f.y: 32 rows of Q_U M Q_V x
    hoft::layer_gradient g(layer);
    auto const dx = hoft::backward(shards, layer, x, f, f.y, g);  // of ‖y‖²/2: dx and dV whole, dU of these rows
    auto const d = hoft::finish(shards, layer, g);                // Q_U keeps ‖y‖, so dU is 0 but for rounding
    std::printf("rank %d of %d: ‖dx‖ = %.6f, ‖dU‖ = %.6f, ‖dV‖ = %.6f\n", ranks.rank(), ranks.size(), double(dx.norm()),
                double(d.dU.norm()), double(d.dV.norm()));
    hoft::message_counts const& sent = counted.counts();  // records: by which ranks agree on what follows
    if (ranks.rank() == 0)
      std::printf("%td sums of %td numbers, %td records\n", sent.sums, sent.numbers, sent.agreements);
  }
  MPI_Finalize();
}
