// cpu.cpp: the calls on hoft's CPU backend, so that all of the comparison runs where there is no GPU.
#include "calls.hpp"

#include <ATen/Parallel.h>

#include <hoft/cpu/policy.hpp>
#include <hoft/cpu/primitives.hpp>
#include <hoft/eigen/scalar.hpp>

namespace compare {

hoft::cpu policy() { return {.threads = at::get_num_threads()}; }

template <class F>
void dispatch(at::ScalarType type, F const& function) {
  if (type == at::kFloat) function(float{});
  else if (type == at::kDouble) function(double{});
  else if (type == at::kBFloat16) function(Eigen::bfloat16{});
  else TORCH_CHECK(false, "hoft: no computing with ", type, ", only with float, double and bfloat16");
}

}  // namespace compare

#include "layer.hpp"
