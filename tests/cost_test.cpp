// SPDX-License-Identifier: BSD-3-Clause
// What the documentation says of flops and of memory for each thread, by numbers that count and by the queries.
#include "../bench/claims/counted.hpp"

#include <hoft/eigen/activations.hpp>
#include <hoft/eigen/apply.hpp>
#include <hoft/eigen/apply_backward.hpp>
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
  // With a block of 64 its triangles are a good part of the whole.
  for (shape const& s : {shape{128, 96, 48, 8, 16}, {96, 128, 64, 16, 8}, {96, 80, 64, 64, 8}}) {
    CAPTURE(s.m);
    CAPTURE(s.ru);
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

TEST_CASE("apply_backward and merge, with one block of reflectors and with several") {
  struct shape {
    index_t m, n, r, b;
  };
  for (shape const& s : {shape{96, 80, 48, 48}, {128, 64, 80, 64}, {80, 96, 64, 64}}) {
    CAPTURE(s.m);
    CAPTURE(s.b);
    auto const M = numbers(s.m, s.n), dY = numbers(s.m, s.n);
    double const m = double(s.m), n = double(s.n), r = double(s.r), b = double(s.b);
    auto const Q = hoft::accumulate(numbers(s.m, s.r), hoft::exact{}, s.b);
    flops_since_last();
    auto const g = hoft::apply_backward(Q, M, dY);
    double const backward = flops_since_last(), expected = hoft::apply_backward_cost(m, n, r, b, 8).flops;
    // Beside the formula: a sum for each element and product with it, and from the sums to dU, which n is not part of.
    double const finish = 2 * m * r * b + 4 * r * b * b;
    CHECK(backward >= 0.98 * (expected + finish));
    CHECK(backward <= 1.02 * (expected + finish) + 4 * m * n);

    index_t const rv = 16;
    hoft::adapter<counted> const a{numbers(s.m, s.r), numbers(s.n, rv)};  // in blocks of 64
    auto Mhat = M;
    flops_since_last();
    hoft::merge(a, Mhat);
    double const merged = flops_since_last(), merge = hoft::merge_cost(m, n, r, double(rv), 8).flops;
    // Beside the formula: triangles; and Uᴴ K, which one block has ready.
    double const rest = double(s.r % s.b), v = double(rv);
    double const triangles = 2 * n * ((r - rest) * b + rest * rest) + 2 * m * v * v, UK = s.r > s.b ? 0 : 2 * r * v;
    CHECK(merged >= 0.98 * (merge + triangles + UK * (m + n)));
    CHECK(merged <= 1.02 * (merge + triangles + UK * (m + n)) + 2 * m * n);
  }
}

namespace {

template <class... Views>
double bytes_of(Views... views) {
  return (... + double(views.rows * views.cols * index_t(sizeof(*views.data))));
}

}  // namespace

TEST_CASE("bytes are those of the arguments, inputs read once and outputs written once") {
  index_t const im = 70, in = 50, iru = 6, irv = 4, it = 9;
  double const m = double(im), n = double(in), ru = double(iru), rv = double(irv), t = double(it), size = sizeof(float);
  hoft::arena none;
  using hoft::matrix_view;
  matrix_view<float> const M(nullptr, im, in), x(nullptr, in, it), y(nullptr, im, it);
  auto const U = hoft::carve_compact_wy<float>(none, im, iru, iru),
             V = hoft::carve_compact_wy<float>(none, in, irv, irv);
  hoft::adapter_view<float> const a{U, V, {nullptr, im}};
  auto const layer = hoft::carve_layer(none, a);
  auto const g = hoft::carve_layer_gradient(none, a);
  auto const left = U.vectors, right = V.vectors, K = layer.minus_K;
  CHECK(hoft::apply_cost(m, n, ru, ru, size).bytes == bytes_of(left, M, M));
  CHECK(hoft::apply_backward_cost(m, n, ru, ru, size).bytes == bytes_of(left, left, M, M, M));
  CHECK(hoft::merge_cost(m, n, ru, rv, size).bytes == bytes_of(left, right, M, M));
  CHECK(hoft::bind_cost(m, n, ru, rv, size).bytes == bytes_of(left, right, M, layer.B, K, layer.minus_scaled_K));
  CHECK(hoft::forward_cost(m, n, t, ru, rv, size).bytes == bytes_of(left, right, M, K, x, y));
  // y, dy and ∂L/∂(M x); x and dx; what the sums of the gradient are added to.
  CHECK(hoft::backward_cost(m, n, t, ru, rv, size).bytes ==
        bytes_of(left, right, K, M, y, y, y, x, x, g.D_U, g.D_V, g.minus_dK));
  // The sums, and dU and dV; dB, which the base operator takes.
  CHECK(hoft::finish_cost(m, n, ru, rv, size).bytes ==
        bytes_of(left, right, layer.B, M, g.D_U, g.D_V, g.minus_dK, left, right, layer.B));
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
