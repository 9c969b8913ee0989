// SPDX-License-Identifier: BSD-3-Clause
// spectrum.hpp: hoft's measures of singular values, compiled apart: they take as long to compile as the training.
#pragma once
#include "images.hpp"

namespace finetune {

/// In decreasing order.
Vector singular_values(Matrix const& W);

/// The largest change of a singular value, relative to the largest one of M.
double singular_value_drift(Matrix const& M, Matrix const& Mhat);

}  // namespace finetune
