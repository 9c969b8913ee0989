// SPDX-License-Identifier: BSD-3-Clause
// Every call, series and transforms too, on the GPU.
#pragma once
#include "../everything.hpp"
#include "device.hpp"

namespace hoft_test {

/// The results of everything<T, row_major> on the GPU.
template <class T>
named_results<T> everything_on_device(device_machine const& machine, shape const& s, bool scaled, bool keep_q,
                                      unsigned seed);

}  // namespace hoft_test
