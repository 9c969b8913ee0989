// hoft/cuda/block/block.hpp: what a kernel sees of the threads that run it.
//
// A kernel is a function object called with a block. Its body is a sequence of steps, block.each(n, f): f(i) for every
// i in [0, n), by as many threads as there are, and a barrier behind it. Within a step no f may read what another f
// writes; variables outside a step have one value for the whole block. So a body says what is parallel and not how:
// threads of a GPU run it, and so does a loop on the host, in any order, which is how it is tested where there is no
// GPU. More kinds of step: block.each_line(lines, n, f), f(l, i) for every i < n of every line, a warp to a line, so
// that no index is divided; block.each_warp(n, f), f(warp, i) by a warp each (warp.hpp); block.each_warp_twice(n, f,
// g), two such steps for at most as many as there are warps, g(warp, i, what f answered); and block.fetch(lines, n, f),
// which begins copies of 16 bytes whose ends block.fetched() waits for.
//
// A kernel may be called with a cluster instead: blocks that run at the same time and read each other's memory.
// cluster.members(f) calls f(block, member) for each of them, cluster.barrier() waits for all, and
// cluster.of_member(other, block, p) is p, in the memory of `block`, at its place in the other's. Nothing but memory
// goes from one call of members to the next.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/cuda/block/warp.hpp>
#include <hoft/view/matrix_view.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#include <cub/block/block_reduce.cuh>
#include <cuda_pipeline_primitives.h>
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

/// What block.fetch copies at a time, and from where to where: aligned like its size.
struct alignas(16) chunk {
  std::uint32_t word[4];
};
struct chunk_copy {
  void* to;
  void const* from;
};

#if defined(__CUDACC__)
/// One block of the device.
struct thread_block {
  index_t x, blocks;  ///< which one of how many
  std::byte* memory;
  int size;  ///< threads

  /// The same block, as one of others.
  __device__ thread_block share(index_t x_, index_t blocks_) const { return {x_, blocks_, memory, size}; }
  __device__ int warps() const { return size / lanes; }
  template <class F>
  __device__ void each(index_t n, F const& f) const {
    for (index_t i = threadIdx.x; i < n; i += size) f(i);
    __syncthreads();
  }
  template <class F>
  __device__ void each_line(index_t lines, index_t n, F const& f) const {
    in_lines(lines, n, f);
    __syncthreads();
  }
  template <class F>
  __device__ void each_warp(index_t n, F const& f) const {
    for (int i = int(threadIdx.x) / lanes; i < int(n); i += warps()) f(lane_warp{}, i);
    __syncthreads();
  }
  template <class F, class G>
  __device__ void each_warp_twice(index_t n, F const& f, G const& g) const {
    int const i = int(threadIdx.x) / lanes;
    decltype(f(lane_warp{}, i)) kept;
    if (i < int(n)) kept = f(lane_warp{}, i);
    __syncthreads();
    if (i < int(n)) g(lane_warp{}, i, kept);
    __syncthreads();
  }
  template <class F>
  __device__ void fetch(index_t lines, index_t n, F const& f) const {
    in_lines(lines, n, [&](int l, int i) {
      chunk_copy const c = f(l, i);
      __pipeline_memcpy_async(c.to, c.from, sizeof(chunk));
    });
    __pipeline_commit();
  }
  __device__ void fetched() const {
    __pipeline_wait_prior(0);
    __syncthreads();
  }
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
    __syncthreads();  // before somebody writes to `partial` again
    return all;
  }
  __device__ void barrier() const { __syncthreads(); }

 private:
  template <class F>
  __device__ void in_lines(index_t lines_, index_t n, F const& f) const {
    for (int l = int(threadIdx.x) / lanes; l < int(lines_); l += warps())
      for (int i = int(threadIdx.x) % lanes; i < int(n); i += lanes) f(l, i);
  }
};

/// The blocks of a cluster, of which the calling thread sees its own.
struct thread_cluster {
  index_t x, clusters;  ///< which one of how many
  thread_block block;
  index_t size;

  __device__ thread_cluster share(index_t x_, index_t clusters_) const {
    return {x_, clusters_, block.share(x_, clusters_), size};
  }
#if __CUDA_ARCH__ >= 900
  template <class F>
  __device__ void members(F const& f) const {
    f(block, size == 1 ? index_t(0) : index_t(cooperative_groups::this_cluster().block_rank()));
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
  template <class F>
  __device__ void members(F const& f) const {
    f(block, index_t(0));
  }
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
    std::byte* const at = memory_ == nullptr ? nullptr : memory_ + size_;
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

// --- arithmetic of accumulators, real and complex, on both sides ------------------------------------------------

template <class T>
HOFT_HOST_DEVICE constexpr T product(T const& a, T const& b) {
  if constexpr (is_complex<T>)
    return T(a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real());
  else return a * b;
}
template <class T>
HOFT_HOST_DEVICE constexpr T sum(T const& a, T const& b) {
  if constexpr (is_complex<T>) return T(a.real() + b.real(), a.imag() + b.imag());
  else return a + b;
}
template <class T>
HOFT_HOST_DEVICE constexpr T negative(T const& a) {
  if constexpr (is_complex<T>) return T(-a.real(), -a.imag());
  else return -a;
}
template <class T>
HOFT_HOST_DEVICE constexpr T multiply_add(T const& a, T const& b, T const& c) {
  return sum(product(a, b), c);
}
template <class T>
HOFT_HOST_DEVICE constexpr T quotient(T const& a, T const& b) {
  if constexpr (is_complex<T>) {  // scaled by the larger part of b: no square overflows that the result does not
    using real = real_t<T>;
    real const re = b.real(), im = b.imag();
    bool const wide = (re < 0 ? -re : re) >= (im < 0 ? -im : im);
    real const ratio = wide ? im / re : re / im, scale = wide ? re + im * ratio : re * ratio + im;
    return wide ? T((a.real() + a.imag() * ratio) / scale, (a.imag() - a.real() * ratio) / scale)
                : T((a.real() * ratio + a.imag()) / scale, (a.imag() * ratio - a.real()) / scale);
  } else {
    return a / b;
  }
}
template <class T>
HOFT_HOST_DEVICE constexpr T times_real(T const& a, real_t<T> s) {
  if constexpr (is_complex<T>) return T(a.real() * s, a.imag() * s);
  else return a * s;
}
template <class T>
HOFT_HOST_DEVICE constexpr T over_real(T const& a, real_t<T> s) {
  if constexpr (is_complex<T>) return T(a.real() / s, a.imag() / s);
  else return a / s;
}
/// a / s where 1 / s is at hand, rounded as a division is but for rare last bits: the rest of a product is exact.
template <class T>
HOFT_HOST_DEVICE T divided(T const& a, real_t<T> s, real_t<T> inverse) {
  if constexpr (is_complex<T>) {
    return T(divided(a.real(), s, inverse), divided(a.imag(), s, inverse));
  } else {
    using std::fma;
    T const q = a * inverse;
    return fma(fma(-q, s, a), inverse, q);
  }
}
template <class T>
HOFT_HOST_DEVICE constexpr T conjugate_if(bool conjugated, T const& a) {
  return conjugated ? conjugate(a) : a;
}
template <class T>
HOFT_HOST_DEVICE constexpr real_t<T> real_part(T const& a) {
  if constexpr (is_complex<T>) return a.real();
  else return a;
}
template <class T>
HOFT_HOST_DEVICE constexpr real_t<T> squared(T const& a) {
  if constexpr (is_complex<T>) return a.real() * a.real() + a.imag() * a.imag();
  else return a * a;
}
/// The larger magnitude of the parts; NaN if either is.
template <class T>
HOFT_HOST_DEVICE constexpr real_t<T> magnitude(T const& a) {
  if constexpr (is_complex<T>) {
    real_t<T> const re = magnitude(a.real()), im = magnitude(a.imag());
    return re > im || re != re ? re : im;
  } else {
    return a < 0 ? -a : a;
  }
}

// Functions of the mathematical library, found on either side.
template <class R>
HOFT_HOST_DEVICE R square_root(R a) {
  using std::sqrt;
  return sqrt(a);
}
/// The power of two just below a > 0; 0 for 0, NaN for what is not finite.
template <class R>
HOFT_HOST_DEVICE R power_of_two_below(R a) {
  using std::ilogb, std::scalbn;
  if (a == R(0)) return R(0);
  if (!(a <= (std::numeric_limits<R>::max)())) return std::numeric_limits<R>::quiet_NaN();
  return scalbn(R(1), ilogb(a));
}

}  // namespace HOFT_CUDA_NAMESPACE
