// hoft/core/cost.hpp: flops and bytes of each operation, one count for documentation and benchmarks.
#pragma once
#include <hoft/core/index.hpp>

namespace HOFT_NAMESPACE {

/// Floating-point operations (a multiply-add is two; complex operations count once) and bytes that must move between
/// memory and cache, each input read once and each output written once.
struct cost {
  double flops = 0, bytes = 0;
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

/// forward on t tokens, base operator (dense) included.
constexpr cost forward_cost(double m, double n, double t, double ru, double rv, double size) {
  return {2 * m * n * (t + rv) + (4 * m * ru + 2 * (m + n) * rv) * t, size * (m * n + (m + n) * t + m * ru + n * rv)};
}

/// backward on t tokens, base operator (dense) included.
constexpr cost backward_cost(double m, double n, double t, double ru, double rv, double size) {
  return {2 * m * n * (t + rv) + (8 * m * ru + 4 * (m + n) * rv) * t,
          size * (m * n + 2 * (m + n) * t + 2 * (m * ru + n * rv))};
}

}  // namespace HOFT_TARGET_NAMESPACE
