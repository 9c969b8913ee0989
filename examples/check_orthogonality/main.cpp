// SPDX-License-Identifier: BSD-3-Clause
// check_orthogonality: measures of a matrix in a .npy file by hoft's numerical reference.
// `check_orthogonality --help` lists the options, README.md tells what they mean.
#include "../npy.hpp"

#include <hoft/reference/hyperspherical_energy.hpp>
#include <hoft/reference/orthogonality.hpp>
#include <hoft/reference/singular_values.hpp>

#include <CLI/CLI.hpp>
#include <Eigen/LU>
#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <limits>
#include <optional>
#include <string>

namespace {

using Matrix = Eigen::MatrixXd;

constexpr int within_tolerance = 0, beyond_tolerance = 1, unusable = 2;

struct settings {
  std::string file, before;
  bool rows = false, json = false;
  std::optional<double> tolerance, drift_tolerance;
};

/// What is compared with the matrix before.
struct changes {
  double drift, energy;
};

struct measures {
  Eigen::Index rows, cols;
  std::string type;
  double orthogonality_error, condition;
  std::optional<int> determinant_sign;  ///< none for a matrix that is not square or not finite
  std::optional<changes> change;
};

/// The sign of det A: 0 where A is singular to rounding. None where there is no determinant.
std::optional<int> determinant_sign(Matrix const& A, double condition) {
  if (A.rows() != A.cols() || !A.allFinite()) return std::nullopt;
  // σ_n below the rounding of σ_1 could as well be 0.
  if (!(condition * static_cast<double>(A.rows()) * std::numeric_limits<double>::epsilon() < 1)) return 0;
  Eigen::PartialPivLU<Matrix> const lu(A);
  auto const negative = (lu.matrixLU().diagonal().array() < 0).count();  // the product itself could overflow
  return (negative % 2 == 0 ? 1 : -1) * static_cast<int>(lu.permutationP().determinant());
}

/// NaN without a sign, which says nothing and would be printed.
double plain(double x) { return std::isnan(x) ? std::numeric_limits<double>::quiet_NaN() : x; }

npy::matrix loaded(std::string const& file, bool rows) {
  npy::matrix a = npy::load(file);
  if (a.elements.size() == 0) throw npy::error(file, "has no elements");
  if (rows) a.elements.transposeInPlace();
  return a;
}

std::string shape(Matrix const& A) { return std::to_string(A.rows()) + " x " + std::to_string(A.cols()); }

measures measured(settings const& wanted) {
  npy::matrix const Q = loaded(wanted.file, wanted.rows);
  Matrix const& A = Q.elements;
  auto const sigma = hoft::singular_values(A);
  double const least = sigma(sigma.size() - 1);
  // 0 / 0 is no number, and a zero matrix is as singular as can be.
  double const condition = least == 0 ? std::numeric_limits<double>::infinity() : plain(sigma(0) / least);
  measures m{A.rows(), A.cols(), Q.type, plain(hoft::orthogonality_error(A)), condition, determinant_sign(A, condition),
             {}};
  if (!wanted.before.empty()) {
    Matrix const W = loaded(wanted.before, wanted.rows).elements;
    if (W.rows() != A.rows() || W.cols() != A.cols())
      throw npy::error(wanted.before, "is " + shape(W) + ", but " + wanted.file + " is " + shape(A) +
                                          (wanted.rows ? " (both transposed)" : "") + ": they must have one shape");
    m.change = changes{plain(hoft::singular_value_drift(W, A)), plain(hoft::hyperspherical_energy_change(W, A))};
  }
  return m;
}

// NaN is within no tolerance.
bool good(measures const& m, settings const& wanted) {
  return !wanted.tolerance || m.orthogonality_error <= *wanted.tolerance;
}
bool kept(measures const& m, settings const& wanted) {
  return !m.change || !wanted.drift_tolerance || m.change->drift <= *wanted.drift_tolerance;
}

void print_text(measures const& m, settings const& wanted) {
  std::printf("%s: %td x %td, %s%s\n", wanted.file.c_str(), m.rows, m.cols, m.type.c_str(),
              wanted.rows ? ", transposed" : "");
  std::printf("orthogonality error  %.3g%s\n", m.orthogonality_error, good(m, wanted) ? "" : "  beyond the tolerance");
  if (m.cols > m.rows)
    std::printf("                     %td columns of length %td cannot be orthonormal: %s\n", m.cols, m.rows,
                wanted.rows ? "measure it without --rows" : "try --rows, which measures the rows");
  std::printf("determinant's sign   %s\n", !m.determinant_sign       ? "none"
                                           : *m.determinant_sign > 0 ? "+1"
                                           : *m.determinant_sign < 0 ? "-1"
                                                                     : "0, singular to rounding");
  std::printf("condition number     %.10g\n", m.condition);
  if (!m.change) return;
  std::printf("since %s:\n", wanted.before.c_str());
  std::printf("singular value drift %.3g%s\n", m.change->drift, kept(m, wanted) ? "" : "  beyond the tolerance");
  std::printf("change of energy     %.3g\n", m.change->energy);
}

/// Numbers that JSON has no name for become null.
void print_json(measures const& m, settings const& wanted) {
  nlohmann::ordered_json report{{"file", wanted.file},
                                {"rows", m.rows},
                                {"cols", m.cols},
                                {"type", m.type},
                                {"transposed", wanted.rows},
                                {"orthogonality_error", m.orthogonality_error},
                                {"determinant_sign", nullptr},
                                {"condition", m.condition}};
  if (m.determinant_sign) report["determinant_sign"] = *m.determinant_sign;
  if (m.change) {
    report["before"] = wanted.before;
    report["singular_value_drift"] = m.change->drift;
    report["hyperspherical_energy_change"] = m.change->energy;
  }
  report["within_tolerance"] = good(m, wanted) && kept(m, wanted);
  std::cout << report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
}

}  // namespace

int main(int argc, char** argv) {
  settings wanted;
  CLI::App app{
      "Measures how orthogonal the columns of a matrix are, and what a transform changed.\n"
      "Exit status: 0, or 1 beyond a tolerance, or 2 if the input cannot be used."};
  app.add_option("file", wanted.file, ".npy file of a float16, float32 or float64 matrix")->required();
  app.add_option("--before", wanted.before, "the matrix before it was transformed, to measure what has changed");
  app.add_flag("--rows", wanted.rows, "transpose first: rows in place of columns");
  // CLI::NonNegativeNumber lets NaN pass.
  CLI::Validator const tolerance(
      [](std::string& text) {
        char* end = nullptr;
        if (std::strtod(text.c_str(), &end) >= 0 && end != text.c_str() && *end == '\0') return std::string();
        return "'" + text + "' is no number >= 0";
      },
      "NONNEGATIVE");
  app.add_option("--tolerance", wanted.tolerance, "largest |I - Q'Q|_F / sqrt(columns) allowed")->check(tolerance);
  app.add_option("--drift-tolerance", wanted.drift_tolerance, "largest singular value drift allowed")
      ->check(tolerance)
      ->needs("--before");
  app.add_flag("--json", wanted.json, "print JSON");
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& trouble) {
    return app.exit(trouble) == 0 ? 0 : unusable;
  }
  try {
    measures const m = measured(wanted);
    if (wanted.json) print_json(m, wanted);
    else print_text(m, wanted);
    return good(m, wanted) && kept(m, wanted) ? within_tolerance : beyond_tolerance;
  } catch (std::exception const& trouble) {
    std::fprintf(stderr, "check_orthogonality: %s\n", trouble.what());
    return unusable;
  }
}
