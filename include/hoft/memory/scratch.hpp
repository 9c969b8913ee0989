// SPDX-License-Identifier: BSD-3-Clause
// hoft/memory/scratch.hpp: memory for workspace that is kept between calls.
#pragma once
#include <hoft/memory/workspace.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>

namespace HOFT_NAMESPACE {

/// Workspace that is kept between calls that return or refill values. It grows to the size that the largest call needs,
/// so later calls allocate nothing. A policy lends it, cpu{.scratch = &memory}, and it must outlive the calls. It
/// serves one call at a time. A call from another thread, or from within a base operator, finds it in use and allocates
/// its own workspace, with the same result.
class scratch {
 public:
  scratch() = default;
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;

  /// At least `bytes`, until give_back; or nothing if a call is using it. @throws std::bad_alloc, and is then not in
  /// use
  [[nodiscard]] std::optional<workspace> take(index_t bytes) {
    if (in_use_.test_and_set(std::memory_order_acquire)) return {};
    if (bytes > size_) {
      size_ = 0;
      memory_.reset();  // not beside the new memory
      memory_.reset(new (std::nothrow) std::byte[std::size_t(bytes)]);
      if (memory_ == nullptr) {
        give_back();
        throw std::bad_alloc();
      }
      size_ = bytes;
    }
    return workspace{memory_.get(), size_};
  }
  void give_back() noexcept { in_use_.clear(std::memory_order_release); }

 private:
  std::unique_ptr<std::byte[]> memory_;
  index_t size_ = 0;
  std::atomic_flag in_use_;
};

}  // namespace HOFT_NAMESPACE
