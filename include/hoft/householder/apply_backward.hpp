// hoft/householder/apply_backward.hpp: the gradients of apply, from its input or from its output.
#pragma once
#include <hoft/householder/gradient.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

enum class known { input, output, output_and_projections };

/// A backend may have a kernel for all of it, with scratch of its own.
template <class Policy, class T, class L>
concept goes_back_in_one_pass = requires(Policy const& policy) {
  backward_scratch<T, L>(policy, 0, 0, 0);
};
template <class Policy, class T, class L>
index_t one_pass_scratch(Policy const& policy, index_t m, index_t n, index_t r, index_t block) {
  if constexpr (goes_back_in_one_pass<Policy, T, L>)
    if (r <= block) return backward_scratch<T, L>(policy, m, n, r);
  return 0;
}

template <class Policy, class A, class T, class L>
struct apply_backward_pieces {
  oriented_pieces<A> oriented;
  index_t width;
  packed_t<Policy, A, L> U;
  per_worker<A, L> scratch, projections, state, gradient;
  gradient_sums<A> sums;
  gradient_parts<Policy, A, L> parts;
  finish_pieces<A> finish;
  vector_view<A> dtau;
  A* one_pass;
  apply_backward_pieces(arena& memory, Policy const& policy, index_t m, index_t n, index_t r, index_t block,
                        inverse kind, bool explicit_tau, side s)
      : apply_backward_pieces(memory, policy, worker_count(policy), (std::min)(n, panel_width<T, L>(policy, m)),
                              panel_width<T, L>(policy, m), m, n, r, block, kind, explicit_tau, s) {}

 private:
  apply_backward_pieces(arena& memory, Policy const& policy, index_t workers, index_t w, index_t width_, index_t m,
                        index_t n, index_t r, index_t block, inverse kind, bool explicit_tau, side s)
      : oriented(memory, m, r, block, s),
        width(width_),
        U(carve_packed<A, L>(policy, memory, m, r)),
        scratch(memory, workers, 4 * block, w),
        projections(memory, workers, r, w),
        state(memory, workers, r > block || !std::same_as<T, A> ? m : 0, w),
        gradient(memory, workers, std::same_as<T, A> ? 0 : m, w),
        sums(carve_gradient_sums<A>(memory, m, r, block)),
        parts(memory, policy, m, r, block),
        finish(memory, (std::min)(block, r), kind, explicit_tau),
        dtau(explicit_tau ? memory.vector<A>(r) : vector_view<A>{}),
        one_pass(memory.array<A>(one_pass_scratch<Policy, T, L>(policy, m, n, r, block))) {}
};

/// W in the layout of the panel: itself, or a copy in `buffer`.
template <class Policy, class A, class LW, class L>
matrix_view<A const, L> in_layout(Policy const& policy, matrix_view<A const, LW> W, matrix_view<A, L> buffer) {
  if constexpr (std::same_as<LW, L>) {
    return W;
  } else {
    copy(policy, W, buffer.columns(0, W.cols));
    return buffer.columns(0, W.cols);
  }
}

/// The oriented problem: X and dY [m, n] with Q from the left. X is the input or the output of the forward pass.
template <class Policy, class A, class T, class L>
void apply_backward_oriented(Policy const& policy, compact_wy_view<A const> const& Q, op o, known from,
                             matrix_view<T const, L> X, matrix_view<A const> W, matrix_view<T const, L> dY,
                             matrix_view<T, L> dX, apply_backward_pieces<Policy, A, T, L> const& pieces) {
  bool const blocked = Q.blocks() > 1;
  auto const local = serial(policy);
  auto const& sums = pieces.sums;
  if constexpr (goes_back_in_one_pass<Policy, T, L>)
    if (Q.blocks() == 1 && from != known::output_and_projections &&
        backward_in_one_pass(policy, Q.at(0), o, from == known::output, X, dY, dX, sums, pieces.one_pass))
      return finish_gradient(policy, Q, o, sums, pieces.dtau, pieces.finish);
  index_t const written = written_by(dY, dX);
  pack(policy, Q.vectors, pieces.U);
  clear(local, sums);
  for_each_panel_summed(
      policy, dY.cols, pieces.width, [&](index_t worker) { clear(local, pieces.parts(worker)); },
      [&](index_t worker, auto p) {
        index_t const j = p.first, w = p.count;
        auto const scratch = pieces.scratch(worker).columns(0, w);
        auto const buffer = pieces.state(worker).columns(0, w);
        forward_state<A, L> state;
        state.X = staged(local, X.columns(j, w), buffer);
        if (blocked) {
          copy(local, state.X, buffer);
          state.X = state.rewind = buffer;
        }
        if (from == known::input && blocked) {  // the factors' own inputs are met on the way back from the output
          auto const projections = pieces.projections(worker).columns(0, w);
          apply_panel(local, Q, pieces.U, o, buffer, buffer, projections, scratch, {});
          state.W = projections;
        }
        if (from == known::output_and_projections)
          state.W = in_layout(local, W.columns(j, w), pieces.projections(worker));
        state.is_input = from == known::input && !blocked;
        matrix_view<A const, L> const G = staged(local, dY.columns(j, w), pieces.gradient(worker));
        auto const dx = destination(dX.columns(j, w), pieces.gradient(worker));
        backward_panel(local, Q, pieces.U, o, state, G, dx, pieces.parts(worker), scratch,
                       {next_panel<A>(dY, p), next_panel<A>(X, p), written});
        copy(local, dx, dX.columns(j, w));
      },
      [&](index_t worker) { add(local, pieces.parts(worker), sums); });
  finish_gradient(policy, Q, o, sums, pieces.dtau, pieces.finish);
}

template <class Policy, class A, class T, class L, class TU, class LU, class TT>
void apply_backward_any(char const* function, char const* x_name, Policy const& policy,
                        compact_wy_view<A const> const& Q, known from, matrix_view<T const, L> X,
                        matrix_view<A const> W, matrix_view<T const, L> dY, matrix_view<T, L> dX,
                        matrix_view<TU, LU> dU, vector_view<TT> dtau, side s, op o, workspace work) {
  static_assert(
      std::same_as<accumulator_t<T>, A> && std::same_as<accumulator_t<TU>, A> && std::same_as<accumulator_t<TT>, A>,
      "hoft::apply_backward: Q must hold the accumulator type of X, dU and dtau.");
  bool const left = s == side::left;
  index_t const m = Q.rows(), r = Q.rank(), n = left ? X.cols : X.rows;
  require_form(function, "Q", Q, m, r);
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
    auto const oriented = orient(policy, Q, s, pieces.oriented);
    apply_backward_oriented(policy, oriented, oriented_op, from, x, W, dy, dx, pieces);
    if (!left) {
      conjugate_in_place(policy, pieces.sums.D);
      if (Q.explicit_tau) conjugate_in_place(policy, matrix_view<A>(pieces.dtau.data, r, 1));
    }
    vectors_backward(policy, Q, pieces.sums.D, dU);
    if (Q.explicit_tau) copy(policy, pieces.dtau, dtau);
  };
  if (left) run(X, dY, dX, o);
  else run(X.transposed(), dY.transposed(), dX.transposed(), adjoint_of(o));
}

}  // namespace detail

/// Bytes of workspace for `apply_backward` and `apply_backward_from_output` with X of this shape, element type and
/// layout. A query answers for the Q it is given: rank, block, inverse and convention count.
template <execution_policy Policy, class A, class T, class L>
index_t apply_backward_workspace(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<T, L> X,
                                 side s = side::left) {
  using value = std::remove_const_t<T>;
  using acc = std::remove_const_t<A>;
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
/// @throws hoft::shape_error, hoft::workspace_error, before anything is written
///
/// Cost: 10 m n r flops and one pass over X and dY for one block of reflectors; with more blocks 14 m n r, and the
/// panel of X that is in cache runs forward once more. Accuracy: relative error of dX as of `apply`; dU to a small
/// multiple of √n ε ‖X‖ ‖G‖ / ‖u‖. Same bits for any number of threads.
/// Source: docs/mathematics.md, section 2.
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
/// @throws hoft::argument_error if Q is truncated or has explicit tau (pass W then), hoft::shape_error,
///         hoft::workspace_error, before anything is written
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
