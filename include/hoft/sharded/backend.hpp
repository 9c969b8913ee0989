// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/backend.hpp: the operations of split problems (backend/concept.hpp): those of the local policy, and a
// message where a sum over rows ends.
//
// A matrix whose rows lie on several ranks is cut into wide panels, so that the projections of each are one long
// message; inside of them the local policy walks over panels of its own.
#pragma once
#include <hoft/sharded/algorithms.hpp>
#include <hoft/sharded/columns.hpp>
#include <hoft/sharded/message.hpp>

#include <cstdint>
#include <span>
#include <string>

namespace HOFT_TARGET_NAMESPACE::sharded_backend {

template <class P>
concept sharded_policy = requires {
  typename P::local_policy;
};
template <class P>
using local_ops = ops<typename P::local_policy>;

struct operations : backend::defaults {
  // --- what of a weight is split: left() for Q_U, right() for Q_V --------------------------------------------------

  template <sharded_policy P>
  static P of_left(P const& policy) {
    return policy.left();
  }
  template <sharded_policy P>
  static P of_right(P const& policy) {
    return policy.right();
  }
  template <sharded_policy P>
  static P of_rank(P const& policy) {
    return policy.alone();
  }
  template <sharded_policy P>
  static index_t rank_count(P const& policy) {
    return policy.rank_count();
  }
  template <sharded_policy P>
  static auto const& of_base(P const& policy) {
    return policy.local;
  }
  template <class A, sharded_policy P>
  static void agree_on_form(P const& policy, index_t r, index_t block, inverse kind) {
    if (policy.sums()) agree<A>(policy, exchange::form, part_record{0, r, block, inverse_code(kind)});
  }
  /// Rows of the side that is split are not compared, nor is the kind on a rank without rows, whose scale is empty. Of
  /// the side that is whole the numbers are, where the host may read them: parts of one size fit the wrong split, too.
  template <sharded_policy P, class Adapter>
  static void agree_on_adapter(P const& policy, Adapter const& a) {
    if (!policy.agrees || policy.of == split::none || policy.ranks->size() == 1) return;
    auto const record = [](P const& side, auto const& Q) {
      return part_record{side.sums() ? 0 : Q.rows(), Q.rank(), Q.block, inverse_code(Q.kind)};
    };
    auto const numbers = [](P const& side, auto const& what) -> std::int64_t {
      if constexpr (on_host<typename P::local_policy>)
        if (!side.sums()) return checksum(what);
      return 0;
    };
    P const left = policy.left(), right = policy.right();
    std::int64_t const kind = a.rows() == 0 ? agreement::unknown : a.scaled() ? 1 : 0;
    part_record const both{kind, numbers(left, a.left), numbers(right, a.right),
                           numbers(left, matrix_view(a.scale.data, a.scale.size, 1))};
    using A = typename decltype(a.left.tau)::value_type;
    agree<A>(policy, exchange::adapter, record(left, a.left), record(right, a.right), both);
  }
  template <class A, sharded_policy P, class... Views>
  static void sum_ranks(P const& policy, Views const&... parts) {
    if (policy.sums()) sum_parts<A>(policy, exchange::sum, parts...);
  }

  // --- walks ---------------------------------------------------------------------------------------------------------

  template <sharded_policy P>
  static index_t worker_count(P const& policy) {
    return policy.sums() ? 1 : local_ops<P>::worker_count(policy.local);
  }
  template <sharded_policy P>
  static index_t panel_workers(P const& policy, index_t n, index_t width) {
    return policy.sums() ? 1 : local_ops<P>::panel_workers(policy.local, n, width);
  }
  template <sharded_policy P>
  static index_t sum_workers(P const& policy, index_t n, index_t width) {
    return policy.sums() ? 1 : local_ops<P>::sum_workers(policy.local, n, width);
  }
  /// A panel that ends in messages has all threads of its rank to itself; so has each problem of a batch on weights.
  template <sharded_policy P>
  static P serial(P const& policy) {
    bool const is_alone = policy.of == split::none || (policy.of == split::tall && policy.ranks->size() == 1);
    if (!is_alone) return policy;
    P one = policy;
    one.local = local_ops<P>::serial(policy.local);
    return one;
  }
  template <sharded_policy P>
  static bool fetches_early(P const& policy, index_t bytes, bool in_place) {
    return local_ops<P>::fetches_early(policy.local, bytes, in_place);
  }
  /// Ranks with different numbers of rows walk alike. Latency is little beside messages of that many columns, and
  /// workspace for a panel is little beside the weights that have more.
  template <class T, class L, sharded_policy P>
  static index_t panel_width(P const& policy, index_t m, index_t beside) {
    constexpr index_t width = 4096;
    return policy.sums() ? width : local_ops<P>::template panel_width<T, L>(policy.local, m, beside);
  }
  template <sharded_policy P, class Body>
  static void for_each_panel(P const& policy, index_t n, index_t width, Body const& body) {
    if (!policy.sums()) return local_ops<P>::for_each_panel(policy.local, n, width, body);
    if (n == 0) return agree<float>(policy, exchange::nothing);
    // The first of several panels may look like the only one of another rank.
    if (n > width) agree<float>(policy, exchange::panels, part_record{0, n, 0, 0});
    defaults::for_each_panel(policy, n, width, body);
  }
  template <sharded_policy P, class Clear, class Body, class Merge>
  static void for_each_panel_summed(P const& policy, index_t n, index_t width, Clear const& clear, Body const& body,
                                    Merge const& merge) {
    if (!policy.sums()) return local_ops<P>::for_each_panel_summed(policy.local, n, width, clear, body, merge);
    if (n == 0) return agree<float>(policy, exchange::nothing);
    defaults::for_each_panel_summed(policy, n, width, clear, body, merge);
  }
  /// One after another, since messages have an order.
  template <sharded_policy P, class Body>
  static void for_each_problem(P const& policy, index_t count, Body const& body) {
    for (index_t i = 0; i < count; ++i) body(serial(policy), index_t{0}, i);
  }
  template <sharded_policy P, class T, class L, class F>
  static void for_each_element(P const& policy, matrix_view<T, L> X, F const& f) {
    local_ops<P>::for_each_element(policy.local, X, f);
  }
  template <sharded_policy P, class F>
  static void for_each_column(P const& policy, index_t m, index_t n, F const& f) {
    local_ops<P>::for_each_column(policy.local, m, n, f);
  }

  // --- rows and elements: nothing is summed over ranks ------------------------------------------------------------

  template <sharded_policy P, class X, class Y>
  static void copy(P const& policy, X from, Y to) {
    local_ops<P>::copy(policy.local, from, to);
  }
  template <sharded_policy P, class T, std::size_t N>
  static void fill_each(P const& policy, std::type_identity_t<T> value, matrix_view<T> const (&each)[N]) {
    local_ops<P>::fill_each(policy.local, value, each);
  }
  template <sharded_policy P, class T, class L>
  static void add_row_dots(P const& policy, matrix_view<T const, L> X, matrix_view<T const, L> Y, vector_view<T> d) {
    local_ops<P>::add_row_dots(policy.local, X, Y, d);
  }
  /// Of all ranks. @throws hoft::argument_error on every rank if the zero is another's
  template <sharded_policy P, class T>
  static index_t find_zero(P const& policy, vector_view<T const> d) {
    index_t const zero = local_ops<P>::find_zero(policy.local, d);
    if (policy.of != split::rows || policy.ranks->size() == 1 || !policy.agrees) return zero;
    agree<T>(policy, exchange::scale);
    std::int64_t const mine = zero;
    auto const* const all = static_cast<std::int64_t const*>(policy.ranks->all_gather(&mine, index_t(sizeof mine)));
    for (int rank = 0; rank < policy.ranks->size(); ++rank)
      if (all[rank] >= 0) {
        std::string const which = "scale[" + std::to_string(all[rank]) + "] of rank " + std::to_string(rank);
        detail::refuse<argument_error>("sharded", which.c_str(), "0", "!= 0");
      }
    return zero;
  }
  template <sharded_policy P, class TA, class LA, class T>
  static void unit_lower(P const& policy, matrix_view<TA, LA> A, matrix_view<T> V) {
    refuse_place(policy, "explicit tau");
    local_ops<P>::unit_lower(policy.local, A, V);
  }
  template <sharded_policy P, class T, class L>
  static void set_identity(P const& policy, matrix_view<T, L> E) {
    refuse_place(policy, "materialize");
    local_ops<P>::set_identity(policy.local, E);
  }

  // --- columns ------------------------------------------------------------------------------------------------------

  template <sharded_policy P, class TU, class LU, class T>
  static void normalise_columns(P const& policy, matrix_view<TU, LU> U, matrix_view<T> Uhat,
                                matrix_view<real_t<T>> scales) {
    using R = real_t<T>;
    if (!policy.sums()) return local_ops<P>::normalise_columns(policy.local, U, Uhat, scales);
    index_t const r = U.cols;
    agree<T>(policy, exchange::norms, scales);
    R* const memory = message_of<R>(policy, 4 * r);
    matrix_view<R> const sums(memory, 3, r), column_by_column(nullptr, 1, r);
    vector_view<R> const ratio(memory + 3 * r, r);
    local_ops<P>::normalise_columns(policy.local, U, Uhat, scales);
    for_each_element(policy, column_by_column, square_norm<R>{scales, sums});
    if (r > 0) policy.ranks->all_reduce(policy.local, memory, 3 * r);
    for_each_element(policy, column_by_column, join_norms<R>{sums, scales, ratio});
    for_each_element(policy, Uhat, scale_column<T>{ratio, Uhat});
  }
  template <sharded_policy P, class T, class TU, class LU>
  static void normalise_columns_backward(P const& policy, matrix_view<T const> Uhat,
                                         matrix_view<real_t<T> const> scales, vector_view<T const> tau,
                                         matrix_view<T> D, matrix_view<TU, LU> dU) {
    if (!policy.sums()) return local_ops<P>::normalise_columns_backward(policy.local, Uhat, scales, tau, D, dU);
    index_t const r = D.cols;
    agree<T>(policy, exchange::gradient, scales);
    vector_view<T> const dots(message_of<T>(policy, r), r);
    using column_dot = backend::column_dot<T, col_major>;
    using element = normalise_backward_element<T, TU, LU>;
    for_each_column(policy, D.rows, r, column_dot{Uhat, D, dots, false});
    if (r > 0) policy.ranks->all_reduce(policy.local, dots.data, r);
    for_each_element(policy, dU, element{Uhat, scales, tau, dots, D, dU});
  }

  // --- the triangular factor: on every rank --------------------------------------------------------------------------

  template <sharded_policy P, class T>
  static void gram_upper(P const& policy, matrix_view<T const> U, matrix_view<T> A, vector_view<T> tau) {
    if (!policy.sums()) return local_ops<P>::gram_upper(policy.local, U, A, tau);
    local_ops<P>::project(policy.local, U, U, A);
    sum_parts<T>(policy, exchange::gram, A);
    for_each_element(policy, A, backend::gram_element<T>{A, tau});
  }
  template <sharded_policy P>
  static index_t form_factor_scratch(P const& policy, index_t r) {
    return local_ops<P>::form_factor_scratch(policy.local, r);
  }
  template <sharded_policy P, class T>
  static void form_factor(P const& policy, matrix_view<T const> A, vector_view<T const> tau, matrix_view<T> F,
                          T* scratch) {
    local_ops<P>::form_factor(policy.local, A, tau, F, scratch);
  }

  // --- products ------------------------------------------------------------------------------------------------------

  /// W := UᴴX, summed over ranks.
  template <sharded_policy P, class TU, class LU, class TX, class LX, class T, class LW>
  static void project(P const& policy, matrix_view<TU, LU> U, matrix_view<TX, LX> X, matrix_view<T, LW> W) {
    local_ops<P>::project(policy.local, U, X, W);
    if (policy.sums()) sum_parts<T>(policy, exchange::sum, W);
  }
  template <sharded_policy P, class TU, class LU, class TZ, class LZ, class T, class LY>
  static void update(P const& policy, std::type_identity_t<T> alpha, matrix_view<TU, LU> U, matrix_view<TZ, LZ> Z,
                     std::type_identity_t<matrix_view<T const, LY>> X, matrix_view<T, LY> Y) {
    local_ops<P>::update(policy.local, alpha, U, Z, X, Y);
  }
  template <sharded_policy P, class TX, class LX, class TZ, class LZ, class T, class LD>
  static void outer(P const& policy, std::type_identity_t<T> alpha, matrix_view<TX, LX> X, matrix_view<TZ, LZ> Z,
                    matrix_view<T, LD> D) {
    local_ops<P>::outer(policy.local, alpha, X, Z, D);
  }
  template <sharded_policy P, class TF, class TW, class LW, class T, class LZ>
  static void multiply(P const& policy, std::type_identity_t<T> alpha, matrix_view<TF> F, op o, matrix_view<TW, LW> W,
                       matrix_view<T, LZ> Z) {
    local_ops<P>::multiply(policy.local, alpha, F, o, W, Z);
  }

  // --- packed matrices: the local policy's ---------------------------------------------------------------------------

  template <class A, class L, sharded_policy P>
  static auto carve_packed(P const& policy, arena& memory, index_t rows, index_t cols) {
    return local_ops<P>::template carve_packed<A, L>(policy.local, memory, rows, cols);
  }
  template <class A, class L, sharded_policy P>
  static auto carve_packed_each(P const& policy, arena& memory, index_t workers, index_t rows, index_t cols) {
    return local_ops<P>::template carve_packed_each<A, L>(policy.local, memory, workers, rows, cols);
  }
  template <sharded_policy P, class U, class Packed>
  static void pack(P const& policy, U from, Packed to, bool conjugated = false) {
    local_ops<P>::pack(policy.local, from, to, conjugated);
  }
  template <sharded_policy P, class Packed>
  static void clear_packed(P const& policy, Packed D) {
    local_ops<P>::clear_packed(policy.local, D);
  }
  template <sharded_policy P, class Packed, class A>
  static void add_packed(P const& policy, Packed D, matrix_view<A> Y) {
    local_ops<P>::add_packed(policy.local, D, Y);
  }
  /// W := UᴴX, summed over ranks.
  template <sharded_policy P, class Packed, class TX, class L, class A, class LW>
  static void project_packed(P const& policy, Packed U, matrix_view<TX, L> X, matrix_view<A, LW> W,
                             matrix_view<std::remove_const_t<TX> const, L> next = {}) {
    for_each_local_panel<A, L>(policy, X, [&](auto const& where, index_t j, index_t w) {
      local_ops<P>::project_packed(where, U, X.columns(j, w), W.columns(j, w), w == X.cols ? next : decltype(next){});
    });
    if (policy.sums()) sum_parts<A>(policy, exchange::sum, W);
  }
  template <sharded_policy P, class Packed, class TZ, class A, class L>
  static void update_packed(P const& policy, Packed U, matrix_view<TZ, L> Z,
                            std::type_identity_t<matrix_view<A const, L>> X, matrix_view<A, L> Y,
                            std::type_identity_t<prefetch_hint<A, L>> const& hint = {}) {
    for_each_local_panel<A, L>(policy, Y, [&](auto const& where, index_t j, index_t w) {
      local_ops<P>::update_packed(where, U, Z.columns(j, w), part_of(X, j, w), Y.columns(j, w),
                                  w == Y.cols ? hint : prefetch_hint<A, L>{});
    });
  }
  template <sharded_policy P, class Packed, class TZ, class TS, class A, class L>
  static void update_packed_both(P const& policy, Packed U, matrix_view<TZ, L> Z, Packed V, matrix_view<TS, L> S,
                                 std::type_identity_t<matrix_view<A const, L>> X, matrix_view<A, L> Y,
                                 std::type_identity_t<prefetch_hint<A, L>> const& hint = {}) {
    for_each_local_panel<A, L>(policy, Y, [&](auto const& where, index_t j, index_t w) {
      local_ops<P>::update_packed_both(where, U, Z.columns(j, w), V, S.columns(j, w), part_of(X, j, w), Y.columns(j, w),
                                       w == Y.cols ? hint : prefetch_hint<A, L>{});
    });
  }
  template <sharded_policy P, class TX, class TZ, class L, class Packed>
  static void outer_packed(P const& policy, matrix_view<TX, L> X, matrix_view<TZ, L> Z, Packed D) {
    for_each_group(policy, D, [&](auto const& where, auto part, index_t j, index_t r) {
      local_ops<P>::outer_packed(where, X, Z.block(j, 0, r, Z.cols), part);
    });
  }
  template <sharded_policy P, class TX, class TZ, class TG, class TR, class L, class Packed>
  static void outer_packed_both(P const& policy, matrix_view<TX, L> X, matrix_view<TZ, L> Z, matrix_view<TG, L> G,
                                matrix_view<TR, L> R, Packed D) {
    for_each_group(policy, D, [&](auto const& where, auto part, index_t j, index_t r) {
      local_ops<P>::outer_packed_both(where, X, Z.block(j, 0, r, Z.cols), G, R.block(j, 0, r, R.cols), part);
    });
  }

  // --- whole algorithms ----------------------------------------------------------------------------------------------

  template <class Panels>
  using apply_algorithm = sharded_apply<Panels>;
  template <class Panels>
  using apply_backward_algorithm = sharded_apply_backward<Panels>;
  template <class Panels>
  using project_algorithm = sharded_project<Panels>;
  template <class Panels>
  using adapt_algorithm = sharded_adapt<Panels>;
  template <class Panels>
  using adapt_backward_algorithm = sharded_adapt_backward<Panels>;
  template <class Panels>
  using update_algorithm = sharded_update<Panels>;

  template <sharded_policy P, class TU, class LU, class Form>
  static bool accumulate_batch(P const& policy, std::span<matrix_view<TU, LU> const> U, std::span<Form> Q) {
    return !policy.sums() && local_ops<P>::accumulate_batch(policy.local, U, Q);
  }

 private:
  /// body(policy, j, w) for panels of X that the local policy likes, by all that it works with.
  template <class A, class L, class P, class TX, class Body>
  static void for_each_local_panel(P const& policy, matrix_view<TX, L> X, Body const& body) {
    using O = local_ops<P>;
    O::for_each_panel(policy.local, X.cols, O::template panel_width<A, L>(policy.local, X.rows, 0),
                      [&](index_t, auto const& p) { body(O::serial(policy.local), p.first, p.count); });
  }
  /// body(policy, part, j, r) for groups of columns of D, by all that the local policy works with. Groups have the same
  /// size for any number of threads.
  template <class P, class Packed, class Body>
  static void for_each_group(P const& policy, Packed D, Body const& body) {
    using O = local_ops<P>;
    constexpr index_t group = 8;
    if (!policy.sums()) return body(policy.local, D, 0, D.cols);
    O::for_each_panel(policy.local, D.cols, group, [&](index_t, auto const& p) {
      body(O::serial(policy.local), D.columns(p.first, p.count), p.first, p.count);
    });
  }
  /// X may have no data, for zero.
  template <class T, class L>
  static matrix_view<T, L> part_of(matrix_view<T, L> X, index_t j, index_t w) {
    return X.data == nullptr ? X : X.columns(j, w);
  }
  template <class P>
  static void refuse_place(P const& policy, char const* call) {
    if (policy.sums())
      detail::refuse<argument_error>("sharded", call, "asked of rows that lie on several ranks",
                                     "asked of a matrix that is whole: it needs to know which rows these are");
  }
};

}  // namespace HOFT_TARGET_NAMESPACE::sharded_backend
