// SPDX-License-Identifier: BSD-3-Clause
// plan.hpp: what is to be measured, and the heads of the tables.
#pragma once
#include "../methods/description.hpp"

#include <iosfwd>
#include <string>
#include <vector>

namespace bench::claims {

using hoft::index_t;
using methods::sizes;

inline constexpr char const* pass_names[] = {"merge", "merge_backward", "forward", "backward"};

/// A line of a plan: method, pass, m, n, r, b, k, t.
struct planned {
  std::string method, pass;
  sizes s;
  std::string name() const;  ///< the fields with / between them
};

/// @throws std::invalid_argument that names the file, the line and what is wrong with it
std::vector<planned> read_plan(std::string const& file);

}  // namespace bench::claims
