// SPDX-License-Identifier: BSD-3-Clause
// heap.hpp: how many bytes the C library has lent at most.
#pragma once
#include <cstddef>

namespace bench::claims {

std::size_t heap_in_use();
/// While one lives, requests are not counted: a product's own panels are the same scratch for every method.
class uncounted_heap {
 public:
  uncounted_heap() { ++depth; }
  ~uncounted_heap() { --depth; }
  uncounted_heap(uncounted_heap const&) = delete;
  uncounted_heap& operator=(uncounted_heap const&) = delete;
  static inline thread_local int depth = 0;
};

/// The most in use since the last call of heap_forget_peak.
std::size_t heap_peak();
void heap_forget_peak();
/// Keeps what was freed for the next request: else large requests would be timed with the clearing of their pages.
void heap_keep_memory();

}  // namespace bench::claims
