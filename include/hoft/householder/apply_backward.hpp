// SPDX-License-Identifier: BSD-3-Clause
// hoft/householder/apply_backward.hpp: the gradients of apply, from its input or from its output.
#pragma once
#include <hoft/backend/algorithm.hpp>
#include <hoft/householder/gradient.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

enum class known { input, output, output_and_projections };

/// W in the layout of the panel: itself, or a copy in `buffer`.
template <class Policy, class A, class LW, class L>
matrix_view<A const, L> in_layout(Policy const& policy, matrix_view<A const, LW> W, matrix_view<A, L> buffer) {
  if constexpr (std::same_as<LW, L>) {
    return W;
  } else {
    ops<Policy>::copy(policy, W, buffer.columns(0, W.cols));
    return buffer.columns(0, W.cols);
  }
}

/// The gradients for X and dY [m, n] with Q from the left, by panels of columns. X is the input or the output of the
/// forward pass.
template <class Policy, class A, class T, class L>
struct apply_backward_panels {
  using policy_type = Policy;
  using accumulator = A;
  using value_type = T;
  using layout = L;

  index_t width, workers;
  packed_t<Policy, A, L> U;
  per_worker<A, L> scratch, projections, state, gradient;
  gradient_parts<Policy, A, L> parts;
  apply_backward_panels(arena& memory, Policy const& policy, index_t m, index_t n, index_t r, index_t block)
      : width(ops<Policy>::template panel_width<T, L>(policy, m, r)),
        workers(ops<Policy>::sum_workers(policy, n, width)),
        U(ops<Policy>::template carve_packed<A, L>(policy, memory, m, r)),
        scratch(memory, workers, 4 * block, (std::min)(n, width)),
        projections(memory, workers, r, (std::min)(n, width)),
        state(memory, workers, r > block || copies_panels<Policy, T, L>(true) ? m : 0, (std::min)(n, width)),
        gradient(memory, workers, copies_panels<Policy, T, L>(r <= block) ? m : 0, (std::min)(n, width)),
        parts(memory, policy, workers, m, r, block) {}

  /// dX := op(Q)ᴴ dY, and the sums over all columns.
  void run(Policy const& policy, compact_wy_view<A const> const& Q, op o, known from, matrix_view<T const, L> X,
           matrix_view<A const> W, matrix_view<T const, L> dY, matrix_view<T, L> dX,
           gradient_sums<A> const& sums) const {
    auto const local = ops<Policy>::serial(policy);
    index_t const written = written_by(dY, dX);
    bool const early = fetches_early(policy, dY, dX);
    ops<Policy>::pack(policy, Q.vectors, U);
    clear_sums(local, sums);
    ops<Policy>::for_each_panel_summed(
        policy, dY.cols, width, [&](index_t worker) { clear_sums(local, parts(worker)); },
        [&](index_t worker, auto p) {
          index_t const j = p.first, w = p.count;
          auto const once = Q.blocks() <= 1;
          on_panel<decltype(U)>(
              local, once, dY.columns(j, w), dX.columns(j, w), gradient(worker), [&](auto g, auto dx) {
                using value = typename decltype(dx)::value_type;
                auto const known = known_state<value>(local, Q, o, from, X.columns(j, w), W.columns(j, w), worker);
                backward_panel(local, Q, U, o, known, matrix_view<value const, L>(g), dx, parts(worker),
                               scratch(worker).columns(0, w),
                               {next_panel<value>(dY, p), next_panel<value>(X, p), written, early});
              });
        },
        [&](index_t worker) { add_sums(local, parts(worker), sums); });
  }

 private:
  /// What is known of the forward pass on the panel X, which is read as it lies (Value is T) or in A.
  template <class Value, class Local>
  forward_state<A, L, Value> known_state(Local const& local, compact_wy_view<A const> const& Q, op o, known from,
                                         matrix_view<T const, L> X, matrix_view<A const> W, index_t worker) const {
    bool const blocked = Q.blocks() > 1;
    auto const buffer = state(worker).columns(0, X.cols);
    forward_state<A, L, Value> result;
    if constexpr (std::same_as<Value, T>) result.X = X;
    else result.X = staged(local, X, buffer);
    if constexpr (std::same_as<Value, A>)
      if (blocked) {
        ops<Policy>::copy(local, result.X, buffer);
        result.X = result.rewind = buffer;
        if (from == known::input) {  // the factors' own inputs are met on the way back from the output
          auto const saved = projections(worker).columns(0, X.cols);
          apply_panel(local, Q, U, o, buffer, buffer, saved, scratch(worker).columns(0, X.cols), {});
          result.W = saved;
        }
      }
    if (from == known::output_and_projections) result.W = in_layout(local, W, projections(worker));
    result.is_input = from == known::input && !blocked;
    return result;
  }
};
template <class Policy, class A, class T, class L>
using apply_backward_algorithm =
    backend::algorithm<typename ops<Policy>::template apply_backward_algorithm<apply_backward_panels<Policy, A, T, L>>,
                       apply_backward_panels<Policy, A, T, L>, index_t, index_t, index_t, index_t>;

template <class Policy, class A, class T, class L>
struct apply_backward_pieces {
  oriented_pieces<A> oriented;
  apply_backward_algorithm<Policy, A, T, L> algorithm;
  gradient_sums<A> sums;
  finish_pieces<A> finish;
  vector_view<A> dtau;
  apply_backward_pieces(arena& memory, Policy const& policy, index_t m, index_t n, index_t r, index_t block,
                        inverse kind, bool explicit_tau, side s)
      : oriented(memory, m, r, block, s),
        algorithm(memory, policy, m, n, r, block),
        sums(carve_gradient_sums<A>(memory, m, r, block)),
        finish(memory, (std::min)(block, r), kind, explicit_tau),
        dtau(explicit_tau ? memory.vector<A>(r) : vector_view<A>{}) {}
};

template <class Policy, class A, class T, class L, class TU, class LU, class TT>
void apply_backward_any(char const* function, char const* x_name, Policy const& policy,
                        compact_wy_view<A const> const& Q, known from, matrix_view<T const, L> X,
                        matrix_view<A const> W, matrix_view<T const, L> dY, matrix_view<T, L> dX,
                        matrix_view<TU, LU> dU, vector_view<TT> dtau, side s, op o, workspace work) {
  static_assert(
      std::same_as<accumulator_t<T>, A> && std::same_as<accumulator_t<TU>, A> && std::same_as<accumulator_t<TT>, A>,
      "hoft::apply_backward: Q must hold the accumulator type of X, dU and dtau: a Q of float reflectors takes them of "
      "float or of 16 bits, a Q of double takes double.");
  bool const left = s == side::left;
  index_t const m = Q.rows(), r = Q.rank(), n = left ? X.cols : X.rows;
  require_form(function, "Q", ops<Policy>::rank_count(policy), Q, m, r);
  require_not_empty(function, "Q", Q, left ? X.rows : X.cols);
  require_shape(function, x_name, X, left ? m : n, left ? n : m);
  require_shape(function, "dY", dY, X.rows, X.cols);
  require_shape(function, "dX", dX, X.rows, X.cols);
  if (from == known::output_and_projections) require_shape(function, "W", W, r, n);
  require_shape(function, "dU", dU, m, r);
  require_equal(function, "dtau.size", dtau.size, Q.explicit_tau ? r : 0);
  if (from == known::output && !Q.orthogonal())
    refuse<argument_error>(function, "Q", Q.kind.truncated ? "built with neumann{k}" : "built with explicit tau",
                           "built with exact{}, or W given, to recover the input from the output");
  auto const run = [&](auto x, auto dy, auto dx, op oriented_op) {
    using layout = typename decltype(x)::layout_type;
    using pieces_type = apply_backward_pieces<Policy, A, T, layout>;
    auto const pieces = carve<pieces_type>(function, work, policy, m, n, r, Q.block, Q.kind, Q.explicit_tau, s);
    auto const& oriented = orient(policy, Q, s, pieces.oriented);
    pieces.algorithm.run(policy, oriented, oriented_op, from, x, W, dy, dx, pieces.sums);
    finish_gradient(policy, oriented, oriented_op, pieces.sums, pieces.dtau, pieces.finish);
    if (!left) {
      ops<Policy>::conjugate_in_place(policy, pieces.sums.D);
      if (Q.explicit_tau) ops<Policy>::conjugate_in_place(policy, matrix_view<A>(pieces.dtau.data, r, 1));
    }
    vectors_backward(policy, Q, pieces.sums.D, dU);
    if (Q.explicit_tau) ops<Policy>::copy(policy, pieces.dtau, dtau);
  };
  if (left) run(X, dY, dX, o);
  else run(X.transposed(), dY.transposed(), dX.transposed(), adjoint_of(o));
}

}  // namespace detail

/// Bytes of workspace for `apply_backward` and `apply_backward_from_output` with X of this shape, element type and
/// layout. A query answers for the Q it is given: rank, block, inverse and convention count.
/// @throws hoft::shape_error as apply_workspace
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t apply_backward_workspace(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<T, L> X,
                                               side s = side::left) {
  using value = std::remove_const_t<T>;
  using acc = std::remove_const_t<A>;
  detail::require_apply_query("apply_backward_workspace", Q, X);
  auto const size = [&](auto layout, index_t n) {
    using pieces = detail::apply_backward_pieces<Policy, acc, value, decltype(layout)>;
    return detail::workspace_size<pieces>(policy, Q.rows(), n, Q.rank(), Q.block, Q.kind, Q.explicit_tau, s);
  };
  return s == side::left ? size(L{}, X.cols) : size(transposed_layout<L>{}, X.rows);
}

/// The gradients of Y = apply(Q, X) with respect to X, U and tau, given G = ∂L/∂Y. (Complex: dL = Re tr(Gᴴ dY).)
///
/// @param policy where to compute
/// @param Q      [m, m] of rank r, as accumulated for the forward pass
/// @param X      [m, n] In (side::left), [n, m] (side::right): the input of the forward pass
/// @param dY     shape of X, In
/// @param dX     shape of X, Out: op(Q)ᴴ G. May be dY itself; must not overlap X
/// @param dU     [m, r] Out: with respect to the caller's columns. uᴴdu = 0, and du = 0 for a zero column. With
///               explicit tau: with respect to V, zero on and above the diagonal
/// @param dtau   [r] Out with explicit tau (the true derivative, also at tau = 0); size 0 otherwise
/// @param s, o   as in the forward pass
/// @param work   at least apply_backward_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (Q was not accumulated), before anything is
///         written
///
/// Cost: 10 m n r flops and one pass over X and dY for one block of reflectors; with more blocks 14 m n r, and the
/// panel of X that is in cache runs forward once more. Accuracy: relative error of dX as of `apply`; dU to a small
/// multiple of (r √(m + b) + √n) ε ‖X‖ ‖G‖ / ‖u‖. Same bits for any number of threads.
/// Source: docs/reference/mathematics.md, section 2.
template <execution_policy Policy, class A, class TX, class TG, class T, class L, class TU, class LU, class TT>
void apply_backward(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<TX, L> X, matrix_view<TG, L> dY,
                    matrix_view<T, L> dX, matrix_view<TU, LU> dU, vector_view<TT> dtau, side s, op o, workspace work) {
  using acc = std::remove_const_t<A>;
  detail::apply_backward_any<Policy, acc, T, L>("apply_backward", "X", policy, Q, detail::known::input, X, {}, dY, dX,
                                                dU, dtau, s, o, work);
}

/// The same from the output Y of the forward pass, so that it may run in place: needs a Q that is orthogonal by
/// construction (exact{}, no explicit tau), whose adjoint recovers the input.
///
/// @param Y  shape of X, In: the output of the forward pass. Must not overlap dX
/// @throws hoft::argument_error if Q is truncated or has explicit tau (pass W then) or was not accumulated,
///         hoft::shape_error, hoft::workspace_error, before anything is written
///
/// Other parameters, cost and accuracy as in apply_backward.
template <execution_policy Policy, class A, class TX, class TG, class T, class L, class TU, class LU, class TT>
void apply_backward_from_output(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<TX, L> Y,
                                matrix_view<TG, L> dY, matrix_view<T, L> dX, matrix_view<TU, LU> dU,
                                vector_view<TT> dtau, side s, op o, workspace work) {
  using acc = std::remove_const_t<A>;
  detail::apply_backward_any<Policy, acc, T, L>("apply_backward_from_output", "Y", policy, Q, detail::known::output, Y,
                                                {}, dY, dX, dU, dtau, s, o, work);
}

/// The same for every Q, given also the projections W [r, n] that `apply` saved.
template <execution_policy Policy, class A, class TX, class TW, class TG, class T, class L, class TU, class LU,
          class TT>
void apply_backward_from_output(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<TX, L> Y,
                                matrix_view<TW> W, matrix_view<TG, L> dY, matrix_view<T, L> dX, matrix_view<TU, LU> dU,
                                vector_view<TT> dtau, side s, op o, workspace work) {
  using acc = std::remove_const_t<A>;
  detail::apply_backward_any<Policy, acc, T, L>("apply_backward_from_output", "Y", policy, Q,
                                                detail::known::output_and_projections, Y, W, dY, dX, dU, dtau, s, o,
                                                work);
}

}  // namespace HOFT_TARGET_NAMESPACE
