// SPDX-License-Identifier: BSD-3-Clause
// layers.hpp: one linear layer y = W x and the ways to train it: all of W, a low-rank addition to it, or HOFT/SHOFT.
#pragma once
#include "images.hpp"

#include <cmath>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace finetune {

using random_engine = std::mt19937_64;

enum class method { frozen, full, lora, hoft, shoft };

/// The names on the command line and in the results, in the order of the enumeration.
inline std::vector<std::string> const method_names{"frozen", "full", "lora", "hoft", "shoft"};

inline std::string const& name(method how) { return method_names[static_cast<std::size_t>(how)]; }

/// A trainable array and its gradient, as the optimiser sees them. Valid until the layer's next `finish`.
struct parameter {
  Eigen::Map<Eigen::ArrayXf> value;
  Eigen::Map<Eigen::ArrayXf const> gradient;

  template <class Value, class Gradient>
  parameter(Value& v, Gradient const& g) : value(v.data(), v.size()), gradient(g.data(), g.size()) {}
};

/// y = W x without the bias, x [in, t], y [out, t]. In an optimiser step: begin, forward and backward for each
/// micro-batch, finish.
struct layer {
  virtual ~layer() = default;
  /// Makes what depends on the parameters alone, as they now are, and clears the gradients. Also before evaluation.
  virtual void begin() {}
  /// Keeps what `backward` needs.
  virtual Matrix forward(Matrix const& x) = 0;
  /// From the gradient of the last `forward`'s result: adds to the gradients of the parameters, returns that of x.
  virtual Matrix backward(Matrix const& x, Matrix const& dy) = 0;
  /// After it `parameters` shows the gradients.
  virtual void finish() {}
  virtual std::vector<parameter> parameters() { return {}; }
  /// W as one dense matrix. Evaluation only: no training step calls it.
  virtual Matrix merged() const = 0;
  /// The larger error of Q_U and Q_V, for HOFT and SHOFT.
  virtual std::optional<double> orthogonality_error() const { return {}; }
};

/// The larger error; NaN is larger than any.
inline double worse(double a, double b) { return a >= b || std::isnan(a) ? a : b; }

/// What adapters start from.
struct adapter_start {
  Index rank = 8;          ///< that of LoRA, or the reflectors on each side of HOFT and SHOFT
  float deviation = 0.1f;  ///< of the reflectors' elements: a step of one rate turns short reflectors further
};

/// A layer that starts as W = M; M outlives it.
std::unique_ptr<layer> make_layer(method how, Matrix const& M, adapter_start start, random_engine& rng);

Matrix gaussian(Index rows, Index cols, float deviation, random_engine& rng);

}  // namespace finetune
