// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/packing.hpp: the operations of the CPU on packed matrices.
#pragma once
#include <hoft/cpu/kernel/column_panels.hpp>
#include <hoft/cpu/kernel/few_columns.hpp>
#include <hoft/cpu/kernel/row_panels.hpp>
#include <hoft/cpu/walks.hpp>

namespace HOFT_TARGET_NAMESPACE::cpu_backend {

struct packing : walks {
  static constexpr index_t few_columns = detail::few;
  /// Short columns are summed in an order of their own, so their vectors are packed for every number of tokens.
  template <class A, class L>
  static bool few(cpu const&, index_t m, index_t n) {
    bool const is_short = std::same_as<L, col_major> && kernel::has_short_tiles<A> && m <= kernel::short_rows<A>;
    return n <= few_columns && !is_short;
  }

  /// Cuts a packed matrix [rows, cols] from `memory`.
  template <class T, class L>
  static packed_matrix<T, L> carve_packed(cpu const&, arena& memory, index_t rows, index_t cols) {
    using packed = packed_matrix<T, L>;
    return {memory.array<T>(packed::size(rows, cols)), rows, cols, packed::slab_rows * cols};
  }

  template <class T, class L>
  static packed_per_worker<T, L> carve_packed_each(cpu const&, arena& memory, index_t workers, index_t rows,
                                                   index_t cols) {
    return {memory, workers, rows, cols};
  }

  /// P := U, or conj(U).
  template <class TU, class LU, class T, class L>
  static void pack(cpu const&, matrix_view<TU, LU> U, packed_matrix<T, L> P, bool conjugated = false) {
    P.for_each_part([&](index_t first, index_t rows, index_t j, T* to, index_t step) {
      if constexpr (std::same_as<std::remove_const_t<TU>, T> && U.is_col_major && P.in_slabs && !is_complex<T>)
        std::copy_n(U.data + U.offset(first, j), rows, to);
      else
        for (index_t i = 0; i < rows; ++i) to[i * step] = conjugated ? conjugate(U(first + i, j)) : U(first + i, j);
      if constexpr (P.in_slabs) std::fill(to + rows, to + P.slab_rows, T(0));
    });
  }

  template <class T, class L>
  static void clear_packed(cpu const&, packed_matrix<T, L> P) {
    std::fill_n(P.data, P.size(P.rows, P.cols), T(0));
  }

  /// Y := Y + P.
  template <class T, class L>
  static void add_packed(cpu const&, packed_matrix<T, L> P, matrix_view<T> Y) {
    P.for_each_part([&](index_t first, index_t rows, index_t j, T const* part, index_t step) {
      T* const y = Y.data + Y.offset(first, j);
      for (index_t i = 0; i < rows; ++i) y[i] += part[i * step];
    });
  }

  /// Panels of T in this layout may be given to the products below as they lie: numbers are converted in registers.
  template <class T, class L>
  static constexpr bool takes_panels_of = accumulating<T> ||
                                          (kernel::converts<T, accumulator_t<T>> && std::same_as<L, col_major>);

  /// W := UᴴX. X [m, w], W [r, w]. `next` is fetched meanwhile where columns are contiguous; rows find their own.
  template <class T, class L, class TX, class LW>
  static void project_packed(cpu const&, packed_matrix<T, L> U, matrix_view<TX, L> X, matrix_view<T, LW> W,
                             matrix_view<std::remove_const_t<TX> const, L> next = {}) {
    if constexpr (std::same_as<L, col_major>) detail::project_panel<T>(U, constant(X), W, next);
    else detail::project_panel<T>(U, constant(X), W);
  }

  /// Y := X + U Z, or X + U Z + V S, in one pass over X where columns are contiguous. X may be Y, or have no data for
  /// zero. X and Y [m, w], Z [r, w].
  template <class T, class L, class TZ, class TX, class TY>
  static void update_packed(cpu const&, packed_matrix<T, L> U, matrix_view<TZ, L> Z, matrix_view<TX, L> X,
                            matrix_view<TY, L> Y, prefetch_hint<std::remove_const_t<TX>, L> const& hint = {}) {
    update_term<T, L> const term{U, Z};
    detail::update_panel<T>(1, &term, constant(X), Y, hint);
  }
  template <class T, class L, class TZ, class TS, class TX, class TY>
  static void update_packed_both(cpu const&, packed_matrix<T, L> U, matrix_view<TZ, L> Z, packed_matrix<T, L> V,
                                 matrix_view<TS, L> S, matrix_view<TX, L> X, matrix_view<TY, L> Y,
                                 prefetch_hint<std::remove_const_t<TX>, L> const& hint = {}) {
    update_term<T, L> const terms[2] = {{U, Z}, {V, S}};
    detail::update_panel<T>(2, terms, constant(X), Y, hint);
  }

  // The same with matrices as they lie.
  template <class P, class T, class TX, class L, class LW>
  static void project_packed(P const& policy, matrix_view<T const> U, matrix_view<TX, L> X, matrix_view<T, LW> W,
                             matrix_view<std::remove_const_t<TX> const, L> = {}) {
    ops<P>::project(policy, U, X, W);
  }
  template <class P, class T, class L, class TZ>
  static void update_packed(P const& policy, matrix_view<T const> U, matrix_view<TZ, L> Z,
                            std::type_identity_t<matrix_view<T const, L>> X, matrix_view<T, L> Y,
                            std::type_identity_t<prefetch_hint<T, L>> const& = {}) {
    ops<P>::update(policy, T(1), U, Z, X, Y);
  }
  template <class P, class T, class L, class TZ, class TS>
  static void update_packed_both(P const& policy, matrix_view<T const> U, matrix_view<TZ, L> Z, matrix_view<T const> V,
                                 matrix_view<TS, L> S, std::type_identity_t<matrix_view<T const, L>> X,
                                 matrix_view<T, L> Y, std::type_identity_t<prefetch_hint<T, L>> const& = {}) {
    ops<P>::update(policy, T(1), U, Z, X, Y);
    ops<P>::update(policy, T(1), V, S, Y, Y);
  }

  /// D := D + X Zᴴ, or the sum of two such products in one pass over D. X [m, w], Z [r, w].
  template <class T, class L, class TX, class TZ>
  static void outer_packed(cpu const&, matrix_view<TX, L> X, matrix_view<TZ, L> Z, packed_matrix<T, L> D) {
    if (X.cols == 0) return;  // nothing to add, and perhaps no address to begin at
    outer_term<T, L, std::remove_const_t<TX>> const term{X, Z};
    detail::outer_panel<T>(1, &term, D);
  }
  template <class T, class L, class TX, class TZ, class TG, class TP>
  static void outer_packed_both(cpu const&, matrix_view<TX, L> X, matrix_view<TZ, L> Z, matrix_view<TG, L> G,
                                matrix_view<TP, L> P, packed_matrix<T, L> D) {
    if (X.cols == 0) return;
    outer_term<T, L, std::remove_const_t<TX>> const terms[2] = {{X, Z}, {G, P}};
    detail::outer_panel<T>(2, terms, D);
  }

 private:
  template <class T, class L>
  static matrix_view<std::remove_const_t<T> const, L> constant(matrix_view<T, L> X) {
    return X;
  }
};

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
