// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/scaled_low_rank.hpp: a trained adapter as a low-rank update whose rows are scaled, as DoRA has them,
// without loss.
#pragma once
#include <hoft/adapter/low_rank.hpp>
#include <hoft/backend/elementwise.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

template <class Policy, class A, class T, class L>
struct scaled_low_rank_pieces {
  using rows_layout = transposed_layout<L>;
  /// Rows of M in one panel: few, since a backend's own panels may be the whole matrix.
  static constexpr index_t most_rows = 256;

  low_rank_pieces<Policy, A, T, L> factor;
  matrix_view<A, L> left;       ///< [m, ru + rv] the left factor as it is stored
  matrix_view<A> right_turned;  ///< [n, ru + rv] the right one, turned
  index_t height, workers;
  per_worker<A, rows_layout> rows;  ///< [n, height]
  per_worker<A> unit;               ///< the same, of norm 1
  per_worker<real_t<A>> norms;      ///< [2, height]
  scaled_low_rank_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : factor(memory, policy, a),
        left(memory.matrix<A, L>(a.rows(), a.left.rank() + a.right.rank())),
        right_turned(memory.matrix<A>(a.cols(), a.left.rank() + a.right.rank())),
        height((std::min)({most_rows, (std::max)(a.rows(), index_t{1}),
                           ops<Policy>::template panel_width<T, rows_layout>(ops<Policy>::of_right(policy), a.cols(),
                                                                             a.left.rank() + a.right.rank())})),
        workers(ops<Policy>::panel_workers(ops<Policy>::of_right(policy), a.rows(), height)),
        rows(memory, workers, a.cols(), height),
        unit(memory, workers, a.cols(), height),
        norms(memory, workers, 2, height) {}
};

/// magnitude_i := s_i ‖row i of M + B A‖, of the factors in `pieces`. s may be empty, for ones.
template <class Policy, class A, class T, class L, class S>
void row_magnitudes(Policy const& policy, vector_view<A const> s, matrix_view<T const, L> M, vector_view<S> magnitude,
                    scaled_low_rank_pieces<Policy, A, T, L> const& pieces) {
  decltype(auto) of_right = ops<Policy>::of_right(policy);
  auto const turned = M.transposed();
  ops<Policy>::for_each_panel(of_right, M.rows, pieces.height, [&](index_t worker, auto p) {
    auto const local = ops<Policy>::serial(of_right);
    index_t const i = p.first, w = p.count;
    auto const rows = pieces.rows(worker).columns(0, w);
    auto const norms = pieces.norms(worker).columns(0, w);
    ops<Policy>::copy(local, turned.columns(i, w), rows);
    if (pieces.left.cols > 0)
      ops<Policy>::update(local, A(1), pieces.right_turned, pieces.left.transposed().columns(i, w), rows, rows);
    ops<Policy>::normalise_columns(local, rows, pieces.unit(worker).columns(0, w), norms);
    vector_view<A const> const factor = s.size > 0 ? s.part(i, w) : s;
    ops<Policy>::for_each_element(local, matrix_view<S>(magnitude.data + i, w, 1),
                                  backend::magnitude_element<A, S>{norms, factor, magnitude.part(i, w)});
  });
}

}  // namespace detail

/// Bytes of workspace for `scaled_low_rank` with M of this element type and layout.
/// @throws hoft::shape_error if an extent is negative or parts of the adapter do not fit each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t scaled_low_rank_workspace(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L> M) {
  detail::require_adapter_sizes("scaled_low_rank_workspace", a);
  detail::require_view("scaled_low_rank_workspace", "M", M);
  using acc = std::remove_const_t<A>;
  return detail::workspace_size<detail::scaled_low_rank_pieces<Policy, acc, std::remove_const_t<T>, L>>(
      policy, adapter_view<acc const>(a));
}

/// M̂ = diag(s) (M + B A) with B = [diag(s)⁻¹ U, −K] and A = [−Z; Vᴴ] as low_rank has it: exactly a DoRA adapter of
/// rank ru + rv, which computes diag(magnitude / ‖rows of M + B A‖) (M + B A). For HOFT s is 1.
///
/// @param policy    where to compute
/// @param a         the adapter of a weight [m, n]
/// @param M         [m, n] In: the base weight
/// @param left      [m, ru + rv] Out: B
/// @param right     [ru + rv, n] Out: A
/// @param magnitude [m] Out: s_i ‖row i of M + B A‖, of B and A as they are stored; of the sign of s_i
/// @param work      at least scaled_low_rank_workspace bytes: on the CPU no m×n temporary
/// @throws hoft::argument_error if an s_i is 0 (where the host reads s: a GPU gives what is not finite), a side has
///         explicit tau or was not accumulated; hoft::shape_error, hoft::workspace_error; all before anything is
///         written
///
/// None of the outputs may overlap another, M or s. A row of M̂ that is zero has magnitude 0, and DoRA, which divides by
/// its norm, makes it NaN. B is not finite where |s_i| is less than 1 over the largest number of its type. Where
/// columns of M are split over ranks, the norms are one message of 3 numbers a row for every 256 rows.
///
/// Cost: that of low_rank and 2 m n (ru + rv) flops; M is read three times. Accuracy: as of merge; a magnitude is
/// within a small multiple of √(n + ru + rv) ε |s_i| (‖M_i‖ + ‖|B_i| |A|‖). Factors in 16 bits are rounded once each.
/// Source: math in docs/reference/mathematics.md (section 3); DoRA: Liu et al., arXiv 2402.09353 (2024).
template <execution_policy Policy, class A, class TM, class L, class T, class LL, class LR, class S>
void scaled_low_rank(Policy const& policy, adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<T, LL> left,
                     matrix_view<T, LR> right, vector_view<S> magnitude, workspace work) {
  using acc = std::remove_const_t<A>;
  using value = std::remove_const_t<TM>;
  static_assert(
      std::same_as<accumulator_t<TM>, acc> && std::same_as<accumulator_t<T>, acc> && std::same_as<S, acc>,
      "hoft::scaled_low_rank: the adapter must hold the accumulator type of M and of the factors, and the type "
      "of the magnitudes.");
  constexpr char const* function = "scaled_low_rank";
  adapter_view<acc const> const view = a;
  matrix_view<value const, L> const weight = M;
  index_t const ru = a.left.rank(), rv = a.right.rank();
  detail::require_low_rank(function, detail::ranks_of(policy), view, M, left, right);
  detail::require_equal(function, "magnitude.size", magnitude.size, a.rows());
  using pieces_type = detail::scaled_low_rank_pieces<Policy, acc, value, L>;
  auto const pieces = detail::carve<pieces_type>(function, work, policy, view);
  ops<Policy>::agree_on_adapter(policy, view);
  detail::require_no_zero(function, policy, view);
  detail::bind_and_factor(policy, view, weight, right, pieces.factor);
  auto const U = pieces.left.columns(0, ru);
  ops<Policy>::copy(policy, view.left.vectors, U);
  if (a.scaled()) ops<Policy>::divide_rows(policy, view.scale, U);
  ops<Policy>::copy(policy, pieces.factor.layer.parts.minus_K, pieces.left.columns(ru, rv));
  ops<Policy>::copy(policy, pieces.left, left);
  // Who reads the factors has them as they are stored.
  if constexpr (!std::same_as<T, acc>) ops<Policy>::copy(policy, left, pieces.left);
  ops<Policy>::copy(policy, right.transposed(), pieces.right_turned);
  detail::row_magnitudes(policy, view.scale, weight, magnitude, pieces);
}

}  // namespace HOFT_TARGET_NAMESPACE
