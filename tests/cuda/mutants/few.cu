// SPDX-License-Identifier: BSD-3-Clause
// What mutants.py compiles for each change of the kernels: of the tests on a device those of one scalar a kind.
#include "../device.cu"

#define HOFT_TEST_SCALAR Eigen::half
#include "../device_calls.cu"
#include "../device_parts.cu"

#include "../transform_calls_of.hpp"

namespace hoft_test {

template struct transform_calls<device_machine, Eigen::bfloat16, hoft::col_major>;

}  // namespace hoft_test
