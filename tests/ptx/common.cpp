// SPDX-License-Identifier: BSD-3-Clause
#include "common.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace emu {

std::string format(char const* pattern, ...) {
  va_list list;
  va_start(list, pattern);
  char text[4096];
  std::vsnprintf(text, sizeof(text), pattern, list);
  va_end(list);
  return text;
}

namespace {

std::string setting(char const* name) {
  char const* const text = std::getenv(name);
  return text == nullptr ? "" : text;
}
/// A setting that nobody knows is no smaller test: the program ends.
[[noreturn]] void refuse_setting(char const* name) {
  std::fprintf(stderr, "ptxemu: %s=%s is unknown\n", name, setting(name).c_str());
  std::_Exit(2);
}
/// Whether a setting is its second value, not its first or none.
bool is_second(char const* name, char const* first, char const* second) {
  std::string const text = setting(name);
  if (text.empty() || text == first) return false;
  if (text != second) refuse_setting(name);
  return true;
}
int number(char const* name, int least, int otherwise) {
  std::string const text = setting(name);
  if (text.empty()) return otherwise;
  char* end = nullptr;
  long const value = std::strtol(text.c_str(), &end, 10);
  if (*end != '\0' || value < least || value > 1'000'000'000) refuse_setting(name);
  return int(value);
}

void read_checks(options& o) {
  std::string const text = setting("PTXEMU_CHECKS");
  if (text.empty() || text == "all") return;
  o.uninitialised = o.global_uninitialised = o.races = o.unwaited = false;
  if (text == "none") return;
  for (std::size_t at = 0; at <= text.size();) {
    std::size_t const end = std::min(text.find(',', at), text.size());
    std::string const name = text.substr(at, end - at);
    at = end + 1;
    if (name == "uninitialised") o.uninitialised = true;
    else if (name == "global-uninitialised") o.global_uninitialised = true;
    else if (name == "races") o.races = true;
    else if (name == "unwaited") o.unwaited = true;
    else if (name == "lanes-ordered") o.lanes_race = false;
    else refuse_setting("PTXEMU_CHECKS");
  }
}
void read_schedule(options& o) {
  std::string const text = setting("PTXEMU_SCHEDULE");
  if (text.empty() || text == "forward") return;
  if (text == "reverse") {
    o.order = schedule::reverse;
  } else if (text.starts_with("random")) {
    o.order = schedule::random;
    char* end = nullptr;
    if (text.size() > 6) o.seed = std::strtoull(text.c_str() + 7, &end, 10);
    if (text.size() > 6 && (text[6] != ':' || *end != '\0')) refuse_setting("PTXEMU_SCHEDULE");
  } else {
    refuse_setting("PTXEMU_SCHEDULE");
  }
}

}  // namespace

options const all_options = [] {
  options o;
  read_checks(o);
  read_schedule(o);
  o.lanes_alone = is_second("PTXEMU_LANES", "warp", "thread");
  o.truncate_mma = is_second("PTXEMU_MMA", "exact", "truncate");
  o.eager = is_second("PTXEMU_STREAMS", "deferred", "eager");
  o.threads = number("PTXEMU_THREADS", 1, o.threads);
  o.processors = number("PTXEMU_PROCESSORS", 1, o.processors);
  o.most_reports = number("PTXEMU_PRINT", 0, o.most_reports);
  if (std::string const text = setting("PTXEMU_MEMORY"); !text.empty()) {
    double const gibibytes = std::strtod(text.c_str(), nullptr);
    if (!(gibibytes > 0 && gibibytes < 1024)) refuse_setting("PTXEMU_MEMORY");
    o.memory = std::size_t(gibibytes * double(1 << 30));
  }
  o.report = setting("PTXEMU_REPORT");
  o.report_lines = setting("PTXEMU_REPORT_LINES") == "1";
  o.trace = setting("PTXEMU_TRACE") == "1";
  return o;
}();

findings& findings::get() {
  static findings* const all = new findings;  // outlives every static of the program
  return *all;
}

void findings::add(std::string const& kind, std::string const& place, std::string const& what) {
  std::lock_guard const lock(mutex_);
  ++count_;
  auto& entry = known_[kind + " | " + place];
  if (entry.first++ > 0) return;
  entry.second = what;
  if (printed_++ < options::get().most_reports)
    std::fprintf(stderr, "ptxemu: %s: %s\n        at %s\n", kind.c_str(), what.c_str(), place.c_str());
}

void findings::summary() {
  std::lock_guard const lock(mutex_);
  if (count_ == 0) return;
  std::fprintf(stderr, "ptxemu: %llu findings at %zu places\n", static_cast<unsigned long long>(count_), known_.size());
  for (auto const& [place, entry] : known_)
    std::fprintf(stderr, "  %8llu x %s\n             first: %s\n", static_cast<unsigned long long>(entry.first),
                 place.c_str(), entry.second.c_str());
}

}  // namespace emu
