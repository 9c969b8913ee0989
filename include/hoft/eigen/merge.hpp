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
  merge(policy, view, m, m, detail::lent_workspace(policy, merge_workspace(policy, view, m)));
}
/// Mhat := Q_U diag(s) M Q_V. Mhat has the layout of M, and its shape unless it is a hoft::dense_matrix, which takes
/// it; it is M or does not overlap it, which is checked.
template <execution_policy Policy, class A, class DM, class DH>
void merge(Policy const& policy, adapter<A> const& a, DM const& M, DH&& Mhat) {
  constexpr bool fits = detail::same_storage<DM const, DH>;
  static_assert(fits,
                "hoft::merge: M and Mhat must have the same element type and layout (both column-major or both "
                "row-major).");
  if constexpr (fits) {
    auto const m = as_view(M);
    auto const view = a.view();
    detail::require_apart_or_same("merge", "M", m, "Mhat", detail::memory_of(Mhat));
    detail::lent_workspace const work(policy, merge_workspace(policy, view, m));
    [[maybe_unused]] auto const shape = detail::with_shape(Mhat, m.rows, m.cols);
    merge(policy, view, m, detail::as_output<DH>(Mhat), work);
  }
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM>
void merge(adapter<A> const& a, DM&& M) {
  merge(cpu{}, a, std::forward<DM>(M));
}
template <class A, class DM, class DH>
void merge(adapter<A> const& a, DM const& M, DH&& Mhat) {
  merge(cpu{}, a, M, std::forward<DH>(Mhat));
}

/// M := the weight that merge(a, M) was given, in place. @see unmerge with views.
template <execution_policy Policy, class A, class DM>
void unmerge(Policy const& policy, adapter<A> const& a, DM&& M) {
  auto const m = detail::as_output<DM>(M);
  auto const view = a.view();
  unmerge(policy, view, m, detail::lent_workspace(policy, unmerge_workspace(policy, view, m)));
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

/// The parts of a gradient have the shapes that the adapter gives them.
template <class A>
struct reshaped_gradient {
  reshaped<A, col_major, Eigen::Dynamic> dU, dV;
  reshaped<A, col_major, 1> ds;
  reshaped_gradient(adapter_gradient<A>& g, adapter<A> const& a)
      : dU(g.dU, a.rows(), a.left().rank()), dV(g.dV, a.cols(), a.right().rank()), ds(g.ds, a.scale().size()) {}
};
template <class View, class A>
void require_apart(char const* function, char const* argument, View input, char const*, adapter_gradient<A> const& g) {
  require_apart(function, argument, input, "dU", g.dU);
  require_apart(function, argument, input, "dV", g.dV);
  require_apart(function, argument, input, "ds", g.ds);
}

}  // namespace detail

/// dU, dV and ds from dMhat = ∂L/∂M̂ [m, n] and the base weight M, into the memory of g, which neither may overlap; that
/// is checked. @see merge_backward with views.
template <execution_policy Policy, class A, class DM, class DG>
void merge_backward(Policy const& policy, adapter<A> const& a, DM const& M, DG const& dMhat, adapter_gradient<A>& g) {
  constexpr bool fits = detail::same_layout<DM const, DG const>;
  static_assert(fits,
                "hoft::merge_backward: M and dMhat must have the same layout, both column-major or both row-major.");
  auto const m = as_view(M);
  auto const dm = as_view(dMhat);
  auto const view = a.view();
  detail::require_apart("merge_backward", "M", m, "g", g);
  detail::require_apart("merge_backward", "dMhat", dm, "g", g);
  if constexpr (fits) {
    detail::lent_workspace const work(policy, merge_backward_workspace(policy, view, m));
    detail::reshaped_gradient const shapes(g, a);
    merge_backward(policy, view, m, dm, as_view(g.dU), as_view(g.dV), as_vector_view(g.ds), work);
  }
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM, class DG>
void merge_backward(adapter<A> const& a, DM const& M, DG const& dMhat, adapter_gradient<A>& g) {
  merge_backward(cpu{}, a, M, dMhat, g);
}

/// The same as a value.
template <execution_policy Policy, class A, class DM, class DG>
[[nodiscard]] adapter_gradient<A> merge_backward(Policy const& policy, adapter<A> const& a, DM const& M,
                                                 DG const& dMhat) {
  adapter_gradient<A> g;
  merge_backward(policy, a, M, dMhat, g);
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

/// The adapter as a LoRA adapter of rank ru + rv for the weight M, without loss, into the memory of `update`, which M
/// may not overlap; that is checked. @see low_rank with views.
template <execution_policy Policy, class A, class DM>
void low_rank(Policy const& policy, adapter<A> const& a, DM const& M,
              low_rank_update<detail::value_of<DM const>>& update) {
  auto const m = as_view(M);
  auto const view = a.view();
  index_t const rank = a.left().rank() + a.right().rank();
  detail::require_apart("low_rank", "M", m, "L", update.L);
  detail::require_apart("low_rank", "M", m, "R", update.R);
  detail::lent_workspace const work(policy, low_rank_workspace(policy, view, m));
  detail::reshaped const L(update.L, a.rows(), rank), R(update.R, rank, a.cols());
  low_rank(policy, view, m, as_view(update.L), as_view(update.R), work);
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM>
void low_rank(adapter<A> const& a, DM const& M, low_rank_update<detail::value_of<DM const>>& update) {
  low_rank(cpu{}, a, M, update);
}

/// The same as a value.
template <execution_policy Policy, class A, class DM>
[[nodiscard]] auto low_rank(Policy const& policy, adapter<A> const& a, DM const& M) {
  low_rank_update<detail::value_of<DM const>> update;
  low_rank(policy, a, M, update);
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

/// The adapter as a DoRA adapter of rank ru + rv for the weight M, without loss, into the memory of `update`, which M
/// may not overlap; that is checked. @see scaled_low_rank with views.
template <execution_policy Policy, class A, class DM>
void scaled_low_rank(Policy const& policy, adapter<A> const& a, DM const& M,
                     scaled_low_rank_update<detail::value_of<DM const>>& update) {
  auto const m = as_view(M);
  auto const view = a.view();
  index_t const rank = a.left().rank() + a.right().rank();
  detail::require_apart("scaled_low_rank", "M", m, "L", update.L);
  detail::require_apart("scaled_low_rank", "M", m, "R", update.R);
  detail::require_apart("scaled_low_rank", "M", m, "magnitude", update.magnitude);
  detail::lent_workspace const work(policy, scaled_low_rank_workspace(policy, view, m));
  detail::reshaped const L(update.L, a.rows(), rank), R(update.R, rank, a.cols());
  detail::reshaped const magnitude(update.magnitude, a.rows());
  scaled_low_rank(policy, view, m, as_view(update.L), as_view(update.R), as_vector_view(update.magnitude), work);
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM>
void scaled_low_rank(adapter<A> const& a, DM const& M, scaled_low_rank_update<detail::value_of<DM const>>& update) {
  scaled_low_rank(cpu{}, a, M, update);
}

/// The same as a value.
template <execution_policy Policy, class A, class DM>
[[nodiscard]] auto scaled_low_rank(Policy const& policy, adapter<A> const& a, DM const& M) {
  scaled_low_rank_update<detail::value_of<DM const>> update;
  scaled_low_rank(policy, a, M, update);
  return update;
}
/// The same on one thread, with the policy cpu{}.
template <class A, class DM>
[[nodiscard]] auto scaled_low_rank(adapter<A> const& a, DM const& M) {
  return scaled_low_rank(cpu{}, a, M);
}

// A matrix or a form where the adapter must stand, with and without a policy.
template <class Wrong = void>
void merge(detail::no_adapter, detail::anything, detail::anything = {}) {
  detail::refuse_adapter<Wrong>();
}
template <execution_policy Policy>
void merge(Policy const&, detail::no_adapter, detail::anything, detail::anything = {}) {
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
auto merge_backward(detail::no_adapter, detail::anything, detail::anything, detail::anything = {}) {
  detail::refuse_adapter<Wrong>();
  return adapter_gradient<double>();
}
template <execution_policy Policy>
auto merge_backward(Policy const&, detail::no_adapter, detail::anything, detail::anything, detail::anything = {}) {
  detail::refuse_adapter<Policy>();
  return adapter_gradient<double>();
}
template <class Wrong = void>
auto low_rank(detail::no_adapter, detail::anything, detail::anything = {}) {
  detail::refuse_adapter<Wrong>();
  return low_rank_update<double>();
}
template <execution_policy Policy>
auto low_rank(Policy const&, detail::no_adapter, detail::anything, detail::anything = {}) {
  detail::refuse_adapter<Policy>();
  return low_rank_update<double>();
}

template <class Wrong = void>
auto scaled_low_rank(detail::no_adapter, detail::anything, detail::anything = {}) {
  detail::refuse_adapter<Wrong>();
  return scaled_low_rank_update<double>();
}
template <execution_policy Policy>
auto scaled_low_rank(Policy const&, detail::no_adapter, detail::anything, detail::anything = {}) {
  detail::refuse_adapter<Policy>();
  return scaled_low_rank_update<double>();
}

}  // namespace HOFT_TARGET_NAMESPACE
