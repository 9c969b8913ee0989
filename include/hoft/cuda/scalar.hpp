// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/scalar.hpp: CUDA's 16-bit types are stored in 16 bits and computed in float.
#pragma once
#include <hoft/core/scalar.hpp>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

namespace HOFT_NAMESPACE {

template <>
struct scalar_traits<__half> {
  using accumulator = float;
};

template <>
struct scalar_traits<__nv_bfloat16> {
  using accumulator = float;
};

template <>
inline constexpr int significand_bits<__half> = 11;
template <>
inline constexpr int significand_bits<__nv_bfloat16> = 8;

}  // namespace HOFT_NAMESPACE
