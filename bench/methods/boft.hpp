// SPDX-License-Identifier: BSD-3-Clause
// boft.hpp: butterfly orthogonal fine-tuning, M̂ = Q_k ⋯ Q₁ M.
#pragma once
#include "block_rotations.hpp"

namespace bench::methods {

template <class T>
class boft : public block_rotations<T> {
 public:
  static constexpr description about{
      .name = "boft",
      .text = "BOFT, k butterfly factors of blocks by the exact Cayley map",
      .variables = "mnbkt",
      .parameters = "m * k * (b - 1) / 2",
      .merge = {"2*m*n*b*k + 4*m*b**2*k", "2*m*n + m*b*k", "m*b*k + max(2*b*min(n, max(32, 2**16/m)), 3*b**2)"},
      .merge_backward = {"6*m*n*b*k + 5*m*b**2*k", "3*m*n + 2*m*b*k",
                         "2*m*b*k + (m + 2*b)*min(n, max(32, 2**16/m)) + 3*b**2"},
      .forward = {"2*m*n*t + 2*m*b*k*t + 4*m*b**2*k", "m*n + (m + n)*t + m*b*k",
                  "m*b*k + max(2*b*min(t, max(32, 2**16/m)), 3*b**2)"},
      .backward = {"2*m*n*t + 6*m*b*k*t + 5*m*b**2*k", "m*n + (3*m + n)*t + 2*m*b*k",
                   "2*m*b*k + (m + 2*b)*min(t, max(32, 2**16/m)) + 3*b**2"},
      .coverage = "bk",
  };
  boft(sizes const& s, std::mt19937_64&) : block_rotations<T>("boft", s.m, s.b, s.k, cayley::exact) {}
};

}  // namespace bench::methods

BENCH_METHOD(boft)
