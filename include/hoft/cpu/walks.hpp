// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/walks.hpp: how the CPU walks over panels and over the problems of a batch.
#pragma once
#include <hoft/backend/defaults.hpp>
#include <hoft/cpu/kernel/packet.hpp>
#include <hoft/cpu/policy.hpp>

namespace HOFT_TARGET_NAMESPACE::cpu_backend {

struct walks : backend::defaults {
  /// Workers that may run at once.
  static index_t worker_count(cpu const& policy) { return cpu_backend::worker_count(policy); }
  /// How many of them the walks below keep busy at most: each has scratch memory of its own.
  static index_t panel_workers(cpu const& policy, index_t n, index_t width) {
    return (std::min)(worker_count(policy), (n + width - 1) / width);
  }
  static index_t sum_workers(cpu const& policy, index_t n, index_t width) {
    return panel_workers(policy, n, chunk_of(n, width));
  }
  /// The policy for work inside one worker.
  static cpu serial(cpu const&) { return {}; }

  /// Problems of a batch that are worked on at a time.
  static index_t problems_at_once(cpu const& policy, index_t count) {
    return std::clamp<index_t>(count, 1, worker_count(policy));
  }

  /// body(policy, slot, i) for every problem i of a batch, in any order; slot < problems_at_once numbers the parts of a
  /// workspace.
  template <class Body>
  static void for_each_problem(cpu const& policy, index_t count, Body const& body) {
    for_each_run(policy, count, worker_count(policy), [&](index_t worker, index_t first, index_t end) {
      for (index_t i = first; i < end; ++i) body(serial(policy), worker, i);
    });
  }
  /// A projection only reads, an update writes too, and both directions at once are slower; but what stays in the
  /// caches, and is updated in place, is better fetched by the update.
  static bool fetches_early(cpu const&, index_t bytes, bool in_place) {
    return !in_place || bytes > kernel::leaves_caches;
  }
  /// Columns of one panel of a matrix with m rows of elements T. Each panel passes reflectors or sums of shape
  /// [m, beside] once. The width is a function of shapes alone, so that results do not depend on the number of threads.
  /// Panels with contiguous columns stay in the second-level cache, beside others that a pass reads with them, the
  /// reflectors and the sums. Panels with contiguous rows are wide, since rows lie far apart: they stay in the
  /// last-level cache, and their parts in the first; converted ones (16-bit storage) lie together in memory and stay in
  /// the second level.
  template <class T, class Layout>
  static index_t panel_width(cpu const&, index_t m, index_t beside) {
    using A = accumulator_t<T>;
    constexpr bool row = std::same_as<Layout, row_major>, converted = !std::same_as<T, A>;
    constexpr index_t cache = index_t{1} << 19, least = row ? 64 : 18, step = row ? 64 : 6, most = row ? 256 : 96;
    if (row && !converted) return most;
    // Narrower panels than the least would pass reflectors and sums too often, also where they alone fit the cache.
    auto const fits = [m](index_t bytes) {
      return bytes / (std::max<index_t>(m, 1) * index_t(sizeof(A))) / step * step;
    };
    if constexpr (row) return std::clamp(fits(cache), least, most);
    // What does not stay in the cache is read again with each panel, so a wider one pays, if it fits at all.
    bool const stays = m * beside * index_t(sizeof(A)) <= cache;
    index_t const narrow = stays ? least : std::clamp<index_t>(fits(cache), least, 2 * least);
    return std::clamp(fits(3 * cache / 8), narrow, most);
  }

  /// body(worker, panel) for consecutive panels of `width` columns that cover [0, n), in any order. Within a run the
  /// next panel is known.
  template <class Body>
  static void for_each_panel(cpu const& policy, index_t n, index_t width, Body const& body) {
    index_t const panels = (n + width - 1) / width;
    for_each_run(policy, panels, panel_workers(policy, n, width), [&](index_t worker, index_t first, index_t last) {
      index_t const end = (std::min)(n, last * width);
      for (index_t j = first * width; j < end; j += width) {
        index_t const count = (std::min)(width, end - j);
        body(worker, backend::panel{j, count, (std::min)(width, end - j - count)});
      }
    });
  }

  /// The same for sums over columns. Panels are grouped into chunks: clear(worker) starts a chunk's partial sum, body
  /// adds each of its panels, merge(worker) adds the partial sum to the total. Merges run one after another in the
  /// order of the chunks, and chunks depend on shapes alone, so the sum is rounded the same way for every number of
  /// threads. What a body throws ends the walk: chunks that wait for their turn are not merged.
  template <class Clear, class Body, class Merge>
  static void for_each_panel_summed(cpu const& policy, index_t n, index_t width, Clear const& clear, Body const& body,
                                    Merge const& merge) {
    index_t const chunk = chunk_of(n, width);
    constexpr index_t stopped = -1;
    std::atomic<index_t> turn{0};
    auto const sum_chunk = [&](index_t worker, index_t task) {
      clear(worker);
      index_t const end = (std::min)(n, (task + 1) * chunk);
      for (index_t j = task * chunk; j < end; j += width) {
        index_t const count = (std::min)(width, end - j);
        // With one worker the next chunk follows.
        index_t const after = worker_count(policy) == 1 ? n : end;
        body(worker, backend::panel{j, count, (std::min)(width, after - j - count)});
      }
      for (index_t now; (now = turn.load(std::memory_order_acquire)) != task;) {
        if (now == stopped) return;
        turn.wait(now, std::memory_order_acquire);
      }
      merge(worker);
    };
    parallel_for(policy, (n + chunk - 1) / chunk, [&](index_t worker, index_t task) {
      try {
        sum_chunk(worker, task);
      } catch (...) {
        turn.store(stopped, std::memory_order_release);
        turn.notify_all();
        throw;
      }
      index_t mine = task;  // unless the walk has been stopped
      if (turn.compare_exchange_strong(mine, task + 1, std::memory_order_acq_rel)) turn.notify_all();
    });
  }

 private:
  /// body(worker, first, end) for runs that cover [0, count), in any order. Workers take long ones first: that asks
  /// seldom for the next, and at the end no worker waits long. What a body throws ends the walk.
  template <class Body>
  static void for_each_run(cpu const& policy, index_t count, index_t workers, Body const& body) {
    workers = (std::min)(workers, count);
    std::atomic<index_t> taken{0};
    parallel_for(policy, workers, [&](index_t worker, index_t) {
      for (index_t first = taken.load(std::memory_order_relaxed); first < count;) {
        index_t const run = workers == 1 ? count : std::max<index_t>(1, (count - first) / (2 * workers));
        if (!taken.compare_exchange_weak(first, first + run, std::memory_order_relaxed)) continue;
        try {
          body(worker, first, first + run);
        } catch (...) {
          taken.store(count, std::memory_order_relaxed);
          throw;
        }
        first = taken.load(std::memory_order_relaxed);
      }
    });
  }

  /// Columns of a chunk: a 64th of all, for as many threads, but no fewer than 128, beside which merging [m, r] sums
  /// costs little, and no more than 256, where it costs less than 1 %; rounded up to whole panels.
  static index_t chunk_of(index_t n, index_t width) {
    constexpr index_t threads = 64, least = 128, most = 256;
    index_t const share = std::clamp(n / threads, least, most);
    return (share + width - 1) / width * width;
  }
};

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
