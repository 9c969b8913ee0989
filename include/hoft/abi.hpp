// SPDX-License-Identifier: BSD-3-Clause
// hoft/abi.hpp: what belongs to the name of every symbol, so that sources of one program that were compiled differently
// never share a function by mistake.
//
// The linker keeps one copy of an inline function or template instance. Where two sources compile it to different code
// (another version of hoft, another instruction set, another list of GPU architectures), one of them would run the
// other's. Inline namespaces tell the copies apart; users write hoft::apply as if they were not there.
//
//   HOFT_NAMESPACE         hoft::v0_2                    views, options, errors, workspace: the same for every
//                                                        instruction set, so that they may pass between sources
//   HOFT_TARGET_NAMESPACE  hoft::v0_2::avx2_fma_f16c     all that computes
//   HOFT_CUDA_NAMESPACE    ...::cuda::sm_800_900         the GPU backend (cuda/abi.hpp)
#pragma once
#include <hoft/version.hpp>

// Joins up to nine pieces, any of which may be empty. The second macro lets arguments expand first.
#define HOFT_ABI_JOIN_EXPANDED(a, b, c, d, e, f, g, h, i) a##b##c##d##e##f##g##h##i
#define HOFT_ABI_JOIN(a, b, c, d, e, f, g, h, i) HOFT_ABI_JOIN_EXPANDED(a, b, c, d, e, f, g, h, i)

// Views with bounds checks are other types than views without.
#if defined(HOFT_CHECK_BOUNDS)
#define HOFT_ABI_CHECKS _checked
#else
#define HOFT_ABI_CHECKS
#endif
#define HOFT_ABI_VERSION HOFT_ABI_JOIN(v, HOFT_VERSION_MAJOR, _, HOFT_VERSION_MINOR, HOFT_ABI_CHECKS, , , , )

// --- the instruction set: everything that Eigen's vectors depend on, and what the compiler may use beside them ------

#if defined(EIGEN_DONT_VECTORIZE)
#define HOFT_ABI_EIGEN _scalar
#else
#define HOFT_ABI_EIGEN
#endif

#if defined(__AVX512F__)
#define HOFT_ABI_VECTORS avx512
#elif defined(__AVX2__)
#define HOFT_ABI_VECTORS avx2
#elif defined(__AVX__)
#define HOFT_ABI_VECTORS avx
#elif defined(__SSE4_2__)
#define HOFT_ABI_VECTORS sse42
#elif defined(__SSE4_1__)
#define HOFT_ABI_VECTORS sse41
#elif defined(__SSSE3__)
#define HOFT_ABI_VECTORS ssse3
#elif defined(__SSE3__)
#define HOFT_ABI_VECTORS sse3
#elif defined(__SSE2__) || defined(_M_X64)
#define HOFT_ABI_VECTORS sse2
#elif defined(__ARM_FEATURE_SVE)
#define HOFT_ABI_VECTORS sve
#elif defined(__ARM_NEON) || defined(_M_ARM64)
#define HOFT_ABI_VECTORS neon
#elif defined(__VSX__)
#define HOFT_ABI_VECTORS vsx
#elif defined(__ALTIVEC__)
#define HOFT_ABI_VECTORS altivec
#elif defined(__VEC__)
#define HOFT_ABI_VECTORS zvector
#elif defined(__mips_msa)
#define HOFT_ABI_VECTORS msa
#elif defined(__riscv_vector)
#define HOFT_ABI_VECTORS rvv
#else
#define HOFT_ABI_VECTORS generic
#endif

#if defined(__FMA__) || defined(__FMA4__) || defined(__ARM_FEATURE_FMA)
#define HOFT_ABI_FMA _fma
#else
#define HOFT_ABI_FMA
#endif
#if defined(__F16C__)
#define HOFT_ABI_HALF _f16c
#elif defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define HOFT_ABI_HALF _fp16
#else
#define HOFT_ABI_HALF
#endif
#if defined(__BMI2__)
#define HOFT_ABI_BITS _bmi2
#else
#define HOFT_ABI_BITS
#endif
// Eigen takes 512-bit vectors as a whole only where DQ is there too; VL and BW change what compilers emit for all.
#if defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define HOFT_ABI_AVX512 _dqbwvl
#elif defined(__AVX512DQ__)
#define HOFT_ABI_AVX512 _dq
#elif defined(__ARM_FEATURE_SVE_BITS) && __ARM_FEATURE_SVE_BITS > 0
#define HOFT_ABI_AVX512 HOFT_ABI_JOIN(_, __ARM_FEATURE_SVE_BITS, , , , , , , )
#else
#define HOFT_ABI_AVX512
#endif
#if defined(__AVX512FP16__)
#define HOFT_ABI_AVX512_HALF _fp16
#else
#define HOFT_ABI_AVX512_HALF
#endif
#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16)
#define HOFT_ABI_BFLOAT16 _bf16
#else
#define HOFT_ABI_BFLOAT16
#endif
#if defined(__AMX_BF16__) || defined(__AMXBF16__)  // as g++ and older clang spell it
#define HOFT_ABI_TILES _amx
#else
#define HOFT_ABI_TILES
#endif

#define HOFT_ABI_TARGET                                                                                              \
  HOFT_ABI_JOIN(HOFT_ABI_VECTORS, HOFT_ABI_FMA, HOFT_ABI_HALF, HOFT_ABI_BITS, HOFT_ABI_AVX512, HOFT_ABI_AVX512_HALF, \
                HOFT_ABI_BFLOAT16, HOFT_ABI_TILES, HOFT_ABI_EIGEN)

#define HOFT_NAMESPACE hoft::inline HOFT_ABI_VERSION
#define HOFT_TARGET_NAMESPACE hoft::inline HOFT_ABI_VERSION::inline HOFT_ABI_TARGET
