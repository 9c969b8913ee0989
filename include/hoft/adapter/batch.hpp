// hoft/adapter/batch.hpp: many adapters in one call, threads over adapters: q, k and v of a layer, or all layers of a
// model to be merged.
#pragma once
#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/adapter/merge.hpp>
#include <hoft/adapter/unmerge.hpp>
#include <hoft/householder/batch.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace detail {

template <class V>
inline constexpr bool is_adapter_view = false;
template <class A>
inline constexpr bool is_adapter_view<adapter_view<A>> = true;
template <class V>
inline constexpr bool is_saved = false;
template <class A, class T, class L>
inline constexpr bool is_saved<saved_activations<A, T, L>> = true;

}  // namespace detail

/// std::vector, std::array, an array or std::span of adapter views.
template <class R>
concept many_adapters = detail::has_items<std::remove_reference_t<R>> &&
    detail::is_adapter_view<detail::item_of<std::remove_reference_t<R>>>;
/// The same of what forward passes saved.
template <class R>
concept many_saved =
    detail::has_items<std::remove_reference_t<R>> && detail::is_saved<detail::item_of<std::remove_reference_t<R>>>;

// Every batch takes as many elements of each argument, and element i of each is problem i, as the call with one adapter
// takes it: views of constant or mutable elements, in std::vector, std::array, an array or std::span. Problems may
// differ in shape; each has the bits of its single call. Threads share the problems, one at a time each. A GPU takes
// eight problems at a time, each with workspace of its own: kernels that they all want are launched once for all of
// them. What they would launch is noted in memory of the host first.

/// Bytes of workspace for `merge` of all of M.
template <execution_policy Policy, many_adapters Adapters, many_matrices Matrices>
[[nodiscard]] index_t merge_workspace(Policy const& policy, Adapters const& a, Matrices const& M) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(a), std::size(M))), [&](index_t i) {
    return merge_workspace(ops<Policy>::serial(policy), std::data(a)[i], std::data(M)[i]);
  });
}

/// M̂[i] := merge(a[i], M[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_M, all_Mhat  as of `merge` with one adapter, element by element; M̂[i] may be M[i] itself, and must
/// overlap no
///               other problem's views
/// @param work   at least merge_workspace bytes
/// @throws as `merge` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_adapters Adapters, many_matrices Weights, many_matrices Merged>
void merge(Policy const& policy, Adapters const& all_a, Weights const& all_M, Merged const& all_Mhat, workspace work) {
  constexpr char const* function = "merge";
  auto const a = detail::items(all_a);
  auto const M = detail::items(all_M);
  auto const Mhat = detail::items(all_Mhat);
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count, {{"M.size()", M.size()}, {"Mhat.size()", Mhat.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work, [&](std::size_t i) { detail::require_merge(a[i], M[i], Mhat[i]); },
      [&] { return merge_workspace(policy, a, M); });
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { merge(one, a[i], M[i], Mhat[i], part); });
}

/// Bytes of workspace for `unmerge` of all of M.
template <execution_policy Policy, many_adapters Adapters, many_matrices Matrices>
[[nodiscard]] index_t unmerge_workspace(Policy const& policy, Adapters const& a, Matrices const& M) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(a), std::size(M))), [&](index_t i) {
    return unmerge_workspace(ops<Policy>::serial(policy), std::data(a)[i], std::data(M)[i]);
  });
}

/// M[i] := unmerge(a[i], M[i]) for every i, in place.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_M  as of `unmerge` with one adapter, element by element; M[i] must overlap no other problem's
/// views
/// @param work   at least unmerge_workspace bytes
/// @throws as `unmerge` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_adapters Adapters, many_matrices Weights>
void unmerge(Policy const& policy, Adapters const& all_a, Weights const& all_M, workspace work) {
  constexpr char const* function = "unmerge";
  auto const a = detail::items(all_a);
  auto const M = detail::items(all_M);
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count, {{"M.size()", M.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work, [&](std::size_t i) { detail::require_unmerge(policy, a[i], M[i]); },
      [&] { return unmerge_workspace(policy, a, M); });
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { unmerge(one, a[i], M[i], part); });
}

/// Bytes of workspace for `merge_backward` of all of M.
template <execution_policy Policy, many_adapters Adapters, many_matrices Matrices>
[[nodiscard]] index_t merge_backward_workspace(Policy const& policy, Adapters const& a, Matrices const& M) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(a), std::size(M))), [&](index_t i) {
    return merge_backward_workspace(ops<Policy>::serial(policy), std::data(a)[i], std::data(M)[i]);
  });
}

/// dU[i], dV[i] and ds[i] := merge_backward(a[i], M[i], dM̂[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_M, all_dMhat, all_dU, all_dV, all_ds  as of `merge_backward` with one adapter, element by element;
/// no output may overlap
///               another problem's views
/// @param work   at least merge_backward_workspace bytes
/// @throws as `merge_backward` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_adapters Adapters, many_matrices Weights, many_matrices Gradients,
          many_matrices GradientsU, many_matrices GradientsV, many_vectors GradientsS>
void merge_backward(Policy const& policy, Adapters const& all_a, Weights const& all_M, Gradients const& all_dMhat,
                    GradientsU const& all_dU, GradientsV const& all_dV, GradientsS const& all_ds, workspace work) {
  constexpr char const* function = "merge_backward";
  auto const a = detail::items(all_a);
  auto const M = detail::items(all_M);
  auto const dMhat = detail::items(all_dMhat);
  auto const dU = detail::items(all_dU);
  auto const dV = detail::items(all_dV);
  auto const ds = detail::items(all_ds);
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count,
                        {{"M.size()", M.size()},
                         {"dMhat.size()", dMhat.size()},
                         {"dU.size()", dU.size()},
                         {"dV.size()", dV.size()},
                         {"ds.size()", ds.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) { detail::require_merge_backward(a[i], M[i], dMhat[i], dU[i], dV[i], ds[i]); },
      [&] { return merge_backward_workspace(policy, a, M); });
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    merge_backward(one, a[i], M[i], dMhat[i], dU[i], dV[i], ds[i], part);
  });
}

/// Bytes of workspace for `forward` of all of x. @throws hoft::shape_error if an x has fewer columns than its rv
template <execution_policy Policy, many_adapters Adapters, many_matrices Matrices>
[[nodiscard]] index_t forward_workspace(Policy const& policy, Adapters const& a, Matrices const& x) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(a), std::size(x))), [&](index_t i) {
    return forward_workspace(ops<Policy>::serial(policy), std::data(a)[i], std::data(x)[i]);
  });
}

/// y[i] := forward(a[i], base[i], x[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_base, all_x, all_y, all_saved  as of `forward` with one adapter, element by element. Neighbours
/// may have the same x,
///               as q, k and v of a layer do: views that begin at the same element, with as many tokens, and spare
///               columns for the largest rv. Each base operator is called before the next V̂ is written, and the last
///               one's stays there. Nothing else that is written may overlap another problem's views
/// @param work   at least forward_workspace bytes
/// @throws as `forward` with one adapter, and hoft::shape_error if two have the same x but not as many tokens, for the
///         whole batch before anything is written. Two base operators may be called at the same time; what one throws
///         leaves the other problems done, not begun, or, on a GPU, begun
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_adapters Adapters, detail::has_items Bases, many_matrices Inputs,
          many_matrices Outputs, many_saved Saved>
void forward(Policy const& policy, Adapters const& all_a, Bases&& all_base, Inputs const& all_x, Outputs const& all_y,
             Saved const& all_saved, workspace work) {
  constexpr char const* function = "forward";
  auto const a = detail::items(all_a);
  auto const base = detail::items(all_base);
  auto const x = detail::items(all_x);
  auto const y = detail::items(all_y);
  auto const saved = detail::items(all_saved);
  index_t const count = index_t(a.size());
  detail::require_sizes(
      function, count,
      {{"base.size()", base.size()}, {"x.size()", x.size()}, {"y.size()", y.size()}, {"saved.size()", saved.size()}});
  auto const follows = [&](index_t problem) {
    std::size_t const i(problem);
    return i > 0 && x[i].data == x[i - 1].data && !x[i].empty() && !x[i - 1].empty();
  };
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) {
        detail::require_forward(a[i], base[i], x[i], y[i], saved[i]);
        // V̂ would be written to tokens of the other.
        if (follows(index_t(i))) detail::require_equal(function, "saved.v.cols", saved[i].v.cols, saved[i - 1].v.cols);
      },
      [&] { return forward_workspace(policy, a, x); });
  detail::run_batch(
      policy, count, work, bytes,
      [&](auto const& one, std::size_t i, workspace part) {
        auto&& operation = ops<Policy>::in_order(one, base[i]);
        forward(one, a[i], operation, x[i], y[i], saved[i], part);
      },
      follows);
}

/// Bytes of workspace for `backward` after forward passes that saved `saved`.
template <execution_policy Policy, many_adapters Adapters, many_saved Saved>
[[nodiscard]] index_t backward_workspace(Policy const& policy, Adapters const& a, Saved const& saved) {
  return detail::batch_workspace(policy, index_t((std::min)(std::size(a), std::size(saved))), [&](index_t i) {
    return backward_workspace(ops<Policy>::serial(policy), std::data(a)[i], std::data(saved)[i]);
  });
}

/// The gradients of y[i] = forward(a[i], base[i], x[i]) for every i. Where problems have the same x, its gradient is
/// the sum of their dx.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param all_a, all_base, all_x, all_y, all_saved, all_dy, all_dx, all_dU, all_dV, all_ds  as of `backward` with one
/// adapter, element by element; nothing that
///               is written may overlap another problem's views
/// @param work   at least backward_workspace bytes
/// @throws as `backward` with one adapter, for the whole batch before anything is written. Two base operators may be
///         called at the same time; what one throws leaves the other problems done, not begun, or, on a GPU, begun
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, many_adapters Adapters, detail::has_items Bases, many_matrices Inputs,
          many_matrices Outputs, many_saved Saved, many_matrices GradientsY, many_matrices GradientsX,
          many_matrices GradientsU, many_matrices GradientsV, many_vectors GradientsS>
void backward(Policy const& policy, Adapters const& all_a, Bases&& all_base, Inputs const& all_x, Outputs const& all_y,
              Saved const& all_saved, GradientsY const& all_dy, GradientsX const& all_dx, GradientsU const& all_dU,
              GradientsV const& all_dV, GradientsS const& all_ds, workspace work) {
  constexpr char const* function = "backward";
  auto const a = detail::items(all_a);
  auto const base = detail::items(all_base);
  auto const x = detail::items(all_x);
  auto const y = detail::items(all_y);
  auto const saved = detail::items(all_saved);
  auto const dy = detail::items(all_dy);
  auto const dx = detail::items(all_dx);
  auto const dU = detail::items(all_dU);
  auto const dV = detail::items(all_dV);
  auto const ds = detail::items(all_ds);
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count,
                        {{"base.size()", base.size()},
                         {"x.size()", x.size()},
                         {"y.size()", y.size()},
                         {"saved.size()", saved.size()},
                         {"dy.size()", dy.size()},
                         {"dx.size()", dx.size()},
                         {"dU.size()", dU.size()},
                         {"dV.size()", dV.size()},
                         {"ds.size()", ds.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work,
      [&](std::size_t i) {
        detail::require_backward(a[i], base[i], x[i], y[i], saved[i], dy[i], dx[i], dU[i], dV[i], ds[i]);
      },
      [&] { return backward_workspace(policy, a, saved); });
  detail::run_batch(policy, count, work, bytes, [&](auto const& one, std::size_t i, workspace part) {
    auto&& operation = ops<Policy>::in_order(one, base[i]);
    backward(one, a[i], operation, x[i], y[i], saved[i], dy[i], dx[i], dU[i], dV[i], ds[i], part);
  });
}

}  // namespace HOFT_TARGET_NAMESPACE
