// SPDX-License-Identifier: BSD-3-Clause
// Addresses as kernels see them, allocations, and the shadow of every byte that a kernel may touch.
//
// A generic address tells by its upper bits where it points: bits 44 and up are 1 for memory that the host sees at the
// same address (device, mapped host and module memory), 4 for shared memory, 5 for local memory, 6 for parameters.
// A shared address has 32 bits: offset, and in the uppermost byte 0 for the own block or 1 + rank for one of the
// cluster.
#pragma once
#include "common.hpp"

#include <atomic>
#include <functional>

namespace emu {

inline constexpr int space_shift = 44;
inline constexpr u64 data_base = u64{1} << space_shift, data_bytes = u64{1} << 41;
inline constexpr u64 shared_window = u64{4} << space_shift, local_window = u64{5} << space_shift,
                     param_window = u64{6} << space_shift;
inline constexpr u32 shared_begin = 1024;  ///< what lies before belongs to the system

/// Who touched two bytes last. A stamp is serial of the block (27 bits), barriers of the block so far (16), barriers of
/// the warp since (8), thread (10), level (3); 0: nobody.
struct shadow {
  u64 written, read;
};
inline constexpr int level_bits = 3, thread_shift = 3, warp_epoch_shift = 13, epoch_shift = 21, serial_shift = 37;
inline constexpr u64 written_by_host = u64{1} << thread_shift;
/// Levels of a reader: one thread; lanes of a warp; a block between barriers; a cluster between barriers; several
/// clusters. Of a writer: `pending` for a copy that nobody has waited for.
enum level : u64 { one = 0, lanes = 1, of_block = 2, of_cluster = 3, of_grid = 4, pending = 7 };

inline shadow* shadow_of(u64 address) {
  return reinterpret_cast<shadow*>((u64{2} << space_shift) + (address - data_base) * 8);
}

enum class memory_kind : u8 { device, mapped, module };

struct allocation {
  u64 base = 0, size = 0;
  memory_kind kind = memory_kind::device;
  bool live = false;
};

class memory_space {
 public:
  static memory_space& get();
  void* allocate(std::size_t bytes, memory_kind kind);
  bool release(void* at);
  /// The allocation that an address is in, live or not; none if it is in no allocation, or in the space behind it.
  allocation const* find(u64 address) const {
    if (address >> space_shift != 1 || address - data_base >= data_bytes) return nullptr;
    u32 const index = map_[(address - data_base) >> 8];
    return index == 0 ? nullptr : &all_[index];
  }
  /// Whether [at, at + bytes) is memory of a device or mapped; throws a fault if it begins there and goes beyond.
  bool is_device(void const* at) const { return find(u64(at)) != nullptr; }
  void require(void const* at, std::size_t bytes, char const* who) const;
  void mark_written(void const* at, std::size_t bytes);
  std::size_t used() const { return used_; }
  std::string describe(u64 address) const;

 private:
  memory_space();
  std::vector<allocation> all_{1};
  u32* map_;
  u64 next_ = data_base + 4096;
  std::size_t used_ = 0;
};

}  // namespace emu
