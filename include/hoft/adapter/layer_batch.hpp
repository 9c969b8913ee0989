// SPDX-License-Identifier: BSD-3-Clause
// hoft/adapter/layer_batch.hpp: many bound layers in one call, threads over layers: q, k and v with one x, all layers
// of a model, or one base under the adapters of many users.
#pragma once
#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/batch.hpp>
#include <hoft/adapter/bind.hpp>
#include <hoft/adapter/finish.hpp>
#include <hoft/adapter/forward.hpp>

#include <span>

namespace HOFT_TARGET_NAMESPACE {
/// std::vector, std::array, an array or std::span of bound layers.
template <class R>
concept many_layers = detail::many<R, bound_layer_view>;
/// The same of what forward passes leave.
template <class R>
concept many_layer_states = detail::many<R, layer_state>;
/// The same of sums of gradients.
template <class R>
concept many_layer_gradients = detail::many<R, layer_gradient_view>;

// What batch.hpp says of batches holds here too. Problems may read the same x, y, dy and base operator.

/// Bytes of workspace for `bind_layer` of all adapters, with base operators on T and L.
template <scalar T, class L = col_major, execution_policy Policy, many_adapters Adapters>
[[nodiscard]] index_t bind_workspace(Policy const& policy, Adapters const& a) {
  return detail::batch_workspace(policy, index_t(std::size(a)), [&](index_t i) {
    return bind_workspace<T, L>(ops<Policy>::serial(policy), std::data(a)[i]);
  });
}

/// bind_layer(a[i], base[i], layer[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_base, all_layer  as of `bind_layer` with one adapter, element by element; no two layers may
///        overlap
/// @param work   at least bind_workspace bytes
/// @throws as `bind_layer` with one adapter, for the whole batch before anything is written. Two base operators may
///         be called at the same time; what one throws leaves all layers of the batch unbound
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <scalar T, class L = col_major, execution_policy Policy, many_adapters Adapters, detail::has_items Bases,
          many_layers Layers>
void bind_layer(Policy const& policy, Adapters const& all_a, Bases&& all_base, Layers&& all_layer, workspace work) {
  constexpr char const* function = "bind_layer";
  auto const a = detail::items(all_a);
  auto const base = detail::items(all_base);
  auto const layer = detail::items(all_layer);
  static_assert(!std::is_const_v<typename decltype(layer)::element_type>,
                "hoft::bind_layer: the layers are written, but what holds them is const.");
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count, {{"base.size()", base.size()}, {"layer.size()", layer.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) { detail::require_bind(detail::ranks_of(policy), a[i], base[i], layer[i]); },
      [&] { return bind_workspace<T, L>(policy, a); });
  for (auto& one : layer) one.bound = false;  // also of problems that are not begun when a base operator throws
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    auto&& operation = ops<Policy>::in_order(one, base[i]);
    bind_layer<T, L>(one, a[i], operation, layer[i], part);
    layer[i].bound = false;  // a GPU's problems are only written down yet
  });
  for (auto& one : layer) one.bound = true;
}

/// Bytes of workspace for `forward` of all of x.
template <execution_policy Policy, many_layers Layers, many_matrices Inputs>
[[nodiscard]] index_t forward_workspace(Policy const& policy, Layers const& layer, Inputs const& x) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(layer), std::size(x))), [&](index_t i) {
    return forward_workspace(ops<Policy>::serial(policy), std::data(layer)[i], std::data(x)[i]);
  });
}

/// y[i] := forward(layer[i], base[i], x[i]) for every i: q, k and v of one x, for example.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_layer, all_base, all_x, all_y, all_state  as of `forward` with one layer, element by element; nothing
///        that is written may overlap another problem's views
/// @param work   at least forward_workspace bytes
/// @throws as `forward` with one layer, for the whole batch before anything is written. Two base operators may be
///         called at the same time; what one throws leaves the other problems done, not begun, or, on a GPU, begun
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_layers Layers, detail::has_items Bases, many_matrices Inputs,
          many_matrices Outputs, many_layer_states States>
void forward(Policy const& policy, Layers const& all_layer, Bases&& all_base, Inputs const& all_x, Outputs const& all_y,
             States const& all_state, workspace work) {
  constexpr char const* function = "forward";
  auto const layer = detail::items(all_layer);
  auto const base = detail::items(all_base);
  auto const x = detail::items(all_x);
  auto const y = detail::items(all_y);
  auto const state = detail::items(all_state);
  index_t const count = index_t(layer.size());
  detail::require_sizes(
      function, count,
      {{"base.size()", base.size()}, {"x.size()", x.size()}, {"y.size()", y.size()}, {"state.size()", state.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) {
        detail::require_layer_forward(function, detail::ranks_of(policy), layer[i], base[i], x[i], y[i]);
        detail::require_state(function, layer[i].adapter, state[i], x[i].cols);
      },
      [&] { return forward_workspace(policy, layer, x); });
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    auto&& operation = ops<Policy>::in_order(one, base[i]);
    forward(one, layer[i], operation, x[i], y[i], state[i], part);
  });
}

/// set_zero(g[i]) for every i: one launch on a GPU for those that it takes at a time.
/// @throws as `set_zero` of one gradient, for the whole batch before anything is written
template <execution_policy Policy, many_layer_gradients Gradients>
void set_zero(Policy const& policy, Gradients const& all_g) {
  auto const g = detail::items(all_g);
  index_t const count = index_t(g.size());
  detail::require_batch(
      "set_zero", count, {}, [&](std::size_t i) { detail::require_sums("set_zero", g[i]); }, [] { return index_t{0}; });
  detail::run_batch(policy, count, {}, 0, [&](auto const& one, std::size_t i, workspace) { set_zero(one, g[i]); });
}

/// Bytes of workspace for `backward` after forward passes that left `state`.
template <execution_policy Policy, many_layers Layers, many_layer_states States>
[[nodiscard]] index_t backward_workspace(Policy const& policy, Layers const& layer, States const& state) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(layer), std::size(state))), [&](index_t i) {
    return backward_workspace(ops<Policy>::serial(policy), std::data(layer)[i], std::data(state)[i]);
  });
}

/// dx[i] and the sums of g[i] := backward(layer[i], base[i], x[i], …) for every i. Where problems have the same x,
/// its gradient is the sum of their dx.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_layer, all_base, all_x, all_y, all_state, all_dy, all_dbase, all_dx, all_g  as of `backward` with one
///               layer, element by element; nothing that is written may overlap another problem's views
/// @param work   at least backward_workspace bytes
/// @throws as `backward` with one layer, for the whole batch before anything is written. Two base operators may be
///         called at the same time; what one throws leaves the other problems done, not begun, or, on a GPU, begun
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_layers Layers, detail::has_items Bases, many_matrices Inputs,
          many_matrices Outputs, many_layer_states States, many_matrices GradientsY, many_matrices GradientsBase,
          many_matrices GradientsX, many_layer_gradients Gradients>
void backward(Policy const& policy, Layers const& all_layer, Bases&& all_base, Inputs const& all_x,
              Outputs const& all_y, States const& all_state, GradientsY const& all_dy, GradientsBase const& all_dbase,
              GradientsX const& all_dx, Gradients const& all_g, workspace work) {
  constexpr char const* function = "backward";
  auto const layer = detail::items(all_layer);
  auto const base = detail::items(all_base);
  auto const x = detail::items(all_x);
  auto const y = detail::items(all_y);
  auto const state = detail::items(all_state);
  auto const dy = detail::items(all_dy);
  auto const dbase = detail::items(all_dbase);
  auto const dx = detail::items(all_dx);
  auto const g = detail::items(all_g);
  index_t const count = index_t(layer.size());
  detail::require_sizes(function, count,
                        {{"base.size()", base.size()},
                         {"x.size()", x.size()},
                         {"y.size()", y.size()},
                         {"state.size()", state.size()},
                         {"dy.size()", dy.size()},
                         {"dbase.size()", dbase.size()},
                         {"dx.size()", dx.size()},
                         {"g.size()", g.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) {
        detail::require_layer_backward(detail::ranks_of(policy), layer[i], base[i], x[i], y[i], state[i], dy[i],
                                       dbase[i], dx[i], g[i]);
      },
      [&] { return backward_workspace(policy, layer, state); });
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    auto&& operation = ops<Policy>::in_order(one, base[i]);
    backward(one, layer[i], operation, x[i], y[i], state[i], dy[i], dbase[i], dx[i], g[i], part);
  });
}

/// Bytes of workspace for `finish` of all layers, with base operators on T and L.
template <scalar T, class L = col_major, execution_policy Policy, many_layers Layers>
[[nodiscard]] index_t finish_workspace(Policy const& policy, Layers const& layer) {
  return detail::batch_workspace(policy, index_t(std::size(layer)), [&](index_t i) {
    return finish_workspace<T, L>(ops<Policy>::serial(policy), std::data(layer)[i]);
  });
}

/// dU[i], dV[i] and ds[i] := finish(layer[i], base[i], g[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_layer, all_base, all_g, all_dU, all_dV, all_ds  as of `finish` with one layer, element by element;
///        nothing that is written may overlap another problem's views
/// @param work   at least finish_workspace bytes
/// @throws as `finish` with one layer, for the whole batch before anything is written. Two base operators may be
///         called at the same time; what one throws leaves the other problems done, not begun, or, on a GPU, begun
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <scalar T, class L = col_major, execution_policy Policy, many_layers Layers, detail::has_items Bases,
          many_layer_gradients Gradients, many_matrices GradientsU, many_matrices GradientsV, many_vectors GradientsS>
void finish(Policy const& policy, Layers const& all_layer, Bases&& all_base, Gradients const& all_g,
            GradientsU const& all_dU, GradientsV const& all_dV, GradientsS const& all_ds, workspace work) {
  constexpr char const* function = "finish";
  auto const layer = detail::items(all_layer);
  auto const base = detail::items(all_base);
  auto const g = detail::items(all_g);
  auto const dU = detail::items(all_dU);
  auto const dV = detail::items(all_dV);
  auto const ds = detail::items(all_ds);
  index_t const count = index_t(layer.size());
  detail::require_sizes(function, count,
                        {{"base.size()", base.size()},
                         {"g.size()", g.size()},
                         {"dU.size()", dU.size()},
                         {"dV.size()", dV.size()},
                         {"ds.size()", ds.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) {
        detail::require_finish(detail::ranks_of(policy), layer[i], base[i], g[i], dU[i], dV[i], ds[i]);
      },
      [&] { return finish_workspace<T, L>(policy, layer); });
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    auto&& operation = ops<Policy>::in_order(one, base[i]);
    finish<T, L>(one, layer[i], operation, g[i], dU[i], dV[i], ds[i], part);
  });
}

// --- one base under many adapters -------------------------------------------------------------------------------

namespace detail {

/// Offsets of ranges of t tokens, one range for each of `count` layers.
inline void require_offsets(char const* function, std::span<index_t const> offsets, index_t count, index_t t) {
  require_equal(function, "offsets.size()", index_t(offsets.size()), count + 1);
  require_equal(function, "offsets.front()", offsets.front(), 0);
  for (std::size_t i = 0; i + 1 < offsets.size(); ++i)
    require_problem(index_t(i), [&] { require_at_least(function, "end of range", offsets[i + 1], offsets[i]); });
  require_equal(function, "offsets.back()", offsets.back(), t);
}

}  // namespace detail

/// Bytes of workspace for `forward_shared` of x.
/// @throws hoft::shape_error if the offsets do not divide the tokens, x has a leading dimension that is too small, or
///         parts of a layer do not fit each other
template <execution_policy Policy, many_layers Layers, class T, class L>
[[nodiscard]] index_t forward_shared_workspace(Policy const& policy, Layers const& all_layer,
                                               std::span<index_t const> offsets, matrix_view<T, L> x) {
  auto const layer = detail::items(all_layer);
  index_t const count = index_t(layer.size());
  detail::require_view("forward_shared_workspace", "x", x);
  detail::require_offsets("forward_shared_workspace", offsets, count, x.cols);
  return detail::batch_workspace(policy, count, [&](index_t problem) {
    auto const i = static_cast<std::size_t>(problem);
    // Of its size alone: a query may come before there is any memory to cut.
    matrix_view<T const, L> const tokens(nullptr, x.rows, offsets[i + 1] - offsets[i]);
    return forward_workspace(ops<Policy>::serial(policy), layer[i], tokens, false);
  });
}

/// y := M̂ x where tokens of several adapters of one weight stand side by side: columns offsets[i] to offsets[i + 1]
/// of x belong to layer[i]. The base operator, which all share, is called once.
///
/// @param policy where to compute; its threads share the layers, one at a time each
/// @param all_layer bound layers of the same weight [m, n], of any ranks, HOFT or SHOFT
/// @param offsets one more than layers, from 0 up to t, none below the one before it; memory of the host
/// @param base   M as a base operator on T and L
/// @param x      [n, t] In
/// @param y      [m, t] Out. Must not overlap x
/// @param work   at least forward_shared_workspace bytes
/// @throws hoft::shape_error, hoft::workspace_error, hoft::argument_error (a layer that is not bound), before
///         anything is written
///
/// Cost and accuracy: those of `forward` for the tokens of each layer. The same bits for any number of threads.
template <execution_policy Policy, many_layers Layers, class Base, class TX, class T, class L>
requires base_operator<std::remove_reference_t<Base>, T, L>
void forward_shared(Policy const& policy, Layers const& all_layer, std::span<index_t const> offsets, Base&& base,
                    matrix_view<TX, L> x, matrix_view<T, L> y, workspace work) {
  constexpr char const* function = "forward_shared";
  using A = accumulator_t<T>;
  auto const layer = detail::items(all_layer);
  static_assert(std::same_as<std::remove_const_t<typename decltype(layer.front().B)::element_type>, A>,
                "hoft::forward_shared: the layers must hold the accumulator type of x.");
  index_t const count = index_t(layer.size());
  detail::require_offsets(function, offsets, count, x.cols);
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) { detail::require_layer_forward(function, detail::ranks_of(policy), layer[i], base, x, y); },
      [&] { return forward_shared_workspace(policy, layer, offsets, x); });
  if (count == 0) return detail::require_shape(function, "y", y, y.rows, x.cols);
  detail::apply_base(policy, base, matrix_view<T const, L>(x), y);
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    using P = std::remove_cvref_t<decltype(one)>;
    index_t const t = offsets[i + 1] - offsets[i];
    auto const pieces =
        detail::carve<detail::layer_forward_pieces<P, A, T, L>>(function, part, one, layer[i].adapter, t, false);
    detail::adapt_tokens<P, A>(one, layer[i], x.columns(offsets[i], t), y.columns(offsets[i], t),
                               layer_state<A, T, L>{pieces.v, {}, {}}, pieces);
  });
}

}  // namespace HOFT_TARGET_NAMESPACE
