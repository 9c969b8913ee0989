// SPDX-License-Identifier: BSD-3-Clause
// The calls on the GPU for one scalar, HOFT_TEST_SCALAR.
#include "calls_of.hpp"
#include "device.hpp"

#include <hoft/cuda.hpp>

namespace hoft_test {

template struct calls<device_machine, HOFT_TEST_SCALAR, hoft::col_major>;
template struct calls<device_machine, HOFT_TEST_SCALAR, hoft::row_major>;

}  // namespace hoft_test
