// SPDX-License-Identifier: BSD-3-Clause
// apply and materialize against reflectors one after another in long double.
#include <hoft/eigen/apply.hpp>
#include <hoft/eigen/apply_backward.hpp>

#include "support.hpp"

using namespace hoft_test;

namespace {

struct shape {
  index_t m, r, n, block;
};

// Sizes 0, 1, 2, odd; r > m; one more than a block; one around the widths of panels (96 columns, or 256 when lines are
// rows), of slabs (64 rows) and of the sums that a kernel makes in one sweep (64 reflectors; 256 or 512 terms; columns
// of 2048 and of 4096 bytes); several panels with reflectors to fetch the next one behind.
constexpr shape shapes[] = {
    {0, 0, 0, 64},      {0, 3, 2, 64},   {1, 0, 1, 64},     {1, 1, 0, 64},     {1, 1, 1, 64},      {2, 1, 2, 64},
    {2, 2, 1, 1},       {1, 3, 4, 64},   {5, 3, 0, 64},     {5, 0, 3, 64},     {7, 3, 1, 2},       {6, 9, 5, 4},
    {9, 9, 9, 64},      {33, 17, 19, 5}, {21, 8, 7, 1},     {64, 64, 8, 64},   {66, 65, 9, 64},    {40, 3, 96, 64},
    {12, 7, 97, 3},     {13, 5, 128, 9}, {11, 4, 129, 3},   {9, 2, 257, 1},    {97, 66, 5, 64},    {1030, 5, 3, 64},
    {270, 260, 2, 300}, {65, 8, 49, 64}, {129, 4, 313, 64}, {90, 70, 81, 128}, {530, 13, 131, 64}, {70, 8, 130, 64},
};

/// Both directions of an application by hand, its documented accuracy, and what must not be touched.
template <class T, class L, class DX, class DY>
void check_apply(hoft::compact_wy<hoft::accumulator_t<T>> const& Q, Eigen::MatrixBase<DX> const& X0,
                 Eigen::MatrixBase<DY> const& expected, bound_matrix const& bound, side s, op o) {
  padded<T, L> X(X0), Y(X0.rows(), X0.cols());
  hoft::apply(Q, X.map(), Y.map(), s, o);
  CHECK(within(Y.map(), expected, bound));
  CHECK(Y.intact());
  CHECK(X.intact());
  CHECK(same_bits(X.map(), X0));

  hoft::apply(Q, X.map(), s, o);
  CHECK(same_bits(X.map(), Y.map()));
  CHECK(X.intact());

  auto const q = Q.view();
  padded<T, L> const input(X0);
  guarded_workspace work(hoft::apply_workspace(hoft::cpu{}, q, input.view(), s));
  Y.map().setConstant(T(1));
  hoft::apply(hoft::cpu{}, q, input.view(), Y.view(), s, o, work);
  CHECK(same_bits(X.map(), Y.map()));
  CHECK(work.intact());
  CHECK(input.intact());

  dense_matrix<T, L> saved = X0;
  auto const W = hoft::apply_and_save(Q, saved, s, o);
  CHECK(same_bits(saved, X.map()));
  CHECK(W.rows() == Q.rank());
  CHECK(W.cols() == (s == side::left ? X0.cols() : X0.rows()));
}

template <class T, class L>
void check_against_reference() {
  unsigned seed = 100;
  for (auto const [m, r, n, block] : shapes) {
    std::string const label = text_of({{"m", m}, {"r", r}, {"n", n}, {"block", block}});
    INFO(label);
    dense_matrix<T, L> const U = gaussian<T, L>(m, r, ++seed);
    padded<T, L> const stored(U);
    auto const Q = hoft::accumulate(stored.map(), hoft::exact{}, block);
    for (side s : sides)
      for (op o : ops) {
        std::string const how = text_of({{"s", index_t(s)}, {"o", index_t(o)}});
        INFO(how);
        dense_matrix<T, L> const X = s == side::left ? gaussian<T, L>(m, n, ++seed) : gaussian<T, L>(n, m, ++seed);
        auto const Y = reference_apply(U, X, s, o);
        check_apply<T, L>(Q, X, Y, per_line<T>(X, Y, s, line_bound<T>(m, r)), s, o);
      }
  }
}

/// Reflectors I − τ v vᴴ of norm at most 1: |1 − τ ‖v‖²| ≤ 1. Some are unitary, some shrink, every fifth is the
/// identity.
template <class T>
dense_matrix<T> contracting_tau(wide_matrix<T> const& V, unsigned seed) {
  wide_matrix<T> const random = widen(gaussian<T>(V.cols(), 1, seed));
  dense_matrix<T> tau(V.cols(), 1);
  for (index_t k = 0; k < V.cols(); ++k) {
    long double const square = 1 + V.col(k).tail(V.rows() - k - 1).squaredNorm();
    wide_t<T> const shift = random(k, 0) / std::max(1.0L, std::abs(random(k, 0)));  // inside the unit disc
    wide_t<T> const value = k % 5 == 2 ? wide_t<T>(0) : (1.0L - shift) / square;
    tau(k, 0) = scalar_of<T>(std::real(value), std::imag(value));
  }
  return tau;
}

}  // namespace

TEST_CASE_TEMPLATE("apply against reflectors one after another, column-major", T, HOFT_ALL_SCALARS) {
  check_against_reference<T, col_major>();
}
TEST_CASE_TEMPLATE("apply against reflectors one after another, row-major", T, HOFT_ALL_SCALARS) {
  check_against_reference<T, row_major>();
}

TEST_CASE_TEMPLATE("apply with tau against reflectors one after another", T, HOFT_ALL_SCALARS) {
  unsigned seed = 300;
  for (auto const [m, r, n, block] : {shape{1, 1, 2, 64}, {3, 0, 2, 64}, {5, 5, 3, 2}, {21, 13, 9, 4}, {70, 65, 3, 64}})
    for (side s : sides)
      for (op o : ops) {
        std::string const label = text_of({{"m", m}, {"r", r}, {"s", index_t(s)}, {"o", index_t(o)}});
        INFO(label);
        dense_matrix<T, row_major> V = gaussian<T, row_major>(m, r, ++seed);
        dense_matrix<T> const tau = contracting_tau<T>(widen(V), ++seed);
        Eigen::Matrix<T, Eigen::Dynamic, 1> const tau_vector = tau;
        dense_matrix<T> const X = s == side::left ? gaussian<T>(m, n, ++seed) : gaussian<T>(n, m, ++seed);
        auto const Y = reference_apply(V, tau, X, s, o);
        for (index_t j = 0; j < r; ++j)  // not read
          for (index_t i = 0; i <= j; ++i) V(i, j) = scalar_of<T>(std::numeric_limits<double>::quiet_NaN());
        auto const Q = hoft::accumulate(V, tau_vector, block);
        check_apply<T, col_major>(Q, X, Y, per_line<T>(X, Y, s, line_bound<T>(m, r)), s, o);
      }
}

TEST_CASE_TEMPLATE("apply with the truncated inverse against the series by powers", T, HOFT_ALL_SCALARS) {
  unsigned seed = 400;
  for (auto const [m, r, n, terms] :
       {shape{1, 1, 2, 1}, {5, 0, 2, 3}, {6, 3, 2, 1}, {24, 7, 5, 2}, {40, 9, 3, 3}, {50, 8, 4, 5}, {300, 66, 2, 2}})
    for (side s : sides)
      for (op o : ops) {
        std::string const label = text_of({{"m", m}, {"r", r}, {"terms", terms}, {"s", index_t(s)}, {"o", index_t(o)}});
        INFO(label);
        dense_matrix<T> U = gaussian<T>(m, r, ++seed);
        if (r > 2) U.col(1).setZero();
        dense_matrix<T, row_major> const X =
            s == side::left ? gaussian<T, row_major>(m, n, ++seed) : gaussian<T, row_major>(n, m, ++seed);
        neumann_form const series(U, terms);
        auto const Y = series.apply(widen(X), s, o);
        auto const Q = hoft::accumulate(U, hoft::neumann{terms});
        CHECK(Q.block() == std::max<index_t>(1, r));
        // The sums are those of one reflector, over m elements of Û and r of each term, and grow as the series does.
        long double const relative = line_bound<T>(m + r * terms, 1) * series.growth;
        check_apply<T, row_major>(Q, X, Y, per_line<T>(X, Y, s, relative), s, o);
      }
}

TEST_CASE_TEMPLATE("apply_and_save returns UᴴX of each factor", T, HOFT_ALL_SCALARS) {
  index_t const m = 19, r = 7, block = 3;
  dense_matrix<T> const U = gaussian<T>(m, r, 501);
  auto const Q = hoft::accumulate(U, hoft::exact{}, block);
  auto const Uhat = widen(Q.vectors());
  for (index_t n : {1, 6, 131})
    for (side s : sides)
      for (op o : ops) {
        std::string const label = text_of({{"n", n}, {"s", index_t(s)}, {"o", index_t(o)}});
        INFO(label);
        dense_matrix<T> X = s == side::left ? gaussian<T>(m, n, 502) : gaussian<T>(n, m, 502);
        // From the right, X Q = (Qᴴ Xᴴ)ᴴ: the factors meet X from the first to the last, and W = (X U)ᵀ.
        wide_matrix<T> const x = widen(X);
        wide_matrix<T> expected(r, n);
        bound_matrix bound(r, n);
        for (index_t first : {0, 3, 6}) {
          index_t const k = std::min(block, r - first);
          index_t const before = (s == side::left) == (o == op::plain) ? first + k : 0;
          index_t const count = (s == side::left) == (o == op::plain) ? r - before : first;
          auto const state = reference_apply(U.middleCols(before, count), X, s, o);
          wide_matrix<T> const u = Uhat.middleCols(first, k);
          wide_matrix<T> const w =
              s == side::left ? times(adjoint_copy(u), state) : wide_matrix<T>(times(state, u).transpose());
          expected.middleRows(first, k) = w;
        }
        for (index_t j = 0; j < n; ++j)
          bound.col(j).setConstant(line_bound<T>(m, r) * (s == side::left ? x.col(j).norm() : x.row(j).norm()));
        auto const W = hoft::apply_and_save(Q, X, s, o);
        CHECK(within(W, expected, bound));
      }
}

TEST_CASE_TEMPLATE("materialize is apply to columns of the identity", T, HOFT_ALL_SCALARS) {
  using A = hoft::accumulator_t<T>;
  for (auto const [m, r, k, block] :
       {shape{0, 0, 0, 64}, {1, 1, 1, 64}, {5, 2, 0, 64}, {9, 4, 5, 3}, {33, 40, 33, 7}}) {
    std::string const label = text_of({{"m", m}, {"r", r}});
    INFO(label);
    dense_matrix<T> const U = gaussian<T>(m, r, 510 + unsigned(m));
    auto const Q = hoft::accumulate(U, hoft::exact{}, block);
    wide_matrix<T> const identity = wide_matrix<T>::Identity(m, k);
    CHECK(within(hoft::materialize(Q, k), reference_apply(U, identity), line_bound<T>(m, r)));

    padded<A, row_major> E(m, k);
    guarded_workspace work(hoft::materialize_workspace(hoft::cpu{}, Q.view(), E.view()));
    hoft::materialize(hoft::cpu{}, Q.view(), E.view(), work);
    CHECK(within(E.map(), reference_apply(U, identity), line_bound<T>(m, r)));
    CHECK(E.intact());
    CHECK(work.intact());
  }
}

TEST_CASE_TEMPLATE("the adjoint undoes, lengths stay, and both sides agree", T, HOFT_ALL_SCALARS) {
  for (auto const [m, r, n, block] : {shape{24, 5, 7, 64}, {67, 66, 3, 16}, {8, 20, 9, 6}}) {
    std::string const label = text_of({{"m", m}});
    INFO(label);
    dense_matrix<T> const U = gaussian<T>(m, r, 520), X = gaussian<T>(m, n, 521);
    auto const Q = hoft::accumulate(U, hoft::exact{}, block);
    long double const once = line_bound<T>(m, r);
    for (op o : ops) {
      dense_matrix<T> Y = X;
      hoft::apply(Q, Y, side::left, o);
      auto const x = widen(X), y = widen(Y);
      for (index_t j = 0; j < n; ++j) {  // stored: each element is rounded once
        long double const change = std::abs(y.col(j).norm() - x.col(j).norm());
        CHECK(change <= (once + storage_rounding<T>()) * x.col(j).norm());
      }
      // (Qᴴ Q X)ᴴ = Xᴴ (Qᴴ Q): the same numbers from the right.
      dense_matrix<T> rows =
          widen(X).adjoint().unaryExpr([](wide_t<T> const& a) { return scalar_of<T>(std::real(a), std::imag(a)); });
      hoft::apply(Q, rows, side::right, hoft::adjoint_of(o));
      wide_matrix<T> const from_right = widen(rows).adjoint();
      CHECK(within(from_right, y, per_line<T>(X, Y, side::left, 2 * once) * 2));

      hoft::apply(Q, Y, side::left, hoft::adjoint_of(o));
      CHECK(within(Y, x, per_line<T>(X, X, side::left, 2 * once + storage_rounding<T>())));
    }
  }
}

TEST_CASE_TEMPLATE("a NaN or an infinity in X stays in its line", T, HOFT_ALL_SCALARS) {
  index_t const m = 21, r = 6, n = 13;
  dense_matrix<T> const U = gaussian<T>(m, r, 530);
  auto const Q = hoft::accumulate(U, hoft::exact{}, 4);
  for (long double bad : {std::numeric_limits<long double>::quiet_NaN(), std::numeric_limits<long double>::infinity(),
                          -std::numeric_limits<long double>::infinity()})
    for (side s : sides)
      for (op o : ops) {
        std::string const label = text_of({{"s", index_t(s)}, {"o", index_t(o)}});
        INFO(label);
        dense_matrix<T> good = s == side::left ? gaussian<T>(m, n, 531) : gaussian<T>(n, m, 531);
        dense_matrix<T> broken = good;
        if (s == side::left) broken(20, 5) = scalar_of<T>(bad);
        else broken(5, 20) = scalar_of<T>(bad);
        hoft::apply(Q, good, s, o);
        hoft::apply(Q, broken, s, o);
        auto const line =
            s == side::left ? wide_matrix<T>(widen(broken).col(5)) : wide_matrix<T>(widen(broken).row(5).transpose());
        for (index_t i = 0; i < m; ++i) CHECK_FALSE(std::isfinite(std::abs(line(i, 0))));
        if (std::isnan(bad)) CHECK(all_nan(line));
        if (s == side::left) broken.col(5) = good.col(5);
        else broken.row(5) = good.row(5);
        CHECK(same_bits(broken, good));
      }
}

TEST_CASE("half near its limits") {
  using T = Eigen::half;
  index_t const m = 12, n = 6;
  long double const largest = 65504;
  dense_matrix<T> const U = dense_matrix<T>::Constant(m, 1, scalar_of<T>(largest));  // a norm outside the type
  dense_matrix<T> X = dense_matrix<T>::Zero(m, n);
  X.row(0).setConstant(scalar_of<T>(largest));
  X.col(1) *= scalar_of<T>(-1);
  X.col(2).setConstant(scalar_of<T>(largest));
  X.col(3).setConstant(std::numeric_limits<T>::denorm_min());
  auto const Y = reference_apply(U, X);
  dense_matrix<T> got = X;
  hoft::apply(hoft::accumulate(U), got);
  CHECK(within(got, Y, per_line<T>(X, Y, side::left, line_bound<T>(m, 1))));
}

TEST_CASE_TEMPLATE("a result outside 16-bit storage is an infinity of its sign", T, HOFT_STORED_IN_16_BITS) {
  // The reflector that swaps (c, c) and (√2 c, 0).
  long double const angle = std::acos(-1.0L) / 8, largest = static_cast<long double>(std::numeric_limits<T>::max());
  dense_matrix<T> u(2, 1), X(2, 2);
  u << scalar_of<T>(-std::sin(angle)), scalar_of<T>(std::cos(angle));
  X.col(0).setConstant(scalar_of<T>(0.75L * largest));  // sums of two stay inside bfloat16's type, float
  X.col(1).setConstant(scalar_of<T>(-0.75L * largest));
  auto const Y = reference_apply(u, X);
  REQUIRE(Y(0, 0) > 1.05L * largest);
  hoft::apply(hoft::accumulate(u), X);
  CHECK(static_cast<float>(X(0, 0)) == std::numeric_limits<float>::infinity());
  CHECK(static_cast<float>(X(0, 1)) == -std::numeric_limits<float>::infinity());
  CHECK(std::abs(static_cast<long double>(X(1, 0))) < 0.01L * largest);
  CHECK(std::abs(static_cast<long double>(X(1, 1))) < 0.01L * largest);
}

TEST_CASE("apply refuses shapes that do not fit, before it writes") {
  auto const Q = hoft::accumulate(gaussian<double>(5, 2, 540));
  dense_matrix<double> const X0 = gaussian<double>(4, 6, 541);
  dense_matrix<double> X = X0, Y = X0;
  CHECK_THROWS_WITH_AS(hoft::apply(Q, X), "hoft::apply: X.rows is 4, must be == 5", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::apply(Q, X, side::right), "hoft::apply: X.cols is 6, must be == 5", hoft::shape_error);
  dense_matrix<double> const fits = gaussian<double>(5, 6, 542);
  CHECK_THROWS_WITH_AS(hoft::apply(Q, fits, Y), "hoft::apply: Y.rows is 4, must be == 5", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::materialize(Q, 6), "hoft::materialize: k is 6, must be <= 5", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::materialize(Q, -1), "hoft::materialize: k is -1, must be >= 0", hoft::shape_error);
  dense_matrix<double> Z = fits, W(2, 5);
  guarded_workspace work(hoft::apply_workspace(hoft::cpu{}, Q.view(), hoft::as_view(Z)));
  CHECK_THROWS_WITH_AS(hoft::apply(hoft::cpu{}, Q.view(), hoft::as_view(Z), hoft::as_view(Z), side::left, op::plain,
                                   work, hoft::as_view(W)),
                       "hoft::apply: W.cols is 5, must be == 6", hoft::shape_error);
  hoft::workspace small = work;
  --small.size;
  CHECK_THROWS_AS(hoft::apply(hoft::cpu{}, Q.view(), hoft::as_view(Z), hoft::as_view(Z), side::left, op::plain, small),
                  hoft::workspace_error);
  CHECK(same_bits(X, X0));
  CHECK(same_bits(Y, X0));
  CHECK(same_bits(Z, fits));
}

// More than 8 MiB, so that outputs are stored past the caches; in tiles of every width (6 and 4, then 3 = 2 + 1 lines).
// Whole vectors cannot be stored `offset` elements behind an aligned address, nor in each line where `gap` elements lie
// between two, and must not be.
template <class T, class L>
void check_large_outputs(index_t r, index_t offset, index_t gap = 0) {
  constexpr bool by_columns = std::is_same_v<L, col_major>;
  constexpr index_t m = by_columns ? 1040 : 1041, n = by_columns ? 2019 : 2032;
  constexpr index_t lines = by_columns ? n : m;
  std::string const label = text_of({{"r", r}, {"offset", offset}, {"gap", gap}});
  INFO(label);
  auto const Q = hoft::accumulate(gaussian<T>(m, r, 7));
  dense_matrix<T, L> const X = gaussian<T, L>(m, n, 8), dY = gaussian<T, L>(m, n, 9);
  std::vector<T> memory(std::size_t(m * n + lines * gap + 128));
  auto const address = reinterpret_cast<std::uintptr_t>(memory.data());
  T* const aligned = memory.data() + (128 - address % 128) % 128 / sizeof(T);
  hoft::matrix_view<T, L> const out(aligned + offset, m, n, m * n / lines + gap);

  dense_matrix<T, L> in_place = X;
  hoft::apply(Q, X, hoft::as_eigen(out));
  hoft::apply(Q, in_place);
  CHECK(same_bits(in_place, hoft::as_eigen(out)));
  hoft::as_eigen(out).setZero();
  hoft::apply(hoft::cpu{.threads = 3}, Q, X, hoft::as_eigen(out));
  CHECK(same_bits(in_place, hoft::as_eigen(out)));

  auto const q = Q.view();
  dense_matrix<T, L> dX = dY;
  dense_matrix<T> dU(m, r), dU_in_place(m, r);
  guarded_workspace work(hoft::apply_backward_workspace(hoft::cpu{}, q, hoft::as_view(X)));
  hoft::apply_backward(hoft::cpu{}, q, hoft::as_view(X), hoft::as_view(dY), out, hoft::as_view(dU),
                       hoft::vector_view<T>{}, side::left, op::plain, work);
  hoft::apply_backward(hoft::cpu{}, q, hoft::as_view(X), hoft::as_view(std::as_const(dX)), hoft::as_view(dX),
                       hoft::as_view(dU_in_place), hoft::vector_view<T>{}, side::left, op::plain, work);
  CHECK(same_bits(dX, hoft::as_eigen(out)));
  CHECK(same_bits(dU, dU_in_place));
}

TEST_CASE_TEMPLATE("large outputs, stored past the caches, have the bits of results in place", T, float, double) {
  for (index_t const offset : {0, 1}) {
    check_large_outputs<T, col_major>(3, offset);
    check_large_outputs<T, row_major>(3, offset);
  }
  check_large_outputs<T, col_major>(3, 0, 1);
  check_large_outputs<T, row_major>(3, 0, 1);
  check_large_outputs<T, col_major>(70, 0);
  check_large_outputs<T, row_major>(70, 0);
}
