// SPDX-License-Identifier: BSD-3-Clause
// Bulk copies and the barriers in memory that tell their ends. Nothing arrives before somebody waits: a copy to shared
// memory is made when its barrier is waited for, one from shared memory when its group is. A copy does not see what
// threads of its block wrote without a fence (fence.proxy.async): the writer's, or its own behind a barrier.
#include "access.hpp"
#include "lower.hpp"

#include <algorithm>

namespace emu {
namespace {

u32 address_in(warp& w, instruction const& i, int operand, u32 lane) { return w.at<u32>(i.o[operand])[lane]; }

/// What lies where a barrier is, so that it is seen if somebody writes there.
constexpr u64 filling = 0xBA221E2DBA221E2D;
u8* bytes_of(warp& w, u32 address) {
  places p;
  p.address[0] = address;
  find_shared(w, p, 1, 8, "an mbarrier");
  return p.at[0];
}
memory_barrier& barrier_at(warp& w, u32 address) {
  for (memory_barrier& b : w.in->memory_barriers) {
    if (b.address != address) continue;
    if (std::memcmp(bytes_of(w, address), &filling, 8) != 0)
      raise(w, illegal_instruction, format("the mbarrier at %u has been written over", address));
    return b;
  }
  raise(w, illegal_instruction, format("no mbarrier was initialised at %u", address));
}
/// o: address, how many arrive.
void init(warp& w, instruction const& i, u32 mask) {
  each_lane_in_order(mask, [&](int l) {
    places p;
    p.address[l] = address_in(w, i, 0, u32(l)) + u32(i.immediate);
    check_alignment(w, p.address, 1u << l, 8);
    find_shared(w, p, 1u << l, 8, "an mbarrier");
    check<true>(w, p, 1u << l, 8, where_to::shared);
    std::erase_if(w.in->memory_barriers, [&](memory_barrier const& b) { return b.address == p.address[l]; });
    std::memcpy(p.at[l], &filling, 8);
    u32 const wanted = w.at<u32>(i.o[1])[l];
    w.in->memory_barriers.push_back({u32(p.address[l]), wanted, wanted});
  });
}
/// o: address, bytes.
void expect_bytes(warp& w, instruction const& i, u32 mask) {
  each_lane_in_order(mask, [&](int l) {
    memory_barrier& b = barrier_at(w, address_in(w, i, 0, u32(l)) + u32(i.immediate));
    if (b.missing == 0) raise(w, illegal_instruction, "an mbarrier is told of bytes after all have arrived");
    b.expected += w.at<u32>(i.o[1])[l];
  });
}
/// o: the phase, address.
void arrive(warp& w, instruction const& i, u32 mask) {
  each_lane_in_order(mask, [&](int l) {
    memory_barrier& b = barrier_at(w, address_in(w, i, 1, u32(l)) + u32(i.immediate));
    if (b.missing == 0) raise(w, illegal_instruction, "one arrival too many at an mbarrier");
    u64 const mine = w.stamp_of(u32(l));
    for (bulk_copy const& c : b.copies)
      if (order const o = order_of(w, c.begun, mine); o != order::before && options::get().races)
        note_race(w, "arrives at an mbarrier after a copy", o, c.to, c.begun, mine);
    --b.missing;
    w.at<u64>(i.o[0])[l] = b.phase;
  });
}

void fence(warp& w, instruction const&, u32 mask) {
  each_lane_in_order(mask, [&](int l) { w.fenced[l] = w.stamp_of(u32(l)); });
}
/// Whether a copy of the lane sees a write by a thread of its block. A fence counts for what its thread writes until
/// the next barrier, too: within a step no order is known.
bool is_fenced(warp const& w, u32 lane, u64 written) {
  if (written >> serial_shift != w.in->serial) return true;
  u32 const writer = u32(written >> thread_shift) & 1023;
  if (w.in->warps[writer / 32].fenced[writer % 32] >> warp_epoch_shift >= written >> warp_epoch_shift) return true;
  int const behind_barrier = writer / 32 == w.index ? warp_epoch_shift : epoch_shift;
  return w.fenced[lane] >> behind_barrier > written >> behind_barrier;
}
void check_fences(warp& w, shadow const* s, u32 lane, u32 bytes, char const* what) {
  if (!options::get().races) return;
  for (u32 e = 0; e < bytes / 2; ++e)
    if (!is_fenced(w, lane, s[e].written))
      return note(w, std::string("no fence is between what threads wrote and a bulk copy, ") + what,
                  format("thread %u of block %u of the grid", w.index * 32 + lane, w.in->x));
}

/// One lane's copy, of which both ends are checked.
struct ends {
  places to, from;
  ends(warp& w, bulk_copy const& c) {
    u32 const lane = 1u << c.lane;
    to.address[c.lane] = c.to, from.address[c.lane] = c.from;
    (c.to_shared ? find_shared : find_global)(w, to, lane, c.bytes, "a bulk copy");
    (c.to_shared ? find_global : find_shared)(w, from, lane, c.bytes, "a bulk copy");
  }
};
void take_alignment(warp& w, bulk_copy const& c) {
  if ((c.to | c.from | c.bytes) % 16 != 0)
    raise(w, misaligned_address,
          format("a bulk copy of %u bytes from %llx to %llx: multiples of 16 are wanted", c.bytes,
                 static_cast<unsigned long long>(c.from), static_cast<unsigned long long>(c.to)));
}
void count_bytes(warp& w, bulk_copy const& c) {
  if (w.counts == nullptr) return;
  u64 const global = c.to_shared ? c.from : c.to;
  w.counts[w.current].bytes += c.bytes;
  w.counts[w.current].sectors += (global + c.bytes - 1) / 32 - global / 32 + 1;
}
bulk_copy copy_of(warp& w, instruction const& i, u32 l, bool to_shared) {
  u64 const to = to_shared ? w.at<u32>(i.o[0])[l] + u32(i.immediate) : w.at<u64>(i.o[0])[l] + u64(u32(i.immediate));
  u64 const offset = u64(i.immediate >> 32);
  u64 const from = to_shared ? w.at<u64>(i.o[1])[l] + offset : u64(w.at<u32>(i.o[1])[l] + u32(offset));
  bulk_copy const c{u8(l), to_shared, w.at<u32>(i.o[2])[l], 0, to, from, 0};
  take_alignment(w, c);
  count_bytes(w, c);
  return c;
}
/// o: destination, source, bytes, barrier.
void to_shared(warp& w, instruction const& i, u32 mask) {
  each_lane_in_order(mask, [&](int l) {
    bulk_copy c = copy_of(w, i, u32(l), true);
    ends const at(w, c);
    check_fences(w, at.to.shade[l], u32(l), c.bytes, "where it goes");
    check<false>(w, at.from, 1u << l, c.bytes, where_to::global);
    u64 const mine = w.stamp_of(u32(l));
    for (u32 e = 0; e < c.bytes / 2; ++e) {
      touch_written(w, at.to.shade[l][e], mine, c.to + 2 * e);
      if (options::get().unwaited) at.to.shade[l][e].written = mine | pending;
    }
    std::memset(at.to.at[l], 0xFF, c.bytes);  // whoever reads too early sees no numbers
    c.begun = mine;
    places barrier;
    barrier.address[l] = address_in(w, i, 3, u32(l));
    find_shared(w, barrier, 1u << l, 8, "an mbarrier");
    check_fences(w, barrier.shade[l], u32(l), 8, "its barrier");
    barrier_at(w, u32(barrier.address[l])).copies.push_back(c);
  });
}
/// The copies of a barrier arrive, and are what the lane has written that waits for them.
void deliver(warp& w, memory_barrier& b, u32 lane) {
  for (bulk_copy c : b.copies) {
    c.lane = u8(lane);
    ends const at(w, c);
    std::memcpy(at.to.at[lane], at.from.at[lane], c.bytes);
    u64 const mine = w.stamp_of(lane);
    for (u32 e = 0; e < c.bytes / 2; ++e) {
      shadow& s = at.to.shade[lane][e];
      if ((s.written & 7) == pending) s = {mine, 0};
      else touch_written(w, s, mine, c.to + 2 * e);
    }
  }
  b.copies.clear();
}
/// o: whether the phase is over, address, the phase.
void wait(warp& w, instruction const& i, u32 mask) {
  u32& over = *w.at<u32>(i.o[0]);
  each_lane_in_order(mask, [&](int l) {
    memory_barrier& b = barrier_at(w, address_in(w, i, 1, u32(l)) + u32(i.immediate));
    if (b.phase == w.at<u64>(i.o[2])[l]) {
      u64 moved = 0;
      for (bulk_copy const& c : b.copies) moved += c.bytes;
      if (b.missing != 0 || moved != b.expected)
        raise(w, launch_failure,
              format("a wait for an mbarrier that would not end: %u arrivals are missing, %llu bytes of %llu come",
                     b.missing, static_cast<unsigned long long>(moved), static_cast<unsigned long long>(b.expected)));
      deliver(w, b, u32(l));
      w.fenced[l] = w.stamp_of(u32(l));  // the end of a copy is a fence, too
      ++b.phase, b.missing = b.wanted, b.expected = 0;
    }
    over |= 1u << l;
  });
}

/// o: destination, source, bytes.
void to_global(warp& w, instruction const& i, u32 mask) {
  each_lane_in_order(mask, [&](int l) {
    bulk_copy c = copy_of(w, i, u32(l), false);
    c.group = w.bulk_group[l];
    ends const at(w, c);
    check_fences(w, at.from.shade[l], u32(l), c.bytes, "where it comes from");
    check<false>(w, at.from, 1u << l, c.bytes, where_to::shared);
    w.bulk_copies.push_back(c);
  });
}
void commit_bulk(warp& w, instruction const&, u32 mask) {
  for (u32 left = mask; left != 0; left &= left - 1) ++w.bulk_group[std::countr_zero(left)];
}
/// immediate: groups that may be under way still.
void wait_for_groups(warp& w, instruction const& i, u32 mask) {
  std::erase_if(w.bulk_copies, [&](bulk_copy const& c) {
    if ((mask >> c.lane & 1) == 0 || s64(c.group) >= s64(w.bulk_group[c.lane]) - i.immediate) return false;
    ends const at(w, c);
    check<false>(w, at.from, 1u << c.lane, c.bytes, where_to::shared);
    check<true>(w, at.to, 1u << c.lane, c.bytes, where_to::global);
    std::memcpy(at.to.at[c.lane], at.from.at[c.lane], c.bytes);
    return true;
  });
}

/// A memory operand [register + offset], as a register of so many bytes; its offset is answered.
u64 use_base(lowering& in, std::size_t n, u32 width) {
  operand base = in.op(n);
  u64 const offset = base.bits;
  base.is = operand::kind::reg;
  if (in.width_of(base) != width) in.refuse("the width of an address");
  in.use(base, width);
  return offset;
}
bool lower_bulk_copy(lowering& in) {
  in.now.kind = kind_of::copy_async;
  if (in.raw->has("commit_group")) return in.now.run = commit_bulk, true;
  if (in.raw->has("wait_group")) {
    in.now.immediate = s64(in.op(0).bits);
    return in.now.run = wait_for_groups, true;
  }
  bool const loads = in.part(3) == "shared::cluster" && in.part(4) == "global";
  bool const stores = in.part(3) == "global" && in.part(4) == "shared::cta" && in.raw->has("bulk_group");
  if ((!loads && !stores) || in.raw->parts.size() != 6) in.refuse("a form of bulk copies");
  u64 const to = use_base(in, 0, loads ? 4 : 8), from = use_base(in, 1, loads ? 8 : 4);
  in.now.immediate = s64(to | from << 32);
  in.use(in.op(2), 4);
  if (loads && use_base(in, 3, 4) != 0) in.refuse("an offset of a barrier");
  in.now.run = loads ? to_shared : to_global;
  return true;
}

}  // namespace

void note_unfinished(warp& w, u32 mask) {
  for (bulk_copy const& c : w.bulk_copies)
    if ((mask >> c.lane & 1) != 0)
      return note(w, "a thread ends before its bulk copies do",
                  format("block %u of the grid, warp %u", w.in->x, w.index));
}

bool lower_bulk(lowering& in) {
  std::string const& name = in.part(0);
  if (name == "cp" && in.raw->has("bulk")) return lower_bulk_copy(in);
  if (name == "fence" && !in.raw->has("global") &&
      ((in.raw->has("proxy") && in.raw->has("async")) || in.raw->has("mbarrier_init"))) {
    in.now.kind = kind_of::other;
    return in.now.run = fence, true;
  }
  if (name != "mbarrier") return false;
  in.now.kind = kind_of::barrier;
  if (!in.raw->has("shared") && !in.raw->has("shared::cta")) in.refuse("a barrier that is not the block's");
  std::string const& what = in.part(1);
  auto const base = [&](std::size_t n) { in.now.immediate = s64(use_base(in, n, 4)); };
  if (what == "init") base(0), in.use(in.op(1), 4), in.now.run = init;
  else if (what == "expect_tx") base(0), in.use(in.op(1), 4), in.now.run = expect_bytes;
  else if (what == "arrive" && in.raw->operands.size() == 2 && !in.raw->has("expect_tx"))
    in.define(in.op(0), 8), base(1), in.now.run = arrive;
  else if (what == "try_wait" && !in.raw->has("parity"))
    in.define_predicate(in.op(0)), base(1), in.use(in.op(2), 8), in.now.run = wait;
  else in.refuse("a form of mbarrier");
  return true;
}

}  // namespace emu
