// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/fused_adapter.hpp: the algorithms of adapter/ by few kernels, with at most 64 reflectors a side in one
// block, or by panels where these do not take them.
#pragma once
#include <hoft/cuda/adapter_launches.hpp>

#include <optional>
#include <type_traits>

namespace HOFT_CUDA_NAMESPACE {

inline constexpr index_t most_fused_rank = 64;
/// A block that is alone on its processor has the memory for a slice of the least height: shape_apart finds a shape.
template <device_policy Device, class Kernel>
bool fits(Device const& device, Kernel kernel) {
  kernel.shape.rows = feature_slice::row_step;
  kernel.shape.threads = device.tuned.lone_threads;
  kernel.shape.buffers = 1;
  return kernel.shared_bytes() <= device.shared_limit;
}
/// The kernels take this adapter: its ranks, and a block has the memory.
template <sliced T, device_policy Device, class Adapter>
bool takes_adapter(Device const& device, Adapter const& a) {
  index_t const m = a.rows(), ru = a.left.rank(), rv = a.right.rank();
  return a.left.blocks() <= 1 && ru <= most_fused_rank && rv <= most_fused_rank &&
         fits(device, project_probe<T>(m, ru + rv, true)) && fits(device, adapt_probe<T>(a, true, true)) &&
         fits(device, backward_probe<T>(a, saved_quantity::base, true));
}

/// Either of two ways to run an algorithm, chosen when its memory is cut.
template <class Fused, class Panels>
struct one_of_two {
  std::optional<Fused> fused;
  std::optional<Panels> panels;
};

template <class Panels>
struct fused_project : one_of_two<project_room<typename Panels::value_type>, Panels> {
  using policy_type = typename Panels::policy_type;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;

  fused_project(arena& memory, policy_type const& device, index_t m, index_t r, index_t n) {
    if (r <= most_fused_rank && fits(device, project_probe<T>(m, r, false)))
      this->fused.emplace(device, memory, m, r, n);
    else this->panels.emplace(memory, device, m, r, n);
  }
  template <class LW>
  void run(policy_type const& device, matrix_view<float const> U, matrix_view<T const, L> X, matrix_view<float, LW> W,
           bool conjugated = false) const {
    if (this->fused) project_stored(device, *this->fused, U, {}, X, W);
    else this->panels->run(device, U, X, W, conjugated);
  }
};

template <class Panels>
struct fused_adapt : one_of_two<adapt_room<typename Panels::value_type>, Panels> {
  using policy_type = typename Panels::policy_type;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;

  template <class Adapter>
  fused_adapt(arena& memory, policy_type const& device, Adapter const& a, index_t n, bool keeps_q) {
    if (takes_adapter<T>(device, a)) this->fused.emplace(device, memory, a, n, keeps_q);
    else this->panels.emplace(memory, device, a, n, keeps_q);
  }
  template <class Layer, class V>
  void run(policy_type const& device, Layer const& layer, V const& projections, matrix_view<T const, L> X,
           matrix_view<T, L> Y, matrix_view<float, L> W, matrix_view<T, L> q) const {
    if (this->fused) adapt_stored(device, *this->fused, layer, projections.view(), X, Y, W, q);
    else this->panels->run(device, layer, projections, X, Y, W, q);
  }
};

template <class Panels>
struct fused_adapt_backward : one_of_two<adapt_backward_room<typename Panels::value_type>, Panels> {
  using policy_type = typename Panels::policy_type;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;

  template <class Adapter>
  fused_adapt_backward(arena& memory, policy_type const& device, Adapter const& a, index_t n, saved_quantity what) {
    if (takes_adapter<T>(device, a)) this->fused.emplace(device, memory, a, n, what);
    else this->panels.emplace(memory, device, a, n, what);
  }
  template <class Layer, class V, class LD, class Sums>
  void run(policy_type const& device, Layer const& layer, matrix_view<float const, L> W, V const& projections,
           matrix_view<T const, L> X, matrix_view<T const, L> q, matrix_view<T const, L> G, matrix_view<T, L> dX,
           matrix_view<float, LD> dv, Sums const& sums, bool adds) const {
    if (this->fused)
      adapt_backward_stored(device, *this->fused, layer, W, projections.view(), q.empty() ? X : q, G, dX, dv, sums,
                            adds);
    else this->panels->run(device, layer, W, projections, X, q, G, dX, dv, sums, adds);
  }
};

template <class Panels>
struct fused_update : one_of_two<update_room<typename Panels::value_type>, Panels> {
  using policy_type = typename Panels::policy_type;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;

  fused_update(arena& memory, policy_type const& device, index_t m, index_t r, index_t n) {
    if (r <= most_fused_rank && fits(device, update_probe<T>(m, r))) this->fused.emplace(device, memory, m, r, n);
    else this->panels.emplace(memory, device, m, r, n);
  }
  void run(policy_type const& device, matrix_view<float const> V, matrix_view<float const, L> P,
           matrix_view<T const, L> X, matrix_view<T, L> dX, matrix_view<float> D) const {
    if (this->fused) update_stored(device, *this->fused, V, P, X, dX, D);
    else this->panels->run(device, V, P, X, dX, D);
  }
};

/// The fused algorithm for storage that its kernels take, else the one by panels.
template <class Panels, template <class> class Fused>
using fused_or = std::conditional_t<sliced<typename Panels::value_type>, Fused<Panels>, Panels>;

}  // namespace HOFT_CUDA_NAMESPACE
