// SPDX-License-Identifier: BSD-3-Clause
// progress.hpp: a line on the terminal that says how far a command is and how long it still takes.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <string>

namespace bench::claims {

class progress {
 public:
  progress(std::string what, std::size_t total) : what_(std::move(what)), total_(total) {}
  ~progress() { std::fprintf(stderr, "%s: %zu of %zu in %.0f s\n", what_.c_str(), done_, total_, seconds()); }

  void step() {
    ++done_;
    double const now = seconds();
    if (now - shown_ < 5) return;
    shown_ = now;
    double const rest = now * double(total_ - done_) / double(done_);
    std::fprintf(stderr, "%s: %zu of %zu, about %.0f s remain\n", what_.c_str(), done_, total_, rest);
  }

 private:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

  std::string what_;
  std::size_t total_, done_ = 0;
  double shown_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace bench::claims
