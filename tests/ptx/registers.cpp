// SPDX-License-Identifier: BSD-3-Clause
// Where the registers of a kernel lie, shared by those that are not needed at the same time.
#include "lower.hpp"

#include <algorithm>
#include <bit>

namespace emu {
namespace {

class allocator {
 public:
  allocator(lowering const& in, std::vector<u32> const& leaders) : in_(in) { intervals(leaders); }

  u32 assign() {
    std::size_t const n = in_.f.regs.size();
    std::vector<u32> sorted;
    for (u32 r = 0; r < n; ++r)
      if (begin_[r] != no_operand) sorted.push_back(r);
    std::sort(sorted.begin(), sorted.end(), [&](u32 a, u32 b) { return begin_[a] < begin_[b]; });
    offset.assign(n, no_operand);
    std::vector<u32> free[4];
    std::vector<std::pair<u32, u32>> active;  // heap by end
    auto const later = [](auto const& a, auto const& b) { return a.first > b.first; };
    u32 top = 0;
    for (u32 r : sorted) {
      while (!active.empty() && active.front().first < begin_[r]) {
        std::pop_heap(active.begin(), active.end(), later);
        u32 const old = active.back().second;
        active.pop_back();
        free[size_class(old)].push_back(offset[old]);
      }
      auto& list = free[size_class(r)];
      if (!list.empty()) {
        offset[r] = list.back();
        list.pop_back();
      } else {
        static constexpr u32 bytes[] = {64, 64, 128, 256};
        offset[r] = top;
        top += bytes[size_class(r)];
      }
      active.emplace_back(end_[r], r);
      std::push_heap(active.begin(), active.end(), later);
    }
    return top;
  }
  std::vector<u32> offset;

 private:
  u32 size_class(u32 r) const {
    u32 const size = size_of_type(in_.f.regs[r].type);
    return size == 0 ? 0 : size <= 2 ? 1 : size == 4 ? 2 : 3;
  }
  void intervals(std::vector<u32> const& leaders) {
    std::size_t const n = in_.f.regs.size(), count = in_.code.size(), blocks = leaders.size();
    std::vector<u32> block_of(count);
    for (std::size_t b = 0; b < blocks; ++b)
      for (u32 pc = leaders[b]; pc < (b + 1 < blocks ? leaders[b + 1] : count); ++pc) block_of[pc] = u32(b);
    std::size_t const words = (n + 63) / 64;
    std::vector<u64> used(blocks * words), defined(blocks * words), live_in(blocks * words), live_out(blocks * words);
    auto const set = [&](std::vector<u64>& bits, std::size_t b, u32 r) {
      bits[b * words + r / 64] |= u64{1} << (r % 64);
    };
    auto const has = [&](std::vector<u64> const& bits, std::size_t b, u32 r) {
      return (bits[b * words + r / 64] >> (r % 64) & 1) != 0;
    };
    begin_.assign(n, no_operand), end_.assign(n, 0);
    auto const touch = [&](u32 r, u32 pc) {
      begin_[r] = begin_[r] == no_operand ? pc : std::min(begin_[r], pc);
      end_[r] = std::max(end_[r], pc);
    };
    std::vector<std::vector<u32>> successors(blocks);
    for (std::size_t pc = 0; pc < count; ++pc) {
      std::size_t const b = block_of[pc];
      instruction const& i = in_.code[pc];
      for (auto const& ref : in_.all_refs[pc])
        if (ref.is_register && !ref.defines) {
          touch(ref.value, u32(pc));
          if (!has(defined, b, ref.value)) set(used, b, ref.value);
        }
      if (i.guard != no_operand) {
        touch(i.guard, u32(pc));
        if (!has(defined, b, i.guard)) set(used, b, i.guard);
      }
      for (auto const& ref : in_.all_refs[pc])
        if (ref.is_register && ref.defines) {
          touch(ref.value, u32(pc));
          // what is defined under a condition keeps its value for other lanes
          if (i.guard != no_operand) {
            if (!has(defined, b, ref.value)) set(used, b, ref.value);
          } else set(defined, b, ref.value);
        }
      bool const last = pc + 1 == count || block_of[pc + 1] != b;
      if (!last) continue;
      if (i.what == control::branch) successors[b].push_back(block_of[i.target]);
      bool const goes_on = !((i.what == control::branch || i.what == control::exit) && i.guard == no_operand);
      if (goes_on && pc + 1 < count) successors[b].push_back(block_of[pc + 1]);
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t b = blocks; b-- > 0;) {
        for (std::size_t k = 0; k < words; ++k) {
          u64 out = 0;
          for (u32 s : successors[b]) out |= live_in[s * words + k];
          u64 const in = used[b * words + k] | (out & ~defined[b * words + k]);
          if (out != live_out[b * words + k] || in != live_in[b * words + k]) changed = true;
          live_out[b * words + k] = out, live_in[b * words + k] = in;
        }
      }
    }
    for (std::size_t b = 0; b < blocks; ++b) {
      u32 const first = leaders[b], last = (b + 1 < blocks ? leaders[b + 1] : u32(count)) - 1;
      for (std::size_t k = 0; k < words; ++k) {
        for (u64 bits = live_in[b * words + k]; bits != 0; bits &= bits - 1)
          touch(u32(k * 64 + std::size_t(std::countr_zero(bits))), first);
        for (u64 bits = live_out[b * words + k]; bits != 0; bits &= bits - 1)
          touch(u32(k * 64 + std::size_t(std::countr_zero(bits))), last);
      }
    }
  }

  lowering const& in_;
  std::vector<u32> begin_, end_;
};

}  // namespace

u32 place_registers(lowering const& in, std::vector<u32> const& leaders, std::vector<u32>& offset) {
  allocator places(in, leaders);
  u32 const bytes = places.assign();
  offset = std::move(places.offset);
  return bytes;
}

}  // namespace emu
