// SPDX-License-Identifier: BSD-3-Clause
// HOFT and SHOFT on activations: against reflectors one after another in long double, against the weight form and
// against central differences.
#include "activations.hpp"

#include <doctest/doctest.h>

namespace {

using namespace hoft_test;

template <class T, class L>
void check_views(sizes d, bool scaled, inverse kind = {}, bool keep_q = true) {
  problem<T> const p(d, scaled, kind);
  check_views<T, L>(p, counted<T, L>(p.M), keep_q);
}

/// Both layouts, HOFT, and SHOFT with q saved and recovered.
template <class T>
void check_forms(sizes d, inverse kind = {}) {
  check_views<T, col_major>(d, false, kind);
  check_views<T, col_major>(d, true, kind);
  check_views<T, row_major>(d, false, kind);
  check_views<T, row_major>(d, true, kind, false);
}

/// The value-returning calls.
template <class T>
auto computed(problem<T> const& p) {
  counted<T> base(p.M);
  auto const a = p.make();
  auto const f = hoft::forward(a, base, p.x);
  auto const g = hoft::backward(a, base, p.x, f, p.g);
  return answers<wide_t<T>>{widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), widen(g.ds)};
}
template <class W>
bool same_answers(answers<W> const& a, answers<W> const& b) {
  return same_bits(a.y, b.y) && same_bits(a.dx, b.dx) && same_bits(a.dU, b.dU) && same_bits(a.dV, b.dV) &&
         same_bits(a.ds, b.ds);
}

}  // namespace

TEST_SUITE_BEGIN("activations");

TEST_CASE_TEMPLATE("forward and backward are those of the reflectors, for every scalar and layout", T,
                   HOFT_ALL_SCALARS) {
  for (sizes d : {sizes{7, 5, 3, 2, 3}, {5, 8, 13, 1, 2}, {1, 1, 1, 1, 1}, {2, 1, 2, 2, 1}}) check_forms<T>(d);
  for (sizes d : {sizes{8, 6, 1, 3, 0}, {6, 9, 12, 0, 2}, {5, 4, 7, 0, 0}}) check_forms<T>(d);  // one-sided
  for (index_t terms : {1, 2, 3}) check_forms<T>({9, 8, 5, 3, 2}, neumann{terms});
  check_forms<T>({7, 9, 4, 0, 2}, neumann{2});
  check_forms<T>({6, 5, 13, 2, 0}, neumann{2});
}

TEST_CASE_TEMPLATE("several blocks of reflectors, and more reflectors than rows", T, float, std::complex<double>) {
  check_forms<T>({80, 75, 9, 66, 3});     // two blocks on U
  check_forms<T>({75, 80, 9, 3, 67});     // one triangle on V
  check_forms<T>({70, 66, 12, 131, 65});  // three blocks
  check_forms<T>({3, 2, 4, 5, 7});
}

TEST_CASE_TEMPLATE("numbers of tokens around the widths of panels and chunks", T, double, Eigen::half) {
  for (index_t t : {11, 12, 13, 63, 64, 65, 95, 96, 97, 127, 128, 129, 255, 256, 257, 287, 288, 289, 300})
    for (bool scaled : {false, true}) {
      check_views<T, col_major>({6, 5, t, 2, 3}, scaled, {}, t % 2 == 0);
      check_views<T, row_major>({6, 5, t, 2, 3}, scaled, {}, t % 2 == 1);
    }
  // So tall and so wide that panels are as narrow as they get.
  check_forms<T>({4100, 3, 26, 2, 1});
  check_forms<T>({3, 4100, 26, 1, 2});
}

TEST_CASE_TEMPLATE("empty shapes", T, float, std::complex<double>, Eigen::half) {
  for (sizes d : {sizes{0, 5, 3, 0, 2},
                  {0, 5, 3, 1, 1},
                  {4, 0, 3, 2, 0},
                  {4, 0, 3, 2, 1},
                  {4, 5, 0, 2, 2},
                  {0, 0, 0, 0, 0},
                  {0, 0, 3, 0, 0},
                  {4, 5, 0, 0, 0},
                  {0, 5, 0, 1, 2}})
    check_forms<T>(d);
}

TEST_CASE("the value-returning calls: any storage, and the same bits for any number of threads") {
  using T = float;
  for (bool scaled : {false, true}) {
    problem<T> const p({33, 29, 300, 70, 5}, scaled);
    auto const expected = computed(p);
    check_values(expected, answers_of(p), allowed_for(p));
    CHECK(expected.ds.size() == p.s.size());

    adapter<T> const a = p.make();
    padded<T> const x(p.x), dy(p.g);
    for (int threads : {1, 2, 3, 7}) {
      cpu const policy{.threads = threads};
      auto const f = hoft::forward(policy, a, hoft::dense(policy, p.M), x.map());
      auto const g = hoft::backward(policy, a, hoft::dense(policy, p.M), x.map(), f, dy.map());
      CHECK(same_answers({widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), widen(g.ds)}, expected));
    }
    auto const base = hoft::dense(p.M);
    Eigen::Ref<dense_matrix<T> const> const x_ref = p.x;
    CHECK(
        same_bits(widen(hoft::forward(a, base, x_ref.leftCols(7)).y), deducible<long double>(expected.y.leftCols(7))));
    check_views<T, row_major>(p, counted<T, row_major>(p.M), false, cpu{.threads = 3});
  }
}

// --- against itself ---------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("the gradients are the slopes of forward itself", T, double, std::complex<double>) {
  for (inverse kind : {inverse(hoft::exact{}), inverse(neumann{2})}) {
    problem<T> const p({6, 5, 4, 3, 2}, true, kind, 30);
    counted<T> base(p.M);
    adapter<T> const a = p.make();
    auto const gradient = hoft::backward(a, base, p.x, hoft::forward(a, base, p.x), p.g);
    auto const loss_of = [&](adapter<T> const& moved, dense_matrix<T> const& x) {
      return loss<T>(p.g, hoft::forward(moved, base, x).y);
    };
    auto const in_x = [&](dense_matrix<T> const& x) { return loss_of(a, x); };
    auto const in_U = [&](dense_matrix<T> const& U) { return loss_of(adapter<T>(U, p.V, p.s, kind), p.x); };
    auto const in_V = [&](dense_matrix<T> const& V) { return loss_of(adapter<T>(p.U, V, p.s, kind), p.x); };
    auto const in_s = [&](dense_matrix<T> const& s) { return loss_of(adapter<T>(p.U, p.V, s.col(0), kind), p.x); };
    // Central differences are off by h² |f‴| / 6 + δ / h, h = ε^{1/3} max(1, |x|) and δ the error of forward. The loss
    // is a polynomial of û of degree 2 r (the product), 2 (terms + 1) for the series, and a step moves û by h / ‖u‖ at
    // most twice: |f‴| ≤ (4 r)³ of its size, ‖u‖ being above 1 here and |x| below 3.
    long double const h = 3 * std::cbrt(std::numeric_limits<double>::epsilon());
    allowed const bound = allowed_for(p);
    long double const size = bound.size * widen(p.x).norm() * widen(p.g).norm();
    long double const growth =
        kind.truncated ? neumann_form(p.U, kind.terms).growth * neumann_form(p.V, kind.terms).growth : 1;
    long double const off = h * h * std::pow(12.0L, 3) / 6 * growth * size + 3 * bound.relative * size / h;
    CHECK(hoft::check_gradient(in_x, p.x, gradient.dx).difference <= off);
    CHECK(hoft::check_gradient(in_U, p.U, gradient.dU).difference <= off);
    CHECK(hoft::check_gradient(in_V, p.V, gradient.dV).difference <= off);
    CHECK(hoft::check_gradient(in_s, dense_matrix<T>(p.s), dense_matrix<T>(gradient.ds)).difference <= off);
  }
}

TEST_CASE_TEMPLATE("the activation form and the weight form agree", T, double, std::complex<double>) {
  for (sizes d : {sizes{12, 10, 17, 3, 4}, {80, 70, 65, 68, 5}, {9, 11, 300, 2, 0}})
    for (bool scaled : {false, true})
      for (inverse kind : {inverse(hoft::exact{}), inverse(neumann{2})}) {
        if (kind.truncated && d.ru > 10) continue;  // the series explodes, and the comparison would say nothing
        CAPTURE(d);
        CAPTURE(scaled);
        problem<T> const p(d, scaled, kind, 40);
        dense_matrix<T> Mhat = p.M;
        hoft::merge(p.make(), Mhat);
        dense_matrix<T> const dMhat = times(p.g, adjoint_copy(p.x));
        auto const w = hoft::merge_backward(p.make(), p.M, dMhat);
        auto const merged = widen(Mhat);
        // Both are within the bound of the activation form, the weight form having sums over n in place of t, ‖I‖_F =
        // √n in place of ‖x‖_F, and ‖g xᴴ‖_F ≤ ‖g‖_F ‖x‖_F.
        allowed bound = allowed_for(p);
        long double const factor = 2 * std::sqrt(static_cast<long double>(d.n));
        for (bound_matrix* b : {&bound.y, &bound.dx, &bound.dU, &bound.dV, &bound.ds}) *b *= factor;
        check_values(computed(p),
                     {times(merged, widen(p.x)),
                      {},
                      {},
                      times(adjoint_copy(merged), widen(p.g)),
                      widen(w.dU),
                      widen(w.dV),
                      widen(w.ds)},
                     bound);
      }
}

// --- properties and edges ---------------------------------------------------------------------------------------

namespace {

/// du := (d − û ûᴴd) / ‖u‖ leaves 2 √m ε |û|ᴴ|d| along û; d is at most 8 times as long as du for the random data here.
template <class W>
void check_orthogonal(deducible<W> const& U, deducible<W> const& dU, long double eps) {
  for (index_t j = 0; j < U.cols(); ++j)
    CHECK(std::abs(U.col(j).dot(dU.col(j))) <=
          8 * 2 * std::sqrt(static_cast<long double>(U.rows())) * eps * U.col(j).norm() * dU.col(j).norm());
}

}  // namespace

TEST_CASE_TEMPLATE("gradients are orthogonal to their reflectors, and zero columns have none", T, double,
                   std::complex<double>, Eigen::half) {
  for (inverse kind : {inverse(hoft::exact{}), inverse(neumann{2})}) {
    problem<T> p({10, 9, 14, 5, 4}, true, kind, 70);
    p.U.col(0).setZero();
    p.U.col(3).setZero();
    p.V.col(2).setZero();
    auto const got = computed(p);
    check_values(got, answers_of(p), allowed_for(p));
    CHECK((got.dU.col(0).isZero(0) && got.dU.col(3).isZero(0) && got.dV.col(2).isZero(0)));
    check_orthogonal(widen(p.U), got.dU, eps_of<T>());
    check_orthogonal(widen(p.V), got.dV, eps_of<T>());
  }
}

TEST_CASE("scaling a reflector changes y by rounding only, and its gradient inversely") {
  using T = double;
  problem<T> p({9, 8, 6, 3, 2}, true, {}, 80), q = p;
  T const up = 1e200;
  q.U.col(0) *= up;
  q.U.col(1) /= up;
  q.V.col(1) *= -up;
  auto const first = computed(p);
  auto second = computed(q);
  second.dU.col(0) *= up;
  second.dU.col(1) /= up;
  second.dV.col(1) *= -up;
  allowed bound = allowed_for(p);
  for (bound_matrix* b : {&bound.y, &bound.dx, &bound.dU, &bound.dV, &bound.ds}) *b *= 2;
  check_values(second, first, bound);
}

TEST_CASE_TEMPLATE("equal pairs of reflectors leave M x and its gradient", T, double, std::complex<double>,
                   Eigen::half) {
  using A = hoft::accumulator_t<T>;
  problem<T> p({12, 11, 9, 4, 5}, true, {}, 90);
  p.U = hoft::paired_gaussian<A>(12, 4, 93);
  p.V = hoft::paired_gaussian<A>(11, 5, 92);  // odd: the last column is zero
  p.s.setOnes();
  auto const got = computed(p);
  auto const M = widen(p.M);
  allowed const bound = allowed_for(p);
  CHECK(within(got.y, times(M, widen(p.x)), bound.y));
  CHECK(within(got.dx, times(adjoint_copy(M), widen(p.g)), bound.dx));
  CHECK(got.dV.col(4).isZero(0));
  // H(u) H(u) does not move when both move alike: the gradients of a pair cancel. Each alone is not zero, or training
  // could not start.
  deducible<wide_t<T>> const sum = got.dU.col(0) + got.dU.col(1);
  CHECK(within(sum, deducible<wide_t<T>>::Zero(12, 1), bound_matrix(2 * bound.dU.col(0))));
  CHECK(got.dU.col(0).norm() > bound.dU(0, 0));
}

TEST_CASE("SHOFT with zeros in s: the saved q gives the gradient, the recovered one is not finite") {
  problem<double> p({7, 6, 5, 2, 3}, true, {}, 100);
  p.s(2) = 0;
  check_views(p, counted<double, col_major>(p.M), true);
  counted<double> base(p.M);
  adapter<double> const a = p.make();
  auto f = hoft::forward(a, base, p.x);
  f.state.q.resize(0, 0);
  auto const g = hoft::backward(a, base, p.x, f, p.g);
  CHECK_FALSE(std::isfinite(g.ds(2)));
  auto const expected = answers_of(p);
  check_values({widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), expected.ds}, expected, allowed_for(p));
}

namespace {

template <class W>
bool none_finite(deducible<W> const& A) {
  for (index_t j = 0; j < A.cols(); ++j)
    for (index_t i = 0; i < A.rows(); ++i)
      if (std::isfinite(std::real(A(i, j))) && std::isfinite(std::imag(A(i, j)))) return false;
  return true;
}
/// Column j of got is not finite, and the others are as they were.
template <class W>
void check_one_spoilt(deducible<W> const& got, deducible<W> const& good, index_t j) {
  index_t const after = got.cols() - j - 1;
  CHECK(none_finite<W>(got.col(j)));
  CHECK(same_bits(deducible<W>(got.leftCols(j)), deducible<W>(good.leftCols(j))));
  CHECK(same_bits(deducible<W>(got.rightCols(after)), deducible<W>(good.rightCols(after))));
}

}  // namespace

TEST_CASE_TEMPLATE("NaN and infinity come out as such, and stay with their token", T, double, Eigen::half) {
  using A = hoft::accumulator_t<T>;
  problem<T> const good({8, 7, 15, 3, 2}, true, {}, 110);
  auto const expected = computed(good);
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    problem<T> p = good;
    p.x(3, 6) = scalar_of<T>(bad);
    auto got = computed(p);
    check_one_spoilt(got.y, expected.y, 6);
    CHECK((none_finite(got.dU) && none_finite(got.dV) && none_finite(got.ds)));

    p = good;
    p.g(2, 4) = scalar_of<T>(bad);
    got = computed(p);
    CHECK(same_bits(got.y, expected.y));
    check_one_spoilt(got.dx, expected.dx, 4);
    CHECK((none_finite(got.dU) && none_finite(got.dV)));

    p = good;
    p.U(1, 1) = scalar_of<A>(bad);
    CHECK(all_nan(computed(p).y));
    p = good;
    p.V(1, 1) = scalar_of<A>(bad);
    CHECK(all_nan(computed(p).y));
    p = good;
    p.s(5) = scalar_of<A>(bad);
    CHECK(none_finite(computed(p).y));
  }
}

TEST_CASE("16-bit tokens near the limits of half keep their own relative accuracy") {
  using T = Eigen::half;
  problem<T> p({8, 7, 3, 2, 2}, false, {}, 120);
  p.M = gaussian<T>(8, 7, 122, 0.1);
  for (index_t i = 0; i < 7; ++i) {
    p.x(i, 0) = T(i % 2 == 0 ? 3e4f : -2e4f);
    p.x(i, 1) = T(static_cast<float>(1 + i) * 5.96e-8f);  // subnormal
  }
  allowed bound = allowed_for(p);
  // Base and result are each rounded to multiples of the subnormal spacing, and Q mixes the rows.
  bound.y.array() += (std::sqrt(8.0L) + 1) * storage_floor<T>();
  CHECK(within(computed(p).y, answers_of(p).y, bound.y));
}

TEST_SUITE_END();
