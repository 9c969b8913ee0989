// SPDX-License-Identifier: BSD-3-Clause
// The GPU as a machine for bodies.hpp, seen by the ordinary compiler: nothing of CUDA's headers.
#pragma once
#if defined(__CUDACC__)
#include <hoft/cuda/policy.hpp>
#endif

#include <cstddef>
#include <memory>
#include <new>
#include <string>

namespace hoft_test {

/// Memory of the host that the GPU reads and writes where it lies.
std::byte* allocate_pinned(std::size_t bytes);
void free_pinned(std::byte* memory);

class device_machine {
 public:
  template <class T>
  struct Allocator {
    using value_type = T;
    Allocator() = default;
    template <class S>
    Allocator(Allocator<S> const&) {}
    T* allocate(std::size_t n) { return reinterpret_cast<T*>(allocate_pinned(n * sizeof(T))); }
    void deallocate(T* memory, std::size_t) { free_pinned(reinterpret_cast<std::byte*>(memory)); }
    template <class S>
    bool operator==(Allocator<S> const&) const {
      return true;
    }
  };

  /// Why there is no GPU to test on; empty if there is one.
  static std::string missing();

  device_machine();
#if defined(__CUDACC__)  // the type bears the architectures of its source in its name
  hoft::cuda::device const& policy() const;
#endif
  void finish() const;
  /// Another one, whose blocks share less memory and whose clusters have at most so many blocks.
  device_machine limited(std::ptrdiff_t shared, std::ptrdiff_t cluster) const;

 private:
  struct parts;
  std::shared_ptr<parts> parts_;
};

// What only a GPU can show. Each answers what is wrong, or nothing.

/// accumulate, apply and apply_backward captured in a graph, replayed with other data.
std::string check_graphs();
/// The same work on two streams at once.
std::string check_streams();
/// No call keeps memory of the device. (A call that takes some and gives it back fails in a graph's capture.)
std::string check_allocations();
/// Batches of more problems than a launch has room for.
std::string check_batches();
/// A matrix of more than 2³¹ elements; "skipped: ..." if the device has no room for it.
std::string check_large();

}  // namespace hoft_test
