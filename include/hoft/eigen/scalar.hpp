// hoft/eigen/scalar.hpp: Eigen's 16-bit types are stored in 16 bits and computed in float.
#pragma once
#include <hoft/core/scalar.hpp>

#include <Eigen/Core>

namespace hoft {

template <>
struct scalar_traits<Eigen::half> {
  using accumulator = float;
};

template <>
struct scalar_traits<Eigen::bfloat16> {
  using accumulator = float;
};

}  // namespace hoft
