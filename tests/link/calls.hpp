// SPDX-License-Identifier: BSD-3-Clause
// What the sources of one program tell each other: plain numbers, nothing of hoft or Eigen.
#pragma once
#include <string>
#include <vector>

namespace hoft_link {

/// Column-major matrices of numbers that every scalar holds exactly: multiples of 1/64 in (−2, 2).
struct input {
  int m = 0, n = 0, r = 0, rv = 0, t = 0;
  std::vector<double> U, V, s;  // [m, r], [n, rv], [m]
  std::vector<double> X, dY;    // [m, n]: the weight of the adapter, too
  std::vector<double> x;        // [n, t]
};

/// What one scalar gave.
struct output {
  std::string scalar;
  bool everything = false;             // else only Y and value_Y
  int digits = 0, storage_digits = 0;  // of the arithmetic, of storage
  std::vector<double> Y, dX, dU;       // Q X, Qᴴ dY, ∂⟨dY, Q X⟩/∂U, through views
  std::vector<double> value_Y, value_dX, value_dU, Q;
  std::vector<double> merged, forward;  // float only: M̂ = Q_U diag(s) X Q_V, and M̂ x
  double scale_slope = 0;  // float only: Σ s ∂½‖M̂ x‖²/∂s = ‖M̂ x‖², by a bound layer's gradient
  double orthogonality_error = -1;  // float only: of U, by reference/
};

struct source {
  char const* target;  ///< the instruction set that hoft names
  std::vector<output> (*compute)(input const&);
  /// What was wrong when this source made views, a form and memory and the other one used them, or caught its errors.
  std::string (*exchange)(input const&, std::vector<double>& Y);
};

source source_a();
source source_b();

}  // namespace hoft_link
