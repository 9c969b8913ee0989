// hoft/adapter/base.hpp: how the passes call the base operator.
#pragma once
#include <hoft/core/options.hpp>

namespace HOFT_TARGET_NAMESPACE::detail {

/// y := M x on the threads of the call, if the operator takes a policy of that kind.
template <class Policy, class Base, class X, class Y>
void apply_base(Policy const& policy, Base& base, X x, Y y) {
  if constexpr (requires { base.apply(policy, x, y); }) base.apply(policy, x, y);
  else base.apply(x, y);
}
/// y := Mᴴx likewise.
template <class Policy, class Base, class X, class Y>
void apply_base_adjoint(Policy const& policy, Base& base, X x, Y y) {
  if constexpr (requires { base.apply_adjoint(policy, x, y); }) base.apply_adjoint(policy, x, y);
  else base.apply_adjoint(x, y);
}

}  // namespace HOFT_TARGET_NAMESPACE::detail
