// SPDX-License-Identifier: BSD-3-Clause
// shapes.cpp: how the kernels of docs/internals/gpu-notes.md share a matrix among blocks, and what a block shares,
// without a GPU.
//   hoft_gpu_shapes [processors] [kilobytes a block] [blocks of a cluster]     by default 132, 227, 8
#include "cuda_on_host/host.hpp"
#include <hoft/hoft.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

namespace {

using hoft::index_t;
namespace cuda = hoft::cuda;

constexpr index_t tokens = 8192;

/// Clusters that hold all features, for a kernel that has its arguments but no shape.
template <class Kernel>
void print_whole(cuda::host const& device, char const* name, index_t m, index_t r, Kernel kernel) {
  kernel.shape = cuda::shape_whole(device, m, tokens, kernel);
  if (kernel.shape.size == 0) return;
  auto const& shape = kernel.shape;
  std::printf(
      "%5td %3td  %-24s clusters of %td, %td features each, %td clusters, %td threads, %td buffers, %td bytes\n", m, r,
      name, shape.size, shape.rows, shape.runs, shape.threads, shape.buffers, kernel.shared_bytes());
}

template <class T>
void print_kernels(cuda::host const& device, index_t m, index_t r) {
  cuda::cluster_adapt_kernel<T> apply{};
  apply.U = {nullptr, m, r};
  print_whole(device, "apply", m, r, apply);
  print_whole(device, "apply_backward", m, r, cuda::apply_backward_kernel<T>(m, r));
  hoft::arena count;
  auto const Q = hoft::carve_compact_wy<float>(count, m, r, r);
  std::vector<float> const ones(std::size_t(m), 1.0f);
  for (bool scaled : {false, true}) {
    hoft::vector_view<float const> const scale(scaled ? ones.data() : nullptr, scaled ? m : 0);
    hoft::adapter_view<float const> const a{hoft::compact_wy_view<float const>(Q),
                                            hoft::compact_wy_view<float const>(Q), scale};
    std::string const name = scaled ? "SHOFT " : "HOFT ";
    auto const kept = scaled ? hoft::saved_quantity::q : hoft::saved_quantity::y;
    print_whole(device, (name + "forward").c_str(), m, r, cuda::adapt_probe<T>(a, scaled, false));
    print_whole(device, (name + "backward").c_str(), m, r, cuda::backward_probe<T>(a, kept, false));
    print_whole(device, (name + "merge_backward").c_str(), m, r,
                cuda::backward_probe<T>(a, hoft::saved_quantity::base, false));
    hoft::arena forward, backward;
    cuda::adapt_room<T> const f(device, forward, a, tokens, scaled);
    cuda::adapt_backward_room<T> const b(device, backward, a, tokens, kept);
    auto const print_apart = [&](char const* pass, auto const& projecting, auto const& shape, index_t bytes) {
      std::printf("%5td %3td  %-24s projections: %td blocks of %td features; then %td blocks of %td; %td MB\n", m, r,
                  (name + pass).c_str(), projecting.clusters() * projecting.size, projecting.rows, shape.clusters(),
                  shape.rows, (bytes + 500000) / 1000000);
    };
    if (f.apart) print_apart("forward", f.projecting.shape, f.shape, forward.size());
    if (b.apart) print_apart("backward", b.projecting_G.shape, b.shape, backward.size());
  }
}

}  // namespace

int main(int count, char** arguments) try {
  auto const argument = [&](int i, index_t otherwise) {
    return count > i ? index_t(std::stoi(arguments[i])) : otherwise;
  };
  cuda::host device;
  device.most_blocks = argument(1, 132) * 8;
  device.shared_limit = argument(2, 227) * 1024;
  device.most_cluster = argument(3, 8);
  for (index_t m : {1024, 4096, 14336})
    for (index_t r : {16, 64}) {
      std::printf("bfloat16\n");
      print_kernels<Eigen::bfloat16>(device, m, r);
      std::printf("float\n");
      print_kernels<float>(device, m, r);
    }
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "hoft_gpu_shapes: %s\n", error.what());
  return 1;
}
