// SPDX-License-Identifier: BSD-3-Clause
#include "report.hpp"

#include <algorithm>
#include <cstdio>

namespace emu {
namespace {

std::string quoted(std::string const& text) {
  std::string out = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

}  // namespace

void report_launch(launch const& l, moment begun) {
  static std::mutex mutex;
  static std::FILE* const file = std::fopen(options::get().report.c_str(), "w");
  if (file == nullptr) return;
  double const seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  program const& p = *l.code;
  line_count by_kind[std::size_t(kind_of::count)];
  line_count all;
  std::map<std::string, line_count> lines;
  std::string sites;  ///< lines of PTX whose change a test ought to see
  auto const add = [](line_count& to, line_count const& from) {
    to.issued += from.issued, to.threads += from.threads, to.sectors += from.sectors, to.bytes += from.bytes;
    to.wavefronts += from.wavefronts, to.phases += from.phases;
  };
  for (std::size_t pc = 0; pc < l.counts.size(); ++pc) {
    add(by_kind[std::size_t(p.code[pc].kind)], l.counts[pc]);
    add(all, l.counts[pc]);
    if (options::get().report_lines && l.counts[pc].issued > 0) {
      auto const [f, line] = p.lines[pc];
      std::string name = f > 0 && std::size_t(f) < p.home->files.size() ? p.home->files[std::size_t(f)] : "?";
      name = name.substr(name.rfind('/') == std::string::npos ? 0 : name.rfind('/') + 1);
      kind_of const k = p.code[pc].kind;
      if (k == kind_of::barrier || k == kind_of::copy_async || k == kind_of::ldmatrix || k == kind_of::matrix ||
          k == kind_of::shuffle || k == kind_of::conversion || k == kind_of::predicate ||
          (pc < p.source->code.size() && p.source->code[pc].opcode.starts_with("mapa")))
        sites += format(sites.empty() ? "%d" : ",%d", p.ptx_lines[pc]);
      add(lines[name + ":" + std::to_string(line) + ":" + name_of(p.code[pc].kind)], l.counts[pc]);
    }
  }
  auto const numbers = [](line_count const& c) {
    std::string text = format("{\"issued\":%llu,\"threads\":%llu", static_cast<unsigned long long>(c.issued),
                              static_cast<unsigned long long>(c.threads));
    if (c.bytes != 0) text += format(",\"bytes\":%llu", static_cast<unsigned long long>(c.bytes));
    if (c.sectors != 0) text += format(",\"sectors\":%llu", static_cast<unsigned long long>(c.sectors));
    if (c.wavefronts != 0)
      text += format(",\"wavefronts\":%llu,\"conflicts\":%llu", static_cast<unsigned long long>(c.wavefronts),
                     static_cast<unsigned long long>(c.wavefronts - c.phases));
    return text + "}";
  };
  std::string text =
      "{\"kernel\":" + quoted(p.name) +
      format(
          ",\"grid\":%llu,\"threads\":%llu,\"cluster\":%u,\"shared\":%u,\"static_shared\":%u,\"seconds\":%.6f,\"all\":",
          static_cast<unsigned long long>(l.grid.volume()), static_cast<unsigned long long>(l.threads.volume()),
          l.cluster, l.dynamic_shared, p.static_shared, seconds) +
      numbers(all) + ",\"classes\":{";
  bool first = true;
  for (std::size_t k = 0; k < std::size_t(kind_of::count); ++k) {
    if (by_kind[k].issued == 0) continue;
    text += (first ? "\"" : ",\"") + std::string(name_of(kind_of(k))) + "\":" + numbers(by_kind[k]);
    first = false;
  }
  text += "}";
  if (!lines.empty()) {
    text += ",\"lines\":{";
    first = true;
    for (auto const& [name, c] : lines) {
      text += first ? "" : ",";
      text += quoted(name) + ":" + numbers(c);
      first = false;
    }
    text += "},\"sites\":[" + sites + "]";
  }
  text += "}\n";
  std::lock_guard const lock(mutex);
  std::fputs(text.c_str(), file);
  std::fflush(file);
}

}  // namespace emu
