// SPDX-License-Identifier: BSD-3-Clause
// Addresses of the four spaces, and what is noted of the accesses to them.
#include "access.hpp"

#include <algorithm>

namespace emu {

char const* name_of(order o) {
  switch (o) {
    case order::before:
      return "ordered";
    case order::same_warp:
      return "lanes of a warp without a sync of the warp between them";
    case order::same_block:
      return "threads of a block without a barrier between them";
    case order::same_cluster:
      return "blocks of a cluster without a barrier of the cluster between them";
    case order::same_launch:
      return "blocks of a launch that nothing orders";
  }
  return "";
}

namespace {
std::string thread_of(u64 stamp) { return std::to_string(u32(stamp >> thread_shift) & 1023); }
std::string where(warp const& w, u64 address) {
  if (address < (u64{1} << 32))
    return format("shared address %u (dynamic memory begins at %u)", u32(address) & 0xFFFFFF, w.code->dynamic_shared);
  return memory_space::get().describe(address);
}

}  // namespace

void note_race(warp const& w, char const* what, order o, u64 address, u64 earlier, u64 mine) {
  note(w, std::string("race (") + name_of(o) + ")",
       format("thread %s %s of thread %s: %s; block %u of the grid", thread_of(mine).c_str(), what,
              thread_of(earlier).c_str(), where(w, address).c_str(), w.in->x));
}
void note_uninitialised(warp const& w, u64 address, bool shared) {
  note(w, shared ? "uninitialised shared memory is read" : "uninitialised device memory is read",
       format("%s; block %u of the grid, warp %u", where(w, address).c_str(), w.in->x, w.index));
}
void note_unwaited(warp const& w, u64 address, char const* how) {
  note(w, std::string("a copy is ") + how + " that nobody waited for",
       format("%s; block %u of the grid, warp %u", where(w, address).c_str(), w.in->x, w.index));
}

namespace {

[[noreturn]] void misaligned(warp const& w, u64 address, u32 bytes) {
  raise(w, misaligned_address,
        format("an access of %u bytes at address %llx, which is no multiple", bytes,
               static_cast<unsigned long long>(address)));
}

}  // namespace

void check_alignment(warp const& w, u64 const* address, u32 mask, u32 bytes) {
  u64 low = 0;
  for (int l = 0; l < 32; ++l) low |= (mask >> l & 1) != 0 ? address[l] : 0;
  if ((low & (bytes - 1)) == 0) return;
  for (int l = 0; l < 32; ++l)
    if ((mask >> l & 1) != 0 && (address[l] & (bytes - 1)) != 0) misaligned(w, address[l], bytes);
}

namespace {

struct address_range {
  u64 low, high;
};
/// The lowest and the highest address of the lanes of a mask.
address_range range_of(places const& p, u32 mask) {
  address_range range{~u64{0}, 0};
  for (int l = 0; l < 32; ++l) {
    u64 const a = p.address[l];
    bool const here = (mask >> l & 1) != 0;
    range.low = here && a < range.low ? a : range.low;
    range.high = here && a > range.high ? a : range.high;
  }
  return range;
}

}  // namespace

void find_global(warp& w, places& p, u32 mask, u32 bytes, char const* what) {
  auto const [low, high] = range_of(p, mask);
  auto const& memory = memory_space::get();
  allocation const* const first = memory.find(low);
  bool const together = first != nullptr && first->live && high + bytes <= first->base + first->size;
  if (!together)
    for (int l = 0; l < 32; ++l)
      if ((mask >> l & 1) != 0) {
        allocation const* const a = memory.find(p.address[l]);
        if (a == nullptr || !a->live || p.address[l] + bytes > a->base + a->size)
          raise(w, illegal_address,
                format("%s of %u bytes at %llx by thread %u of block %u: %s", what, bytes,
                       static_cast<unsigned long long>(p.address[l]), w.index * 32 + l, w.in->x,
                       memory.describe(p.address[l]).c_str()));
      }
  for (int l = 0; l < 32; ++l) p.at[l] = reinterpret_cast<u8*>(p.address[l]), p.shade[l] = shadow_of(p.address[l]);
}

namespace {

/// The block that a shared address is of; checks that it may be touched now.
block& owner_of(warp& w, u32 address, char const* what) {
  u32 const rank = address >> 24;
  if (rank == 0 || rank - 1 == w.in->rank) return *w.in;
  cluster& c = *w.in->of;
  if (rank > c.blocks.size())
    raise(w, illegal_address,
          format("%s of shared memory of block %u of a cluster of %zu", what, rank - 1, c.blocks.size()));
  block& b = *c.blocks[rank - 1];
  if (c.phase == 0)
    note(w, "another block's shared memory is touched before it is known to have begun",
         format("%s by block %u of block %u of the cluster", what, w.in->rank, rank - 1));
  if (b.exited)
    raise(w, launch_failure,
          format("%s of shared memory of block %u of the cluster by block %u: that block has exited", what, rank - 1,
                 w.in->rank));
  b.remote_arrives = c.phase + 1;
  if (b.remote_place.empty()) b.remote_place = w.place();
  return b;
}

}  // namespace

void find_shared(warp& w, places& p, u32 mask, u32 bytes, char const* what) {
  // Mostly all lanes stay in their own block's memory.
  auto const [low, high] = range_of(p, mask);
  if (low >= shared_begin && high + bytes <= w.in->shared_end) {
    u64 const memory = u64(w.in->shared.data()) - shared_begin;
    u64 const shades = u64(w.in->shared_shadow.data()) - shared_begin / 2 * sizeof(shadow);
    for (int l = 0; l < 32; ++l) {
      p.at[l] = reinterpret_cast<u8*>(memory + p.address[l]);
      p.shade[l] = reinterpret_cast<shadow*>(shades + p.address[l] / 2 * sizeof(shadow));
    }
    return;
  }
  for (u32 left = mask; left != 0; left &= left - 1) {
    int const l = std::countr_zero(left);
    u32 const address = u32(p.address[l]);
    block& b = (address >> 24) == 0 ? *w.in : owner_of(w, address, what);
    u32 const offset = address & 0xFFFFFF;
    if (p.address[l] >> 32 != 0 || offset < shared_begin || offset + bytes > b.shared_end)
      raise(
          w, illegal_address,
          format("%s of %u bytes of shared memory at %llx by thread %u of block %u, which has [%u, %u)", what, bytes,
                 static_cast<unsigned long long>(p.address[l]), w.index * 32 + l, w.in->x, shared_begin, b.shared_end));
    p.at[l] = b.shared.data() + (offset - shared_begin);
    p.shade[l] = b.shared_shadow.data() + (offset - shared_begin) / 2;
  }
}

namespace {

void find_local(warp& w, places& p, u32 mask, u32 bytes) {
  for (u32 left = mask; left != 0; left &= left - 1) {
    int const l = std::countr_zero(left);
    u64 const offset = p.address[l] & 0xFFFFFFFFu;
    if (offset + bytes > w.code->local_bytes) raise(w, illegal_address, "an access beyond local memory");
    p.at[l] = w.local.data() + std::size_t(l) * w.code->local_bytes + offset;
  }
}
void find_param(warp& w, places& p, u32 mask, u32 bytes, bool writes) {
  launch const& of = *w.in->of->of;
  if (writes) raise(w, illegal_address, "a store to parameters");
  for (u32 left = mask; left != 0; left &= left - 1) {
    int const l = std::countr_zero(left);
    u64 const offset = p.address[l] & 0xFFFFFFFFu;
    if (offset + bytes > of.params.size())
      raise(w, illegal_address,
            format("an access beyond parameters, at byte %llu of %zu", static_cast<unsigned long long>(offset),
                   of.params.size()));
    p.at[l] = const_cast<u8*>(of.params.data()) + offset;
  }
}

/// Distinct 32-byte sectors of a request.
u32 sectors_of(u64 const* address, u32 mask, u32 bytes) {
  u64 seen[64];
  u32 count = 0;
  for (u32 left = mask; left != 0; left &= left - 1) {
    u64 const a = address[std::countr_zero(left)];
    for (u64 s = a / 32; s <= (a + bytes - 1) / 32; ++s) {
      bool known = false;
      for (u32 n = count; n-- > 0 && !known;) known = seen[n] == s;
      if (!known && count < 64) seen[count++] = s;
    }
  }
  return count;
}

}  // namespace

passes passes_of(u64 const* address, u32 mask, u32 bytes) {
  int const lanes_each = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  passes p{0, 0};
  for (int first = 0; first < 32; first += lanes_each) {
    u32 words[32][32], counts[32] = {}, most = 0;
    for (int l = first; l < first + lanes_each; ++l) {
      if ((mask >> l & 1) == 0) continue;
      for (u32 b = 0; b < std::max(bytes, 4u); b += 4) {
        u32 const word = u32(address[l] + b) / 4, bank = word % 32;
        bool known = false;
        for (u32 n = 0; n < counts[bank] && !known; ++n) known = words[bank][n] == word;
        if (!known) words[bank][counts[bank]++] = word, most = std::max(most, counts[bank]);
      }
    }
    p.wavefronts += most;
    p.phases += most > 0;
  }
  return p;
}

void count_access(warp& w, places const& p, u32 mask, u32 bytes, where_to space) {
  line_count& c = w.counts[w.current];
  c.bytes += u64(bytes) * u32(std::popcount(mask));
  if (space == where_to::global) c.sectors += sectors_of(p.address, mask, bytes);
  else if (space == where_to::shared) {
    passes const n = passes_of(p.address, mask, bytes);
    c.wavefronts += n.wavefronts, c.phases += n.phases;
  }
}

namespace {

/// What is behind an access by a barrier of its block, or by its launch's beginning, as two comparisons: most of what
/// the shadow knows.
struct past {
  u64 here;    ///< block and its barriers so far
  u64 launch;  ///< stamps below are of earlier launches, or of the host
  explicit past(warp const& w) : here(w.stamp >> epoch_shift), launch(w.in->of->of->first_serial << serial_shift) {}
  /// Whether a stamp is of this block before its last barrier, or of an earlier launch; not nobody's.
  bool holds(u64 stamp) const {
    return (((stamp >> epoch_shift) ^ here) - 1 < (u64{1} << (serial_shift - epoch_shift)) - 1) |
           (stamp - 1 < launch - 1);
  }
};

/// An access whose entries have one history that nothing is to be said of: true if it is done.
template <bool Write, u32 Entries>
bool is_usual(past const& p, shadow* s, u64 mine) {
  shadow const before = s[0];
  bool usual = true;
  for (u32 e = 1; e < Entries; ++e) usual &= (s[e].written == before.written) & (s[e].read == before.read);
  u64 const level = before.read & 7;
  bool const read_before = (before.read == 0) | (p.holds(before.read) & (level <= of_block));
  if constexpr (Write) {
    bool const written_before = p.holds(before.written) & ((before.written & 7) == 0);
    if (!(usual & read_before & ((before.written == 0) | written_before))) return false;
    for (u32 e = 0; e < Entries; ++e) s[e] = {mine, 0};
  } else {
    u64 const both = before.read ^ mine;
    // Lanes of one warp that nothing orders, or the same one again.
    bool const lanes_read = (both & ~u64{(31 << thread_shift) | 7}) == 0;
    if (!(usual & p.holds(before.written) & ((before.written & 7) == 0) & (read_before | lanes_read))) return false;
    bool const others = lanes_read & (level == one) & (both >> thread_shift != 0);
    u64 const now = lanes_read ? before.read | (others ? u64(lanes) : 0) : mine;
    for (u32 e = 0; e < Entries; ++e) s[e].read = now;
  }
  return true;
}

/// The entries of an access one by one. Those with the history of the first become what it becomes.
template <bool Write>
void check_entries(warp& w, shadow* s, u32 entries, u64 mine, u64 address, bool shared) {
  shadow const before = s[0];
  bool report = false;
  if constexpr (!Write) {
    options const& o = options::get();
    report = shared && o.uninitialised;
    if (!shared && o.global_uninitialised && before.written == 0) {
      allocation const* const a = memory_space::get().find(address);
      report = a != nullptr && a->kind == memory_kind::device;
    }
  }
  for (u32 e = 0; e < entries; ++e) {
    if (e > 0 && s[e].written == before.written && s[e].read == before.read) s[e] = s[0];
    else if constexpr (Write) touch_written(w, s[e], mine, address + 2 * e);
    else touch_read(w, s[e], mine, address + 2 * e, report, shared);
  }
}

template <bool Write, u32 Entries>
void check_lanes(warp& w, places const& p, u32 mask, bool shared) {
  past const before(w);
  shadow const* known = nullptr;  // whose last readers are several lanes of this warp: one more changes nothing
  each_lane_in_order(mask, [&](int l) {
    shadow* const s = p.shade[l];
    if (s == known) return;
    u64 const mine = w.stamp_of(u32(l));
    if (!is_usual<Write, Entries>(before, s, mine)) check_entries<Write>(w, s, Entries, mine, p.address[l], shared);
    else if (!Write && (s->read & 7) == lanes) known = s;
  });
}

/// Single bytes: those of other threads share the entry, and nothing is said of races.
template <bool Write>
void check_bytes(warp& w, places const& p, u32 mask, bool shared) {
  each_lane_in_order(mask, [&](int l) {
    shadow& s = *p.shade[l];
    if constexpr (Write) {
      s.written = w.stamp_of(u32(l));
    } else if (s.written == 0) {
      options const& o = options::get();
      auto const* const a = shared ? nullptr : memory_space::get().find(p.address[l]);
      bool const device = a != nullptr && a->kind == memory_kind::device;
      if (shared ? o.uninitialised : o.global_uninitialised && device) note_uninitialised(w, p.address[l], shared);
    }
  });
}

}  // namespace

template <bool Write>
void check(warp& w, places const& p, u32 mask, u32 bytes, where_to space) {
  bool const shared = space == where_to::shared;
  switch (bytes) {
    case 1:
      return check_bytes<Write>(w, p, mask, shared);
    case 2:
      return check_lanes<Write, 1>(w, p, mask, shared);
    case 4:
      return check_lanes<Write, 2>(w, p, mask, shared);
    case 8:
      return check_lanes<Write, 4>(w, p, mask, shared);
    case 16:
      return check_lanes<Write, 8>(w, p, mask, shared);
    default:  // four numbers of 64 bits
      each_lane_in_order(mask, [&](int l) {
        check_entries<Write>(w, p.shade[l], bytes / 2, w.stamp_of(u32(l)), p.address[l], shared);
      });
  }
}

template <bool Write>
void find(warp& w, places& p, u32 mask, u32 bytes, where_to space) {
  char const* const what = Write ? "a store" : "a load";
  if (space == where_to::generic) {
    u64 const window = p.address[std::countr_zero(mask)] >> space_shift;
    for (u32 left = mask; left != 0; left &= left - 1)
      if (p.address[std::countr_zero(left)] >> space_shift != window)
        throw unsupported("generic addresses of several spaces in one access");
    if (window == 4) {
      space = where_to::shared;
      for (int l = 0; l < 32; ++l) p.address[l] &= ~shared_window;
    } else space = window == 5 ? where_to::local : window == 6 ? where_to::param : where_to::global;
  }
  switch (space) {
    case where_to::global:
      find_global(w, p, mask, bytes, what);
      break;
    case where_to::shared:
      find_shared(w, p, mask, bytes, what);
      break;
    case where_to::local:
      find_local(w, p, mask, bytes);
      break;
    default:
      find_param(w, p, mask, bytes, Write);
  }
  if (space == where_to::global || space == where_to::shared) check<Write>(w, p, mask, bytes, space);
  if (w.counts != nullptr) count_access(w, p, mask, bytes, space);
}
template void find<false>(warp&, places&, u32, u32, where_to);
template void find<true>(warp&, places&, u32, u32, where_to);

void read_lines(warp& w, u32 const* addresses, u32 offset, u32 mask, u8 (&lines)[32][16]) {
  places p;
  for (int l = 0; l < 32; ++l) p.address[l] = u32(addresses[l] + offset);
  check_alignment(w, p.address, mask, 16);
  find_shared(w, p, mask, 16, "ldmatrix");
  check<false>(w, p, mask, 16, where_to::shared);
  if (w.counts != nullptr) count_access(w, p, mask, 16, where_to::shared);
  each_lane_in_order(mask, [&](int l) { std::memcpy(lines[l], p.at[l], 16); });
}

}  // namespace emu
