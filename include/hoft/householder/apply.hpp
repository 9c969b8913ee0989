// SPDX-License-Identifier: BSD-3-Clause
// hoft/householder/apply.hpp: Q X, Qᴴ X, X Q and X Qᴴ.
#pragma once
#include <hoft/backend/algorithm.hpp>
#include <hoft/backend/prefetch_hint.hpp>
#include <hoft/householder/compact_wy.hpp>
#include <hoft/view/shape.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// Every side and adjoint is one problem, Y = X − U F UᴴX with F = T or Tᴴ. From the right, (X Q)ᵀ = Qᵀ Xᵀ and
/// Qᵀ = conj(Qᴴ): the transposed view of X (free) under the other operator, with everything in Q conjugated when it is
/// complex, for which the workspace holds a copy.
template <class A>
struct oriented_pieces {
  compact_wy_view<A> conjugated;  // empty unless needed
  oriented_pieces() = default;
  oriented_pieces(arena& memory, index_t m, index_t r, index_t block, side s) {
    if (is_complex<A> && s == side::right) conjugated = carve_compact_wy<A>(memory, m, r, block);
  }
};

template <class Policy, class A>
compact_wy_view<A const> conjugated(Policy const& policy, compact_wy_view<A const> const& Q, compact_wy_view<A> conj) {
  ops<Policy>::conjugate_copy(policy, Q.vectors, conj.vectors);
  ops<Policy>::conjugate_copy(policy, Q.factor, conj.factor);
  ops<Policy>::conjugate_copy(policy, Q.gram, conj.gram);
  ops<Policy>::conjugate_copy(policy, matrix_view<A const>(Q.tau.data, Q.rank(), 1),
                              matrix_view<A>(conj.tau.data, Q.rank(), 1));
  compact_wy_view<A const> oriented = Q;
  oriented.vectors = conj.vectors, oriented.factor = conj.factor, oriented.gram = conj.gram, oriented.tau = conj.tau;
  return oriented;
}
/// The form to apply for that side. For a real Q it is Q itself, without a copy.
template <class Policy, class A>
decltype(auto) orient(Policy const& policy, compact_wy_view<A const> const& Q, side s,
                      oriented_pieces<A> const& pieces) {
  if constexpr (!is_complex<A>) return (Q);
  else return s == side::left ? Q : conjugated(policy, Q, pieces.conjugated);
}

/// Factors are applied from the last to the first for Q, from the first to the last for Qᴴ.
inline index_t nth_applied(index_t blocks, index_t n, op o) { return o == op::plain ? blocks - 1 - n : n; }

/// Y := op(Q) X for a panel; X may be Y. U holds the vectors of Q. W [r, w] receives UᴴX of each factor unless it is
/// empty. scratch [2 b, w]. Without the last update, Y is left as the last factor's input. Of several factors each
/// reads what the last has written: X and Y then hold A.
template <class Policy, class A, class Packed, class TX, class T, class L, class LW>
void apply_panel(Policy const& policy, compact_wy_view<A const> const& Q, Packed const& U, op o, matrix_view<TX, L> X,
                 matrix_view<T, L> Y, matrix_view<A, LW> W, matrix_view<A, L> scratch,
                 std::type_identity_t<prefetch_hint<T, L>> const& hint, bool last_update = true) {
  index_t const blocks = Q.blocks(), w = X.cols;
  if (blocks == 0) return ops<Policy>::copy(policy, X, Y);
  for (index_t n = 0; n < blocks; ++n) {
    auto const q = Q.at(nth_applied(blocks, n, o));
    auto const vectors = U.columns(q.first, q.rank);
    auto const minus_Z = scratch.block(0, 0, q.rank, w);
    auto Wi = scratch.block(Q.block, 0, q.rank, w);
    if constexpr (std::same_as<L, LW>)
      if (!W.empty()) Wi = W.block(q.first, 0, q.rank, w);
    matrix_view<T const, L> source = Y;
    if (n == 0) source = X;
    ops<Policy>::project_packed(policy, vectors, source, Wi,
                                n == 0 ? hint.for_projection() : matrix_view<T const, L>{});
    if (!std::same_as<L, LW> && !W.empty()) ops<Policy>::copy(policy, Wi, W.block(q.first, 0, q.rank, w));
    bool const last = n + 1 == blocks;
    if (last && !last_update) return;
    ops<Policy>::multiply(policy, A(-1), q.T, o, Wi, minus_Z);
    ops<Policy>::update_packed(policy, vectors, minus_Z, source, Y, last ? hint.for_update() : prefetch_hint<T, L>{});
  }
}

/// A panel of the caller's matrix in the accumulator type: the panel itself, or a converted copy in `buffer`.
template <class Policy, class A, class T, class L>
auto staged(Policy const& policy, matrix_view<T, L> X, matrix_view<A, L> buffer) {
  if constexpr (std::same_as<std::remove_const_t<T>, A>) {
    return X;
  } else {
    auto const panel = buffer.columns(0, X.cols);
    ops<Policy>::copy(policy, X, panel);
    return panel;
  }
}
/// The panel that is read after `p`, if its elements are read in place: of X, or `after` X, if that has as many rows.
template <class A, class T, class L, class Panel>
matrix_view<A const, L> next_panel(matrix_view<T, L> X, Panel const& p,
                                   std::type_identity_t<matrix_view<std::remove_const_t<T> const, L>> after = {}) {
  if constexpr (std::same_as<std::remove_const_t<T>, A>) {
    if (p.next > 0) return X.columns(p.first + p.count, p.next);
    if (p.first + p.count == X.cols && after.rows == X.rows) return after;
  }
  return {};
}
/// Elements that are written and never read: all of Y, unless Y is X. (Where panels are converted copies, products
/// write those in place.)
template <class TX, class T, class L>
index_t written_by(matrix_view<TX, L> X, matrix_view<T, L> Y) {
  return static_cast<void const*>(X.data) == static_cast<void const*>(Y.data) ? 0 : Y.rows * Y.cols;
}
/// Whether the panel of X that is read next is better fetched while one is projected than while one is updated.
template <class Policy, class TX, class T, class L>
bool fetches_early(Policy const& policy, matrix_view<TX, L> X, matrix_view<T, L> Y) {
  return ops<Policy>::fetches_early(policy, X.rows * X.cols * index_t(sizeof(T)), written_by(X, Y) == 0);
}
/// Whether products with this kind of matrix take panels of T without conversion.
template <class Policy, class Matrix, class T, class L>
inline constexpr bool takes_panels = accumulating<T> || (ops<Policy>::template takes_panels_of<T, L> &&
                                                         std::same_as<Matrix, packed_t<Policy, accumulator_t<T>, L>>);
/// Whether panels of T are converted into copies. They are not if the backend takes them without conversion and each is
/// written at most `once`, after everything that reads it: writing rounds to T.
template <class Policy, class T, class L>
bool copies_panels(bool once) {
  return !accumulating<T> && !(once && ops<Policy>::template takes_panels_of<T, L>);
}
/// body(x, y) for a panel of X and of Y, which may be X, beside a Matrix: as they lie, or both a converted copy in
/// `buffer`.
template <class Matrix, class Policy, class A, class TX, class T, class L, class Body>
void on_panel(Policy const& policy, bool once, matrix_view<TX, L> X, matrix_view<T, L> Y, matrix_view<A, L> buffer,
              Body const& body) {
  if constexpr (takes_panels<Policy, Matrix, T, L>)
    if (!copies_panels<Policy, T, L>(once)) return body(X, Y);
  if constexpr (!accumulating<T>) {
    auto const panel = staged(policy, X, buffer);
    body(panel, panel);
    ops<Policy>::copy(policy, panel, Y);
  }
}

/// Y := op(Q) X for X and Y [m, n], by panels of columns.
template <class Policy, class A, class T, class L>
struct apply_panels {
  using policy_type = Policy;
  using accumulator = A;
  using value_type = T;
  using layout = L;

  index_t width, workers;
  packed_t<Policy, A, L> U;
  per_worker<A, L> scratch, buffer;
  apply_panels(arena& memory, Policy const& policy, index_t m, index_t n, index_t r, index_t block)
      : width(ops<Policy>::template panel_width<T, L>(policy, m, r)),
        workers(ops<Policy>::panel_workers(policy, n, width)),
        U(ops<Policy>::template carve_packed<A, L>(policy, memory, m, r)),
        scratch(memory, workers, 2 * block, (std::min)(width, n)),
        buffer(memory, workers, copies_panels<Policy, T, L>(r <= block) ? m : 0, (std::min)(width, n)) {}

  /// W [r, n] receives the projections of the factors' inputs, if it is not empty. `after` is what the caller reads
  /// next, without data if it is not known: a hint.
  void run(Policy const& policy, compact_wy_view<A const> const& Q, op o, matrix_view<T const, L> X,
           matrix_view<T, L> Y, matrix_view<A> W, matrix_view<T const, L> after) const {
    auto const local = ops<Policy>::serial(policy);
    ops<Policy>::pack(policy, Q.vectors, U);
    index_t const written = written_by(X, Y);
    bool const early = fetches_early(policy, X, Y);
    ops<Policy>::for_each_panel(policy, X.cols, width, [&](index_t worker, auto p) {
      index_t const j = p.first, w = p.count;
      auto const once = Q.blocks() <= 1;
      on_panel<decltype(U)>(local, once, X.columns(j, w), Y.columns(j, w), buffer(worker), [&](auto x, auto y) {
        using value = typename decltype(y)::value_type;
        auto const next = next_panel<value>(X, p, after);
        bool const of_caller = p.next == 0 && !next.empty();  // what follows on another walk comes early
        apply_panel(local, Q, U, o, x, y, W.columns(j, w), scratch(worker).columns(0, w),
                    {next, {}, written, early || of_caller});
      });
    });
  }
};
template <class Policy, class A, class T, class L>
using apply_algorithm =
    backend::algorithm<typename ops<Policy>::template apply_algorithm<apply_panels<Policy, A, T, L>>,
                       apply_panels<Policy, A, T, L>, index_t, index_t, index_t, index_t>;

template <class Policy, class A, class T, class L>
struct apply_pieces {
  oriented_pieces<A> oriented;
  apply_algorithm<Policy, A, T, L> algorithm;
  apply_pieces(arena& memory, Policy const& policy, index_t m, index_t n, index_t r, index_t block, side s)
      : oriented(memory, m, r, block, s), algorithm(memory, policy, m, n, r, block) {}
};

template <class A, class T, class L>
void require_apply_query(char const* function, compact_wy_view<A> const& Q, matrix_view<T, L> X) {
  require_form_memory(function, "Q", Q, Q.rows(), Q.rank());
  require_view(function, "X", X);
}

template <class A, class TX, class T, class L>
void require_apply(index_t ranks, compact_wy_view<A> const& Q, matrix_view<TX, L> X, matrix_view<T, L> Y, side s) {
  constexpr char const* function = "apply";
  index_t const m = Q.rows();
  require_form(function, "Q", ranks, Q, m, Q.rank());
  require_not_empty(function, "Q", Q, s == side::left ? X.rows : X.cols);
  require_shape(function, "X", X, s == side::left ? m : X.rows, s == side::left ? X.cols : m);
  require_shape(function, "Y", Y, X.rows, X.cols);
}

/// `apply` for arguments that fit each other. `prepare` is called after all checks, before anything is written. `after`
/// is what the caller applies a form to next, if it is known.
template <class A, class T, class L, class Policy, class Prepare>
void apply_checked(char const* function, Policy const& policy, compact_wy_view<A const> const& Q,
                   matrix_view<T const, L> X, matrix_view<T, L> Y, side s, op o, workspace work, matrix_view<A> W,
                   Prepare const& prepare, matrix_view<T const, L> after = {}) {
  auto const run = [&](auto x, auto y, op oriented_op, auto next) {
    using pieces_type = apply_pieces<Policy, A, T, typename decltype(x)::layout_type>;
    auto const pieces = carve<pieces_type>(function, work, policy, Q.rows(), x.cols, Q.rank(), Q.block, s);
    prepare();
    pieces.algorithm.run(policy, orient(policy, Q, s, pieces.oriented), oriented_op, x, y, W, next);
  };
  if (s == side::left) run(X, Y, o, after);
  else run(X.transposed(), Y.transposed(), adjoint_of(o), after.transposed());
}

}  // namespace detail

/// Bytes of workspace for `apply` with X [m, n] of this element type and layout (its data is not read).
/// @throws hoft::shape_error if an extent of Q or X is negative or parts of Q do not fit each other
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t apply_workspace(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<T, L> X,
                                      side s = side::left) {
  using value = std::remove_const_t<T>;
  using acc = std::remove_const_t<A>;
  detail::require_apply_query("apply_workspace", Q, X);
  if (s == side::left)
    return detail::workspace_size<detail::apply_pieces<Policy, acc, value, L>>(policy, Q.rows(), X.cols, Q.rank(),
                                                                               Q.block, s);
  return detail::workspace_size<detail::apply_pieces<Policy, acc, value, transposed_layout<L>>>(
      policy, Q.rows(), X.rows, Q.rank(), Q.block, s);
}

/// Y := Q X, Qᴴ X, X Q or X Qᴴ.
///
/// @param policy where to compute
/// @param Q      [m, m] of rank r
/// @param X      [m, n] In (side::left), [n, m] (side::right)
/// @param Y      shape and layout of X, Out: may be X itself (in place); must not overlap it otherwise, nor Q
/// @param s      the side of X on which Q stands
/// @param o      Q or Qᴴ
/// @param work   at least apply_workspace bytes
/// @param W      [r, n] Out, optional (empty: not wanted): the projections UᴴX, or (X U)ᵀ for side::right, that
///               apply_backward_from_output takes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (Q was not accumulated), before anything is
///         written
///
/// Cost: 4 m n r + 2 n r b flops (b = Q.block); X is read once and Y written once from memory while a panel of columns
/// stays in cache. Accuracy: ‖Y − QX‖ ≤ c r ε ‖X‖ column by column, c a small multiple of √(m + b) (16-bit
/// storage: one rounding of the result). Source: Schreiber & Van Loan 1989; LAPACK's larfb.
template <execution_policy Policy, class A, class TX, class T, class L>
void apply(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<TX, L> X, matrix_view<T, L> Y, side s, op o,
           workspace work, matrix_view<std::remove_const_t<A>> W = {}) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<std::remove_const_t<TX>, T>, "hoft::apply: X and Y must have the same element type.");
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::apply: Q must hold the accumulator type of X: a Q of float reflectors takes X of float or of 16 "
                "bits, a Q of double takes X of double.");
  detail::require_apply(ops<Policy>::rank_count(policy), Q, X, Y, s);
  if (W.empty()) W = {};  // so that no part of it has columns
  else detail::require_shape("apply", "W", W, Q.rank(), s == side::left ? X.cols : X.rows);
  detail::apply_checked<acc, T, L>("apply", policy, Q, X, Y, s, o, work, W, [] {});
}

/// Bytes of workspace for `materialize`.
template <execution_policy Policy, class A, class T, class L>
[[nodiscard]] index_t materialize_workspace(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<T, L> E) {
  return apply_workspace(policy, Q, E);
}

/// E := the first k columns of Q: LAPACK's orgqr, torch.linalg.householder_product.
///
/// @param policy where to compute
/// @param Q      [m, m] of rank r
/// @param E      [m, k] Out: k <= m. Must not overlap Q
/// @param work   at least materialize_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (Q was not accumulated), before anything is
///         written
///
/// Cost and accuracy: those of `apply` to [m, k].
template <execution_policy Policy, class A, class T, class L>
void materialize(Policy const& policy, compact_wy_view<A> const& Q, matrix_view<T, L> E, workspace work) {
  constexpr char const* function = "materialize";
  static_assert(std::same_as<accumulator_t<T>, std::remove_const_t<A>>,
                "hoft::materialize: Q must hold the accumulator type of E.");
  detail::require_form(function, "Q", ops<Policy>::rank_count(policy), Q, Q.rows(), Q.rank());
  detail::require_not_empty(function, "Q", Q, E.rows);
  detail::require_at_most(function, "E.cols", E.cols, Q.rows());
  detail::require_shape(function, "E", E, Q.rows(), E.cols);
  detail::apply_checked<std::remove_const_t<A>, T, L>(function, policy, Q, E, E, side::left, op::plain, work, {},
                                                      [&] { ops<Policy>::set_identity(policy, E); });
}

}  // namespace HOFT_TARGET_NAMESPACE
