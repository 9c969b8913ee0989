// SPDX-License-Identifier: BSD-3-Clause
// Batches: the bits of the single calls, and errors before anything is written.
#include "cuda_on_host/host.hpp"
#include <hoft/hoft.hpp>

#include "allocations.hpp"
#include "support.hpp"

#include <array>
#include <span>
#include <vector>

using namespace hoft_test;

namespace {

/// Problems of different shapes, an empty one among them.
template <class T, class L>
struct problems {
  using A = hoft::accumulator_t<T>;
  static constexpr index_t shapes[][3] = {{64, 8, 64}, {7, 3, 5},    {65, 70, 9}, {5, 0, 4},    {33, 4, 0},
                                          {130, 5, 7}, {130, 16, 1}, {7, 2, 9},   {130, 16, 50}};
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
        long before = allocations;
        hoft::accumulate(policy, all_of(p.u), Q, hoft::exact{}, accumulating);
        long made = allocations - before;
        auto const constant = p.constant_forms();
        guarded_workspace applying(hoft::apply_workspace(policy, all_of(constant), all_of(p.x), s));
        before = allocations;
        hoft::apply(policy, all_of(constant), all_of(p.x), all_of(p.y), s, o, applying);
        made += allocations - before;
        if (threads == 1) CHECK(made == 0);  // threads that start are allocations
        CHECK(accumulating.intact());
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
                       "hoft::accumulate: Q.vectors.rows is 130, must be == 131 (problem 8)", hoft::shape_error);
  u.pop_back();
  CHECK_THROWS_WITH_AS(hoft::accumulate(policy, all_of(u), Q, hoft::exact{}, work),
                       "hoft::accumulate: Q.size() is 9, must be == 8", hoft::shape_error);
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
                       "hoft::apply: X.size() is 8, must be == 9", hoft::shape_error);
  CHECK_THROWS_AS(
      hoft::apply(policy, all_of(constant), all_of(p.x), all_of(p.y), side::left, hoft::op::plain, {memory.data(), 8}),
      hoft::workspace_error);
  untouched();
}

namespace {

/// f(views) with the same two views in everything that may hold them.
template <class View, class F>
void in_every_holder(std::array<View, 2> views, F const& f) {
  View raw[2] = {views[0], views[1]};
  std::vector<View> many(views.begin(), views.end());
  f(views), f(raw), f(many), f(std::span(many)), f(std::span<View const>(many)), f(std::as_const(many));
}
template <class T, class L>
std::array<hoft::matrix_view<T const, L>, 2> constant(std::array<hoft::matrix_view<T, L>, 2> const& views) {
  return {views[0], views[1]};
}

}  // namespace

TEST_CASE("a batch takes views of mutable or constant elements, in whatever holds them") {
  using matrix = dense_matrix<float>;
  hoft::cpu const policy{.threads = 2};
  matrix U[2] = {gaussian<float>(9, 3, 1), gaussian<float>(7, 2, 2)},
         X[2] = {gaussian<float>(9, 4, 3), gaussian<float>(7, 5, 4)}, Y[2] = {X[0], X[1]}, expected[2] = {X[0], X[1]};
  for (std::size_t i = 0; i < 2; ++i) hoft::apply(hoft::accumulate(U[i]), expected[i]);
  std::vector<std::byte> memory(100000);
  hoft::workspace const work{memory.data(), index_t(memory.size())};
  std::array const u{hoft::as_view(U[0]), hoft::as_view(U[1])}, x{hoft::as_view(X[0]), hoft::as_view(X[1])},
      y{hoft::as_view(Y[0]), hoft::as_view(Y[1])};
  form_memory forms;
  std::array const cut{forms.cut<float>(9, 3, 3), forms.cut<float>(7, 2, 2)};
  auto const check = [&] {
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(same_bits(Y[i], expected[i]));
      Y[i].setZero();
    }
  };

  auto const accumulates = [&](auto const& all) {
    auto Q = cut;
    CHECK(hoft::accumulate_workspace(policy, Q) <= work.size);
    hoft::accumulate(policy, all, Q, hoft::exact{}, work);
    CHECK((Q[0].filled && Q[1].filled));
    hoft::apply(policy, Q, x, y, side::left, op::plain, work);
    check();
  };
  in_every_holder(u, accumulates), in_every_holder(constant(u), accumulates);

  auto filled = cut;
  hoft::accumulate(policy, u, filled, hoft::exact{}, work);
  std::vector<hoft::compact_wy_view<float>> vector_of_forms(cut.begin(), cut.end());
  hoft::accumulate(policy, u, std::span(vector_of_forms), hoft::exact{}, work);
  CHECK((vector_of_forms[0].filled && vector_of_forms[1].filled));
  auto const applies = [&](auto const& Q) {
    CHECK(hoft::apply_workspace(policy, Q, x) <= work.size);
    hoft::apply(policy, Q, constant(x), y, side::left, op::plain, work);
    check();
  };
  in_every_holder(filled, applies);
  in_every_holder(std::array<hoft::compact_wy_view<float const>, 2>{filled[0], filled[1]}, applies);
  auto const inputs = [&](auto const& all) {
    hoft::apply(policy, filled, all, y, side::left, op::plain, work);
    check();
  };
  in_every_holder(x, inputs), in_every_holder(constant(x), inputs);
  in_every_holder(y, [&](auto const& all) {
    hoft::apply(policy, filled, x, all, side::left, op::plain, work);
    check();
  });
}

TEST_CASE("batches of adapters take what people have") {
  using matrix = dense_matrix<float>;
  hoft::cpu const policy{.threads = 2};
  matrix const M = gaussian<float>(9, 6, 1), x0 = gaussian<float>(6, 5, 2), dy0 = gaussian<float>(9, 5, 3);
  hoft::adapter<float> const a{gaussian<float>(9, 2, 4), gaussian<float>(6, 3, 5)};
  auto const base = hoft::dense(M);
  auto const f = hoft::forward(a, base, x0);
  auto const g = hoft::backward(a, base, x0, f, dy0);
  matrix Mhat = M;
  hoft::merge(a, Mhat);
  auto const h = hoft::merge_backward(a, M, Mhat);

  std::vector<std::byte> memory(400000);
  hoft::workspace const work{memory.data(), index_t(memory.size())};
  matrix out[2] = {M, M}, y[2] = {matrix(9, 5), matrix(9, 5)}, dbase[2] = {matrix(9, 5), matrix(9, 5)},
         dx[2] = {matrix(6, 5), matrix(6, 5)}, dU[2] = {matrix(9, 2), matrix(9, 2)},
         dV[2] = {matrix(6, 3), matrix(6, 3)};
  auto const views = [](auto& of) { return std::vector{hoft::as_view(of[0]), hoft::as_view(of[1])}; };
  std::vector const adapters{a.view(), a.view()};
  std::array const weights{hoft::as_view(M), hoft::as_view(M)};
  std::vector<hoft::vector_view<float>> const ds(2);
  auto const merged = views(out);
  CHECK(hoft::merge_workspace(policy, adapters, merged) <= work.size);
  hoft::merge(policy, adapters, weights, merged, work);
  for (auto const& one : out) CHECK(same_bits(one, Mhat));
  hoft::merge_backward(policy, adapters, weights, merged, views(dU), views(dV), ds, work);
  for (auto const& one : dU) CHECK(same_bits(one, h.dU));
  for (auto const& one : dV) CHECK(same_bits(one, h.dV));
  hoft::unmerge(policy, adapters, merged, work);
  matrix back = Mhat;
  hoft::unmerge(a, back);
  for (auto const& one : out) CHECK(same_bits(one, back));

  hoft::arena count;
  for (int i = 0; i < 2; ++i) {
    hoft::carve_layer(count, a.view());
    hoft::carve_layer_state<float, col_major>(count, a.view(), 5);
    hoft::carve_layer_gradient(count, a.view());
  }
  std::vector<std::byte> kept(std::size_t(count.size()));
  hoft::arena at({kept.data(), count.size()});
  std::vector<hoft::bound_layer_view<float>> layers;
  std::vector<hoft::layer_state<float, float, col_major>> states;
  std::vector<hoft::layer_gradient_view<float>> sums;
  for (int i = 0; i < 2; ++i) {
    layers.push_back(hoft::carve_layer(at, a.view()));
    states.push_back(hoft::carve_layer_state<float, col_major>(at, a.view(), 5));
    sums.push_back(hoft::carve_layer_gradient(at, a.view()));
    hoft::set_zero(policy, sums.back());
  }
  std::vector const bases{base, base};
  std::array const tokens{hoft::as_view(x0), hoft::as_view(x0)}, gradients{hoft::as_view(dy0), hoft::as_view(dy0)};
  CHECK(hoft::bind_workspace<float>(policy, adapters) <= work.size);
  hoft::bind_layer<float>(policy, adapters, bases, layers, work);
  CHECK(hoft::forward_workspace(policy, layers, tokens) <= work.size);
  hoft::forward(policy, layers, bases, tokens, views(y), states, work);
  for (auto const& one : y) CHECK(same_bits(one, f.y));
  CHECK(hoft::backward_workspace(policy, layers, states) <= work.size);
  hoft::backward(policy, layers, bases, tokens, views(y), states, gradients, views(dbase), views(dx), sums, work);
  for (auto const& one : dx) CHECK(same_bits(one, g.dx));
  CHECK(hoft::finish_workspace<float>(policy, layers) <= work.size);
  hoft::finish<float>(policy, layers, bases, sums, views(dU), views(dV), ds, work);
  for (auto const& one : dU) CHECK(same_bits(one, g.dU));
  for (auto const& one : dV) CHECK(same_bits(one, g.dV));
}
