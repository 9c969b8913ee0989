// SPDX-License-Identifier: BSD-3-Clause
// shoft.hpp: SHOFT, HOFT with a scale for each row, by hoft.
#pragma once
#include "hoft_adapter.hpp"

namespace bench::methods {

template <class T>
class shoft : public hoft_adapter<T> {
 public:
  static constexpr description about = describe_shoft({
      hoft_memory.merge,
      "(10*m + 4*n)*r + (6*r + 3*m)*min(n, max(12, min(96, 2**17/max(m, n)))) + 18*r**2",
      "(6*m + n + 2*t)*r + 2*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 5*r**2 + m*t",
      "(6*m + 2*n + 2*t)*r + max((3*m + t)*r + 4*r*min(t, max(12, min(96, 2**17/max(m, n)))), 2*(m + n)*r) + 9*r**2 + "
      "m*t",
  });
  shoft(sizes const& s, std::mt19937_64& rng) : hoft_adapter<T>(s, rng, hoft::exact{}, true) {}
};

}  // namespace bench::methods

BENCH_METHOD(shoft)
