// SPDX-License-Identifier: BSD-3-Clause
// report.hpp: the results as a table for people, as CSV for spreadsheets and as JSON for plot_finetune.py.
#pragma once
#include "experiment.hpp"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace finetune {

/// Mean and standard deviation over seeds.
struct statistic {
  double mean = 0, deviation = 0;
  std::size_t count = 0;

  explicit statistic(std::vector<double> const& values) : count(values.size()) {
    for (double const v : values) mean += v / static_cast<double>(count);
    for (double const v : values) deviation += (v - mean) * (v - mean);
    deviation = count > 1 ? std::sqrt(deviation / static_cast<double>(count - 1)) : 0;
  }
  std::string text() const {
    char buffer[48];
    if (count > 1) std::snprintf(buffer, sizeof buffer, "%.1f ± %.1f", mean, deviation);
    else std::snprintf(buffer, sizeof buffer, "%.1f", mean);
    return buffer;
  }
};

/// Prints one row for each method. "±" takes two bytes and one column, which `%-12s` does not know: pad by hand.
inline void print_table(std::vector<run> const& runs, settings const& plan) {
  auto const padded = [](std::string text, std::size_t width) {
    std::size_t columns = 0;
    for (char const c : text) columns += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
    return text.append(width > columns ? width - columns : 0, ' ');
  };
  std::printf("\n%-8s%-12s%-8s%-14s%-15s%-10s%-21s%s\n", "method", "parameters", "rate", "target, %", "source kept, %",
              "seconds", "orthogonality error", "singular value drift");
  for (method const how : plan.methods) {
    std::vector<double> target, source, seconds;
    double drift = 0;
    std::optional<double> orthogonality;
    run const* some = nullptr;
    for (run const& r : runs) {
      if (r.how != how) continue;
      some = &r;
      target.push_back(r.target);
      source.push_back(r.source);
      seconds.push_back(r.seconds);
      drift = worse(drift, r.drift);
      if (r.orthogonality) orthogonality = worse(orthogonality.value_or(0), *r.orthogonality);
    }
    char rate[16] = "-", error[16] = "-";
    if (some->parameters > 0) std::snprintf(rate, sizeof rate, "%.0e", static_cast<double>(some->rate));
    if (orthogonality) std::snprintf(error, sizeof error, "%.1e", *orthogonality);
    std::printf("%-8s%-12td%-8s%s%s%-10.2f%-21s%.1e\n", name(how).c_str(), some->parameters, rate,
                padded(statistic(target).text(), 14).c_str(), padded(statistic(source).text(), 15).c_str(),
                statistic(seconds).mean, error, drift);
  }
}

/// A number as JSON; NaN and infinity, which JSON lacks, become null.
inline std::string json(double value) {
  if (!std::isfinite(value)) return "null";
  std::ostringstream text;
  text << std::setprecision(9) << value;
  return text.str();
}
inline std::string json(std::string const& text) { return '"' + text + '"'; }  // ours hold nothing to escape

/// A JSON list of `text_of(element)`.
template <class Range, class TextOf>
std::string json_list(Range const& range, TextOf&& text_of, char const* separator = ", ") {
  std::string text;
  for (auto const& element : range) text += (text.empty() ? "" : separator) + text_of(element);
  return '[' + text + ']';
}

/// A JSON object of names and JSON texts.
inline std::string json_object(std::vector<std::pair<std::string, std::string>> const& members) {
  std::string text;
  for (auto const& [key, value] : members) text += (text.empty() ? "" : ", ") + json(key) + ": " + value;
  return '{' + text + '}';
}

/// Opens a result file, lets `write` fill it, and fails if it cannot be written.
template <class Write>
void write_file(std::filesystem::path const& path, Write&& write) {
  std::ofstream file(path);
  write(file);
  if (!file.flush()) throw std::runtime_error(path.string() + ": cannot be written");
}

inline void write_csv(std::filesystem::path const& path, std::vector<run> const& runs) {
  write_file(path, [&](std::ostream& out) {
    out << "method,seed,parameters,rate,target_accuracy,source_accuracy,merged_target_accuracy,seconds,"
           "orthogonality_error,singular_value_drift,merge_error,merge_bound\n"
        << std::setprecision(9);
    for (run const& r : runs) {
      out << name(r.how) << ',' << r.seed << ',' << r.parameters << ',' << r.rate << ',' << r.target << ',' << r.source
          << ',' << r.merged_target << ',' << r.seconds << ',';
      if (r.orthogonality) out << *r.orthogonality;
      out << ',' << r.drift << ',' << r.merge.error << ',' << r.merge.bound << '\n';
    }
  });
}

inline std::string json_curve(std::vector<curve_point> const& curve) {
  auto const list = [&](auto curve_point::*member) {
    return json_list(curve, [&](curve_point const& p) { return json(static_cast<double>(p.*member)); });
  };
  return json_object({{"epoch", list(&curve_point::epoch)},
                      {"loss", list(&curve_point::loss)},
                      {"target", list(&curve_point::target)},
                      {"source", list(&curve_point::source)}});
}

/// The spectra of both hidden weights.
inline std::string json_spectrum(std::string const& label, checkpoint const& c) {
  auto const values = [](Matrix const& W) { return json_list(singular_values(W), [](float v) { return json(v); }); };
  return json_object({{"method", json(label)}, {"layers", '[' + values(c.W[0]) + ", " + values(c.W[1]) + ']'}});
}

inline void write_json(std::filesystem::path const& path, std::vector<run> const& runs,
                       std::vector<trial> const& trials, checkpoint const& source, double source_accuracy,
                       settings const& plan) {
  auto const json_trial = [](trial const& t) {
    return json_object({{"method", json(name(t.how))}, {"rate", json(t.rate)}, {"validation", json(t.validation)}});
  };
  auto const json_run = [](run const& r) {
    return json_object({{"method", json(name(r.how))},
                        {"seed", json(r.seed)},
                        {"parameters", json(static_cast<double>(r.parameters))},
                        {"rate", json(r.rate)},
                        {"target", json(r.target)},
                        {"source", json(r.source)},
                        {"seconds", json(r.seconds)},
                        {"orthogonality_error", r.orthogonality ? json(*r.orthogonality) : "null"},
                        {"singular_value_drift", json(r.drift)},
                        {"merge_error", json(r.merge.error)},
                        {"curve", json_curve(r.curve)}});
  };
  std::vector<std::string> spectra{json_spectrum("source", source)};
  for (run const& r : runs)
    if (r.seed == 1 && r.how != method::frozen) spectra.push_back(json_spectrum(name(r.how), r.result));
  write_file(path, [&](std::ostream& out) {
    out << json_object({{"rank", json(static_cast<double>(plan.start.rank))},
                        {"std", json(plan.start.deviation)},
                        {"seeds", json(plan.seeds)},
                        {"labels", json(static_cast<double>(labels))},
                        {"epochs", json(plan.target.epochs)},
                        {"source_accuracy", json(source_accuracy)},
                        {"trials", json_list(trials, json_trial, ",\n ")},
                        {"runs", json_list(runs, json_run, ",\n ")},
                        {"spectra", json_list(spectra, std::identity{}, ",\n ")}})
        << '\n';
  });
}

}  // namespace finetune
