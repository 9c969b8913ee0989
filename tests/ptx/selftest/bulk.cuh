// SPDX-License-Identifier: BSD-3-Clause
// Bulk copies by one thread, as both of the emulator's own programs take them.
#pragma once
#include <cstdint>

namespace bulk {

__device__ inline std::uint32_t shared(void const* at) { return std::uint32_t(__cvta_generic_to_shared(at)); }
__device__ inline void init(std::uint64_t* barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared(barrier)) : "memory");
}
__device__ inline void fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
__device__ inline void load(void* to, void const* from, std::uint32_t bytes, std::uint64_t* barrier) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(shared(barrier)), "r"(bytes)
               : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared(to)),
      "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(shared(barrier))
      : "memory");
}
__device__ inline void wait(std::uint64_t* barrier) {
  std::uint64_t phase;
  asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1];" : "=l"(phase) : "r"(shared(barrier)) : "memory");
  std::uint32_t over = 0;
  while (over == 0)
    asm volatile("{ .reg .pred p; mbarrier.try_wait.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                 : "=r"(over)
                 : "r"(shared(barrier)), "l"(phase)
                 : "memory");
}
__device__ inline void store(void* to, void const* from, std::uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(to)),
               "r"(shared(from)), "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
__device__ inline void wait_for_stores() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }

}  // namespace bulk
