// SPDX-License-Identifier: BSD-3-Clause
// Asynchronous copies: nothing arrives before its thread waits.
#include "access.hpp"
#include "lower.hpp"

namespace emu {
namespace {

// --- asynchronous copies: nothing arrives before its thread waits ------------------------------------------------

/// o: destination (32 bits), source (64 bits), bytes of the source; immediate: offset of destination, count: bytes,
/// flags & 32: there is a size of the source.
void copy_async(warp& w, instruction const& i, u32 mask) {
  places to, from;
  u32 const bytes = i.count;
  u32 const* const d = w.at<u32>(i.o[0]);
  u64 const* const s = w.at<u64>(i.o[1]);
  for (int l = 0; l < 32; ++l) to.address[l] = d[l] + u32(i.immediate), from.address[l] = s[l] + u64(i.immediate >> 32);
  check_alignment(w, to.address, mask, bytes);
  check_alignment(w, from.address, mask, bytes);
  find_shared(w, to, mask, bytes, "a copy to shared memory");
  u32 read = mask;
  u32 size[32];
  for (int l = 0; l < 32; ++l) {
    size[l] = (i.flags & 32) != 0 ? w.at<u32>(i.o[2])[l] : bytes;
    if (size[l] == 0) read &= ~(1u << l);
    if ((mask >> l & 1) != 0 && size[l] > bytes) raise(w, illegal_instruction, "cp.async of more bytes than it writes");
  }
  if (read != 0) {
    find_global(w, from, read, bytes, "a copy from device memory");
    check<false>(w, from, read, bytes, where_to::global);
  }
  if (w.counts != nullptr) {
    if (read != 0) count_access(w, from, read, bytes, where_to::global);
    passes const n = passes_of(to.address, mask, bytes);
    w.counts[w.current].wavefronts += n.wavefronts, w.counts[w.current].phases += n.phases;
  }
  for (u32 left = mask; left != 0; left &= left - 1) {
    int const l = std::countr_zero(left);
    u64 const mine = w.stamp_of(u32(l));
    for (u32 e = 0; e < bytes / 2; ++e) {
      touch_written(w, to.shade[l][e], mine, to.address[l] + 2 * e);
      if (options::get().unwaited) to.shade[l][e].written = mine | pending;
    }
    std::memset(to.at[l], 0xFF, bytes);  // whoever reads too early sees no numbers
    w.copies.push_back({u8(l), u8(bytes), u8(size[l]), w.copy_group[l], to.address[l], from.address[l]});
  }
}
void commit(warp& w, instruction const&, u32 mask) {
  for (u32 left = mask; left != 0; left &= left - 1) ++w.copy_group[std::countr_zero(left)];
}
/// immediate: groups that may be under way still; -1: none at all, not those of no group either.
void wait_for_copies(warp& w, instruction const& i, u32 mask) {
  std::size_t kept = 0;
  for (pending_copy const& c : w.copies) {
    u32 const group = w.copy_group[c.lane];
    bool const over = (mask >> c.lane & 1) != 0 && (i.immediate < 0 || s64(c.group) < s64(group) - i.immediate);
    if (!over) {
      w.copies[kept++] = c;
      continue;
    }
    places to, from;
    u32 const one = 1u << c.lane;
    to.address[c.lane] = c.to, from.address[c.lane] = c.from;
    find_shared(w, to, one, c.bytes, "a copy to shared memory");
    std::memset(to.at[c.lane], 0, c.bytes);
    if (c.from_bytes != 0) {
      find_global(w, from, one, c.bytes, "a copy from device memory");
      check<false>(w, from, one, c.from_bytes, where_to::global);
      std::memcpy(to.at[c.lane], from.at[c.lane], c.from_bytes);
    }
    u64 const mine = w.stamp_of(c.lane);
    for (u32 e = 0; e < c.bytes / 2u; ++e) {
      shadow& s = to.shade[c.lane][e];
      if ((s.written & 7) == pending) s.written &= ~u64{7};
      touch_written(w, s, mine, c.to + 2 * e);
    }
  }
  w.copies.resize(kept);
}

void nothing(warp&, instruction const&, u32) {}

}  // namespace

bool lower_copy(lowering& in) {
  std::string const& name = in.part(0);
  if (name == "cp" && in.raw->parts.size() > 1 && in.part(1) == "async") {
    in.now.kind = kind_of::copy_async;
    if (in.raw->has("commit_group")) {
      in.now.run = commit;
      return true;
    }
    if (in.raw->has("wait_group") || in.raw->has("wait_all")) {
      in.now.immediate = in.raw->has("wait_all") ? -1 : s64(in.op(0).bits);
      in.now.run = wait_for_copies;
      return true;
    }
    if (in.raw->has("mbarrier")) in.refuse("copies that arrive at a barrier");
    // cp.async.ca|cg.shared.global [to], [from], bytes {, bytes of the source}
    operand const &to = in.op(0), &from = in.op(1);
    operand base = to;
    base.is = operand::kind::reg;
    if (in.width_of(base) != 4) in.refuse("a destination of 64 bits");
    in.use(base, 4);
    operand source = from;
    source.is = operand::kind::reg;
    in.use(source, 8);
    in.now.immediate = s64(u64(u32(to.bits)) | from.bits << 32);
    in.now.count = u8(in.op(2).bits);
    if (in.raw->operands.size() > 3) {
      in.now.flags = 32;
      in.use(in.op(3), 4);
    }
    bool const wide = in.raw->has("cg");
    if (wide ? in.now.count != 16 : in.now.count != 4 && in.now.count != 8 && in.now.count != 16) in.refuse("size");
    in.now.run = copy_async;
    return true;
  }
  if (name == "membar" || name == "fence" || name == "prefetch" || name == "prefetchu" || name == "nanosleep" ||
      name == "griddepcontrol") {
    in.now.kind = kind_of::other;
    in.now.run = nothing;
    return true;
  }
  return false;
}

}  // namespace emu
