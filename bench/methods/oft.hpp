// SPDX-License-Identifier: BSD-3-Clause
// oft.hpp: orthogonal fine-tuning, M̂ = Q M with Q block-diagonal, each block by the exact Cayley map.
#pragma once
#include "block_rotations.hpp"

namespace bench::methods {

template <class T>
class oft : public block_rotations<T> {
 public:
  static constexpr description about{
      .name = "oft",
      .text = "OFT, blocks by the exact Cayley map",
      .variables = "mnbt",
      .parameters = "m * (b - 1) / 2",
      .merge = {"2*m*n*b + 4*m*b**2", "2*m*n + m*b", "m*b + max(2*b*min(n, max(32, 2**16/m)), 3*b**2)"},
      .merge_backward = {"6*m*n*b + 5*m*b**2", "3*m*n + 2*m*b", "2*m*b + (m + 2*b)*min(n, max(32, 2**16/m)) + 3*b**2"},
      .forward = {"2*m*n*t + 2*m*b*t + 4*m*b**2", "m*n + (m + n)*t + m*b",
                  "m*b + max(2*b*min(t, max(32, 2**16/m)), 3*b**2)"},
      .backward = {"2*m*n*t + 6*m*b*t + 5*m*b**2", "m*n + (3*m + n)*t + 2*m*b",
                   "2*m*b + (m + 2*b)*min(t, max(32, 2**16/m)) + 3*b**2"},
      .coverage = "b",
  };
  oft(sizes const& s, std::mt19937_64&) : block_rotations<T>("oft", s.m, s.b, 1, cayley::exact) {}
};

}  // namespace bench::methods

BENCH_METHOD(oft)
