// hoft/cuda/host.hpp: the kernels of this backend, run by the host. Slow; it shows that their bodies are right where
// there is no GPU.
#pragma once
#include <hoft/cuda/primitives.hpp>

#include <barrier>
#include <cstddef>
#include <thread>
#include <vector>

namespace hoft::cuda {

/// Every block in turn. With one worker a step is a loop, backwards if `reversed`. With more, that many threads run the
/// whole body as the threads of a GPU do, each with variables of its own, and meet behind every step: a missing barrier
/// or a step whose parts depend on each other is a data race, which ThreadSanitizer sees.
struct host {
  using execution_policy_tag = void;
  using cuda_device_tag = void;
  bool reversed = false;
  index_t shared_limit = 227 * 1024;  ///< bytes that a block may share
  index_t most_blocks = 25;           ///< of a launch whose blocks take more than one task each
  int workers = 1;
};

/// One block, as one of several threads sees it.
struct threaded_block {
  index_t x, blocks;
  std::byte* memory;
  index_t worker, workers;
  std::barrier<>* meeting;

  template <class F>
  void each(index_t n, F const& f) const {
    for (index_t i = worker; i < n; i += workers) f(i);
    barrier();
  }
  void barrier() const { meeting->arrive_and_wait(); }
};

template <class Kernel>
void launch(host const& device, index_t tasks, Kernel const& kernel) {
  hoft::detail::require_at_most<workspace_error>("cuda::launch", "the memory that a block shares",
                                                 kernel.shared_bytes(), device.shared_limit);
  index_t const blocks = std::min(tasks, device.most_blocks);
  for (index_t b = 0; b < blocks; ++b) {
    index_t const x = device.reversed ? blocks - 1 - b : b;
    // Uninitialised memory is NaN here, and its length exact, so that what is read before it is written shows.
    std::vector<std::byte> shared(std::size_t(kernel.shared_bytes()), std::byte(0xFF));
    if (device.workers <= 1) {
      kernel(host_block{x, blocks, shared.data(), device.reversed});
      continue;
    }
    std::barrier<> meeting(device.workers);
    std::vector<std::jthread> others;
    auto const work = [&](index_t worker) {
      kernel(threaded_block{x, blocks, shared.data(), worker, device.workers, &meeting});
    };
    for (int worker = 1; worker < device.workers; ++worker) others.emplace_back(work, worker);
    work(0);
  }
}

/// There is no cuBLAS here: every product is a kernel.
template <class T, class LA, class LB, class LC>
bool multiply_matrices(host const&, T, matrix_view<T const, LA>, bool, matrix_view<T const, LB>, bool,
                       matrix_view<T const, LC>, matrix_view<T, LC>) {
  return false;
}

}  // namespace hoft::cuda
