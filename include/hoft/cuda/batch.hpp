// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/batch.hpp: a batch of problems, side by side. Each problem first writes down what it would launch; then
// a kernel that several recordings want next goes to the device as one launch. So a batch of small problems takes about
// as many launches as one of them, beside what cuBLAS and operators of the caller's do for each.
#pragma once
#include <hoft/cuda/launch.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

namespace HOFT_CUDA_NAMESPACE {

/// Problems that a device works on at a time; each has workspace of its own.
inline constexpr index_t most_together = 8;
/// Kernels of one type as one, each with the blocks (or clusters) that it would have alone.
template <class Kernel>
class grouped_kernel {
 public:
  static constexpr index_t room = 3840;  ///< of the 4 KB of a launch's arguments
  static constexpr index_t most = std::clamp<index_t>(room / index_t(sizeof(Kernel)), 1, most_together);

  void add(Kernel const& kernel, index_t blocks) {
    std::construct_at(reinterpret_cast<Kernel*>(kernels_) + count_, kernel);
    blocks_ += blocks;
    shared_bytes_ = (std::max)(shared_bytes_, kernel.shared_bytes());
    ends_[count_++] = blocks_;
  }
  index_t blocks() const { return blocks_; }
  index_t shared_bytes() const { return shared_bytes_; }

  template <class Blocks>
  HOFT_HOST_DEVICE void operator()(Blocks const& all) const {
    index_t i = 0, first = 0;
    while (all.x >= ends_[i]) first = ends_[i++];
    reinterpret_cast<Kernel const*>(kernels_)[i](all.share(all.x - first, ends_[i] - first));
  }

 private:
  static_assert(std::is_trivially_copyable_v<Kernel>);
  alignas(Kernel) std::byte kernels_[std::size_t(most) * sizeof(Kernel)];
  index_t ends_[most] = {};  ///< of the blocks of each and of those before it
  index_t count_ = 0, blocks_ = 0, shared_bytes_ = 0;
};

/// What one problem asks of a device, in order.
template <device_policy Device>
struct recording {
  struct step {
    using runner = void(Device const&, std::span<step const* const>);
    runner* run;    ///< takes any number of steps that have the same `run` and `size`
    index_t count;  ///< blocks or clusters
    cluster_size size;
    std::shared_ptr<void const> what;
  };
  std::vector<step> steps;

  /// launch(device, count, size, kernel) for the kernels of each launch.
  template <class Kernel, class Launch>
  static void run_kernels(Device const& device, std::span<step const* const> steps, Launch const& launch) {
    using together = grouped_kernel<Kernel>;
    auto const kernel = [](step const* s) -> Kernel const& { return *static_cast<Kernel const*>(s->what.get()); };
    while (!steps.empty()) {
      auto const now = steps.first((std::min)(steps.size(), std::size_t(together::most)));
      steps = steps.subspan(now.size());
      if (now.size() == 1) {
        launch(device, now[0]->count, now[0]->size, kernel(now[0]));
      } else if constexpr (together::most > 1) {
        together all;
        for (step const* s : now) all.add(kernel(s), s->count);
        launch(device, all.blocks(), now[0]->size, all);
      }
    }
  }
  /// `launch`, without captures, is not kept: its type tells what to call.
  template <class Kernel, class Launch>
  void add_kernel(index_t count, cluster_size size, Kernel const& kernel, Launch) {
    auto const run = [](Device const& device, std::span<step const* const> alike) {
      run_kernels<Kernel>(device, alike, Launch{});
    };
    steps.push_back({run, count, size, std::make_shared<Kernel const>(kernel)});
  }
  /// f(device), which no other problem's step can be joined with.
  template <class F>
  void add_call(F const& f) {
    auto const run = [](Device const& device, std::span<step const* const> alike) {
      for (step const* s : alike) (*static_cast<F const*>(s->what.get()))(device);
    };
    steps.push_back({run, 0, {}, std::make_shared<F const>(f)});
  }
};

/// Runs all recordings. Of the next steps, that of the recording with most steps to go is run, and with it all that are
/// like it: so a recording with steps of its own takes them before the others go on, and they meet again behind them.
template <device_policy Device>
void run_recordings(Device const& device, std::span<recording<Device> const> recordings) {
  using step = typename recording<Device>::step;
  std::size_t const count = recordings.size();
  std::vector<std::size_t> done(count), alike;
  std::vector<step const*> together;
  auto const next = [&](std::size_t i) { return &recordings[i].steps[done[i]]; };
  auto const to_go = [&](std::size_t i) { return recordings[i].steps.size() - done[i]; };
  for (;;) {
    std::size_t longest = 0;
    for (std::size_t i = 1; i < count; ++i)
      if (to_go(i) > to_go(longest)) longest = i;
    if (count == 0 || to_go(longest) == 0) return;
    step const& wanted = *next(longest);
    alike.clear(), together.clear();
    for (std::size_t i = 0; i < count; ++i)
      if (to_go(i) > 0 && next(i)->run == wanted.run && next(i)->size == wanted.size)
        alike.push_back(i), together.push_back(next(i));
    wanted.run(device, together);
    for (std::size_t i : alike) ++done[i];
  }
}

/// The device as a problem of a batch sees it: launches are written down.
template <device_policy Device>
struct recorder {
  using backend = operations;
  using cuda_device_tag = void;
  Device const* device;
  recording<Device>* to;
  index_t shared_limit, most_blocks, most_cluster;
  tuning tuned;
  recorder(Device const& device_, recording<Device>& to_)
      : device(&device_),
        to(&to_),
        shared_limit(device_.shared_limit),
        most_blocks(device_.most_blocks),
        most_cluster(device_.most_cluster),
        tuned(device_.tuned) {}
  index_t processors() const { return device->processors(); }
  index_t clusters(index_t size) const { return device->clusters(size); }
};
template <device_policy Device, class Kernel>
void launch_blocks(recorder<Device> const& s, index_t blocks, Kernel const& kernel) {
  s.to->add_kernel(blocks, {}, kernel, [](Device const& on, index_t all, cluster_size, auto const& together) {
    launch_blocks(on, all, together);
  });
}
template <device_policy Device, class Kernel>
void launch_clusters(recorder<Device> const& s, index_t clusters, cluster_size size, Kernel const& kernel) {
  s.to->add_kernel(clusters, size, kernel, [](Device const& on, index_t all, cluster_size of, auto const& together) {
    launch_clusters(on, all, of, together);
  });
}
template <device_policy Device, class T, class LA, class LB, class LC>
bool multiply_matrices(recorder<Device> const& s, T alpha, matrix_view<T const, LA> A, bool conjugate_a,
                       matrix_view<T const, LB> B, bool conjugate_b, matrix_view<T const, LC> S, matrix_view<T, LC> C) {
  if (!multiplies(*s.device, A, conjugate_a, B, conjugate_b, C)) return false;
  if (S.data != nullptr) {  // here, with those of other problems
    ops<recorder<Device>>::copy(s, S, C);
    S = C;
  }
  s.to->add_call([=](Device const& device) { multiply_matrices(device, alpha, A, conjugate_a, B, conjugate_b, S, C); });
  return true;
}

/// A base operator of the caller's in its place among the launches.
template <device_policy Device, class Base>
struct base_in_order {
  recording<Device>* to;
  Base* base;
  index_t rows() const requires requires(Base& b) { b.rows(); }
  { return base->rows(); }
  index_t cols() const requires requires(Base& b) { b.cols(); }
  { return base->cols(); }
  template <class X, class Y>
  void apply(X x, Y y) const {
    to->add_call([base = base, x, y](Device const& device) {
      if constexpr (requires { base->apply(device, x, y); }) base->apply(device, x, y);
      else base->apply(x, y);
    });
  }
  template <class X, class Y>
  void apply_adjoint(X x, Y y) const {
    to->add_call([base = base, x, y](Device const& device) {
      if constexpr (requires { base->apply_adjoint(device, x, y); }) base->apply_adjoint(device, x, y);
      else base->apply_adjoint(x, y);
    });
  }
};

/// body(policy, slot, i) for every problem i of a batch; slot < problems_at_once numbers the parts of a workspace.
template <device_policy Device, class Body>
void record_problems(Device const& device, index_t count, Body const& body) {
  for (index_t first = 0; first < count; first += most_together) {
    std::vector<recording<Device>> recordings(std::size_t((std::min)(most_together, count - first)));
    for (index_t slot = 0; slot < index_t(recordings.size()); ++slot)
      body(recorder<Device>(device, recordings[std::size_t(slot)]), slot, first + slot);
    run_recordings<Device>(device, recordings);
  }
}

}  // namespace HOFT_CUDA_NAMESPACE
