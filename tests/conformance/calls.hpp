// SPDX-License-Identifier: BSD-3-Clause
// Every call of everything.hpp on one backend, judged by reflectors one after another in long double.
#pragma once
#include "../everything.hpp"

#include <map>
#include <span>
#include <string>

namespace hoft_test {

/// A result, and how far from it a backend may be: in every entry, or in the Frobenius norm.
template <class W>
struct judged_result {
  deducible<W> value;
  bound_matrix bound;  ///< empty: `norm` is the bound
  long double norm = 0;
};

/// What everything(shape, scaled, keep_q, seed) must compute. Errors are in terms of
///
///   relative = 2 (line_bound of U + line_bound of V) + 2 (√m + √n + √t + 10) ε + 4 u
///
/// for products with Q_U, diag(s), M and Q_V, relative to the product of the norms of their factors: each Q is applied
/// once, or once more to recover what was not saved; products with M are sums over m, n or t; u is the rounding of the
/// storage, which takes the result and up to three of what it is made of.
template <class T>
class judged_calls {
 public:
  using A = hoft::accumulator_t<T>;
  using W = wide_t<T>;
  using matrix = deducible<W>;

  std::map<std::string, judged_result<W>> results;

  judged_calls(shape const& s, bool scaled, bool keep_q, unsigned seed)
      : s_(s),
        keep_q_(keep_q),
        relative_(2 * (line_bound<T>(s.m, s.ru) + line_bound<T>(s.n, s.rv)) +
                  2 * (root(s.m) + root(s.n) + root(s.t) + 10) * eps_of<T>() + 4 * storage_rounding<T>()),
        U(widen(gaussian<T>(s.m, s.ru, seed))),
        V(widen(gaussian<T>(s.n, s.rv, seed + 1))),
        geqrf(widen(gaussian<T>(s.m, s.ru, seed + 2, 0.1))),
        M(widen(gaussian<T>(s.m, s.n, seed + 3))),
        X(widen(gaussian<T>(s.m, s.t, seed + 4))),
        dY(widen(gaussian<T>(s.m, s.t, seed + 5))),
        dMhat(widen(gaussian<T>(s.m, s.n, seed + 6))),
        x(widen(gaussian<T>(s.n, s.t, seed + 7))),
        dy(widen(gaussian<T>(s.m, s.t, seed + 8))),
        tau(widen(gaussian<A>(s.ru, 1, seed + 9))),
        scale(matrix::Ones(s.m, 1)),
        Xr(widen(gaussian<T>(s.t, s.m, seed + 11))) {
    if (scaled) scale = widen(gaussian<A>(s.m, 1, seed + 10));
    for (index_t i = 0; i < s.m; ++i) {
      largest_ = std::max(largest_, std::abs(scale(i, 0)));
      smallest_ = std::min(smallest_, std::abs(scale(i, 0)));
    }
    judge_householder();
    judge_explicit_tau();
    judge_series();
    judge_merge(scaled);
    judge_activations(scaled);
  }

  /// diag(s) X or diag(conj(s)) X.
  matrix scaled(matrix const& of, bool conjugated = false) const {
    matrix Y = of;
    for (index_t i = 0; i < Y.rows(); ++i) Y.row(i) *= conjugated ? conjugate_of(scale(i, 0)) : scale(i, 0);
    return Y;
  }

 private:
  static long double root(index_t n) { return std::sqrt(static_cast<long double>(n)); }
  void by_entry(char const* name, matrix const& value, bound_matrix const& bound) { results[name] = {value, bound, 0}; }
  void by_norm(char const* name, matrix const& value, long double norm) { results[name] = {value, {}, norm}; }

  void judge_householder() {
    long double const line = line_bound<T>(s_.m, s_.ru);
    matrix const Y = reference_apply(U, X), right = reference_apply(U, Xr, side::right, op::adjoint);
    matrix const I = matrix::Identity(s_.m, s_.m), Q = reference_apply(U, I);
    auto const g = reference_backward(U, X, dY);
    by_entry("apply", Y, per_line<T>(X, Y, side::left, line));
    by_entry("apply right", right, per_line<T>(Xr, right, side::right, line));
    by_entry("materialize", Q, per_line<T>(I, Q, side::left, line));
    by_entry("apply_backward dX", g.X, per_line<T>(dY, g.X, side::left, line));
    by_entry("apply_backward dU", g.U, per_reflector<T>(U, X, dY, g.U, s_.t));
    by_entry("from output dX", g.X, per_line<T>(dY, g.X, side::left, line));
  }

  /// H_i may stretch by 1 + |τ| ‖v‖², and errors with it.
  void judge_explicit_tau() {
    matrix V1 = geqrf;
    long double growth = 1;
    for (index_t j = 0; j < s_.ru; ++j) {
      for (index_t i = 0; i <= j; ++i) V1(i, j) = i == j ? W(1) : W(0);
      growth *= 1 + std::abs(tau(j, 0)) * V1.col(j).squaredNorm();
    }
    long double const line = line_bound<T>(s_.m, s_.ru) * growth, length = 1 + V1.norm(),
                      gradient = gradient_bound<T>(s_.m, s_.ru, s_.t) * X.norm() * dY.norm() * growth * growth;
    long double const t = s_.ru > 0 ? tau.norm() : 0, storage = 2 * storage_rounding<T>() * growth;
    matrix const Y = reference_apply(geqrf, tau, X, side::left, op::plain);
    auto const g = reference_backward(geqrf, tau, X, dY, side::left, op::plain);
    by_norm("apply tau", Y, (line + storage) * X.norm());
    by_norm("tau dX", g.X, (line + storage) * dY.norm());
    // From a saved W and the stored output.
    long double const stored = storage * growth * X.norm() * dY.norm();
    by_norm("tau dV", g.U, (gradient + stored) * (1 + t) * length * length);
    by_norm("dtau", g.tau, (gradient + stored) * length * length);
    if (s_.ru <= s_.block) by_norm("W", times(adjoint_copy(V1), X), line_bound<T>(s_.m, 1) * length * X.norm());
  }

  /// As truncation_test and apply_backward_test have it: each application is off by `growth` more.
  void judge_series() {
    neumann_form const Q(U, 2);
    long double const line = line_bound<T>(s_.m + 2 * s_.ru, std::max<index_t>(s_.ru, 1)) * Q.growth,
                      storage = storage_rounding<T>() * Q.growth;
    auto const g = Q.backward(X, dY, side::left, op::plain);
    by_norm("neumann dX", g.X, (line + storage) * dY.norm());
    bound_matrix bound(s_.m, s_.ru);
    for (index_t j = 0; j < s_.ru; ++j)
      bound.col(j).setConstant(16 * line * Q.growth * X.norm() * dY.norm() / U.col(j).norm());
    by_entry("neumann dU", g.U, bound);
  }

  /// ds_i = Σ_j conj(q_ij) dp_ij.
  matrix row_dots(matrix const& q, matrix const& dp) const {
    matrix ds = matrix::Zero(q.rows(), 1);
    for (index_t j = 0; j < q.cols(); ++j)
      for (index_t i = 0; i < q.rows(); ++i) ds(i, 0) += conjugate_of(q(i, j)) * dp(i, j);
    return ds;
  }
  /// Two applications and a sum, four terms of norm 2 each (gradient_bound), over ‖u_j‖.
  bound_matrix gradient(matrix const& of, long double size) const {
    bound_matrix bound(of.rows(), of.cols());
    for (index_t j = 0; j < of.cols(); ++j) bound.col(j).setConstant(16 * relative_ * size / of.col(j).norm());
    return bound;
  }

  void judge_merge(bool with_scale) {
    matrix const q = reference_apply(V, M, side::right), p = scaled(q), Mhat = reference_apply(U, p);
    matrix const dp = reference_apply(U, dMhat, side::left, op::adjoint);
    long double const size = M.norm(), both = size * dMhat.norm();
    by_norm("merge", Mhat, relative_ * largest_ * size);
    by_norm("unmerge", M, relative_ * largest_ / smallest_ * size);
    // And what L R multiplies. A row's norm is off by no more than the row.
    by_norm("low rank", Mhat - scaled(M), relative_ * largest_ * size);
    by_norm("scaled low rank", Mhat - scaled(M), relative_ * largest_ * size);
    matrix magnitude(s_.m, 1);
    for (index_t i = 0; i < s_.m; ++i) magnitude(i, 0) = scale(i, 0) / std::abs(scale(i, 0)) * Mhat.row(i).norm();
    by_norm("magnitude", magnitude, relative_ * largest_ * size);
    by_entry("merge dU", reference_backward(U, p, dMhat).U, gradient(U, largest_ * both));
    by_entry("merge dV", reference_backward(V, M, scaled(dp, true), side::right).U, gradient(V, largest_ * both));
    if (with_scale) by_norm("merge ds", row_dots(q, dp), relative_ * both);
  }

  void judge_activations(bool with_scale) {
    matrix const turned = reference_apply(V, x), q = times(M, turned), p = scaled(q), y = reference_apply(U, p);
    matrix const dp = reference_apply(U, dy, side::left, op::adjoint),
                 dturned = times(adjoint_copy(M), scaled(dp, true));
    long double const size = M.norm() * x.norm(), both = size * dy.norm();
    by_norm("forward y", y, relative_ * largest_ * size);
    by_norm("forward y, nothing saved", y, relative_ * largest_ * size);
    matrix const dx = reference_apply(V, dturned, side::left, op::adjoint);
    by_norm("backward dx", dx, relative_ * largest_ * M.norm() * dy.norm());
    by_entry("backward dU", reference_backward(U, p, dy).U, gradient(U, largest_ * both));
    by_entry("backward dV", reference_backward(V, x, dturned).U, gradient(V, largest_ * both));
    // q saved, or y / s.
    if (with_scale) by_norm("backward ds", row_dots(q, dp), relative_ * both * (keep_q_ ? 1 : largest_ / smallest_));
  }

  shape s_;
  bool keep_q_;
  long double relative_, largest_ = 1, smallest_ = 1;
  matrix U, V, geqrf, M, X, dY, dMhat, x, dy, tau, scale, Xr;
};

/// Empty, one row, ranks 0, odd sizes; one triangle for U and several; more columns than a panel of the CPU.
inline constexpr shape conformance_shapes[] = {
    {1, 1, 1, 1, 1, 64}, {2, 3, 1, 2, 1, 1}, {7, 5, 0, 2, 1, 64},   {6, 5, 3, 0, 2, 64},
    {9, 7, 3, 4, 0, 2},  {0, 3, 2, 0, 1, 1}, {33, 20, 17, 5, 6, 2}, {40, 21, 131, 8, 3, 64},
};

template <class T, class L, class Policy>
void check_calls(Policy const& policy, std::span<shape const> shapes = conformance_shapes) {
  using W = wide_t<T>;
  unsigned seed = 400;
  for (shape const& s : shapes)
    for (auto const& [scaled, keep_q] :
         std::initializer_list<std::pair<bool, bool>>{{false, true}, {true, true}, {true, false}}) {
      std::string const label = text_of({{"m", s.m},
                                         {"n", s.n},
                                         {"t", s.t},
                                         {"ru", s.ru},
                                         {"rv", s.rv},
                                         {"scaled", index_t(scaled)},
                                         {"keep_q", index_t(keep_q)}});
      INFO(label);
      everything<T, L, Policy> all(s, scaled, keep_q, seed += 20);
      all.run(policy);
      CHECK(all.intact());
      judged_calls<T> expected(s, scaled, keep_q, seed);
      deducible<W> left;
      long double of_factors = 0;  // what rounding the last ones to storage may change
      std::size_t judged = 0;
      all.for_each_result([&](char const* name, auto const& result) {
        deducible<W> actual = widen(result);
        std::string key = name;
        if (key == "low rank L") left = actual;
        if (key == "scaled low rank L") left = expected.scaled(actual);
        if (key == "low rank R" || key == "scaled low rank R") {
          key.resize(key.size() - 2);
          of_factors = 2 * storage_rounding<T>() * left.norm() * actual.norm();
          actual = times(left, actual);
        }
        bool const has_factors = key == "low rank" || key == "scaled low rank" || key == "magnitude";
        long double const more = has_factors ? of_factors : 0;
        auto const found = expected.results.find(key);
        if (found == expected.results.end()) return;
        ++judged;
        auto const& [value, bound, norm] = found->second;
        INFO(key);
        REQUIRE(actual.rows() == value.rows());
        REQUIRE(actual.cols() == value.cols());
        if (bound.size() > 0) CHECK(within(actual, value, bound));
        else if (value.size() > 0) CHECK((actual - value).norm() <= norm + more);
      });
      CHECK(judged == expected.results.size());
    }
}

}  // namespace hoft_test
