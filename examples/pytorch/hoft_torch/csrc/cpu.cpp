// cpu.cpp: the operators' names, and the operators on hoft's CPU backend, by torch's threads.
#include "tensors.hpp"

#include <ATen/Parallel.h>

#include <hoft/cpu/policy.hpp>
#include <hoft/cpu/backend.hpp>
#include <hoft/view/eigen.hpp>

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

template <class Body>
void dispatch(char const* function, at::ScalarType type, Body const& body) {
  if (type == at::kFloat) body(float{});
  else if (type == at::kDouble) body(double{});
  else if (type == at::kBFloat16) body(Eigen::bfloat16{});
  else if (type == at::kHalf) body(Eigen::half{});
  else TORCH_CHECK(false, function, ": ", type, " is not among float, double, bfloat16 and half");
}

}  // namespace hoft_torch

#include "operators.hpp"

TORCH_LIBRARY(hoft, library) { hoft_torch::declare(library); }
TORCH_LIBRARY_IMPL(hoft, CPU, library) { hoft_torch::implement(library); }
