// backward.cpp: the gradients of y = Q_U M Q_V x with respect to x, U and V, beside the frozen layer, LoRA and the
// paper's way.
#include "layer.hpp"
#include "program.hpp"

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
    assign(c->gradient, c->dy.columns(0, c->s.t));
    assign(c->tokens, c->x_tokens());
    if (!std::exchange(*done, true)) c->forward(library::blas);
  };
  auto const lora_forward = [c] { c->lora_project(library::blas); };
  auto const paper_forward = [c] { c->form_Mhat(); };
  auto const nothing = [] {};
  matrix_view<T const> const dx = c->dx_tokens(), dU = as_view(c->dU), dV = as_view(c->dV), dA = as_view(c->dA),
                             dB = as_view(c->dB);
  auto const enter = [&](char const* name, char const* group, hoft::cost cost,
                         std::vector<matrix_view<T const>> results, std::function<void()> prepare, auto run) {
    contest.enter(group, {name, [c, run] { run(*c); }, cost, std::move(prepare)}, std::move(results));
  };
  hoft::cost const adapted = c->backward_cost(), frozen = c->frozen_backward_cost(), lora = c->lora_cost(frozen, 2);
  enter("hoft", "hoft", adapted, {dx, dU, dV}, forward, [](data& d) { d.backward(library::hoft); });
  enter("hoft_on_blas", "hoft", adapted, {dx, dU, dV}, forward, [](data& d) { d.backward(library::blas); });
  enter("paper", "hoft", adapted, {dx, dU, dV}, paper_forward, [](data& d) { d.paper_backward(library::hoft); });
  enter("paper_on_blas", "hoft", adapted, {dx, dU, dV}, paper_forward,
        [](data& d) { d.paper_backward(library::blas); });
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
