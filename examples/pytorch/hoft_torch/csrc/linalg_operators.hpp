// SPDX-License-Identifier: BSD-3-Clause
// linalg_operators.hpp: the functions of one backend behind torch.ops.hoft's products of reflectors.
#pragma once
#include "householder.hpp"
#include "linalg.hpp"

#include <torch/library.h>

namespace hoft_torch {

inline void implement_linalg(torch::Library& library) {
  library.impl("householder", householder);
  library.impl("householder_backward", householder_backward);
  library.impl("householder_product", householder_product);
  library.impl("householder_product_backward", householder_product_backward);
  library.impl("ormqr", ormqr);
  library.impl("ormqr_backward", ormqr_backward);
}

}  // namespace hoft_torch
