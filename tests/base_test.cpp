// The policy of a pass reaches the base operator.
#include "support.hpp"

#include <hoft/hoft.hpp>

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
