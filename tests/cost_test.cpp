// SPDX-License-Identifier: BSD-3-Clause
// What the documentation says of flops and of memory for each thread, by numbers that count and by the queries.
#include "../bench/claims/counted.hpp"

#include <hoft/eigen/activations.hpp>
#include <hoft/eigen/apply.hpp>
#include <hoft/core/cost.hpp>

#include <doctest/doctest.h>

#include <algorithm>

namespace {

using bench::counted;
using hoft::index_t;

hoft::dense_matrix<counted> numbers(index_t m, index_t n) {
  hoft::dense_matrix<counted> A(m, n);
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) A(i, j) = double((i * 37 + j * 101 + i * j) % 97) / 48 - 1;
  return A;
}

double flops_since_last() {
  auto const count = double(counted::flops);
  counted::flops = 0;
  return count;
}

/// Bytes that the second of two threads adds to the workspace of a forward or a backward pass.
struct thread_bytes {
  index_t forward, backward;
};
template <class T, class L>
thread_bytes of_a_thread(index_t m, index_t n, index_t t, index_t ru, index_t rv) {
  using A = hoft::accumulator_t<T>;
  hoft::arena none;
  auto const left = hoft::carve_compact_wy<A>(none, m, ru, hoft::block_for(ru, {}));
  auto const right = hoft::carve_compact_wy<A>(none, n, rv, std::max<index_t>(1, rv));
  hoft::adapter_view<A> const a{left, right, {}};
  auto const layer = hoft::carve_layer(none, a);
  hoft::matrix_view<T, L> const x(nullptr, n, t);
  auto const state = hoft::carve_layer_state<T, L>(none, a, t);
  hoft::cpu const one{.threads = 1}, two{.threads = 2};
  return {hoft::forward_workspace(two, layer, x) - hoft::forward_workspace(one, layer, x),
          hoft::backward_workspace(two, layer, state) - hoft::backward_workspace(one, layer, state)};
}

}  // namespace

TEST_CASE("a triangle of b costs b/2m of an apply, and b/4n of it once in accumulate") {
  struct shape {
    index_t m, n, r, b;
  };
  for (shape const& s : {shape{128, 96, 32, 32}, {96, 64, 96, 48}, {64, 80, 64, 64}}) {
    index_t const m = s.m, n = s.n, r = s.r, b = s.b;
    CAPTURE(m);
    CAPTURE(r);
    CAPTURE(b);
    auto const U = numbers(m, r);
    auto X = numbers(m, n);
    flops_since_last();
    auto const Q = hoft::accumulate(U, hoft::exact{}, b);
    double const made = flops_since_last();
    hoft::apply(Q, X);
    double const applied = flops_since_last();
    double const apply = 4.0 * double(m * n * r), triangle = double(b) / double(2 * m);
    // X and its update are added as well: a sum for each element and block.
    CHECK(applied >= 0.99 * apply * (1 + triangle));
    CHECK(applied <= 1.02 * apply * (1 + triangle));
    CHECK(0.98 * applied <= hoft::apply_cost(double(m), double(n), double(r), double(b), 8).flops);
    // The triangle of UᵀU comes in tiles of 24 columns, which reach below its diagonal.
    double const cost = hoft::accumulate_cost(double(m), double(r), double(b), 8).flops;
    CHECK(made >= 0.95 * cost);
    CHECK(made <= cost + 24.0 * double(m * r));
    CHECK(cost - 4.0 * double(m * r) >= double(b) / double(4 * n) * apply);
  }
}

TEST_CASE("a step of a layer: bind, forward, backward and finish") {
  struct shape {
    index_t m, n, t, ru, rv;
  };
  for (shape const& s : {shape{128, 96, 48, 8, 16}, {96, 128, 64, 16, 8}}) {
    CAPTURE(s.m);
    auto const M = numbers(s.m, s.n), x = numbers(s.n, s.t), dy = numbers(s.m, s.t);
    double const m = double(s.m), n = double(s.n), t = double(s.t), ru = double(s.ru), rv = double(s.rv);
    // Counted beside the formulas: a sum for each element and product at most, where products are added to others.
    auto const costs = [&](hoft::cost const& expected, double sums) {
      double const found = flops_since_last();
      CHECK(found >= 0.98 * expected.flops);
      CHECK(found <= 1.02 * expected.flops + sums);
    };
    hoft::adapter<counted> const a{numbers(s.m, s.ru), numbers(s.n, s.rv)};
    flops_since_last();
    auto const layer = hoft::bind_layer(a, hoft::dense(M));
    costs(hoft::bind_cost(m, n, ru, rv, 8), m * rv);
    auto const f = hoft::forward(layer, x);
    costs(hoft::forward_cost(m, n, t, ru, rv, 8), 3 * (m + n) * t);
    hoft::layer_gradient g(layer);
    auto const dx = hoft::backward(layer, x, f, dy, g);
    costs(hoft::backward_cost(m, n, t, ru, rv, 8), 4 * (m + n) * t);
    auto const d = hoft::finish(layer, g);
    costs(hoft::finish_cost(m, n, ru, rv, 8), 8 * (m * ru + (m + n) * rv));
  }
}

TEST_CASE_TEMPLATE("memory for each thread", L, hoft::col_major, hoft::row_major) {
  index_t const m = 700, n = 500, rv = 24, t = 5000, panel = 256, b = 64;
  index_t const slack = 64 * 64;  // arrays start at multiples of 64 bytes, packed ones are whole vectors
  index_t const width = 96;       // rows of a slab that is filled up
  for (index_t const ru : {16, 64, 100}) {
    CAPTURE(ru);
    index_t const block = std::min(ru, b);
    auto const plain = of_a_thread<float, L>(m, n, t, ru, rv), stored = of_a_thread<Eigen::half, L>(m, n, t, ru, rv);
    CHECK(plain.forward > 0);
    CHECK(plain.forward <= 4 * 2 * block * panel + slack);
    CHECK(stored.forward <= 4 * (2 * block + m + n) * panel + slack);
    index_t const sums = std::max((m + width) * (ru + rv) + 2 * block * ru, (n + width) * rv);
    index_t const states = ru > b ? m : 0;
    CHECK(plain.backward <= 4 * (sums + (4 * block + states) * panel) + slack);
    CHECK(plain.backward >= 4 * m * (ru + rv));
    CHECK(stored.backward <= 4 * (sums + (4 * block + 3 * m + n) * panel) + slack);
  }
}
