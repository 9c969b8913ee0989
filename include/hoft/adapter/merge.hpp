// hoft/adapter/merge.hpp: HOFT and SHOFT on the weight.
#pragma once
#include <hoft/adapter/panel.hpp>
#include <hoft/view/shape.hpp>

#include <optional>
#include <utility>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

/// B := M V and minus_K := −B T_V, by panels of rows of M.
template <class Policy, class A, class T, class L>
struct product_pieces {
  using rows_layout = transposed_layout<L>;
  index_t width;
  matrix_view<A> B, minus_K;
  packed_t<Policy, A, rows_layout> V;
  per_worker<A, rows_layout> rows;
  product_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : width(panel_width<T, rows_layout>(policy, a.cols())),
        B(memory.matrix<A>(a.rows(), a.right.rank())),
        minus_K(memory.matrix<A>(a.rows(), a.right.rank())),
        V(carve_packed<A, rows_layout>(policy, memory, a.cols(), a.right.rank())),
        rows(memory, worker_count(policy), std::same_as<std::remove_const_t<T>, A> ? 0 : a.cols(),
             (std::min)(width, a.rows())) {}
};

template <class Policy, class A, class TM, class T, class L>
void multiply_by_vectors(Policy const& policy, adapter_view<A const> const& a, matrix_view<TM, L> M,
                         product_pieces<Policy, A, T, L> const& pieces) {
  if (a.right.rank() == 0) return;
  pack(policy, a.right.vectors, pieces.V, is_complex<A>);  // Bᵀ = Vᵀ Mᵀ, and project takes adjoints
  for_each_panel(policy, a.rows(), pieces.width, [&](index_t worker, auto p) {
    auto const local = serial(policy);
    auto const rows = staged(local, M.transposed().columns(p.first, p.count), pieces.rows(worker));
    project(local, pieces.V, rows, pieces.B.transposed().columns(p.first, p.count));
  });
  form_minus_K(policy, a, pieces.B, pieces.minus_K);
}

/// v [rv, w] of the weight form, x = I: the columns [j, j + w) of Vᴴ.
template <class Policy, class A, class L>
matrix_view<A, L> adjoint_rows(Policy const& policy, adapter_view<A const> const& a, index_t j, index_t w,
                               matrix_view<A, L> buffer) {
  auto const v = buffer.columns(0, w);
  conjugate_copy(policy, a.right.vectors.block(j, 0, w, a.right.rank()).transposed(), v);
  return v;
}

template <class A, class TM, class T, class L>
void require_merge(adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<T, L> Mhat) {
  constexpr char const* function = "merge";
  require_adapter(function, a);
  require_shape(function, "M", M, a.rows(), a.cols());
  require_shape(function, "Mhat", Mhat, a.rows(), a.cols());
}

template <class Policy, class A, class T, class L>
struct merge_panels {
  product_pieces<Policy, A, T, L> product;
  index_t width;
  packed_adapter_t<Policy, A, L> packed;
  per_worker<A, L> scratch, v, panel;
  merge_panels(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : merge_panels(memory, policy, a, panel_width<T, L>(policy, a.rows())) {}

 private:
  merge_panels(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t w)
      : product(memory, policy, a),
        width(w),
        packed(carve_packed_adapter<L>(policy, memory, a, pass::forward)),
        scratch(memory, worker_count(policy), 2 * a.left.block, (std::min)(w, a.cols())),
        v(memory, worker_count(policy), a.right.rank(), (std::min)(w, a.cols())),
        panel(memory, worker_count(policy), std::same_as<T, A> ? 0 : a.rows(), (std::min)(w, a.cols())) {}
};

/// B := M V and minus_K := −B T_V of M as it is stored.
template <class Policy, class A, class T>
struct stored_product : no_room {
  using no_room::no_room;
};
template <class Policy, class A, class T>
requires takes_stored<Policy, A, T>
struct stored_product<Policy, A, T> {
  matrix_view<A> B, minus_K;
  decltype(carve_project<T>(std::declval<Policy const&>(), std::declval<arena&>(), 0, 0, 0)) room;
  stored_product(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : B(memory.matrix<A>(a.rows(), a.right.rank())),
        minus_K(memory.matrix<A>(a.rows(), a.right.rank())),
        room(carve_project<T>(policy, memory, a.cols(), a.right.rank(), a.rows())) {}
  template <class L>
  void form(Policy const& policy, adapter_view<A const> const& a, matrix_view<T const, L> M) const {
    project_stored(policy, room, a.right.vectors, {}, M.transposed(), B.transposed());  // Bᵀ = Vᵀ Mᵀ
    form_minus_K(policy, a, B, minus_K);
  }
};
template <class Policy, class A, class T>
struct stored_merge : no_room {
  using no_room::no_room;
};
template <class Policy, class A, class T>
requires takes_stored<Policy, A, T>
struct stored_merge<Policy, A, T> {
  stored_product<Policy, A, T> product;
  decltype(carve_adapt<T>(std::declval<Policy const&>(), std::declval<arena&>(),
                          std::declval<adapter_view<A const> const&>(), 0, false)) columns;
  stored_merge(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : product(memory, policy, a), columns(carve_adapt<T>(policy, memory, a, a.cols(), false)) {}
};

template <class Policy, class A, class T, class L>
struct merge_pieces {
  std::optional<stored_merge<Policy, A, T>> stored;
  std::optional<merge_panels<Policy, A, T, L>> panels;
  merge_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a) {
    if (as_stored<T>(policy, a)) stored.emplace(memory, policy, a);
    else panels.emplace(memory, policy, a);
  }
};

}  // namespace detail

/// Bytes of workspace for `merge` with M of this element type and layout.
template <execution_policy Policy, class A, class T, class L>
index_t merge_workspace(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L>) {
  using acc = std::remove_const_t<A>;
  return detail::workspace_size<detail::merge_pieces<Policy, acc, std::remove_const_t<T>, L>>(
      policy, adapter_view<acc const>(a));
}

/// M̂ := Q_U diag(s) M Q_V.
///
/// @param policy where to compute
/// @param a      the adapter of a weight [m, n], ranks ru and rv
/// @param M      [m, n] In: the base weight
/// @param Mhat   [m, n] Out: may be M itself; must not overlap it otherwise
/// @param work   at least merge_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau), before anything
///         is written
///
/// Cost: 4 m n (ru + rv) flops; M is read twice (on a GPU three times, where forward reads base twice) and M̂ written
/// once. Accuracy: a small multiple of √m (ru + rv) ε ‖M‖ column by column. HOFT keeps the singular values of M to that
/// accuracy. Source: math in docs/mathematics.md (section 3); Arcas et al., arXiv 2505.16531.
template <execution_policy Policy, class A, class TM, class T, class L>
void merge(Policy const& policy, adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<T, L> Mhat,
           workspace work) {
  using acc = std::remove_const_t<A>;
  static_assert(std::same_as<std::remove_const_t<TM>, T>, "hoft::merge: M and Mhat must have the same element type.");
  static_assert(std::same_as<accumulator_t<T>, acc>, "hoft::merge: the adapter must hold the accumulator type of M.");
  adapter_view<acc const> const view = a;
  detail::require_merge(a, M, Mhat);
  auto const pieces = detail::carve<detail::merge_pieces<Policy, acc, T, L>>("merge", work, policy, view);
  if constexpr (detail::takes_stored<Policy, acc, T>)
    if (pieces.stored) {
      auto const& stored = *pieces.stored;
      stored.product.form(policy, view, matrix_view<T const, L>(M));
      return adapt_stored(policy, stored.columns, view, matrix_view<acc const>(stored.product.minus_K),
                          view.right.vectors.transposed(), matrix_view<T const, L>(M), Mhat, matrix_view<acc, L>{},
                          matrix_view<T, L>{});
    }
  auto const& panels = *pieces.panels;
  detail::multiply_by_vectors(policy, view, M, panels.product);
  detail::pack_adapter(policy, view, matrix_view<acc const>(panels.product.minus_K), panels.packed);
  index_t const written = detail::written_by(M, Mhat);
  for_each_panel(policy, a.cols(), panels.width, [&](index_t worker, auto p) {
    auto const local = serial(policy);
    index_t const j = p.first, w = p.count;
    matrix_view<acc const, L> const x = detail::staged(local, M.columns(j, w), panels.panel(worker));
    auto const y = detail::destination(Mhat.columns(j, w), panels.panel(worker));
    matrix_view<acc const, L> const v = detail::adjoint_rows(local, view, j, w, panels.v(worker));
    detail::adapt_panel(local, view, panels.packed, v, x, y, matrix_view<acc, L>{}, matrix_view<T, L>{},
                        panels.scratch(worker).columns(0, w), {detail::next_panel<acc>(M, p), {}, written});
    copy(local, y, Mhat.columns(j, w));
  });
}

namespace detail {

template <class A, class TM, class TG, class L, class TU, class LU, class TV, class LV, class TS>
void require_merge_backward(adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<TG, L> dMhat,
                            matrix_view<TU, LU> dU, matrix_view<TV, LV> dV, vector_view<TS> ds) {
  constexpr char const* function = "merge_backward";
  require_adapter(function, a);
  require_shape(function, "M", M, a.rows(), a.cols());
  require_shape(function, "dMhat", dMhat, a.rows(), a.cols());
  require_gradients(function, a, dU, dV, ds);
}

template <class Policy, class A, class T, class L>
struct merge_backward_panels {
  product_pieces<Policy, A, T, L> product;
  packed_adapter_t<Policy, A, L> packed;
  index_t width;
  per_worker<A, L> scratch, v, projections, q, p, gradient;
  adapter_sums<A> sums;
  adapter_parts<Policy, A, L> parts;
  adapter_finish_pieces<A> finish;
  matrix_view<A> dB, D, through_B;
  merge_backward_panels(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : merge_backward_panels(memory, policy, a, panel_width<T, L>(policy, a.rows())) {}

 private:
  merge_backward_panels(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t width_)
      : merge_backward_panels(memory, policy, a, width_, worker_count(policy), (std::min)(width_, a.cols())) {}
  merge_backward_panels(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t width_,
                        index_t workers, index_t w)
      : product(memory, policy, a),
        packed(carve_packed_adapter<L>(policy, memory, a, pass::backward)),
        width(width_),
        scratch(memory, workers, 4 * a.left.block, w),
        v(memory, workers, a.right.rank(), w),
        projections(memory, workers, a.left.rank(), w),
        q(memory, workers, a.rows(), w),
        p(memory, workers, a.scaled() ? a.rows() : 0, w),
        gradient(memory, workers, a.rows(), w),
        sums(carve_adapter_sums(memory, a)),
        parts(memory, policy, a),
        finish(memory, a),
        dB(memory.matrix<A>(a.rows(), a.right.rank())),
        D(memory.matrix<A>(a.cols(), a.right.rank())),
        through_B(memory.matrix<A>(a.cols(), a.right.rank())) {}
};

template <class Policy, class A, class T>
struct stored_merge_backward : no_room {
  using no_room::no_room;
};
template <class Policy, class A, class T>
requires takes_stored<Policy, A, T>
struct stored_merge_backward<Policy, A, T> {
  stored_product<Policy, A, T> product;
  decltype(carve_adapt_backward<T>(std::declval<Policy const&>(), std::declval<arena&>(),
                                   std::declval<adapter_view<A const> const&>(), 0, saved_quantity::base)) columns;
  decltype(carve_project<T>(std::declval<Policy const&>(), std::declval<arena&>(), 0, 0, 0)) room;
  adapter_sums<A> sums;
  adapter_finish_pieces<A> finish;
  matrix_view<A> dB, D, through_B;
  stored_merge_backward(arena& memory, Policy const& policy, adapter_view<A const> const& a)
      : product(memory, policy, a),
        columns(carve_adapt_backward<T>(policy, memory, a, a.cols(), saved_quantity::base)),
        room(carve_project<T>(policy, memory, a.rows(), a.right.rank(), a.cols())),
        sums(carve_adapter_sums(memory, a)),
        finish(memory, a),
        dB(memory.matrix<A>(a.rows(), a.right.rank())),
        D(memory.matrix<A>(a.cols(), a.right.rank())),
        through_B(memory.matrix<A>(a.cols(), a.right.rank())) {}
};

template <class Policy, class A, class T, class L>
struct merge_backward_pieces {
  std::optional<stored_merge_backward<Policy, A, T>> stored;
  std::optional<merge_backward_panels<Policy, A, T, L>> panels;
  merge_backward_pieces(arena& memory, Policy const& policy, adapter_view<A const> const& a) {
    if (as_stored<T>(policy, a)) stored.emplace(memory, policy, a);
    else panels.emplace(memory, policy, a);
  }
};

}  // namespace detail

/// Bytes of workspace for `merge_backward` with M of this element type and layout.
template <execution_policy Policy, class A, class T, class L>
index_t merge_backward_workspace(Policy const& policy, adapter_view<A> const& a, matrix_view<T, L>) {
  using acc = std::remove_const_t<A>;
  return detail::workspace_size<detail::merge_backward_pieces<Policy, acc, std::remove_const_t<T>, L>>(
      policy, adapter_view<acc const>(a));
}

/// The gradients of M̂ = merge(a, M) with respect to U, V and s, given Ĝ = ∂L/∂M̂; M is frozen.
///
/// @param policy where to compute
/// @param a      the adapter of a weight [m, n]
/// @param M      [m, n] In: the base weight, not the merged one
/// @param dMhat  [m, n] In
/// @param dU     [m, ru] Out
/// @param dV     [n, rv] Out
/// @param ds     [m] Out for SHOFT, size 0 for HOFT
/// @param work   at least merge_backward_workspace bytes: no m×n temporary
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a side with explicit tau), before anything
///         is written
///
/// Cost: 10 m n ru + 10 m n rv flops; M is read three times and Ĝ once (on a GPU once more each, where forward reads
/// base twice). Accuracy: as of apply_backward.
/// Source: math in docs/mathematics.md (section 3).
template <execution_policy Policy, class A, class TM, class TG, class L, class TU, class LU, class TV, class LV,
          class TS>
void merge_backward(Policy const& policy, adapter_view<A> const& a, matrix_view<TM, L> M, matrix_view<TG, L> dMhat,
                    matrix_view<TU, LU> dU, matrix_view<TV, LV> dV, vector_view<TS> ds, workspace work) {
  using acc = std::remove_const_t<A>;
  using T = std::remove_const_t<TM>;
  static_assert(std::same_as<accumulator_t<T>, acc>,
                "hoft::merge_backward: the adapter must hold the accumulator type of M.");
  adapter_view<acc const> const view = a;
  detail::require_merge_backward(a, M, dMhat, dU, dV, ds);
  auto const pieces =
      detail::carve<detail::merge_backward_pieces<Policy, acc, T, L>>("merge_backward", work, policy, view);
  if constexpr (detail::takes_stored<Policy, acc, T>)
    if (pieces.stored) {
      auto const& stored = *pieces.stored;
      matrix_view<T const, L> const base = M;
      stored.product.form(policy, view, base);
      adapt_backward_stored(policy, stored.columns, view, matrix_view<acc const>(stored.product.minus_K),
                            matrix_view<acc const, L>{}, view.right.vectors.transposed(), base,
                            matrix_view<T const, L>(dMhat), matrix_view<T, L>{}, stored.D.transposed(), stored.sums);
      detail::product_backward(policy, view, matrix_view<acc const>(stored.product.B), stored.sums.minus_dK, stored.dB,
                               stored.finish);
      project_stored(policy, stored.room, matrix_view<acc const>(stored.dB), {}, base, stored.through_B.transposed());
      add(policy, stored.through_B, stored.D);
      return detail::finish_adapter(policy, view, stored.sums, stored.D, stored.finish, dU, dV, ds);
    }
  auto const& panels = *pieces.panels;
  bool const blocked = a.left.blocks() > 1;
  auto const local = serial(policy);
  detail::multiply_by_vectors(policy, view, M, panels.product);
  detail::pack_adapter(policy, view, matrix_view<acc const>(panels.product.minus_K), panels.packed);
  clear(local, panels.sums);
  for_each_panel_summed(
      policy, a.cols(), panels.width, [&](index_t worker) { clear(local, panels.parts(worker)); },
      [&](index_t worker, auto panel) {
        index_t const j = panel.first, w = panel.count;
        matrix_view<acc const, L> const v = detail::adjoint_rows(local, view, j, w, panels.v(worker));
        auto const q = panels.q(worker).columns(0, w);
        auto const scratch = panels.scratch(worker).columns(0, w);
        copy(local, M.columns(j, w), q);
        update(local, panels.packed.minus_K, v, q, q);
        auto p = q;
        if (view.scaled()) {
          p = panels.p(worker).columns(0, w);
          scale_rows(local, view.scale, op::plain, q, p);
        }
        detail::forward_state<acc, L> state;
        state.X = state.rewind = p;
        state.is_input = !blocked;
        if (blocked) {
          auto const W = panels.projections(worker).columns(0, w);
          detail::apply_panel(local, view.left, panels.packed.U, op::plain, p, p, W, scratch, {});
          state.W = W;
        }
        auto const buffer = panels.gradient(worker);
        matrix_view<acc const, L> const G = detail::staged(local, dMhat.columns(j, w), buffer);
        auto const dq = buffer.columns(0, w);
        detail::adapt_backward_panel(local, view, panels.packed, v, state, matrix_view<acc const, L>(q), G, dq,
                                     panels.parts(worker), scratch,
                                     {detail::next_panel<acc>(dMhat, panel), detail::next_panel<acc>(M, panel), 0});
        project(local, panels.packed.minus_K, dq, panels.D.transposed().columns(j, w));  // (dqᴴ (−K))ᴴ
      },
      [&](index_t worker) { add(local, panels.parts(worker), panels.sums); });
  detail::product_backward(policy, view, matrix_view<acc const>(panels.product.B), panels.sums.minus_dK, panels.dB,
                           panels.finish);
  auto const dB = panels.packed.minus_K;  // no longer needed
  pack(policy, panels.dB, dB);
  for_each_panel(policy, a.cols(), panels.width, [&](index_t worker, auto p) {
    auto const panel = detail::staged(local, M.columns(p.first, p.count), panels.q(worker));
    project(local, dB, panel, panels.through_B.transposed().columns(p.first, p.count));  // (Mᴴ dB)ᴴ
  });
  add(policy, panels.through_B, panels.D);
  conjugate_in_place(policy, panels.D);
  detail::finish_adapter(policy, view, panels.sums, panels.D, panels.finish, dU, dV, ds);
}

}  // namespace HOFT_TARGET_NAMESPACE
