// SPDX-License-Identifier: BSD-3-Clause
// The policy of a pass reaches the base operator.
#include "cuda_on_host/host.hpp"
#include "support.hpp"

#include <hoft/adapter/layer_batch.hpp>
#include <hoft/hoft.hpp>

#include <span>
#include <type_traits>
#include <vector>

using namespace hoft_test;

namespace {

/// Counts how often threads are asked for.
class counting_executor final : public hoft::executor {
 public:
  int calls = 0;
  void run(index_t workers, share one, void* work) override {
    ++calls;
    for (index_t w = 0; w < workers; ++w) one(work, w);
  }
};

/// A base operator that takes no policy.
template <class T, class L>
struct serial_base {
  hoft::dense_operator<T, L> M;
  template <class TX, class LX>
  void apply(hoft::matrix_view<TX, LX> X, hoft::matrix_view<T, LX> Y) const {
    M.apply(X, Y);
  }
  template <class TX, class LX>
  void apply_adjoint(hoft::matrix_view<TX, LX> X, hoft::matrix_view<T, LX> Y) const {
    M.apply_adjoint(X, Y);
  }
};

/// What forward and backward through `base` ask the executor for, and what they compute.
template <class T>
struct pass {
  using A = hoft::accumulator_t<T>;
  static constexpr index_t m = 160, n = 128, t = 300;
  dense_matrix<A> U = gaussian<A>(m, 4, 1), V = gaussian<A>(n, 4, 2);
  dense_matrix<T> x = gaussian<T>(n, t, 3), dy = gaussian<T>(m, t, 4);
  dense_matrix<T> y, dx;
  int forward_calls, backward_calls;

  template <class Base>
  pass(int threads, Base const& base) {
    counting_executor executor;
    hoft::cpu const policy{.threads = threads, .executor = &executor};
    hoft::adapter<A> const a{U, V};
    auto const f = hoft::forward(policy, a, base, x);
    forward_calls = executor.calls;
    auto const g = hoft::backward(policy, a, base, x, f, dy);
    backward_calls = executor.calls - forward_calls;
    y = f.y, dx = g.dx;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("dense(M) computes on the threads of the pass, dense(policy, M) on its own", T, float, double,
                   Eigen::bfloat16) {
  dense_matrix<T> const M = gaussian<T>(pass<T>::m, pass<T>::n, 5);
  auto const base = hoft::dense(M);
  serial_base<T, hoft::col_major> const serial{base};
  pass<T> const by_itself(3, serial);
  for (int threads : {3, 8}) {
    pass<T> const with(threads, base);
    CHECK(with.forward_calls > by_itself.forward_calls);
    CHECK(with.backward_calls > by_itself.backward_calls);
    CHECK(same_bits(with.y, by_itself.y));
    CHECK(same_bits(with.dx, by_itself.dx));
  }
  pass<T> const one_thread(3, hoft::dense(hoft::cpu{}, M));
  CHECK(one_thread.forward_calls == by_itself.forward_calls);
  CHECK(one_thread.backward_calls == by_itself.backward_calls);
  counting_executor own;
  hoft::cpu const two{.threads = 2, .executor = &own};
  pass<T> const elsewhere(1, hoft::dense(two, M));
  CHECK(own.calls > 0);
  CHECK(elsewhere.forward_calls == 0);
  CHECK(same_bits(elsewhere.y, by_itself.y));
  // On its own it takes one thread, as before.
  dense_matrix<T> y(pass<T>::m, pass<T>::t);
  base.apply(hoft::as_view(by_itself.x), hoft::as_view(y));
}

namespace {

/// A base operator Y := X that tells calls with the policy `Policy` from those without one.
template <class Policy>
struct asking_base {
  int* with_policy;
  int* without;
  template <class L>
  void apply(Policy const&, hoft::matrix_view<float const, L> X, hoft::matrix_view<float, L> Y) const {
    ++*with_policy;
    hoft::as_eigen(Y) = hoft::as_eigen(X);
  }
  template <class L>
  void apply_adjoint(Policy const& policy, hoft::matrix_view<float const, L> X, hoft::matrix_view<float, L> Y) const {
    apply(policy, X, Y);
  }
  template <class L>
  void apply(hoft::matrix_view<float const, L>, hoft::matrix_view<float, L>) const {
    ++*without;
  }
  template <class L>
  void apply_adjoint(hoft::matrix_view<float const, L>, hoft::matrix_view<float, L>) const {
    ++*without;
  }
};

/// Calls with the policy of a batch of two layers: bound, forward, backward, finished; and of forward_shared.
template <class Policy>
int calls_with_policy(Policy const& policy) {
  constexpr index_t m = 6, r = 2, t = 3;
  int with_policy = 0, without = 0;
  hoft::adapter<float> const a{gaussian<float>(m, r, 1), gaussian<float>(m, r, 2)};
  std::vector<asking_base<Policy>> const bases(2, {&with_policy, &without});
  std::vector<hoft::adapter_view<float const>> const adapters(2, a.view());
  std::vector<dense_matrix<float>> x(2, gaussian<float>(m, t, 3)), y = x, dy = x, dbase = x, dx = x,
                                                                   dU(2, gaussian<float>(m, r, 4)), dV = dU;
  auto const views = [](std::vector<dense_matrix<float>>& of) {
    std::vector<hoft::matrix_view<float>> result;
    for (auto& one : of) result.push_back(hoft::as_view(one));
    return result;
  };
  std::vector<std::byte> memory(1 << 16), work(1 << 16);
  hoft::arena from({memory.data(), index_t(memory.size())});
  std::vector<hoft::bound_layer_view<float>> layers;
  std::vector<hoft::layer_state<float, float, col_major>> states;
  std::vector<hoft::layer_gradient_view<float>> sums;
  for (std::size_t i = 0; i < 2; ++i) {
    layers.push_back(hoft::carve_layer(from, a.view()));
    states.push_back(hoft::carve_layer_state<float, col_major>(from, a.view(), t));
    sums.push_back(hoft::carve_layer_gradient(from, a.view()));
    hoft::set_zero(policy, sums.back());
  }
  std::vector<hoft::vector_view<float>> const ds(2);
  hoft::workspace const room{work.data(), index_t(work.size())};
  hoft::bind_layer<float>(policy, adapters, bases, layers, room);
  hoft::forward(policy, layers, bases, views(x), views(y), states, room);
  hoft::backward(policy, layers, bases, views(x), views(y), states, views(dy), views(dbase), views(dx), sums, room);
  hoft::finish<float>(policy, layers, bases, sums, views(dU), views(dV), ds, room);
  std::vector<index_t> const offsets{0, 1, t};
  hoft::forward_shared(policy, layers, std::span<index_t const>(offsets), bases[0], hoft::as_view(x[0]),
                       hoft::as_view(y[0]), room);
  CHECK(without == 0);
  return with_policy;
}

}  // namespace

TEST_CASE("the policy reaches base operators in a batch") {
  CHECK(calls_with_policy(hoft::cpu{}) == 9);
  CHECK(calls_with_policy(hoft::cuda::host{}) == 9);
}
