// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/merge.hpp: HOFT and SHOFT on a weight in Eigen storage.
#pragma once
#include <hoft/adapter/low_rank.hpp>
#include <hoft/adapter/merge.hpp>
#include <hoft/adapter/scaled_low_rank.hpp>
#include <hoft/adapter/unmerge.hpp>
#include <hoft/eigen/adapter.hpp>

namespace HOFT_TARGET_NAMESPACE {

/// M := Q_U diag(s) M Q_V in place. @see merge with views for errors, cost, accuracy and source.
template <execution_policy Policy, class A, class DM>
void merge(Policy const& policy, adapter<A> const& a, DM&& M) {
  auto const m = detail::as_output<DM>(M);
  auto const view = a.view();
  merge(policy, view, m, m, detail::scratch(merge_workspace(policy, view, m)));
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM>
void merge(adapter<A> const& a, DM&& M) {
  merge(cpu{}, a, std::forward<DM>(M));
}

/// M := the weight that merge(a, M) was given, in place. @see unmerge with views.
template <execution_policy Policy, class A, class DM>
void unmerge(Policy const& policy, adapter<A> const& a, DM&& M) {
  auto const m = detail::as_output<DM>(M);
  auto const view = a.view();
  unmerge(policy, view, m, detail::scratch(unmerge_workspace(policy, view, m)));
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM>
void unmerge(adapter<A> const& a, DM&& M) {
  unmerge(cpu{}, a, std::forward<DM>(M));
}

/// Gradients of an adapter in the accumulator type; ds is empty for HOFT.
template <class A>
struct adapter_gradient {
  dense_matrix<A> dU;  ///< [m, ru]
  dense_matrix<A> dV;  ///< [n, rv]
  dense_vector<A> ds;  ///< [m]
};

namespace detail {

template <class A>
adapter_gradient<A> empty_gradient(adapter<A> const& a) {
  adapter_gradient<A> g;
  g.dU.resize(a.rows(), a.left().rank());
  g.dV.resize(a.cols(), a.right().rank());
  g.ds.resize(a.scale().size());
  return g;
}

}  // namespace detail

/// dU, dV and ds from dMhat = ∂L/∂M̂ [m, n] and the base weight M. @see merge_backward with views.
template <execution_policy Policy, class A, class DM, class DG>
[[nodiscard]] adapter_gradient<A> merge_backward(Policy const& policy, adapter<A> const& a, DM const& M,
                                                 DG const& dMhat) {
  constexpr bool fits = detail::same_layout<DM const, DG const>;
  static_assert(fits,
                "hoft::merge_backward: M and dMhat must have the same layout, both column-major or both row-major.");
  auto const m = as_view(M);
  auto const view = a.view();
  auto g = detail::empty_gradient(a);
  if constexpr (fits)
    merge_backward(policy, view, m, as_view(dMhat), as_view(g.dU), as_view(g.dV), as_vector_view(g.ds),
                   detail::scratch(merge_backward_workspace(policy, view, m)));
  return g;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM, class DG>
[[nodiscard]] adapter_gradient<A> merge_backward(adapter<A> const& a, DM const& M, DG const& dMhat) {
  return merge_backward(cpu{}, a, M, dMhat);
}

/// The factors of a low-rank update: M̂ = M + L R for HOFT, diag(s) M + L R for SHOFT.
template <class T>
struct low_rank_update {
  dense_matrix<T> L;  ///< [m, ru + rv]
  dense_matrix<T> R;  ///< [ru + rv, n]
};

/// The adapter as a LoRA adapter of rank ru + rv for the weight M, without loss. @see low_rank with views.
template <execution_policy Policy, class A, class DM>
[[nodiscard]] auto low_rank(Policy const& policy, adapter<A> const& a, DM const& M) {
  auto const m = as_view(M);
  auto const view = a.view();
  index_t const rank = a.left().rank() + a.right().rank();
  low_rank_update<detail::value_of<DM const>> update;
  update.L.resize(a.rows(), rank);
  update.R.resize(rank, a.cols());
  low_rank(policy, view, m, as_view(update.L), as_view(update.R), detail::scratch(low_rank_workspace(policy, view, m)));
  return update;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM>
[[nodiscard]] auto low_rank(adapter<A> const& a, DM const& M) {
  return low_rank(cpu{}, a, M);
}

/// The factors and magnitudes of a low-rank update with scaled rows: M̂ = diag(magnitude / ‖rows of M + L R‖) (M + L R).
template <class T>
struct scaled_low_rank_update {
  dense_matrix<T> L;                         ///< [m, ru + rv]
  dense_matrix<T> R;                         ///< [ru + rv, n]
  dense_vector<accumulator_t<T>> magnitude;  ///< [m]
};

/// The adapter as a DoRA adapter of rank ru + rv for the weight M, without loss. @see scaled_low_rank with views.
template <execution_policy Policy, class A, class DM>
[[nodiscard]] auto scaled_low_rank(Policy const& policy, adapter<A> const& a, DM const& M) {
  auto const m = as_view(M);
  auto const view = a.view();
  index_t const rank = a.left().rank() + a.right().rank();
  scaled_low_rank_update<detail::value_of<DM const>> update;
  update.L.resize(a.rows(), rank);
  update.R.resize(rank, a.cols());
  update.magnitude.resize(a.rows());
  scaled_low_rank(policy, view, m, as_view(update.L), as_view(update.R), as_vector_view(update.magnitude),
                  detail::scratch(scaled_low_rank_workspace(policy, view, m)));
  return update;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM>
[[nodiscard]] auto scaled_low_rank(adapter<A> const& a, DM const& M) {
  return scaled_low_rank(cpu{}, a, M);
}

// A matrix or a form where the adapter must stand, with and without a policy.
template <class Wrong = void>
void merge(detail::no_adapter, detail::anything) {
  detail::refuse_adapter<Wrong>();
}
template <execution_policy Policy>
void merge(Policy const&, detail::no_adapter, detail::anything) {
  detail::refuse_adapter<Policy>();
}
template <class Wrong = void>
void unmerge(detail::no_adapter, detail::anything) {
  detail::refuse_adapter<Wrong>();
}
template <execution_policy Policy>
void unmerge(Policy const&, detail::no_adapter, detail::anything) {
  detail::refuse_adapter<Policy>();
}
template <class Wrong = void>
auto merge_backward(detail::no_adapter, detail::anything, detail::anything) {
  detail::refuse_adapter<Wrong>();
  return adapter_gradient<double>();
}
template <execution_policy Policy>
auto merge_backward(Policy const&, detail::no_adapter, detail::anything, detail::anything) {
  detail::refuse_adapter<Policy>();
  return adapter_gradient<double>();
}
template <class Wrong = void>
auto low_rank(detail::no_adapter, detail::anything) {
  detail::refuse_adapter<Wrong>();
  return low_rank_update<double>();
}
template <execution_policy Policy>
auto low_rank(Policy const&, detail::no_adapter, detail::anything) {
  detail::refuse_adapter<Policy>();
  return low_rank_update<double>();
}

template <class Wrong = void>
auto scaled_low_rank(detail::no_adapter, detail::anything) {
  detail::refuse_adapter<Wrong>();
  return scaled_low_rank_update<double>();
}
template <execution_policy Policy>
auto scaled_low_rank(Policy const&, detail::no_adapter, detail::anything) {
  detail::refuse_adapter<Policy>();
  return scaled_low_rank_update<double>();
}

}  // namespace HOFT_TARGET_NAMESPACE
