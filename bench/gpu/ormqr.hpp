// SPDX-License-Identifier: BSD-3-Clause
// ormqr.hpp: LAPACK's way to apply a product of reflectors, on a GPU: a peer of apply.
#pragma once
#include <cuda_runtime_api.h>

#include <functional>

namespace bench::gpu {

/// A call of it submits X := H₁⋯H_r X to the stream, of reflectors (v, tau) in V [m, r] and X [m, t], all on the
/// device. Empty where the program has no library for it.
std::function<void()> make_ormqr(cudaStream_t stream, float const* V, float const* tau, float* X, int m, int t, int r);

}  // namespace bench::gpu
