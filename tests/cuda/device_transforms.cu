// SPDX-License-Identifier: BSD-3-Clause
// The transforms on the GPU, as cuda_transforms_test.cpp has them on the host.
#include "device.hpp"
#include "transform_calls_of.hpp"

#include <hoft/cuda.hpp>

namespace hoft_test {

template struct transform_calls<device_machine, float, hoft::col_major>;
template struct transform_calls<device_machine, Eigen::half, hoft::row_major>;
template struct transform_calls<device_machine, Eigen::bfloat16, hoft::col_major>;

}  // namespace hoft_test
