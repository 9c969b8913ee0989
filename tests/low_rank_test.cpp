// SPDX-License-Identifier: BSD-3-Clause
// The low-rank forms of a trained adapter: M̂ = M + L R (HOFT) or diag(s) M + L R (SHOFT), and diag(s) (M + L R),
// against reflectors one after another in long double.
#include "support.hpp"

#include <hoft/hoft.hpp>

#include <doctest/doctest.h>

#include <string>
#include <tuple>
#include <vector>

namespace {

using namespace hoft_test;
using hoft::adapter;
using hoft::cpu;
using hoft::inverse;
using hoft::matrix_view;
using hoft::neumann;

template <class T>
using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

struct sizes {
  index_t m, n, ru, rv;
};
std::ostream& operator<<(std::ostream& out, sizes const& d) {
  return out << "m " << d.m << " n " << d.n << " ru " << d.ru << " rv " << d.rv;
}

template <class T>
struct problem {
  using A = hoft::accumulator_t<T>;
  sizes d;
  inverse kind;
  dense_matrix<A> U, V;
  vector<A> s;
  dense_matrix<T> M;

  problem(sizes dims, bool scaled, inverse k = {}, unsigned seed = 1)
      : d(dims),
        kind(k),
        U(gaussian<A>(d.m, d.ru, seed)),
        V(gaussian<A>(d.n, d.rv, seed + 1)),
        M(gaussian<T>(d.m, d.n, seed + 2)) {
    if (scaled) s = (gaussian<A>(d.m, 1, seed + 3, 0.25).array() + A(1)).matrix();
  }
  adapter<A> make() const { return s.size() > 0 ? adapter<A>(U, V, s, kind) : adapter<A>(U, V, kind); }
};

template <class W>
deducible<W> multiplied(deducible<W> const& U, inverse kind, deducible<W> const& X, side s) {
  if (kind.truncated) return neumann_form(U, kind.terms).apply(X, s, op::plain);
  return reference_apply(U, X, s);
}
template <class W>
deducible<W> scaled_rows(deducible<W> const& s, deducible<W> const& X) {
  deducible<W> Y = X;
  for (index_t i = 0; i < s.rows(); ++i) Y.row(i) *= s(i, 0);
  return Y;
}

/// What diag(s) M + L R may be off M̂ by. K is off by what makes row i of M Q_V off by line_bound ‖M_i‖, so a column by
/// no more than line_bound ‖M‖_F, which s multiplies by max |s_i|; U and Z add line_bound ‖P_j‖, P = diag(s) M Q_V. A
/// truncated inverse makes both grow. The factors are rounded to storage once each: 2 u |L| |R|, entry by entry.
template <class T, class W>
bound_matrix factors_bound(problem<T> const& p, deducible<W> const& P, deducible<W> const& L, deducible<W> const& R) {
  auto const [m, n, ru, rv] = p.d;
  deducible<W> const U = widen(p.U), V = widen(p.V), M = widen(p.M), s = widen(p.s);
  long double const growth =
      p.kind.truncated ? neumann_form(U, p.kind.terms).growth * neumann_form(V, p.kind.terms).growth : 1;
  long double const largest = s.size() > 0 ? s.cwiseAbs().maxCoeff() : 1;
  long double const sums = 2 * (std::sqrt(static_cast<long double>(m)) + std::sqrt(static_cast<long double>(n))) + 10;
  bound_matrix bound = times(bound_matrix(L.cwiseAbs()), bound_matrix(R.cwiseAbs()));
  bound *= 2 * storage_rounding<T>();
  long double const right = line_bound<T>(n, rv) * largest * M.norm();
  for (index_t j = 0; j < n; ++j)
    bound.col(j).array() += growth * (right + (line_bound<T>(m, ru) + sums * eps_of<T>()) * P.col(j).norm());
  return bound;
}
/// P = diag(s) M Q_V.
template <class T>
auto scaled_and_turned(problem<T> const& p) {
  return scaled_rows(widen(p.s), multiplied(widen(p.V), p.kind, widen(p.M), side::right));
}
template <class T, class W>
void check_factors(problem<T> const& p, deducible<W> const& L, deducible<W> const& R) {
  deducible<W> const P = scaled_and_turned(p), sum = scaled_rows(widen(p.s), widen(p.M)) + times(L, R);
  CHECK(within(sum, multiplied(widen(p.U), p.kind, P, side::left), factors_bound(p, P, L, R)));
}

/// DoRA's weight, diag(magnitude / ‖rows of M + L R‖) (M + L R), is M̂, and the magnitudes are s_i ‖row i of M + L R‖.
/// Entries of a row of M + L R are sums of rank + 1 terms, and the norm is a sum over the row: each is off by 2 √terms
/// ε of the sums of absolute values, and by 10 ε for the rounding of terms and results.
template <class T, class W>
void check_scaled_factors(problem<T> const& p, deducible<W> const& L, deducible<W> const& R,
                          deducible<W> const& magnitude) {
  auto const [m, n, ru, rv] = p.d;
  deducible<W> const sum = widen(p.M) + times(L, R), s = p.s.size() > 0 ? widen(p.s) : deducible<W>::Ones(m, 1);
  bound_matrix const terms =
      bound_matrix(widen(p.M).cwiseAbs()) + times(bound_matrix(L.cwiseAbs()), bound_matrix(R.cwiseAbs()));
  auto const root = [](index_t k) { return std::sqrt(static_cast<long double>(k)); };
  deducible<W> expected(m, 1), weight = sum;
  bound_matrix allowed(m, 1);
  for (index_t i = 0; i < m; ++i) {
    long double const norm = sum.row(i).norm();
    expected(i, 0) = s(i, 0) * norm;
    allowed(i, 0) =
        std::abs(s(i, 0)) * eps_of<T>() * ((2 * root(ru + rv) + 10) * terms.row(i).norm() + (2 * root(n) + 10) * norm);
    if (norm > 0) weight.row(i) *= magnitude(i, 0) / norm;
  }
  CHECK(within(magnitude, expected, allowed));
  deducible<W> const P = scaled_and_turned(p), Mhat = multiplied(widen(p.U), p.kind, P, side::left);
  bound_matrix bound = factors_bound(p, P, scaled_rows(s, L), R);
  for (index_t i = 0; i < m; ++i) bound.row(i).array() += allowed(i, 0);  // no entry of a unit row is above 1
  CHECK(within(weight, Mhat, bound));
}

template <class T, class L>
void check_views(problem<T> const& p, cpu policy = {}) {
  auto const [m, n, ru, rv] = p.d;
  CAPTURE(p.d);
  CAPTURE(p.kind.terms);
  auto const a = p.make();
  padded<T, L> M(p.M);
  padded<T, row_major> left(m, ru + rv);
  padded<T> right(ru + rv, n);
  matrix_view<T const, L> const M_in = M.view();
  guarded_workspace work(hoft::low_rank_workspace(policy, a.view(), M_in));
  hoft::low_rank(policy, a.view(), M_in, left.view(), right.view(), work);
  auto const B = widen(left.map()), A = widen(right.map());
  check_factors(p, B, A);
  // The parts that the documentation names: [Û, −diag(s) K] and [−Z; V̂ᴴ].
  using W = wide_t<T>;
  auto const rounded = [](auto const& vectors) { return widen(narrowed<T>(widen(vectors))); };
  CHECK(same_bits(deducible<W>(B.leftCols(ru)), rounded(a.left().vectors())));
  CHECK(deducible<W>(A.bottomRows(rv)) == adjoint_copy(rounded(a.right().vectors())));
  CHECK(same_bits(widen(M.map()), widen(p.M)));
  CHECK((M.intact() && left.intact() && right.intact() && work.intact()));
}

template <class T, class L>
void check_scaled_views(problem<T> const& p, cpu policy = {}) {
  auto const [m, n, ru, rv] = p.d;
  CAPTURE(p.d);
  CAPTURE(p.kind.terms);
  using A = hoft::accumulator_t<T>;
  auto const a = p.make();
  padded<T, L> M(p.M);
  padded<T, row_major> left(m, ru + rv);
  padded<T> right(ru + rv, n);
  padded<A> magnitude(m, 1);
  hoft::vector_view<A> const magnitudes(magnitude.view().data, m);
  matrix_view<T const, L> const M_in = M.view();
  guarded_workspace work(hoft::scaled_low_rank_workspace(policy, a.view(), M_in));
  hoft::scaled_low_rank(policy, a.view(), M_in, left.view(), right.view(), magnitudes, work);
  check_scaled_factors(p, widen(left.map()), widen(right.map()), widen(magnitude.map()));
  // The right factor is that of low_rank.
  padded<T, row_major> other(m, ru + rv);
  padded<T> right_too(ru + rv, n);
  guarded_workspace more(hoft::low_rank_workspace(policy, a.view(), M_in));
  hoft::low_rank(policy, a.view(), M_in, other.view(), right_too.view(), more);
  CHECK(same_bits(widen(right.map()), widen(right_too.map())));
  CHECK(same_bits(widen(M.map()), widen(p.M)));
  CHECK((M.intact() && left.intact() && right.intact() && magnitude.intact() && work.intact()));
}

template <class T, class L>
void check_forms(sizes d, inverse kind = {}) {
  for (bool scaled : {false, true}) {
    check_views<T, L>(problem<T>(d, scaled, kind));
    check_scaled_views<T, L>(problem<T>(d, scaled, kind));
  }
}

template <class T, class L>
void check_small() {
  for (sizes d : {sizes{7, 5, 2, 3}, {5, 8, 1, 2}, {1, 1, 1, 1}, {2, 1, 2, 1}}) check_forms<T, L>(d);
  for (sizes d : {sizes{8, 6, 3, 0}, {6, 9, 0, 2}, {5, 4, 0, 0}}) check_forms<T, L>(d);  // one-sided
  for (index_t terms : {1, 2, 3}) check_forms<T, L>({9, 8, 3, 2}, neumann{terms});
}

}  // namespace

TEST_SUITE_BEGIN("low rank");

TEST_CASE_TEMPLATE("the factors make the merged weight, for every scalar", T, HOFT_ALL_SCALARS) {
  check_small<T, col_major>();
}
TEST_CASE_TEMPLATE("the factors of a row-major weight", T, float, std::complex<double>, Eigen::half) {
  check_small<T, row_major>();
}

TEST_CASE_TEMPLATE("several blocks of reflectors, and more reflectors than rows", T, float, std::complex<double>) {
  for (sizes d : {sizes{80, 75, 66, 3}, {75, 80, 3, 67}, {70, 66, 131, 65}, {3, 2, 5, 7}}) {
    check_forms<T, col_major>(d);
    check_forms<T, row_major>(d);
  }
}

TEST_CASE_TEMPLATE("extents around the widths of panels", T, float, Eigen::half) {
  for (index_t n : {12, 13, 64, 65, 95, 96, 97, 128, 129, 257, 300})
    for (bool scaled : {false, true}) {
      check_views<T, col_major>(problem<T>({6, n, 2, 3}, scaled));
      check_views<T, row_major>(problem<T>({n, 6, 3, 2}, scaled));
      check_scaled_views<T, col_major>(problem<T>({n, 6, 2, 3}, scaled));
      check_scaled_views<T, row_major>(problem<T>({n, 6, 3, 2}, scaled));
    }
  for (sizes d : {sizes{8200, 27, 2, 1}, {27, 8200, 1, 2}}) {  // panels as narrow as they get
    check_forms<T, col_major>(d);
    check_forms<T, row_major>(d);
  }
}

TEST_CASE_TEMPLATE("empty shapes", T, float, Eigen::half) {
  for (sizes d : {sizes{0, 5, 0, 2}, {0, 5, 1, 1}, {4, 0, 2, 0}, {4, 0, 2, 1}, {0, 0, 0, 0}, {4, 5, 0, 0}}) {
    check_forms<T, col_major>(d);
    check_forms<T, row_major>(d);
  }
}

TEST_CASE("the value-returning call: merge, without loss, as a LoRA adapter of rank ru + rv") {
  using T = std::complex<double>;
  for (bool scaled : {false, true}) {
    problem<T> const p({30, 26, 4, 5}, scaled, {}, 20);
    auto const a = p.make();
    auto const update = hoft::low_rank(a, p.M);
    CHECK((update.L.rows() == 30 && update.L.cols() == 9 && update.R.rows() == 9 && update.R.cols() == 26));
    check_factors(p, widen(update.L), widen(update.R));
    dense_matrix<T> Mhat = p.M;
    hoft::merge(a, Mhat);
    dense_matrix<T> difference = Mhat;
    for (index_t i = 0; i < 30; ++i) difference.row(i) -= (scaled ? p.s(i) : T(1)) * p.M.row(i);
    // What merge changed beyond diag(s) M has no singular value past ru + rv but rounding: by Weyl at most the error of
    // M̂ and of the difference in the Frobenius norm, plus the measure's own 26 ε σ₁ in at least double.
    auto const sigma = hoft::singular_values(difference);
    long double const largest = scaled ? static_cast<long double>(p.s.cwiseAbs().maxCoeff()) : 1;
    long double const relative = line_bound<T>(30, 4) + line_bound<T>(26, 5) + 24 * eps_of<T>();
    CHECK(static_cast<long double>(sigma(8)) > 1e-2L);
    CHECK(static_cast<long double>(sigma(9)) <=
          relative * std::sqrt(26.0L) * largest * widen(p.M).norm() +
              26 * static_cast<long double>(std::numeric_limits<double>::epsilon()) *
                  static_cast<long double>(sigma(0)));

    // Padded storage, a block, several threads: the same bits.
    dense_matrix<T> larger = dense_matrix<T>::Zero(40, 30);
    larger.block(2, 3, 30, 26) = p.M;
    auto const again = hoft::low_rank(cpu{.threads = 3}, a, larger.block(2, 3, 30, 26));
    CHECK((same_bits(widen(again.L), widen(update.L)) && same_bits(widen(again.R), widen(update.R))));
  }
}

TEST_CASE("equal pairs of reflectors: an update of nothing") {
  problem<float> p({12, 11, 4, 5}, false, {}, 31);
  p.U = hoft::paired_gaussian<float>(12, 4, 30);
  p.V = hoft::paired_gaussian<float>(11, 5, 32);
  auto const update = hoft::low_rank(p.make(), p.M);
  check_factors(p, widen(update.L), widen(update.R));
  long double const relative = line_bound<float>(12, 4) + line_bound<float>(11, 5) + 24 * eps_of<float>();
  CHECK(within(times(widen(update.L), widen(update.R)), deducible<long double>::Zero(12, 11).eval(),
               relative * widen(p.M).norm()));
}

TEST_CASE("NaN comes out as NaN") {
  float const nan = std::numeric_limits<float>::quiet_NaN();
  problem<float> p({6, 5, 2, 1}, true, {}, 40);
  p.M(3, 2) = nan;
  auto update = hoft::low_rank(p.make(), p.M);
  CHECK(all_nan(update.R.topRows(2)));
  CHECK(all_nan(update.L.row(3).tail(1)));
  p = problem<float>({6, 5, 2, 1}, true, {}, 40);
  p.s(1) = nan;
  update = hoft::low_rank(p.make(), p.M);
  CHECK(all_nan(update.R.topRows(2)));
  CHECK(all_nan(update.L.row(1).tail(1)));
  auto const scaled = hoft::scaled_low_rank(p.make(), p.M);
  CHECK(all_nan(scaled.R.topRows(2)));
  CHECK((all_nan(scaled.L.row(1).head(2)) && all_nan(scaled.magnitude)));
}

TEST_CASE("the value-returning call: merge, without loss, as a DoRA adapter") {
  using T = std::complex<double>;
  for (bool scaled : {false, true}) {
    problem<T> const p({300, 26, 4, 5}, scaled, {}, 60);  // rows of two panels
    auto const a = p.make();
    auto const update = hoft::scaled_low_rank(a, p.M);
    CHECK((update.L.rows() == 300 && update.L.cols() == 9 && update.R.rows() == 9 && update.R.cols() == 26));
    check_scaled_factors(p, widen(update.L), widen(update.R), widen(update.magnitude));
    dense_matrix<T> larger = dense_matrix<T>::Zero(310, 30);
    larger.block(2, 3, 300, 26) = p.M;
    auto const again = hoft::scaled_low_rank(cpu{.threads = 3}, a, larger.block(2, 3, 300, 26));
    CHECK((same_bits(widen(again.L), widen(update.L)) && same_bits(widen(again.R), widen(update.R)) &&
           same_bits(widen(again.magnitude), widen(update.magnitude))));
  }
}

TEST_CASE("scales of either sign and far from 1, zero reflectors, weights far from 1") {
  problem<float> p({9, 8, 3, 2}, true, {}, 70);
  p.s << -1, 1e-20f, -1e10f, 1, 2, -3, 1e-6f, 1, 1;
  p.U.col(1).setZero(), p.V.col(0).setZero();
  auto update = hoft::scaled_low_rank(p.make(), p.M);
  check_scaled_factors(p, widen(update.L), widen(update.R), widen(update.magnitude));
  CHECK((update.magnitude(0) < 0 && update.magnitude(1) > 0 && update.magnitude(2) < 0));
  for (float size : {1e-30f, 1e30f}) {  // squares of norms do not fit
    problem<float> q({9, 8, 3, 2}, true, {}, 71);
    q.M *= size;
    update = hoft::scaled_low_rank(q.make(), q.M);
    check_scaled_factors(q, widen(update.L), widen(update.R), widen(update.magnitude));
  }
  problem<float> zero({4, 3, 0, 2}, true, {}, 72);
  zero.M.row(2).setZero();  // and stays zero
  CHECK(hoft::scaled_low_rank(zero.make(), zero.M).magnitude(2) == 0);
}

TEST_CASE("factors of float for a weight in 16 bits lose nothing but rounding of floats") {
  problem<Eigen::bfloat16> const p({33, 21, 4, 3}, true, {}, 80);
  auto const a = p.make();
  dense_matrix<float> left(33, 7), right(7, 21), magnitude(33, 1);
  auto const M = hoft::as_view(p.M);
  guarded_workspace work(hoft::scaled_low_rank_workspace(cpu{}, a.view(), M));
  hoft::scaled_low_rank(cpu{}, a.view(), M, hoft::as_view(left), hoft::as_view(right),
                        hoft::vector_view<float>(magnitude.data(), 33), work);
  problem<float> same({33, 21, 4, 3}, true, {}, 80);  // the same reflectors, judged by the rounding of floats
  same.M = p.M.cast<float>();
  check_scaled_factors(same, widen(left), widen(right), widen(magnitude));
}

TEST_CASE("scaled_low_rank refuses an s_i of 0, and what does not fit, before it writes") {
  problem<float> p({6, 5, 3, 2}, true, {}, 90);
  p.s(4) = -0.0f;
  auto const a = p.make();
  auto const M = hoft::as_view(p.M);
  dense_matrix<float> left = gaussian<float>(6, 5, 91), right = gaussian<float>(5, 5, 92),
                      magnitude = gaussian<float>(6, 1, 93);
  auto const left_before = left, right_before = right, magnitude_before = magnitude;
  index_t const needed = hoft::scaled_low_rank_workspace(cpu{}, a.view(), M);
  std::vector<std::byte> memory(std::size_t(needed), std::byte{});
  auto const call = [&](auto const& view, auto const& weight, index_t size, index_t bytes) {
    hoft::scaled_low_rank(cpu{}, view, weight, hoft::as_view(left), hoft::as_view(right),
                          hoft::vector_view<float>(magnitude.data(), size), hoft::workspace{memory.data(), bytes});
  };
  CHECK_THROWS_WITH_AS(call(a.view(), M, 6, needed), "hoft::scaled_low_rank: a.scale[4] is 0, must be != 0",
                       hoft::argument_error);
  CHECK_THROWS_WITH_AS(call(a.view(), M.columns(0, 4), 6, needed),
                       "hoft::scaled_low_rank: M.cols is 4, must be == 5, the rows of V", hoft::shape_error);
  CHECK_THROWS_WITH_AS(call(a.view(), M, 7, needed), "hoft::scaled_low_rank: magnitude.size is 7, must be == 6",
                       hoft::shape_error);
  std::string const message = "hoft::scaled_low_rank: work.size is " + std::to_string(needed - 1) +
                              ", must be >= " + std::to_string(needed) + " bytes";
  CHECK_THROWS_WITH_AS(call(a.view(), M, 6, needed - 1), message.c_str(), hoft::workspace_error);
  CHECK_THROWS_WITH_AS(hoft::scaled_low_rank(a, p.M), "hoft::scaled_low_rank: a.scale[4] is 0, must be != 0",
                       hoft::argument_error);
  CHECK((left == left_before && right == right_before && magnitude == magnitude_before));
}

TEST_CASE("low_rank refuses what does not fit, before it writes") {
  problem<float> const p({6, 5, 3, 2}, true, {}, 50);
  auto const a = p.make();
  auto const view = a.view();
  auto const M = hoft::as_view(p.M);
  dense_matrix<float> left = gaussian<float>(6, 5, 51), right = gaussian<float>(5, 5, 52);
  auto const left_before = left, right_before = right;
  index_t const needed = hoft::low_rank_workspace(cpu{}, view, M);
  std::vector<std::byte> memory(std::size_t(needed), std::byte{});
  hoft::workspace const work{memory.data(), needed};
  auto const L = hoft::as_view(left), R = hoft::as_view(right);
  CHECK_THROWS_WITH_AS(hoft::low_rank(cpu{}, view, M.columns(0, 4), L, R, work),
                       "hoft::low_rank: M.cols is 4, must be == 5, the rows of V", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::low_rank(cpu{}, view, M.block(0, 0, 5, 5), L, R, work),
                       "hoft::low_rank: M.rows is 5, must be == 6, the rows of U", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::low_rank(cpu{}, view, M, L.columns(0, 4), R, work),
                       "hoft::low_rank: left.cols is 4, must be == 5", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::low_rank(cpu{}, view, M, L, R.block(0, 0, 3, 5), work),
                       "hoft::low_rank: right.rows is 3, must be == 5", hoft::shape_error);
  auto const split = hoft::accumulate(p.V, inverse{}, 1);  // two triangles
  auto blocked = view;
  blocked.right = split.view();
  CHECK_THROWS_WITH_AS(hoft::low_rank(cpu{}, blocked, M, L, R, work),
                       "hoft::low_rank: a.right.block is 1, must be >= 2", hoft::shape_error);
  auto short_scale = view;
  short_scale.scale.size = 5;
  CHECK_THROWS_WITH_AS(hoft::low_rank(cpu{}, short_scale, M, L, R, work),
                       "hoft::low_rank: a.scale.size is 5, must be == 6", hoft::shape_error);
  std::string const message = "hoft::low_rank: work.size is " + std::to_string(needed - 1) +
                              ", must be >= " + std::to_string(needed) + " bytes";
  CHECK_THROWS_WITH_AS(hoft::low_rank(cpu{}, view, M, L, R, hoft::workspace{memory.data(), needed - 1}),
                       message.c_str(), hoft::workspace_error);
  dense_matrix<float> const wide_weight = gaussian<float>(6, 7, 53);
  CHECK_THROWS_WITH_AS(hoft::low_rank(a, wide_weight), "hoft::low_rank: M.cols is 7, must be == 5, the rows of V",
                       hoft::shape_error);
  CHECK((left == left_before && right == right_before));
}

TEST_SUITE_END();
