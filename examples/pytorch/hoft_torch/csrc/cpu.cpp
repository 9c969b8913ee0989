// cpu.cpp: the operators' names, and the operators on hoft's CPU backend, with torch's number of threads.
#include "tensors.hpp"

#include <ATen/Parallel.h>

#include <hoft/cpu/policy.hpp>
#include <hoft/cpu/primitives.hpp>
#include <hoft/eigen/scalar.hpp>

namespace hoft_torch {

inline hoft::cpu policy() { return {.threads = at::get_num_threads()}; }

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
