// SPDX-License-Identifier: BSD-3-Clause
// HOFT and SHOFT on the weight: merge, unmerge and merge_backward against reflectors one after another in long double.
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

/// In long double. s [m, 1], or empty for HOFT.
template <class W>
struct inputs {
  deducible<W> U, V, s, M, G;
};

/// A weight, an adapter's parameters and a gradient G = ∂L/∂M̂. s, where there is one, lies around 1, complex for
/// complex scalars.
template <class T>
struct problem {
  using A = hoft::accumulator_t<T>;
  sizes d;
  inverse kind;
  dense_matrix<A> U, V;
  vector<A> s;
  dense_matrix<T> M, G;

  problem(sizes dims, bool scaled, inverse k = {}, unsigned seed = 1)
      : d(dims),
        kind(k),
        U(gaussian<A>(d.m, d.ru, seed)),
        V(gaussian<A>(d.n, d.rv, seed + 1)),
        M(gaussian<T>(d.m, d.n, seed + 2)),
        G(gaussian<T>(d.m, d.n, seed + 3)) {
    if (scaled) s = (gaussian<A>(d.m, 1, seed + 4, 0.25).array() + A(1)).matrix();
  }
  inputs<wide_t<T>> widened() const { return {widen(U), widen(V), widen(s), widen(M), widen(G)}; }
  adapter<A> make() const { return s.size() > 0 ? adapter<A>(U, V, s, kind) : adapter<A>(U, V, kind); }
};

template <class W>
deducible<W> multiplied(deducible<W> const& U, inverse kind, deducible<W> const& X, side s) {
  if (kind.truncated) return neumann_form(U, kind.terms).apply(X, s, op::plain);
  return reference_apply(U, X, s);
}
template <class W>
wide_gradients<W> multiplied_backward(deducible<W> const& U, inverse kind, deducible<W> const& X, deducible<W> const& G,
                                      side s) {
  if (kind.truncated) return neumann_form(U, kind.terms).backward(X, G, s, op::plain);
  return reference_backward(U, X, G, s);
}
template <class W>
deducible<W> scaled_rows(deducible<W> const& s, deducible<W> const& X) {
  deducible<W> Y = X;
  for (index_t i = 0; i < s.rows(); ++i) Y.row(i) *= s(i, 0);
  return Y;
}

/// M̂ = Q_U P, P = diag(s) M Q_V, and the gradients by the chain rule.
template <class W>
struct answers {
  deducible<W> Mhat, dU, dV, ds, P;
};
template <class W>
answers<W> answers_of(inputs<W> const& p, inverse kind) {
  answers<W> a;
  deducible<W> const N = multiplied(p.V, kind, p.M, side::right);
  a.P = scaled_rows(p.s, N);
  a.Mhat = multiplied(p.U, kind, a.P, side::left);
  auto const left = multiplied_backward(p.U, kind, a.P, p.G, side::left);
  a.dU = left.U;
  a.ds.resize(p.s.rows(), 1);
  for (index_t i = 0; i < p.s.rows(); ++i) a.ds(i, 0) = N.row(i).dot(left.X.row(i));
  deducible<W> const dN = scaled_rows(deducible<W>(p.s.conjugate()), left.X);
  a.dV = multiplied_backward(p.V, kind, p.M, dN, side::right).U;
  return a;
}
template <class T>
auto answers_of(problem<T> const& p) {
  return answers_of(p.widened(), p.kind);
}

/// Allowed errors. Row i of M Q_V is off by line_bound ‖M_i‖, so a column of it by no more than line_bound ‖M‖_F; s
/// multiplies that by at most σ = max |s_i|, Q_U keeps it and adds line_bound ‖P_j‖. With a truncated inverse Q and its
/// rounding errors grow. Only the result is rounded to 16-bit storage.
struct allowed {
  bound_matrix Mhat, dU, dV, ds;
};
struct precision {
  long double left, right, sums, storage, floor;
};
template <class W>
bound_matrix inverse_norms(deducible<W> const& U, long double size) {
  bound_matrix bound(U.rows(), U.cols());
  for (index_t j = 0; j < U.cols(); ++j) bound.col(j).setConstant(U.col(j).isZero(0) ? 0 : size / U.col(j).norm());
  return bound;
}
template <class W>
allowed allowed_for(inputs<W> const& p, inverse kind, answers<W> const& a, precision e) {
  allowed b;
  long double const largest = p.s.size() > 0 ? p.s.cwiseAbs().maxCoeff() : 1;
  long double const growth =
      kind.truncated ? neumann_form(p.U, kind.terms).growth * neumann_form(p.V, kind.terms).growth : 1;
  long double const right = e.right * largest * p.M.norm();
  b.Mhat.resize(p.M.rows(), p.M.cols());
  for (index_t j = 0; j < p.M.cols(); ++j)
    b.Mhat.col(j).setConstant(growth * (right + (e.left + e.sums) * a.P.col(j).norm()));
  for (index_t j = 0; j < p.M.cols(); ++j)
    for (index_t i = 0; i < p.M.rows(); ++i)
      b.Mhat(i, j) += e.storage * (std::abs(a.Mhat(i, j)) + b.Mhat(i, j)) + e.floor;
  // Four terms (−G Zᴴ, P dWᴴ, U dGram and its adjoint; for V likewise), each a product of two such results and at most
  // twice their size; then the division by ‖u‖.
  long double const size = growth * 16 * (e.left + e.right + e.sums) * largest * p.M.norm() * p.G.norm();
  b.dU = inverse_norms(p.U, size);
  b.dV = inverse_norms(p.V, size);
  // ds_i sums dP_ij conj(N_ij), dP off by (left) ‖G‖ and N by (right) ‖M‖.
  b.ds = bound_matrix::Constant(p.s.rows(), 1, 2 * growth * (e.left + e.right + e.sums) * p.M.norm() * p.G.norm());
  return b;
}
template <class T>
precision precision_of(sizes d) {
  long double const m = static_cast<long double>(d.m), n = static_cast<long double>(d.n);
  return {line_bound<T>(d.m, d.ru), line_bound<T>(d.n, d.rv), 2 * (std::sqrt(m) + std::sqrt(n) + 5) * eps_of<T>(),
          storage_rounding<T>(), storage_floor<T>()};
}
template <class T>
allowed allowed_for(problem<T> const& p) {
  return allowed_for(p.widened(), p.kind, answers_of(p), precision_of<T>(p.d));
}

template <class W>
void check_values(answers<W> const& got, answers<W> const& expected, allowed const& bound) {
  CHECK(within(got.Mhat, expected.Mhat, bound.Mhat));
  CHECK(within(got.dU, expected.dU, bound.dU));
  CHECK(within(got.dV, expected.dV, bound.dV));
  CHECK(within(got.ds, expected.ds, bound.ds));
}

/// Unmerging M̂: what merge got wrong and what the inverse adds, each a line_bound of ‖M‖ for either side, times the
/// condition of diag(s); with 16-bit storage four roundings (M̂, and after each of the three factors), two for HOFT.
template <class T>
long double unmerged_bound(problem<T> const& p) {
  auto const e = precision_of<T>(p.d);
  bool const scaled = p.s.size() > 0;
  long double const condition =
      scaled ? static_cast<long double>(p.s.cwiseAbs().maxCoeff() / p.s.cwiseAbs().minCoeff()) : 1;
  return 2 * condition * (e.left + e.right + e.sums + 2 * e.storage) * widen(p.M).norm() + 4 * condition * e.floor;
}

/// All of it with views in padded storage.
template <class T, class L>
void check_views(problem<T> const& p, cpu policy = {}) {
  using A = hoft::accumulator_t<T>;
  auto const [m, n, ru, rv] = p.d;
  CAPTURE(p.d);
  CAPTURE(p.kind.terms);
  adapter<A> const a = p.make();
  answers<wide_t<T>> got;

  padded<T, L> M(p.M), G(p.G), Mhat(m, n);
  matrix_view<T const, L> const M_in = M.view(), G_in = G.view();
  guarded_workspace work(hoft::merge_workspace(policy, a.view(), M_in));
  hoft::merge(policy, a.view(), M_in, Mhat.view(), work);
  got.Mhat = widen(Mhat.map());
  guarded_workspace again(hoft::merge_workspace(policy, a.view(), M_in));
  hoft::merge(policy, a.view(), M.view(), M.view(), again);
  CHECK(same_bits(widen(M.map()), got.Mhat));  // in place
  M.map() = p.M;

  padded<A> dU(m, ru);
  padded<A, row_major> dV(n, rv);
  vector<A> ds(p.s.size());
  guarded_workspace more(hoft::merge_backward_workspace(policy, a.view(), M_in));
  hoft::merge_backward(policy, a.view(), M_in, G_in, dU.view(), dV.view(), hoft::as_vector_view(ds), more);
  got.dU = widen(dU.map());
  got.dV = widen(dV.map());
  got.ds = widen(ds);
  check_values(got, answers_of(p), allowed_for(p));
  bool const inputs_kept = same_bits(widen(M.map()), widen(p.M)) && same_bits(widen(G.map()), widen(p.G));
  CHECK(inputs_kept);
  CHECK((M.intact() && G.intact() && Mhat.intact() && dU.intact() && dV.intact()));
  CHECK((work.intact() && again.intact() && more.intact()));

  if (p.kind.truncated) return;
  guarded_workspace last(hoft::unmerge_workspace(policy, a.view(), Mhat.view()));
  hoft::unmerge(policy, a.view(), Mhat.view(), last);
  CHECK(within(widen(Mhat.map()), widen(p.M), unmerged_bound(p)));
  CHECK((Mhat.intact() && last.intact()));
}

/// Both layouts, HOFT and SHOFT.
template <class T>
void check_forms(sizes d, inverse kind = {}) {
  for (bool scaled : {false, true}) {
    check_views<T, col_major>(problem<T>(d, scaled, kind));
    check_views<T, row_major>(problem<T>(d, scaled, kind));
  }
}

/// The value-returning calls.
template <class T>
auto computed(problem<T> const& p) {
  auto const a = p.make();
  dense_matrix<T> Mhat = p.M;
  hoft::merge(a, Mhat);
  auto const g = hoft::merge_backward(a, p.M, p.G);
  return answers<wide_t<T>>{widen(Mhat), widen(g.dU), widen(g.dV), widen(g.ds), {}};
}

}  // namespace

TEST_SUITE_BEGIN("merge");

TEST_CASE_TEMPLATE("merge, unmerge and merge_backward are those of the reflectors, for every scalar and layout", T,
                   HOFT_ALL_SCALARS) {
  for (sizes d : {sizes{7, 5, 2, 3}, {5, 8, 1, 2}, {1, 1, 1, 1}, {2, 1, 2, 1}, {13, 12, 4, 4}}) check_forms<T>(d);
  for (sizes d : {sizes{8, 6, 3, 0}, {6, 9, 0, 2}, {5, 4, 0, 0}}) check_forms<T>(d);  // one-sided
  for (index_t terms : {1, 2, 3}) check_forms<T>({9, 8, 3, 2}, neumann{terms});
  check_forms<T>({7, 9, 0, 2}, neumann{2});
  check_forms<T>({6, 5, 2, 0}, neumann{2});
}

TEST_CASE_TEMPLATE("several blocks of reflectors, and more reflectors than rows", T, float, std::complex<double>) {
  check_forms<T>({80, 75, 66, 3});    // two blocks on U
  check_forms<T>({75, 80, 3, 67});    // one triangle on V
  check_forms<T>({70, 66, 131, 65});  // three blocks
  check_forms<T>({3, 2, 5, 7});
}

TEST_CASE_TEMPLATE("extents around the widths of panels and chunks", T, double, Eigen::half) {
  for (index_t n : {11, 12, 13, 63, 64, 65, 95, 96, 97, 127, 128, 129, 255, 256, 257, 287, 288, 289, 300}) {
    check_views<T, col_major>(problem<T>({6, n, 2, 3}, n % 2 == 0));
    check_views<T, row_major>(problem<T>({6, n, 3, 2}, n % 2 == 1));
    check_views<T, col_major>(problem<T>({n, 5, 2, 3}, n % 2 == 1));
    check_views<T, row_major>(problem<T>({n, 5, 3, 2}, n % 2 == 0));
  }
  // So tall and so wide that panels are as narrow as they get.
  check_forms<T>({4100, 27, 2, 1});
  check_forms<T>({27, 4100, 1, 2});
  check_forms<T>({3, 8200, 1, 4});  // sums along rows of M are made in two parts
}

TEST_CASE_TEMPLATE("empty shapes", T, float, std::complex<double>, Eigen::half) {
  for (sizes d :
       {sizes{0, 5, 0, 2}, {0, 5, 1, 1}, {4, 0, 2, 0}, {4, 0, 2, 1}, {0, 0, 0, 0}, {0, 0, 2, 1}, {4, 5, 0, 0}})
    check_forms<T>(d);
}

TEST_CASE("the value-returning calls: any storage, and the same bits for any number of threads") {
  using T = float;
  for (bool scaled : {false, true}) {
    problem<T> const p({33, 300, 70, 5}, scaled);
    auto const expected = computed(p);
    check_values(expected, answers_of(p), allowed_for(p));
    CHECK(expected.ds.size() == p.s.size());
    adapter<T> const a = p.make();
    padded<T> const M(p.M), G(p.G);
    for (int threads : {1, 2, 3, 7}) {
      cpu const policy{.threads = threads};
      padded<T> Mhat(p.M);
      hoft::merge(policy, a, Mhat.map());
      auto const g = hoft::merge_backward(policy, a, M.map(), G.map());
      CHECK(same_bits(widen(Mhat.map()), expected.Mhat));
      CHECK((same_bits(widen(g.dU), expected.dU) && same_bits(widen(g.dV), expected.dV) &&
             same_bits(widen(g.ds), expected.ds)));
      hoft::unmerge(policy, a, Mhat.map());
      CHECK(within(widen(Mhat.map()), widen(p.M), unmerged_bound(p)));
      CHECK(Mhat.intact());
    }
    // A block of a larger matrix, and a reference to one.
    dense_matrix<T> larger = dense_matrix<T>::Constant(40, 310, 7.0f);
    larger.block(3, 4, 33, 300) = p.M;
    hoft::merge(a, larger.block(3, 4, 33, 300));
    CHECK(same_bits(widen(larger.block(3, 4, 33, 300)), expected.Mhat));
    Eigen::Ref<dense_matrix<T>> reference(larger.block(3, 4, 33, 300));
    hoft::unmerge(a, reference);
    CHECK(within(widen(reference), widen(p.M), unmerged_bound(p)));
    larger.block(3, 4, 33, 300).setConstant(7.0f);
    CHECK((larger.array() == 7.0f).all());
    check_views<T, row_major>(p, cpu{.threads = 3});
  }
}

TEST_CASE_TEMPLATE("the gradients are the slopes of merge itself", T, double, std::complex<double>) {
  for (inverse kind : {inverse(hoft::exact{}), inverse(neumann{2})}) {
    problem<T> const p({6, 5, 3, 2}, true, kind, 20);
    auto const gradient = hoft::merge_backward(p.make(), p.M, p.G);
    auto const loss_of = [&](adapter<T> const& moved) {
      dense_matrix<T> Mhat = p.M;
      hoft::merge(moved, Mhat);
      return loss<T>(p.G, Mhat);
    };
    auto const in_U = [&](dense_matrix<T> const& U) { return loss_of(adapter<T>(U, p.V, p.s, kind)); };
    auto const in_V = [&](dense_matrix<T> const& V) { return loss_of(adapter<T>(p.U, V, p.s, kind)); };
    auto const in_s = [&](dense_matrix<T> const& s) { return loss_of(adapter<T>(p.U, p.V, s.col(0), kind)); };
    // Central differences are off by h² |f‴| / 6 + δ / h, h = ε^{1/3} max(1, |x|) and δ the error of merge. The loss
    // is a polynomial of û of degree 2 r (the product), 2 (terms + 1) for the series, and a step moves û by h / ‖u‖ at
    // most twice: |f‴| ≤ (4 r)³ of its size, ‖u‖ being above 1 here and |x| below 3.
    long double const h = 3 * std::cbrt(std::numeric_limits<double>::epsilon());
    long double const growth =
        kind.truncated ? neumann_form(p.U, kind.terms).growth * neumann_form(p.V, kind.terms).growth : 1;
    long double const size = growth * widen(p.s).cwiseAbs().maxCoeff() * widen(p.M).norm() * widen(p.G).norm();
    auto const e = precision_of<T>(p.d);
    long double const off = (h * h * std::pow(12.0L, 3) / 6 + 3 * (e.left + e.right + e.sums) / h) * size;
    CHECK(hoft::check_gradient(in_U, p.U, gradient.dU).difference <= off);
    CHECK(hoft::check_gradient(in_V, p.V, gradient.dV).difference <= off);
    CHECK(hoft::check_gradient(in_s, dense_matrix<T>(p.s), dense_matrix<T>(gradient.ds)).difference <= off);
  }
}

// --- properties -------------------------------------------------------------------------------------------------

TEST_CASE("HOFT keeps the singular values, SHOFT does not") {
  using T = std::complex<double>;
  for (sizes d : {sizes{24, 17, 5, 4}, {17, 24, 0, 3}, {20, 20, 70, 66}}) {
    CAPTURE(d);
    problem<T> const p(d, false, {}, 30);
    dense_matrix<T> Mhat = p.M;
    hoft::merge(p.make(), Mhat);
    // Weyl: no singular value moves by more than ‖δM̂‖_F. Then the measure's own 2 min(m, n) ε of double.
    auto const e = precision_of<T>(d);
    long double const sigma = static_cast<long double>(hoft::singular_values(p.M)(0));
    long double const moved = (e.left + e.right + e.sums) * widen(p.M).norm() * std::sqrt(24.0L) / sigma;
    long double const measure = 2 * 20 * std::numeric_limits<double>::epsilon();
    CHECK(static_cast<long double>(hoft::singular_value_drift(p.M, Mhat)) <= moved + measure);
    problem<T> const scaled(d, true, {}, 30);
    Mhat = p.M;
    hoft::merge(scaled.make(), Mhat);
    CHECK(hoft::singular_value_drift(p.M, Mhat) > 0.02);
  }
}

TEST_CASE("hyperspherical energy is kept from the left only") {
  // A Gaussian 64 × 48 weight: energy about 1602, which one reflector from the right moves by 0.5 and sixteen by 8.
  for (index_t r : {1, 16}) {
    problem<double> p({64, 48, r, r}, false, {}, 40);
    double const energy = hoft::hyperspherical_energy(p.M);
    CHECK(energy > 1590);
    CHECK(energy < 1615);
    dense_matrix<double> left = p.M, right = p.M, both = p.M;
    dense_matrix<double> const none_left(64, 0), none_right(48, 0);
    hoft::merge(adapter<double>(p.U, none_right), left);
    hoft::merge(adapter<double>(none_left, p.V), right);
    hoft::merge(p.make(), both);
    // A column moves by line_bound of itself, so the distance of two of them by 2 b and 1 / distance by 2 b / distance
    // of itself; distances of these columns are above 1.
    double const bound = static_cast<double>(2 * line_bound<double>(64, r)) * energy +
                         2 * (64 + 8 + 48 * 48) * std::numeric_limits<double>::epsilon() * energy;
    CHECK(std::abs(hoft::hyperspherical_energy_change(p.M, left)) <= bound);
    double const change = std::abs(hoft::hyperspherical_energy_change(p.M, right));
    CHECK(change > (r == 1 ? 0.02 : 0.8));
    CHECK(change < (r == 1 ? 10 : 160));
    CHECK(std::abs(hoft::hyperspherical_energy_change(right, both)) <= bound);
  }
}

TEST_CASE_TEMPLATE("gradients are orthogonal to their reflectors, and zero columns have none", T, double,
                   std::complex<double>, Eigen::half) {
  for (inverse kind : {inverse(hoft::exact{}), inverse(neumann{2})}) {
    problem<T> p({10, 9, 5, 4}, true, kind, 50);
    p.U.col(0).setZero();
    p.U.col(3).setZero();
    p.V.col(2).setZero();
    auto const got = computed(p);
    check_values(got, answers_of(p), allowed_for(p));
    CHECK((got.dU.col(0).isZero(0) && got.dU.col(3).isZero(0) && got.dV.col(2).isZero(0)));
    // du := (d − û ûᴴd) / ‖u‖ leaves 2 √m ε |û|ᴴ|d| along û; d is at most 8 times as long as du for the data here.
    long double const along = 8 * 2 * std::sqrt(10.0L) * eps_of<T>();
    for (index_t j = 0; j < 5; ++j)
      CHECK(std::abs(widen(p.U).col(j).dot(got.dU.col(j))) <= along * widen(p.U).col(j).norm() * got.dU.col(j).norm());
    for (index_t j = 0; j < 4; ++j)
      CHECK(std::abs(widen(p.V).col(j).dot(got.dV.col(j))) <= along * widen(p.V).col(j).norm() * got.dV.col(j).norm());
  }
}

TEST_CASE("reflectors of zeros leave the weight as it is, bit by bit") {
  problem<float> p({9, 8, 3, 2}, false, {}, 60);
  p.U.setZero();
  p.V.setZero();
  auto const got = computed(p);
  CHECK(same_bits(got.Mhat, widen(p.M)));
  CHECK((got.dU.isZero(0) && got.dV.isZero(0)));
}

TEST_CASE_TEMPLATE("equal pairs of reflectors leave the weight to rounding", T, double, std::complex<double>,
                   Eigen::half) {
  using A = hoft::accumulator_t<T>;
  problem<T> p({12, 11, 4, 5}, false, {}, 70);
  p.U = hoft::paired_gaussian<A>(12, 4, 71);
  p.V = hoft::paired_gaussian<A>(11, 5, 72);
  CHECK(within(computed(p).Mhat, widen(p.M), allowed_for(p).Mhat));
}

TEST_CASE("scaling a reflector changes the weight by rounding only, and its gradient inversely") {
  using T = double;
  problem<T> p({9, 8, 3, 2}, true, {}, 80), q = p;
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
  for (bound_matrix* b : {&bound.Mhat, &bound.dU, &bound.dV, &bound.ds}) *b *= 2;
  check_values(second, first, bound);
}

TEST_CASE_TEMPLATE("NaN and infinity come out as such", T, double, Eigen::half) {
  using A = hoft::accumulator_t<T>;
  problem<T> const good({8, 7, 3, 2}, true, {}, 90);
  auto const none_finite = [](auto const& X) {
    for (index_t j = 0; j < X.cols(); ++j)
      for (index_t i = 0; i < X.rows(); ++i)
        if (std::isfinite(X(i, j))) return false;
    return true;
  };
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    problem<T> p = good;
    p.M(3, 5) = scalar_of<T>(bad);  // its row in M Q_V, then every column
    auto got = computed(p);
    CHECK((none_finite(got.Mhat) && none_finite(got.dU) && none_finite(got.dV)));
    p = good;
    p.G(2, 4) = scalar_of<T>(bad);
    got = computed(p);
    CHECK(same_bits(got.Mhat, computed(good).Mhat));
    CHECK((none_finite(got.dU) && none_finite(got.dV)));
    p = good;
    p.U(1, 1) = scalar_of<A>(bad);
    CHECK(all_nan(computed(p).Mhat));
    p = good;
    p.V(1, 1) = scalar_of<A>(bad);
    CHECK(all_nan(computed(p).Mhat));
    p = good;
    p.s(5) = scalar_of<A>(bad);
    CHECK(none_finite(computed(p).Mhat));
  }
}

// --- refusals ---------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("unmerge refuses what it cannot invert, before it writes", T, float, std::complex<double>,
                   Eigen::half) {
  problem<T> p({6, 5, 2, 2}, true, {}, 100);
  dense_matrix<T> M = p.M;
  p.s(4) = 0;
  CHECK_THROWS_WITH_AS(hoft::unmerge(p.make(), M), "hoft::unmerge: a.scale[4] is 0, must be != 0",
                       hoft::argument_error);
  p.s(0) = -p.s(4);  // −0 is no better, and the first one is named
  CHECK_THROWS_WITH_AS(hoft::unmerge(p.make(), M), "hoft::unmerge: a.scale[0] is 0, must be != 0",
                       hoft::argument_error);
  p.s.setOnes();
  p.kind = neumann{2};
  CHECK_THROWS_WITH_AS(hoft::unmerge(p.make(), M),
                       "hoft::unmerge: a.left is built with neumann{k}, must be built with exact{}",
                       hoft::argument_error);
  using A = hoft::accumulator_t<T>;
  auto const exact = problem<T>({6, 5, 2, 2}, false).make(), truncated = p.make();
  hoft::adapter_view<A const> const mixed(exact.left().view(), truncated.right().view());
  guarded_workspace work(hoft::unmerge_workspace(cpu{}, mixed, hoft::as_view(M)));
  CHECK_THROWS_WITH_AS(hoft::unmerge(cpu{}, mixed, hoft::as_view(M), work),
                       "hoft::unmerge: a.right is built with neumann{k}, must be built with exact{}",
                       hoft::argument_error);
  CHECK(same_bits(widen(M), widen(p.M)));
}

namespace {

/// All arguments of the forms with views, right; a test spoils one.
struct arguments {
  problem<double> p{{6, 5, 3, 2}, true, {}, 110};
  adapter<double> a = p.make();
  hoft::compact_wy<double> split = hoft::accumulate(p.V, inverse{}, 1);  // two triangles
  dense_matrix<double> M = p.M, Mhat = gaussian<double>(6, 5, 111), G = p.G, dU = gaussian<double>(6, 3, 112),
                       dV = gaussian<double>(5, 2, 113);
  vector<double> ds = gaussian<double>(6, 1, 114);
  hoft::adapter_view<double const> view = a.view();
  matrix_view<double> M_ = hoft::as_view(M), Mhat_ = hoft::as_view(Mhat), G_ = hoft::as_view(G),
                      dU_ = hoft::as_view(dU), dV_ = hoft::as_view(dV);
  hoft::vector_view<double> ds_ = hoft::as_vector_view(ds);
  std::vector<std::byte> memory = std::vector<std::byte>(100000);
  hoft::workspace work{memory.data(), index_t(memory.size())};

  auto everything() const { return std::tie(M, Mhat, G, dU, dV, ds); }
};

template <class Error = hoft::shape_error, class Spoil, class Call>
void refuses(std::string const& message, Spoil spoil, Call call) {
  arguments spoilt;
  arguments const before;
  spoil(spoilt);
  CHECK_THROWS_WITH_AS(call(spoilt), message.c_str(), Error);
  CHECK(spoilt.everything() == before.everything());
}
std::string too_small(char const* function, index_t needed) {
  return std::string("hoft::") + function + ": work.size is " + std::to_string(needed - 1) +
         ", must be >= " + std::to_string(needed) + " bytes";
}

}  // namespace

TEST_CASE("merge, unmerge and merge_backward refuse what does not fit, before they write") {
  using args = arguments;
  arguments const sizes;
  auto const merge = [](args& s) { hoft::merge(cpu{}, s.view, s.M_, s.Mhat_, s.work); };
  refuses(
      "hoft::merge: M.rows is 5, must be == 6, the rows of U", [](args& s) { s.M_.rows = 5; }, merge);
  refuses(
      "hoft::merge: M.cols is 4, must be == 5, the rows of V", [](args& s) { s.M_.cols = 4; }, merge);
  refuses(
      "hoft::merge: M.ld is 5, must be >= 6", [](args& s) { s.M_.ld = 5; }, merge);
  refuses(
      "hoft::merge: Mhat.cols is 6, must be == 5", [](args& s) { s.Mhat_.cols = 6; }, merge);
  refuses(
      "hoft::merge: a.right.block is 1, must be >= 2", [](args& s) { s.view.right = s.split.view(); }, merge);
  refuses(
      "hoft::merge: a.scale.size is 5, must be == 6", [](args& s) { s.view.scale.size = 5; }, merge);
  index_t needed = hoft::merge_workspace(cpu{}, sizes.view, sizes.M_);
  auto const starve = [&](args& s) { s.work.size = needed - 1; };
  refuses<hoft::workspace_error>(too_small("merge", needed), starve, merge);

  auto const unmerge = [](args& s) { hoft::unmerge(cpu{}, s.view, s.Mhat_, s.work); };
  refuses(
      "hoft::unmerge: M.rows is 7, must be == 6, the rows of U", [](args& s) { s.Mhat_.rows = 7; }, unmerge);
  refuses(
      "hoft::unmerge: M.cols is 4, must be == 5, the rows of V", [](args& s) { s.Mhat_.cols = 4; }, unmerge);
  refuses(
      "hoft::unmerge: a.scale.size is 7, must be == 6", [](args& s) { s.view.scale.size = 7; }, unmerge);
  needed = hoft::unmerge_workspace(cpu{}, sizes.view, sizes.M_);
  refuses<hoft::workspace_error>(too_small("unmerge", needed), starve, unmerge);

  auto const backward = [](args& s) { hoft::merge_backward(cpu{}, s.view, s.M_, s.G_, s.dU_, s.dV_, s.ds_, s.work); };
  refuses(
      "hoft::merge_backward: M.rows is 5, must be == 6, the rows of U", [](args& s) { s.M_.rows = 5; }, backward);
  refuses(
      "hoft::merge_backward: dMhat.cols is 4, must be == 5", [](args& s) { s.G_.cols = 4; }, backward);
  refuses(
      "hoft::merge_backward: dU.rows is 5, must be == 6", [](args& s) { s.dU_.rows = 5; }, backward);
  refuses(
      "hoft::merge_backward: dV.cols is 3, must be == 2", [](args& s) { s.dV_.cols = 3; }, backward);
  refuses(
      "hoft::merge_backward: ds.size is 5, must be == 6", [](args& s) { s.ds_.size = 5; }, backward);
  refuses(
      "hoft::merge_backward: ds.size is 6, must be == 0", [](args& s) { s.view.scale.size = 0; }, backward);
  needed = hoft::merge_backward_workspace(cpu{}, sizes.view, sizes.M_);
  refuses<hoft::workspace_error>(too_small("merge_backward", needed), starve, backward);

  // The value-returning calls pass the messages on.
  dense_matrix<double> wrong = gaussian<double>(5, 6, 115);
  dense_matrix<double> const before = wrong;
  CHECK_THROWS_WITH_AS(hoft::merge(sizes.a, wrong),
                       "hoft::merge: M.rows is 5, must be == 6, the rows of U; U and V look swapped, or M transposed",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::unmerge(sizes.a, wrong),
                       "hoft::unmerge: M.rows is 5, must be == 6, the rows of U; U and V look swapped, or M transposed",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::merge_backward(sizes.a, sizes.M, wrong),
                       "hoft::merge_backward: dMhat.rows is 5, must be == 6", hoft::shape_error);
  CHECK(same_bits(wrong, before));
}

TEST_SUITE_END();
