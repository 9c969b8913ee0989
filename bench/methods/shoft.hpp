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
      .parameters = "(m + n) * r",
      .merge = {"TODO", "TODO", "TODO"},
      .merge_backward = {"TODO", "TODO", "TODO"},
      .forward = {"TODO", "TODO", "TODO"},
      .backward = {"TODO", "TODO", "TODO"},
      .coverage = "r",
  };
  shoft(sizes const& s, std::mt19937_64& rng) : hoft_adapter<T>(s, rng, hoft::exact{}, true) {}
};

}  // namespace bench::methods

BENCH_METHOD(shoft)
