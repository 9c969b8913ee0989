// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/block/block.hpp: what a kernel sees of the threads that run it.
//
// A kernel is a function object called with a block. Its body is a sequence of steps, block.each(n, f): f(i) for every
// i in [0, n), by as many threads as there are, and a barrier behind it. Within a step no f may read what another f
// writes; variables outside a step have one value for the whole block. So a body says what is parallel and not how:
// threads of a GPU run it, and so does a loop on the host, in any order, which is how it is tested where there is no
// GPU. More kinds of step: block.each_line(lines, n, f), f(l, i) for every i < n of every line, a warp to a line, so
// that no index is divided; block.each_warp(n, f), f(warp, i) by a warp each (warp.hpp); block.each_warp_twice(n, f,
// g), two such steps for at most as many as there are warps, g(warp, i, what f answered). block.start_each and
// block.start_each_warp have no barrier: nobody reads what they write before that of a later step. Nor have copies of
// 16 bytes, n along each line, of which f(l) tells the first: block.fetch(lines, n, f) begins some whose ends
// block.fetched() waits for, and block.start_copy(lines, n, f) some from shared memory, which nobody writes to before
// block.stored() or block.fetched().
//
// A kernel may be called with a cluster instead: blocks that run at the same time and read each other's memory.
// cluster.members(f) calls f(block, member) for each of them, cluster.barrier() waits for all, and
// cluster.of_member(other, block, p) is p, in the memory of `block`, at its place in the other's. What goes from one
// call of members to the next is memory, and what cluster.hold(f) has made for each block, f(block, member):
// members(held, f) calls f(block, its own).
#pragma once
#include <hoft/backend/scalar_math.hpp>
#include <hoft/cuda/block/warp.hpp>
#include <hoft/view/matrix_view.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#include <cub/block/block_reduce.cuh>
#include <cuda_pipeline_primitives.h>  // of architectures without bulk copies
#endif

namespace HOFT_CUDA_NAMESPACE {

// Lambdas that are handed to a kernel. (nvcc keeps one that may run on either side in memory of its own.)
#if defined(__CUDACC__)
#define HOFT_KERNEL_LAMBDA __device__
#else
#define HOFT_KERNEL_LAMBDA
#endif

/// Threads of a block. Of those of clusters a processor runs two, or one with twice the threads; of others as many as
/// its threads allow.
inline constexpr int threads = 256;
inline constexpr int warps = threads / lanes;
/// What a cluster is made of.
struct cluster_size {
  index_t blocks = 1;
  index_t threads = cuda::threads;  ///< of each block: as many, or twice as many
  bool operator==(cluster_size const&) const = default;
};

/// What is copied at a time, and from where to where: aligned like its size.
struct alignas(16) chunk {
  std::uint32_t word[4];
};
struct chunk_copy {
  void* to;
  void const* from;
};

/// Bytes of shared memory in front of a block's own: the barrier that copies arrive at.
inline constexpr index_t memory_in_front = 16;

#if defined(__CUDACC__)
/// One block of the device.
struct thread_block {
  using warp_type = lane_warp;
  index_t x, blocks;  ///< which one of how many
  std::byte* memory;  ///< behind memory_in_front
  int size;           ///< threads

  /// The same block, as one of others.
  __device__ thread_block share(index_t x_, index_t blocks_) const { return {x_, blocks_, memory, size}; }
  __device__ int warps() const { return int(unsigned(size) / lanes); }
  template <class N, class F>
  __device__ void each(N n, F const& f) const {
    start_each(n, f);
    __syncthreads();
  }
  template <class N, class F>
  __device__ void start_each(N n, F const& f) const {
    for (N i = N(threadIdx.x); i < n; i += size) f(i);
  }
  template <class F>
  __device__ void each_line(index_t lines_, index_t n, F const& f) const {
    for (int l = warp(); l < int(lines_); l += warps())
      for (int i = lane(); i < int(n); i += lanes) f(l, i);
    __syncthreads();
  }
  template <class F>
  __device__ void each_warp(index_t n, F const& f) const {
    start_each_warp(n, f);
    __syncthreads();
  }
  template <class F>
  __device__ void start_each_warp(index_t n, F const& f) const {
    HOFT_KEEP_ROLLED
    for (int i = warp(); i < int(n); i += warps()) f(lane_warp{}, i);
  }
  template <class F, class G>
  __device__ void each_warp_twice(index_t n, F const& f, G const& g) const {
    int const i = warp();
    decltype(f(lane_warp{}, i)) kept;
    if (i < int(n)) kept = f(lane_warp{}, i);
    __syncthreads();
    if (i < int(n)) g(lane_warp{}, i, kept);
    __syncthreads();
  }
#if __CUDA_ARCH__ >= 900
  // Whole lines, each by a lane of the first warp. What threads write to shared memory and block.start_copy reads is
  // shown to it by fence_copies.
  __device__ void begin() const {
    if (threadIdx.x == 0) {
      asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(arrival()) : "memory");
      asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    __syncthreads();
  }
  __device__ void end() const {
    if (warp() == 0) wait_for_stores();
  }
  template <class F>
  __device__ void start_copy(index_t lines_, index_t n, F const& f) const {
    if (warp() != 0 || n == 0) return;
    HOFT_KEEP_ROLLED
    for (int l = lane(); l < int(lines_); l += lanes) {
      chunk_copy const line = f(l);
      asm volatile(
          "cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(line.to)),
          "r"(std::uint32_t(__cvta_generic_to_shared(line.from))), "r"(std::uint32_t(n * sizeof(chunk)))
          : "memory");
    }
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
  }
  template <class F>
  __device__ void fetch(index_t lines_, index_t n, F const& f) const {
    if (warp() != 0 || n == 0) return;
    lane_warp::fence_copies();
    HOFT_KEEP_ROLLED
    for (int l = lane(); l < int(lines_); l += lanes) {
      chunk_copy const line = f(l);
      auto const bytes = std::uint32_t(n * sizeof(chunk));
      asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(arrival()), "r"(bytes) : "memory");
      asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                       std::uint32_t(__cvta_generic_to_shared(line.to))),
                   "l"(__cvta_generic_to_global(line.from)), "r"(bytes), "r"(arrival())
                   : "memory");
    }
    __syncwarp();  // no lane waits before all have told what is to come
  }
  __device__ void stored() const {
    if (warp() == 0) wait_for_stores();
    __syncthreads();
  }
  __device__ void fetched() const {
    if (warp() == 0) {
      wait_for_stores();
      if (lane() == 0) wait_for_copies();
    }
    __syncthreads();
  }
#else
  __device__ void begin() const {}
  __device__ void end() const {}
  template <class F>
  __device__ void start_copy(index_t lines_, index_t n, F const& f) const {
    for (int l = warp(); l < int(lines_); l += warps()) {
      chunk_copy const line = f(l);
      chunk const* from = static_cast<chunk const*>(line.from) + lane();
      chunk* to = static_cast<chunk*>(line.to) + lane();
      HOFT_UNROLL_TWICE
      for (int i = lane(); i < int(n); i += lanes, from += lanes, to += lanes) *to = *from;
    }
  }
  template <class F>
  __device__ void fetch(index_t lines_, index_t n, F const& f) const {
    for (int l = warp(); l < int(lines_); l += warps()) {
      chunk_copy const line = f(l);
      auto from = __cvta_generic_to_global(static_cast<chunk const*>(line.from) + lane());
      auto to = std::uint32_t(__cvta_generic_to_shared(static_cast<chunk*>(line.to) + lane()));
      constexpr unsigned step = lanes * sizeof(chunk);
      HOFT_UNROLL_TWICE
      for (int i = lane(); i < int(n); i += lanes, from += step, to += step)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
    }
    __pipeline_commit();
  }
  __device__ void stored() const { __syncthreads(); }
  __device__ void fetched() const {
    __pipeline_wait_prior(0);
    __syncthreads();
  }
#endif
  /// f(0), ..., f(threads - 1) combined in a fixed order, the same for all; by blocks of no more threads. partial
  /// [threads], shared.
  template <class T, class F, class Combine>
  __device__ T combined(T* partial, F const& f, Combine const& combine) const {
    using reduction = cub::BlockReduce<T, threads, cub::BLOCK_REDUCE_WARP_REDUCTIONS>;
    using storage = typename reduction::TempStorage;
    static_assert(sizeof(storage) <= threads * sizeof(T));
    T const total = reduction(*reinterpret_cast<storage*>(partial)).Reduce(f(index_t(threadIdx.x)), combine);
    __syncthreads();
    if (threadIdx.x == 0) partial[0] = total;
    __syncthreads();
    T const all = partial[0];
    __syncthreads();  // before a thread writes to `partial` again
    return all;
  }
  __device__ void barrier() const { __syncthreads(); }

 private:
  __device__ static int warp() { return int(threadIdx.x / lanes); }
  __device__ static int lane() { return int(threadIdx.x % lanes); }
#if __CUDA_ARCH__ >= 900
  /// The barrier in memory.
  __device__ std::uint32_t arrival() const {
    return std::uint32_t(__cvta_generic_to_shared(memory)) - std::uint32_t(memory_in_front);
  }
  __device__ void wait_for_copies() const {
    std::uint64_t phase;
    asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1];" : "=l"(phase) : "r"(arrival()) : "memory");
    std::uint32_t over = 0;
    while (over == 0)
      asm volatile("{ .reg .pred p; mbarrier.try_wait.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }"
                   : "=r"(over)
                   : "r"(arrival()), "l"(phase)
                   : "memory");
  }
  /// What this thread has begun to copy from shared memory has been read.
  __device__ static void wait_for_stores() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
#endif
};

/// The blocks of a cluster, of which the calling thread sees its own.
struct thread_cluster {
  index_t x, clusters;  ///< which one of how many
  thread_block block;
  index_t size;

  __device__ thread_cluster share(index_t x_, index_t clusters_) const {
    return {x_, clusters_, block.share(x_, clusters_), size};
  }
  template <class F>
  __device__ auto hold(F const& f) const {
    return f(block, rank());
  }
  template <class F>
  __device__ void members(F const& f) const {
    f(block, rank());
  }
  template <class Held, class F>
  __device__ void members(Held const& held, F const& f) const {
    f(block, held);
  }
#if __CUDA_ARCH__ >= 900
  __device__ index_t rank() const {
    return size == 1 ? index_t(0) : index_t(cooperative_groups::this_cluster().block_rank());
  }
  __device__ void barrier() const {
    if (size == 1) __syncthreads();
    else cooperative_groups::this_cluster().sync();
  }
  template <class T>
  __device__ T* of_member(index_t member, thread_block const&, T* mine) const {
    return size == 1 ? mine : cooperative_groups::this_cluster().map_shared_rank(mine, unsigned(member));
  }
#else  // no clusters of several blocks
  __device__ index_t rank() const { return 0; }
  __device__ void barrier() const { __syncthreads(); }
  template <class T>
  __device__ T* of_member(index_t, thread_block const&, T* mine) const {
    return mine;
  }
#endif
};
#endif

/// Cuts the shared memory of a block. Built without memory it only counts.
class shared_arena {
 public:
  shared_arena() = default;
  HOFT_HOST_DEVICE constexpr explicit shared_arena(std::byte* memory) : memory_(memory) {}
  template <class T>
  HOFT_HOST_DEVICE T* array(index_t count) {
    std::byte* at = memory_;
#if !defined(__CUDA_ARCH__)  // a device does not count
    if (at != nullptr)
#endif
      at += size_;
    size_ += (count * index_t(sizeof(T)) + 15) / 16 * 16;
    return reinterpret_cast<T*>(at);
  }
  HOFT_HOST_DEVICE constexpr index_t size() const { return size_; }

 private:
  std::byte* memory_ = nullptr;
  index_t size_ = 0;
};

/// e = quotient n + remainder, for numbers below 2³²: in 64 bits a GPU takes several times as long.
struct division {
  index_t quotient, remainder;
};
HOFT_HOST_DEVICE constexpr division divide(index_t e, index_t n) {
  auto const e32 = std::uint32_t(e), n32 = std::uint32_t(n);
  return {index_t(e32 / n32), index_t(e32 % n32)};
}

// Declarations, not a directive: warp.hpp has a multiply_add of its own.
using scalar_math::conjugate_if;
using scalar_math::divided;
using scalar_math::is_safe_sum;
using scalar_math::larger;
using scalar_math::magnitude;
using scalar_math::multiply_add;
using scalar_math::negative;
using scalar_math::over_real;
using scalar_math::power_of_two_below;
using scalar_math::product;
using scalar_math::quotient;
using scalar_math::real_part;
using scalar_math::square_root;
using scalar_math::squared;
using scalar_math::sum;
using scalar_math::times_real;

}  // namespace HOFT_CUDA_NAMESPACE
