// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/algorithms.hpp: whole algorithms: those of the local policy where no sum runs over ranks, else those by
// panels. Sums over columns alone are the local policy's.
#pragma once
#include <hoft/sharded/message.hpp>

#include <optional>

namespace HOFT_TARGET_NAMESPACE::sharded_backend {

/// The algorithm by panels of the local policy.
template <class Panels>
struct of_local;
template <template <class...> class Panels, class Policy, class... Rest>
struct of_local<Panels<Policy, Rest...>> {
  using local = typename Policy::local_policy;
  using type = Panels<local, Rest...>;
};
template <class Panels>
using local_panels = typename of_local<Panels>::type;
template <class Panels>
using local_ops_of = ops<typename Panels::policy_type::local_policy>;

/// The reflectors on which an algorithm projects each column, a sum over rows for each; by what it is cut for.
inline index_t sums_of(index_t /*m*/, index_t /*n*/, index_t r, index_t /*block*/) { return r; }
template <class Adapter, class Last>
index_t sums_of(Adapter const& a, index_t /*n*/, Last const& /*what is kept or known*/) {
  return a.left.rank();
}

/// Either of two, chosen when its memory is cut. Without reflectors, of which accumulate has made all ranks have as
/// many, nothing is summed and no rank waits for another.
template <class Local, class Panels>
struct local_or_summed {
  std::optional<Local> local;
  std::optional<Panels> panels;

  template <class Policy, class... Extents>
  local_or_summed(arena& memory, Policy const& policy, Extents const&... extents) {
    if (policy.sums() && sums_of(extents...) > 0) panels.emplace(memory, policy, extents...);
    else local.emplace(memory, policy.local, extents...);
  }
  /// f(algorithm, policy) with the one that was chosen.
  template <class Policy, class F>
  void with(Policy const& policy, F const& f) const {
    if (local) f(*local, policy.local);
    else f(*panels, policy);
  }
};

/// Y := op(Q) X.
template <class Panels>
struct sharded_apply
    : local_or_summed<typename local_ops_of<Panels>::template apply_algorithm<local_panels<Panels>>, Panels> {
  using policy_type = typename Panels::policy_type;
  using A = typename Panels::accumulator;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;
  using sharded_apply::local_or_summed::local_or_summed;

  template <class Form, class Op>
  void run(policy_type const& policy, Form const& Q, Op o, matrix_view<T const, L> X, matrix_view<T, L> Y,
           matrix_view<A> W, matrix_view<T const, L> after) const {
    this->with(policy, [&](auto const& algorithm, auto const& where) { algorithm.run(where, Q, o, X, Y, W, after); });
  }
};

/// Its gradients.
template <class Panels>
struct sharded_apply_backward
    : local_or_summed<typename local_ops_of<Panels>::template apply_backward_algorithm<local_panels<Panels>>, Panels> {
  using policy_type = typename Panels::policy_type;
  using A = typename Panels::accumulator;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;
  using sharded_apply_backward::local_or_summed::local_or_summed;

  template <class Form, class Op, class Known, class Sums>
  void run(policy_type const& policy, Form const& Q, Op o, Known from, matrix_view<T const, L> X,
           matrix_view<A const> W, matrix_view<T const, L> dY, matrix_view<T, L> dX, Sums const& sums) const {
    this->with(policy,
               [&](auto const& algorithm, auto const& where) { algorithm.run(where, Q, o, from, X, W, dY, dX, sums); });
  }
};

/// W := UᴴX: the local policy's part, and its sum.
template <class Panels>
struct sharded_project {
  using policy_type = typename Panels::policy_type;
  using A = typename Panels::accumulator;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;

  typename local_ops_of<Panels>::template project_algorithm<local_panels<Panels>> part;
  sharded_project(arena& memory, policy_type const& policy, index_t m, index_t r, index_t n)
      : part(memory, policy.local, m, r, n) {}

  template <class LW>
  void run(policy_type const& policy, matrix_view<A const> U, matrix_view<T const, L> X, matrix_view<A, LW> W,
           bool conjugated = false) const {
    part.run(policy.local, U, X, W, conjugated);
    if (policy.sums()) sum_parts<A>(policy, exchange::sum, W);
  }
};

/// Y := Q_U diag(s) (X − K v).
template <class Panels>
struct sharded_adapt
    : local_or_summed<typename local_ops_of<Panels>::template adapt_algorithm<local_panels<Panels>>, Panels> {
  using policy_type = typename Panels::policy_type;
  using A = typename Panels::accumulator;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;
  using sharded_adapt::local_or_summed::local_or_summed;

  template <class Layer, class V>
  void run(policy_type const& policy, Layer const& layer, V const& projections, matrix_view<T const, L> X,
           matrix_view<T, L> Y, matrix_view<A, L> W, matrix_view<T, L> q) const {
    this->with(policy,
               [&](auto const& algorithm, auto const& where) { algorithm.run(where, layer, projections, X, Y, W, q); });
  }
};

/// Its gradients. dv stays this rank's part.
template <class Panels>
struct sharded_adapt_backward
    : local_or_summed<typename local_ops_of<Panels>::template adapt_backward_algorithm<local_panels<Panels>>, Panels> {
  using policy_type = typename Panels::policy_type;
  using A = typename Panels::accumulator;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;
  using sharded_adapt_backward::local_or_summed::local_or_summed;

  template <class Layer, class V, class LD, class Sums>
  void run(policy_type const& policy, Layer const& layer, matrix_view<A const, L> W, V const& projected,
           matrix_view<T const, L> X, matrix_view<T const, L> q_saved, matrix_view<T const, L> G, matrix_view<T, L> dX,
           matrix_view<A, LD> dv, Sums const& sums, bool adds) const {
    this->with(policy, [&](auto const& algorithm, auto const& where) {
      algorithm.run(where, layer, W, projected, X, q_saved, G, dX, dv, sums, adds);
    });
  }
};

/// dX + V P and X Pᴴ: no sum over rows.
template <class Panels>
struct sharded_update {
  using policy_type = typename Panels::policy_type;
  using A = typename Panels::accumulator;
  using T = typename Panels::value_type;
  using L = typename Panels::layout;

  typename local_ops_of<Panels>::template update_algorithm<local_panels<Panels>> rows;
  sharded_update(arena& memory, policy_type const& policy, index_t m, index_t r, index_t n)
      : rows(memory, policy.local, m, r, n) {}

  void run(policy_type const& policy, matrix_view<A const> V, matrix_view<A const, L> P, matrix_view<T const, L> X,
           matrix_view<T, L> dX, matrix_view<A> D) const {
    rows.run(policy.local, V, P, X, dX, D);
  }
};

}  // namespace HOFT_TARGET_NAMESPACE::sharded_backend
