// SPDX-License-Identifier: BSD-3-Clause
#include "machine.hpp"

#include "report.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <thread>

namespace emu {

void raise(warp const& w, int error, std::string const& what) {
  throw fault(error, what + "\n        at " + w.place());
}
void note(warp const& w, std::string const& kind, std::string const& what) {
  findings::get().add(kind, w.place(), what);
}

void warp::refresh_stamp() {
  stamp = in->serial << serial_shift | u64(in->epoch & 0xFFFF) << epoch_shift | u64(epoch & 255) << warp_epoch_shift |
          u64(index * 32) << thread_shift;
}

namespace {

std::atomic<u64> next_serial{1};

u64 random_of(u64& state) {  // xorshift
  state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  return state;
}

/// Executes warps of one cluster after another.
class worker {
 public:
  worker(launch const& of, bool counts) : launch_(of), options_(options::get()) {
    if (counts) counts_.resize(of.code->code.size());
  }

  void run(u32 which) {
    begin(which);
    std::vector<warp*> all;
    for (auto& b : cluster_.blocks)
      for (auto& w : b->warps) all.push_back(&w);
    if (options_.order == schedule::reverse) std::reverse(all.begin(), all.end());
    while (cluster_.live_threads > 0) {
      bool moved = false;
      if (options_.order == schedule::random)
        for (std::size_t n = all.size(); n > 1; --n) std::swap(all[n - 1], all[random_of(cluster_.random) % n]);
      for (warp* w : all)
        if (w->ready != 0) {
          moved = true;
          u64 const budget = options_.order == schedule::random ? 1 + random_of(cluster_.random) % 400 : ~u64{0};
          if (counts_.empty()) execute<false>(*w, budget);
          else execute<true>(*w, budget);
        }
      if (!moved && cluster_.live_threads > 0) deadlock(all);
    }
  }
  std::vector<line_count> const& counts() const { return counts_; }

 private:
  void begin(u32 which) {
    program const& p = *launch_.code;
    cluster& c = cluster_;
    c.of = &launch_, c.x = which;
    c.phase = 0, c.arrived_threads = 0;
    c.random = options_.seed * 0x9E3779B97F4A7C15u + which * 0xD1B54A32D192ED03u + 1;
    c.blocks.resize(launch_.cluster);
    u32 const threads = u32(launch_.threads.volume()), warps = (threads + 31) / 32;
    c.live_threads = threads * launch_.cluster;
    c.first_serial = next_serial.fetch_add(launch_.cluster);
    for (u32 rank = 0; rank < launch_.cluster; ++rank) {
      auto& slot = c.blocks[rank];
      if (slot == nullptr) slot = std::make_unique<block>();
      block& b = *slot;
      b.of = &c, b.rank = rank;
      u64 const at = u64(which) * launch_.cluster + rank;
      b.x = u32(at % launch_.grid.x), b.y = u32(at / launch_.grid.x % launch_.grid.y),
      b.z = u32(at / launch_.grid.x / launch_.grid.y);
      b.serial = c.first_serial + rank;
      b.epoch = 1;
      b.arrives_at.assign(2, 0);
      u32 const shared = p.dynamic_shared + launch_.dynamic_shared - shared_begin;
      b.shared.assign(shared, 0xFF);
      b.shared_shadow.assign((shared + 1) / 2, shadow{0, 0});
      b.shared_end = shared_begin + shared;
      b.memory_barriers.clear();
      b.live_threads = threads, b.waiting_threads = 0, b.barrier_id = -1;
      b.exited = false, b.remote_arrives = 0, b.remote_place.clear();
      b.warps.resize(warps);
      for (u32 n = 0; n < warps; ++n) {
        warp& w = b.warps[n];
        w.in = &b, w.code = &p, w.index = n;
        w.registers.resize(p.register_bytes + 64);
        w.base[0] = w.registers.data() + (64 - reinterpret_cast<std::uintptr_t>(w.registers.data()) % 64) % 64;
        w.base[1] = const_cast<u8*>(p.constants.data());
        w.local.assign(std::size_t(p.local_bytes) * 32, 0xFF);
        u32 const lanes = std::min(32u, threads - n * 32);
        w.live = w.ready = lanes == 32 ? full_warp : (1u << lanes) - 1;
        w.collecting = w.at_barrier = w.at_cluster = 0;
        w.arrived = false, w.cluster_arrived = 0, w.cluster_phase = 0;
        std::fill(std::begin(w.pc), std::end(w.pc), 0u);
        std::fill(std::begin(w.copy_group), std::end(w.copy_group), 0u);
        std::fill(std::begin(w.bulk_group), std::end(w.bulk_group), 0u);
        w.bulk_copies.clear();
        w.current = 0, w.epoch = 0;
        w.copies.clear();
        w.counts = counts_.empty() ? nullptr : counts_.data();
        w.refresh_stamp();
      }
    }
  }

  /// Lanes at the smallest place, or one lane; `limit` is where others wait to be joined.
  void pick(warp const& w, u32& mask, u32& pc, u32& limit) {
    limit = ~0u;
    if (options_.lanes_alone) {
      int lane = std::countr_zero(w.ready);
      if (options_.order == schedule::reverse) lane = 31 - std::countl_zero(w.ready);
      else if (options_.order == schedule::random) {
        u32 left = w.ready;
        for (u64 skip = random_of(cluster_.random) % u64(std::popcount(left)); skip > 0; --skip) left &= left - 1;
        lane = std::countr_zero(left);
      }
      mask = 1u << lane, pc = w.pc[lane];
      return;
    }
    pc = ~0u, mask = 0;
    for (u32 left = w.ready; left != 0; left &= left - 1) {
      int const lane = std::countr_zero(left);
      u32 const at = w.pc[lane];
      if (at == pc) mask |= 1u << lane;
      else if (at < pc) {
        limit = pc;
        pc = at, mask = 1u << lane;
      } else limit = std::min(limit, at);
    }
  }

  static void set_pc(warp& w, u32 mask, u32 pc) {
    for (u32 left = mask; left != 0; left &= left - 1) w.pc[std::countr_zero(left)] = pc;
  }

  template <bool Counts>
  void execute(warp& w, u64 budget) {
    instruction const* const code = w.code->code.data();
    while (w.ready != 0) {
      u32 mask, pc, limit;
      pick(w, mask, pc, limit);
      for (;;) {
        if (pc >= limit) {
          set_pc(w, mask, pc);
          break;
        }
        if (budget == 0) {
          set_pc(w, mask, pc);
          return;
        }
        --budget;
        instruction const& i = code[pc];
        u32 m = mask;
        if (i.guard != no_operand) m &= *w.at<u32>(i.guard) ^ i.guard_flip;
        w.current = pc;
        if constexpr (Counts) {
          line_count& c = counts_[pc];
          ++c.issued;
          c.threads += u32(std::popcount(m));
        }
        if (i.what == control::none) {
          if (m != 0) i.run(w, i, m);
          ++pc;
          continue;
        }
        if (i.what == control::branch) {
          if (m == mask) pc = i.target;
          else if (m == 0) ++pc;
          else {
            set_pc(w, m, i.target);
            set_pc(w, mask & ~m, pc + 1);
            break;
          }
          continue;
        }
        if (m == 0) {
          ++pc;
          continue;
        }
        bool const goes_on = special(w, i, m, pc);
        u32 const rest = mask & ~m;
        if (goes_on) {  // all of them are behind it
          ++pc;
          continue;
        }
        if (rest == 0) break;
        mask = rest;
        ++pc;
      }
      if (w.ready == 0) wake(w);
    }
  }

  /// An instruction that lanes may have to wait at, or that ends them; true if they are through.
  bool special(warp& w, instruction const& i, u32 m, u32 pc) {
    cluster& c = cluster_;
    switch (i.what) {
      case control::exit:
        leave(w, m);
        return false;
      case control::trap:
        raise(w, launch_failure, "trap");
      case control::collective: {
        u32 const all = wanted(w, i, m);
        if (all == m) {
          i.run(w, i, m);
          return true;
        }
        if ((m & ~all) != 0)
          raise(w, illegal_instruction, format("lanes %08x execute a collective of lanes %08x", m, all));
        set_pc(w, m, pc);
        w.ready &= ~m, w.collecting |= m;
        collect(w, pc);
        return false;
      }
      case control::barrier:
        set_pc(w, m, pc);
        w.ready &= ~m, w.at_barrier |= m;
        return false;
      case control::cluster_arrive:
        if ((w.cluster_arrived & m) != 0)
          raise(w, launch_failure, "a second arrival at the cluster's barrier without a wait");
        w.cluster_arrived |= m;
        w.cluster_phase = c.phase;
        c.arrived_threads += u32(std::popcount(m));
        if (c.arrived_threads == c.live_threads) pass_cluster();
        return true;
      case control::cluster_wait:
        if ((w.cluster_arrived & m) != m)
          raise(w, launch_failure, "a wait at the cluster's barrier without an arrival");
        if (c.phase > w.cluster_phase) {
          w.cluster_arrived &= ~m;
          return true;
        }
        set_pc(w, m, pc);
        w.ready &= ~m, w.at_cluster |= m;
        return false;
      default:
        raise(w, launch_failure, "an instruction that the machine does not know");
    }
  }

  u32 wanted(warp const& w, instruction const& i, u32 m) const {
    if (i.target == no_operand) {
      if (w.live != full_warp)
        raise(w, illegal_instruction, format("only lanes %08x of a warp reach an instruction of whole warps", w.live));
      return full_warp;
    }
    u32 const* const masks = w.at<u32>(i.o[i.target]);
    u32 const first = masks[std::countr_zero(m)];
    for (u32 left = m; left != 0; left &= left - 1)
      if (masks[std::countr_zero(left)] != first) raise(w, illegal_instruction, "lanes name different masks");
    return first & w.live;
  }
  /// Runs the collective at pc if all its lanes are there.
  bool collect(warp& w, u32 pc) {
    u32 here = 0;
    for (u32 left = w.collecting; left != 0; left &= left - 1)
      if (int const lane = std::countr_zero(left); w.pc[lane] == pc) here |= 1u << lane;
    if (here == 0) return false;
    instruction const& i = w.code->code[pc];
    w.current = pc;
    u32 const all = i.target == no_operand ? full_warp : wanted(w, i, here & (0u - here));
    if ((here & all) != all) return false;
    i.run(w, i, all);
    set_pc(w, all, pc + 1);
    w.collecting &= ~all, w.ready |= all;
    return true;
  }
  /// No lane may go on: whether what they wait for has come.
  void wake(warp& w) {
    u32 tried = 0;
    for (u32 left = w.collecting; left != 0; left &= left - 1) {
      int const lane = std::countr_zero(left);
      if ((tried >> lane & 1) != 0) continue;
      for (int l = 0; l < 32; ++l)
        if (w.pc[l] == w.pc[lane]) tried |= 1u << l;
      if (collect(w, w.pc[lane])) return;
    }
    if (w.at_barrier == 0 || w.arrived) return;
    u32 const first = w.pc[std::countr_zero(w.at_barrier)];
    w.current = first;
    if (w.at_barrier != w.live)
      raise(w, launch_failure,
            format("a barrier that lanes %08x of warp %u reach while lanes %08x wait elsewhere", w.at_barrier, w.index,
                   w.live & ~w.at_barrier));
    for (u32 left = w.at_barrier; left != 0; left &= left - 1)
      if (w.pc[std::countr_zero(left)] != first)
        raise(w, launch_failure,
              "lanes of one warp wait at different barriers, the other of which is " +
                  w.code->place(w.pc[std::countr_zero(left)]));
    block& b = *w.in;
    int const id = int(w.code->code[first].immediate);
    if (b.barrier_id >= 0 && b.barrier_id != id)
      raise(w, launch_failure, "warps of a block wait at barriers of different numbers");
    b.barrier_id = id;
    w.arrived = true;
    b.waiting_threads += u32(std::popcount(w.live));
    for (warp& other : b.warps)
      if (other.arrived && other.pc[std::countr_zero(other.at_barrier)] != first)
        note(w, "a block waits at several barriers of the program at once",
             format("warp %u here, warp %u at %s", w.index, other.index,
                    other.code->place(other.pc[std::countr_zero(other.at_barrier)]).c_str()));
    if (b.waiting_threads == b.live_threads) pass_block(b);
  }

  void pass_block(block& b) {
    b.waiting_threads = 0, b.barrier_id = -1;
    new_epoch(b);
    for (warp& w : b.warps) {
      if (!w.arrived) continue;
      w.arrived = false;
      for (u32 left = w.at_barrier; left != 0; left &= left - 1) ++w.pc[std::countr_zero(left)];
      w.ready |= w.at_barrier;
      w.at_barrier = 0;
    }
  }
  void pass_cluster() {
    ++cluster_.phase;
    cluster_.arrived_threads = 0;
    for (auto& b : cluster_.blocks) {
      if (b->exited) continue;
      new_epoch(*b);
      for (warp& w : b->warps) {
        for (u32 left = w.at_cluster; left != 0; left &= left - 1) ++w.pc[std::countr_zero(left)];
        w.cluster_arrived &= ~w.at_cluster;
        w.ready |= w.at_cluster;
        w.at_cluster = 0;
      }
    }
  }
  void new_epoch(block& b) {
    ++b.epoch;
    if (b.arrives_at.size() <= (b.epoch & 0xFFFF)) b.arrives_at.resize((b.epoch & 0xFFFF) + 1);
    b.arrives_at[b.epoch & 0xFFFF] = cluster_.phase;
    for (warp& w : b.warps) {
      w.epoch = 0;
      w.refresh_stamp();
    }
  }

  void leave(warp& w, u32 m) {
    block& b = *w.in;
    cluster& c = cluster_;
    u32 const count = u32(std::popcount(m));
    if (!w.bulk_copies.empty()) note_unfinished(w, m);
    if (u32 const early = w.cluster_arrived & m; early != 0 && c.phase == w.cluster_phase)
      c.arrived_threads -= u32(std::popcount(early));
    w.live &= ~m, w.ready &= ~m;
    b.live_threads -= count, c.live_threads -= count;
    if (b.live_threads == 0) {
      b.exited = true;
      if (b.remote_arrives > c.phase)
        note(w, "a block ends while others may still touch its memory",
             format("block %u of a cluster; touched at %s", b.rank, b.remote_place.c_str()));
    } else if (b.waiting_threads == b.live_threads && b.waiting_threads > 0) pass_block(b);
    if (c.live_threads > 0 && c.arrived_threads == c.live_threads) pass_cluster();
  }

  [[noreturn]] void deadlock(std::vector<warp*> const& all) {
    std::string text = "a deadlock:";
    int told = 0;
    for (warp* w : all) {
      if (w->live == 0 || told++ >= 12) continue;
      int const lane = std::countr_zero(w->live);
      text += format(
                  "\n        block %u warp %u: lanes %08x for their warp, %08x at a barrier, %08x at the cluster's, "
                  "lane %d at ",
                  w->in->rank, w->index, w->collecting, w->at_barrier, w->at_cluster, lane) +
              w->code->place(w->pc[lane]).substr(0, 120);
    }
    throw fault(launch_failure, text + "\n        kernel " + launch_.code->name);
  }

  launch const& launch_;
  options const& options_;
  cluster cluster_;
  std::vector<line_count> counts_;
};

}  // namespace

void run(launch& l) {
  options const& o = options::get();
  u32 const clusters = u32(l.grid.volume() / l.cluster);
  l.first_serial = next_serial.load();
  std::vector<u32> order(clusters);
  for (u32 n = 0; n < clusters; ++n) order[n] = n;
  if (o.order == schedule::reverse) std::reverse(order.begin(), order.end());
  else if (o.order == schedule::random) {
    u64 state = o.seed * 0x9E3779B97F4A7C15u + l.first_serial + 1;
    for (std::size_t n = order.size(); n > 1; --n) std::swap(order[n - 1], order[random_of(state) % n]);
  }
  bool const counts = !o.report.empty();
  auto const begun = report_begin();
  int const threads = std::min<int>(o.threads, int(clusters));
  auto const merge = [&](worker const& w) {
    if (!counts) return;
    l.counts.resize(w.counts().size());
    for (std::size_t n = 0; n < l.counts.size(); ++n) {
      line_count& to = l.counts[n];
      line_count const& from = w.counts()[n];
      to.issued += from.issued, to.threads += from.threads, to.sectors += from.sectors, to.bytes += from.bytes;
      to.wavefronts += from.wavefronts, to.phases += from.phases;
    }
  };
  if (threads <= 1) {
    worker w(l, counts);
    for (u32 n : order) w.run(n);
    merge(w);
  } else {
    std::atomic<u32> next{0};
    std::exception_ptr error;
    std::mutex mutex;
    std::vector<std::thread> all;
    for (int t = 0; t < threads; ++t)
      all.emplace_back([&] {
        try {
          worker w(l, counts);
          for (u32 n = next++; n < clusters; n = next++) w.run(order[n]);
          std::lock_guard const lock(mutex);
          merge(w);
        } catch (...) {
          std::lock_guard const lock(mutex);
          if (error == nullptr) error = std::current_exception();
          next = clusters;
        }
      });
    for (auto& t : all) t.join();
    if (error != nullptr) std::rethrow_exception(error);
  }
  if (counts) report_launch(l, begun);
}

}  // namespace emu
