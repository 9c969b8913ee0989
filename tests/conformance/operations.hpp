// SPDX-License-Identifier: BSD-3-Clause
// Each operation of a backend by itself (backend/concept.hpp, defaults.hpp) against plain loops in long double.
#pragma once
#include "../support.hpp"

#include <hoft/backend/concept.hpp>
#include <hoft/householder/compact_wy.hpp>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

namespace hoft_test {

/// Products have [m, r] and [r, n]: empty, one, odd, more than a warp or a slab of the CPU.
inline constexpr index_t product_shapes[][3] = {{0, 0, 0}, {0, 3, 2}, {5, 3, 0},   {5, 0, 3},
                                                {1, 1, 1}, {2, 1, 3}, {33, 7, 19}, {131, 20, 41}};

/// T: the accumulator type, L: the layout of panels.
template <class Policy, class T, class L>
class operation_tests {
 public:
  using O = hoft::ops<Policy>;
  using W = wide_t<T>;
  using real = hoft::real_t<T>;
  using wide = deducible<W>;

  explicit operation_tests(Policy const& on) : policy(on) {}

  void check_elements() const {
    for (auto const& [m, r, n] : product_shapes) {
      std::string const label = text_of({{"m", m}, {"r", r}, {"n", n}});
      INFO(label);
      check_elements(m, n);
      check_rows(m, n);
      check_columns(m, r);
    }
  }
  void check_products() const {
    for (auto const& [m, r, n] : product_shapes) {
      std::string const label = text_of({{"m", m}, {"r", r}, {"n", n}});
      INFO(label);
      check_products(m, r, n);
      check_small(r, n);
      check_packed(m, r, n);
    }
  }

  /// Zero, huge, tiny, subnormal and NaN columns.
  void check_normalise() const {
    index_t const m = 37, r = 8;
    real const far = std::sqrt(std::numeric_limits<real>::max());
    dense_matrix<T, L> U = gaussian<T, L>(m, r, 31);
    U.col(1).setZero();
    U.col(2) *= T(far);
    U.col(3) *= T(1 / far / 16);
    U.col(4).setZero(), U(m - 1, 4) = T(1 / far / 16);
    U(7, 5) = T(std::numeric_limits<real>::quiet_NaN());
    U.col(6) *= T(std::numeric_limits<real>::min() / 64);  // the inverse of its norm is infinite
    U.col(7).setConstant(U(7, 5));                         // a largest element that drops NaN says zero
    padded<T, L> const u(U);
    padded<T> Uhat(m, r);
    padded<real> scales(2, r);
    O::normalise_columns(policy, u.view(), Uhat.view(), scales.view());
    CHECK((u.intact() && Uhat.intact() && scales.intact()));
    dense_matrix<T> const D = gaussian<T>(m, r, 32);
    padded<T> d(D);
    padded<T, L> dU(m, r);
    std::vector<T> tau(std::size_t(r), T(2));
    tau[1] = T(0);
    auto const constant = [](auto const& A) { return std::as_const(A).view(); };
    O::normalise_columns_backward(policy, constant(Uhat), constant(scales), vector(std::as_const(tau)), d.view(),
                                  dU.view());
    CHECK(dU.intact());
    for (index_t j = 0; j < r; ++j) {
      INFO(j);
      if (j == 5 || j == 7) {
        CHECK(all_nan(Uhat.map().col(j)));
        CHECK(all_nan(dU.map().col(j)));
        continue;
      }
      real const mu = scales.map()(0, j), nu = scales.map()(1, j);
      if (j == 1) {
        CHECK(mu == 0);
        CHECK(Uhat.map().col(j).isZero(0));
        CHECK(dU.map().col(j).isZero(0));
        continue;
      }
      int exponent = 0;
      CHECK(std::frexp(mu, &exponent) == real(0.5));
      wide const column = widen(U).col(j);
      long double const length = column.norm(), sums = 2 * (std::sqrt(37.0L) + 5) * eps_of<T>();
      CHECK(std::abs(static_cast<long double>(mu) * static_cast<long double>(nu) - length) <= sums * length);
      CHECK(within(Uhat.map().col(j), wide(column / length), sums));
      if (j == 6) continue;  // its gradient overflows
      wide const hat = column / length, given = widen(D).col(j);
      wide const expected = (given - hat * hat.col(0).dot(given.col(0))) / length;
      CHECK(within(dU.map().col(j), expected, 4 * sums * given.norm() / length));
    }
  }

  void check_triangle() const {
    for (index_t r : {0, 1, 2, 7, 40}) {
      INFO(r);
      index_t const m = 50;
      check_gram(gaussian<T>(m, r, 41));
      dense_matrix<T> A = gaussian<T>(r, r, 42, 0.3 / std::sqrt(double(std::max<index_t>(r, 1))));
      A = dense_matrix<T>(A.template triangularView<Eigen::StrictlyUpper>());
      std::vector<T> tau = elements(gaussian<T>(r, 1, 43));
      if (r > 2) tau[2] = T(0);
      check_form_factor(A, tau);
      for (op o : ops) check_inverse_factor(A, tau, gaussian<T, L>(r, 11, 44), o);
    }
  }

  /// Panels cover the columns once, workers and slots have numbers below what was announced.
  void check_walks() const {
    index_t const workers = O::worker_count(policy);
    CHECK(workers >= 1);
    for (index_t n : {0, 1, 2, 33, 1000}) {
      INFO(n);
      std::size_t const count = std::size_t(n);
      for (index_t width : {index_t{1}, index_t{16}, O::template panel_width<T, L>(policy, 64, 0)}) {
        std::vector<std::atomic<int>> seen(count), summed(count);
        std::atomic<bool> in_range{true};
        auto const body = [&](auto& of, index_t busy) {
          return [&, n, busy](index_t worker, auto const& p) {
            if (worker < 0 || worker >= busy || p.count < 1 || p.first + p.count + p.next > n) in_range = false;
            for (index_t j = 0; j < p.count && p.first + j < n; ++j) ++of[std::size_t(p.first + j)];
          };
        };
        index_t const of_panels = O::panel_workers(policy, n, width), of_sums = O::sum_workers(policy, n, width);
        CHECK((of_panels <= workers && of_sums <= workers));
        O::for_each_panel(policy, n, width, body(seen, of_panels));
        std::atomic<int> cleared{0}, merged{0};
        O::for_each_panel_summed(
            policy, n, width, [&](index_t worker) { ++cleared, in_range = in_range && worker < of_sums; },
            body(summed, of_sums), [&](index_t worker) { ++merged, in_range = in_range && worker < of_sums; });
        CHECK(in_range);
        CHECK(cleared == merged);
        CHECK((cleared > 0) == (n > 0));
        for (auto const* of : {&seen, &summed})
          CHECK(std::all_of(of->begin(), of->end(), [](int c) { return c == 1; }));
      }
      std::vector<std::atomic<int>> seen(count);
      index_t const slots = O::problems_at_once(policy, n);
      std::atomic<bool> in_range{true};
      O::for_each_problem(policy, n, [&](auto const&, index_t slot, index_t i) {
        if (slot < 0 || slot >= slots) in_range = false;
        ++seen[std::size_t(i)];
      });
      CHECK(in_range);
      CHECK(std::all_of(seen.begin(), seen.end(), [](int c) { return c == 1; }));
    }
  }

 private:
  using column_bounds = bound_matrix;

  static hoft::vector_view<T const> vector(std::vector<T> const& v) { return {v.data(), index_t(v.size())}; }
  static hoft::vector_view<T> vector(std::vector<T>& v) { return {v.data(), index_t(v.size())}; }
  static std::vector<T> elements(dense_matrix<T> const& column) {
    return {column.data(), column.data() + column.size()};
  }
  static wide as_column(std::vector<T> const& v) {
    return widen(Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1> const>(v.data(), index_t(v.size())));
  }
  /// Errors of X + alpha A B with A [m, k]: λ √k u of the terms, and a few roundings (support.hpp).
  static bound_matrix product_bound(wide const& A, wide const& B, long double alpha = 1) {
    long double const k = static_cast<long double>(A.cols());
    return bound_matrix(times(bound_matrix(A.cwiseAbs()), bound_matrix(B.cwiseAbs())) *
                        (2 * alpha * (std::sqrt(k) + 4) * eps_of<T>()));
  }
  static bound_matrix rounded(wide const& A) { return bound_matrix(A.cwiseAbs() * (4 * eps_of<T>())); }

  void check_elements(index_t m, index_t n) const {
    dense_matrix<T, L> const X = gaussian<T, L>(m, n, 1), Z = gaussian<T, L>(m, n, 2);
    padded<T, L> const x(X);
    padded<T, L> y(m, n);
    padded<T, hoft::transposed_layout<L>> t(m, n);
    O::copy(policy, x.view(), t.view());
    CHECK((t.intact() && same_bits(dense_matrix<T>(t.map()), dense_matrix<T>(X))));
    O::copy(policy, x.view(), y.view());
    O::copy(policy, std::as_const(y).view(), y.view());  // to itself: nothing happens
    CHECK((y.intact() && same_bits(y.map(), X)));
    O::add(policy, hoft::as_view(Z), y.view());
    CHECK(within(y.map(), wide(widen(X) + widen(Z)), rounded(widen(X) + widen(Z))));
    O::negate(policy, y.view());
    CHECK(within(y.map(), wide(-widen(X) - widen(Z)), rounded(widen(X) + widen(Z))));
    O::fill(policy, T(3), y.view());
    CHECK((y.intact() && same_bits(y.map(), dense_matrix<T, L>::Constant(m, n, T(3)))));
    O::set_identity(policy, y.view());
    CHECK((y.intact() && same_bits(y.map(), dense_matrix<T, L>::Identity(m, n))));
    O::conjugate_copy(policy, x.view(), y.view());
    CHECK((y.intact() && same_bits(y.map(), dense_matrix<T, L>(X.conjugate()))));
    O::conjugate_in_place(policy, y.view());
    CHECK((y.intact() && same_bits(y.map(), X)));
    check_triangles(X, x);
    if constexpr (std::same_as<T, float>) check_conversion(x);
  }

  void check_triangles(dense_matrix<T, L> const& X, padded<T, L> const& x) const {
    index_t const m = X.rows(), n = X.cols();
    padded<T> V(m, n);
    padded<T, L> lower(m, n);
    O::unit_lower(policy, x.view(), V.view());
    O::strictly_lower(policy, std::as_const(V).view(), lower.view());
    dense_matrix<T> unit(m, n), strict(m, n), upper(m, n);
    for (index_t j = 0; j < n; ++j)
      for (index_t i = 0; i < m; ++i) {
        strict(i, j) = i > j ? X(i, j) : T(0);
        unit(i, j) = i == j ? T(1) : strict(i, j);
        upper(i, j) = i < j ? X(i, j) : T(0);
      }
    CHECK((V.intact() && same_bits(V.map(), unit)));
    CHECK((lower.intact() && same_bits(dense_matrix<T>(lower.map()), strict)));
    V.map() = X;
    O::keep_strictly_upper(policy, V.view());
    CHECK((V.intact() && same_bits(V.map(), upper)));
  }

  /// To 16 bits and back, by way of float.
  void check_conversion(padded<float, L> const& x) const {
    auto const X = x.map();
    padded<Eigen::half, hoft::transposed_layout<L>> half(X.rows(), X.cols());
    padded<float, L> back(X.rows(), X.cols());
    O::copy(policy, x.view(), half.view());
    O::copy(policy, std::as_const(half).view(), back.view());
    CHECK((half.intact() && back.intact()));
    bool same = true;
    for (index_t j = 0; j < X.cols(); ++j)
      for (index_t i = 0; i < X.rows(); ++i) same = same && back.map()(i, j) == float(Eigen::half(X(i, j)));
    CHECK(same);
  }

  void check_rows(index_t m, index_t n) const {
    dense_matrix<T, L> const X = gaussian<T, L>(m, n, 3), Y = gaussian<T, L>(m, n, 4);
    std::vector<T> d = elements(gaussian<T>(m, 1, 5));
    for (op o : ops) {
      wide expected = widen(X);
      for (index_t i = 0; i < m; ++i)
        expected.row(i) *= o == op::plain ? widened(d[std::size_t(i)]) : conjugate_of(widened(d[std::size_t(i)]));
      padded<T, L> y(m, n);
      O::scale_rows(policy, vector(std::as_const(d)), o, hoft::as_view(X), y.view());
      CHECK((y.intact() && within(y.map(), expected, rounded(expected))));
      y.map() = X;
      O::scale_rows(policy, vector(std::as_const(d)), o, std::as_const(y).view(), y.view());
      CHECK((y.intact() && within(y.map(), expected, rounded(expected))));
      if (o == op::plain) {
        O::divide_rows(policy, vector(std::as_const(d)), y.view());
        CHECK((y.intact() && within(y.map(), widen(X), bound_matrix(2 * rounded(widen(X))))));
      }
    }
    wide sums = as_column(d);
    bound_matrix bound = rounded(sums);
    for (index_t i = 0; i < m; ++i) {
      wide const row = widen(X.row(i)), other = adjoint_copy(widen(Y.row(i)));
      sums.row(i) += times(row, other);
      bound.row(i) += product_bound(row, other) + rounded(sums).row(i);
    }
    O::add_row_dots(policy, hoft::as_view(X), hoft::as_view(Y), vector(d));
    CHECK(within(as_column(d), sums, bound));
    if (m > 1) {
      d[1] = T(0);
      index_t const zero = O::find_zero(policy, vector(std::as_const(d)));
      CHECK((zero == 1 || zero == -1));
      d[1] = T(1);
    }
    CHECK(O::find_zero(policy, vector(std::as_const(d))) == -1);
  }

  void check_columns(index_t m, index_t r) const {
    padded<T> X(gaussian<T>(m, r, 6)), Y(gaussian<T>(m, r, 7));
    std::vector<T> d(static_cast<std::size_t>(r), T(std::numeric_limits<real>::quiet_NaN()));
    O::column_dots(policy, X.view(), Y.view(), vector(d));
    for (index_t j = 0; j < r; ++j) {
      wide const x = adjoint_copy(widen(X.map().col(j))), y = widen(Y.map().col(j));
      CHECK(within(as_column({d[std::size_t(j)]}), times(x, y), product_bound(x, y)));
    }
    padded<T> D(r, r);
    O::set_diagonal(policy, vector(std::as_const(d)), D.view());
    CHECK((D.intact() && same_bits(D.map(), dense_matrix<T>(hoft::as_eigen(vector(d)).asDiagonal()))));
  }

  void check_products(index_t m, index_t r, index_t n) const {
    dense_matrix<T> const U = gaussian<T>(m, r, 11);
    dense_matrix<T, L> const X = gaussian<T, L>(m, n, 12), Z = gaussian<T, L>(r, n, 13);
    wide const u = widen(U), x = widen(X), z = widen(Z);
    padded<T, L> w(r, n), y(m, n);
    padded<T, hoft::transposed_layout<L>> turned(r, n);
    wide const projected = times(adjoint_copy(u), x);
    O::project(policy, hoft::as_view(U), hoft::as_view(X), w.view());
    O::project(policy, hoft::as_view(U), hoft::as_view(X), turned.view());
    CHECK((w.intact() && turned.intact()));
    CHECK(within(w.map(), projected, product_bound(adjoint_copy(u), x)));
    CHECK(within(turned.map(), projected, product_bound(adjoint_copy(u), x)));
    T const alpha = scalar_of<T>(-1.5, 0.5);
    long double const size = std::abs(widened(alpha));
    wide const step = widened(alpha) * times(u, z);
    bound_matrix const bound = product_bound(u, z, size) + rounded(x) + rounded(step);
    O::update(policy, alpha, hoft::as_view(U), hoft::as_view(Z), hoft::as_view(X), y.view());
    CHECK((y.intact() && within(y.map(), wide(x + step), bound)));
    O::update(policy, alpha, hoft::as_view(U), hoft::as_view(Z), {}, y.view());
    CHECK((y.intact() && within(y.map(), step, bound)));
    y.map() = X;
    O::update(policy, alpha, hoft::as_view(U), hoft::as_view(Z), y.view(), y.view());
    CHECK((y.intact() && within(y.map(), wide(x + step), bound)));
    padded<T> D(U);
    wide const grown = widened(alpha) * times(x, adjoint_copy(z));
    O::outer(policy, alpha, hoft::as_view(X), hoft::as_view(Z), D.view());
    CHECK(D.intact());
    CHECK(within(D.map(), wide(u + grown),
                 bound_matrix(product_bound(x, adjoint_copy(z), size) + rounded(u) + rounded(grown))));
  }

  void check_small(index_t r, index_t n) const {
    dense_matrix<T> const F = gaussian<T>(r, r, 14);
    dense_matrix<T, L> const Z = gaussian<T, L>(r, n, 15);
    T const alpha = scalar_of<T>(-1.5, 0.5);
    for (op o : ops) {
      wide const f = o == op::plain ? widen(F) : adjoint_copy(widen(F)), z = widen(Z);
      padded<T, L> y(r, n);
      O::multiply(policy, alpha, hoft::as_view(F), o, hoft::as_view(Z), y.view());
      wide const expected = widened(alpha) * times(f, z);
      CHECK(y.intact());
      CHECK(within(y.map(), expected, bound_matrix(product_bound(f, z, std::abs(widened(alpha))) + rounded(expected))));
    }
  }

  void check_packed(index_t m, index_t r, index_t n) const {
    auto const carved = [&](hoft::arena& memory) {
      auto first = O::template carve_packed<T, L>(policy, memory, m, r);
      auto second = O::template carve_packed<T, L>(policy, memory, m, r);
      return std::tuple(first, second, O::template carve_packed_each<T, L>(policy, memory, 3, m, r));
    };
    hoft::arena count;
    carved(count);
    guarded_workspace work(count.size());
    hoft::arena memory{hoft::workspace(work)};
    auto const [packed, other, each] = carved(memory);
    dense_matrix<T> const U = gaussian<T>(m, r, 16), V = gaussian<T>(m, r, 17), D = gaussian<T>(m, r, 18);
    dense_matrix<T, L> const X = gaussian<T, L>(m, n, 19), Z = gaussian<T, L>(r, n, 20), S = gaussian<T, L>(r, n, 21),
                             G = gaussian<T, L>(m, n, 22);
    wide const u = widen(U), v = widen(V), x = widen(X), z = widen(Z), s = widen(S), g = widen(G);
    O::pack(policy, hoft::as_view(U), packed);
    O::pack(policy, hoft::as_view(V), other, true);  // conj(V)
    padded<T, L> w(r, n), y(m, n);
    O::project_packed(policy, packed, hoft::as_view(X), w.view());
    CHECK((w.intact() && within(w.map(), times(adjoint_copy(u), x), product_bound(adjoint_copy(u), x))));
    O::project_packed(policy, other, hoft::as_view(X), w.view());
    wide const vt = v.transpose();
    CHECK((w.intact() && within(w.map(), times(vt, x), product_bound(vt, x))));
    wide const one = times(u, z), both = one + times(wide(v.conjugate()), s);
    bound_matrix const bound = product_bound(u, z) + product_bound(v, s) + rounded(x) + rounded(one) + rounded(both);
    O::update_packed(policy, packed, hoft::as_view(Z), hoft::as_view(X), y.view());
    CHECK((y.intact() && within(y.map(), wide(x + one), bound)));
    y.map() = X;
    O::update_packed_both(policy, packed, hoft::as_view(Z), other, hoft::as_view(S), y.view(), y.view());
    CHECK((y.intact() && within(y.map(), wide(x + both), bound)));
    if (r > 2) {  // a factor of several
      padded<T, L> part(r - 1, n);
      O::project_packed(policy, packed.columns(1, r - 1), hoft::as_view(X), part.view());
      wide const of = adjoint_copy(u).bottomRows(r - 1);
      CHECK((part.intact() && within(part.map(), times(of, x), product_bound(of, x))));
    }
    auto const sum = each(2);
    padded<T> d(D);
    O::clear_packed(policy, sum);
    O::outer_packed(policy, hoft::as_view(X), hoft::as_view(Z), sum);
    O::outer_packed_both(policy, hoft::as_view(X), hoft::as_view(Z), hoft::as_view(G), hoft::as_view(S), sum);
    O::add_packed(policy, sum, d.view());
    wide const zt = adjoint_copy(z), st = adjoint_copy(s), total = wide(2 * times(x, zt) + times(g, st));
    CHECK(d.intact());
    CHECK(within(d.map(), wide(widen(D) + total),
                 bound_matrix(3 * product_bound(x, zt) + product_bound(g, st) + rounded(widen(D)) + rounded(total))));
    CHECK(work.intact());
  }

  void check_gram(dense_matrix<T> U) const {
    index_t const r = U.cols();
    if (r > 1) U.col(1).setZero();
    padded<T> A(r, r);
    std::vector<T> tau(std::size_t(r), T(7));
    O::gram_upper(policy, hoft::as_view(std::as_const(U)), A.view(), hoft::vector_view<T>{});  // no tau is asked for
    dense_matrix<T> const first = A.map();
    O::gram_upper(policy, hoft::as_view(std::as_const(U)), A.view(), vector(tau));
    CHECK((A.intact() && same_bits(A.map(), first)));
    wide const ut = adjoint_copy(widen(U)), full = times(ut, widen(U));
    wide upper = wide::Zero(r, r), expected = wide::Zero(r, 1);
    bound_matrix bound = product_bound(ut, widen(U)), relative = bound_matrix::Zero(r, 1);
    for (index_t j = 0; j < r; ++j) {
      for (index_t i = 0; i < j; ++i) upper(i, j) = full(i, j);
      for (index_t i = j; i < r; ++i) bound(i, j) = 0;
      if (j != 1) expected(j, 0) = W(2) / full(j, j);
      relative(j, 0) = std::abs(expected(j, 0)) * 2 * (std::sqrt(50.0L) + 5) * eps_of<T>();
    }
    CHECK(within(A.map(), upper, bound));
    CHECK(within(as_column(tau), expected, relative));
  }

  /// (I + D A) F = D, each sum to λ √k u of its terms' magnitudes.
  void check_form_factor(dense_matrix<T> const& A, std::vector<T> const& tau) const {
    index_t const r = A.rows();
    padded<T> F(r, r);
    std::vector<T> scratch(std::size_t(O::form_factor_scratch(policy, r)) + 1);
    O::form_factor(policy, hoft::as_view(A), vector(tau), F.view(), scratch.data());
    CHECK(F.intact());
    wide const f = widen(F.map()), a = widen(A);
    wide D = wide::Zero(r, r);
    for (index_t j = 0; j < r; ++j) D(j, j) = widened(tau[std::size_t(j)]);
    bound_matrix const size =
        f.cwiseAbs() + times(bound_matrix(D.cwiseAbs()), times(bound_matrix(a.cwiseAbs()), bound_matrix(f.cwiseAbs())));
    long double const root = std::sqrt(static_cast<long double>(r)), largest = r > 0 ? f.cwiseAbs().maxCoeff() : 0;
    bound_matrix const bound = (bound_matrix::Identity(r, r) + size * (1 + largest)) * (4 * (root + 8) * eps_of<T>());
    CHECK(within(wide(f + times(D, times(a, f)) - D), wide::Zero(r, r), bound));
    for (index_t j = 0; j < r; ++j)
      for (index_t i = 0; i < r; ++i)
        if (i > j || tau[std::size_t(i)] == T(0) || tau[std::size_t(j)] == T(0)) CHECK(f(i, j) == W(0));
  }

  void check_inverse_factor(dense_matrix<T> const& A, std::vector<T> const& tau, dense_matrix<T, L> const& Z,
                            op o) const {
    index_t const r = A.rows();
    padded<T, L> w(r, Z.cols());
    O::multiply_inverse_factor(policy, hoft::as_view(A), vector(tau), o, hoft::as_view(Z), w.view());
    wide const a = o == op::plain ? widen(A) : adjoint_copy(widen(A)), z = widen(Z);
    wide expected = times(a, z);
    bound_matrix bound = product_bound(a, z);
    for (index_t i = 0; i < r; ++i) {
      W const t = widened(tau[std::size_t(i)]);
      if (t == W(0)) {
        expected.row(i).setZero(), bound.row(i).setZero();
        continue;
      }
      wide const over = z.row(i) / (o == op::plain ? t : conjugate_of(t));
      expected.row(i) += over;
      bound.row(i) += bound_matrix(over.cwiseAbs() * (8 * eps_of<T>())) + rounded(expected).row(i);
    }
    CHECK(w.intact());
    CHECK(within(w.map(), expected, bound));
  }

  Policy policy;
};

template <class T, class Policy>
void check_operations(Policy const& policy) {
  auto const check = [](auto const& tests) {
    tests.check_elements();
    tests.check_products();
    tests.check_normalise();
    tests.check_triangle();
    tests.check_walks();
  };
  check(operation_tests<Policy, T, col_major>(policy));
  check(operation_tests<Policy, T, row_major>(policy));
}

}  // namespace hoft_test
