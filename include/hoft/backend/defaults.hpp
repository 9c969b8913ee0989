// SPDX-License-Identifier: BSD-3-Clause
// hoft/backend/defaults.hpp: the operations that a backend need not write. A backend derives from `defaults`. It must
// define the operations of concept.hpp that have no default, and may define others. A name that it defines hides every
// default of that name.
#pragma once
#include <hoft/backend/columns.hpp>
#include <hoft/backend/elementwise.hpp>
#include <hoft/backend/prefetch_hint.hpp>
#include <hoft/memory/arena.hpp>

#include <algorithm>
#include <limits>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE::backend {

/// Consecutive columns, and how many of the columns after them the same worker takes next (0 if that is not known).
struct panel {
  index_t first, count, next;
};

struct defaults {
  // --- walking over panels of columns: one worker, and the whole matrix as one panel ------------------------------

  /// Workers that may run at once.
  template <class P>
  static index_t worker_count(P const&) {
    return 1;
  }
  /// The largest number of workers that a walk over n columns in panels of `width` keeps busy, without sums and with
  /// sums. Each of them has scratch memory of its own.
  template <class P>
  static index_t panel_workers(P const& policy, index_t /*n*/, index_t /*width*/) {
    return ops<P>::worker_count(policy);
  }
  template <class P>
  static index_t sum_workers(P const& policy, index_t /*n*/, index_t /*width*/) {
    return ops<P>::worker_count(policy);
  }
  /// The policy for work inside one worker.
  template <class P>
  static P serial(P const& policy) {
    return policy;
  }
  /// Whether the panel that is read next is fetched by `project_packed` rather than by `update_packed`, for a matrix of
  /// that many bytes, updated in place or not.
  template <class P>
  static bool fetches_early(P const&, index_t /*bytes*/, bool /*in_place*/) {
    return false;
  }
  /// Columns of one panel of a matrix with m rows of elements T. `beside`: each panel passes reflectors or sums of
  /// shape [m, beside] once. 16-bit storage is converted panel by panel: a panel has enough columns to keep a machine
  /// busy, and few enough that the copy is small beside the matrix.
  template <class T, class L, class P>
  static index_t panel_width(P const&, index_t m, index_t /*beside*/) {
    if constexpr (std::same_as<T, accumulator_t<T>>) return (std::numeric_limits<index_t>::max)() / 2;
    else return std::max<index_t>(64, (index_t{1} << 22) / std::max<index_t>(m, 1));
  }
  /// body(worker, panel) for consecutive panels of `width` columns that cover [0, n), in any order.
  template <class P, class Body>
  static void for_each_panel(P const&, index_t n, index_t width, Body const& body) {
    for (index_t j = 0; j < n; j += width) body(index_t{0}, panel{j, (std::min)(width, n - j), 0});
  }
  /// The same for sums over columns: clear(worker) starts a partial sum, body adds panels to it, merge(worker) adds it
  /// to the total. Partial sums depend on shapes alone, and merges run in order.
  template <class P, class Clear, class Body, class Merge>
  static void for_each_panel_summed(P const& policy, index_t n, index_t width, Clear const& clear, Body const& body,
                                    Merge const& merge) {
    if (n == 0) return;
    clear(index_t{0});
    ops<P>::for_each_panel(policy, n, width, body);
    merge(index_t{0});
  }

  // --- weights that are split over ranks (sharded/): here every matrix is whole, and every sum is complete ----------
  // Either the rows or the columns of a weight M [m, n] may lie on several ranks. Algorithms of adapter/ choose the
  // policy of an operation by the extent over which its sum runs.

  /// For sums over the rows of M: features of y, and the length of Q_U's reflectors.
  template <class P>
  static P const& of_left(P const& policy) {
    return policy;
  }
  /// For sums over the columns of M: features of x, and the length of Q_V's reflectors.
  template <class P>
  static P const& of_right(P const& policy) {
    return policy;
  }
  /// For sums over this rank's part alone, to be completed by sum_ranks.
  template <class P>
  static P const& of_rank(P const& policy) {
    return policy;
  }
  /// The number of ranks that hold the rows of a tall matrix.
  template <class P>
  static index_t rank_count(P const&) {
    return 1;
  }
  /// The policy with which base operators are called.
  template <class P>
  static P const& of_base(P const& policy) {
    return policy;
  }
  /// Ranks compare the reflectors that they are about to accumulate, before they exchange anything.
  template <class A, class P>
  static void agree_on_form(P const&, index_t /*r*/, index_t /*block*/, inverse) {}
  /// Ranks compare the properties of an adapter that no later message would reveal, before they exchange anything.
  template <class P, class Adapter>
  static void agree_on_adapter(P const&, Adapter const&) {}
  /// Each of the matrices := its sum over ranks, computed in A. All of them travel in one message.
  template <class A, class P, class... Matrices>
  static void sum_ranks(P const&, Matrices const&...) {}

  // --- batches: one problem after another -------------------------------------------------------------------------

  /// Problems of a batch that are worked on at a time; each has workspace of its own.
  template <class P>
  static index_t problems_at_once(P const&, index_t) {
    return 1;
  }
  /// body(policy, slot, i) for every problem i; slot < problems_at_once numbers the parts of the workspace.
  template <class P, class Body>
  static void for_each_problem(P const& policy, index_t count, Body const& body) {
    for (index_t i = 0; i < count; ++i) body(policy, index_t{0}, i);
  }
  /// A base operator of the caller's, as a problem of a batch calls it.
  template <class P, class Base>
  static Base& in_order(P const&, Base& base) {
    return base;
  }

  // --- element by element: functions of for_each_element ----------------------------------------------------------

  /// Y := X, converting between storage and accumulator types. Nothing to do where X is Y.
  template <class P, class TX, class LX, class TY, class LY>
  static void copy(P const& policy, matrix_view<TX, LX> X, matrix_view<TY, LY> Y) {
    if (static_cast<void const*>(X.data) == static_cast<void const*>(Y.data)) return;
    ops<P>::for_each_element(policy, Y, copy_element<TX, LX, TY, LY>{X, Y});
  }
  template <class P, class TX, class TY>
  static void copy(P const& policy, vector_view<TX> x, vector_view<TY> y) {
    ops<P>::copy(policy, as_column(x), as_column(y));
  }
  /// X := value.
  template <class P, class T, class L>
  static void fill(P const& policy, std::type_identity_t<T> value, matrix_view<T, L> X) {
    ops<P>::for_each_element(policy, X, fill_element<T, L>{value, X});
  }
  template <class P, class T>
  static void fill(P const& policy, std::type_identity_t<T> value, vector_view<T> x) {
    ops<P>::fill(policy, value, as_column(x));
  }
  /// X := value for several X.
  template <class P, class T, std::size_t N>
  static void fill_each(P const& policy, std::type_identity_t<T> value, matrix_view<T> const (&each)[N]) {
    for (matrix_view<T> const& X : each) ops<P>::fill(policy, value, X);
  }
  /// D := diag(d).
  template <class P, class T>
  static void set_diagonal(P const& policy, vector_view<T const> d, matrix_view<T> D) {
    ops<P>::for_each_element(policy, D, diagonal_element<T>{d, D});
  }
  /// E := the first columns of the identity.
  template <class P, class T, class L>
  static void set_identity(P const& policy, matrix_view<T, L> E) {
    ops<P>::for_each_element(policy, E, identity_element<T, L>{E});
  }
  /// Y := conj(X), element by element; given X.transposed(), Y := Xᴴ.
  template <class P, class TX, class LX, class T, class LY>
  static void conjugate_copy(P const& policy, matrix_view<TX, LX> X, matrix_view<T, LY> Y) {
    ops<P>::for_each_element(policy, Y, conjugate_element<TX, LX, T, LY>{X, Y});
  }
  /// X := conj(X).
  template <class P, class T, class L>
  static void conjugate_in_place(P const& policy, matrix_view<T, L> X) {
    if constexpr (is_complex<T>) ops<P>::for_each_element(policy, X, conjugate_element<T, L, T, L>{X, X});
  }
  /// Y := Y + X.
  template <class P, class T, class L>
  static void add(P const& policy, std::type_identity_t<matrix_view<T const, L>> X, matrix_view<T, L> Y) {
    ops<P>::for_each_element(policy, Y, add_element<T, L>{X, Y});
  }
  /// X := −X.
  template <class P, class T, class L>
  static void negate(P const& policy, matrix_view<T, L> X) {
    ops<P>::for_each_element(policy, X, negate_element<T, L>{X});
  }
  /// V := the unit lower trapezoid of A, as LAPACK's geqrf leaves reflectors: ones on the diagonal, zeros above.
  template <class P, class TA, class LA, class T>
  static void unit_lower(P const& policy, matrix_view<TA, LA> A, matrix_view<T> V) {
    ops<P>::for_each_element(policy, V, unit_lower_element<TA, LA, T>{A, V});
  }
  /// dA := the strictly lower part of D, zeros elsewhere.
  template <class P, class T, class TA, class LA>
  static void strictly_lower(P const& policy, matrix_view<T const> D, matrix_view<TA, LA> dA) {
    ops<P>::for_each_element(policy, dA, strictly_lower_element<T, TA, LA>{D, dA});
  }
  /// A := striu(A), zero on and below the diagonal.
  template <class P, class T>
  static void keep_strictly_upper(P const& policy, matrix_view<T> A) {
    ops<P>::for_each_element(policy, A, strictly_upper_element<T>{A});
  }
  /// Y := diag(d) X or conj(diag(d)) X. Y may be X.
  template <class P, class T, class L>
  static void scale_rows(P const& policy, vector_view<T const> d, op o, std::type_identity_t<matrix_view<T const, L>> X,
                         matrix_view<T, L> Y) {
    ops<P>::for_each_element(policy, Y, scale_row_element<T, L>{d, o == op::adjoint, X, Y});
  }
  /// X := diag(d)⁻¹ X.
  template <class P, class A, class T, class L>
  static void divide_rows(P const& policy, vector_view<A const> d, matrix_view<T, L> X) {
    ops<P>::for_each_element(policy, X, divide_row_element<A, T, L>{d, X});
  }
  /// The first index at which d is zero, or −1. (Where reading d would stall, a backend may always answer −1.)
  template <class P, class T>
  static index_t find_zero(P const&, vector_view<T const> d) {
    for (index_t i = 0; i < d.size; ++i)
      if (d[i] == T(0)) return i;
    return -1;
  }

  // --- column by column: functions of for_each_column -------------------------------------------------------------

  /// Û := U with columns of norm 1, scales [2, r] as normalise_column says.
  template <class P, class TU, class LU, class T>
  static void normalise_columns(P const& policy, matrix_view<TU, LU> U, matrix_view<T> Uhat,
                                matrix_view<real_t<T>> scales) {
    ops<P>::for_each_column(policy, U.rows, U.cols, normalise_column<TU, LU, T>{U, Uhat, scales});
  }
  /// The gradient before normalising from the gradient after it, D.
  template <class P, class T, class TU, class LU>
  static void normalise_columns_backward(P const& policy, matrix_view<T const> Uhat,
                                         matrix_view<real_t<T> const> scales, vector_view<T const> tau,
                                         matrix_view<T> D, matrix_view<TU, LU> dU) {
    using f = normalise_column_backward<T, TU, LU>;
    ops<P>::for_each_column(policy, D.rows, D.cols, f{Uhat, scales, tau, D, dU});
  }
  /// d_j := Σ_l conj(X(l, j)) Y(l, j), the diagonal of XᴴY.
  template <class P, class T>
  static void column_dots(P const& policy, matrix_view<T> X, matrix_view<T> Y, vector_view<T> d) {
    ops<P>::for_each_column(policy, X.rows, X.cols, column_dot<T, col_major>{X, Y, d, false});
  }
  /// d_i := d_i + Σ_j X(i, j) conj(Y(i, j)).
  template <class P, class T, class L>
  static void add_row_dots(P const& policy, matrix_view<T const, L> X, matrix_view<T const, L> Y, vector_view<T> d) {
    using f = column_dot<T, transposed_layout<L>>;
    ops<P>::for_each_column(policy, X.cols, X.rows, f{Y.transposed(), X.transposed(), d, true});
  }

  // --- the triangular factor --------------------------------------------------------------------------------------

  /// A := striu(UᴴU), zero on and below the diagonal; tau_j := 2 / ‖u_j‖² where tau is asked for, 0 for a zero column.
  template <class P, class T>
  static void gram_upper(P const& policy, matrix_view<T const> U, matrix_view<T> A, vector_view<T> tau) {
    ops<P>::project(policy, U, U, A);
    ops<P>::for_each_element(policy, A, gram_element<T>{A, tau});
  }
  /// Elements of scratch that form_factor takes for r reflectors.
  template <class P>
  static index_t form_factor_scratch(P const&, index_t) {
    return 0;
  }
  /// W := op(S) Z with S = diag(1/tau) + A, the inverse of T. Rows with tau = 0, which T maps to zero, give zero.
  template <class P, class T, class L>
  static void multiply_inverse_factor(P const& policy, matrix_view<T const> A, vector_view<T const> tau, op o,
                                      std::type_identity_t<matrix_view<T const, L>> Z, matrix_view<T, L> W) {
    ops<P>::multiply(policy, T(1), A, o, Z, W);
    ops<P>::for_each_element(policy, W, add_over_tau_element<T, L>{tau, o == op::adjoint, Z, W});
  }

  // --- packing: a matrix that meets every panel, in the form that the products below want; here as it is -----------

  /// Up to this number of tokens a matrix is multiplied without packing, because packing would cost more than it saves.
  /// If this is not 0, project_packed, update_packed and update_packed_both take plain matrices too.
  static constexpr index_t few_columns = 0;
  /// Whether n tokens of m features in layout L are so few.
  template <class A, class L, class P>
  static bool few(P const&, index_t /*m*/, index_t n) {
    return n <= ops<P>::few_columns;
  }
  /// Whether the products below take panels of T in this layout without conversion, although they compute in another
  /// type: X, and Y if X has the same type or the accumulator's. Other panels are converted into copies.
  template <class T, class L>
  static constexpr bool takes_panels_of = accumulating<T>;
  /// Cuts a packed matrix [rows, cols] for panels of layout L from `memory`. It has .columns(j, count).
  template <class A, class L, class P>
  static matrix_view<A> carve_packed(P const&, arena& memory, index_t rows, index_t cols) {
    return memory.matrix<A>(rows, cols);
  }
  /// One packed matrix for each worker: returns f, and f(worker) is that of a worker.
  template <class A, class L, class P>
  static detail::per_worker<A> carve_packed_each(P const&, arena& memory, index_t workers, index_t rows, index_t cols) {
    return {memory, workers, rows, cols};
  }
  /// to := U, or conj(U).
  template <class P, class TU, class LU, class A>
  static void pack(P const& policy, matrix_view<TU, LU> U, matrix_view<A> to, bool conjugated = false) {
    if (conjugated) ops<P>::conjugate_copy(policy, U, to);
    else ops<P>::copy(policy, U, to);
  }
  template <class P, class A>
  static void clear_packed(P const& policy, matrix_view<A> D) {
    ops<P>::fill(policy, A(0), D);
  }
  /// Y := Y + D.
  template <class P, class A>
  static void add_packed(P const& policy, matrix_view<A> D, matrix_view<A> Y) {
    ops<P>::add(policy, D, Y);
  }
  /// W := UᴴX for a packed U. The last argument is the panel that is read next, without data if it is not known.
  template <class P, class A, class TX, class L, class LW>
  static void project_packed(P const& policy, matrix_view<A> U, matrix_view<TX, L> X, matrix_view<A, LW> W,
                             matrix_view<std::remove_const_t<TX> const, L> = {}) {
    ops<P>::project(policy, U, X, W);
  }
  /// Y := X + U Z for a packed U. Y may be X.
  template <class P, class A, class TZ, class L>
  static void update_packed(P const& policy, matrix_view<A> U, matrix_view<TZ, L> Z,
                            std::type_identity_t<matrix_view<A const, L>> X, matrix_view<A, L> Y,
                            std::type_identity_t<prefetch_hint<A, L>> const& = {}) {
    ops<P>::update(policy, A(1), U, Z, X, Y);
  }
  /// Y := X + U Z + V S for packed U and V. Y may be X.
  template <class P, class A, class TZ, class TS, class L>
  static void update_packed_both(P const& policy, matrix_view<A> U, matrix_view<TZ, L> Z, matrix_view<A> V,
                                 matrix_view<TS, L> S, std::type_identity_t<matrix_view<A const, L>> X,
                                 matrix_view<A, L> Y, std::type_identity_t<prefetch_hint<A, L>> const& = {}) {
    ops<P>::update(policy, A(1), U, Z, X, Y);
    ops<P>::update(policy, A(1), V, S, Y, Y);
  }
  /// D := D + X Zᴴ for a packed D.
  template <class P, class A, class TX, class TZ, class L>
  static void outer_packed(P const& policy, matrix_view<TX, L> X, matrix_view<TZ, L> Z, matrix_view<A> D) {
    ops<P>::outer(policy, A(1), X, Z, D);
  }
  /// D := D + X Zᴴ + G Pᴴ for a packed D.
  template <class P, class A, class TX, class TZ, class TG, class TP, class L>
  static void outer_packed_both(P const& policy, matrix_view<TX, L> X, matrix_view<TZ, L> Z, matrix_view<TG, L> G,
                                matrix_view<TP, L> R, matrix_view<A> D) {
    ops<P>::outer(policy, A(1), X, Z, D);
    ops<P>::outer(policy, A(1), G, R, D);
  }

  // --- whole algorithms ---------------------------------------------------------------------------------------------
  // Each is a class: its constructor cuts scratch memory from an arena, and run(...) does the work. A backend may
  // replace the algorithm by panels with its own. It gets the former as `Panels`, to derive from or to fall back on.
  // Constructor and run must take the same arguments as those of Panels; otherwise the compiler says what is wrong
  // (algorithm.hpp).

  template <class Panels>
  using apply_algorithm = Panels;  ///< householder/apply.hpp: apply_panels
  template <class Panels>
  using apply_backward_algorithm = Panels;  ///< householder/apply_backward.hpp: apply_backward_panels
  template <class Panels>
  using project_algorithm = Panels;  ///< adapter/algorithms.hpp: project_panels, W = UᴴX
  template <class Panels>
  using adapt_algorithm = Panels;  ///< adapter/algorithms.hpp: adapt_panels, Y = Q_U diag(s) (X − K v)
  template <class Panels>
  using adapt_backward_algorithm = Panels;  ///< adapter/algorithms.hpp: adapt_backward_panels
  template <class Panels>
  using update_algorithm = Panels;  ///< adapter/algorithms.hpp: update_panels, X + V P and X Pᴴ

  /// Computes the exact forms Q[i] of U[i] for all i. Or returns false and does nothing: then the general algorithm
  /// computes them.
  template <class P, class Inputs, class Forms>
  static bool accumulate_batch(P const&, Inputs const&, Forms const&) {
    return false;
  }

 private:
  template <class T>
  static matrix_view<T> as_column(vector_view<T> x) {
    return {x.data, x.size, 1};
  }
};

}  // namespace HOFT_TARGET_NAMESPACE::backend
