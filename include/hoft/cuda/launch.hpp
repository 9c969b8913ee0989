// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/launch.hpp: what the backend asks of a device. `Device` is the policy of a GPU, or of the host that stands
// in for one in tests, or of a problem that records its launches (batch.hpp): it has launch_blocks(device, blocks,
// kernel), launch_clusters(...), multiplies(...) and multiply_matrices(...).
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/kernel/elements.hpp>
#include <hoft/cuda/tuning.hpp>
#include <hoft/view/vector_view.hpp>

#include <algorithm>

namespace HOFT_CUDA_NAMESPACE {

struct operations;  // backend.hpp

/// A policy of this backend.
template <class P>
concept device_policy = execution_policy<P> && requires {
  typename P::cuda_device_tag;
};

/// kernel(block) by as many blocks as there are tasks, at most `most_blocks`.
template <device_policy Device, class Kernel>
void launch(Device const& device, index_t tasks, Kernel const& kernel) {
  launch_blocks(device, (std::min)(tasks, device.most_blocks), kernel);
}

}  // namespace HOFT_CUDA_NAMESPACE
