// commands.hpp: what hoft_claims can be told to do. Tables are written with tabs between their fields.
#pragma once
#include <iosfwd>
#include <string>
#include <vector>

namespace bench::claims {

struct planned;

/// Names, texts and formulas of all methods.
void describe(std::ostream& out);

/// Parameters, flops and peak bytes of each case of the plan.
void count(std::vector<planned> const& plan, std::ostream& out);

/// Times, as Google Benchmark's JSON: repetitions of all cases alternate at random.
void time(std::vector<planned> const& plan, std::string const& out, int repetitions, double min_time);

/// ‖I − QQᵀ‖_F/√m over m, r, terms of the inverse, random and paired vectors.
void orthogonality(int largest_m, int largest_r, int seeds, std::ostream& out);

/// Energy and singular values of Q_U M, M Q_V and Q_U M Q_V beside those of M.
void sides(int largest_m, int largest_r, int seeds, std::ostream& out);

/// How near each method comes to orthogonal targets of order m by descent, and in which time.
void coverage(int m, int steps, int seeds, std::ostream& out);

}  // namespace bench::claims
