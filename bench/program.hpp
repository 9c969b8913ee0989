// SPDX-License-Identifier: BSD-3-Clause
// program.hpp: runs contests one after another; within one, repetitions of all contestants alternate at random.
#pragma once
#include "contest.hpp"
#include "machine.hpp"

#include <ctime>
#include <iostream>
#include <memory>
#include <optional>
#include <regex>
#include <string>
#include <vector>

namespace bench {

class program {
 public:
  /// Options: those of Google Benchmark that choose contestants and repetitions, and
  ///   --quick        the smallest shapes, three short repetitions
  ///   --out=FILE     all repetitions as Google Benchmark's JSON
  ///   --only=REGEX   cases (operation/type/m/n/r) to build at all; --benchmark_filter chooses contestants in them
  ///   --training     the contest that meets PyTorch instead of all others
  program(int argc, char** argv);
  ~program();

  bool quick() const { return quick_; }
  bool training() const { return training_; }

  /// One contest, made by make() if it is wanted.
  template <class T, class Make>
  void hold(std::string const& operation, shape s, Make const& make) {
    std::string const prefix = operation + (std::is_same_v<T, float> ? "/float/" : "/double/") + std::to_string(s.m) +
                               "/" + std::to_string(s.n) + "/" + std::to_string(s.r) + "/";
    if (!std::regex_search(prefix, only_)) return;
    contest<T> const c = make();
    if (!agree(prefix, c) || entered_.empty()) return;  // a wrong peer is not worth timing
    for (auto const& machine : {fma_peak<T>(), copy_memcpy<T>(), copy_streaming<T>()}) enter(prefix, machine);
    run_entered();
  }

  /// The same contest on the usual shapes, or the smallest: make(T{}, shape) for float and double.
  template <class Make>
  void hold_all(std::string const& operation, Make const& make) {
    for (shape s : shapes) {
      if (quick_ && s.m != smallest.m) continue;
      hold<float>(operation, s, [&] { return make(float{}, s); });
      hold<double>(operation, s, [&] { return make(double{}, s); });
    }
  }

  /// Writes what is left to write. The exit status: whether all contestants agreed, whatever their times.
  int finish();

 private:
  class reporter;

  /// Whether the results of the wanted contestants agree within each group; enters them.
  template <class T>
  bool agree(std::string const& prefix, contest<T> const& c) {
    bool all = true;
    std::map<std::string, kept_results<T>> firsts;
    for (contestant<T> const& entry : c.contestants) {
      bool const is_first = !firsts.contains(entry.group);
      if (!is_first && !selected(prefix + entry.job.name)) continue;
      entry.job.prepare();
      std::clock_t const start = std::clock();  // processor time: others on the machine do not count
      entry.job.run();
      double const seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
      entry.widen();
      if (is_first) {
        firsts.emplace(entry.group, kept_results<T>(entry));
      } else {
        auto const& first = firsts.at(entry.group);
        double const error = first.relative_error(entry.results), bound = allowed_error(c, entry);
        if (!(error <= bound)) {
          std::cerr << prefix << entry.job.name << " differs from " << first.name() << " by " << error << ", more than "
                    << bound << '\n';
          all = false;
        }
      }
      enter(prefix, entry.job, seconds);
    }
    if (!all) {
      agreed_ = false;
      entered_.clear();
    }
    return all;
  }

  bool selected(std::string const& name) const;
  void enter(std::string const& prefix, task const& job, std::optional<double> seconds = {});
  void run_entered();

  bool quick_ = false, training_ = false, agreed_ = true;
  std::regex only_;
  std::string out_;
  std::vector<std::string> options_;  // Google Benchmark keeps a pointer to the first
  struct registration {
    std::string name;
    task job;
    int repetitions;  // 0: as many as everyone
  };
  std::vector<registration> entered_;
  std::unique_ptr<reporter> reporter_;
};

// One function for each file of cases.
void accumulate_cases(program&);
void apply_cases(program&);
void apply_backward_cases(program&);
void training_case(program&);
void merge_cases(program&);
void forward_cases(program&);
void backward_cases(program&);
void activation_cases(program&);
void decode_cases(program&);
void batch_cases(program&);
void forms_cases(program&);
void storage_cases(program&);

}  // namespace bench
