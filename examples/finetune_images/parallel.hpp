// SPDX-License-Identifier: BSD-3-Clause
// parallel.hpp: independent pieces of work on several threads, and a line that says how far they are.
#pragma once
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace finetune {

/// Calls work(0), ..., work(count - 1), each once, in any order; rethrows the first exception when all threads ended.
template <class Work>
void parallel_for(std::size_t count, unsigned threads, Work&& work) {
  std::atomic<std::size_t> next = 0;
  std::exception_ptr trouble;
  std::mutex trouble_mutex;
  auto const loop = [&] {
    for (std::size_t i = 0; (i = next++) < count;) {
      try {
        work(i);
      } catch (...) {
        std::scoped_lock const lock(trouble_mutex);
        if (!trouble) trouble = std::current_exception();
        next = count;
      }
    }
  };
  {
    std::vector<std::jthread> others;
    for (unsigned t = 1; t < threads && t < count; ++t) others.emplace_back(loop);
    loop();
  }
  if (trouble) std::rethrow_exception(trouble);
}

/// Processor time of the calling thread in seconds: what a run costs, whatever else the machine does.
inline double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// One line for a stretch of work, rewritten in a terminal; elsewhere a new line for every tenth of the work.
class progress {
 public:
  progress(std::string title, std::size_t count) : title_(std::move(title)), count_(count) {}

  /// One more piece is done, and this is what came out.
  void done(std::string const& outcome) {
    std::scoped_lock const lock(mutex_);
    ++done_;
    bool const last = done_ == count_;
    if (!terminal_ && !last && done_ * 10 / count_ == (done_ - 1) * 10 / count_) return;
    double const passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    double const left = passed / static_cast<double>(done_) * static_cast<double>(count_ - done_);
    std::string const time = last ? "took " + seconds(passed) : seconds(left) + " left";
    std::printf("%s%s %3zu/%zu, %s: %s%s", terminal_ ? "\r\033[K" : "", title_.c_str(), done_, count_, time.c_str(),
                outcome.c_str(), terminal_ && !last ? "" : "\n");
    std::fflush(stdout);
  }

 private:
  static std::string seconds(double t) { return std::to_string(static_cast<int>(t + 0.5)) + " s"; }

  std::string title_;
  std::size_t count_, done_ = 0;
  bool terminal_ = isatty(STDOUT_FILENO) != 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::mutex mutex_;
};

}  // namespace finetune
