// SPDX-License-Identifier: BSD-3-Clause
// Layers that own what bind_layer makes: micro-batches by value, base operators by reference and by value, and what
// happens when a base operator throws.
#include "activations.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <memory>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using namespace hoft_test;

template <class A, class T, class L>
answers<wide_t<T>> answers_by(hoft::forward_result<A, T, L> const& f, hoft::dense_matrix<T, L> const& dx,
                              hoft::adapter_gradient<A> const& d) {
  return {widen(f.y), {}, {}, widen(dx), widen(d.dU), widen(d.dV), widen(d.ds)};
}
template <class W>
bool same_answers(answers<W> const& a, answers<W> const& b) {
  return same_bits(a.y, b.y) && same_bits(a.dx, b.dx) && same_bits(a.dU, b.dU) && same_bits(a.dV, b.dV) &&
         same_bits(a.ds, b.ds);
}
template <class A>
bool same_gradients(hoft::adapter_gradient<A> const& a, hoft::adapter_gradient<A> const& b) {
  return same_bits(a.dU, b.dU) && same_bits(a.dV, b.dV) && same_bits(a.ds, b.ds);
}

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

// y = Q_U M Q_V x + b for t tokens as columns of x. M is referred to, and must outlive the layer.
struct biased_layer {
  Matrix U, V;
  Vector b, db;
  hoft::bound_layer<double, double, hoft::col_major, hoft::dense_operator<double, hoft::col_major>> layer;
  hoft::layer_gradient<double> sums;
  hoft::forward_result<double, double, hoft::col_major> f;
  hoft::adapter_gradient<double> d;

  biased_layer(Matrix const& M, Matrix u, Matrix v, Vector bias)
      : U(std::move(u)),
        V(std::move(v)),
        b(std::move(bias)),
        db(Vector::Zero(b.size())),
        layer(hoft::bind_layer(hoft::adapter{U, V}, hoft::dense(M))),
        sums(layer) {}
  Matrix forward(Matrix const& x) {
    hoft::forward(layer, x, f);
    return f.y.colwise() + b;  // f.y itself stays as it is: backward reads it
  }
  Matrix backward(Matrix const& x, Matrix const& dy) {
    db += dy.rowwise().sum();
    return hoft::backward(layer, x, f, dy, sums);
  }
  void step(double rate) {
    hoft::finish(layer, sums, d);
    U -= rate * d.dU, V -= rate * d.dV, b -= rate * db;
    hoft::bind_layer(hoft::adapter{U, V}, layer);
    sums.set_zero(), db.setZero();
  }
};

/// A plain row-major interface that knows neither its extents nor its element type.
struct rows_only {
  dense_matrix<double> M;
  void apply(matrix_view<double const, row_major> X, matrix_view<double, row_major> Y) { hoft::dense(M).apply(X, Y); }
  void apply_adjoint(matrix_view<double const, row_major> X, matrix_view<double, row_major> Y) {
    hoft::dense(M).apply_adjoint(X, Y);
  }
};

}  // namespace

TEST_SUITE_BEGIN("bound layers");

TEST_CASE_TEMPLATE("bind once: y and all gradients are those of the one call", T, double, std::complex<float>,
                   Eigen::half) {
  for (bool scaled : {false, true}) {
    problem<T> const p({33, 29, 40, 70, 5}, scaled, {}, 400);
    auto const a = p.make();
    auto const f = hoft::forward(a, hoft::dense(p.M), p.x);
    auto const g = hoft::backward(a, hoft::dense(p.M), p.x, f, p.g);
    answers<wide_t<T>> const one_call{widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), widen(g.ds)};

    for (int threads : {1, 3}) {
      cpu const policy{.threads = threads};
      auto const layer = hoft::bind_layer(policy, a, hoft::dense(p.M));
      static_assert(std::is_same_v<typename decltype(layer)::value_type, T>);
      static_assert(std::is_same_v<typename decltype(layer)::layout_type, col_major>);
      CHECK((layer.rows() == 33 && layer.cols() == 29));
      auto const fl = hoft::forward(policy, layer, p.x);
      hoft::layer_gradient sums(layer);
      auto const dx = hoft::backward(policy, layer, p.x, fl, p.g, sums);
      CHECK(same_answers(answers_by(fl, dx, hoft::finish(policy, layer, sums)), one_call));
    }
    auto const layer = hoft::bind_layer(a, hoft::dense(p.M));
    hoft::layer_gradient sums(layer);
    auto const fl = hoft::forward(layer, hoft::as_view(p.x));
    auto const dx = hoft::backward(layer, hoft::as_view(p.x), fl, p.g, sums);
    check_values(answers_by(fl, dx, hoft::finish(layer, sums)), answers_of(p), allowed_for(p));
  }
}

TEST_CASE("a layer that owns what is bound, with a bias") {
  problem<double> const p({21, 17, 12, 4, 3}, false, {}, 402);
  Matrix const M = p.M, x = p.x, g = p.g;
  Vector const b = gaussian<double>(21, 1, 410);
  biased_layer layer(M, p.U, p.V, b);
  Matrix const y = layer.forward(x), dx = layer.backward(x, g);
  dense_matrix<double> const of_hoft = layer.f.y;
  layer.step(0.5);
  check_values(answers_by(layer.f, hoft::dense_matrix<double>(dx), layer.d), answers_of(p), allowed_for(p));
  // y and what is compared with b are rounded once each; b besides as a sum of 12, here and there.
  constexpr double eps = std::numeric_limits<double>::epsilon();
  Matrix const parts = of_hoft.cwiseAbs().colwise() + b.cwiseAbs();
  CHECK((((y - of_hoft).colwise() - b).array().abs() <= 2 * eps * parts.array()).all());
  Vector const sizes = b.cwiseAbs() + g.cwiseAbs().rowwise().sum();
  CHECK(((layer.b - b + 0.5 * g.rowwise().sum()).array().abs() <= 14 * eps * sizes.array()).all());

  // After the step the layer is that of the new parameters, and no gradient of the last step is left in it.
  biased_layer fresh(M, layer.U, layer.V, layer.b);
  CHECK(fresh.forward(x) == layer.forward(x));
  CHECK(fresh.backward(x, g) == layer.backward(x, g));
  fresh.step(0.5), layer.step(0.5);
  CHECK((same_gradients(fresh.d, layer.d) && fresh.U == layer.U && fresh.V == layer.V && fresh.b == layer.b));
}

TEST_CASE("calls with views take a base operator that ends with the call") {
  problem<float> const p({21, 17, 12, 4, 3}, false, {}, 405);
  auto const a = p.make();
  auto const expected = hoft::bind_layer(a, hoft::dense(p.M));
  auto const f = hoft::forward(expected, p.x);
  cpu const policy;
  hoft::arena count;
  hoft::carve_layer(count, a.view());
  guarded_workspace storage(count.size());
  hoft::arena memory(storage);
  auto layer = hoft::carve_layer(memory, a.view());
  guarded_workspace bind_work(hoft::bind_workspace<float>(policy, a.view()));
  hoft::bind_layer<float>(policy, a.view(), hoft::dense(p.M), layer, bind_work);
  guarded_workspace forward_work(hoft::forward_workspace(policy, layer, hoft::as_view(p.x), false));
  dense_matrix<float> y(21, 12);
  hoft::forward(policy, layer, hoft::dense(p.M), hoft::as_view(p.x), hoft::as_view(y), forward_work);
  CHECK(same_bits(y, f.y));
}

TEST_CASE("micro-batches by value, and finish leaves sums that it was given a copy of") {
  using T = float;
  problem<T> const p({21, 17, 60, 4, 3}, true, {}, 410);
  counted<T> base(p.M);
  auto const layer = hoft::bind_layer(p.make(), base);
  CHECK(&layer.base() == &base);
  hoft::layer_gradient g(layer);
  dense_matrix<T> y(21, 60), dx(17, 60);
  auto const step = [&] {
    for (auto const& [first, t] : {std::pair<index_t, index_t>{0, 25}, {25, 1}, {26, 34}}) {
      auto const x = p.x.middleCols(first, t), dy = p.g.middleCols(first, t);
      auto const f = hoft::forward(layer, x);
      y.middleCols(first, t) = f.y;
      dx.middleCols(first, t) = hoft::backward(layer, x, f, dy, g);
    }
  };
  step();
  auto const sums = [&] {
    auto const v = g.view();
    using matrix = dense_matrix<T>;
    return std::vector<matrix>{hoft::as_eigen(v.D_U),      hoft::as_eigen(v.dF_U), hoft::as_eigen(v.E_U),
                               hoft::as_eigen(v.minus_dK), hoft::as_eigen(v.D_V),  matrix(hoft::as_eigen(v.ds))};
  };
  auto const before = sums();
  auto const d = hoft::finish(layer, g);
  CHECK(sums() == before);
  CHECK(same_gradients(hoft::finish(layer, g), d));
  check_values({widen(y), {}, {}, widen(dx), widen(d.dU), widen(d.dV), widen(d.ds)}, answers_of(p), allowed_for(p));
  using calls = std::vector<index_t>;
  CHECK((base.applied == calls{3, 25, 1, 34} && base.applied_adjoint == calls{25, 1, 34, 3, 3}));

  // Once more from zero: the same bits; without it, twice the gradient.
  g.set_zero();
  step();
  CHECK(same_gradients(hoft::finish(layer, g), d));
  step();
  auto const twice = hoft::finish(layer, g);
  auto const bound = allowed_for(p);
  CHECK(within(twice.dU, deducible<long double>(2 * widen(d.dU)), bound_matrix(4 * bound.dU)));
  CHECK(within(twice.dV, deducible<long double>(2 * widen(d.dV)), bound_matrix(4 * bound.dV)));
}

TEST_CASE("on what the base operator is called") {
  problem<double> const p({11, 6, 14, 2, 5}, true, {}, 420);
  dense_matrix<double, row_major> const x = p.x, dy = p.g;
  auto const check = [&](auto const& layer) {
    auto const f = hoft::forward(layer, x);
    hoft::layer_gradient g(layer);
    auto const dx = hoft::backward(layer, x, f, dy, g);
    check_values(answers_by(f, dx, hoft::finish(layer, g)), answers_of(p), allowed_for(p));
  };
  // A temporary is kept, and its only layout found.
  auto const kept = hoft::bind_layer(p.make(), rows_only{p.M});
  static_assert(std::is_same_v<decltype(kept)::layout_type, row_major>);
  static_assert(std::is_same_v<decltype(kept)::value_type, double>);
  check(kept);
  auto const rows = hoft::bind_layer<double, row_major>(p.make(), hoft::dense(p.M));
  static_assert(std::is_same_v<decltype(rows)::layout_type, row_major>);
  check(rows);
  check(hoft::bind_layer(p.make(), hoft::dense(p.M)));  // column-major for V̂, row-major for tokens

  // 16 bits: from the operator's own type, or said.
  problem<Eigen::half> const h({11, 6, 14, 2, 5}, false, {}, 430);
  auto const own = hoft::bind_layer(h.make(), hoft::dense(h.M));
  static_assert(std::is_same_v<decltype(own)::value_type, Eigen::half>);
  counted<Eigen::half> base(h.M);
  auto const said = hoft::bind_layer<Eigen::half>(h.make(), base);
  static_assert(std::is_same_v<decltype(said)::value_type, Eigen::half>);
  CHECK(same_bits(hoft::forward(own, h.x).y, hoft::forward(said, h.x).y));
  CHECK(base.applied == std::vector<index_t>{5, 14});
}

TEST_CASE("a layer owns its adapter and its parts, and goes where its memory goes") {
  problem<double> const p({11, 6, 14, 2, 5}, true, {}, 440);
  counted<double> base(p.M);
  auto first = std::make_unique<decltype(hoft::bind_layer(p.make(), base))>(hoft::bind_layer(p.make(), base));
  auto const y = hoft::forward(*first, p.x).y;
  auto const copy = *first;
  CHECK(copy.view().B.data != first->view().B.data);
  CHECK(copy.view().minus_scaled_K.data != copy.view().minus_K.data);
  auto const moved = std::move(*first);
  first.reset();
  CHECK(same_bits(hoft::forward(copy, p.x).y, y));
  CHECK(same_bits(hoft::forward(moved, p.x).y, y));
  // HOFT has no scale to keep K with.
  auto const hoft_layer = hoft::bind_layer(adapter<double>(p.U, p.V), base);
  CHECK(hoft_layer.view().minus_scaled_K.data == hoft_layer.view().minus_K.data);
}

TEST_CASE("a layer is bound anew for new reflectors, in the same memory") {
  for (bool scaled : {false, true}) {
    problem<float> p({20, 12, 9, 70, 3}, scaled, {}, 450);
    counted<float> base(p.M);
    watched_layer<float, col_major> of(p.make(), base);
    problem<float> q({20, 12, 9, 70, 3}, scaled, {}, 460);
    q.M = p.M;
    watched_layer<float, col_major> expected(q.make(), base);
    of.a = q.make();
    of.layer.views.bound = false;
    auto const copied_before = of.layer.views;
    of.bind();
    CHECK((of.layer.views.bound && !copied_before.bound));
    padded<float> const x(q.x);
    padded<float> y(20, 9), y_expected(20, 9);
    of.forward(x.view(), y.view());
    expected.forward(x.view(), y_expected.view());
    CHECK(same_bits(y.map(), y_expected.map()));
  }
}

namespace {

/// Throws at the call of the given number.
struct breaking {
  dense_matrix<double> M;
  int calls_left = 1000;
  void count() {
    if (calls_left-- == 0) throw std::runtime_error("the base is out of memory");
  }
  void apply(matrix_view<double const> X, matrix_view<double> Y) {
    count();
    hoft::dense(M).apply(X, Y);
  }
  void apply_adjoint(matrix_view<double const> X, matrix_view<double> Y) {
    count();
    hoft::dense(M).apply_adjoint(X, Y);
  }
};

}  // namespace

TEST_CASE("what a base operator throws passes through") {
  problem<double> const p({11, 6, 14, 2, 5}, true, {}, 470);
  breaking base{p.M};
  watched_layer<double, col_major, breaking> of(p.make(), base);
  padded<double> const x(p.x), dy(p.g);
  padded<double> y(11, 14), dbase(11, 14), dx(6, 14);
  auto state = of.state_of(14);
  auto const backward = [&] {
    of.backward(x.view(), std::as_const(y).view(), state.views, dy.view(), dbase.view(), dx.view());
  };
  base.calls_left = 0;
  CHECK_THROWS_AS(of.forward(x.view(), y.view(), state.views), std::runtime_error);
  of.forward(x.view(), y.view(), state.views);
  backward();
  auto const& g = of.g.views;
  dense_matrix<double> const D_U = hoft::as_eigen(g.D_U), minus_dK = hoft::as_eigen(g.minus_dK);

  // The sums of the outputs are in g by then, those of the tokens are not.
  hoft::set_zero(cpu{}, g);
  base.calls_left = 0;
  CHECK_THROWS_AS(backward(), std::runtime_error);
  CHECK((same_bits(hoft::as_eigen(g.D_U), D_U) && same_bits(hoft::as_eigen(g.minus_dK), minus_dK)));
  CHECK(hoft::as_eigen(g.D_V).isZero(0));
  base.calls_left = 0;
  CHECK_THROWS_AS(of.finish(), std::runtime_error);

  // What was bound before is not bound after.
  base.calls_left = 0;
  CHECK_THROWS_AS(of.bind(), std::runtime_error);
  CHECK_FALSE(of.layer.views.bound);
  CHECK_THROWS_AS(of.forward(x.view(), y.view()), hoft::argument_error);
  of.bind();
  of.forward(x.view(), y.view());
}

TEST_CASE("what a base operator throws in a batch leaves no layer bound to old weights") {
  problem<double> const p({11, 6, 14, 2, 5}, false, {}, 480);
  std::vector<breaking> base(2, breaking{p.M});
  watched_layer<double, col_major, breaking> first(p.make(), base[0]), second(p.make(), base[1]);
  std::vector<hoft::adapter_view<double const>> const a{first.a.view(), second.a.view()};
  std::vector<hoft::bound_layer_view<double>> layer{first.layer.views, second.layer.views};
  std::vector<std::byte> memory(std::size_t(hoft::bind_workspace<double>(cpu{}, a)));
  hoft::workspace const work{memory.data(), index_t(memory.size())};
  hoft::bind_layer<double>(cpu{}, a, base, layer, work);
  CHECK((layer[0].bound && layer[1].bound));
  base[0].calls_left = 0;  // the second problem is not begun
  CHECK_THROWS_AS(hoft::bind_layer<double>(cpu{}, a, base, layer, work), std::runtime_error);
  CHECK_FALSE((layer[0].bound || layer[1].bound));
}

TEST_CASE("set_zero clears every sum, whichever is the tallest") {
  for (sizes const d : {sizes{5, 40, 1, 3, 2}, {40, 5, 1, 3, 2}, {3, 2, 1, 9, 4}, {6, 9, 1, 0, 2}, {6, 9, 1, 2, 0}})
    for (bool scaled : {false, true}) {
      CAPTURE(d);
      problem<float> const p(d, scaled, {}, 520);
      auto const a = p.make();
      auto const cut = [&](hoft::arena& from) { return hoft::carve_layer_gradient(from, a.view()); };
      carved<std::function<hoft::layer_gradient_view<float>(hoft::arena&)>> const of(cut);
      auto const& g = of.views;
      hoft::set_zero(cpu{}, g);
      for (auto const& sum : {g.D_U, g.dF_U, g.E_U, g.minus_dK, g.D_V, {g.ds.data, g.ds.size, 1}})
        CHECK(hoft::as_eigen(sum).isZero(0));
      CHECK(of.memory.intact());
    }
}

TEST_CASE("storage of a layer that was never bound, or not again, is refused") {
  problem<double> const p({11, 6, 14, 2, 5}, false, {}, 490);
  auto const a = p.make();
  hoft::layer_storage<double> storage(a.view());
  CHECK_FALSE(storage.view(a.view()).bound);
  breaking base{p.M};
  storage.bind<double, col_major>(cpu{}, a.view(), base);
  CHECK(storage.view(a.view()).bound);
  base.calls_left = 0;
  CHECK_THROWS_AS((storage.bind<double, col_major>(cpu{}, a.view(), base)), std::runtime_error);
  CHECK_FALSE(storage.view(a.view()).bound);
}

TEST_CASE("memory cut for SHOFT takes HOFT and SHOFT again, that cut for HOFT no SHOFT") {
  problem<double> const hoft_of({20, 12, 9, 7, 3}, false, {}, 500), shoft_of({20, 12, 9, 7, 3}, true, {}, 500);
  counted<double> base(hoft_of.M);
  auto const check = [&](watched_layer<double, col_major>& of, problem<double> const& p) {
    padded<double> const x(p.x);
    padded<double> y(20, 9), nothing_saved(20, 9);
    auto state = of.state_of(9);
    of.forward(x.view(), y.view(), state.views);
    of.forward(x.view(), nothing_saved.view());
    CHECK(within(widen(y.map()), answers_of(p).y, allowed_for(p).y));
    CHECK(within(widen(nothing_saved.map()), answers_of(p).y, allowed_for(p).y));
  };
  watched_layer<double, col_major> of(shoft_of.make(), base);
  for (auto const* p : {&hoft_of, &shoft_of}) {
    of.a = p->make();
    of.bind();
    check(of, *p);
  }
  watched_layer<double, col_major> small(hoft_of.make(), base);
  small.a = shoft_of.make();
  auto const before = small.layer.bytes();
  base.forget();
  CHECK_THROWS_WITH_AS(small.bind(),
                       "hoft::bind_layer: layer.minus_scaled_K is the memory of layer.minus_K, must be memory of its "
                       "own, as carve_layer cuts it for an adapter with a scale",
                       hoft::argument_error);
  CHECK((small.layer.bytes() == before && base.applied.empty() && small.layer.views.bound));
}

TEST_CASE("16 bits: finish takes sums that half does not hold") {
  using T = Eigen::half;
  problem<T> p({21, 17, 256, 4, 3}, true, {}, 510);
  auto const a = p.make();
  counted<T> base(p.M);
  auto const layer = hoft::bind_layer<T>(a, base);
  auto const f = hoft::forward(layer, p.x);
  dense_matrix<T> const dy = (f.y.cast<float>() * 2048).cast<T>();
  hoft::layer_gradient large(layer), small(layer);
  static_cast<void>(hoft::backward(layer, p.x, f, dy, large));
  // Sums are linear in dy: these are the same, scaled by a power of two.
  constexpr float down = 1.0f / 65536;
  auto const to = small.view(), from = large.view();
  hoft::as_eigen(to.D_U) = down * hoft::as_eigen(from.D_U), hoft::as_eigen(to.dF_U) = down * hoft::as_eigen(from.dF_U);
  hoft::as_eigen(to.E_U) = down * hoft::as_eigen(from.E_U), hoft::as_eigen(to.D_V) = down * hoft::as_eigen(from.D_V);
  hoft::as_eigen(to.minus_dK) = down * hoft::as_eigen(from.minus_dK);
  hoft::as_eigen(to.ds) = down * hoft::as_eigen(from.ds);

  base.forget();
  auto const d = hoft::finish(layer, std::move(small));
  CHECK(base.gradients.back().colwise().norm().maxCoeff() > 65504 * down);
  long double const dB = base.gradients.back().norm();
  auto const all = hoft::finish(layer, std::move(large));
  CHECK(std::abs(base.gradients.back().colwise().norm().maxCoeff() - 4096) < 4096 * storage_rounding<T>());
  CHECK((same_bits(all.dU, (d.dU / down).eval()) && same_bits(all.ds, (d.ds / down).eval())));
  // dB and MᴴdB are rounded in both calls, each to u of a column that is at most ‖M‖ ‖dB‖; then comes 1 / ‖v‖.
  deducible<long double> const V = widen(p.V);
  auto const bound = inverse_norms(V, 4 * storage_rounding<T>() * widen(p.M).norm() * dB);
  CHECK(within(deducible<long double>(down * widen(all.dV)), widen(d.dV), bound));
}

TEST_SUITE_END();
