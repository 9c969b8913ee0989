// SPDX-License-Identifier: BSD-3-Clause
// What the programs here share: an error ends them with a name.
#pragma once
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#define CHECK_CUDA(call)                                                                    \
  do {                                                                                      \
    cudaError_t const answer_ = (call);                                                     \
    if (answer_ != cudaSuccess) {                                                           \
      std::printf("%s:%d: %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorName(answer_)); \
      std::exit(2);                                                                         \
    }                                                                                       \
  } while (false)
#define CHECK_TRUE(what)                                             \
  do {                                                               \
    if (!(what)) {                                                   \
      std::printf("%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
      std::exit(1);                                                  \
    }                                                                \
  } while (false)

template <class T>
T* device_copy(std::vector<T> const& from) {
  T* to = nullptr;
  CHECK_CUDA(cudaMalloc(&to, from.size() * sizeof(T)));
  CHECK_CUDA(cudaMemcpy(to, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice));
  return to;
}
template <class T>
std::vector<T> host_copy(T const* from, std::size_t count) {
  std::vector<T> to(count);
  CHECK_CUDA(cudaMemcpy(to.data(), from, count * sizeof(T), cudaMemcpyDeviceToHost));
  return to;
}
