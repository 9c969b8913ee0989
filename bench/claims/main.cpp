// main.cpp: the commands of hoft_claims.
#include "commands.hpp"
#include "trial.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <fstream>
#include <functional>
#include <iostream>

using namespace bench::claims;

namespace {

/// A table that appears whole or not at all.
void write(std::string const& file, std::function<void(std::ostream&)> const& table) {
  std::string const unfinished = file + ".unfinished";
  {
    std::ofstream out(unfinished);
    bench::methods::require(bool(out), "cannot write '" + file + "'");
    table(out);
    out.flush();
    bench::methods::require(bool(out), "cannot write all of '" + file + "'");
  }
  bench::methods::require(std::rename(unfinished.c_str(), file.c_str()) == 0, "cannot rename '" + unfinished + "'");
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures what bench/claims.py judges.", "hoft_claims");
  app.require_subcommand(1);
  std::string plan, out;
  int repetitions = 9, largest_m = 4096, largest_r = 128, seeds = 3, order = 16, steps = 3000;
  double min_time = 0.004;
  auto const positive = CLI::Range(1, 1 << 20);

  auto* const describing = app.add_subcommand("describe", "the methods and their formulas");
  auto* const counting = app.add_subcommand("count", "parameters, flops and peak bytes of each case of a plan");
  auto* const timing = app.add_subcommand("time", "processor times of each case of a plan");
  auto* const measuring = app.add_subcommand("orthogonality", "I - Q Q' over m, r and the terms of the inverse");
  auto* const siding =
      app.add_subcommand("sides", "energy and singular values from the left, the right and both sides");
  auto* const covering = app.add_subcommand("coverage", "how near methods come to orthogonal targets");
  for (auto* const command : app.get_subcommands({}))
    command->add_option("--out", out, "the file to write")->required();
  for (auto* const command : {counting, timing})
    command->add_option("--plan", plan, "lines of: method pass m n r b k t")->required()->check(CLI::ExistingFile);
  timing->add_option("--repetitions", repetitions, "of each case")->check(positive);
  timing->add_option("--min-time", min_time, "seconds of one repetition")->check(CLI::Range(1e-5, 10.0));
  for (auto* const command : {measuring, siding}) {
    command->add_option("--largest-m", largest_m, "from 64 on by factors of 4")->check(positive);
    command->add_option("--largest-r", largest_r, "from 1 on by factors of 2")->check(positive);
  }
  for (auto* const command : {measuring, siding, covering})
    command->add_option("--seeds", seeds, "repetitions with other numbers")->check(positive);
  covering->add_option("--order", order, "m = n, a power of two")->check(positive);
  covering->add_option("--steps", steps, "of the descent")->check(positive);

  CLI11_PARSE(app, argc, argv);
  try {
    if (*timing) time(read_plan(plan), out, repetitions, min_time);
    else
      write(out, [&](std::ostream& table) {
        if (*describing) describe(table);
        if (*counting) count(read_plan(plan), table);
        if (*measuring) orthogonality(largest_m, largest_r, seeds, table);
        if (*siding) sides(largest_m, largest_r, seeds, table);
        if (*covering) coverage(order, steps, seeds, table);
      });
  } catch (std::exception const& error) {
    std::cerr << "hoft_claims: " << error.what() << '\n';
    return 2;
  }
  return 0;
}
