// SPDX-License-Identifier: BSD-3-Clause
// One program of two sources for different GPU architectures (cuda.sh): each draws reflectors and normalises them.
#include <hoft/householder/compact_wy.hpp>
#include <hoft/memory/arena.hpp>

#include <cublas_v2.h>
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstdio>
#include <vector>

using draw_and_normalise = void(cudaStream_t, cublasHandle_t, hoft::compact_wy_view<float>, hoft::workspace);
draw_and_normalise draw_and_normalise_a, draw_and_normalise_b;

namespace {

constexpr hoft::index_t m = 300, r = 20;

std::vector<float> vectors_of(draw_and_normalise* call, cublasHandle_t blas) {
  hoft::arena count;
  hoft::carve_compact_wy<float>(count, m, r, r);
  hoft::index_t const form = count.size(), scratch = 1 << 22;
  std::byte* memory = nullptr;
  if (cudaMalloc(reinterpret_cast<void**>(&memory), std::size_t(form + scratch)) != cudaSuccess) return {};
  hoft::arena at(hoft::workspace{memory, form});
  auto const Q = hoft::carve_compact_wy<float>(at, m, r, r);
  call(nullptr, blas, Q, {memory + form, scratch});
  std::vector<float> vectors(std::size_t(m * r));
  for (hoft::index_t j = 0; j < r; ++j)
    cudaMemcpy(&vectors[std::size_t(j * m)], &Q.vectors(0, j), m * sizeof(float), cudaMemcpyDeviceToHost);
  cudaFree(memory);
  return vectors;
}

}  // namespace

int main() {
  cublasHandle_t blas{};
  cublasCreate(&blas);
  auto const a = vectors_of(draw_and_normalise_a, blas), b = vectors_of(draw_and_normalise_b, blas);
  cublasDestroy(blas);
  if (a.empty() || b.empty() || cudaGetLastError() != cudaSuccess) return std::puts("FAILED: an error of CUDA"), 1;
  for (hoft::index_t j = 0; j < r; ++j) {
    double norm = 0;
    for (hoft::index_t i = j * m; i < (j + 1) * m; ++i) {
      double const x = double(a[std::size_t(i)]), y = double(b[std::size_t(i)]);
      norm += x * x;
      if (!(std::abs(x - y) <= 1e-6)) return std::puts("FAILED: the architectures draw other reflectors"), 1;
    }
    if (!(std::abs(norm - 1) <= 1e-5)) return std::puts("FAILED: not normalised"), 1;
  }
  std::puts("both architectures' code was run, with the same numbers");
}
