// SPDX-License-Identifier: BSD-3-Clause
// Gradients of apply against a backward pass through reflectors one after another in long double, which is itself held
// against central differences of the reference.
#include <hoft/eigen/apply.hpp>
#include <hoft/eigen/apply_backward.hpp>
#include <hoft/reference/gradient.hpp>

#include "support.hpp"

using namespace hoft_test;

namespace {

template <class T>
using column_vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

enum class from { input, output, output_and_projections };

/// What a call may not do whatever it computes: every argument in a larger buffer, scratch full of NaN, dU in the other
/// layout than X, of storage type S, and dX once on top of dY.
template <class T, class L, class S>
struct gradients {
  using A = hoft::accumulator_t<T>;
  padded<T, L> dX;
  padded<S, hoft::transposed_layout<L>> dU;
  column_vector<A> dtau;

  gradients(hoft::compact_wy<A> const& Q, from what, dense_matrix<T, L> const& known, dense_matrix<A> const& W,
            dense_matrix<T, L> const& dY, side s, op o, bool on_top)
      : dX(known.rows(), known.cols()), dU(Q.rows(), Q.rank()), dtau(Q.view().explicit_tau ? Q.rank() : 0) {
    padded<T, L> const x(known), g(dY);
    padded<A> const w(W);
    auto const q = Q.view();
    if (on_top) dX.map() = dY;
    auto const dy = on_top ? hoft::matrix_view<T const, L>(dX.view()) : g.view();
    auto const dt = hoft::as_vector_view(dtau);
    guarded_workspace work(hoft::apply_backward_workspace(hoft::cpu{}, q, x.view(), s));
    if (what == from::input) hoft::apply_backward(hoft::cpu{}, q, x.view(), dy, dX.view(), dU.view(), dt, s, o, work);
    else if (what == from::output)
      hoft::apply_backward_from_output(hoft::cpu{}, q, x.view(), dy, dX.view(), dU.view(), dt, s, o, work);
    else hoft::apply_backward_from_output(hoft::cpu{}, q, x.view(), w.view(), dy, dX.view(), dU.view(), dt, s, o, work);
    bool const nothing_else = dX.intact() && dU.intact() && x.intact() && g.intact() && w.intact() && work.intact() &&
                              same_bits(x.map(), known) && same_bits(g.map(), dY) && same_bits(w.map(), W);
    CHECK(nothing_else);
  }
};

/// One case: U or (V, tau), X, dY, and the forward pass.
template <class T, class L>
struct problem {
  using A = hoft::accumulator_t<T>;
  side s;
  op o;
  dense_matrix<T, L> X, dY, Y;
  dense_matrix<A> W;

  problem(hoft::compact_wy<A> const& Q, index_t n, side s_, op o_, unsigned seed) : s(s_), o(o_) {
    index_t const m = Q.rows();
    X = s == side::left ? gaussian<T, L>(m, n, seed) : gaussian<T, L>(n, m, seed);
    dY = gaussian<T, L>(X.rows(), X.cols(), seed + 1000);
    Y = X;
    W = hoft::apply_and_save(Q, Y, s, o);
  }
  /// The input of which Y, as it is stored, is exactly the output.
  template <class DU>
  dense_matrix<T, L> const& known(from what) const {
    return what == from::input ? X : Y;
  }
};

struct shape {
  index_t m, r, n, block;
};

/// Allowed errors of dX and dU. From an output stored in 16 bits, X is recovered with the rounding of Y, relative to
/// lines: the term X dWᴴ of dU takes it on, 2 ‖X‖ ‖dY‖ / ‖u‖ at most.
template <class T, class L, class DU>
bound_matrix dU_bound(problem<T, L> const& p, Eigen::MatrixBase<DU> const& U, wide_matrix<T> const& expected, index_t n,
                      from what, long double growth = 1) {
  bound_matrix bound = per_reflector<T>(U, p.X, p.dY, expected, n, growth);
  if (what == from::output_and_projections) {
    long double const extra = 2 * growth * storage_rounding<T>() * widen(p.X).norm() * widen(p.dY).norm();
    for (index_t j = 0; j < bound.cols(); ++j) {
      long double const length = widen(U).col(j).norm();
      if (length > 0) bound.col(j).array() += extra / length;
    }
  }
  return bound;
}

template <class T, class L, class DU>
void check_exact(Eigen::MatrixBase<DU> const& U, index_t n, index_t block, side s, op o, unsigned seed) {
  using A = hoft::accumulator_t<T>;
  index_t const m = U.rows(), r = U.cols();
  auto const Q = hoft::accumulate(U.derived(), hoft::exact{}, block);
  problem<T, L> const p(Q, n, s, o, seed);
  for (from what : {from::input, from::output, from::output_and_projections}) {
    std::string const label = text_of({{"from", index_t(what)}});
    INFO(label);
    auto const& known = what == from::input ? p.X : p.Y;
    // The stored Y is exactly the output of this X: storage that rounds is no error of the backward pass.
    wide_matrix<T> const X =
        what == from::output ? reference_apply(U, p.Y, s, hoft::adjoint_of(o)) : wide_matrix<T>(widen(p.X));
    auto const expected = reference_backward(U, X, p.dY, s, o);
    auto const dX_bound = per_line<T>(p.dY, expected.X, s, line_bound<T>(m, r));
    gradients<T, L, A> const g(Q, what, known, p.W, p.dY, s, o, what == from::output);
    CHECK(within(g.dX.map(), expected.X, dX_bound));
    CHECK(within(g.dU.map(), expected.U, dU_bound(p, U, expected.U, n, what)));
  }
  // The form that returns its results has the same bits.
  auto const g = hoft::apply_backward(Q, p.X, p.dY, s, o);
  gradients<T, L, A> const views(Q, from::input, p.X, p.W, p.dY, s, o, true);
  CHECK(same_bits(g.dX, views.dX.map()));
  CHECK(same_bits(g.dU, views.dU.map()));
  CHECK(g.dtau.size() == 0);
}

// Panels are 96 columns or 128 rows wide and sums are merged every 256 and some columns: 97, 129 and 300 cross these.
constexpr shape shapes[] = {
    {0, 0, 0, 64},   {0, 2, 3, 64},  {1, 0, 2, 64},   {1, 1, 1, 64},      {1, 1, 0, 64},
    {2, 1, 1, 64},   {2, 2, 3, 1},   {1, 3, 2, 64},   {5, 2, 7, 64},      {7, 9, 4, 4},
    {5, 0, 3, 64},   {21, 8, 97, 3}, {9, 3, 300, 2},  {6, 2, 129, 64},    {33, 17, 5, 64},
    {66, 65, 3, 64}, {600, 3, 2, 2}, {40, 33, 6, 16}, {600, 13, 220, 64},  // two panels of 16-bit rows in one sum
};

template <class T, class L>
void check_every_shape() {
  unsigned seed = 10;
  for (auto const [m, r, n, block] : shapes)
    for (side s : sides)
      for (op o : ops) {
        std::string const label =
            text_of({{"m", m}, {"r", r}, {"n", n}, {"block", block}, {"side", index_t(s)}, {"op", index_t(o)}});
        INFO(label);
        padded<T, row_major> U(gaussian<T, row_major>(m, r, ++seed));
        if (r > 2) U.map().col(1).setZero();  // zero gradient, and nothing to the others
        check_exact<T, L>(U.map(), n, block, s, o, ++seed);
      }
}

/// Any finite tau with |1 − τ ‖v‖²| ≤ 1, so that errors do not grow; every fourth is 0.
template <class T>
column_vector<T> contracting_tau(wide_matrix<T> const& V, unsigned seed) {
  auto const random = widen(gaussian<T>(V.cols(), 1, seed));
  column_vector<T> tau(V.cols());
  for (index_t k = 0; k < V.cols(); ++k) {
    long double const square = 1 + V.col(k).tail(V.rows() - k - 1).squaredNorm();
    wide_t<T> const value =
        k % 4 == 1 ? wide_t<T>(0) : (1.0L - random(k, 0) / std::max(1.0L, std::abs(random(k, 0)))) / square;
    tau(k) = scalar_of<T>(std::real(value), std::imag(value));
  }
  return tau;
}

}  // namespace

// --- the judge ---------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("the judge's gradients are central differences of the reference", W, long double,
                   std::complex<long double>) {
  index_t const m = 6, r = 3, n = 4;
  wide_matrix<W> U = gaussian<W>(m, r, 1);
  wide_matrix<W> tau = gaussian<W>(r, 1, 2, 0.3);
  tau(1, 0) = 0;
  // h² |f‴| / 6 + δ / h with h = ε^⅓: the derivatives of a product of reflectors are of order 1 to 100 here.
  long double const h = std::cbrt(std::numeric_limits<long double>::epsilon());
  for (side s : sides)
    for (op o : ops) {
      std::string const label = text_of({{"side", index_t(s)}, {"op", index_t(o)}});
      INFO(label);
      wide_matrix<W> const X = s == side::left ? gaussian<W>(m, n, 3) : gaussian<W>(n, m, 3);
      wide_matrix<W> const G = gaussian<W>(X.rows(), X.cols(), 4);
      long double const bound = 100 * h * h * X.norm() * G.norm();
      auto const g = reference_backward(U, X, G, s, o);
      CHECK(hoft::check_gradient([&](auto const& u) { return loss<W>(G, reference_apply(u, X, s, o)); }, U, g.U)
                .difference <= bound);
      CHECK(hoft::check_gradient([&](auto const& x) { return loss<W>(G, reference_apply(U, x, s, o)); }, X, g.X)
                .difference <= bound);

      auto const t = reference_backward(U, tau, X, G, s, o);
      CHECK(hoft::check_gradient([&](auto const& u) { return loss<W>(G, reference_apply(u, tau, X, s, o)); }, U, t.U)
                .difference <= bound);
      CHECK(hoft::check_gradient([&](auto const& a) { return loss<W>(G, reference_apply(U, a, X, s, o)); }, tau, t.tau)
                .difference <= 10 * bound);  // the entries of V are not of norm 1
      CHECK(std::abs(t.tau(1, 0)) > 0);
      CHECK(hoft::check_gradient([&](auto const& x) { return loss<W>(G, reference_apply(U, tau, x, s, o)); }, X, t.X)
                .difference <= 10 * bound);

      for (index_t const terms : {1, 2, 3, 4}) {
        auto const value = [&](auto const& u, auto const& x) {
          return loss<W>(G, neumann_form<W>(u, terms).apply(x, s, o));
        };
        auto const k = neumann_form<W>(U, terms).backward(X, G, s, o);
        CHECK(hoft::check_gradient([&](auto const& u) { return value(u, X); }, U, k.U).difference <= 10 * bound);
        CHECK(hoft::check_gradient([&](auto const& x) { return value(U, x); }, X, k.X).difference <= 10 * bound);
        if (terms >= r) {  // the whole series is the inverse
          long double const rounding = line_bound<W>(m + r * terms, 1) * neumann_form<W>(U, terms).growth;
          CHECK(within(k.X, g.X, 2 * rounding * G.norm()));
          CHECK(within(k.U, g.U, 16 * rounding * neumann_form<W>(U, terms).growth * G.norm() * X.norm()));
        }
      }
    }
}

// --- the exact inverse ---------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("dX and dU from input and output, column-major", T, HOFT_ALL_SCALARS) {
  check_every_shape<T, col_major>();
}
// The other scalars meet rows in X from the right, whose transpose is row-major, and in the truncated inverse below.
TEST_CASE_TEMPLATE("dX and dU from input and output, row-major", T, float, std::complex<double>, Eigen::bfloat16) {
  check_every_shape<T, row_major>();
}

/// dX and dU of matrices whose columns lie `ld` apart.
template <class T>
std::pair<dense_matrix<T>, dense_matrix<T>> gradients_by(hoft::compact_wy<hoft::accumulator_t<T>> const& Q,
                                                         dense_matrix<T> const& X, dense_matrix<T> const& dY,
                                                         index_t ld) {
  using real = hoft::real_t<hoft::accumulator_t<T>>;
  index_t const m = X.rows(), n = X.cols();
  auto const spread = [&](dense_matrix<T> const& from) {
    dense_matrix<T> to = dense_matrix<T>::Constant(ld, n, T(std::numeric_limits<real>::quiet_NaN()));
    to.topRows(m) = from;
    return to;
  };
  auto const top = [&](dense_matrix<T>& all) { return hoft::as_view(all).block(0, 0, m, n); };
  dense_matrix<T> x = spread(X), g = spread(dY), dX(ld, n), dU(m, Q.rank());
  guarded_workspace work(hoft::apply_backward_workspace(hoft::cpu{}, Q.view(), top(x)));
  hoft::apply_backward(hoft::cpu{}, Q.view(), top(x), top(g), top(dX), hoft::as_view(dU),
                       hoft::vector_view<hoft::accumulator_t<T>>{}, side::left, op::plain, work);
  return {dX.topRows(m), dU};
}

// Columns that lie pages apart share a set of the first-level cache, and panels of them may be copied.
TEST_CASE_TEMPLATE("gradients have the same bits wherever columns begin", T, HOFT_ALL_SCALARS) {
  index_t const page = 4096 / index_t(sizeof(T));
  for (index_t const m : {index_t{70}, page - 3, page})
    for (index_t const r : {5, 9, 20}) {
      CAPTURE(m);
      CAPTURE(r);
      auto const Q = hoft::accumulate(hoft::cpu{}, gaussian<T>(m, r, 61));
      dense_matrix<T> const X = gaussian<T>(m, 57, 62), dY = gaussian<T>(m, 57, 63);
      auto const [dX, dU] = gradients_by<T>(Q, X, dY, m + 1);
      auto const [pages_dX, pages_dU] = gradients_by<T>(Q, X, dY, page);
      bool const same = same_bits(dX, pages_dX) && same_bits(dU, pages_dU);
      CHECK(same);
    }
}

TEST_CASE_TEMPLATE("dU is orthogonal to U, and scales as 1 / ‖u‖", T, HOFT_LAPACK_SCALARS) {
  using R = hoft::real_t<T>;
  index_t const m = 31, r = 6, n = 9;
  dense_matrix<T> const U = gaussian<T>(m, r, 41), X = gaussian<T>(m, n, 42), dY = gaussian<T>(m, n, 43);
  auto const g = hoft::apply_backward(hoft::accumulate(U), X, dY);
  auto const Uhat = widen(hoft::accumulate(U).vectors());
  long double const sizes = widen(X).norm() * widen(dY).norm();
  for (index_t j = 0; j < r; ++j) {
    // Removed by a projection, which leaves the rounding of its own sum and difference.
    long double const along = std::abs(Uhat.col(j).dot(widen(g.dU).col(j)));
    long double const length = widen(g.dU).col(j).norm();
    CHECK(along <= (2 * std::sqrt(static_cast<long double>(m)) + 10) * eps_of<T>() *
                       (length + gradient_bound<T>(m, r, n) * sizes / widen(U).col(j).norm() + sizes));
  }
  int const far = std::is_same_v<R, float> ? 100 : 660;
  for (int const exponent : {far, -far, 1, -1}) {
    dense_matrix<T> V = U;
    V.col(2) *= scalar_of<T>(std::ldexp(1.0L, exponent));
    V.col(4) *= scalar_of<T>(-std::ldexp(1.0L, exponent));
    auto const h = hoft::apply_backward(hoft::accumulate(V), X, dY);
    dense_matrix<T> expected = g.dU;  // to the bit, for powers of two
    expected.col(2) *= scalar_of<T>(std::ldexp(1.0L, -exponent));
    expected.col(4) *= scalar_of<T>(-std::ldexp(1.0L, -exponent));
    CHECK(same_bits(h.dU, expected));
    CHECK(same_bits(h.dX, g.dX));
  }
  long double const big = std::is_same_v<R, float> ? 1e30L : 1e200L;
  for (long double const alpha : {big, 1 / big}) {
    dense_matrix<T> const V = narrowed<T>(widen(U) * wide_t<T>(alpha));
    auto const Q = hoft::accumulate(V);
    auto const expected = reference_backward(V, X, dY);
    auto const bound = per_reflector<T>(V, X, dY, expected.U, n);
    CHECK(within(hoft::apply_backward(Q, X, dY).dU, expected.U, bound));
    dense_matrix<T> Y = X;
    hoft::apply(Q, Y);
    CHECK(within(hoft::apply_backward_from_output(Q, Y, dY).dU, expected.U, bound));
  }
}

TEST_CASE_TEMPLATE("subnormal columns: gradients that fit are right, the others are infinite", T, float, double) {
  index_t const m = 7, r = 3, n = 4;
  auto const tiny = static_cast<long double>(std::numeric_limits<T>::denorm_min());
  dense_matrix<T> U = gaussian<T>(m, r, 51);
  for (index_t i = 0; i < m; ++i) U(i, 1) = scalar_of<T>(tiny * static_cast<long double>((i * 5) % 7 - 3));
  dense_matrix<T> const X = gaussian<T>(m, n, 52), dY = gaussian<T>(m, n, 53);
  auto const expected = reference_backward(U, X, dY);
  auto const g = hoft::apply_backward(hoft::accumulate(U), X, dY);
  CHECK(within(g.dX, expected.X, per_line<T>(dY, dY, side::left, line_bound<T>(m, r))));
  for (index_t const j : {0, 2})
    CHECK(within(g.dU.col(j), expected.U.col(j), per_reflector<T>(U, X, dY, expected.U, n).col(j)));
  for (index_t i = 0; i < m; ++i) {
    REQUIRE(std::abs(expected.U(i, 1)) > 4 * static_cast<long double>(std::numeric_limits<T>::max()));
    CHECK(g.dU(i, 1) ==
          std::copysign(std::numeric_limits<T>::infinity(), static_cast<T>(expected.U(i, 1) > 0 ? 1 : -1)));
  }
  // Small gradients of the same columns fit.
  dense_matrix<T> const small = dY * (std::numeric_limits<T>::epsilon() / 64);
  auto const fits = reference_backward(U, X, small);
  CHECK(within(hoft::apply_backward(hoft::accumulate(U), X, small).dU.col(1), fits.U.col(1),
               per_reflector<T>(U, X, small, fits.U, n).col(1)));
}

TEST_CASE_TEMPLATE("gradients that do not fit 16-bit storage are infinities of their sign", T, HOFT_STORED_IN_16_BITS) {
  index_t const m = 8, r = 2, n = 3;
  auto const largest = static_cast<long double>(std::numeric_limits<T>::max());
  dense_matrix<T> U = gaussian<T>(m, r, 61);
  // Lengths so small that du, of order ‖X‖ ‖dY‖ / ‖u‖, is outside T.
  for (index_t i = 0; i < m; ++i)
    U(i, 1) = scalar_of<T>(static_cast<long double>(std::numeric_limits<T>::min()) / 64 *
                           static_cast<long double>((i * 3) % 8 + 1));
  dense_matrix<T> const X = gaussian<T>(m, n, 62), dY = gaussian<T>(m, n, 63, 4);
  auto const Q = hoft::accumulate(U);
  auto const expected = reference_backward(U, X, dY);
  gradients<T, col_major, T> const g(Q, from::input, X, dense_matrix<float>(r, n), dY, side::left, op::plain, false);
  auto const bound = per_reflector<T, T>(U, X, dY, expected.U, n);
  CHECK(within(g.dU.map().col(0), expected.U.col(0), bound.col(0)));
  index_t outside = 0;
  for (index_t i = 0; i < m; ++i) {
    auto const got = static_cast<float>(g.dU.map()(i, 1));
    long double const exact = expected.U(i, 1);
    if (std::abs(exact) > 1.01L * largest) {
      CHECK(got == std::copysign(std::numeric_limits<float>::infinity(), exact > 0 ? 1.0F : -1.0F));
      ++outside;
    } else if (std::abs(exact) < 0.99L * largest) {
      CHECK(std::abs(got - exact) <= bound(i, 1));
    }
  }
  CHECK(outside > 0);

  // dX of a dY at half's limit. (At bfloat16's, which is float's, the sums themselves overflow.)
  if constexpr (std::is_same_v<T, Eigen::half>) {
    dense_matrix<T> const most = dense_matrix<T>::Constant(m, n, scalar_of<T>(largest));
    auto const h = hoft::apply_backward(Q, X, most);
    auto const far = reference_backward(U, X, most);
    auto const dX_bound = per_line<T>(most, far.X, side::left, line_bound<T>(m, r));
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < m; ++i) {
        auto const got = static_cast<float>(h.dX(i, j));
        if (std::abs(far.X(i, j)) > 1.01L * largest) {
          CHECK(got == std::copysign(std::numeric_limits<float>::infinity(), far.X(i, j) > 0 ? 1.0F : -1.0F));
        } else {
          CHECK(std::abs(got - far.X(i, j)) <= dX_bound(i, j));
        }
      }
  }
}

TEST_CASE_TEMPLATE("16-bit gradients are rounded once", T, HOFT_STORED_IN_16_BITS) {
  index_t const m = 19, r = 5, n = 11;
  dense_matrix<T> const U = gaussian<T>(m, r, 71), X = gaussian<T>(m, n, 72), dY = gaussian<T>(m, n, 73);
  auto const Q = hoft::accumulate(U);
  auto const expected = reference_backward(U, X, dY);
  gradients<T, col_major, T> const g(Q, from::input, X, dense_matrix<float>(r, n), dY, side::left, op::plain, true);
  CHECK(within(g.dU.map(), expected.U, per_reflector<T, T>(U, X, dY, expected.U, n)));
}

TEST_CASE_TEMPLATE("a NaN or an infinity in any input comes out", T, float, std::complex<double>, Eigen::half) {
  auto const nan = scalar_of<T>(std::numeric_limits<long double>::quiet_NaN());
  auto const infinity = scalar_of<T>(std::numeric_limits<long double>::infinity());
  index_t const m = 13, r = 7, n = 5;
  dense_matrix<T> const U = gaussian<T>(m, r, 81), X = gaussian<T>(m, n, 82), dY = gaussian<T>(m, n, 83);
  for (T const bad : {nan, infinity})
    for (index_t const block : {64, 3}) {
      for (bool const alone : {false, true})
        for (index_t const row : {0, 12}) {
          dense_matrix<T> V = U;
          if (alone) V.col(4).setZero();
          V(row, 4) = bad;
          auto const g = hoft::apply_backward(hoft::accumulate(V, hoft::exact{}, block), X, dY);
          CHECK(all_nan(g.dX));
          CHECK(all_nan(g.dU));
        }
      auto const Q = hoft::accumulate(U, hoft::exact{}, block);
      auto const good = hoft::apply_backward(Q, X, dY);
      dense_matrix<T> broken = X;
      broken(3, 2) = bad;
      auto const of_X = hoft::apply_backward(Q, broken, dY);
      CHECK(same_bits(of_X.dX, good.dX));
      CHECK_FALSE(of_X.dU.array().isFinite().any());
      broken = dY;
      broken(12, 0) = bad;
      auto of_dY = hoft::apply_backward(Q, X, broken);
      CHECK_FALSE(of_dY.dU.array().isFinite().any());
      CHECK_FALSE(widen(of_dY.dX).col(0).array().isFinite().any());
      of_dY.dX.col(0) = good.dX.col(0);
      CHECK(same_bits(of_dY.dX, good.dX));
    }
}

// --- explicit tau --------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("dX, dV and dtau with explicit tau, at tau = 0 too", T, HOFT_ALL_SCALARS) {
  using A = hoft::accumulator_t<T>;
  unsigned seed = 100;
  for (auto const [m, r, n, block] : {shape{0, 0, 2, 64},
                                      {1, 1, 2, 64},
                                      {3, 3, 0, 64},
                                      {4, 2, 3, 64},
                                      {15, 9, 101, 4},
                                      {20, 20, 5, 64},
                                      {70, 66, 3, 64}})
    for (side s : sides)
      for (op o : ops) {
        std::string const label =
            text_of({{"m", m}, {"r", r}, {"n", n}, {"block", block}, {"side", index_t(s)}, {"op", index_t(o)}});
        INFO(label);
        dense_matrix<T> V = gaussian<T>(m, r, ++seed);
        column_vector<T> const tau = contracting_tau<T>(widen(V), ++seed);
        wide_matrix<T> v = widen(V);
        for (index_t j = 0; j < r; ++j)
          for (index_t i = 0; i <= j; ++i) {
            v(i, j) = i == j ? 1 : 0;
            V(i, j) = scalar_of<T>(std::numeric_limits<double>::quiet_NaN());  // not read
          }
        auto const Q = hoft::accumulate(V, tau, block);
        problem<T, col_major> const p(Q, n, s, o, ++seed);
        auto const expected = reference_backward(v, tau, p.X, p.dY, s, o);
        auto const dX_bound = per_line<T>(p.dY, expected.X, s, line_bound<T>(m, r));
        long double const sizes = widen(p.X).norm() * widen(p.dY).norm();
        bound_matrix dtau_bound(r, 1);
        // dtau_i = −(vᴴ dY)(vᴴ X)ᴴ between two partial products of norm at most 1: ‖v‖² times a product of two lines.
        for (index_t j = 0; j < r; ++j) dtau_bound(j, 0) = v.col(j).squaredNorm() * gradient_bound<T>(m, r, n) * sizes;
        for (from what : {from::input, from::output_and_projections}) {
          std::string const direction = text_of({{"from", index_t(what)}});
          INFO(direction);
          gradients<T, col_major, A> const g(Q, what, what == from::input ? p.X : p.Y, p.W, p.dY, s, o,
                                             what == from::input);
          // A reflector with tau = 0 does not feel its vector.
          bound_matrix dV_bound = dU_bound(p, v, expected.U, n, what);
          for (index_t j = 0; j < r; ++j)
            for (index_t i = 0; i < m; ++i)
              if (i <= j || tau(j) == T(0)) dV_bound(i, j) = 0;
          CHECK(within(g.dX.map(), expected.X, dX_bound));
          CHECK(within(g.dU.map(), expected.U, dV_bound));
          CHECK(within(g.dtau, expected.tau, dtau_bound));
        }
        auto const g = hoft::apply_backward(Q, p.X, p.dY, s, o);
        CHECK(within(g.dtau, expected.tau, dtau_bound));
      }
}

TEST_CASE_TEMPLATE("explicit tau of 2 / ‖v‖² is H(v): the gradients agree", T, double, std::complex<double>) {
  index_t const m = 14, r = 5, n = 6;
  dense_matrix<T> V = gaussian<T>(m, r, 201);
  column_vector<T> tau(r);
  for (index_t j = 0; j < r; ++j) {
    V.col(j).head(j).setZero();
    V(j, j) = T(1);
    tau(j) = T(2 / V.col(j).squaredNorm());
  }
  dense_matrix<T> const X = gaussian<T>(m, n, 202), dY = gaussian<T>(m, n, 203);
  auto const explicit_tau = hoft::apply_backward(hoft::accumulate(V, tau), X, dY);
  auto const implicit = hoft::apply_backward(hoft::accumulate(V), X, dY);
  // dL = Re tr(dVᴴ δV) + Re(conj(dtau) δtau) with δtau = −τ² Re(vᴴ δv).
  dense_matrix<T> expected = explicit_tau.dU;
  for (index_t j = 0; j < r; ++j) expected.col(j) -= V.col(j) * (tau(j) * tau(j) * std::real(explicit_tau.dtau(j)));
  for (index_t j = 0; j < r; ++j) {  // V's strict lower part is what both know of
    index_t const below = m - j - 1;
    CHECK(within(implicit.dU.col(j).tail(below), expected.col(j).tail(below),
                 4 * gradient_bound<T>(m, r, n) * widen(X).norm() * widen(dY).norm()));
  }
}

// --- the truncated inverse -----------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("dX and dU of the truncated inverse are those of the series", T, HOFT_ALL_SCALARS) {
  using A = hoft::accumulator_t<T>;
  unsigned seed = 300;
  for (auto const [m, r, n, terms] : {shape{3, 0, 2, 2},
                                      {1, 1, 2, 1},
                                      {4, 1, 0, 3},
                                      {6, 3, 2, 1},
                                      {24, 5, 99, 2},
                                      {40, 7, 3, 3},
                                      {30, 4, 5, 4},
                                      {300, 66, 2, 2}})
    for (side s : sides)
      for (op o : ops) {
        std::string const label =
            text_of({{"m", m}, {"r", r}, {"n", n}, {"terms", terms}, {"side", index_t(s)}, {"op", index_t(o)}});
        INFO(label);
        dense_matrix<T> U = gaussian<T>(m, r, ++seed);
        if (r > 3) U.col(2).setZero();
        auto const Q = hoft::accumulate(U, hoft::neumann{terms});
        neumann_form const series(U, terms);
        problem<T, row_major> const p(Q, n, s, o, ++seed);
        auto const expected = series.backward(widen(p.X), widen(p.dY), s, o);
        // One reflector's errors, which the sums of the series may let grow: once for dX, twice for a product of two
        // lines. line_bound of r reflectors, as in gradient_bound, is more than that of the sums over m + r terms.
        long double const line = line_bound<T>(m + r * terms, 1) * series.growth;
        long double const growth = series.growth * series.growth;
        for (from what : {from::input, from::output_and_projections}) {
          std::string const direction = text_of({{"from", index_t(what)}});
          INFO(direction);
          gradients<T, row_major, A> const g(Q, what, what == from::input ? p.X : p.Y, p.W, p.dY, s, o,
                                             what == from::input);
          CHECK(within(g.dX.map(), expected.X, per_line<T>(p.dY, expected.X, s, line)));
          CHECK(within(g.dU.map(), expected.U, dU_bound(p, U, expected.U, n, what, growth)));
        }
      }
}

TEST_CASE_TEMPLATE("neumann{r} has the gradients of the exact inverse", T, double, std::complex<double>) {
  index_t const m = 40, r = 5, n = 3;
  dense_matrix<T> const U = gaussian<T>(m, r, 401), X = gaussian<T>(m, n, 402), dY = gaussian<T>(m, n, 403);
  auto const exact = hoft::apply_backward(hoft::accumulate(U), X, dY);
  for (index_t const terms : {r, r + 2}) {
    auto const series = hoft::apply_backward(hoft::accumulate(U, hoft::neumann{terms}), X, dY);
    long double const growth = neumann_form(U, terms).growth;
    CHECK(within(series.dX, exact.dX, per_line<T>(dY, dY, side::left, line_bound<T>(m, r) * growth)));
    CHECK(within(series.dU, exact.dU, per_reflector<T>(U, X, dY, exact.dU, n, growth * growth)));
  }
}

// --- refusals ------------------------------------------------------------------------------------------------------

TEST_CASE("the backward pass refuses what it cannot do, before it writes") {
  index_t const m = 5, r = 3, n = 4;
  dense_matrix<double> const U = gaussian<double>(m, r, 501), X = gaussian<double>(m, n, 502);
  Eigen::VectorXd const tau = gaussian<double>(r, 1, 503);
  auto const Q = hoft::accumulate(U), truncated = hoft::accumulate(U, hoft::neumann{2}),
             with_tau = hoft::accumulate(U, tau);
  dense_matrix<double> const other = gaussian<double>(m, n + 1, 504), square = gaussian<double>(n, n, 505);
  CHECK_THROWS_WITH_AS(hoft::apply_backward_from_output(truncated, X, X),
                       "hoft::apply_backward_from_output: Q is built with neumann{k}, must be built with exact{}, or W "
                       "given, to recover the input from the output",
                       hoft::argument_error);
  CHECK_THROWS_WITH_AS(hoft::apply_backward_from_output(with_tau, X, X),
                       "hoft::apply_backward_from_output: Q is built with explicit tau, must be built with exact{}, or "
                       "W given, to recover the input from the output",
                       hoft::argument_error);
  CHECK_THROWS_WITH_AS(hoft::apply_backward(Q, X, other), "hoft::apply_backward: dY.cols is 5, must be == 4",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::apply_backward(Q, square, square), "hoft::apply_backward: X.rows is 4, must be == 5",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::apply_backward_from_output(Q, X, square, X),
                       "hoft::apply_backward_from_output: W.rows is 4, must be == 3", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::apply_backward(Q, X, X, side::right), "hoft::apply_backward: X.cols is 4, must be == 5",
                       hoft::shape_error);

  dense_matrix<double> const one = dense_matrix<double>::Constant(m, n, 1);
  dense_matrix<double> dX = one, dU = dense_matrix<double>::Constant(m, r, 1), narrow(m, r - 1);
  Eigen::VectorXd dtau = Eigen::VectorXd::Constant(r, 1), none;
  guarded_workspace work(hoft::apply_backward_workspace(hoft::cpu{}, with_tau.view(), hoft::as_view(X)));
  auto const call = [&](auto const& q, auto& du, auto& dt, hoft::workspace w) {
    hoft::apply_backward(hoft::cpu{}, q.view(), hoft::as_view(X), hoft::as_view(X), hoft::as_view(dX),
                         hoft::as_view(du), hoft::as_vector_view(dt), side::left, op::plain, w);
  };
  CHECK_THROWS_WITH_AS(call(with_tau, dU, none, work), "hoft::apply_backward: dtau.size is 0, must be == 3",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(call(Q, dU, dtau, work), "hoft::apply_backward: dtau.size is 3, must be == 0",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(call(Q, narrow, none, work), "hoft::apply_backward: dU.cols is 2, must be == 3",
                       hoft::shape_error);
  hoft::workspace small = work;
  --small.size;
  CHECK_THROWS_AS(call(with_tau, dU, dtau, small), hoft::workspace_error);
  CHECK(same_bits(dX, one));
  CHECK(same_bits(dU, dense_matrix<double>::Constant(m, r, 1)));
  CHECK(same_bits(dtau, Eigen::VectorXd::Constant(r, 1)));
}
