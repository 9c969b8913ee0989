// SPDX-License-Identifier: BSD-3-Clause
#include "spectrum.hpp"

#include <hoft/reference/singular_values.hpp>

namespace finetune {

Vector singular_values(Matrix const& W) { return hoft::singular_values(W); }

double singular_value_drift(Matrix const& M, Matrix const& Mhat) {
  return static_cast<double>(hoft::singular_value_drift(M, Mhat));
}

}  // namespace finetune
