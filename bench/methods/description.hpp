// SPDX-License-Identifier: BSD-3-Clause
// description.hpp: what a method says of itself, without the numbers it computes with.
#pragma once
#include <hoft/view/matrix_view.hpp>

#include <stdexcept>
#include <string>

namespace bench::methods {

using hoft::index_t;

/// A weight [m, n] and t tokens; rank r, blocks of b, k factors: each method reads what it needs.
struct sizes {
  index_t m, n, r, b, k, t;
};

/// Formulas in m, n, r, b, k and t, in Python's syntax (min is there too): bench/claims/*.py evaluate them.
struct pass_cost {
  char const* flops;   ///< sums, products and quotients, one each
  char const* moved;   ///< numbers between memory and cache, each input read once and each output written once
  char const* memory;  ///< numbers of memory at the peak beyond inputs, outputs, parameters and gradients
};
struct description {
  char const* name;
  char const* text;        ///< one line for the page
  char const* variables;   ///< those of m, n, r, b, k, t that it depends on
  char const* parameters;  ///< how many it trains
  pass_cost merge, merge_backward, forward, backward;
  char const* coverage = "";  ///< of r, b and k, what its size runs over when it is to reach an orthogonal target
};

inline void require(bool holds, std::string const& what) {
  if (!holds) throw std::invalid_argument(what);
}

}  // namespace bench::methods
