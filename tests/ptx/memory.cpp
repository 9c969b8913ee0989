// SPDX-License-Identifier: BSD-3-Clause
#include "memory.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>

namespace emu {
namespace {

constexpr u64 quantum = 256;  // of an allocation; CUDA's own alignment

void* reserve(u64 at, u64 bytes) {
  void* const got = mmap(reinterpret_cast<void*>(at), bytes, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
  if (got != reinterpret_cast<void*>(at)) {
    std::fprintf(stderr, "ptxemu: no addresses at %llx for the device's memory\n", static_cast<unsigned long long>(at));
    std::abort();
  }
  return got;
}

/// Gives pages back; what shares a page with a neighbour is set by hand.
void forget(u64 begin, u64 end, int value) {
  u64 const first = (begin + 4095) & ~u64{4095}, last = end & ~u64{4095};
  if (first >= last) {
    std::memset(reinterpret_cast<void*>(begin), value, end - begin);
    return;
  }
  std::memset(reinterpret_cast<void*>(begin), value, first - begin);
  madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  std::memset(reinterpret_cast<void*>(last), value, end - last);
}

}  // namespace

memory_space& memory_space::get() {
  static memory_space* const only = new memory_space;
  return *only;
}

memory_space::memory_space() {
  reserve(data_base, data_bytes);
  reserve(u64{2} << space_shift, data_bytes * 8);
  map_ = static_cast<u32*>(reserve(u64{3} << space_shift, (data_bytes >> 8) * 4));
  all_.reserve(1 << 20);
}

void* memory_space::allocate(std::size_t bytes, memory_kind kind) {
  u64 const base = next_, rounded = (std::max<std::size_t>(bytes, 1) + quantum - 1) / quantum * quantum;
  if (base + rounded + quantum > data_base + data_bytes) return nullptr;
  // At least one empty quantum between neighbours, and large ones begin pages so that these can be given back.
  next_ = base + rounded + quantum;
  if (rounded >= 65536) next_ = (next_ + 4095) & ~u64{4095};
  all_.push_back({base, bytes, kind, true});
  u32 const index = u32(all_.size() - 1);
  for (u64 at = base; at < base + rounded; at += quantum) map_[(at - data_base) >> 8] = index;
  std::memset(reinterpret_cast<void*>(base), 0xFF, bytes);
  used_ += kind == memory_kind::device ? (rounded + (1 << 21) - 1) >> 21 << 21 : 0;
  return reinterpret_cast<void*>(base);
}

bool memory_space::release(void* at) {
  u64 const base = u64(at);
  if (base >> space_shift != 1) return false;
  u32 const index = map_[(base - data_base) >> 8];
  if (index == 0) return false;
  allocation& a = all_[index];
  if (!a.live || a.base != base) return false;
  a.live = false;
  u64 const rounded = (std::max<std::size_t>(a.size, 1) + quantum - 1) / quantum * quantum;
  used_ -= a.kind == memory_kind::device ? (rounded + (1 << 21) - 1) >> 21 << 21 : 0;
  forget(base, base + a.size, 0xFF);
  u64 const first = u64(shadow_of(base)), last = u64(shadow_of(base + rounded));
  forget(first, last, 0);
  return true;
}

void memory_space::require(void const* at, std::size_t bytes, char const* who) const {
  if (bytes == 0) return;
  allocation const* const a = find(u64(at));
  if (a == nullptr || !a->live || u64(at) + bytes > a->base + a->size)
    throw fault(illegal_address,
                format("%s of %zu bytes at %p, which is %s", who, bytes, at, describe(u64(at)).c_str()));
}

void memory_space::mark_written(void const* at, std::size_t bytes) {
  u64 const begin = u64(at) & ~u64{1}, end = u64(at) + bytes;
  for (u64 a = begin; a < end; a += 2) {
    shadow& s = *shadow_of(a);
    s.written = written_by_host, s.read = 0;
  }
}

std::string memory_space::describe(u64 address) const {
  if (allocation const* const a = find(address))
    return format("%s%ld bytes into %s memory of %llu bytes", a->live ? "" : "(freed) ", s64(address - a->base),
                  a->kind == memory_kind::device   ? "device"
                  : a->kind == memory_kind::mapped ? "mapped host"
                                                   : "module",
                  static_cast<unsigned long long>(a->size));
  if (address < 65536) return "next to null";
  if (address >> space_shift == 1) {
    // A little behind the end of something?
    for (u64 back = quantum; back <= 4 * quantum; back += quantum)
      if (allocation const* const a = find(address - back); a != nullptr)
        return format("%ld bytes behind %s memory of %llu bytes", s64(address - a->base - a->size),
                      a->live ? "live" : "freed", static_cast<unsigned long long>(a->size));
    return "device address space, but no allocation";
  }
  return "memory that no device sees";
}

}  // namespace emu
