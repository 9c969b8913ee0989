// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/algorithms.hpp: the passes over matrices of which merge, forward and their gradients consist, by panels
// of columns. A backend may replace them with its own (backend/defaults.hpp).
#pragma once
#include <hoft/adapter/panel.hpp>
#include <hoft/backend/algorithm.hpp>

namespace HOFT_TARGET_NAMESPACE::detail {

/// v [rv, n] of the activation form: Vᴴx, given.
template <class A, class L>
struct given_projections {
  static constexpr bool takes_buffer = false;
  matrix_view<A const, L> v;
  template <class Policy>
  matrix_view<A const, L> columns(Policy const&, index_t j, index_t w, matrix_view<A, L>) const {
    return v.columns(j, w);
  }
  /// As a whole, for real A.
  auto view() const { return v; }
};
/// v [rv, n] of the weight form, x = I: Vᴴ.
template <class A, class L>
struct adjoint_vectors {
  static constexpr bool takes_buffer = true;
  matrix_view<A const> V;
  template <class Policy>
  matrix_view<A const, L> columns(Policy const& policy, index_t j, index_t w, matrix_view<A, L> buffer) const {
    auto const v = buffer.columns(0, w);
    ops<Policy>::conjugate_copy(policy, V.block(j, 0, w, V.cols).transposed(), v);
    return v;
  }
  auto view() const { return V.transposed(); }
};

/// W [r, n] := UᴴX, or UᵀX where `conjugated`, of U [m, r] and X [m, n].
template <class Policy, class A, class T, class L>
struct project_panels {
  using policy_type = Policy;
  using accumulator = A;
  using value_type = T;
  using layout = L;

  index_t width, workers;
  packed_t<Policy, A, L> packed;
  per_worker<A, L> buffer;
  project_panels(arena& memory, Policy const& policy, index_t m, index_t r, index_t n)
      : width(ops<Policy>::template panel_width<T, L>(policy, m, r)),
        workers(ops<Policy>::panel_workers(policy, n, width)),
        packed(ops<Policy>::template carve_packed<A, L>(policy, memory, m, r)),
        buffer(memory, workers, copies_panels<Policy, T, L>(!ops<Policy>::template few<A, L>(policy, m, n)) ? m : 0,
               (std::min)(width, n)) {}

  template <class LW>
  void run(Policy const& policy, matrix_view<A const> U, matrix_view<T const, L> X, matrix_view<A, LW> W,
           bool conjugated = false) const {
    if (U.cols == 0) return;
    if constexpr (ops<Policy>::few_columns > 0)
      if (ops<Policy>::template few<A, L>(policy, X.rows, X.cols) && (!conjugated || !is_complex<A>))
        return run_with(policy, U, X, W);
    ops<Policy>::pack(policy, U, packed, conjugated);
    run_with(policy, packed, X, W);
  }

 private:
  template <class Matrix, class LW>
  void run_with(Policy const& policy, Matrix const& U, matrix_view<T const, L> X, matrix_view<A, LW> W) const {
    ops<Policy>::for_each_panel(policy, X.cols, width, [&]([[maybe_unused]] index_t worker, auto p) {
      auto const local = ops<Policy>::serial(policy);
      auto const panel = X.columns(p.first, p.count);
      auto const project = [&](auto x) { ops<Policy>::project_packed(local, U, x, W.columns(p.first, p.count)); };
      if constexpr (takes_panels<Policy, Matrix, T, L>) project(panel);
      else project(staged(local, panel, buffer(worker)));
    });
  }
};
template <class Policy, class A, class T, class L>
using project_algorithm =
    backend::algorithm<typename ops<Policy>::template project_algorithm<project_panels<Policy, A, T, L>>,
                       project_panels<Policy, A, T, L>, index_t, index_t, index_t>;

/// Y [m, n] := Q_U diag(s) (X − K v). W [ru, n], if it has data, receives the projections on U; q [m, n] likewise
/// receives X − K v. Y may be X.
template <class Policy, class A, class T, class L, class V>
struct adapt_panels {
  using policy_type = Policy;
  using accumulator = A;
  using value_type = T;
  using layout = L;

  index_t width, workers;
  packed_layer_t<Policy, A, L> packed;
  per_worker<A, L> scratch, v, panel;
  adapt_panels(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t n, bool /*keeps_q*/)
      : width(ops<Policy>::template panel_width<T, L>(policy, a.rows(), a.left.rank() + a.right.rank())),
        workers(ops<Policy>::panel_workers(policy, n, width)),
        packed(carve_packed_layer<L>(policy, memory, a)),
        scratch(memory, workers, 2 * a.left.block, (std::min)(width, n)),
        v(memory, workers, V::takes_buffer ? a.right.rank() : 0, (std::min)(width, n)),
        panel(memory, workers,
              copies_panels<Policy, T, L>(adapts_at_once(a) && !ops<Policy>::template few<A, L>(policy, a.rows(), n))
                  ? a.rows()
                  : 0,
              (std::min)(width, n)) {}

  void run(Policy const& policy, bound_layer_view<A const> const& layer, V const& projections,
           matrix_view<T const, L> X, matrix_view<T, L> Y, matrix_view<A, L> W, matrix_view<T, L> q) const {
    bool const together = updates_together(layer.adapter, !q.empty());
    if constexpr (ops<Policy>::few_columns > 0)
      if (ops<Policy>::template few<A, L>(policy, X.rows, X.cols)) {
        packed_layer<matrix_view<A const>> const as_it_lies{layer.adapter.left.vectors,
                                                            together ? layer.minus_scaled_K : layer.minus_K};
        return run_with(policy, layer, as_it_lies, projections, X, Y, W, q);
      }
    pack_layer(policy, layer, together, packed);
    run_with(policy, layer, packed, projections, X, Y, W, q);
  }

 private:
  template <class Matrix>
  void run_with(Policy const& policy, bound_layer_view<A const> const& layer, packed_layer<Matrix> const& matrices,
                V const& projections, matrix_view<T const, L> X, matrix_view<T, L> Y, matrix_view<A, L> W,
                matrix_view<T, L> q) const {
    index_t const written = written_by(X, Y);
    bool const early = fetches_early(policy, X, Y);
    ops<Policy>::for_each_panel(policy, X.cols, width, [&](index_t worker, auto p) {
      auto const local = ops<Policy>::serial(policy);
      index_t const j = p.first, w = p.count;
      auto const of_v = projections.columns(local, j, w, v(worker));
      auto const once = adapts_at_once(layer.adapter);
      on_panel<Matrix>(local, once, X.columns(j, w), Y.columns(j, w), panel(worker), [&](auto x, auto y) {
        using value = typename decltype(y)::value_type;
        adapt_panel(local, layer, matrices, of_v, matrix_view<value const, L>(x), y, W.empty() ? W : W.columns(j, w),
                    q.empty() ? q : q.columns(j, w), scratch(worker).columns(0, w),
                    {next_panel<value>(X, p), {}, written, early});
      });
    });
  }
};
template <class Policy, class A, class T, class L, class V>
using adapt_algorithm =
    backend::algorithm<typename ops<Policy>::template adapt_algorithm<adapt_panels<Policy, A, T, L, V>>,
                       adapt_panels<Policy, A, T, L, V>, adapter_view<A const> const&, index_t, bool>;

/// The gradients of adapt from G = ∂L/∂Y [m, n]: dX [m, n] := diag(s) Q_Uᴴ G, if it has data (it may be G), dv [rv, n]
/// := −Kᴴ dX, of this rank's rows, and the sums over columns. These are added to `sums`, or overwrite `sums` if `adds`
/// is false. X is either the base of the forward pass, or its Y; in the latter case q [m, n] is given as well, or is
/// recovered from Y if it is empty. W [ru, n] is what the forward pass saved; it is not read if X is the base.
template <class Policy, class A, class T, class L, class V>
struct adapt_backward_panels {
  using policy_type = Policy;
  using accumulator = A;
  using value_type = T;
  using layout = L;

  saved_quantity what;
  index_t width, workers;
  packed_layer_t<Policy, A, L> packed;
  per_worker<A, L> scratch, v, projections, state, q, gradient;
  adapter_parts<Policy, A, L> parts;
  adapt_backward_panels(arena& memory, Policy const& policy, adapter_view<A const> const& a, index_t n,
                        saved_quantity what_)
      : what(what_),
        width(ops<Policy>::template panel_width<T, L>(policy, a.rows(), a.left.rank() + a.right.rank())),
        workers(ops<Policy>::sum_workers(policy, n, width)),
        packed(carve_packed_layer<L>(policy, memory, a, packs_K())),
        scratch(memory, workers, 4 * a.left.block, (std::min)(width, n)),
        v(memory, workers, V::takes_buffer ? a.right.rank() : 0, (std::min)(width, n)),
        projections(memory, workers, what == saved_quantity::base ? a.left.rank() : 0, (std::min)(width, n)),
        state(memory, workers, takes_state(a) ? a.rows() : 0, (std::min)(width, n)),
        q(memory, workers, takes_q(a) ? a.rows() : 0, (std::min)(width, n)),
        gradient(memory, workers, what == saved_quantity::base || !std::same_as<T, A> ? a.rows() : 0,
                 (std::min)(width, n)),
        parts(memory, policy, workers, a) {}

  template <class LD>
  void run(Policy const& policy, bound_layer_view<A const> const& layer, matrix_view<A const, L> W, V const& projected,
           matrix_view<T const, L> X, matrix_view<T const, L> q_saved, matrix_view<T const, L> G, matrix_view<T, L> dX,
           matrix_view<A, LD> dv, adapter_sums<A> const& sums, bool adds) const {
    auto const local = ops<Policy>::serial(policy);
    auto const& a = layer.adapter;
    bool const early = fetches_early(policy, G, G);
    if (packs_K()) pack_layer(policy, layer, false, packed);
    else ops<Policy>::pack(policy, a.left.vectors, packed.U);
    if (!adds) clear_sums(local, sums);
    ops<Policy>::for_each_panel_summed(
        policy, G.cols, width, [&](index_t worker) { clear_sums(local, parts(worker)); },
        [&](index_t worker, auto p) {
          index_t const j = p.first, w = p.count;
          auto const of_v = projected.columns(local, j, w, v(worker));
          auto const buffer = gradient(worker).columns(0, w);
          matrix_view<A, L> dq = buffer;  // in the type in which all of its uses compute
          if constexpr (std::same_as<T, A>)
            if (!dX.empty()) dq = dX.columns(j, w);
          auto const with = [&](auto const& known, auto g) {
            using value = typename decltype(g)::value_type;
            adapt_backward_panel(local, a, packed, of_v, known.state, known.q, matrix_view<value const, L>(g), dq,
                                 parts(worker), scratch(worker).columns(0, w),
                                 {next_panel<value>(G, p), next_panel<value>(X, p), 0, early});
          };
          auto const x = X.columns(j, w), g = G.columns(j, w);
          auto const known_q = q_saved.empty() ? q_saved : q_saved.columns(j, w);
          if (what == saved_quantity::base) with(from_base(local, a, of_v, x, worker), staged(local, g, buffer));
          else if (reads_copies(a))
            with(from_saved(local, a, W.columns(j, w), x, known_q, worker), staged(local, g, buffer));
          else if constexpr (!accumulating<T> && ops<Policy>::template takes_panels_of<T, L>)
            with(known_panel<T>{{x, {}, W.columns(j, w)}, known_q}, g);
          project_on_K(local, layer, dq, dv.columns(j, w));
          if (!dX.empty()) ops<Policy>::copy(local, dq, dX.columns(j, w));
        },
        [&](index_t worker) { add_sums(local, parts(worker), sums); });
  }

 private:
  template <class Value = A>
  struct known_panel {
    forward_state<A, L, Value> state;
    matrix_view<Value const, L> q;  ///< base − K v if it is known
  };

  /// With saved activations each panel is multiplied by K once, to project. If panels have contiguous columns, K is not
  /// packed for that: a packed K would be a fifth of the workspace.
  static constexpr bool projects_as_it_lies = ops<Policy>::few_columns > 0 && std::same_as<L, col_major>;
  bool packs_K() const { return !projects_as_it_lies || what == saved_quantity::base; }
  template <class Local, class LD>
  void project_on_K(Local const& local, bound_layer_view<A const> const& layer, matrix_view<A, L> dq,
                    matrix_view<A, LD> dv) const {
    if constexpr (projects_as_it_lies)
      if (!packs_K()) return ops<Policy>::project_packed(ops<Policy>::of_rank(local), layer.minus_K, dq, dv);
    ops<Policy>::project_packed(ops<Policy>::of_rank(local), packed.minus_K, dq, dv);
  }

  /// Panels of y, q and G are needed in type A: they have it, or are converted.
  bool reads_copies(adapter_view<A const> const& a) const {
    return accumulating<T> || copies_panels<Policy, T, L>(a.left.blocks() <= 1 && !recovers_q(a));
  }
  /// The panel's y, or p = s ∘ q, is needed in addition to X.
  bool takes_state(adapter_view<A const> const& a) const {
    if (what == saved_quantity::base) return a.scaled();
    return a.left.blocks() > 1 || recovers_q(a) || copies_panels<Policy, T, L>(true);
  }
  bool takes_q(adapter_view<A const> const& a) const {
    return what == saved_quantity::base ||
           (what == saved_quantity::q && a.scaled() && !accumulating<T> && reads_copies(a));
  }
  bool recovers_q(adapter_view<A const> const& a) const { return what == saved_quantity::y && a.scaled(); }

  /// From a panel X of the base: q = X − K v, p = s ∘ q, and the factors once forward where there are several.
  template <class Local>
  known_panel<> from_base(Local const& local, adapter_view<A const> const& a, matrix_view<A const, L> of_v,
                          matrix_view<T const, L> X, index_t worker) const {
    index_t const w = X.cols;
    auto const of_q = q(worker).columns(0, w);
    ops<Policy>::copy(local, X, of_q);
    ops<Policy>::update_packed(local, packed.minus_K, of_v, of_q, of_q);
    auto p = of_q;
    if (a.scaled()) {
      p = state(worker).columns(0, w);
      ops<Policy>::scale_rows(local, a.scale, op::plain, of_q, p);
    }
    known_panel<> known{{}, of_q};
    known.state.X = known.state.rewind = p;
    known.state.is_input = a.left.blocks() <= 1;
    if (a.left.blocks() > 1) {
      auto const saved = projections(worker).columns(0, w);
      apply_panel(local, a.left, packed.U, op::plain, p, p, saved, scratch(worker).columns(0, w), {});
      known.state.W = saved;
    }
    return known;
  }
  /// From a panel Y of y, and the saved projections W and q (if it has data).
  template <class Local>
  known_panel<> from_saved(Local const& local, adapter_view<A const> const& a, matrix_view<A const, L> W,
                           matrix_view<T const, L> Y, matrix_view<T const, L> q_saved, index_t worker) const {
    auto const buffer = state(worker).columns(0, Y.cols);
    known_panel<> known{};
    known.state.wanted = recovers_q(a);
    known.state.W = W;
    known.state.X = staged(local, Y, buffer);
    if (a.left.blocks() > 1 || recovers_q(a)) {
      ops<Policy>::copy(local, known.state.X, buffer);
      known.state.X = known.state.rewind = buffer;
    }
    if (!q_saved.empty()) known.q = staged(local, q_saved, q(worker));
    return known;
  }
};
template <class Policy, class A, class T, class L, class V>
using adapt_backward_algorithm = backend::algorithm<
    typename ops<Policy>::template adapt_backward_algorithm<adapt_backward_panels<Policy, A, T, L, V>>,
    adapt_backward_panels<Policy, A, T, L, V>, adapter_view<A const> const&, index_t, saved_quantity>;

/// dX [m, n] := dX + V P and D [m, r] := D + X Pᴴ; V [m, r], P [r, n].
template <class Policy, class A, class T, class L>
struct update_panels {
  using policy_type = Policy;
  using accumulator = A;
  using value_type = T;
  using layout = L;

  index_t width, workers;
  packed_t<Policy, A, L> packed;
  per_worker<A, L> x, gradient;
  packed_each_t<Policy, A, L> parts;
  update_panels(arena& memory, Policy const& policy, index_t m, index_t r, index_t n)
      : width(ops<Policy>::template panel_width<T, L>(policy, m, r)),
        workers(ops<Policy>::sum_workers(policy, n, width)),
        packed(ops<Policy>::template carve_packed<A, L>(policy, memory, m, r)),
        x(memory, workers, copies_panels<Policy, T, L>(true) ? m : 0, (std::min)(width, n)),
        gradient(memory, workers, copies_panels<Policy, T, L>(true) ? m : 0, (std::min)(width, n)),
        parts(ops<Policy>::template carve_packed_each<A, L>(policy, memory, workers, m, r)) {}

  void run(Policy const& policy, matrix_view<A const> V, matrix_view<A const, L> P, matrix_view<T const, L> X,
           matrix_view<T, L> dX, matrix_view<A> D) const {
    auto const local = ops<Policy>::serial(policy);
    ops<Policy>::pack(policy, V, packed);
    ops<Policy>::for_each_panel_summed(
        policy, X.cols, width, [&](index_t worker) { ops<Policy>::clear_packed(local, parts(worker)); },
        [&](index_t worker, auto p) {
          index_t const j = p.first, w = p.count;
          auto const of_P = P.columns(j, w);
          auto const of_X = X.columns(j, w);
          if constexpr (takes_panels<Policy, packed_t<Policy, A, L>, T, L>)
            ops<Policy>::outer_packed(local, of_X, of_P, parts(worker));
          else ops<Policy>::outer_packed(local, staged(local, of_X, x(worker)), of_P, parts(worker));
          auto const dx = dX.columns(j, w);
          on_panel<packed_t<Policy, A, L>>(local, true, dx, dx, gradient(worker), [&](auto before, auto after) {
            using value = typename decltype(after)::value_type;
            ops<Policy>::update_packed(local, packed, of_P, before, after,
                                       {next_panel<value>(dX, p), next_panel<value>(X, p), 0});
          });
        },
        [&](index_t worker) { ops<Policy>::add_packed(local, parts(worker), D); });
  }
};
template <class Policy, class A, class T, class L>
using update_algorithm =
    backend::algorithm<typename ops<Policy>::template update_algorithm<update_panels<Policy, A, T, L>>,
                       update_panels<Policy, A, T, L>, index_t, index_t, index_t>;

}  // namespace HOFT_TARGET_NAMESPACE::detail
