// SPDX-License-Identifier: BSD-3-Clause
// network.hpp: 784-256-256-10 with ReLU, softmax cross-entropy, Adam, minibatches.
#pragma once
#include "../npy.hpp"
#include "layers.hpp"

#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace finetune {

constexpr Index hidden = 256;
constexpr std::size_t depth = 3;
constexpr std::array<Index, depth + 1> widths{pixels, hidden, hidden, classes};

/// The weights of a trained network.
struct checkpoint {
  std::array<Matrix, depth> W;  ///< [widths[k + 1], widths[k]]
  std::array<Vector, depth> b;  ///< [widths[k + 1]]

  /// Gaussian weights of variance 2 / inputs, the scale that ReLU keeps from layer to layer; biases zero.
  static checkpoint random(random_engine& rng) {
    checkpoint c;
    for (std::size_t k = 0; k < depth; ++k) {
      c.W[k] = gaussian(widths[k + 1], widths[k], std::sqrt(2.0f / static_cast<float>(widths[k])), rng);
      c.b[k] = Vector::Zero(widths[k + 1]);
    }
    return c;
  }
  /// W1.npy, b1.npy, W2.npy, ...
  void save(std::filesystem::path const& folder) const {
    std::filesystem::create_directories(folder);
    for (std::size_t k = 0; k < depth; ++k) {
      npy::save(folder / ("W" + std::to_string(k + 1) + ".npy"), W[k]);
      npy::save(folder / ("b" + std::to_string(k + 1) + ".npy"), b[k]);
    }
  }
  static checkpoint load(std::filesystem::path const& folder) {
    checkpoint c;
    for (std::size_t k = 0; k < depth; ++k) {
      c.W[k] = loaded(folder / ("W" + std::to_string(k + 1) + ".npy"), widths[k + 1], widths[k]);
      c.b[k] = loaded(folder / ("b" + std::to_string(k + 1) + ".npy"), widths[k + 1], 1);
    }
    return c;
  }

 private:
  static Matrix loaded(std::filesystem::path const& path, Index rows, Index cols) {
    npy::matrix const a = npy::load(path);
    if (a.elements.rows() != rows || a.elements.cols() != cols)
      throw npy::error(path.string(), "is " + std::to_string(a.elements.rows()) + " x " +
                                          std::to_string(a.elements.cols()) + ", not " + std::to_string(rows) + " x " +
                                          std::to_string(cols));
    return a.elements.cast<float>();
  }
};

/// Three layers; who builds one chooses how each is trained, and whether the biases are.
class network {
 public:
  std::array<std::unique_ptr<layer>, depth> layers;
  std::array<Vector, depth> bias;
  bool train_bias = false;

  /// Before the first `forward` after parameters changed.
  void begin() {
    for (std::size_t k = 0; k < depth; ++k) {
      layers[k]->begin();
      if (train_bias) dbias_[k].setZero(bias[k].size());
    }
  }
  /// The logits [classes, t] of x [pixels, t].
  Matrix forward(Matrix const& x) {
    activation_[0] = x;
    for (std::size_t k = 0;; ++k) {
      Matrix y = layers[k]->forward(activation_[k]);
      y.colwise() += bias[k];
      if (k + 1 == depth) return y;
      activation_[k + 1] = y.cwiseMax(0.0f);
    }
  }
  /// Adds to the gradients of all parameters, from that of the last `forward`'s logits.
  void backward(Matrix dy) {
    for (std::size_t k = depth; k-- > 0;) {
      if (train_bias) dbias_[k] += dy.rowwise().sum();
      Matrix dx = layers[k]->backward(activation_[k], dy);
      if (k > 0) dy = (activation_[k].array() > 0.0f).select(dx, 0.0f);
    }
  }
  /// Behind the last `backward` of a step.
  void finish() {
    for (auto const& one : layers) one->finish();
  }
  std::vector<parameter> parameters() {
    std::vector<parameter> all;
    for (std::size_t k = 0; k < depth; ++k) {
      for (parameter const& p : layers[k]->parameters()) all.push_back(p);
      if (train_bias) all.emplace_back(bias[k], dbias_[k]);
    }
    return all;
  }
  Index parameter_count() {
    Index count = 0;
    for (parameter const& p : parameters()) count += p.value.size();
    return count;
  }
  checkpoint merged() const {
    checkpoint c;
    for (std::size_t k = 0; k < depth; ++k) c.W[k] = layers[k]->merged();
    c.b = bias;
    return c;
  }
  /// The layers' inputs in the last `forward`.
  Matrix const& input(std::size_t k) const { return activation_[k]; }

 private:
  std::array<Matrix, depth> activation_;
  std::array<Vector, depth> dbias_;
};

/// Turns logits into the gradient of their cross-entropy divided by `images`, those of the whole batch; returns
/// that.
inline float cross_entropy(Matrix& logits, std::span<int const> label, std::size_t images) {
  auto const count = static_cast<float>(images);
  float loss = 0;
  for (Index j = 0; j < logits.cols(); ++j) {
    auto z = logits.col(j).array();
    z -= z.maxCoeff();
    int const truth = label[static_cast<std::size_t>(j)];
    float const z_truth = z(truth);
    z = z.exp();
    float const sum = z.sum();
    loss += std::log(sum) - z_truth;
    z /= sum * count;
    z(truth) -= 1.0f / count;
  }
  return loss / count;
}

/// The percentage of images whose largest logit is their label's.
inline double accuracy(network& net, labelled_images const& images) {
  constexpr Index chunk = 1000;  // bounds the memory that the layers keep
  Index right = 0;
  net.begin();
  for (Index first = 0; first < images.size(); first += chunk) {
    Index const count = std::min(chunk, images.size() - first);
    Matrix const logits = net.forward(images.x.middleCols(first, count));
    for (Index j = 0; j < count; ++j) {
      Index best = 0;
      logits.col(j).maxCoeff(&best);
      right += best == images.label[static_cast<std::size_t>(first + j)];
    }
  }
  return 100.0 * static_cast<double>(right) / static_cast<double>(images.size());
}

/// Adam (Kingma and Ba 2015) with its usual constants.
class adam {
 public:
  void step(std::vector<parameter> const& parameters, float rate) {
    moments_.resize(parameters.size());
    ++steps_;
    float const c1 = 1.0f - std::pow(beta1, static_cast<float>(steps_));
    float const c2 = 1.0f - std::pow(beta2, static_cast<float>(steps_));
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      auto [value, gradient] = parameters[i];
      auto& [first, second] = moments_[i];
      if (first.size() == 0) first = second = Eigen::ArrayXf::Zero(value.size());
      first = beta1 * first + (1.0f - beta1) * gradient;
      second = beta2 * second + (1.0f - beta2) * gradient.square();
      value -= (rate / c1) * first / ((second / c2).sqrt() + 1e-8f);
    }
  }

 private:
  static constexpr float beta1 = 0.9f, beta2 = 0.999f;
  std::vector<std::pair<Eigen::ArrayXf, Eigen::ArrayXf>> moments_;
  int steps_ = 0;
};

struct schedule {
  int epochs = 1;
  Index batch = 50;
  Index micro_batch = 50;  ///< images at a time, whose gradients add up to those of the batch
  float rate = 1e-3f;      ///< of the first step; it falls linearly to zero

  schedule with(float other_rate) const { return {epochs, batch, micro_batch, other_rate}; }
};

/// Trains `net`, calling `after_epoch(epoch, mean loss)` with epoch = 1, 2, ...
template <class AfterEpoch>
void train(network& net, labelled_images const& images, schedule const& plan, random_engine& rng,
           AfterEpoch&& after_epoch) {
  std::vector<Index> order(static_cast<std::size_t>(images.size()));
  std::iota(order.begin(), order.end(), Index{0});
  Index const batches = (images.size() + plan.batch - 1) / plan.batch;
  Index const steps = batches * plan.epochs;
  adam optimiser;
  for (Index step = 0; step < steps;) {
    std::ranges::shuffle(order, rng);
    double loss = 0;
    for (Index b = 0; b < batches; ++b, ++step) {
      auto const first = static_cast<std::size_t>(b * plan.batch);
      auto const count = std::min(static_cast<std::size_t>(plan.batch), order.size() - first);
      auto const piece = static_cast<std::size_t>(plan.micro_batch);
      net.begin();
      for (std::size_t i = 0; i < count; i += piece) {
        labelled_images const part = select(images, std::span(order).subspan(first + i, std::min(piece, count - i)));
        Matrix logits = net.forward(part.x);
        loss += static_cast<double>(cross_entropy(logits, part.label, count)) * static_cast<double>(count);
        net.backward(std::move(logits));
      }
      net.finish();
      optimiser.step(net.parameters(), plan.rate * static_cast<float>(steps - step) / static_cast<float>(steps));
    }
    after_epoch(static_cast<int>(step / batches), loss / static_cast<double>(images.size()));
  }
}

}  // namespace finetune
