// SPDX-License-Identifier: BSD-3-Clause
// methods.hpp: the methods that exist on a GPU, written once for the policy of a GPU and that of the host in its place.
// Their products are those of hoft's backend, so that all have the same: cuBLAS in float, never in a shorter type.
#pragma once
#include "../../methods/costs.hpp"
#include "method.hpp"

#include <hoft/cuda/dense.hpp>
#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/bind.hpp>
#include <hoft/adapter/finish.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/adapter/merge.hpp>
#include <hoft/adapter/paired_gaussian.hpp>
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>

#include <algorithm>

namespace bench::gpu {

using fixed_view = matrix_view<float const>;
using view = matrix_view<float>;

/// C := A B, op(A) being A or its transpose; added to S if that has data.
template <class Policy, class LA, class LB>
void multiply(Policy const& policy, matrix_view<float const, LA> A, matrix_view<float const, LB> B, view C,
              fixed_view S = {}) {
  hoft::cuda::general_product(policy, 1.0f, A, false, B, false, S, C);
}

/// The compact WY form of a parameter, made anew for each step as training does.
template <class Policy>
class form {
 public:
  void make(Policy const& policy, machine& owner, fixed_view U, hoft::inverse kind) {
    memory_ = {};
    index_t const r = U.cols;
    hoft::arena count;
    hoft::carve_compact_wy<float>(count, U.rows, r, r);
    memory_ = memory(owner, count.size());
    hoft::arena arena(memory_.work());
    view_ = hoft::carve_compact_wy<float>(arena, U.rows, r, r);
    memory const scratch(owner, hoft::accumulate_workspace<float>(policy, r, r, kind));
    hoft::accumulate(policy, U, view_, kind, scratch.work());
  }
  hoft::compact_wy_view<float> const& operator*() const { return view_; }

 private:
  memory memory_;
  hoft::compact_wy_view<float> view_;
};

template <class Policy>
void start_paired(Policy const& policy, view U, std::uint64_t seed) {
  hoft::paired_gaussian(policy, U, seed);
}

// --- hoft's own passes
// ------------------------------------------------------------------------------------------------

/// How many blocks sum apart, and so how much they need, depends on the device: these are the terms of O(…).
inline constexpr methods::memory_formulas hoft_memory{"(m + n)*r + r**2", "(m + n)*r + r**2", "(m + n)*r + r*t + r**2",
                                                      "(m + n)*r + r*t + r**2"};
inline constexpr methods::memory_formulas shoft_memory{hoft_memory.merge, hoft_memory.merge_backward,
                                                       "(m + n)*r + r*t + r**2 + m*t", "(m + n)*r + r*t + r**2 + m*t"};

template <class Policy>
class hoft_adapter final : public method {
 public:
  hoft_adapter(Policy const& policy, machine& owner, sizes const& s, hoft::inverse kind, bool scaled)
      : method(owner), policy_(policy), kind_(kind), U_(make(s.m, s.r)), V_(make(s.n, s.r)) {
    start_paired(policy_, U_.value.view(), 1);
    start_paired(policy_, V_.value.view(), 2);
    if (!scaled) return;
    s_ = &make(s.m, 1);
    hoft::ops<Policy>::fill(policy_, 1.0f, s_->value.view());
  }

  void merge(fixed_view M, view Mhat) override {
    forget();
    auto const a = adapt();
    memory const work(machine_, hoft::merge_workspace(policy_, a, Mhat));
    hoft::merge(policy_, a, M, Mhat, work.work());
  }
  void merge_backward(fixed_view M, view dMhat) override {
    auto const a = adapter();
    memory const work(machine_, hoft::merge_backward_workspace(policy_, a, M));
    hoft::merge_backward(policy_, a, M, dMhat, U_.gradient.view(), V_.gradient.view(), scale_gradient(), work.work());
  }
  /// As training does, which changes U, V and s between steps: the layer is bound anew.
  void forward(fixed_view M, fixed_view x, view y) override {
    forget();
    auto const a = adapt();
    auto const base = hoft::cuda::dense(policy_, M);
    auto const carve = [&](hoft::arena& from) {
      layer_ = hoft::carve_layer(from, a);
      state_ = hoft::carve_layer_state<float, hoft::col_major>(from, a, x.cols);
    };
    kept_ = carved(carve);
    {
      memory const work(machine_, hoft::bind_workspace<float>(policy_, a));
      hoft::bind_layer<float>(policy_, a, base, layer_, work.work());
    }
    memory const work(machine_, hoft::forward_workspace(policy_, layer_, x));
    hoft::forward(policy_, layer_, base, x, y, state_, work.work());
  }
  void backward(fixed_view M, fixed_view x, fixed_view y, view dy, view dx) override {
    auto const base = hoft::cuda::dense(policy_, M);
    hoft::layer_gradient_view<float> sums;
    memory const of_sums = carved([&](hoft::arena& from) { sums = hoft::carve_layer_gradient(from, layer_.adapter); });
    hoft::set_zero(policy_, sums);
    {
      memory const work(machine_, hoft::backward_workspace(policy_, layer_, state_));
      hoft::backward(policy_, layer_, base, x, y, state_, dy, dy, dx, sums, work.work());
    }
    memory const work(machine_, hoft::finish_workspace<float>(policy_, layer_));
    hoft::finish<float>(policy_, layer_, base, sums, U_.gradient.view(), V_.gradient.view(), scale_gradient(),
                        work.work());
  }

 private:
  using scale = hoft::vector_view<float>;

  void forget() { kept_ = {}; }
  /// The memory of what `carve` cuts.
  template <class Carve>
  memory carved(Carve const& carve) {
    hoft::arena count;
    carve(count);
    memory taken(machine_, count.size());
    hoft::arena arena(taken.work());
    carve(arena);
    return taken;
  }
  hoft::adapter_view<float> adapt() {
    left_.make(policy_, machine_, U_.value.fixed(), kind_);
    right_.make(policy_, machine_, V_.value.fixed(), kind_);
    return adapter();
  }
  hoft::adapter_view<float> adapter() const {
    return {*left_, *right_, s_ == nullptr ? scale{} : scale(s_->value.view().data, s_->value.view().rows)};
  }
  scale scale_gradient() const {
    return s_ == nullptr ? scale{} : scale(s_->gradient.view().data, s_->gradient.view().rows);
  }

  Policy policy_;
  hoft::inverse kind_;
  parameter &U_, &V_, *s_ = nullptr;
  form<Policy> left_, right_;
  memory kept_;
  hoft::bound_layer_view<float> layer_;
  hoft::layer_state<float, float, hoft::col_major> state_;
};

// --- in the order of the formula
// ---------------------------------------------------------------------------------------

/// HOFT as Q_V x, then M, then Q_U: for few tokens, where hoft's own passes would pay 2 m n r for M V. Forward only: it
/// is here for Table 1, which counts products with one vector.
constexpr description describe_in_turn(char const* name, char const* text) {
  return {
      .name = name,
      .text = text,
      .variables = "mnrt",
      .parameters = "(m + n) * r",
      .merge = {"", "", ""},
      .merge_backward = {"", "", ""},
      .forward = {"2*m*n*t + 4*(m + n)*r*t + 2*(m + n)*r**2", "m*n + (2*m + 3*n)*t + (m + n)*r",
                  "(m + n)*r + n*t + r*t + r**2"},
      .backward = {"", "", ""},
  };
}

template <class Policy>
class hoft_in_turn final : public method {
 public:
  hoft_in_turn(Policy const& policy, machine& owner, sizes const& s, hoft::inverse kind)
      : method(owner), policy_(policy), kind_(kind), U_(make(s.m, s.r)), V_(make(s.n, s.r)) {
    start_paired(policy_, U_.value.view(), 1);
    start_paired(policy_, V_.value.view(), 2);
  }
  void forward(fixed_view M, fixed_view x, view y) override {
    left_.make(policy_, machine_, U_.value.fixed(), kind_);
    right_.make(policy_, machine_, V_.value.fixed(), kind_);
    matrix const turned(machine_, x.rows, x.cols);
    apply(*right_, x, turned.view());
    multiply(policy_, M, turned.fixed(), y);
    apply(*left_, y, y);
  }

 private:
  void apply(hoft::compact_wy_view<float> const& Q, fixed_view X, view Y) {
    memory const work(machine_, hoft::apply_workspace(policy_, Q, Y, hoft::side::left));
    hoft::apply(policy_, Q, X, Y, hoft::side::left, hoft::op::plain, work.work());
  }

  Policy policy_;
  hoft::inverse kind_;
  parameter &U_, &V_;
  form<Policy> left_, right_;
};

// --- baselines
// ------------------------------------------------------------------------------------------------------------

template <class Policy>
class lora final : public method {
 public:
  lora(Policy const& policy, machine& owner, sizes const& s)
      : method(owner), policy_(policy), B_(make(s.m, s.r)), A_(make(s.r, s.n)) {
    hoft::ops<Policy>::fill(policy_, 0.0f, B_.value.view());
    start_paired(policy_, A_.value.view(), 1);
  }
  void merge(fixed_view M, view Mhat) override { multiply(policy_, B_.value.fixed(), A_.value.fixed(), Mhat, M); }
  void merge_backward(fixed_view, view dMhat) override {
    multiply(policy_, fixed_view(dMhat), A_.value.fixed().transposed(), B_.gradient.view());
    multiply(policy_, B_.value.fixed().transposed(), fixed_view(dMhat), A_.gradient.view());
  }
  void forward(fixed_view M, fixed_view x, view y) override {
    h_ = {};
    h_ = matrix(machine_, A_.value.view().rows, x.cols);
    multiply(policy_, M, x, y);
    multiply(policy_, A_.value.fixed(), x, h_.view());
    multiply(policy_, B_.value.fixed(), h_.fixed(), y, y);
  }
  void backward(fixed_view M, fixed_view x, fixed_view, view dy, view dx) override {
    matrix const dh(machine_, h_.view().rows, h_.view().cols);
    fixed_view const g = dy;
    multiply(policy_, g, h_.fixed().transposed(), B_.gradient.view());
    multiply(policy_, B_.value.fixed().transposed(), g, dh.view());
    multiply(policy_, dh.fixed(), x.transposed(), A_.gradient.view());
    multiply(policy_, M.transposed(), g, dx);
    multiply(policy_, A_.value.fixed().transposed(), dh.fixed(), dx, dx);
  }

 private:
  Policy policy_;
  parameter &B_, &A_;
  matrix h_;  ///< A x
};

/// Trains the weight itself: M is not read.
template <class Policy>
class full final : public method {
 public:
  full(Policy const& policy, machine& owner, sizes const& s) : method(owner), policy_(policy), W_(make(s.m, s.n)) {
    hoft::ops<Policy>::fill(policy_, 0.0f, W_.value.view());
  }
  void merge(fixed_view, view Mhat) override { hoft::ops<Policy>::copy(policy_, W_.value.fixed(), Mhat); }
  void merge_backward(fixed_view, view dMhat) override {
    hoft::ops<Policy>::copy(policy_, fixed_view(dMhat), W_.gradient.view());
  }
  void forward(fixed_view, fixed_view x, view y) override { multiply(policy_, W_.value.fixed(), x, y); }
  void backward(fixed_view, fixed_view x, fixed_view, view dy, view dx) override {
    multiply(policy_, fixed_view(dy), x.transposed(), W_.gradient.view());
    multiply(policy_, W_.value.fixed().transposed(), fixed_view(dy), dx);
  }

 private:
  Policy policy_;
  parameter& W_;
};

/// The list over the policy that `policy_of` takes from a machine.
template <class PolicyOf>
std::vector<entry> make_list(PolicyOf policy_of) {
  using policy = std::remove_cvref_t<decltype(policy_of(std::declval<machine&>()))>;
  auto const adapter = [=](description const& about, hoft::inverse kind, bool scaled) {
    return entry{about, [=](machine& owner, sizes const& s) -> std::unique_ptr<method> {
                   return std::make_unique<hoft_adapter<policy>>(policy_of(owner), owner, s, kind, scaled);
                 }};
  };
  auto const in_turn = [=](description const& about, hoft::inverse kind) {
    return entry{about, [=](machine& owner, sizes const& s) -> std::unique_ptr<method> {
                   return std::make_unique<hoft_in_turn<policy>>(policy_of(owner), owner, s, kind);
                 }};
  };
  return {
      adapter(methods::describe_hoft("hoft_exact", "HOFT with the exact inverse, by hoft", hoft_memory), hoft::exact{},
              false),
      adapter(methods::describe_hoft("hoft_two_terms",
                                     "HOFT with the inverse cut after two terms as in the paper, by hoft", hoft_memory),
              hoft::neumann{2}, false),
      in_turn(
          describe_in_turn("hoft_in_turn_exact", "HOFT as Q_V x, then M, then Q_U, with the exact inverse, by hoft"),
          hoft::exact{}),
      in_turn(describe_in_turn("hoft_in_turn_two_terms",
                               "HOFT as Q_V x, then M, then Q_U, with the inverse cut after two terms, by hoft"),
              hoft::neumann{2}),
      adapter(methods::describe_shoft(shoft_memory), hoft::exact{}, true),
      {methods::about_lora,
       [=](machine& owner, sizes const& s) -> std::unique_ptr<method> {
         return std::make_unique<lora<policy>>(policy_of(owner), owner, s);
       }},
      {methods::about_full,
       [=](machine& owner, sizes const& s) -> std::unique_ptr<method> {
         return std::make_unique<full<policy>>(policy_of(owner), owner, s);
       }},
  };
}

}  // namespace bench::gpu
