// SPDX-License-Identifier: BSD-3-Clause
// forward.cpp: y = Q_U M Q_V x on t tokens, M [m, n], ranks r and r, beside the frozen layer, LoRA and the paper's way.
#include "layer.hpp"
#include "program.hpp"

namespace bench {
namespace {

template <class T>
contest<T> forward_contest(shape s) {
  using data = layer<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{std::max(s.m, s.n)};
  auto const enter = [&](std::string const& name, char const* group, hoft::cost cost, auto run) {
    contest.enter(group, {name, [c, run] { run(*c); }, cost}, {c->y});
  };
  hoft::cost const adapted = c->forward_cost(), frozen = c->frozen_cost(), lora = c->lora_cost(frozen, 1);
  enter("hoft", "hoft", adapted, [](data& d) { d.forward(library::hoft); });
  enter("hoft_on_blas", "hoft", adapted, [](data& d) { d.forward(library::blas); });
  // What a step of training has to make anew, as the paper's way has to form M̂.
  for (auto [by, suffix] : {std::pair{library::hoft, ""}, std::pair{library::blas, "_on_blas"}}) {
    enter(std::string("hoft_step") + suffix, "hoft", adapted + c->bind_cost(), [by = by](data& d) {
      d.accumulate();
      d.bind(by);
      d.forward(by);
    });
    enter(std::string("paper_step") + suffix, "hoft", adapted, [by = by](data& d) {
      d.accumulate();
      d.paper_forward(by);
    });
  }
  enter("frozen", "frozen", frozen, [](data& d) { d.frozen_forward(library::hoft); });
  enter("frozen_eigen", "frozen", frozen, [](data& d) { d.frozen_forward(library::eigen); });
  enter("frozen_on_blas", "frozen", frozen, [](data& d) { d.frozen_forward(library::blas); });
  enter("lora", "lora", lora, [](data& d) { d.lora_forward(library::hoft); });
  enter("lora_on_blas", "lora", lora, [](data& d) { d.lora_forward(library::blas); });
  return contest;
}

}  // namespace

void forward_cases(program& p) {
  p.hold_all("forward", [](auto type, shape s) { return forward_contest<decltype(type)>(s); });
}

}  // namespace bench
