// SPDX-License-Identifier: BSD-3-Clause
// Races and reads of what nobody wrote, by the shadow of each two bytes: the last writer, and the readers since.
//
// An earlier access is before a later one if both are of one thread, or of one warp with a warp barrier between them,
// or of one block with a barrier of the block between, or of one cluster with a barrier of the cluster between, or of
// an earlier launch. Everything else is a race if one of the two writes.
#pragma once
#include "machine.hpp"

namespace emu {

enum class order { before, same_warp, same_block, same_cluster, same_launch };

/// How an earlier access of another thread relates to the present one.
inline order order_of(warp const& w, u64 earlier, u64 mine) {
  u64 const both = earlier ^ mine;
  if ((both >> serial_shift) == 0) {                       // the same block
    if ((both >> epoch_shift) != 0) return order::before;  // a barrier between
    u32 const tid = u32(earlier >> thread_shift) & 1023, me = u32(mine >> thread_shift) & 1023;
    if (tid == me) return order::before;
    if (tid / 32 != me / 32) return order::same_block;
    if (((both >> warp_epoch_shift) & 255) != 0 || !options::get().lanes_race) return order::before;
    return order::same_warp;
  }
  u64 const serial = earlier >> serial_shift;
  cluster const& c = *w.in->of;
  if (serial < c.of->first_serial) return order::before;  // an earlier launch, or the host
  if (serial < c.first_serial || serial >= c.first_serial + c.blocks.size()) return order::same_launch;
  auto const& arrives = c.blocks[serial - c.first_serial]->arrives_at;
  u32 const epoch = u32(earlier >> epoch_shift) & 0xFFFF;
  return epoch < arrives.size() && c.phase > arrives[epoch] ? order::before : order::same_cluster;
}

char const* name_of(order);
void note_race(warp const& w, char const* what, order o, u64 address, u64 earlier, u64 mine);

/// Whether a write comes behind all who read before: what `read` says of more than its last reader.
inline order order_of_readers(warp const& w, u64 before, u64 mine) {
  order const o = order_of(w, before, mine);
  u64 const level_was = before & 7, both = before ^ mine;
  if (o != order::before || level_was == one) return o;
  if (level_was == lanes && (both >> warp_epoch_shift) == 0 && options::get().lanes_race) return order::same_warp;
  if (level_was == of_block && (both >> epoch_shift) == 0) return order::same_block;
  if (level_was == of_grid && (before >> serial_shift) >= w.in->of->of->first_serial) return order::same_launch;
  if (level_was != of_cluster) return o;
  cluster const& c = *w.in->of;
  u64 const serial = before >> serial_shift;
  if (serial < c.first_serial || serial >= c.first_serial + c.blocks.size()) return o;
  auto const& arrives = c.blocks[serial - c.first_serial]->arrives_at;
  return c.phase <= arrives[u32(before >> epoch_shift) & 0xFFFF] ? order::same_cluster : o;
}

void note_uninitialised(warp const& w, u64 address, bool shared);
void note_unwaited(warp const& w, u64 address, char const* how);

inline void touch_written(warp& w, shadow& s, u64 mine, u64 address) {
  if ((s.written & 7) == pending && options::get().unwaited) note_unwaited(w, address, "overwritten");
  if (options::get().races) {
    if (u64 const before = s.written; before != mine && before != 0)
      if (order const o = order_of(w, before, mine); o != order::before)
        note_race(w, "writes after a write", o, address, before, mine);
    if (u64 const before = s.read; before != mine && before != 0)
      if (order const o = order_of_readers(w, before, mine); o != order::before)
        note_race(w, "writes after a read", o, address, before, mine);
  }
  s.written = mine;
  s.read = 0;
}

inline void touch_read(warp& w, shadow& s, u64 mine, u64 address, bool report_uninitialised, bool shared) {
  if (u64 const before = s.written; before != mine) {
    if (before == 0) {
      if (report_uninitialised) note_uninitialised(w, address, shared);
    } else if ((before & 7) == pending) {
      if (options::get().unwaited) note_unwaited(w, address, "read");
    } else if (options::get().races) {
      if (order const o = order_of(w, before, mine); o != order::before)
        note_race(w, "reads after a write", o, address, before, mine);
    }
  }
  u64 const r = s.read;
  if (r == mine) return;
  if (r == 0) {
    s.read = mine;
    return;
  }
  u64 const level_was = r & 7, both = r ^ mine;
  if (both >> serial_shift == 0 && both >> epoch_shift != 0 &&
      level_was <= of_block) {  // before a barrier of the block
    s.read = mine;
    return;
  }
  if ((both & ~u64{(31 << thread_shift) | 7}) == 0) {  // lanes of one warp that nothing orders
    if (level_was == one && (both >> thread_shift) != 0) s.read = r | lanes;
    return;
  }
  if (both >> epoch_shift == 0) {  // the same block, no barrier between
    u32 const tid = u32(r >> thread_shift) & 1023, me = u32(mine >> thread_shift) & 1023;
    if (tid == me) {
      if (((both >> warp_epoch_shift) & 255) == 0 || level_was >= of_block) s.read = mine | level_was;
      else s.read = mine;
    } else if (tid / 32 != me / 32) s.read = mine | (level_was > of_block ? level_was : u64(of_block));
    else if (level_was >= of_block) s.read = mine | level_was;
    else if (((both >> warp_epoch_shift) & 255) == 0) s.read = mine | lanes;
    else s.read = mine;
    return;
  }
  cluster const& c = *w.in->of;
  u64 const serial = r >> serial_shift;
  if (serial < c.of->first_serial) {
    s.read = mine;
    return;
  }
  if (level_was == of_grid || serial < c.first_serial || serial >= c.first_serial + c.blocks.size()) {
    s.read = mine | of_grid;
    return;
  }
  auto const& arrives = c.blocks[serial - c.first_serial]->arrives_at;
  bool const passed = c.phase > arrives[u32(r >> epoch_shift) & 0xFFFF];
  bool const ordered = passed || (serial == mine >> serial_shift && level_was <= of_block);
  s.read = ordered ? mine : mine | of_cluster;
}

}  // namespace emu
