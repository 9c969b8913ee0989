// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/abi.hpp: the namespace of the GPU backend, which names the architectures that nvcc compiles for.
//
// A kernel, and the host's knowledge of which kernels there are, depend on nvcc's list. Two sources with different
// lists in one program would share both under one name: a GPU could be told of clusters that its code does not have.
#pragma once
#include <hoft/config.hpp>

// clang-format off
#define HOFT_CUDA_JOIN_1(a) sm_##a
#define HOFT_CUDA_JOIN_2(a, b) sm_##a##_##b
#define HOFT_CUDA_JOIN_3(a, b, c) sm_##a##_##b##_##c
#define HOFT_CUDA_JOIN_4(a, b, c, d) sm_##a##_##b##_##c##_##d
#define HOFT_CUDA_JOIN_5(a, b, c, d, e) sm_##a##_##b##_##c##_##d##_##e
#define HOFT_CUDA_JOIN_6(a, b, c, d, e, f) sm_##a##_##b##_##c##_##d##_##e##_##f
#define HOFT_CUDA_JOIN_7(a, b, c, d, e, f, g) sm_##a##_##b##_##c##_##d##_##e##_##f##_##g
#define HOFT_CUDA_JOIN_8(a, b, c, d, e, f, g, h) sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h
#define HOFT_CUDA_JOIN_9(a, b, c, d, e, f, g, h, i) sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h##_##i
#define HOFT_CUDA_JOIN_10(a, b, c, d, e, f, g, h, i, j) \
  sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h##_##i##_##j
#define HOFT_CUDA_JOIN_11(a, b, c, d, e, f, g, h, i, j, k) \
  sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h##_##i##_##j##_##k
#define HOFT_CUDA_JOIN_12(a, b, c, d, e, f, g, h, i, j, k, l) \
  sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h##_##i##_##j##_##k##_##l
#define HOFT_CUDA_JOIN_13(a, b, c, d, e, f, g, h, i, j, k, l, m) \
  sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h##_##i##_##j##_##k##_##l##_##m
#define HOFT_CUDA_JOIN_14(a, b, c, d, e, f, g, h, i, j, k, l, m, n) \
  sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h##_##i##_##j##_##k##_##l##_##m##_##n
#define HOFT_CUDA_JOIN_15(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o) \
  sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h##_##i##_##j##_##k##_##l##_##m##_##n##_##o
#define HOFT_CUDA_JOIN_16(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p) \
  sm_##a##_##b##_##c##_##d##_##e##_##f##_##g##_##h##_##i##_##j##_##k##_##l##_##m##_##n##_##o##_##p
// clang-format on

// The macro for as many architectures as the list has; a longer list ends in an undeclared name that says so.
#define HOFT_CUDA_PICK(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, picked, ...) picked
#define HOFT_CUDA_JOIN(...)                                                                                   \
  HOFT_CUDA_PICK(__VA_ARGS__, HOFT_CUDA_JOIN_16, HOFT_CUDA_JOIN_15, HOFT_CUDA_JOIN_14, HOFT_CUDA_JOIN_13,     \
                 HOFT_CUDA_JOIN_12, HOFT_CUDA_JOIN_11, HOFT_CUDA_JOIN_10, HOFT_CUDA_JOIN_9, HOFT_CUDA_JOIN_8, \
                 HOFT_CUDA_JOIN_7, HOFT_CUDA_JOIN_6, HOFT_CUDA_JOIN_5, HOFT_CUDA_JOIN_4, HOFT_CUDA_JOIN_3,    \
                 HOFT_CUDA_JOIN_2, HOFT_CUDA_JOIN_1, )                                                        \
  (__VA_ARGS__)

#if defined(__CUDA_ARCH_LIST__)
#define HOFT_ABI_ARCHITECTURES HOFT_CUDA_JOIN(__CUDA_ARCH_LIST__)
#else
#define HOFT_ABI_ARCHITECTURES no_kernels  // a source that nvcc does not compile, or the kernels as loops in tests
#endif
#define HOFT_CUDA_NAMESPACE HOFT_TARGET_NAMESPACE::cuda::inline HOFT_ABI_ARCHITECTURES
