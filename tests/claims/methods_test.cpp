// SPDX-License-Identifier: BSD-3-Clause
// The methods of the harness: gradients against central differences, both ways of a method against each other and
// against plain definitions, and numbers that count.
#include "../../bench/claims/counted.hpp"

#include "../../bench/claims/departure.hpp"
#include "../../bench/claims/trial.hpp"

#include <hoft/eigen/orthogonality.hpp>
#include <hoft/reference/gradient.hpp>
#include <hoft/reference/reflectors.hpp>
#include <hoft/reference/singular_values.hpp>

#include <Eigen/LU>
#include <doctest/doctest.h>

using bench::counted;
using namespace bench::methods;
using bench::claims::find;

namespace {

using dense = matrix<double>;
constexpr sizes small{16, 12, 3, 4, 2, 5};
/// Blocks that have no fixed size in block_rotations.hpp and are no power of two; all else odd that may be.
constexpr sizes odd{36, 7, 5, 6, 2, 3};

dense gaussian(index_t m, index_t n, unsigned seed, double deviation = 1) {
  std::mt19937_64 rng(seed);
  dense A(m, n);
  fill_gaussian(A, deviation, rng);
  return A;
}

/// Away from the start of training, where gradients vanish. Skew matrices stay small enough for a series.
std::unique_ptr<method<double>> somewhere(entry<double> const& e, sizes const& s = small) {
  std::mt19937_64 rng(3);
  auto made = e.make(s, rng);
  unsigned seed = 4;
  for (auto& p : made->parameters()) p.value += gaussian(p.value.rows(), p.value.cols(), seed++, 0.2);
  return made;
}

matrix_view<double const> fixed(dense const& A) { return as_view(A); }

dense merged(method<double>& by, dense const& M) {
  dense Mhat(M.rows(), M.cols());
  by.merge(fixed(M), as_view(Mhat));
  return Mhat;
}
dense forwarded(method<double>& by, dense const& M, dense const& x) {
  dense y(M.rows(), x.cols());
  by.forward(fixed(M), fixed(x), as_view(y));
  return y;
}

/// Central differences are right to about ε^{2/3}, relative to values and gradients of order 1 to 100 here.
constexpr double allowed = 1e-7;

void check_gradients_on_the_weight(sizes const& s) {
  dense const M = gaussian(s.m, s.n, 1), W = gaussian(s.m, s.n, 2);
  for (auto const& e : list<double>()) {
    CAPTURE(std::string(e.about->name));
    auto const by = somewhere(e, s);
    dense const Mhat = merged(*by, M);
    dense dMhat = W;
    by->merge_backward(fixed(M), fixed(Mhat), as_view(dMhat));
    for (auto& p : by->parameters()) {
      dense const claimed = p.gradient;
      auto const loss = [&](dense const& value) {
        dense const kept = p.value;
        p.value = value;
        double const L = merged(*by, M).cwiseProduct(W).sum();
        p.value = kept;
        return L;
      };
      CHECK(hoft::check_gradient(loss, dense(p.value), claimed).error <= allowed);
      CHECK(claimed.norm() > 1e-3);
    }
  }
}

void check_gradients_on_activations(sizes const& s) {
  dense const M = gaussian(s.m, s.n, 1), x = gaussian(s.n, s.t, 5), W = gaussian(s.m, s.t, 2);
  for (auto const& e : list<double>()) {
    CAPTURE(std::string(e.about->name));
    auto const by = somewhere(e, s);
    dense y(s.m, s.t), dy = W, dx(s.n, s.t);
    by->forward(fixed(M), fixed(x), as_view(y));
    by->backward(fixed(M), fixed(x), fixed(y), as_view(dy), as_view(dx));
    std::vector<dense> claimed;
    for (auto& p : by->parameters()) claimed.push_back(p.gradient);
    auto const of_x = [&](dense const& value) { return forwarded(*by, M, value).cwiseProduct(W).sum(); };
    CHECK(hoft::check_gradient(of_x, x, dx).error <= allowed);
    std::size_t i = 0;
    for (auto& p : by->parameters()) {
      auto const loss = [&](dense const& value) {
        dense const kept = p.value;
        p.value = value;
        double const L = forwarded(*by, M, x).cwiseProduct(W).sum();
        p.value = kept;
        return L;
      };
      CHECK(hoft::check_gradient(loss, dense(p.value), claimed[i++]).error <= allowed);
    }
  }
}

}  // namespace

TEST_CASE("gradients on the weight are central differences") {
  check_gradients_on_the_weight(small);
  check_gradients_on_the_weight(odd);
}

TEST_CASE("gradients on activations are central differences") {
  check_gradients_on_activations(small);
  check_gradients_on_activations(odd);
}

TEST_CASE("activations are the weight's product with the tokens") {
  for (sizes const& s : {small, odd}) {
    dense const M = gaussian(s.m, s.n, 1), x = gaussian(s.n, s.t, 5);
    for (auto const& e : list<double>()) {
      CAPTURE(std::string(e.about->name));
      auto const by = somewhere(e, s);
      dense const y = forwarded(*by, M, x), product = merged(*by, M) * x;
      CHECK((y - product).norm() <= 1e-13 * product.norm());
    }
  }
}

TEST_CASE("more columns than a panel has are as many columns in several calls") {
  // At m = 1024 the panels of blocks have 32 columns, those of reflections 64.
  constexpr index_t m = 1024, n = 3, first = 41, t = 2 * first;
  dense const M = gaussian(m, n, 1), x = gaussian(n, t, 5), W = gaussian(m, t, 2);
  struct passed {
    dense y, dx;
    std::vector<dense> gradients;
  };
  auto const pass = [&](method<double>& by, index_t from, index_t count) {
    dense const part = x.middleCols(from, count);
    dense y(m, count), dy = W.middleCols(from, count), dx(n, count);
    by.forward(fixed(M), fixed(part), as_view(y));
    by.backward(fixed(M), fixed(part), fixed(y), as_view(dy), as_view(dx));
    passed all{y, dx, {}};
    for (auto const& p : by.parameters()) all.gradients.push_back(p.gradient);
    return all;
  };
  for (char const* name : {"hra", "oft", "oft_neumann", "boft"})
    for (index_t b : {4, 32}) {
      CAPTURE(std::string(name));
      CAPTURE(b);
      auto const by = somewhere(find<double>(name), {m, n, 3, b, 2, t});
      passed const whole = pass(*by, 0, t), left = pass(*by, 0, first), right = pass(*by, first, first);
      auto const near = [](dense const& a, dense const& b_) { return (a - b_).norm() <= 1e-12 * b_.norm(); };
      CHECK(near(whole.y.leftCols(first), left.y));
      CHECK(near(whole.y.rightCols(first), right.y));
      CHECK(near(whole.dx.leftCols(first), left.dx));
      CHECK(near(whole.dx.rightCols(first), right.dx));
      for (std::size_t i = 0; i < whole.gradients.size(); ++i)
        CHECK(near(whole.gradients[i], left.gradients[i] + right.gradients[i]));
    }
}

TEST_CASE("methods are what their definitions say") {
  dense const M = gaussian(small.m, small.n, 1);
  auto const values = [](method<double>& by, std::size_t i) -> dense const& { return by.parameters()[i].value; };
  auto const near = [](dense const& a, dense const& b) { return (a - b).norm() <= 1e-13 * b.norm(); };

  auto const reflected = [&](dense const& U, dense X) {
    for (index_t k = U.cols(); k-- > 0;) {
      dense const u = U.col(k);
      X -= (2 / u.squaredNorm()) * u * (u.transpose() * X);
    }
    return X;
  };
  for (char const* name : {"hra", "hra_dense"}) {
    auto const by = somewhere(find<double>(name));
    CHECK(near(merged(*by, M), reflected(values(*by, 0), M)));
  }
  for (char const* name : {"hoft_exact", "hoft_in_turn_exact", "shoft"}) {
    auto const by = somewhere(find<double>(name));
    dense const turned = M * reflected(values(*by, 1), dense::Identity(small.n, small.n));
    dense scaled = turned;
    if (by->parameters().size() == 3) scaled = values(*by, 2).col(0).asDiagonal() * turned;
    CHECK(near(merged(*by, M), reflected(values(*by, 0), scaled)));
  }
  {  // both ways of the truncated one; its factor is tested with hoft
    auto const by = somewhere(find<double>("hoft_two_terms")),
               in_turn = somewhere(find<double>("hoft_in_turn_two_terms"));
    CHECK(near(merged(*by, M), merged(*in_turn, M)));
    CHECK(!near(merged(*by, M), merged(*somewhere(find<double>("hoft_exact")), M)));
  }
  {
    auto const by = somewhere(find<double>("lora"));
    CHECK(near(merged(*by, M), M + values(*by, 0) * values(*by, 1)));
  }
  {
    auto const by = somewhere(find<double>("dora"));
    dense expected = M + values(*by, 0) * values(*by, 1);
    for (index_t i = 0; i < small.m; ++i) expected.row(i) *= values(*by, 2)(i, 0) / expected.row(i).norm();
    CHECK(near(merged(*by, M), expected));
  }
  {
    auto const by = somewhere(find<double>("full"));
    CHECK(near(merged(*by, M), values(*by, 0)));
  }
  // block by block, from the skew matrix itself
  auto const skew = [&](method<double>& by, std::size_t factor, index_t i) {
    dense K = dense::Zero(small.b, small.b);
    for (index_t col = 1, at = 0; col < small.b; ++col)
      for (index_t row = 0; row < col; ++row, ++at) K(row, col) = values(by, factor)(at, i);
    return dense(K - K.transpose());
  };
  {  // the first factor couples neighbouring pairs of rows, the second one pairs that lie one pair apart
    auto const by = somewhere(find<double>("boft"));
    dense const I = dense::Identity(small.b, small.b);
    dense expected = M;
    for (std::size_t factor = 0; factor < 2; ++factor)
      for (index_t i = 0; i < small.m / small.b; ++i) {
        std::vector<index_t> const firsts{0, 4, 8, 12}, seconds{0, 2, 8, 10};
        index_t const a = (factor == 0 ? firsts : seconds)[std::size_t(i)], other = a + (factor == 0 ? 2 : 4);
        std::vector<index_t> const rows{a, a + 1, other, other + 1};
        dense const K = skew(*by, factor, i), Q = (I - K) * (I + K).inverse();
        dense const turned = Q * expected(rows, Eigen::all);
        expected(rows, Eigen::all) = turned;
      }
    CHECK(near(merged(*by, M), expected));
  }
  {
    auto const by = somewhere(find<double>("oft")), series = somewhere(find<double>("oft_neumann"));
    dense expected = M, expected_series = M;
    for (index_t i = 0; i < small.m / small.b; ++i) {
      dense const K = skew(*by, 0, i);
      dense const I = dense::Identity(small.b, small.b);
      dense const sum = I - K + K * K - K * K * K + K * K * K * K;
      expected.middleRows(i * small.b, small.b) = (I - K) * (I + K).inverse() * M.middleRows(i * small.b, small.b);
      expected_series.middleRows(i * small.b, small.b) = (I - K) * sum * M.middleRows(i * small.b, small.b);
    }
    CHECK(near(merged(*by, M), expected));
    CHECK(near(merged(*series, M), expected_series));
  }
}

TEST_CASE("orthogonal methods keep singular values, and the others do not") {
  dense const M = gaussian(small.m, small.n, 1);
  for (auto const& e : list<double>()) {
    CAPTURE(std::string(e.about->name));
    std::string const name = e.about->name;
    auto const by = somewhere(e);
    double const drift = hoft::singular_value_drift(M, merged(*by, M));
    bool const keeps = name == "hoft_exact" || name == "hoft_in_turn_exact" || name == "hra" || name == "hra_dense" ||
                       name == "oft" || name == "boft";
    if (keeps) CHECK(drift <= 1e-14 * double(small.m));
    else CHECK(drift > 1e-6);
  }
}

TEST_CASE("the factors of the butterfly couple all rows") {
  sizes const s{16, 16, 1, 2, 4, 1};
  auto const by = somewhere(find<double>("boft"), s);
  CHECK((merged(*by, dense::Identity(16, 16)).array().abs() > 0).all());
  sizes const fewer{16, 16, 1, 2, 3, 1};
  CHECK(!(merged(*somewhere(find<double>("boft"), fewer), dense::Identity(16, 16)).array().abs() > 0).all());
}

TEST_CASE("the departure from orthogonality without a dense Q is that of the dense Q") {
  dense const U = gaussian(24, 6, 7);
  for (index_t terms : {1, 2, 3, 4}) {
    auto const Q = hoft::accumulate(U, hoft::neumann{terms});
    // orthogonality_error takes I − QᵀQ, which has the norm of I − QQᵀ.
    double const whole = hoft::orthogonality_error(Q) * std::sqrt(24.0);
    CHECK(double(bench::claims::departure(Q)) == doctest::Approx(whole).epsilon(1e-10));
  }
  CHECK(double(bench::claims::departure(hoft::accumulate(U))) <= 1e-14);
}

TEST_CASE("sizes that a method cannot have are refused") {
  std::mt19937_64 rng(1);
  CHECK_THROWS_WITH_AS(find<double>("oft").make({16, 12, 3, 3, 1, 5}, rng), "oft: b is 3, expected an even number >= 2",
                       std::invalid_argument);
  CHECK_THROWS_AS(find<double>("boft").make({24, 12, 3, 4, 3, 5}, rng), std::invalid_argument);
  CHECK_THROWS_AS(find<double>("no_such_method"), std::invalid_argument);
}

TEST_CASE("counted numbers count") {
  counted a(2), b(3);
  counted::flops = 0;
  counted const c = a * b + a / b - a;
  CHECK(counted::flops == 4);
  CHECK(double(c) == 2.0 * 3.0 + 2.0 / 3.0 - 2.0);
  counted::flops = 0;
  matrix<counted> const A = matrix<counted>::Constant(7, 5, counted(1)),
                        B = matrix<counted>::Constant(5, 6, counted(2));
  matrix<counted> C(7, 6);
  multiply(as_view(A), as_view(B), as_view(C));
  // 2 m n k, and what Eigen adds to each element at the end.
  CHECK(counted::flops >= 2 * 7 * 6 * 5);
  CHECK(counted::flops <= 2 * 7 * 6 * 5 + 2 * 7 * 6);
}
