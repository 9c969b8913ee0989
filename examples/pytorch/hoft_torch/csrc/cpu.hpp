// SPDX-License-Identifier: BSD-3-Clause
// cpu.hpp: hoft's CPU backend on torch's threads.
#pragma once
#include "tensors.hpp"

#include <ATen/Parallel.h>

#include <hoft/cpu/policy.hpp>
#include <hoft/cpu/backend.hpp>
#include <hoft/view/eigen.hpp>

#include <complex>
#include <cstdint>

namespace hoft_torch {

#ifndef INTRA_OP_PARALLEL
#error at::parallel_for would run everything on one thread: compile with -fopenmp, if PyTorch's threads are OpenMP's
#endif

/// Lends torch's threads. Within a parallel region at::parallel_for runs the shares one after another.
class torch_threads final : public hoft::executor {
  void run(hoft::index_t workers, share one, void* work) override {
    at::parallel_for(0, workers, 1, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t worker = first; worker < last; ++worker) one(work, worker);
    });
  }
};

inline hoft::cpu policy() {
  static torch_threads threads;
  return {.threads = at::get_num_threads(), .executor = &threads};
}

/// body(policy, first, last) on parts that make up [0, count): threads share the problems, and where there are fewer
/// problems than threads they share each. The bits are the same.
template <class Body>
void share_problems(index_t count, Body const& body) {
  if (count == 0) return;
  if (count < at::get_num_threads()) return body(policy(), index_t{0}, count);
  at::parallel_for(0, count, 1, [&](std::int64_t first, std::int64_t last) { body(hoft::cpu{}, first, last); });
}

template <class Body>
void dispatch(char const* function, at::ScalarType type, Body const& body) {
  if (type == at::kFloat) body(float{});
  else if (type == at::kDouble) body(double{});
  else if (type == at::kBFloat16) body(Eigen::bfloat16{});
  else if (type == at::kHalf) body(Eigen::half{});
  else TORCH_CHECK(false, function, ": ", type, " is not among float, double, bfloat16 and half");
}
/// The types of torch.linalg.
template <class Body>
void dispatch_linalg(char const* function, at::ScalarType type, Body const& body) {
  if (type == at::kFloat) body(float{});
  else if (type == at::kDouble) body(double{});
  else if (type == at::kComplexFloat) body(std::complex<float>{});
  else if (type == at::kComplexDouble) body(std::complex<double>{});
  else TORCH_CHECK(false, function, ": ", type, " is not among float, double and their complex types");
}
template <class Body>
void dispatch_householder(char const* function, at::ScalarType type, Body const& body) {
  if (type == at::kBFloat16) body(Eigen::bfloat16{});
  else if (type == at::kHalf) body(Eigen::half{});
  else dispatch_linalg(function, type, body);
}

}  // namespace hoft_torch
