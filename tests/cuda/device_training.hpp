// Training on the GPU, each step a replay of one captured graph.
#pragma once
#include "device.hpp"

namespace hoft_test {

struct training_data;
struct training_result;

/// `training_steps` steps with activations of T from `data` on.
template <class T>
training_result trained_on_device(training_data const& data);

}  // namespace hoft_test
