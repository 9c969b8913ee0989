// hoft_in_turn_exact.hpp: HOFT as Q_V x, then M, then Q_U, with the exact inverse, by hoft.
#pragma once
#include "hoft_in_turn.hpp"

namespace bench::methods {

template <class T>
class hoft_in_turn_exact : public hoft_in_turn<T> {
 public:
  static constexpr description about{
      .name = "hoft_in_turn_exact",
      .text = "HOFT as Q_V x, then M, then Q_U, with the exact inverse, by hoft",
      .variables = "mnrt",
      .parameters = "(m + n) * r",
      .merge = {"8*m*n*r + 4*(m + n)*r**2", "4*m*n + (m + n)*r",
                "2*(m + n)*r + 3*r*min(n, max(12, min(96, 2**17/max(m, n)))) + 5*r**2"},
      .merge_backward = {"18*m*n*r + (8*m + 10*n)*r**2", "6*m*n + 2*(m + n)*r",
                         "4*(m + n)*r + 5*r*min(n, max(12, min(96, 2**17/max(m, n)))) + 18*r**2"},
      .forward = {"2*m*n*t + 4*(m + n)*r*t + 2*(m + n)*r**2", "m*n + (2*m + 3*n)*t + (m + n)*r",
                  "n*t + (2*m + 2*n + t)*r + 2*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 5*r**2"},
      .backward = {"2*m*n*t + (8*m + 10*n)*r*t + 2*(m + n)*r**2", "m*n + (3*m + 5*n)*t + 2*(m + n)*r",
                   "(3*m + 3*n + t)*r + 6*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 9*r**2"},
  };
  hoft_in_turn_exact(sizes const& s, std::mt19937_64& rng) : hoft_in_turn<T>(s, rng, hoft::exact{}) {}
};

}  // namespace bench::methods

BENCH_METHOD(hoft_in_turn_exact)
