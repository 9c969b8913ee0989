// SPDX-License-Identifier: BSD-3-Clause
// plan.cpp: plans from files.
#include "plan.hpp"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace bench::claims {

std::string planned::name() const {
  std::ostringstream text;
  text << method << '/' << pass;
  for (index_t size : {s.m, s.n, s.r, s.b, s.k, s.t}) text << '/' << size;
  return text.str();
}

std::vector<planned> read_plan(std::string const& file) {
  std::ifstream in(file);
  methods::require(bool(in), "cannot read the plan '" + file + "'");
  std::vector<planned> plan;
  std::string line;
  for (int number = 1; std::getline(in, line); ++number) {
    std::istringstream words(line);
    planned p;
    std::string more;
    bool const whole = bool(words >> p.method >> p.pass >> p.s.m >> p.s.n >> p.s.r >> p.s.b >> p.s.k >> p.s.t) &&
                       !(words >> more) && std::min({p.s.m, p.s.n, p.s.r, p.s.b, p.s.k, p.s.t}) >= 1;
    bool const known = std::find(std::begin(pass_names), std::end(pass_names), p.pass) != std::end(pass_names);
    methods::require(whole && known, file + ":" + std::to_string(number) + ": '" + line +
                                         "', expected: method merge|merge_backward|forward|backward m n r b k t");
    plan.push_back(p);
  }
  return plan;
}

}  // namespace bench::claims
