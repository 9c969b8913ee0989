// SPDX-License-Identifier: BSD-3-Clause
// hoft_in_turn_two_terms.hpp: HOFT as Q_V x, then M, then Q_U, with the inverse cut after two terms, by hoft.
#pragma once
#include "hoft_in_turn.hpp"

namespace bench::methods {

template <class T>
class hoft_in_turn_two_terms : public hoft_in_turn<T> {
 public:
  static constexpr description about = describe_hoft_in_turn(
      "hoft_in_turn_two_terms", "HOFT as Q_V x, then M, then Q_U, with the inverse cut after two terms, by hoft");
  hoft_in_turn_two_terms(sizes const& s, std::mt19937_64& rng) : hoft_in_turn<T>(s, rng, hoft::neumann{2}) {}
};

}  // namespace bench::methods

BENCH_METHOD(hoft_in_turn_two_terms)
