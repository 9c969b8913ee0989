// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/float_modes.hpp: the modes of floating-point arithmetic that results depend on, from one thread to another.
#pragma once
#include <hoft/config.hpp>

#include <cfenv>
#include <cstdint>

namespace HOFT_TARGET_NAMESPACE::cpu_backend {

/// How a thread rounds and whether it flushes subnormal numbers to zero. Each thread has modes of its own: those of a
/// pool have what was set when they started. What traps, and which exceptions were raised, stays the thread's own. On
/// processors other than x86 and 64-bit ARM, and for other compilers than g++ and clang, it is rounding only.
class float_modes {
 public:
  static float_modes of_this_thread() noexcept {
    float_modes now;
    now.rounding_ = std::fegetround();
#if defined(__SSE__) && defined(__GNUC__)
    now.vectors_ = __builtin_ia32_stmxcsr() & mask;
#elif defined(__aarch64__) && defined(__GNUC__)
    __asm__ volatile("mrs %0, fpcr" : "=r"(now.vectors_));
    now.vectors_ &= mask;
#endif
    return now;
  }

  void set() const noexcept {
    // No arithmetic of before or after may move to the other side: what it reads and writes is in memory.
    barrier();
    if (rounding_ >= 0) std::fesetround(rounding_);  // of the x87 unit too, whose numbers are long double
#if defined(__SSE__) && defined(__GNUC__)
    __builtin_ia32_ldmxcsr((__builtin_ia32_stmxcsr() & ~mask) | vectors_);
#elif defined(__aarch64__) && defined(__GNUC__)
    word all = 0;
    __asm__ volatile("mrs %0, fpcr" : "=r"(all));
    all = (all & ~mask) | vectors_;
    __asm__ volatile("msr fpcr, %0" : : "r"(all));
#endif
    barrier();
  }

  bool operator==(float_modes const&) const = default;

 private:
#if defined(__SSE__) && defined(__GNUC__)
  using word = unsigned;
  static constexpr word mask = 0xE040;  // flush to zero, rounding, denormals are zero
#else
  using word = std::uint64_t;
  static constexpr word mask = 0x07C80007;  // FPCR: AHP, DN, FZ, RMode, FZ16; NEP, AH, FIZ
#endif

  static void barrier() {
#if defined(__GNUC__)
    __asm__ volatile("" : : : "memory");
#endif
  }

  int rounding_ = 0;  ///< negative where the system does not tell
  word vectors_ = 0;  ///< of MXCSR or FPCR
};

/// This thread computes in the modes of another, as long as this lives.
class float_modes_scope {
 public:
  explicit float_modes_scope(float_modes const& others) noexcept : differ_(!(own_ == others)) {
    if (differ_) others.set();
  }
  float_modes_scope(float_modes_scope const&) = delete;
  ~float_modes_scope() {
    if (differ_) own_.set();
  }

 private:
  float_modes const own_ = float_modes::of_this_thread();
  bool const differ_;
};

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
