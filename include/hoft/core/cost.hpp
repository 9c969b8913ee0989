// SPDX-License-Identifier: BSD-3-Clause
// hoft/core/cost.hpp: flops and bytes of each operation, one count for documentation and benchmarks.
#pragma once
#include <hoft/core/index.hpp>

namespace HOFT_NAMESPACE {

/// Floating-point operations (a multiply-add is two; complex operations count once) and bytes that must move between
/// memory and cache, each input read once and each output written once.
struct cost {
  double flops = 0, bytes = 0;
  friend constexpr cost operator+(cost a, cost b) { return {a.flops + b.flops, a.bytes + b.bytes}; }
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// accumulate of U [m, r] in blocks of b reflectors, elements of `size` bytes.
constexpr cost accumulate_cost(double m, double r, double b, double size) {
  double const k = b < r ? b : r;
  return {4 * m * r + m * r * (k + 1) + 2 * k * k * r / 3, size * (2 * m * r + 2 * k * r)};
}

/// apply of rank r in blocks of b to X [m, n].
constexpr cost apply_cost(double m, double n, double r, double b, double size) {
  double const k = b < r ? b : r;
  return {4 * m * n * r + 2 * n * r * k, size * (2 * m * n + m * r)};
}

/// apply_backward from the input X [m, n] with one block of reflectors (more blocks run forward once more).
constexpr cost apply_backward_cost(double m, double n, double r, double b, double size) {
  double const k = b < r ? b : r;
  double const again = r > b ? 4 * m * n * r : 0;
  return {10 * m * n * r + 6 * n * r * k + again, size * (3 * m * n + 2 * m * r)};
}

/// merge of ranks ru and rv with a weight [m, n].
constexpr cost merge_cost(double m, double n, double ru, double rv, double size) {
  return {4 * m * n * (ru + rv), size * (2 * m * n + m * ru + n * rv)};
}

/// bind_layer: the base operator (dense) on rv columns, and its products with the factors.
constexpr cost bind_cost(double m, double n, double ru, double rv, double size) {
  return {2 * m * n * rv + 2 * m * rv * (rv + ru), size * (m * n + n * rv + m * ru + 3 * m * rv)};
}

/// forward of a bound layer on t tokens, base operator (dense) included.
constexpr cost forward_cost(double m, double n, double t, double ru, double rv, double size) {
  return {2 * m * n * t + (4 * m * ru + 2 * (m + n) * rv + 2 * ru * (ru + rv)) * t,
          size * (m * n + (m + n) * t + m * (ru + rv) + n * rv)};
}

/// backward of a bound layer on t tokens, base operator (dense) included, with one block of reflectors in U.
constexpr cost backward_cost(double m, double n, double t, double ru, double rv, double size) {
  return {2 * m * n * t + (8 * m * ru + 4 * (m + n) * rv + 8 * ru * ru) * t,
          size * (m * n + (3 * m + 2 * n) * t + 2 * (m * (ru + rv) + n * rv))};
}

/// finish: the adjoint of the base operator (dense) on rv columns, and what the factors add; one block of reflectors.
constexpr cost finish_cost(double m, double n, double ru, double rv, double size) {
  return {2 * m * n * rv + 4 * m * rv * rv + 2 * n * rv * rv + 2 * m * ru * ru + 4 * (ru * ru * ru + rv * rv * rv),
          size * (m * n + 3 * (m * (ru + rv) + n * rv))};
}

}  // namespace HOFT_TARGET_NAMESPACE
