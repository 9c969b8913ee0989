// SPDX-License-Identifier: BSD-3-Clause
// oft_neumann.hpp: orthogonal fine-tuning with the inverse of Cayley's map cut after five terms of its Neumann series
// (OFTv2).
#pragma once
#include "block_rotations.hpp"

namespace bench::methods {

template <class T>
class oft_neumann : public block_rotations<T> {
 public:
  static constexpr description about{
      .name = "oft_neumann",
      .text = "OFT, blocks by five terms of the Neumann series (OFTv2)",
      .variables = "mnbt",
      .parameters = "m * (b - 1) / 2",
      .merge = {"2*m*n*b + 9*m*b**2", "2*m*n + 5*m*b", "5*m*b + 2*b*min(n, max(32, 2**16/m))"},
      .merge_backward = {"4*m*n*b + 18*m*b**2", "3*m*n + 6*m*b", "6*m*b + (m + 2*b)*min(n, max(32, 2**16/m)) + 5*b**2"},
      .forward = {"2*m*n*t + 2*m*b*t + 9*m*b**2", "m*n + (2*m + n)*t + 5*m*b",
                  "5*m*b + m*t + 2*b*min(t, max(32, 2**16/m))"},
      .backward = {"2*m*n*t + 4*m*b*t + 18*m*b**2", "m*n + (3*m + n)*t + 6*m*b",
                   "6*m*b + m*t + (m + 2*b)*min(t, max(32, 2**16/m)) + 5*b**2"},
  };
  oft_neumann(sizes const& s, std::mt19937_64&) : block_rotations<T>("oft_neumann", s.m, s.b, 1, cayley::neumann) {}
};

}  // namespace bench::methods

BENCH_METHOD(oft_neumann)
