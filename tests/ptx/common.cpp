#include "common.hpp"

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

options const all_options = [] {
  options o;
  auto const value = [](char const* name) -> std::string {
    char const* const text = std::getenv(name);
    return text == nullptr ? "" : text;
  };
  if (std::string const checks = value("PTXEMU_CHECKS"); !checks.empty()) {
    auto const has = [&](char const* name) { return checks == "all" || checks.find(name) != std::string::npos; };
    o.uninitialised = has("uninitialised");
    o.global_uninitialised = has("global-uninitialised");
    o.races = has("races");
    o.lanes_race = checks.find("lanes-ordered") == std::string::npos;
    o.unwaited = has("unwaited");
  }
  if (std::string const text = value("PTXEMU_SCHEDULE"); !text.empty()) {
    if (text.starts_with("reverse")) o.order = schedule::reverse;
    else if (text.starts_with("random")) o.order = schedule::random;
    else if (text != "forward") std::fprintf(stderr, "ptxemu: PTXEMU_SCHEDULE=%s is unknown\n", text.c_str());
    if (auto const at = text.find(':'); at != std::string::npos)
      o.seed = std::strtoull(text.c_str() + at + 1, nullptr, 10);
  }
  o.lanes_alone = value("PTXEMU_LANES") == "thread";
  o.truncate_mma = value("PTXEMU_MMA") == "truncate";
  o.eager = value("PTXEMU_STREAMS") == "eager";
  if (std::string const text = value("PTXEMU_THREADS"); !text.empty()) o.threads = std::max(1, std::atoi(text.c_str()));
  if (std::string const text = value("PTXEMU_MEMORY"); !text.empty())
    o.memory = std::size_t(std::strtod(text.c_str(), nullptr) * double(1 << 30));
  o.report = value("PTXEMU_REPORT");
  o.report_lines = value("PTXEMU_REPORT_LINES") == "1";
  o.trace = value("PTXEMU_TRACE") == "1";
  if (std::string const text = value("PTXEMU_PRINT"); !text.empty()) o.most_reports = std::atoi(text.c_str());
  if (std::string const text = value("PTXEMU_PROCESSORS"); !text.empty())
    o.processors = std::max(1, std::atoi(text.c_str()));
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
