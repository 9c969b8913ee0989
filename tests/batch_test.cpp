// Batches: the bits of the single calls, and errors before anything is written.
#include "cuda_on_host/host.hpp"
#include <hoft/hoft.hpp>

#include "support.hpp"

using namespace hoft_test;

namespace {

/// Problems of different shapes, an empty one among them.
template <class T, class L>
struct problems {
  using A = hoft::accumulator_t<T>;
  static constexpr index_t shapes[][3] = {{64, 8, 64}, {7, 3, 5}, {65, 70, 9}, {5, 0, 4}, {33, 4, 0}, {130, 16, 50}};
  static constexpr std::size_t count = std::size(shapes);

  std::vector<dense_matrix<T, L>> U, X, Y;
  form_memory memory;
  std::vector<hoft::compact_wy_view<A>> Q;
  std::vector<hoft::matrix_view<T const, L>> u, x;
  std::vector<hoft::matrix_view<T, L>> y;

  explicit problems(side s, hoft::inverse kind = hoft::exact{}) {
    unsigned seed = 0;
    for (auto const [m, r, n] : shapes) {
      U.push_back(gaussian<T, L>(m, r, ++seed));
      X.push_back(s == side::left ? gaussian<T, L>(m, n, ++seed) : gaussian<T, L>(n, m, ++seed));
      Y.push_back(dense_matrix<T, L>::Constant(X.back().rows(), X.back().cols(), T(1)));
      Q.push_back(memory.template cut<A>(m, r, hoft::block_for(r, kind)));
    }
    for (std::size_t i = 0; i < count; ++i) {
      u.push_back(hoft::as_view(std::as_const(U[i])));
      x.push_back(hoft::as_view(std::as_const(X[i])));
      y.push_back(hoft::as_view(Y[i]));
    }
  }

  std::vector<hoft::compact_wy_view<A const>> constant_forms() const { return {Q.begin(), Q.end()}; }
};

template <class E>
std::span<E const> all_of(std::vector<E> const& v) {
  return v;
}

}  // namespace

TEST_CASE_TEMPLATE("a batch has the bits of its single calls, for any number of threads", T, float, double,
                   std::complex<float>, Eigen::half) {
  using L = hoft::row_major;
  for (side s : sides)
    for (op o : ops)
      for (int threads : {1, 2, 5}) {
        hoft::cpu const policy{.threads = threads};
        problems<T, L> p(s);
        std::span const Q(p.Q);
        guarded_workspace accumulating(hoft::accumulate_workspace(policy, Q));
        hoft::accumulate(policy, all_of(p.u), Q, hoft::exact{}, accumulating);
        CHECK(accumulating.intact());
        auto const constant = p.constant_forms();
        guarded_workspace applying(hoft::apply_workspace(policy, all_of(constant), all_of(p.x), s));
        hoft::apply(policy, all_of(constant), all_of(p.x), all_of(p.y), s, o, applying);
        CHECK(applying.intact());
        for (std::size_t i = 0; i < p.count; ++i) {
          auto const single = hoft::accumulate(p.U[i]);
          CHECK(same_bits(single.vectors(), hoft::as_eigen(p.Q[i].vectors)));
          CHECK(same_bits(single.factor(), hoft::as_eigen(p.Q[i].factor)));
          dense_matrix<T, L> expected = p.X[i];
          hoft::apply(single, expected, s, o);
          CHECK(same_bits(expected, p.Y[i]));
        }
      }
}

TEST_CASE_TEMPLATE("a batch through the kernels of a GPU has the bits of its single calls", T, std::complex<double>,
                   Eigen::half) {
  using L = hoft::row_major;
  // With little memory for a block, a batch of forms is not one launch, and apply not one pass.
  for (index_t shared : {index_t{227} << 10, index_t{33} << 10})
    for (hoft::inverse kind : {hoft::inverse(hoft::exact{}), hoft::inverse(hoft::neumann{2})})
      for (side s : sides) {
        hoft::cuda::host policy;
        policy.shared_limit = shared;
        problems<T, L> together(s, kind), alone(s, kind);
        std::span const Q(together.Q);
        guarded_workspace accumulating(hoft::accumulate_workspace(policy, Q, kind));
        hoft::accumulate(policy, all_of(together.u), Q, kind, accumulating);
        auto const constant = together.constant_forms();
        guarded_workspace applying(hoft::apply_workspace(policy, all_of(constant), all_of(together.x), s));
        hoft::apply(policy, all_of(constant), all_of(together.x), all_of(together.y), s, hoft::op::adjoint, applying);
        CHECK(accumulating.intact());
        CHECK(applying.intact());
        for (std::size_t i = 0; i < together.count; ++i) {
          auto& q = alone.Q[i];
          guarded_workspace of_form(
              hoft::accumulate_workspace<hoft::accumulator_t<T>>(policy, q.rank(), q.block, kind));
          hoft::accumulate(policy, alone.u[i], q, kind, of_form);
          guarded_workspace of_product(hoft::apply_workspace(policy, q, alone.x[i], s));
          hoft::apply(policy, q, alone.x[i], alone.y[i], s, hoft::op::adjoint, of_product);
          CHECK(same_bits(hoft::as_eigen(q.vectors), hoft::as_eigen(together.Q[i].vectors)));
          CHECK(same_bits(hoft::as_eigen(q.factor), hoft::as_eigen(together.Q[i].factor)));
          CHECK(same_bits(alone.Y[i], together.Y[i]));
        }
      }
}

TEST_CASE("a bad problem stops its batch before anything is written, by name") {
  hoft::cpu const policy;
  problems<float, hoft::col_major> p(side::left);
  std::span const Q(p.Q);
  std::vector<std::byte> memory(1 << 20);
  hoft::workspace const work{memory.data(), index_t(memory.size())};
  for (auto& q : p.Q) hoft::as_eigen(q.vectors).setConstant(7);
  auto const untouched = [&] {
    for (auto const& q : p.Q) CHECK((hoft::as_eigen(q.vectors).array() == 7.0f).all());
    for (auto const& y : p.Y) CHECK((y.array() == 1.0f).all());
  };

  auto u = p.u;
  u.back().rows += 1, u.back().ld += 1;
  CHECK_THROWS_WITH_AS(hoft::accumulate(policy, all_of(u), Q, hoft::exact{}, work),
                       "hoft::accumulate: Q.vectors.rows is 130, must be == 131 (problem 5)", hoft::shape_error);
  u.pop_back();
  CHECK_THROWS_WITH_AS(hoft::accumulate(policy, all_of(u), Q, hoft::exact{}, work),
                       "hoft::accumulate: Q.size() is 6, must be == 5", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::accumulate(policy, all_of(p.u), Q, hoft::neumann{0}, work),
                       "hoft::accumulate: neumann.terms is 0, must be >= 1", hoft::argument_error);
  CHECK_THROWS_WITH_AS(hoft::accumulate(policy, all_of(p.u), Q, hoft::neumann{2}, work),
                       "hoft::accumulate: Q.block is 64, must be >= 70 (problem 2)", hoft::shape_error);
  CHECK_THROWS_AS(hoft::accumulate(policy, all_of(p.u), Q, hoft::exact{}, {memory.data(), 8}), hoft::workspace_error);
  auto negative = p.u;
  negative[1].cols = -1;
  CHECK_THROWS_WITH_AS(hoft::accumulate(policy, all_of(negative), Q, hoft::exact{}, work),
                       "hoft::accumulate: U.cols is -1, must be >= 0 (problem 1)", hoft::shape_error);
  untouched();

  CHECK_THROWS_WITH_AS(
      hoft::apply(policy, all_of(p.constant_forms()), all_of(p.x), all_of(p.y), side::left, hoft::op::plain, work),
      "hoft::apply: Q is memory that has not been accumulated, must be filled by accumulate first "
      "(problem 0)",
      hoft::argument_error);
  for (auto& q : p.Q) q.filled = true;  // what it holds does not matter
  auto const constant = p.constant_forms();
  auto y = p.y;
  y[1].cols -= 1;
  CHECK_THROWS_WITH_AS(hoft::apply(policy, all_of(constant), all_of(p.x), all_of(y), side::left, hoft::op::plain, work),
                       "hoft::apply: Y.cols is 4, must be == 5 (problem 1)", hoft::shape_error);
  auto x = p.x;
  x.pop_back();
  CHECK_THROWS_WITH_AS(hoft::apply(policy, all_of(constant), all_of(x), all_of(p.y), side::left, hoft::op::plain, work),
                       "hoft::apply: X.size() is 5, must be == 6", hoft::shape_error);
  CHECK_THROWS_AS(
      hoft::apply(policy, all_of(constant), all_of(p.x), all_of(p.y), side::left, hoft::op::plain, {memory.data(), 8}),
      hoft::workspace_error);
  untouched();
}
