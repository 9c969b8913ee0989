// hoft/eigen/scratch.hpp: what the value-returning calls share.
#pragma once
#include <hoft/cpu/primitives.hpp>
#include <hoft/eigen/dense_matrix.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/eigen.hpp>

#include <memory>

namespace HOFT_TARGET_NAMESPACE {

namespace detail {

/// Workspace for the length of one call.
class scratch {
 public:
  explicit scratch(index_t bytes) : memory_(new std::byte[std::size_t(bytes)]), bytes_(bytes) {}
  operator workspace() const { return {memory_.get(), bytes_}; }

 private:
  std::unique_ptr<std::byte[]> memory_;
  index_t bytes_;
};

/// A view of an argument that is written.
template <class D>
auto as_output(D&& a) {
  auto const view = as_view(std::forward<D>(a));
  static_assert(!std::is_const_v<typename decltype(view)::element_type>,
                "hoft: this argument is written, but it is const (or a Map or Ref of const).");
  return view;
}

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
