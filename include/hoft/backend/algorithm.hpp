// SPDX-License-Identifier: BSD-3-Clause
// hoft/backend/algorithm.hpp: whole algorithms of a backend, checked where they are chosen (backend/defaults.hpp).
#pragma once
#include <hoft/memory/arena.hpp>

#include <concepts>
#include <type_traits>

namespace HOFT_TARGET_NAMESPACE::backend {

/// Own has run(...) const for the arguments of the given run.
template <class Own, class Panels, class... Args>
constexpr bool runs_with(void (Panels::*)(Args...) const) {
  return requires(Own const& own, Args... args) { own.run(args...); };
}
/// Own has run(...) const for the arguments of Panels::run. Where that is a template, its parameter is a layout.
template <class Own, class Panels>
constexpr bool runs_like() {
  if constexpr (requires { &Panels::run; }) return runs_with<Own>(&Panels::run);
  else return runs_with<Own>(&Panels::template run<typename Panels::layout>);
}

/// The algorithm that a backend has put in place of Panels, or Panels itself. Extents: what the constructor of Panels
/// takes behind arena and policy.
template <class Own, class Panels, class... Extents>
struct algorithm_of {
  static constexpr bool constructs =
      std::is_constructible_v<Own, arena&, typename Panels::policy_type const&, Extents...>;
  static constexpr bool runs = runs_like<Own, Panels>();
  static_assert(constructs,
                "hoft: the constructor of a backend's algorithm must take what the constructor of Panels takes.");
  static_assert(runs, "hoft: a backend's algorithm must have run(...) const with the arguments of Panels::run.");
  using type = std::conditional_t<constructs && runs, Own, Panels>;  // the message says enough
};
template <class Panels, class... Extents>
struct algorithm_of<Panels, Panels, Extents...> {
  using type = Panels;
};
template <class Own, class Panels, class... Extents>
using algorithm = typename algorithm_of<Own, Panels, Extents...>::type;

}  // namespace HOFT_TARGET_NAMESPACE::backend
