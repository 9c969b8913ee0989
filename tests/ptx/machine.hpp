// SPDX-License-Identifier: BSD-3-Clause
// A kernel as it is executed, and the warps, blocks and clusters that execute it.
//
// Registers of a warp lie lane beside lane, so that one instruction is done for all lanes that stand at it by one loop.
// Each lane has a place of its own in the program all the same: lanes that part go on in groups, those with the
// smallest place first, and join where they meet. With PTXEMU_LANES=thread a group is one lane. A group runs until its
// lanes wait.
#pragma once
#include "memory.hpp"
#include "module.hpp"

#include <memory>

namespace emu {

struct warp;
struct instruction;
using handler = void (*)(warp&, instruction const&, u32 mask);

enum class control : u8 { none, branch, exit, collective, barrier, cluster_arrive, cluster_wait, trap };
/// Classes of instructions for the counters.
enum class kind_of : u8 {
  integer,
  real32,
  real64,
  conversion,
  predicate,
  move,
  branch,
  load_global,
  store_global,
  load_shared,
  store_shared,
  load_param,
  load_local,
  copy_async,
  matrix,
  ldmatrix,
  shuffle,
  barrier,
  special,
  other,
  count
};
char const* name_of(kind_of);

inline constexpr u32 no_operand = ~0u;
inline constexpr u32 constant_bit = 0x80000000u;

struct alignas(64) instruction {
  handler run = nullptr;
  u32 guard = no_operand;  ///< a predicate register
  u32 guard_flip = 0;
  control what = control::none;
  kind_of kind = kind_of::other;
  u8 flags = 0;  ///< what the handler wants
  u8 count = 0;
  u32 target = 0;  ///< of a branch
  s64 immediate = 0;
  u32 o[8] = {};  ///< operands: offsets into registers or, with constant_bit, into constants
};
static_assert(sizeof(instruction) == 64);

struct program {
  module const* home = nullptr;
  function const* source = nullptr;
  std::string name;  ///< demangled
  std::vector<instruction> code;
  std::vector<std::vector<u32>>
      wide;                   ///< operands of instructions with more than eight; instruction::immediate says which
  std::vector<u8> constants;  ///< each repeated for all lanes
  std::vector<std::pair<int, int>> lines;  ///< file, line
  std::vector<int> ptx_lines;
  u32 register_bytes = 0, local_bytes = 0, param_bytes = 0;
  u32 static_shared = 0;   ///< bytes
  u32 dynamic_shared = 0;  ///< where it begins
  u32 max_threads = 1024;
  std::string place(u32 pc) const;
};

struct kernel;
struct launch;
struct block;

struct line_count {
  u64 issued = 0, threads = 0, sectors = 0, bytes = 0, wavefronts = 0, phases = 0;
};

struct pending_copy {
  u8 lane, bytes, from_bytes;
  u32 group;
  u64 to, from;  ///< generic addresses
};

struct bulk_copy {
  u8 lane;
  bool to_shared;
  u32 bytes, group;
  u64 to, from;   ///< of shared memory 32 bits
  u64 begun = 0;  ///< the stamp of who has
};
struct memory_barrier {
  u32 address;
  u32 wanted, missing;  ///< arrivals of each phase, and of this one
  u64 expected = 0;     ///< bytes in this phase
  u64 phase = 0;
  std::vector<bulk_copy> copies = {};  ///< that it waits for
};

struct cluster;

struct warp {
  u8* base[2];  ///< registers and constants
  block* in;
  program const* code;
  u32 index;                ///< in its block
  u32 live = 0;             ///< lanes that have not left
  u32 ready = 0;            ///< lanes that may go on
  u32 collecting = 0;       ///< lanes that wait for others of the warp
  u32 at_barrier = 0;       ///< lanes that wait for the block, or for others of the warp to wait there too
  u32 at_cluster = 0;       ///< lanes that wait for the cluster
  bool arrived = false;     ///< at the barrier of the block
  u32 cluster_arrived = 0;  ///< lanes that arrived at the cluster barrier and have not passed it
  u32 cluster_phase = 0;    ///< in which they arrived
  u32 pc[32];
  u32 current = 0;  ///< instruction being executed
  u32 epoch = 0;    ///< warp barriers since the block's
  u64 stamp = 0;    ///< without lane
  line_count* counts = nullptr;
  u32 copy_group[32] = {};
  std::vector<pending_copy> copies;
  u32 bulk_group[32] = {};
  std::vector<bulk_copy> bulk_copies;  ///< from shared memory, which nobody has waited for
  u64 fenced[32] = {};                 ///< stamps of the last fences of shared memory before bulk copies
  std::vector<u8> registers, local;

  template <class T>
  T* at(u32 offset) const {
    return reinterpret_cast<T*>(base[offset >> 31] + (offset & ~constant_bit));
  }
  u64 stamp_of(u32 lane) const { return stamp + (u64(lane) << thread_shift); }
  void refresh_stamp();
  std::string place() const { return code->place(current); }
};

struct block {
  cluster* of = nullptr;
  u32 rank = 0, x = 0, y = 0, z = 0;
  u64 serial = 0;
  u32 epoch = 1;                ///< barriers of the block
  std::vector<u32> arrives_at;  ///< cluster arrivals at each epoch
  std::vector<u8> shared;       ///< from shared_begin on
  std::vector<shadow> shared_shadow;
  std::vector<memory_barrier> memory_barriers;
  u32 shared_end = 0;
  std::vector<warp> warps;
  u32 live_threads = 0, waiting_threads = 0;
  int barrier_id = -1;
  bool exited = false;
  u32 remote_arrives = 0;  ///< 1 + cluster arrivals of the last block that touched this one's memory
  std::string remote_place;
};

struct cluster {
  launch const* of = nullptr;
  u32 x = 0;
  u64 first_serial = 0;
  std::vector<std::unique_ptr<block>> blocks;
  u32 live_threads = 0, arrived_threads = 0, phase = 0;
  u64 random = 1;
};

struct dimensions {
  u32 x = 1, y = 1, z = 1;
  u64 volume() const { return u64(x) * y * z; }
  bool operator==(dimensions const&) const = default;
};

struct launch {
  program const* code = nullptr;
  dimensions grid, threads;
  u32 cluster = 1;
  u32 dynamic_shared = 0;
  std::vector<u8> params;
  // while it runs
  u64 first_serial = 0;
  std::vector<line_count> counts;
};

/// Runs a launch to its end. Throws a fault.
void run(launch& l);

program const& compile(module const& m, function& f);

// Used by the handlers.
[[noreturn]] void raise(warp const& w, int error, std::string const& what);
void note(warp const& w, std::string const& kind, std::string const& what);
void note_unfinished(warp& w, u32 mask);  ///< of lanes that leave

}  // namespace emu
