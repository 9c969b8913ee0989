// hoft/adapter/batch.hpp: many adapters in one call, threads over adapters: q, k and v of a layer, or all layers of a
// model to be merged.
#pragma once
#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/adapter/merge.hpp>
#include <hoft/adapter/unmerge.hpp>
#include <hoft/householder/batch.hpp>

namespace HOFT_TARGET_NAMESPACE {

// Every batch takes spans of the same length, and element i of each is problem i, as the call with one adapter takes
// it. Problems may differ in shape; each has the bits of its single call. Threads share the problems, one at a time
// each. A GPU takes eight problems at a time, each with workspace of its own: kernels that they all want are launched
// once for all of them. What they would launch is noted in memory of the host first.

/// Bytes of workspace for `merge` of all of M.
template <execution_policy Policy, class A, class T, class L>
index_t merge_workspace(Policy const& policy, std::span<adapter_view<A> const> a,
                        std::span<matrix_view<T, L> const> M) {
  return detail::batch_workspace(policy, index_t((std::min)(a.size(), M.size())), [&](index_t i) {
    return merge_workspace(serial(policy), a[std::size_t(i)], M[std::size_t(i)]);
  });
}

/// M̂[i] := merge(a[i], M[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param a, M, Mhat  as of `merge` with one adapter, element by element; M̂[i] may be M[i] itself, and must overlap no
///               other problem's views
/// @param work   at least merge_workspace bytes
/// @throws as `merge` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, class A, class TM, class T, class L>
void merge(Policy const& policy, std::span<adapter_view<A> const> a, std::span<matrix_view<TM, L> const> M,
           std::span<matrix_view<T, L> const> Mhat, workspace work) {
  constexpr char const* function = "merge";
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count, {{"M.size()", M.size()}, {"Mhat.size()", Mhat.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work, [&](std::size_t i) { detail::require_merge(a[i], M[i], Mhat[i]); },
      [&] { return merge_workspace(policy, a, M); });
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { merge(one, a[i], M[i], Mhat[i], part); });
}

/// Bytes of workspace for `unmerge` of all of M.
template <execution_policy Policy, class A, class T, class L>
index_t unmerge_workspace(Policy const& policy, std::span<adapter_view<A> const> a,
                          std::span<matrix_view<T, L> const> M) {
  return detail::batch_workspace(policy, index_t((std::min)(a.size(), M.size())), [&](index_t i) {
    return unmerge_workspace(serial(policy), a[std::size_t(i)], M[std::size_t(i)]);
  });
}

/// M[i] := unmerge(a[i], M[i]) for every i, in place.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param a, M   as of `unmerge` with one adapter, element by element; M[i] must overlap no other problem's views
/// @param work   at least unmerge_workspace bytes
/// @throws as `unmerge` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, class A, class T, class L>
void unmerge(Policy const& policy, std::span<adapter_view<A> const> a, std::span<matrix_view<T, L> const> M,
             workspace work) {
  constexpr char const* function = "unmerge";
  index_t const count = index_t(a.size());
  detail::require_sizes(function, count, {{"M.size()", M.size()}});
  index_t const bytes = detail::require_batch(
      function, count, work, [&](std::size_t i) { detail::require_unmerge(policy, a[i], M[i]); },
      [&] { return unmerge_workspace(policy, a, M); });
  detail::run_batch(policy, count, work, bytes,
                    [&](auto const& one, std::size_t i, workspace part) { unmerge(one, a[i], M[i], part); });
}

/// Bytes of workspace for `merge_backward` of all of M.
template <execution_policy Policy, class A, class T, class L>
index_t merge_backward_workspace(Policy const& policy, std::span<adapter_view<A> const> a,
                                 std::span<matrix_view<T, L> const> M) {
  return detail::batch_workspace(policy, index_t((std::min)(a.size(), M.size())), [&](index_t i) {
    return merge_backward_workspace(serial(policy), a[std::size_t(i)], M[std::size_t(i)]);
  });
}

/// dU[i], dV[i] and ds[i] := merge_backward(a[i], M[i], dM̂[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param a, M, dMhat, dU, dV, ds  as of `merge_backward` with one adapter, element by element; no output may overlap
///               another problem's views
/// @param work   at least merge_backward_workspace bytes
/// @throws as `merge_backward` with one adapter, for the whole batch before anything is written
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, class A, class TM, class TG, class L, class TU, class LU, class TV, class LV,
          class TS>
void merge_backward(Policy const& policy, std::span<adapter_view<A> const> a, std::span<matrix_view<TM, L> const> M,
                    std::span<matrix_view<TG, L> const> dMhat, std::span<matrix_view<TU, LU> const> dU,
                    std::span<matrix_view<TV, LV> const> dV, std::span<vector_view<TS> const> ds, workspace work) {
  constexpr char const* function = "merge_backward";
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
template <execution_policy Policy, class A, class T, class L>
index_t forward_workspace(Policy const& policy, std::span<adapter_view<A> const> a,
                          std::span<matrix_view<T, L> const> x) {
  return detail::batch_workspace(policy, index_t((std::min)(a.size(), x.size())), [&](index_t i) {
    return forward_workspace(serial(policy), a[std::size_t(i)], x[std::size_t(i)]);
  });
}

/// y[i] := forward(a[i], base[i], x[i]) for every i.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param a, base, x, y, saved  as of `forward` with one adapter, element by element. Neighbours may have the same x,
///               as q, k and v of a layer do: views that begin at the same element, with as many tokens, and spare
///               columns for the largest rv. Each base operator is called before the next V̂ is written, and the last
///               one's stays there. Nothing else that is written may overlap another problem's views
/// @param work   at least forward_workspace bytes
/// @throws as `forward` with one adapter, and hoft::shape_error if two have the same x but not as many tokens, for the
///         whole batch before anything is written. Two base operators may be called at the same time; what one throws
///         leaves the other problems done, not begun, or, on a GPU, begun
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, class A, class Base, class T, class L>
requires base_operator<Base, T, L>
void forward(Policy const& policy, std::span<adapter_view<A> const> a, std::span<Base> base,
             std::span<matrix_view<T, L> const> x, std::span<matrix_view<T, L> const> y,
             std::span<saved_activations<std::remove_const_t<A>, T, L> const> saved, workspace work) {
  constexpr char const* function = "forward";
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
        auto&& operation = in_order(one, base[i]);
        forward(one, a[i], operation, x[i], y[i], saved[i], part);
      },
      follows);
}

/// Bytes of workspace for `backward` after forward passes that saved `saved`.
template <execution_policy Policy, class A, class AS, class TS, class L>
index_t backward_workspace(Policy const& policy, std::span<adapter_view<A> const> a,
                           std::span<saved_activations<AS, TS, L> const> saved) {
  return detail::batch_workspace(policy, index_t((std::min)(a.size(), saved.size())), [&](index_t i) {
    return backward_workspace(serial(policy), a[std::size_t(i)], saved[std::size_t(i)]);
  });
}

/// The gradients of y[i] = forward(a[i], base[i], x[i]) for every i. Where problems have the same x, its gradient is
/// the sum of their dx.
///
/// @param policy where to compute; its threads share the problems, one at a time each
/// @param a, base, x, y, saved, dy, dx, dU, dV, ds  as of `backward` with one adapter, element by element; nothing that
///               is written may overlap another problem's views
/// @param work   at least backward_workspace bytes
/// @throws as `backward` with one adapter, for the whole batch before anything is written. Two base operators may be
///         called at the same time; what one throws leaves the other problems done, not begun, or, on a GPU, begun
///
/// Cost and accuracy: those of the single calls. The same bits as from them.
template <execution_policy Policy, class A, class Base, class TX, class TY, class AS, class TQ, class T, class L,
          class TU, class LU, class TV, class LV, class TS>
requires base_operator<Base, T, L>
void backward(Policy const& policy, std::span<adapter_view<A> const> a, std::span<Base> base,
              std::span<matrix_view<TX, L> const> x, std::span<matrix_view<TY, L> const> y,
              std::span<saved_activations<AS, TQ, L> const> saved, std::span<matrix_view<T, L> const> dy,
              std::span<matrix_view<T, L> const> dx, std::span<matrix_view<TU, LU> const> dU,
              std::span<matrix_view<TV, LV> const> dV, std::span<vector_view<TS> const> ds, workspace work) {
  constexpr char const* function = "backward";
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
    auto&& operation = in_order(one, base[i]);
    backward(one, a[i], operation, x[i], y[i], saved[i], dy[i], dx[i], dU[i], dV[i], ds[i], part);
  });
}

}  // namespace HOFT_TARGET_NAMESPACE
