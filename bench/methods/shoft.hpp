// shoft.hpp: SHOFT, HOFT with a scale for each row, by hoft.
#pragma once
#include "hoft_adapter.hpp"

namespace bench::methods {

template <class T>
class shoft : public hoft_adapter<T> {
 public:
  static constexpr description about{
      .name = "shoft",
      .text = "SHOFT, HOFT with a scale for each row, by hoft",
      .variables = "mnrt",
      .parameters = "(m + n) * r + m",
      .merge = {"8*m*n*r + 4*(m + n)*r**2", "2*m*n + (m + n)*r",
                "(5*m + 2*n)*r + 3*r*min(n, max(12, min(96, 2**17/max(m, n)))) + 5*r**2"},
      .merge_backward = {"20*m*n*r + 8*(m + n)*r**2 + 4*m*n", "2*m*n + 2*(m + n)*r",
                         "(10*m + 4*n)*r + (6*r + 3*m)*min(n, max(12, min(96, 2**17/max(m, n)))) + 18*r**2"},
      .forward = {"2*m*n*(t + r) + (6*m + 2*n)*r*t + (4*m + 2*n)*r**2", "m*n + (m + n)*(t + r)",
                  "(6*m + 3*n + 2*t)*r + 3*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 5*r**2 + m*t"},
      .backward = {"2*m*n*(t + r) + (12*m + 4*n + 8*r)*r*t + (8*m + 2*n)*r**2", "m*n + 2*(m + n)*(t + r) + m*t",
                   "(9*m + 5*n + 3*t)*r + 4*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 16*r**2 + m*t"},
      .coverage = "r",
  };
  shoft(sizes const& s, std::mt19937_64& rng) : hoft_adapter<T>(s, rng, hoft::exact{}, true) {}
};

}  // namespace bench::methods

BENCH_METHOD(shoft)
