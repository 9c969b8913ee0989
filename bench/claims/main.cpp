// SPDX-License-Identifier: BSD-3-Clause
// main.cpp: the commands of a program of the harness.
#include "commands.hpp"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include <cstdlib>
#include <cstring>
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
  commands const can = available();
  CLI::App app(can.purpose, can.name);
  app.require_subcommand(1);
  std::string plan, out;
  int repetitions = 9, largest_m = 4096, largest_r = 128, seeds = 3, order = 16, steps = 3000;
  double min_time = 0.004;
  auto const positive = CLI::Range(1, 1 << 20);
  std::function<void(std::ostream&)> table;
  bool times = false;

  auto* const describing = app.add_subcommand("describe", "the methods and their formulas");
  describing->callback([&] { table = can.describe; });
  auto* const counting = app.add_subcommand("count", "what each case of a plan trains and takes");
  counting->callback([&] { table = [&](std::ostream& to) { can.count(read_plan(plan), to); }; });
  auto* const timing = app.add_subcommand("time", "times of each case of a plan");
  timing->callback([&] { times = true; });
  for (auto* const command : {counting, timing})
    command->add_option("--plan", plan, "lines of: method pass m n r b k t")->required()->check(CLI::ExistingFile);
  timing->add_option("--repetitions", repetitions, "of each case")->check(positive);
  timing->add_option("--min-time", min_time, "seconds of one repetition")->check(CLI::Range(1e-5, 10.0));
  auto const over_ranks = [&](CLI::App* command) {
    command->add_option("--largest-m", largest_m, "from 64 on by factors of 4")->check(positive);
    command->add_option("--largest-r", largest_r, "from 1 on by factors of 2")->check(positive);
    command->add_option("--seeds", seeds, "repetitions with other numbers")->check(positive);
  };
  if (can.orthogonality != nullptr) {
    auto* const command = app.add_subcommand("orthogonality", "I - Q'Q over m, r and the terms of the inverse");
    over_ranks(command);
    command->callback([&] { table = [&](std::ostream& to) { can.orthogonality(largest_m, largest_r, seeds, to); }; });
  }
  if (can.sides != nullptr) {
    auto* const command =
        app.add_subcommand("sides", "energy and singular values from the left, the right and both sides");
    over_ranks(command);
    command->callback([&] { table = [&](std::ostream& to) { can.sides(largest_m, largest_r, seeds, to); }; });
  }
  if (can.coverage != nullptr) {
    auto* const command = app.add_subcommand("coverage", "how near methods come to orthogonal targets");
    command->add_option("--seeds", seeds, "repetitions with other numbers")->check(positive);
    command->add_option("--order", order, "m = n, a power of two")->check(positive);
    command->add_option("--steps", steps, "of the descent")->check(positive);
    command->callback([&] { table = [&](std::ostream& to) { can.coverage(order, steps, seeds, to); }; });
  }
  for (auto* const command : app.get_subcommands({}))
    command->add_option("--out", out, "the file to write")->required();

  CLI11_PARSE(app, argc, argv);
  if (std::string const why = can.missing == nullptr ? "" : can.missing(); !why.empty()) {
    char const* const required = std::getenv("HOFT_REQUIRE_GPU");
    bool const fails = required != nullptr && std::strcmp(required, "1") == 0;
    std::cerr << can.name << (fails ? ": failed" : ": skipped") << ", there is no GPU to measure on (" << why << ")\n";
    return fails ? 1 : 77;
  }
  try {
    if (times) can.time(read_plan(plan), out, repetitions, min_time);
    else write(out, table);
  } catch (std::exception const& error) {
    std::cerr << can.name << ": " << error.what() << '\n';
    return 2;
  }
  return 0;
}
