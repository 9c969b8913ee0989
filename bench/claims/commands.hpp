// SPDX-License-Identifier: BSD-3-Clause
// commands.hpp: what a program of the harness can be told to do. Tables are written with tabs between their fields.
#pragma once
#include "plan.hpp"

#include <iosfwd>
#include <string>
#include <vector>

namespace bench::claims {

/// The commands of a program; those without a function are not offered. Each program has its own `available`.
struct commands {
  char const* name;     ///< of the program
  char const* purpose;  ///< one line for its help
  /// Names, texts and formulas of all methods.
  void (*describe)(std::ostream&);
  /// Parameters and peak bytes of each case of the plan; flops where they can be counted.
  void (*count)(std::vector<planned> const&, std::ostream&);
  /// Times, as Google Benchmark's JSON: repetitions of all cases alternate at random.
  void (*time)(std::vector<planned> const&, std::string const& out, int repetitions, double min_time);
  /// ‖I − QᵀQ‖_F/√m over m, r, terms of the inverse, random and paired vectors.
  void (*orthogonality)(int largest_m, int largest_r, int seeds, std::ostream&) = nullptr;
  /// Energy and singular values of Q_U M, M Q_V and Q_U M Q_V beside those of M.
  void (*sides)(int largest_m, int largest_r, int seeds, std::ostream&) = nullptr;
  /// How near each method comes to orthogonal targets of order m by descent, and in which time.
  void (*coverage)(int m, int steps, int seeds, std::ostream&) = nullptr;
  /// Why there is nothing here to measure on; empty if there is.
  std::string (*missing)() = nullptr;
};
commands available();

// --- what the programs share ----------------------------------------------------------------------------------------

void write_description_head(std::ostream&);
void write_description(methods::description const&, std::ostream&);
/// The fields of a case, the first ones of its row; their names.
void write_case(planned const&, std::ostream&);
extern char const* const case_head;

/// Runs what is registered, interleaved at random, and writes Google Benchmark's JSON.
void run_registered(std::string const& out, int repetitions);

}  // namespace bench::claims
