// SPDX-License-Identifier: BSD-3-Clause
// The device's side of all tests as one source: several of its parts instantiate the same kernels, which are compiled
// once here, in less than half of the time. For machines with few cores and no GPU.
#include "device.cu"
#include "device_everything.cu"
#include "device_only.cu"
#include "device_training.cu"
#include "device_transforms.cu"

#include <complex>

// The scalars of HOFT_CUDA_SCALARS (bodies.hpp).
#define HOFT_TEST_SCALAR std::complex<float>
#include "device_calls.cu"
#undef HOFT_TEST_SCALAR
#define HOFT_TEST_SCALAR Eigen::half
#include "device_calls.cu"
#undef HOFT_TEST_SCALAR
#if !defined(HOFT_TEST_FEW_SCALARS)
#define HOFT_TEST_SCALAR float
#include "device_calls.cu"
#undef HOFT_TEST_SCALAR
#if defined(HOFT_TEST_EMULATED)
#include "device_parts.cu"
#else
#define HOFT_TEST_SCALAR double
#include "device_calls.cu"
#undef HOFT_TEST_SCALAR
#define HOFT_TEST_SCALAR Eigen::bfloat16
#include "device_calls.cu"
#endif
#endif
