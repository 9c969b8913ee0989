// SPDX-License-Identifier: BSD-3-Clause
// measures.hpp: the commands of hoft_claims, as commands.hpp describes them.
#pragma once
#include "commands.hpp"

namespace bench::claims {

void count(std::vector<planned> const& plan, std::ostream& out);
void time(std::vector<planned> const& plan, std::string const& out, int repetitions, double min_time);
void orthogonality(int largest_m, int largest_r, int seeds, std::ostream& out);
void sides(int largest_m, int largest_r, int seeds, std::ostream& out);
void coverage(int order, int steps, int seeds, std::ostream& out);

}  // namespace bench::claims
