// backward.cpp: the gradients of y = Q_U M Q_V x with respect to x, U and V, beside the frozen layer, LoRA and the
// paper's way.
#include "layer.hpp"

namespace {

template <class T>
bench::contest<T> backward_contest(bench::shape s) {
  using data = bench::layer<T>;
  using hoft::as_view;
  auto const c = std::make_shared<data>(s);
  double const m = double(s.m), n = double(s.n), r = double(s.r), t = double(s.t), size = sizeof(T);
  hoft::cost const adapted = hoft::backward_cost(m, n, t, r, r, size);
  hoft::cost const frozen = hoft::backward_cost(m, n, t, 0, 0, size);
  bench::contest<T> contest{{}, std::max({s.m, s.n, s.t})};
  // What each backward pass needs of its forward pass. Repeated, hoft's works on the gradient that it left itself: of
  // the same length, since Q_U is orthogonal.
  auto const forward = [c, done = std::make_shared<bool>(false)] {
    bench::assign(c->gradient, c->dy.columns(0, c->s.t));
    bench::assign(c->tokens, c->x_tokens());
    if (!std::exchange(*done, true)) c->forward(bench::base_of<bench::blas_products, T>{c->M});
  };
  auto const lora_forward = [c] { c->lora_project(bench::blas_products{}); };
  auto const paper_forward = [c] { c->form_Mhat(); };
  hoft::matrix_view<T const> const dx = c->dx_tokens(), dU = as_view(c->dU), dV = as_view(c->dV), dA = as_view(c->dA),
                                   dB = as_view(c->dB);
  using bench::blas_products;
  using bench::eigen_products;
  using bench::hoft_products;
  auto const enter = [&](char const* name, char const* group, hoft::cost cost,
                         std::vector<hoft::matrix_view<T const>> results, std::function<void()> prepare, auto run) {
    contest.contestants.push_back({name, [c, run] { run(*c); }, std::move(results), cost, std::move(prepare), group});
  };
  enter("hoft", "hoft", adapted, {dx, dU, dV}, forward,
        [base = hoft::dense(hoft::cpu{}, c->M)](data& d) { d.backward(base); });
  enter("hoft_on_blas", "hoft", adapted, {dx, dU, dV}, forward,
        [](data& d) { d.backward(bench::base_of<blas_products, T>{d.M}); });
  enter("paper", "hoft", adapted, {dx, dU, dV}, paper_forward, [](data& d) { d.paper_backward(hoft_products{}); });
  enter("paper_blas", "hoft", adapted, {dx, dU, dV}, paper_forward, [](data& d) { d.paper_backward(blas_products{}); });
  auto const nothing = [] {};
  enter("frozen", "frozen", frozen, {dx}, nothing, [](data& d) { d.frozen_backward(hoft_products{}); });
  enter("frozen_eigen", "frozen", frozen, {dx}, nothing, [](data& d) { d.frozen_backward(eigen_products{}); });
  enter("frozen_blas", "frozen", frozen, {dx}, nothing, [](data& d) { d.frozen_backward(blas_products{}); });
  hoft::cost const lora = bench::lora_cost(frozen, s, 2, size);
  enter("lora", "lora", lora, {dx, dA, dB}, lora_forward, [](data& d) { d.lora_backward(hoft_products{}); });
  enter("lora_blas", "lora", lora, {dx, dA, dB}, lora_forward, [](data& d) { d.lora_backward(blas_products{}); });
  return contest;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "backward",
                    [](auto type, bench::shape s) { return backward_contest<decltype(type)>(s); });
}
