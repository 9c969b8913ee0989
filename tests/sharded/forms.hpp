// SPDX-License-Identifier: BSD-3-Clause
// Forms of reflectors on one rank.
#pragma once
#include "rank_calls.hpp"

#include <utility>

namespace hoft_test {

/// Reflectors of a rank, and the form made of them.
template <class T>
struct form_on_rank {
  dense_matrix<T> U;
  form_memory memory;
  hoft::compact_wy_view<T> Q;

  template <class Policy>
  form_on_rank(Policy const& policy, dense_matrix<T> const& reflectors, index_t block, hoft::inverse kind = {})
      : U(reflectors), Q(memory.cut<T>(U.rows(), U.cols(), block)) {
    guarded_workspace work(hoft::accumulate_workspace<T>(policy, U.cols(), block, kind));
    hoft::accumulate(policy, hoft::as_view(std::as_const(U)), Q, kind, work);
  }
};
template <class Policy, class T>
dense_matrix<T> applied(Policy const& policy, hoft::compact_wy_view<T> const& Q, dense_matrix<T> X) {
  auto const x = hoft::as_view(X);
  guarded_workspace work(hoft::apply_workspace(policy, Q, x));
  hoft::apply(policy, Q, x, x, side::left, op::plain, work);
  return X;
}
template <class D, class Communicator>
D rows_on(D const& whole, Communicator const& communicator) {
  auto const part = part_on(whole.rows(), communicator.rank(), communicator.size());
  return whole.middleRows(part.first, part.count);
}

}  // namespace hoft_test
