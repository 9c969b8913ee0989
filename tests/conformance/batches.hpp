// SPDX-License-Identifier: BSD-3-Clause
// Batches on one backend: the bits of the single calls.
#pragma once
#include "../support.hpp"

#include <hoft/adapter/batch.hpp>
#include <hoft/householder/batch.hpp>

#include <span>
#include <vector>

namespace hoft_test {

/// Problems of several shapes, an empty one among them: forms of U, their products with X, and merged weights X.
template <class T, class L, class Policy>
void check_batches(Policy const& policy) {
  using A = hoft::accumulator_t<T>;
  constexpr index_t shapes[][3] = {{20, 4, 9}, {7, 3, 5}, {5, 0, 4}, {33, 9, 0}};
  std::vector<dense_matrix<T, L>> U, V, X, together, alone, merged_together, merged_alone;
  std::vector<hoft::matrix_view<T const, L>> u, v, x;
  std::vector<hoft::matrix_view<T, L>> y, m;
  std::vector<std::vector<std::byte>> memory;
  std::vector<hoft::compact_wy_view<A>> forms, right;
  auto const form = [&](index_t rows, index_t rank) {
    hoft::arena count;
    hoft::carve_compact_wy<A>(count, rows, rank, 3);
    memory.emplace_back(std::size_t(count.size()));
    hoft::arena carve(hoft::workspace{memory.back().data(), count.size()});
    return hoft::carve_compact_wy<A>(carve, rows, rank, 3);
  };
  unsigned seed = 70;
  for (auto const& [rows, rank, cols] : shapes) {
    U.push_back(gaussian<T, L>(rows, rank, ++seed)), V.push_back(gaussian<T, L>(cols, 2, ++seed));
    X.push_back(gaussian<T, L>(rows, cols, ++seed));
    for (auto* of : {&together, &alone, &merged_together, &merged_alone}) of->emplace_back(rows, cols);
    forms.push_back(form(rows, rank)), right.push_back(form(cols, 2));
  }
  for (std::size_t i = 0; i < std::size(shapes); ++i) {
    u.push_back(hoft::as_view(std::as_const(U[i]))), v.push_back(hoft::as_view(std::as_const(V[i])));
    x.push_back(hoft::as_view(std::as_const(X[i])));
    y.push_back(hoft::as_view(together[i])), m.push_back(hoft::as_view(merged_together[i]));
  }
  auto const constant = [](auto const& of) { return std::span(of); };
  for (auto const& [vectors, to] : {std::pair(&u, &forms), std::pair(&v, &right)}) {
    guarded_workspace work(hoft::accumulate_workspace(policy, std::span(*to)));
    hoft::accumulate(policy, constant(std::as_const(*vectors)), std::span(*to), hoft::exact{}, work);
    CHECK(work.intact());
  }
  std::vector<hoft::compact_wy_view<A const>> const Q(forms.begin(), forms.end());
  std::vector<hoft::adapter_view<A const>> adapters;
  for (std::size_t i = 0; i < Q.size(); ++i) adapters.push_back({Q[i], right[i], {}});
  std::vector<hoft::adapter_view<A const>> const& all = adapters;
  guarded_workspace applying(hoft::apply_workspace(policy, std::span(Q), std::span(std::as_const(x)), side::left));
  hoft::apply(policy, std::span(Q), std::span(std::as_const(x)), std::span(std::as_const(y)), side::left, op::plain,
              applying);
  guarded_workspace merging(hoft::merge_workspace(policy, std::span(all), std::span(std::as_const(x))));
  hoft::merge(policy, std::span(all), std::span(std::as_const(x)), std::span(std::as_const(m)), merging);
  CHECK((applying.intact() && merging.intact()));
  for (std::size_t i = 0; i < Q.size(); ++i) {
    hoft::compact_wy_view<A> single = form(U[i].rows(), U[i].cols());
    guarded_workspace accumulating(hoft::accumulate_workspace<A>(policy, single.rank(), single.block));
    hoft::accumulate(policy, u[i], single, hoft::exact{}, accumulating);
    CHECK(same_bits(hoft::as_eigen(single.vectors), hoft::as_eigen(Q[i].vectors)));
    CHECK(same_bits(hoft::as_eigen(single.factor), hoft::as_eigen(Q[i].factor)));
    guarded_workspace one(hoft::apply_workspace(policy, Q[i], x[i])),
        another(hoft::merge_workspace(policy, adapters[i], x[i]));
    hoft::apply(policy, Q[i], x[i], hoft::as_view(alone[i]), side::left, op::plain, one);
    hoft::merge(policy, adapters[i], x[i], hoft::as_view(merged_alone[i]), another);
    CHECK(same_bits(together[i], alone[i]));
    CHECK(same_bits(merged_together[i], merged_alone[i]));
  }
}

}  // namespace hoft_test
