// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/scratch.hpp: what the value-returning calls share.
#pragma once
#include <hoft/cpu/backend.hpp>
#include <hoft/eigen/dense_matrix.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/memory/scratch.hpp>
#include <hoft/view/eigen.hpp>

#include <memory>

namespace HOFT_TARGET_NAMESPACE {

namespace detail {

/// The memory that a policy, or that of each rank, keeps for workspace; null if it keeps none.
template <class Policy>
hoft::scratch* kept_scratch(Policy const& policy) {
  if constexpr (requires { policy.scratch; }) return policy.scratch;
  else if constexpr (requires { policy.local; }) return kept_scratch(policy.local);
  else return nullptr;
}

/// Workspace for the length of one call: what the policy keeps, or memory of its own.
class lent_workspace {
 public:
  explicit lent_workspace(index_t bytes) : own_(new std::byte[std::size_t(bytes)]), work_{own_.get(), bytes} {}
  template <class Policy>
  lent_workspace(Policy const& policy, index_t bytes) : lent_workspace(kept_scratch(policy), bytes) {}
  lent_workspace(lent_workspace const&) = delete;
  lent_workspace& operator=(lent_workspace const&) = delete;
  ~lent_workspace() {
    if (kept_ != nullptr) kept_->give_back();
  }
  operator workspace() const { return work_; }

 private:
  lent_workspace(hoft::scratch* kept, index_t bytes) {
    if (kept != nullptr)
      if (auto const taken = kept->take(bytes)) kept_ = kept, work_ = *taken;
    if (kept_ == nullptr) own_.reset(new std::byte[std::size_t(bytes)]), work_ = {own_.get(), bytes};
  }

  hoft::scratch* kept_ = nullptr;
  std::unique_ptr<std::byte[]> own_;
  workspace work_;
};

/// A Matrix owns its elements, and a Ref to constant elements owns a copy when it is bound to an expression.
template <class D>
inline constexpr bool may_own_elements = owns_elements<D>;
template <class D, int Options, class Stride>
inline constexpr bool may_own_elements<Eigen::Ref<D const, Options, Stride>> = true;
/// The argument is a temporary whose elements end with the call: D is its deduced type in a parameter D&&.
template <class D>
inline constexpr bool ends_with_the_call = !std::is_lvalue_reference_v<D> && may_own_elements<std::remove_cvref_t<D>>;

/// A view of an argument that is written. D is its deduced type in a parameter D&&.
template <class D>
auto as_output(std::remove_reference_t<D>& a) {
  static_assert(!ends_with_the_call<D>,
                "hoft: this argument is written, but it is a temporary, and the result would end with it: pass a named "
                "matrix, or a Map, Ref or Block of one.");
  auto const view = as_view(a);
  using element = typename decltype(view)::element_type;
  static_assert(!std::is_const_v<element> || ends_with_the_call<D>,
                "hoft: this argument is written, but it is const (or a Map or Ref of const).");
  if constexpr (std::is_const_v<element>)
    return matrix_view<std::remove_const_t<element>, typename decltype(view)::layout_type>{};
  else return view;
}

/// False, of a type that is known when a template is used.
template <class>
inline constexpr bool never = false;

// What stands in the parameters of calls that are refused in words. A conversion leads to each of them, so that every
// other function of the same name comes first, the caller's own too.

/// Anything, or nothing.
struct anything {
  anything() = default;
  template <class D>
  anything(D const&) {}
};
/// A matrix or an expression, where it must not stand.
struct a_matrix {
  template <class D>
  requires is_eigen<D> a_matrix(D const&) {}
};

template <class D>
using value_of = typename decltype(as_view(std::declval<D&>()))::value_type;
template <class D>
using layout_of = typename decltype(as_view(std::declval<D&>()))::layout_type;
template <class D>
using accumulator_of = accumulator_t<value_of<D>>;
/// Said before the calls below, where types that differ would only be "no matching function".
template <class DX, class DY>
inline constexpr bool same_layout = std::same_as<layout_of<DX>, layout_of<DY>>;
template <class DX, class DY>
inline constexpr bool same_storage = same_layout<DX, DY>&& std::same_as<value_of<DX>, value_of<DY>>;

}  // namespace detail
}  // namespace HOFT_TARGET_NAMESPACE
