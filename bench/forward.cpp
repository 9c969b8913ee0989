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
  auto const enter = [&](char const* name, char const* group, hoft::cost cost, auto run) {
    contest.enter(group, {name, [c, run] { run(*c); }, cost, [c] { assign(c->tokens, c->x_tokens()); }},
                  {c->y_tokens()});
  };
  hoft::cost const adapted = c->forward_cost(), frozen = c->frozen_cost(), lora = c->lora_cost(frozen, 1);
  enter("hoft", "hoft", adapted, [](data& d) { d.forward(library::hoft); });
  // A step of training makes the compact WY forms anew.
  enter("hoft_step", "hoft", adapted, [](data& d) {
    d.accumulate();
    d.forward(library::hoft);
  });
  enter("hoft_on_blas", "hoft", adapted, [](data& d) { d.forward(library::blas); });
  enter("paper", "hoft", adapted, [](data& d) { d.paper_forward(library::hoft); });
  enter("paper_on_blas", "hoft", adapted, [](data& d) { d.paper_forward(library::blas); });
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
