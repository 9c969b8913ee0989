// SPDX-License-Identifier: BSD-3-Clause
// backward.cpp: the gradients of y = Q_U M Q_V x with respect to x, U and V, beside the frozen layer, LoRA and the
// paper's way.
#include "layer.hpp"
#include "program.hpp"

#include <hoft/eigen/layer.hpp>

namespace bench {
namespace {

template <class T>
contest<T> backward_contest(shape s) {
  using data = layer<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{std::max({s.m, s.n, s.t})};
  // What each backward pass needs of its forward pass. Repeated, hoft's works on the gradient that it left itself: of
  // the same length, since Q_U is orthogonal.
  auto const forward = [c, done = std::make_shared<bool>(false)] {
    c->clear();
    if (!std::exchange(*done, true)) c->forward(library::blas);
  };
  auto const lora_forward = [c] { c->lora_project(library::blas); };
  auto const paper_forward = [c] { c->form_Mhat(); };
  auto const nothing = [] {};
  auto const& g = c->sums.parts;
  matrix_view<T const> const dx = c->dx, dU = as_view(c->dU), dV = as_view(c->dV), dA = as_view(c->dA),
                             dB = as_view(c->dB);
  auto const enter = [&](std::string const& name, char const* group, hoft::cost cost,
                         std::vector<matrix_view<T const>> results, std::function<void()> prepare, auto run) {
    contest.enter(group, {name, [c, run] { run(*c); }, cost, std::move(prepare)}, std::move(results));
  };
  hoft::cost const adapted = c->backward_cost(), frozen = c->frozen_backward_cost(), lora = c->lora_cost(frozen, 2);
  for (auto [by, suffix] : {std::pair{library::hoft, ""}, std::pair{library::blas, "_on_blas"}}) {
    enter(std::string("hoft") + suffix, "hoft", adapted, {dx, g.D_U, g.minus_dK, g.D_V}, forward,
          [by = by](data& d) { d.backward(by); });
    // With the end of a step, which the paper's way comes to with each backward pass.
    enter(std::string("hoft_step") + suffix, "step", adapted + c->finish_cost(), {dx, dU, dV}, forward,
          [by = by](data& d) {
            d.backward(by);
            d.finish(by);
            hoft::set_zero(hoft::cpu{}, d.sums.parts);
          });
    enter(std::string("paper_step") + suffix, "step", adapted, {dx, dU, dV}, paper_forward,
          [by = by](data& d) { d.paper_backward(by); });
  }
  enter("frozen", "frozen", frozen, {dx}, nothing, [](data& d) { d.frozen_backward(library::hoft); });
  enter("frozen_eigen", "frozen", frozen, {dx}, nothing, [](data& d) { d.frozen_backward(library::eigen); });
  enter("frozen_on_blas", "frozen", frozen, {dx}, nothing, [](data& d) { d.frozen_backward(library::blas); });
  enter("lora", "lora", lora, {dx, dA, dB}, lora_forward, [](data& d) { d.lora_backward(library::hoft); });
  enter("lora_on_blas", "lora", lora, {dx, dA, dB}, lora_forward, [](data& d) { d.lora_backward(library::blas); });
  return contest;
}

}  // namespace

void backward_cases(program& p) {
  p.hold_all("backward", [](auto type, shape s) { return backward_contest<decltype(type)>(s); });
}

}  // namespace bench
