// SPDX-License-Identifier: BSD-3-Clause
// Every call of sharded problems over NCCL, on GPUs or on an emulated one for each rank: the program starts its ranks
// as processes, before anything of CUDA is called.
#define DOCTEST_CONFIG_IMPLEMENT  // what the judges share with doctest's tests refers to it; main is below
#include "../cuda/device.hpp"
#include "all_calls.hpp"

#include <hoft/nccl.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <complex>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

using namespace hoft_test;

namespace {

using hoft::nccl::require;  // of CUDA and NCCL
template <class T>
using memory = device_machine::Allocator<T>;
using rank_policy = hoft::sharded<hoft::cuda::device, hoft::nccl::communicator>;
using values = std::vector<float, memory<float>>;
using bytes = std::vector<std::byte, memory<std::byte>>;

/// A rank's reflectors, and the calls that are captured.
struct product_on_rank {
  index_t rows, r = 3, n = 40;
  values U, X, Y;
  memory_for_forms<memory<std::byte>> forms;
  hoft::compact_wy_view<float> Q;
  bytes work;

  product_on_rank(rank_policy const& policy, index_t reflectors)
      : rows(5 + policy.ranks->rank()), r(reflectors), U(of(rows, r, 1)), X(of(rows, n, 2)), Y(X.size()) {
    Q = forms.template cut<float>(rows, r, 64);
    work.resize(std::size_t(std::max(hoft::accumulate_workspace<float>(policy, r, 64, hoft::inverse{}),
                                     hoft::apply_workspace(policy, Q, x()))));
  }
  static values of(index_t m, index_t n, unsigned seed) {
    auto const A = gaussian<float>(m, n, seed);
    return {A.data(), A.data() + A.size()};
  }
  hoft::matrix_view<float const> x() const { return {X.data(), rows, n}; }
  void run(rank_policy const& policy) {
    hoft::workspace const room{work.data(), index_t(work.size())};
    hoft::accumulate(policy, hoft::matrix_view<float const>(U.data(), rows, r), Q, hoft::inverse{}, room);
    hoft::apply(policy, Q, x(), hoft::matrix_view<float>(Y.data(), rows, n), hoft::side::left, hoft::op::plain, room);
  }
};

template <class Error, class F>
void expect_error(rank_failures& failures, std::string const& words, F const& f) {
  try {
    f();
    failures.add("nothing was thrown with: " + words);
  } catch (Error const& error) {
    if (std::string(error.what()).find(words) == std::string::npos) failures.add(error.what());
  }
}

/// Calls captured in a graph give the bits of those that were not, from other data too.
void check_graph(hoft::cuda::device const& gpu, hoft::nccl::communicator& ranks, rank_failures& failures) {
  rank_policy const policy(gpu, ranks), silent(gpu, ranks, hoft::split::tall, false);
  product_on_rank product(policy, 3);
  auto const finish = [&] { require(cudaStreamSynchronize(gpu.stream), "cudaStreamSynchronize"); };
  product.run(policy), finish();
  values const first = product.Y;

  cudaGraph_t graph{};
  cudaGraphExec_t exec{};
  require(cudaStreamBeginCapture(gpu.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  if (ranks.size() > 1)
    expect_error<hoft::argument_error>(failures, "run the calls once", [&] { product.run(policy); });
  product.run(silent);
  require(cudaStreamEndCapture(gpu.stream, &graph), "cudaStreamEndCapture");
  require(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  for (float& y : product.Y) y = 0;
  require(cudaGraphLaunch(exec, gpu.stream), "cudaGraphLaunch"), finish();
  if (product.Y != first) failures.add("a graph has other bits");

  for (float& u : product.U) u = -u;  // the same reflectors
  for (float& x : product.X) x *= 2;
  require(cudaGraphLaunch(exec, gpu.stream), "cudaGraphLaunch"), finish();
  for (std::size_t i = 0; i < first.size(); ++i)
    if (product.Y[i] != 2 * first[i]) return failures.add("a graph with other data has other bits");
  cudaGraphExecDestroy(exec), cudaGraphDestroy(graph);
}

void check_refusals(hoft::cuda::device const& gpu, hoft::nccl::communicator& ranks, rank_failures& failures) {
  rank_policy const policy(gpu, ranks);
  if (ranks.size() > 1)
    expect_error<hoft::shape_error>(
        failures, "ranks do not agree on the columns of reflectors to accumulate: 3 on rank 0, 4 on rank 1",
        [&] { product_on_rank(policy, ranks.rank() == 1 ? 4 : 3).run(policy); });
  hoft::cuda::device other = gpu;
  other.stream = nullptr;
  rank_policy const elsewhere(other, ranks, hoft::split::tall, false);
  if (ranks.size() > 1)
    expect_error<hoft::argument_error>(failures, "the stream that the communicator was made with",
                                       [&] { product_on_rank(elsewhere, 3).run(elsewhere); });
}

/// What NCCL refuses within a group leaves no group open: the ranks go on. Emulated alone: on a device NCCL does not
/// look at pointers.
void check_nothing(hoft::cuda::device const& gpu, hoft::nccl::communicator& ranks, rank_failures& failures) {
  expect_error<hoft::communication_error>(failures, "ncclSend: invalid argument",
                                          [&] { ranks.all_reduce(gpu, static_cast<float*>(nullptr), 1 << 15); });
  check_sums<float, memory>(gpu, ranks, failures,
                            [&] { require(cudaStreamSynchronize(gpu.stream), "cudaStreamSynchronize"); });
}

constexpr int skipped = 77;

/// Takes the rank's GPU, if there are as many as ranks: NCCL connects no two on one. Each process has an emulated one
/// to itself.
bool take_device(int rank, int size) {
  int devices = 0;
  cudaDeviceProp first{};
  require(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
  require(cudaGetDeviceProperties(&first, 0), "cudaGetDeviceProperties");
  bool const is_emulated = std::string_view(first.name).starts_with("emulated");
  if (!is_emulated && devices < size) return false;
  require(cudaSetDevice(is_emulated ? 0 : rank), "cudaSetDevice");
  return true;
}

int run_rank(ncclUniqueId const& id, int rank, int size, std::string const& what) {
  if (!take_device(rank, size)) return skipped;
  ncclComm_t comm{};
  require(ncclCommInitRank(&comm, size, id, rank), "ncclCommInitRank");
  rank_failures failures(rank);
  {
    device_machine const machine;
    hoft::cuda::device const& gpu = machine.policy();
    auto const finish = [&] { machine.finish(); };
    hoft::nccl::communicator ranks(comm, gpu.stream);
    if (what == "differs") {  // and nobody compares: what connects them sees it
      rank_policy const policy(gpu, ranks, hoft::split::tall, false);
      product_on_rank(policy, 3 + rank % 2).run(policy), finish();
      return 0;
    }
    if (what == "nothing") {
      check_nothing(gpu, ranks, failures);
      return failures.count() == 0 ? 0 : 1;
    }
    check_sums<float, memory>(gpu, ranks, failures, finish), check_sums<double, memory>(gpu, ranks, failures, finish);
    check_all_calls<float, hoft::col_major, memory>(gpu, ranks, true, failures, 0, finish);
    // In pieces, in the caller's memory, and without agreement.
    bytes few(std::size_t(hoft::message_memory_for(1024, size)));
    hoft::nccl::communicator few_bytes(comm, gpu.stream, hoft::workspace{few.data(), index_t(few.size())});
    check_sums<std::complex<float>, memory>(gpu, few_bytes, failures, finish);
    check_all_calls<Eigen::half, hoft::row_major, memory>(gpu, few_bytes, false, failures, 0, finish);
    check_graph(gpu, ranks, failures);
    // The least memory: records fill it, and sums are parts that ranks send each other.
    bytes least(std::size_t(hoft::message_memory_for(0, size)));
    hoft::nccl::communicator least_bytes(comm, gpu.stream, hoft::workspace{least.data(), index_t(least.size())});
    check_graph(gpu, least_bytes, failures);
    check_refusals(gpu, ranks, failures);
  }
  require(ncclCommDestroy(comm), "ncclCommDestroy");
  return failures.count() == 0 ? 0 : 1;
}

}  // namespace

/// nccl_ranks <ranks>           checks all calls
/// nccl_ranks <ranks> differs   ranks that differ and do not compare what they exchange
/// nccl_ranks <ranks> nothing   messages that begin nowhere
int main(int count, char** arguments) {
  int const size = count > 1 ? std::atoi(arguments[1]) : 1;
  std::string const what = count > 2 ? arguments[2] : "";
  ncclUniqueId id{};
  require(ncclGetUniqueId(&id), "ncclGetUniqueId");
  std::vector<pid_t> ranks;
  for (int rank = 0; rank < size; ++rank) {
    pid_t const process = fork();
    if (process == 0) try {
        std::exit(run_rank(id, rank, size, what));
      } catch (std::exception const& error) {
        std::fprintf(stderr, "rank %d threw: %s\n", rank, error.what());
        std::_Exit(1);
      }
    ranks.push_back(process);
  }
  bool right = true, skips = false;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    int status = 0;
    waitpid(ranks[rank], &status, 0);
    if (WIFSIGNALED(status)) std::fprintf(stderr, "rank %zu was ended by signal %d\n", rank, WTERMSIG(status));
    skips = skips || (WIFEXITED(status) && WEXITSTATUS(status) == skipped);
    right = right && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  if (skips) {
    std::printf("skipped: there are fewer than %d GPUs\n", size);
    return skipped;
  }
  if (right) std::printf("%d ranks agree\n", size);
  return right ? 0 : 1;
}
