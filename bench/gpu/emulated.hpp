// SPDX-License-Identifier: BSD-3-Clause
// emulated.hpp: whether a GPU is one.
#pragma once
#include <cuda_runtime_api.h>

#include <string_view>

namespace bench::gpu {

/// The device of tests/ptx says in its name that it is emulated: nothing that it calls a time is one.
inline bool is_emulated(cudaDeviceProp const& device) { return std::string_view(device.name).starts_with("emulated"); }

}  // namespace bench::gpu
