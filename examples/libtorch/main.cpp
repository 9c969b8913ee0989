// SPDX-License-Identifier: BSD-3-Clause
// main.cpp: a network learns Fashion-MNIST, and then the same images upside down by HOFT alone: its weights are frozen
// and rotated. Everything but the layer around them is libtorch's.
#include "hoft_linear.hpp"

#include <torch/data/datasets/mnist.h>
#include <torch/nn/modules/linear.h>
#include <torch/optim/adam.h>
#include <torch/utils.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

struct images {
  at::Tensor x, label;  ///< [count, 784] in [0, 1], [count]
  images upside_down() const { return {x.flip(1), label}; }
  images head(int64_t count) const { return {x.narrow(0, 0, count), label.narrow(0, 0, count)}; }
};

images read(std::string const& folder, bool training) {
  using torch::data::datasets::MNIST;
  MNIST const file(folder, training ? MNIST::Mode::kTrain : MNIST::Mode::kTest);
  return {file.images().flatten(1), file.targets()};
}

template <class Network>
double accuracy(Network const& network, images const& of) {
  torch::NoGradGuard const no_gradients;
  return 100 * network(of.x).argmax(1).eq(of.label).to(at::kFloat).mean().template item<double>();
}

template <class Network>
void train(Network const& network, std::vector<at::Tensor> const& parameters, images const& on, int epochs,
           double rate) {
  torch::optim::Adam optimiser(parameters, torch::optim::AdamOptions(rate));
  for (int epoch = 0; epoch < epochs; ++epoch)
    for (at::Tensor const& chosen : at::randperm(on.x.size(0)).split(64)) {
      optimiser.zero_grad();
      at::cross_entropy_loss(network(on.x.index_select(0, chosen)), on.label.index_select(0, chosen)).backward();
      optimiser.step();
    }
}

/// max_i |σ_i(M̂) − σ_i(M)| / σ_1(M)
double singular_value_drift(at::Tensor const& M, at::Tensor const& Mhat) {
  auto const before = at::linalg_svdvals(M), after = at::linalg_svdvals(Mhat);
  return ((after - before).abs().max() / before.max()).item<double>();
}

int run(std::string const& folder, bool quick) {
  torch::manual_seed(1);
  images const all = read(folder, true), upright = all.head(quick ? 20000 : 60000), test = read(folder, false);
  images const turned = upright.upside_down(), turned_test = test.upside_down();

  torch::nn::Linear first(784, 128), second(128, 10);
  auto const plain = [&](at::Tensor const& x) { return second->forward(first->forward(x).relu()); };
  train(plain, {first->weight, first->bias, second->weight, second->bias}, upright, quick ? 2 : 5, 2e-3);
  double const before = accuracy(plain, turned_test);
  std::printf("trained on upright images:  %.1f %% of upright, %.1f %% of upside-down test images are right\n",
              accuracy(plain, test), before);

  hoft_linear const one(first->weight, first->bias, 16), two(second->weight, second->bias, 4);
  auto const rotated = [&](at::Tensor const& x) { return two.forward(one.forward(x).relu()); };
  double const change = (rotated(test.x) - plain(test.x)).abs().max().item<double>();
  std::printf("HOFT layers put around it:  logits change by at most %.1e\n", change);
  train(rotated, {one.u, one.v, two.u, two.v}, turned, quick ? 2 : 5, 1e-2);
  double const after = accuracy(rotated, turned_test), drift = singular_value_drift(first->weight, one.merged());
  std::printf("trained on upside-down ones: %.1f %% of upside-down test images are right\n", after);
  std::printf("singular values of the first weight moved by %.1e of the largest\n", drift);

  // Multiples of float's rounding for what is exact; the network is far from its 18 % if, and only if, u and v learn.
  bool const good = change < 1e-4 && drift < 1e-5 && after > 70 && after > before + 30;
  if (!good) std::fprintf(stderr, "train: that is not what HOFT layers do\n");
  return good ? 0 : 1;
}

int main(int count, char** arguments) {
  std::vector<std::string> const given(arguments + 1, arguments + count);
  bool const quick = given.size() == 2 && given[1] == "--quick";
  if (given.empty() || given.size() > 2 || (given.size() == 2 && !quick)) {
    std::fprintf(stderr, "usage: train <folder of the uncompressed Fashion-MNIST> [--quick]\n");
    return 2;
  }
  try {
    return run(given[0], quick);
  } catch (c10::Error const& error) {
    std::fprintf(stderr, "train: %s\n", error.what_without_backtrace());
    return 1;
  } catch (std::exception const& error) {
    std::fprintf(stderr, "train: %s\n", error.what());
    return 1;
  }
}
