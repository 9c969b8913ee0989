// hoft/cpu/policy.hpp: the execution policy of the CPU and its two ways of walking over panels.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/core/scalar.hpp>
#include <hoft/cpu/float_modes.hpp>
#include <hoft/cpu/thread_pool.hpp>
#include <hoft/view/matrix_view.hpp>

#include <algorithm>
#include <atomic>
#include <concepts>
#include <exception>
#include <mutex>

namespace HOFT_TARGET_NAMESPACE {
namespace cpu_backend {

/// Compute on the CPU. Results have the same bits for every number of threads.
/// `threads` > 1 takes them from `executor`, for example a thread_pool, which must outlive the calls. Without one, each
/// parallel part of a call starts threads of its own, which allocates and takes longer than a small problem. Workspace
/// grows with `threads`, used or not. A value below 1 counts as 1.
struct cpu {
  using execution_policy_tag = void;
  int threads = 1;
  hoft::executor* executor = nullptr;
};

/// How many workers may run at once: each needs scratch memory of its own.
inline index_t worker_count(cpu const& policy) { return (std::max)(policy.threads, 1); }

/// The policy for work inside one worker.
inline cpu serial(cpu const&) { return {}; }

/// body(worker, task) once for each task in [0, tasks), tasks taken in ascending order by up to `threads` workers. What
/// a body throws is thrown here when all have ended; the tasks not yet begun are then left out.
template <class Body>
void parallel_for(cpu const& policy, index_t tasks, Body const& body) {
  index_t const workers = (std::min)(worker_count(policy), tasks);
  if (workers <= 1) {
    for (index_t task = 0; task < tasks; ++task) body(index_t{0}, task);
    return;
  }
  struct shared_work {
    Body const& body;
    index_t const tasks;
    std::atomic<index_t> next{0};
    std::exception_ptr error{};
    std::once_flag first_error{};
    float_modes const modes = float_modes::of_this_thread();  // the caller's
  } work{body, tasks};
  auto const one = [](void* shared, index_t worker) noexcept {
    auto& w = *static_cast<shared_work*>(shared);
    float_modes_scope const same_modes(w.modes);
    try {
      for (index_t task; (task = w.next.fetch_add(1, std::memory_order_relaxed)) < w.tasks;) w.body(worker, task);
    } catch (...) {
      std::call_once(w.first_error, [&] { w.error = std::current_exception(); });
      w.next.store(w.tasks, std::memory_order_relaxed);
    }
  };
  if (policy.executor != nullptr) policy.executor->run(workers, one, &work);
  else run_on_new_threads(workers, one, &work);
  if (work.error) std::rethrow_exception(work.error);
}

/// The policy for independent work of that many multiply-adds: one thread where waking or starting others takes longer.
inline cpu worth_threads(cpu const& policy, index_t work) {
  constexpr index_t least = index_t{1} << 20;
  return work < least ? cpu{} : policy;
}

/// Problems of a batch that are worked on at a time.
inline index_t problems_at_once(cpu const& policy, index_t) { return worker_count(policy); }

/// body(policy, slot, i) for every problem i of a batch, in any order; slot < problems_at_once numbers the parts of a
/// workspace. follows(i): problem i begins when problem i - 1 has ended.
template <class Follows, class Body>
void for_each_problem(cpu const& policy, index_t count, Follows const& follows, Body const& body) {
  parallel_for(policy, count, [&](index_t worker, index_t i) {
    if (follows(i)) return;  // whoever has the first of a run has them all
    do body(serial(policy), worker, i);
    while (++i < count && follows(i));
  });
}
/// A base operator of the caller's, as a problem of a batch calls it.
template <class Base>
Base& in_order(cpu const&, Base& base) {
  return base;
}

/// Columns of one panel of a matrix with m rows of elements T: a function of shapes alone, so that results do not
/// depend on the number of threads. Panels with contiguous columns stay in the second-level cache. Panels with
/// contiguous rows are wide, since rows lie far apart: they stay in the last-level cache, and their parts in the first;
/// converted ones (16-bit storage) lie together in memory and stay in the second level.
template <class T, class Layout>
index_t panel_width(cpu const&, index_t m) {
  using A = accumulator_t<T>;
  constexpr bool row = std::same_as<Layout, row_major>, converted = !std::same_as<T, A>;
  constexpr index_t cache = index_t{1} << 19;
  constexpr index_t least = row ? 64 : 12, most = row ? 256 : 96;
  if (row && !converted) return most;
  index_t const fits = cache / (std::max<index_t>(m, 1) * index_t(sizeof(A)));
  return std::clamp(fits / least * least, least, most);
}

/// Consecutive columns, and how many of those behind them the same worker takes next (0 if it is not known).
struct panel {
  index_t first, count, next;
};

/// body(worker, panel) for consecutive panels of `width` columns that cover [0, n), in any order. Workers take runs of
/// panels, long ones first: within a run the next panel is known, and at the end nobody waits long.
template <class Body>
void for_each_panel(cpu const& policy, index_t n, index_t width, Body const& body) {
  index_t const panels = (n + width - 1) / width, workers = (std::min)(worker_count(policy), panels);
  std::atomic<index_t> taken{0};
  parallel_for(policy, workers, [&](index_t worker, index_t) {
    for (index_t first = taken.load(std::memory_order_relaxed); first < panels;) {
      index_t const run = workers == 1 ? panels : std::max<index_t>(1, (panels - first) / (2 * workers));
      if (!taken.compare_exchange_weak(first, first + run, std::memory_order_relaxed)) continue;
      index_t const end = (std::min)(n, (first + run) * width);
      for (index_t j = first * width; j < end; j += width) {
        index_t const count = (std::min)(width, end - j);
        body(worker, panel{j, count, (std::min)(width, end - j - count)});
      }
      first = taken.load(std::memory_order_relaxed);
    }
  });
}

/// The same for sums over columns. Panels are grouped into chunks: clear(worker) starts a chunk's partial sum, body
/// adds each of its panels, merge(worker) adds the partial sum to the total. Merges run one after another in the order
/// of the chunks, and chunks depend on shapes alone, so the sum is rounded the same way for every number of threads.
/// What a body throws ends the walk: chunks that wait for their turn are not merged.
template <class Clear, class Body, class Merge>
void for_each_panel_summed(cpu const& policy, index_t n, index_t width, Clear const& clear, Body const& body,
                           Merge const& merge) {
  constexpr index_t least_chunk = 256;  // columns: enough that merging [m, r] sums costs under 1 % of making them
  index_t const chunk = (least_chunk + width - 1) / width * width;
  constexpr index_t stopped = -1;
  std::atomic<index_t> turn{0};
  auto const sum_chunk = [&](index_t worker, index_t task) {
    clear(worker);
    index_t const end = (std::min)(n, (task + 1) * chunk);
    for (index_t j = task * chunk; j < end; j += width) {
      index_t const count = (std::min)(width, end - j);
      // With one worker the next chunk follows.
      index_t const after = worker_count(policy) == 1 ? n : end;
      body(worker, panel{j, count, (std::min)(width, after - j - count)});
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

}  // namespace cpu_backend

using cpu_backend::cpu;

}  // namespace HOFT_TARGET_NAMESPACE
