// forward.cpp: y = Q_U M Q_V x on t tokens, M [m, n], ranks r and r, beside the frozen layer, LoRA and the paper's way.
#include "layer.hpp"

namespace {

template <class T>
bench::contest<T> forward_contest(bench::shape s) {
  using data = bench::layer<T>;
  auto const c = std::make_shared<data>(s);
  double const m = double(s.m), n = double(s.n), r = double(s.r), t = double(s.t), size = sizeof(T);
  hoft::cost const adapted = hoft::forward_cost(m, n, t, r, r, size), frozen = hoft::forward_cost(m, n, t, 0, 0, size);
  bench::contest<T> contest{{}, std::max(s.m, s.n)};
  auto const prepare = [c] { bench::assign(c->tokens, c->x_tokens()); };
  auto const enter = [&](char const* name, char const* group, hoft::cost cost, auto run) {
    contest.contestants.push_back({name, [c, run] { run(*c); }, {c->y_tokens()}, cost, prepare, group});
  };
  using bench::blas_products;
  using bench::eigen_products;
  using bench::hoft_products;
  enter("hoft", "hoft", adapted, [base = hoft::dense(hoft::cpu{}, c->M)](data& d) { d.forward(base); });
  // A step of training makes the compact WY forms anew.
  enter("hoft_step", "hoft", adapted, [base = hoft::dense(hoft::cpu{}, c->M)](data& d) {
    d.adapter = hoft::adapter<T>{d.left.U, d.right.U};
    d.forward(base);
  });
  enter("hoft_on_blas", "hoft", adapted, [](data& d) { d.forward(bench::base_of<blas_products, T>{d.M}); });
  enter("paper", "hoft", adapted, [](data& d) { d.paper_forward(hoft_products{}); });
  enter("paper_blas", "hoft", adapted, [](data& d) { d.paper_forward(blas_products{}); });
  enter("frozen", "frozen", frozen, [](data& d) { d.frozen_forward(hoft_products{}); });
  enter("frozen_eigen", "frozen", frozen, [](data& d) { d.frozen_forward(eigen_products{}); });
  enter("frozen_blas", "frozen", frozen, [](data& d) { d.frozen_forward(blas_products{}); });
  hoft::cost const lora = bench::lora_cost(frozen, s, 1, size);
  enter("lora", "lora", lora, [](data& d) { d.lora_forward(hoft_products{}); });
  enter("lora_blas", "lora", lora, [](data& d) { d.lora_forward(blas_products{}); });
  return contest;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "forward",
                    [](auto type, bench::shape s) { return forward_contest<decltype(type)>(s); });
}
