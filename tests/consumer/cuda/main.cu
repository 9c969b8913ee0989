// SPDX-License-Identifier: BSD-3-Clause
// Compiled without Eigen in sight. On a machine without a GPU it ends before it computes.
#include <hoft/cuda.hpp>

#include <cstdio>
#include <vector>

#if defined(EIGEN_CORE_H) || defined(EIGEN_CORE_MODULE_H)
#error "hoft/cuda.hpp includes Eigen"
#endif

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::puts("no GPU");
    return 0;
  }
  cublasHandle_t blas;
  if (cublasCreate(&blas) != CUBLAS_STATUS_SUCCESS) return 1;
  auto const on = hoft::cuda::on(nullptr, blas);
  constexpr hoft::index_t m = 64, r = 4;
  std::vector<float> u(m * r, 0);
  for (hoft::index_t j = 0; j < r; ++j) u[std::size_t(j * m + j)] = 2;  // reflections of the first axes
  hoft::arena count;
  hoft::carve_compact_wy<float>(count, m, r, r);
  hoft::index_t const forms = count.size(), scratch = 1 << 20;
  std::byte* memory = nullptr;
  float *device_u = nullptr, *device_x = nullptr;
  if (cudaMalloc(&memory, std::size_t(forms + scratch)) != cudaSuccess) return 1;
  if (cudaMalloc(&device_u, u.size() * sizeof(float)) != cudaSuccess) return 1;
  if (cudaMalloc(&device_x, u.size() * sizeof(float)) != cudaSuccess) return 1;
  for (float* to : {device_u, device_x}) cudaMemcpy(to, u.data(), u.size() * sizeof(float), cudaMemcpyHostToDevice);
  hoft::arena arena({memory, forms});
  auto Q = hoft::carve_compact_wy<float>(arena, m, r, r);
  hoft::workspace const work{memory + forms, scratch};
  hoft::accumulate(on, hoft::matrix_view<float const>(device_u, m, r), Q, hoft::exact{}, work);
  hoft::matrix_view<float> const X(device_x, m, r);
  hoft::apply(on, Q, X, X, hoft::side::left, hoft::op::plain, work);
  std::vector<float> y(u.size());
  cudaMemcpy(y.data(), device_x, y.size() * sizeof(float), cudaMemcpyDeviceToHost);
  bool right = true;
  for (std::size_t i = 0; i < y.size(); ++i) right = right && y[i] == -u[i];
  cudaFree(device_u);
  cudaFree(device_x);
  cudaFree(memory);
  cublasDestroy(blas);
  std::puts(right ? "reflected" : "wrong");
  return right ? 0 : 1;
}
