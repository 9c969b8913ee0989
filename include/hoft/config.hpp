// SPDX-License-Identifier: BSD-3-Clause
// hoft/config.hpp: what every header needs of the compiler.
#pragma once
#include <hoft/abi.hpp>

#if defined(_MSVC_LANG) ? _MSVC_LANG < 202002L : __cplusplus < 202000L
#error "hoft needs C++20. Compile with -std=c++20 or newer (MSVC: /std:c++20)."
#endif
// hoft reports bad arguments by exceptions, and lets NaN and infinity come out as NaN. Builds that have neither would
// be silently wrong, so they are refused here.
#if defined(__GNUC__) && !defined(__EXCEPTIONS) && !defined(__cpp_exceptions)
#error "hoft needs exceptions: bad arguments are reported by them. Compile without -fno-exceptions."
#endif
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "hoft needs IEEE arithmetic: with -ffast-math or -ffinite-math-only NaN would go unnoticed. Compile without it."
#endif

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
#define HOFT_UNROLL_TWICE _Pragma("unroll 2")
#else
#define HOFT_KEEP_ROLLED
#define HOFT_UNROLL_TWICE
#endif
