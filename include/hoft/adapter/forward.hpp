// hoft/adapter/forward.hpp: HOFT and SHOFT on activations, the adapted weight never formed.
#pragma once
#include <hoft/adapter/algorithms.hpp>
#include <hoft/adapter/base.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_NAMESPACE {

/// A linear operator M [m, n] that hoft adapts without seeing its elements: dense, quantised, sharded, anything.
///   base.apply(X, Y)          Y [m, t'] := M X,  X [n, t']
///   base.apply_adjoint(X, Y)  Y [n, t'] := MᴴX,  X [m, t']
/// An operator may take a policy too, base.apply(policy, X, Y) and base.apply_adjoint(policy, X, Y): it is then called
/// with that of forward or backward, in a batch with that of one problem, and may use its threads.
/// If it has rows() and cols(), they are checked against the adapter. What it throws passes through; x (backward: dy)
/// has then been overwritten.
template <class Base, class T, class L>
concept base_operator = requires(Base& base, matrix_view<T const, L> X, matrix_view<T, L> Y) {
  base.apply(X, Y);
  base.apply_adjoint(X, Y);
};

/// What the forward pass leaves for the backward pass, in memory of the caller. The backward pass takes constant
/// elements as well.
template <class A, class T, class L>
struct saved_activations {
  matrix_view<A> B;     ///< [m, rv] M V̂
  matrix_view<A, L> v;  ///< [rv, t] V̂ᴴx
  matrix_view<A, L> w;  ///< [ru, t] Ûᴴp, p = s ∘ q
  /// [m, t] q = base − K v, for SHOFT only and optional. Left empty, the backward pass recovers it from y as
  /// (y + U Z) / s, which costs no memory but divides rounding errors of y by s_i, and is not finite where s_i = 0.
  matrix_view<T, L> q;
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

/// Cuts what `forward` saves for t tokens from `memory`; with a counting arena it tells the size.
/// @throws hoft::shape_error if t is negative or the adapter's parts do not fit each other, hoft::workspace_error if
///         `memory` is used up
template <class T, class L, class A>
saved_activations<std::remove_const_t<A>, T, L> carve_saved(arena& memory, adapter_view<A> const& a, index_t t,
                                                            bool keep_q = true) {
  using acc = std::remove_const_t<A>;
  detail::require_adapter_sizes("carve_saved", a);
  detail::require_at_least("carve_saved", "t", t, 0);
  saved_activations<acc, T, L> saved;
  saved.B = memory.matrix<acc>(a.rows(), a.right.rank());
  saved.v = memory.matrix<acc, L>(a.right.rank(), t);
  saved.w = memory.matrix<acc, L>(a.left.rank(), t);
  if (a.scaled() && keep_q) saved.q = memory.matrix<T, L>(a.rows(), t);
  return saved;
}

namespace detail {

/// A base operator that knows its extents must have the adapter's.
template <class Base, class A>
void require_base(char const* function, Base const& base, adapter_view<A> const& a) {
  if constexpr (requires { base.rows(), base.cols(); }) {
    require_equal(function, "base.rows", base.rows(), a.rows());
    require_equal(function, "base.cols", base.cols(), a.cols());
  }
}

template <class A, class AS, class TS, class L>
void require_saved(char const* function, adapter_view<A> const& a, saved_activations<AS, TS, L> const& saved,
                   index_t t) {
  require_shape(function, "saved.B", saved.B, a.rows(), a.right.rank());
  require_shape(function, "saved.v", saved.v, a.right.rank(), t);
  require_shape(function, "saved.w", saved.w, a.left.rank(), t);
  if (!saved.q.empty()) require_shape(function, "saved.q", saved.q, a.scaled() ? a.rows() : 0, t);
}

template <class A, class Base, class T, class L>
void require_forward(adapter_view<A> const& a, Base const& base, matrix_view<T, L> x, matrix_view<T, L> y,
                     saved_activations<std::remove_const_t<A>, T, L> const& saved) {
  constexpr char const* function = "forward";
  index_t const rv = a.right.rank(), t = saved.v.cols;  // x and y have rv columns more
  require_adapter(function, a);
  require_shape(function, "x", x, a.cols(), t + rv);
  require_shape(function, "y", y, a.rows(), t + rv);
  require_base(function, base, a);
  require_saved(function, a, saved, t);
}

template <class Policy, class A, class T, class L>
struct forward_pieces {
  matrix_view<A> minus_K;
  project_algorithm<Policy, A, T, L> project;
  adapt_algorithm<Policy, A, T, L, given_projections<A, L>> adapt;
  forward_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t t)
      : minus_K(memory.matrix<A>(a.rows(), a.right.rank())),
        project(memory, policy, a.cols(), a.right.rank(), t),
        adapt(memory, policy, a, t, a.scaled()) {}
};

}  // namespace detail

/// Bytes of workspace for `forward` with x of this element type and layout, extended by rv columns as `forward` takes
/// it. @throws hoft::shape_error if x has fewer columns than that, an extent is negative, or parts of the adapter do
/// not fit each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t forward_workspace(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L> x) {
  using acc = std::remove_const_t<A>;
  detail::require_adapter_sizes("forward_workspace", a);
  detail::require_at_least("forward_workspace", "x.cols", x.cols, a.right.rank());
  detail::require_view("forward_workspace", "x", x);
  return detail::workspace_size<detail::forward_pieces<Policy, acc, std::remove_const_t<T>, L>>(
      policy, adapter_view<acc const>(a), x.cols - a.right.rank());
}

/// y := M̂ x = Q_U diag(s) M Q_V x with one call of the base operator on t + rv columns.
///
/// x and y carry rv spare columns behind their t tokens (for tokens × features in row-major order: rv spare token
/// rows), so that [base | M V̂] = M [x | V̂] needs no copy of x.
///
/// @param policy where to compute
/// @param a      the adapter of a weight [m, n], ranks ru and rv
/// @param base   M as a base operator on T and L
/// @param x      [n, t + rv] In: the first t columns. Out: V̂ in the last rv, the rest untouched
/// @param y      [m, t + rv] Out: M̂ x in the first t columns; scratch in the last rv. Must not overlap x
/// @param saved  Out: what `backward` needs, cut by carve_saved
/// @param work   at least forward_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau, or that
///         nobody accumulated), before anything is written
///
/// Cost: 2 m n (t + rv) flops in the base, 4 (m ru + (m + n) rv / 2) t beside it; one pass over x, base and y
/// (on a GPU a second one over base, where a cluster cannot hold all its features or has more than 32 reflectors).
/// Memory: O((m + n) r + r t) beyond x and y, and on the CPU for each thread 2 b numbers (b = a.left.block; 16-bit
/// storage: 2 b + m + n) for each token of a panel of at most 256. Accuracy: that of the base on [x | V̂] plus a small
/// multiple of √(m + n + rv) (ru + rv) ε max|s| ‖M‖ ‖x‖ token by token.
/// Source: math in docs/reference/mathematics.md (section 3).
template <execution_policy Policy, class A, class Base, class T, class L>
requires base_operator<Base, T, L>
void forward(Policy const& policy, adapter_view<A> const& a, Base& base, matrix_view<T, L> x, matrix_view<T, L> y,
             saved_activations<std::remove_const_t<A>, T, L> const& saved, workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<accumulator_t<T>, acc>, "hoft::forward: the adapter must hold the accumulator type of x.");
  adapter_view<acc const> const view = a;
  index_t const rv = a.right.rank(), t = saved.v.cols;
  detail::require_forward(a, base, x, y, saved);
  auto const pieces = detail::carve<detail::forward_pieces<Policy, acc, T, L>>("forward", work, policy, view, t);
  ops<Policy>::copy(policy, a.right.vectors, x.columns(t, rv));
  detail::apply_base(policy, base, matrix_view<T const, L>(x), y);
  ops<Policy>::copy(policy, y.columns(t, rv), saved.B);
  detail::form_minus_K(policy, view, saved.B, pieces.minus_K);
  auto const tokens = x.columns(0, t), outputs = y.columns(0, t);
  pieces.project.run(policy, view.right.vectors, tokens, saved.v);
  pieces.adapt.run(policy, view, pieces.minus_K, detail::given_projections<acc, L>{saved.v}, outputs, outputs, saved.w,
                   saved.q);
}

}  // namespace HOFT_TARGET_NAMESPACE
