// SPDX-License-Identifier: BSD-3-Clause
// experiment.hpp: trains the source network, chooses learning rates, adapts the network to upside-down images.
#pragma once
#include "network.hpp"
#include "parallel.hpp"
#include "spectrum.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace finetune {

struct settings {
  adapter_start start;
  std::vector<method> methods{method::frozen, method::full, method::lora, method::hoft, method::shoft};
  int seeds = 5;
  unsigned threads = 1;
  schedule source{.epochs = 8, .batch = 100, .rate = 1e-3f};
  schedule target{.epochs = 40, .batch = 50};                                ///< its rate is chosen among `rates`
  std::vector<float> rates{1e-3f, 3e-3f, 1e-2f, 3e-2f, 1e-1f, 3e-1f, 1.0f};  ///< ascending

  int folds = 5;  ///< of the cross-validation that are run

  /// Fewer seeds, folds, rates and epochs: shows that everything works, and roughly what comes out.
  void make_quick() {
    seeds = 2;
    folds = 1;
    source.epochs = 3;
    target.epochs = 20;
    rates = {1e-3f, 3e-3f, 1e-2f, 3e-2f, 1e-1f, 3e-1f};
  }
};

constexpr Index labels = 1000;   ///< of upside-down images, the only ones that adaptation sees
constexpr Index held_out = 200;  ///< of them in a fold of the cross-validation

/// An engine for each seed and use: all methods see the same labels and order, however much each draws at its start.
enum class use : std::uint32_t { source, choice, initialisation, order };
inline random_engine engine(int seed, use purpose) {
  std::seed_seq sequence{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(purpose)};
  return random_engine(sequence);
}

struct dataset {
  labelled_images train, source_test, target_test;
};

inline dataset read_dataset(std::filesystem::path const& folder) {
  dataset d{read_images(folder, "train"), read_images(folder, "t10k"), {}};
  if (d.train.size() < labels) throw data_error(folder, "the training set holds fewer than 1000 images");
  d.target_test = upside_down(d.source_test);
  return d;
}

/// The labelled upside-down images of a seed: drawn from the training set, never from the test set.
inline labelled_images target_labels(dataset const& data, int seed) {
  random_engine rng = engine(seed, use::choice);
  std::vector<Index> order(static_cast<std::size_t>(data.train.size()));
  std::iota(order.begin(), order.end(), Index{0});
  std::ranges::shuffle(order, rng);
  order.resize(static_cast<std::size_t>(labels));
  return upside_down(select(data.train, order));
}

/// Trains 784-256-256-10 on all upright training images.
inline checkpoint train_source(dataset const& data, schedule const& plan) {
  random_engine rng = engine(0, use::source);
  checkpoint const start = checkpoint::random(rng);
  network net;
  for (std::size_t k = 0; k < depth; ++k) net.layers[k] = make_layer(method::full, start.W[k], {}, rng);
  net.bias = start.b;
  net.train_bias = true;
  progress report("source network, epoch", static_cast<std::size_t>(plan.epochs));
  train(net, data.train, plan, rng, [&](int, double loss) { report.done("training loss " + std::to_string(loss)); });
  return net.merged();
}

/// The source network with both hidden weights under `how`; head and biases are frozen. `source` outlives it.
inline network adapted(checkpoint const& source, method how, adapter_start start, random_engine& rng) {
  network net;
  net.bias = source.b;
  for (std::size_t k = 0; k < depth; ++k)
    net.layers[k] = make_layer(k + 1 < depth ? how : method::frozen, source.W[k], start, rng);
  return net;
}

/// One learning rate and its accuracy on held-out labels, mean over folds and seeds.
struct trial {
  method how;
  float rate;
  double validation;
};

/// Splits images into those at positions [first, first + held_out) and the others.
inline std::pair<labelled_images, labelled_images> hold_out(labelled_images const& images, Index first) {
  std::vector<Index> out, rest;
  for (Index i = 0; i < images.size(); ++i) (first <= i && i < first + held_out ? out : rest).push_back(i);
  return {select(images, out), select(images, rest)};
}

/// Cross-validates every method and rate: each training misses one fold of a seed's labels and is judged by that fold.
/// The test set plays no part.
inline std::vector<trial> try_rates(dataset const& data, checkpoint const& source, settings const& plan) {
  std::vector<trial> trials;
  for (method const how : plan.methods)
    for (float const rate : plan.rates)
      if (how != method::frozen) trials.push_back({how, rate, 0});
  std::vector<labelled_images> of_seed;
  for (int seed = 1; seed <= plan.seeds; ++seed) of_seed.push_back(target_labels(data, seed));

  auto const seeds = static_cast<std::size_t>(plan.seeds);
  std::size_t const repetitions = seeds * static_cast<std::size_t>(plan.folds);
  std::vector<double> outcome(trials.size() * repetitions);
  progress report("learning rates", outcome.size());
  parallel_for(outcome.size(), plan.threads, [&](std::size_t i) {
    trial const& t = trials[i / repetitions];
    int const seed = static_cast<int>(i % seeds) + 1;
    auto const fold = static_cast<Index>(i % repetitions / seeds);
    auto const [validation, training] = hold_out(of_seed[i % seeds], fold * held_out);

    random_engine start = engine(seed, use::initialisation), order = engine(seed, use::order);
    network net = adapted(source, t.how, plan.start, start);
    train(net, training, plan.target.with(t.rate), order, [](int, double) {});
    outcome[i] = accuracy(net, validation);
    char text[80];
    std::snprintf(text, sizeof text, "%s, rate %.0e, seed %d: validation %.1f %%", name(t.how).c_str(),
                  static_cast<double>(t.rate), seed, outcome[i]);
    report.done(text);
  });
  for (std::size_t i = 0; i < trials.size(); ++i)
    for (std::size_t k = 0; k < repetitions; ++k)
      trials[i].validation += outcome[i * repetitions + k] / static_cast<double>(repetitions);
  return trials;
}

/// The rate of the best trial of a method, the smaller one where two are equal.
inline float best_rate(std::vector<trial> const& trials, method how) {
  trial const* best = nullptr;
  for (trial const& t : trials)
    if (t.how == how && (best == nullptr || t.validation > best->validation)) best = &t;
  return best == nullptr ? 0.0f : best->rate;
}

/// How far the merged weights compute something else than the layers did while they were trained.
struct merge_check {
  double error = 0;  ///< max over layers and images of |y - W x| / (|W|_F |x|)
  double bound = 0;  ///< what rounding may amount to
  bool good() const { return error <= bound; }
};

/// Compares on `images`. Either form is one product of inner length n and at most r reflectors on each side of M [m,
/// n], so k = n + r (m + n) roundings in a row, which amount to about sqrt(k) eps |W|_F |x| (Higham and Mary 2019);
/// there are two forms.
inline merge_check check_merge(network& net, labelled_images const& images, Index rank) {
  merge_check check;
  net.begin();
  net.forward(images.x);
  for (std::size_t k = 0; k + 1 < depth; ++k) {
    Matrix const x = net.input(k);
    Matrix const W = net.layers[k]->merged();
    Matrix const difference = net.layers[k]->forward(x) - W * x;
    for (Index j = 0; j < x.cols(); ++j) {
      auto const scale = static_cast<double>(W.norm() * x.col(j).norm());
      if (scale > 0) check.error = worse(check.error, static_cast<double>(difference.col(j).norm()) / scale);
    }
    constexpr double eps = std::numeric_limits<float>::epsilon();
    auto const roundings = static_cast<double>(W.cols() + rank * (W.rows() + W.cols()));
    check.bound = std::max(check.bound, 2 * eps * std::sqrt(roundings));
  }
  return check;
}

struct curve_point {
  int epoch;
  double loss;  ///< mean over the epoch; of no meaning at epoch 0
  double target, source;
};

/// Whether a learning curve has a point after this epoch: ten points, denser at the start, where most happens.
inline bool on_curve(int epoch, int epochs) {
  for (int k = 1; k <= 10; ++k)
    if (epoch == (epochs * k * k + 99) / 100) return true;
  return false;
}

/// One adaptation on all labels of a seed and what is measured of it.
struct run {
  method how;
  int seed;
  float rate;
  run(method with, int number, float learning_rate) : how(with), seed(number), rate(learning_rate) {}

  Index parameters = 0;
  double target = 0, source = 0;        ///< test accuracy in percent
  double merged_target = 0;             ///< of the network with dense merged weights
  double seconds = 0;                   ///< of processor time in training, without the measurements
  std::optional<double> orthogonality;  ///< the largest error of a Q, where there is one
  double drift = 0;                     ///< of the singular values, the largest of a layer
  merge_check merge;
  std::vector<curve_point> curve;
  checkpoint result;
};

inline void adapt(run& r, dataset const& data, checkpoint const& source, settings const& plan) {
  random_engine start = engine(r.seed, use::initialisation), order = engine(r.seed, use::order);
  network net = adapted(source, r.how, plan.start, start);
  r.parameters = net.parameter_count();
  auto const measure = [&](int epoch, double loss) {
    r.target = accuracy(net, data.target_test);
    r.source = accuracy(net, data.source_test);
    r.curve.push_back({epoch, loss, r.target, r.source});
  };
  measure(0, std::numeric_limits<double>::quiet_NaN());
  if (r.parameters > 0) {
    labelled_images const images = target_labels(data, r.seed);
    double since = thread_seconds();
    train(net, images, plan.target.with(r.rate), order, [&](int epoch, double loss) {
      r.seconds += thread_seconds() - since;
      if (on_curve(epoch, plan.target.epochs)) measure(epoch, loss);
      since = thread_seconds();
    });
  }
  r.result = net.merged();
  network dense = adapted(r.result, method::frozen, {}, start);
  r.merged_target = accuracy(dense, data.target_test);
  std::vector<Index> some(1000);
  std::iota(some.begin(), some.end(), Index{0});
  r.merge = check_merge(net, select(data.target_test, some), plan.start.rank);
  for (std::size_t k = 0; k + 1 < depth; ++k) {
    r.drift = worse(r.drift, singular_value_drift(source.W[k], r.result.W[k]));
    if (auto const error = net.layers[k]->orthogonality_error())
      r.orthogonality = worse(r.orthogonality.value_or(0), *error);
  }
}

/// Adapts with every method and seed, each method at its chosen rate; `frozen` needs one run only.
inline std::vector<run> adapt_all(dataset const& data, checkpoint const& source, settings const& plan,
                                  std::vector<trial> const& trials) {
  std::vector<run> runs;
  for (method const how : plan.methods)
    for (int seed = 1; seed <= (how == method::frozen ? 1 : plan.seeds); ++seed)
      runs.emplace_back(how, seed, best_rate(trials, how));
  progress report("adaptation", runs.size());
  parallel_for(runs.size(), plan.threads, [&](std::size_t i) {
    adapt(runs[i], data, source, plan);
    char text[80];
    std::snprintf(text, sizeof text, "%s, seed %d: target %.2f %%, source %.2f %%", name(runs[i].how).c_str(),
                  runs[i].seed, runs[i].target, runs[i].source);
    report.done(text);
  });
  return runs;
}

}  // namespace finetune
