// hoft/cuda/host.hpp: the kernels of this backend, run by the host. Slow; it shows that their bodies are right where
// there is no GPU.
#pragma once
#include <hoft/cuda/primitives.hpp>

#include <cstddef>
#include <vector>

namespace hoft::cuda {

/// Every block in turn, every step of a block as a loop, backwards if `reversed`.
struct host {
  using execution_policy_tag = void;
  using cuda_device_tag = void;
  bool reversed = false;
  index_t shared_limit = 227 * 1024;  ///< bytes that a block may share
  index_t most_blocks = 25;           ///< of a launch whose blocks take more than one task each
};

template <class Kernel>
void launch(host const& device, index_t tasks, Kernel const& kernel) {
  // Uninitialised memory is NaN here, and its length exact, so that what is read before it is written shows.
  std::vector<std::byte> shared(std::size_t(kernel.shared_bytes()), std::byte(0xFF));
  index_t const blocks = std::min(tasks, device.most_blocks);
  for (index_t b = 0; b < blocks; ++b) {
    index_t const x = device.reversed ? blocks - 1 - b : b;
    kernel(host_block{x, 0, {blocks, 1}, shared.data(), device.reversed});
  }
}

/// There is no cuBLAS here: every product is a kernel.
template <class T, class LA, class LB, class LC>
bool multiply_matrices(host const&, T, matrix_view<T const, LA>, bool, matrix_view<T const, LB>, bool,
                       matrix_view<T const, LC>, matrix_view<T, LC>) {
  return false;
}

}  // namespace hoft::cuda
