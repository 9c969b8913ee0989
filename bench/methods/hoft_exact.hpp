// SPDX-License-Identifier: BSD-3-Clause
// hoft_exact.hpp: HOFT with the exact inverse, by hoft.
#pragma once
#include "hoft_adapter.hpp"

namespace bench::methods {

template <class T>
class hoft_exact : public hoft_adapter<T> {
 public:
  static constexpr description about = describe_hoft("hoft_exact", "HOFT with the exact inverse, by hoft", hoft_memory);
  hoft_exact(sizes const& s, std::mt19937_64& rng) : hoft_adapter<T>(s, rng, hoft::exact{}, false) {}
};

}  // namespace bench::methods

BENCH_METHOD(hoft_exact)
