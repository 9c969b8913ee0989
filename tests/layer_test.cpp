// SPDX-License-Identifier: BSD-3-Clause
// A bound layer between optimiser steps: micro-batches, sums in the caller's memory, the two halves around somebody
// else's base, checkpointing, threads, and base operators that throw.
#include "activations.hpp"

#include <doctest/doctest.h>

#include <array>
#include <stdexcept>

namespace {

using namespace hoft_test;

/// What a step computes for its tokens, forward and backward in batches of `counts` tokens one after another. A batch
/// begins in the state of the one before it, as in a training loop.
template <class T, class L>
struct tokens_of_a_step {
  using A = hoft::accumulator_t<T>;
  padded<T, L> x, dy, y, dbase, dx;
  dense_matrix<A, L> v, w;

  explicit tokens_of_a_step(problem<T> const& p)
      : x(p.x), dy(p.g), y(p.d.m, p.d.t), dbase(p.d.m, p.d.t), dx(p.d.n, p.d.t), v(p.d.rv, p.d.t), w(p.d.ru, p.d.t) {}

  void run(watched_layer<T, L>& of, std::vector<index_t> const& counts, bool keep_q) {
    index_t first = 0;
    index_t const more = counts.size() > 1 ? 3 : 0;  // a state that was cut for more tokens serves fewer
    for (index_t const t : counts) {
      auto memory = of.state_of(t + more, keep_q);
      auto const state = memory.views.columns(more, t);
      auto const part = [&](padded<T, L>& all) { return all.view().columns(first, t); };
      of.forward(part(x), part(y), state);
      of.backward(part(x), part(y), state, part(dy), part(dbase), part(dx));
      v.middleCols(first, t) = hoft::as_eigen(state.v);
      w.middleCols(first, t) = hoft::as_eigen(state.w);
      first += t;
    }
    CHECK(first == y.map().cols());
    CHECK((y.intact() && dbase.intact() && dx.intact() && x.intact() && dy.intact()));
  }
};

template <class A>
using named_sums = std::array<dense_matrix<A>, 6>;
constexpr char const* sum_names[] = {"D_U", "dF_U", "E_U", "minus_dK", "D_V", "ds"};
template <class A>
named_sums<A> sums_of(hoft::layer_gradient_view<A> const& g) {
  hoft::matrix_view<A> const ds(g.ds.data, g.ds.size, 1);
  return {hoft::as_eigen(g.D_U),      hoft::as_eigen(g.dF_U), hoft::as_eigen(g.E_U),
          hoft::as_eigen(g.minus_dK), hoft::as_eigen(g.D_V),  hoft::as_eigen(ds)};
}
template <class Sums>
void check_same_sums(Sums const& got, Sums const& expected) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    CAPTURE(sum_names[i]);
    CHECK(same_bits(got[i], expected[i]));
  }
}
template <class A>
bool same_gradients(hoft::adapter_gradient<A> const& a, hoft::adapter_gradient<A> const& b) {
  return same_bits(a.dU, b.dU) && same_bits(a.dV, b.dV) && same_bits(a.ds, b.ds);
}

/// By how much sums of the same addends in two orders may differ, for U of one block: each order is off by 2 √t ε times
/// the addends' absolute values (support.hpp), twice that for complex products. The addends are those of the backward
/// pass from the output: −dy Zᴴ + y dWᴴ with Z = T W and dW = Tᴴ dZ, dZ = −Ûᴴdy, and so on.
template <class T, class L>
std::array<bound_matrix, 6> order_bounds(watched_layer<T, L>& of, tokens_of_a_step<T, L> const& step) {
  using W = wide_t<T>;
  auto const absolute = [](deducible<W> const& X) { return bound_matrix(X.cwiseAbs()); };
  auto const sum = [&](deducible<W> const& X, deducible<W> const& Y) {
    return times(absolute(X), adjoint_copy(absolute(Y)));
  };
  deducible<W> const U = widen(of.a.left().vectors()), F = widen(of.a.left().factor()), w = widen(step.w),
                     v = widen(step.v), x = widen(step.x.map()), y = widen(step.y.map()), dy = widen(step.dy.map()),
                     dq = widen(step.dbase.map()), s = widen(of.a.scale());
  deducible<W> const Z = times(F, w), dZ = -times(adjoint_copy(U), dy), dW = times(adjoint_copy(F), dZ);
  deducible<W> const dv = times(adjoint_copy(widen(hoft::as_eigen(of.layer.views.minus_K))), dq);
  // q = p / s with p = y + Û Z, and dp = dq / conj(s).
  deducible<W> const p = y + times(U, Z);
  bound_matrix ds(s.rows(), 1);
  for (index_t i = 0; i < s.rows(); ++i)
    ds(i, 0) = absolute(p.row(i)).cwiseProduct(absolute(dq.row(i))).sum() / std::norm(s(i, 0));
  std::array<bound_matrix, 6> bounds{
      bound_matrix(sum(dy, Z) + sum(y, dW)), sum(dZ, w), sum(Z, dW), sum(dq, v), sum(x, dv), ds};
  long double const root = std::sqrt(static_cast<long double>(x.cols()));
  for (auto& b : bounds) b *= 2 * 2 * root * eps_of<T>() * (is_complex_scalar<T> ? 2 : 1);
  return bounds;
}

template <class T, class L>
void check_micro_batches(bool scaled, bool keep_q) {
  CAPTURE(scaled);
  CAPTURE(keep_q);
  problem<T> const p({9, 8, 2048, 3, 2}, scaled, {}, 200);
  auto const expected = answers_of(p);
  auto const bound = allowed_for(p, scaled && !keep_q);
  counted<T, L> base(p.M);
  watched_layer<T, L> whole(p.make(), base);
  tokens_of_a_step<T, L> at_once(p);
  at_once.run(whole, {2048}, keep_q);
  auto const sums = sums_of(whole.g.views);
  auto const allowed_order = order_bounds(whole, at_once);

  for (std::vector<index_t> const& counts :
       {std::vector<index_t>{512, 512, 512, 512}, std::vector<index_t>{1, 511, 0, 700, 836}}) {
    watched_layer<T, L> of(p.make(), base);
    base.forget();
    tokens_of_a_step<T, L> step(p);
    step.run(of, counts, keep_q);
    CHECK((base.applied == counts && base.applied_adjoint == counts));
    // Products of other sizes may swap their factors. Of complex ones that changes the last bit: one of the two real
    // products is rounded by itself, the other is not.
    if constexpr (!is_complex_scalar<T>) {
      CHECK((same_bits(step.y.map(), at_once.y.map()) && same_bits(step.dx.map(), at_once.dx.map())));
      CHECK((same_bits(step.v, at_once.v) && same_bits(step.w, at_once.w)));
    }
    auto const added = sums_of(of.g.views);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      CAPTURE(sum_names[i]);
      CHECK(within(added[i], sums[i], allowed_order[i]));
    }
    auto const d = of.finish();
    check_values({widen(step.y.map()), {}, {}, widen(step.dx.map()), widen(d.dU), widen(d.dV), widen(d.ds)}, expected,
                 bound);
  }

  // Sums of two machines, added up before one of them finishes.
  problem<T> first = p, second = p;
  first.d.t = 800, first.x = p.x.leftCols(800), first.g = p.g.leftCols(800);
  second.d.t = 1248, second.x = p.x.rightCols(1248), second.g = p.g.rightCols(1248);
  watched_layer<T, L> here(p.make(), base), there(p.make(), base);
  tokens_of_a_step<T, L> one(first), other(second);
  one.run(here, {800}, keep_q);
  other.run(there, {1248}, keep_q);
  auto const add = [](auto to, auto from) {
    if (to.size() > 0) to += from;
  };
  auto const &a = here.g.views, &b = there.g.views;
  add(hoft::as_eigen(a.D_U), hoft::as_eigen(b.D_U)), add(hoft::as_eigen(a.dF_U), hoft::as_eigen(b.dF_U));
  add(hoft::as_eigen(a.E_U), hoft::as_eigen(b.E_U)), add(hoft::as_eigen(a.minus_dK), hoft::as_eigen(b.minus_dK));
  add(hoft::as_eigen(a.D_V), hoft::as_eigen(b.D_V));
  for (index_t i = 0; i < a.ds.size; ++i) a.ds.data[i] += b.ds.data[i];
  auto const d = here.finish();
  CHECK(within(widen(d.dU), expected.dU, bound.dU));
  CHECK(within(widen(d.dV), expected.dV, bound.dV));
  CHECK(within(widen(d.ds), expected.ds, bound.ds));
}

}  // namespace

TEST_SUITE_BEGIN("layers");

TEST_CASE_TEMPLATE("four micro-batches of 512 tokens leave the sums of one of 2048", T, float, std::complex<double>,
                   Eigen::half) {
  check_micro_batches<T, col_major>(false, true);
  check_micro_batches<T, row_major>(true, true);
  check_micro_batches<T, col_major>(true, false);
}

TEST_CASE("sums in the caller's memory, and steps one after another") {
  using T = Eigen::half;
  for (bool scaled : {false, true}) {
    problem<T> const p({70, 12, 40, 66, 3}, scaled, {}, 210);  // two blocks
    counted<T> base(p.M);
    watched_layer<T, col_major> of(p.make(), base);
    tokens_of_a_step<T, col_major> step(p);
    auto const run = [&] {
      step.run(of, {15, 25}, true);
      return sums_of(of.g.views);
    };
    auto const sums = run();
    auto const d = of.finish();

    // Matrices with leading dimensions of their own, full of NaN until set_zero.
    padded<float> D_U(70, 66), dF_U(64, 66), E_U(64, 66), minus_dK(70, 3), D_V(12, 3), ds(scaled ? 70 : 0, 1);
    auto const s = ds.view();
    auto const carved_g = of.g.views;
    of.g.views = {D_U.view(), dF_U.view(), E_U.view(), minus_dK.view(), D_V.view(), {s.data, s.rows}};
    auto const cleared = [&] {
      hoft::set_zero(cpu{}, of.g.views);
      for (auto const& sum : sums_of(of.g.views)) CHECK(sum.isZero(0));
    };
    cleared();
    check_same_sums(run(), sums);
    CHECK(same_gradients(of.finish(), d));
    cleared();
    check_same_sums(run(), sums);
    CHECK(same_gradients(of.finish(), d));
    CHECK((D_U.intact() && dF_U.intact() && E_U.intact() && minus_dK.intact() && D_V.intact() && ds.intact()));

    // A batch of no tokens adds nothing.
    of.g.views = carved_g;
    cleared();
    run();
    auto const before = sums_of(of.g.views);
    auto state = of.state_of(0);
    auto const none = [](padded<T>& all) { return all.view().columns(0, 0); };
    of.forward(none(step.x), none(step.y), state.views);
    of.backward(none(step.x), none(step.y), state.views, none(step.dy), none(step.dbase), none(step.dx));
    check_same_sums(sums_of(of.g.views), before);
  }
}

// --- the halves -------------------------------------------------------------------------------------------------

namespace {

/// The passes by their halves, in place where they may be, against forward and backward.
template <class T, class L>
struct halves {
  using A = hoft::accumulator_t<T>;
  problem<T> p;
  bool keep_q;
  counted<T, L> base{p.M};
  watched_layer<T, L> of{p.make(), base};
  tokens_of_a_step<T, L> whole{p};
  padded<T, L> base_output{p.d.m, p.d.t};
  padded<A, L> v{p.d.rv, p.d.t}, w{p.d.ru, p.d.t}, dv{p.d.rv, p.d.t};
  padded<T, L> q{keep_q && p.s.size() > 0 ? p.d.m : 0, keep_q&& p.s.size() > 0 ? p.d.t : 0};

  void in_workspace(index_t bytes, std::function<void(hoft::workspace)> const& call) {
    watched_layer<T, L>::in_workspace(bytes, call);
  }
  void forward() {
    padded<T, L> const x(p.x);
    auto const& layer = of.layer.views;
    in_workspace(project_workspace(cpu{}, layer, x.view()),
                 [&](hoft::workspace more) { project(cpu{}, layer, x.view(), v.view(), more); });
    CHECK(same_bits(v.map(), whole.v));
    base.apply(x.view(), base_output.view());
    auto const adapt_to = [&](padded<T, L>& y, hoft::layer_state<A, T, L> const& state, padded<T, L> const& expected) {
      in_workspace(adapt_workspace(cpu{}, layer, base_output.view()),
                   [&](hoft::workspace more) { adapt(cpu{}, layer, base_output.view(), y.view(), state, more); });
      CHECK((y.intact() && same_bits(y.map(), expected.map())));
    };
    // Beside the base's output, with nothing or all left for a backward pass; then in its place.
    padded<T, L> y(p.d.m, p.d.t), nothing_saved(p.d.m, p.d.t);
    of.forward(x.view(), nothing_saved.view());
    auto const output = widen(base_output.map());
    adapt_to(y, {v.view(), {}, {}}, nothing_saved);
    adapt_to(y, {v.view(), w.view(), q.view()}, whole.y);
    CHECK(same_bits(widen(base_output.map()), output));
    adapt_to(base_output, {v.view(), w.view(), q.view()}, whole.y);
    CHECK(same_bits(w.map(), whole.w));
    CHECK((base_output.intact() && v.intact() && w.intact() && q.intact() && same_bits(v.map(), whole.v)));
  }
  void backward() {
    auto const& layer = of.layer.views;
    auto const sums = sums_of(of.g.views);
    hoft::layer_state<A const, T const, L> const state{std::as_const(v).view(), std::as_const(w).view(),
                                                       std::as_const(q).view()};
    padded<T, L> const x(p.x), dy(p.g);
    padded<T, L> in_place(p.g), beside(p.d.m, p.d.t), dx(p.d.n, p.d.t);
    auto const adapt_back = [&](matrix_view<T const, L> from, padded<T, L>& dbase) {
      hoft::set_zero(cpu{}, of.g.views);
      in_workspace(adapt_backward_workspace(cpu{}, layer, state), [&](hoft::workspace more) {
        adapt_backward(cpu{}, layer, base_output.view(), state, from, dbase.view(), dv.view(), of.g.views, more);
      });
      CHECK((dbase.intact() && same_bits(dbase.map(), whole.dbase.map())));
    };
    adapt_back(dy.view(), beside);
    adapt_back(std::as_const(in_place).view(), in_place);
    CHECK((same_bits(dy.map(), p.g) && dv.intact()));
    base.apply_adjoint(std::as_const(in_place).view(), dx.view());
    in_workspace(project_backward_workspace(cpu{}, layer, x.view()), [&](hoft::workspace more) {
      project_backward(cpu{}, layer, x.view(), dv.view(), dx.view(), of.g.views, more);
    });
    CHECK((dx.intact() && same_bits(dx.map(), whole.dx.map())));
    check_same_sums(sums_of(of.g.views), sums);
  }
  /// dbase in dy's place, in the whole pass.
  void backward_in_place() {
    auto const sums = sums_of(of.g.views);
    hoft::set_zero(cpu{}, of.g.views);
    padded<T, L> dy(p.g), dx(p.d.n, p.d.t);
    of.backward(whole.x.view(), whole.y.view(), {v.view(), w.view(), q.view()}, std::as_const(dy).view(), dy.view(),
                dx.view());
    CHECK((same_bits(dy.map(), whole.dbase.map()) && same_bits(dx.map(), whole.dx.map())));
    check_same_sums(sums_of(of.g.views), sums);
  }
  /// A second time, both add to the sums of the first.
  void backward_twice() {
    auto const& layer = of.layer.views;
    padded<T, L> const x(p.x), dy(p.g);
    padded<T, L> dbase(p.d.m, p.d.t), dx(p.d.n, p.d.t);
    hoft::layer_state<A, T, L> const state{v.view(), w.view(), q.view()};
    hoft::set_zero(cpu{}, of.g.views);
    for (int i = 0; i < 2; ++i) of.backward(x.view(), whole.y.view(), state, dy.view(), dbase.view(), dx.view());
    auto const sums = sums_of(of.g.views);
    hoft::set_zero(cpu{}, of.g.views);
    for (int i = 0; i < 2; ++i) {
      in_workspace(adapt_backward_workspace(cpu{}, layer, state), [&](hoft::workspace more) {
        adapt_backward(cpu{}, layer, whole.y.view(), state, dy.view(), dbase.view(), dv.view(), of.g.views, more);
      });
      base.apply_adjoint(std::as_const(dbase).view(), dx.view());
      in_workspace(project_backward_workspace(cpu{}, layer, x.view()), [&](hoft::workspace more) {
        project_backward(cpu{}, layer, x.view(), dv.view(), dx.view(), of.g.views, more);
      });
    }
    check_same_sums(sums_of(of.g.views), sums);
  }
  void check() {
    CAPTURE(p.d);
    CAPTURE(keep_q);
    whole.run(of, {p.d.t}, keep_q);
    forward();
    backward();
    backward_in_place();
    backward_twice();
  }
};

template <class T, class L>
void check_halves(sizes d, inverse kind = {}) {
  halves<T, L>{problem<T>(d, false, kind, 220), true}.check();
  halves<T, L>{problem<T>(d, true, kind, 221), true}.check();
  halves<T, L>{problem<T>(d, true, kind, 222), false}.check();
}

}  // namespace

TEST_CASE_TEMPLATE("project, the base and adapt are forward, and their gradients backward, bit for bit", T, float,
                   std::complex<double>, Eigen::bfloat16) {
  for (sizes d : {sizes{9, 8, 300, 3, 2}, {70, 12, 30, 66, 3}, {8, 9, 13, 0, 2}, {8, 9, 13, 2, 0}, {4, 5, 0, 2, 2}}) {
    check_halves<T, col_major>(d);
    check_halves<T, row_major>(d);
  }
  check_halves<T, col_major>({9, 8, 21, 3, 2}, neumann{2});
}

// --- bits -------------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("gradient checkpointing: forward twice, the first state dropped", T, double, Eigen::half) {
  for (bool scaled : {false, true}) {
    problem<T> const p({33, 29, 150, 5, 4}, scaled, {}, 230);
    counted<T> base(p.M);
    watched_layer<T, col_major> kept(p.make(), base), dropped(p.make(), base);
    tokens_of_a_step<T, col_major> step(p);
    step.run(kept, {150}, true);

    padded<T> const x(p.x), dy(p.g);
    padded<T> y(33, 150), again(33, 150), dbase(33, 150), dx(29, 150);
    {
      auto first = dropped.state_of(150);
      dropped.forward(x.view(), y.view(), first.views);
    }
    auto second = dropped.state_of(150);
    dropped.forward(x.view(), again.view(), second.views);
    CHECK((same_bits(y.map(), step.y.map()) && same_bits(again.map(), step.y.map())));
    dropped.backward(x.view(), std::as_const(again).view(), second.views, dy.view(), dbase.view(), dx.view());
    CHECK(same_bits(dx.map(), step.dx.map()));
    check_same_sums(sums_of(dropped.g.views), sums_of(kept.g.views));
    CHECK(same_gradients(dropped.finish(), kept.finish()));
  }
}

TEST_CASE_TEMPLATE("forward with nothing saved is forward with q left out", T, double, std::complex<float>,
                   Eigen::half) {
  for (bool scaled : {false, true})
    for (sizes const d : {sizes{33, 29, 150, 5, 4}, {70, 12, 30, 66, 3}, {9, 8, 13, 0, 2}, {9, 8, 13, 2, 0}}) {
      CAPTURE(d);
      problem<T> const p(d, scaled, {}, 250);
      counted<T> base(p.M);
      watched_layer<T, col_major> of(p.make(), base);
      padded<T> const x(p.x);
      padded<T> y(d.m, d.t), nothing_saved(d.m, d.t);
      auto state = of.state_of(d.t, false);
      of.forward(x.view(), y.view(), state.views);
      base.forget();
      of.forward(x.view(), nothing_saved.view());
      CHECK(base.applied == std::vector<index_t>{d.t});
      CHECK((nothing_saved.intact() && same_bits(nothing_saved.map(), y.map())));
      // To save q, SHOFT makes its two updates one after another, which rounds otherwise.
      CHECK(within(widen(nothing_saved.map()), answers_of(p).y, allowed_for(p).y));
    }
}

namespace {

template <class T, class L>
void check_threads(bool scaled, bool keep_q) {
  problem<T> const p({33, 29, 700, 70, 5}, scaled, {}, 240);
  counted<T, L> base(p.M);
  watched_layer<T, L> one(p.make(), base);
  tokens_of_a_step<T, L> expected(p);
  expected.run(one, {300, 400}, keep_q);
  auto const sums = sums_of(one.g.views);
  auto const d = one.finish();
  for (int threads : {2, 3, 7}) {
    CAPTURE(threads);
    watched_layer<T, L> many(p.make(), base, cpu{.threads = threads});
    for (auto part :
         {&hoft::bound_layer_view<hoft::accumulator_t<T>>::B, &hoft::bound_layer_view<hoft::accumulator_t<T>>::minus_K,
          &hoft::bound_layer_view<hoft::accumulator_t<T>>::minus_scaled_K})
      CHECK(same_bits(hoft::as_eigen(many.layer.views.*part), hoft::as_eigen(one.layer.views.*part)));
    tokens_of_a_step<T, L> step(p);
    step.run(many, {300, 400}, keep_q);
    CHECK((same_bits(step.y.map(), expected.y.map()) && same_bits(step.w, expected.w)));
    CHECK((same_bits(step.dx.map(), expected.dx.map()) && same_bits(step.dbase.map(), expected.dbase.map())));
    check_same_sums(sums_of(many.g.views), sums);
    CHECK(same_gradients(many.finish(), d));
  }
}

}  // namespace

TEST_CASE_TEMPLATE("the same bits for any number of threads", T, float, Eigen::bfloat16) {
  check_threads<T, col_major>(false, true);
  check_threads<T, row_major>(true, true);
  check_threads<T, col_major>(true, false);
}

TEST_SUITE_END();
