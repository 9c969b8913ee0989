// SPDX-License-Identifier: BSD-3-Clause
// Training on the GPU, each step a replay of one captured graph.
#pragma once
#include "device.hpp"

namespace hoft_test {

struct training_data;
struct training_result;

#if defined(HOFT_TEST_FEW_TRAINED_SCALARS)
#define HOFT_TRAINED_SCALARS float, Eigen::bfloat16
#else
#define HOFT_TRAINED_SCALARS float, double, Eigen::half, Eigen::bfloat16
#endif

/// `training_steps` steps with activations of T from `data` on, for each of HOFT_TRAINED_SCALARS.
template <class T>
training_result trained_on_device(training_data const& data);

}  // namespace hoft_test
