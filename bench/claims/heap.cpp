// SPDX-License-Identifier: BSD-3-Clause
// heap.cpp: every allocation of C and C++ ends in one of these functions of glibc.
#include "heap.hpp"

#include <malloc.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace {

std::atomic<std::size_t> in_use{0}, peak{0};

void* lent(void* p) {
  if (p == nullptr || bench::claims::uncounted_heap::depth > 0) return p;
  std::size_t const now = in_use += malloc_usable_size(p);
  for (std::size_t most = peak; now > most && !peak.compare_exchange_weak(most, now);) {
  }
  return p;
}
void returned(void* p) {
  if (p != nullptr && bench::claims::uncounted_heap::depth == 0) in_use -= malloc_usable_size(p);
}

}  // namespace

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t n) { return lent(__libc_malloc(n)); }
void* calloc(std::size_t n, std::size_t size) { return lent(__libc_calloc(n, size)); }
void* realloc(void* p, std::size_t n) {
  returned(p);
  void* const moved = __libc_realloc(p, n);
  if (moved == nullptr && n > 0) lent(p);  // it stayed
  return lent(moved);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) { return lent(__libc_memalign(alignment, n)); }
void* memalign(std::size_t alignment, std::size_t n) { return lent(__libc_memalign(alignment, n)); }
int posix_memalign(void** p, std::size_t alignment, std::size_t n) {
  *p = lent(__libc_memalign(alignment, n));
  return *p == nullptr ? ENOMEM : 0;
}
void free(void* p) {
  returned(p);
  __libc_free(p);
}
}

namespace bench::claims {

std::size_t heap_in_use() { return in_use; }
std::size_t heap_peak() { return peak; }
void heap_forget_peak() { peak = in_use.load(); }
void heap_keep_memory() {
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, 1 << 26);
}

}  // namespace bench::claims
