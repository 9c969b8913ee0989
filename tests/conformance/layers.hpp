// SPDX-License-Identifier: BSD-3-Clause
// Bound layers on one backend: batches have the bits of the single calls, sums add up over micro-batches, and tokens of
// several layers go behind one base.
#pragma once
#include "../support.hpp"

#include <hoft/adapter/layer_batch.hpp>

#include <array>
#include <span>
#include <tuple>
#include <type_traits>
#include <vector>

namespace hoft_test {

/// q, k and v of one x: HOFT, SHOFT, and a rank of zero on each side.
template <class T, class L, class Policy>
class layer_tests {
 public:
  explicit layer_tests(Policy const& policy) : policy_(policy) {
    for (std::size_t i = 0; i < count; ++i) make(i);
  }

  void check() {
    run([&](std::size_t i) { bind_one(i); }, [&] { bind_all(); });
    results const alone = step([&](std::size_t i) { step_one(i); }, [] {});
    results const together = step([](std::size_t) {}, [&] { step_all(); });
    for (std::size_t i = 0; i < count; ++i)
      for (auto part : {&results::y, &results::dx, &results::dbase})
        CHECK(same_bits((together.*part)[i], (alone.*part)[i]));
    for (std::size_t i = 0; i < count; ++i)
      for (auto part : {&results::dU, &results::dV, &results::ds})
        CHECK(same_bits((together.*part)[i], (alone.*part)[i]));
    check_shared();
  }

 private:
  using A = hoft::accumulator_t<T>;
  static constexpr std::size_t count = 4;
  static constexpr index_t m = 12, n = 9, t = 7, ru[] = {3, 2, 0, 4}, rv[] = {2, 3, 2, 0};
  struct results {
    std::array<dense_matrix<T, L>, count> y, dbase, dx;
    std::array<dense_matrix<A>, count> dU, dV, ds;
  };

  static auto base_of(Policy const& policy, hoft::matrix_view<T const, L> weight) {
    if constexpr (std::is_same_v<Policy, hoft::cpu>) return hoft::dense_operator(policy, weight);
    else return dense(policy, weight);
  }
  template <class Cut>
  auto carved(Cut const& cut) {
    hoft::arena size;
    cut(size);
    auto& bytes = memory_.emplace_back(std::size_t(size.size()), std::byte(0xFF));
    hoft::arena from(hoft::workspace{bytes.data(), size.size()});
    return cut(from);
  }
  void make(std::size_t i) {
    unsigned const seed = 10 * unsigned(i);
    auto const form = [&](index_t rows, index_t rank, unsigned salt) {
      dense_matrix<A> const U = gaussian<A>(rows, rank, seed + salt);
      auto Q = carved([&](hoft::arena& from) { return hoft::carve_compact_wy<A>(from, rows, rank, 4); });
      guarded_workspace work(hoft::accumulate_workspace<A>(policy_, rank, 4));
      hoft::accumulate(policy_, hoft::as_view(U), Q, hoft::exact{}, work);
      return hoft::compact_wy_view<A const>(Q);
    };
    s_[i] = gaussian<A>(i % 2 == 1 ? m : 0, 1, seed + 3);
    M_[i] = gaussian<T, L>(m, n, seed + 4);
    auto const left = form(m, ru[i], 1), right = form(n, rv[i], 2);
    a_.push_back({left, right, {s_[i].data(), s_[i].rows()}});
    auto const [layer, state, sums] = carved([&](hoft::arena& from) {
      return std::tuple(hoft::carve_layer(from, a_[i]), hoft::carve_layer_state<T, L>(from, a_[i], t),
                        hoft::carve_layer_gradient(from, a_[i]));
    });
    layer_.push_back(layer), state_.push_back(state), sums_.push_back(sums);
    base_.push_back(base_of(policy_, hoft::as_view(std::as_const(M_[i]))));
  }

  template <class One, class All>
  void run(One const& one, All const& all) {
    for (std::size_t i = 0; i < count; ++i) one(i);
    all();
  }
  void bind_one(std::size_t i) {
    guarded_workspace work(hoft::bind_workspace<T, L>(policy_, a_[i]));
    hoft::bind_layer<T, L>(policy_, a_[i], base_[i], layer_[i], work);
    CHECK(work.intact());
    for (auto const& part : {layer_[i].B, layer_[i].minus_K, layer_[i].minus_scaled_K, layer_[i].minus_UK})
      bound_alone_.push_back(hoft::as_eigen(part));
  }
  void bind_all() {
    guarded_workspace work(hoft::bind_workspace<T, L>(policy_, a_));
    hoft::bind_layer<T, L>(policy_, a_, base_, layer_, work);
    CHECK(work.intact());
    std::size_t at = 0;
    for (auto const& layer : layer_) {
      CHECK(layer.bound);
      for (auto const& part : {layer.B, layer.minus_K, layer.minus_scaled_K, layer.minus_UK})
        CHECK(same_bits(bound_alone_[at++], hoft::as_eigen(part)));
    }
  }

  template <class One, class All>
  results step(One const& one, All const& all) {
    for (std::size_t i = 0; i < count; ++i) {
      now_.y[i].resize(m, t), now_.dbase[i].resize(m, t), now_.dx[i].resize(n, t);
      now_.dU[i].resize(m, ru[i]), now_.dV[i].resize(n, rv[i]), now_.ds[i].resize(s_[i].rows(), 1);
    }
    run(one, all);
    return now_;
  }
  hoft::vector_view<A> ds(std::size_t i) { return {now_.ds[i].data(), now_.ds[i].rows()}; }
  void step_one(std::size_t i) {
    auto const& layer = layer_[i];
    auto& base = base_[i];
    auto const x = hoft::as_view(x_), dy = hoft::as_view(dy_);
    auto const y = hoft::as_view(now_.y[i]);
    hoft::set_zero(policy_, sums_[i]);
    guarded_workspace forward_work(hoft::forward_workspace(policy_, layer, x)),
        backward_work(hoft::backward_workspace(policy_, layer, state_[i])),
        finish_work(hoft::finish_workspace<T, L>(policy_, layer));
    hoft::forward(policy_, layer, base, x, y, state_[i], forward_work);
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch)
      hoft::backward(policy_, layer, base, x, y, state_[i], dy, hoft::as_view(now_.dbase[i]), hoft::as_view(now_.dx[i]),
                     sums_[i], backward_work);
    hoft::finish<T, L>(policy_, layer, base, sums_[i], hoft::as_view(now_.dU[i]), hoft::as_view(now_.dV[i]), ds(i),
                       finish_work);
    CHECK((forward_work.intact() && backward_work.intact() && finish_work.intact()));
  }
  void step_all() {
    auto const views = [](auto& all) {
      std::vector<decltype(hoft::as_view(all[0]))> v;
      for (auto& one : all) v.push_back(hoft::as_view(one));
      return v;
    };
    std::vector const x(count, hoft::as_view(x_)), dy(count, hoft::as_view(dy_));
    auto const y = views(now_.y), dbase = views(now_.dbase), dx = views(now_.dx);
    auto const dU = views(now_.dU), dV = views(now_.dV);
    std::vector<hoft::vector_view<A>> of_s;
    for (std::size_t i = 0; i < count; ++i) of_s.push_back(ds(i));
    hoft::set_zero(policy_, sums_);
    guarded_workspace forward_work(hoft::forward_workspace(policy_, layer_, x)),
        backward_work(hoft::backward_workspace(policy_, layer_, state_)),
        finish_work(hoft::finish_workspace<T, L>(policy_, layer_));
    hoft::forward(policy_, layer_, base_, x, y, state_, forward_work);
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch)
      hoft::backward(policy_, layer_, base_, x, y, state_, dy, dbase, dx, sums_, backward_work);
    hoft::finish<T, L>(policy_, layer_, base_, sums_, dU, dV, of_s, finish_work);
    CHECK((forward_work.intact() && backward_work.intact() && finish_work.intact()));
  }

  /// Behind the base of the first, whose products with some of the tokens are taken as they are.
  void check_shared() {
    index_t const offsets[] = {0, 3, 3, 6, t};
    dense_matrix<T, L> together(m, t), alone(m, t);
    auto const x = hoft::as_view(std::as_const(x_));
    guarded_workspace work(hoft::forward_shared_workspace(policy_, layer_, offsets, x));
    hoft::forward_shared(policy_, layer_, offsets, base_[0], x, hoft::as_view(together), work);
    base_[0].apply(x, hoft::as_view(alone));
    for (std::size_t i = 0; i < count; ++i) {
      index_t const many = offsets[i + 1] - offsets[i];
      auto const tokens = x.columns(offsets[i], many);
      auto const y = hoft::as_view(alone).columns(offsets[i], many);
      auto const state = carved([&](hoft::arena& from) {
        return hoft::layer_state<A, T, L>{from.matrix<A, L>(rv[i], many), {}, {}};
      });
      guarded_workspace project_work(hoft::project_workspace(policy_, layer_[i], tokens)),
          adapt_work(hoft::adapt_workspace(policy_, layer_[i], y));
      hoft::project(policy_, layer_[i], tokens, state.v, project_work);
      hoft::adapt(policy_, layer_[i], y, y, state, adapt_work);
      CHECK((project_work.intact() && adapt_work.intact()));
    }
    CHECK(work.intact());
    CHECK(same_bits(together, alone));
  }

  Policy policy_;
  std::vector<std::vector<std::byte>> memory_;
  std::array<dense_matrix<A>, count> s_;
  std::array<dense_matrix<T, L>, count> M_;
  dense_matrix<T, L> x_ = gaussian<T, L>(n, t, 90), dy_ = gaussian<T, L>(m, t, 91);
  std::vector<hoft::adapter_view<A const>> a_;
  std::vector<hoft::bound_layer_view<A>> layer_;
  std::vector<hoft::layer_state<A, T, L>> state_;
  std::vector<hoft::layer_gradient_view<A>> sums_;
  std::vector<std::remove_cvref_t<decltype(base_of(std::declval<Policy const&>(), {}))>> base_;
  std::vector<dense_matrix<A>> bound_alone_;
  results now_;
};

template <class T, class L, class Policy>
void check_layers(Policy const& policy) {
  layer_tests<T, L, Policy>(policy).check();
}

}  // namespace hoft_test
