// SPDX-License-Identifier: BSD-3-Clause
// Where the accesses of a warp go: bytes of the host behind addresses, checked and counted.
#pragma once
#include "checks.hpp"
#include "lanes.hpp"
#include "lower.hpp"

namespace emu {

enum class where_to : u8 { generic, global, shared, local, param };

/// For each lane of an access the bytes of the host, and their shadow (none where nothing is checked).
struct places {
  u8* at[32];
  shadow* shade[32];
  u64 address[32];  ///< shared: 32 bits
};

void check_alignment(warp const& w, u64 const* address, u32 mask, u32 bytes);
/// Each finds `at` and `shade` of the lanes' addresses, or raises what is wrong with one of them.
void find_global(warp& w, places& p, u32 mask, u32 bytes, char const* what);
void find_shared(warp& w, places& p, u32 mask, u32 bytes, char const* what);
/// In that space; a generic one must be the same for all lanes. Checks and counts the access.
template <bool Write>
void find(warp& w, places& p, u32 mask, u32 bytes, where_to space);

/// Against what the shadow knows, which then knows this access too.
template <bool Write>
void check(warp& w, places const& p, u32 mask, u32 bytes, where_to space);
/// Passes of shared memory: 32 banks of 4 bytes; wide accesses go by halves or quarters of a warp.
struct passes {
  u32 wavefronts, phases;
};
passes passes_of(u64 const* address, u32 mask, u32 bytes);
/// For the counters of w, which it has.
void count_access(warp& w, places const& p, u32 mask, u32 bytes, where_to space);

/// o[N]: address, a register of eight bytes or (flags & 16) four; immediate: offset; flags & 15: space.
template <int N>
inline void set_addresses(warp& w, instruction const& i, places& p) {
  u64 const offset = u64(i.immediate);
  if ((i.flags & 16) != 0) {
    u32 const* const a = w.at<u32>(i.o[N]);
    for (int l = 0; l < 32; ++l) p.address[l] = u32(a[l] + offset);
  } else {
    u64 const* const a = w.at<u64>(i.o[N]);
    for (int l = 0; l < 32; ++l) p.address[l] = a[l] + offset;
  }
}

/// What ldmatrix reads: a line of 16 bytes of shared memory at the address of each lane that gives one.
void read_lines(warp& w, u32 const* addresses, u32 offset, u32 mask, u8 (&lines)[32][16]);

/// An address among the operands: the register, or a symbol as a constant; its offset is kept apart.
void lower_address(lowering& in, operand const& o);

}  // namespace emu
