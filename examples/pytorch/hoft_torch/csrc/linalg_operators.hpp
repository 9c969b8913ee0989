// linalg_operators.hpp: the functions of one backend behind torch.ops.hoft's products of reflectors.
#pragma once
#include "householder.hpp"

#include <torch/library.h>

namespace hoft_torch {

inline void implement_linalg(torch::Library& library) {
  library.impl("householder", householder);
  library.impl("householder_backward", householder_backward);
}

}  // namespace hoft_torch
