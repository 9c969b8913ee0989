// SPDX-License-Identifier: BSD-3-Clause
// hoft_two_terms.hpp: HOFT with the inverse cut after two terms as in the paper, by hoft.
#pragma once
#include "hoft_adapter.hpp"

namespace bench::methods {

template <class T>
class hoft_two_terms : public hoft_adapter<T> {
 public:
  static constexpr description about = describe_hoft(
      "hoft_two_terms", "HOFT with the inverse cut after two terms as in the paper, by hoft", hoft_memory);
  hoft_two_terms(sizes const& s, std::mt19937_64& rng) : hoft_adapter<T>(s, rng, hoft::neumann{2}, false) {}
};

}  // namespace bench::methods

BENCH_METHOD(hoft_two_terms)
