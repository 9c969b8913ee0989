// hoft/config.hpp: the version and the few macros.
#pragma once

#define HOFT_VERSION_MAJOR 0
#define HOFT_VERSION_MINOR 1
#define HOFT_VERSION_PATCH 0

#if defined(__CUDACC__)
#define HOFT_HOST_DEVICE __host__ __device__
#else
#define HOFT_HOST_DEVICE
#endif

// The next loop has a constant number of turns and is written out in full, so that its arrays live in registers.
#if defined(__CUDA_ARCH__)
#define HOFT_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__)  // nvcc's pass for the host warns of all three
#define HOFT_UNROLL
#elif defined(__clang__)
#define HOFT_UNROLL _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#define HOFT_UNROLL _Pragma("GCC unroll 32")
#else
#define HOFT_UNROLL
#endif
// On a GPU the next loop is not unrolled: it seldom has more than one turn, and registers are few.
#if defined(__CUDA_ARCH__)
#define HOFT_KEEP_ROLLED _Pragma("unroll 1")
#else
#define HOFT_KEEP_ROLLED
#endif
