// SPDX-License-Identifier: BSD-3-Clause
// Training through the kernels of the CUDA backend, run by the host, beside the CPU's; and whether the judge of both
// sees what is wrong.
#include "cuda_on_host/host.hpp"

#include "training_judge.hpp"

using namespace hoft_test;

namespace {

#ifndef HOFT_TEST_BESIDE_EMULATOR  // there cuda_device_test trains, by what nvcc made
template <class T>
training_result trained_by_kernels() {
  hoft::cuda::host const device;
  training<T, hoft::cuda::host> all(device, training_example());
  std::vector<double> curve;
  for (int step = 0; step < training_steps; ++step) {
    all.step(device);
    curve.push_back(all.loss());
  }
  all.merge(device);
  training_result result = all.result();
  result.curve = curve;
  return result;
}
#endif

training_judge const& judge() {
  static training_judge const only;
  return only;
}

/// Gradients off by a factor; factors of 1 disturb nothing.
struct wrong_gradients : undisturbed {
  float U = 1, V = 1, s = 1;
  bool of_scaled = true;
  template <class Layer, class T>
  void after_backward(Layer const& l, hoft::matrix_view<T>, double, hoft::matrix_view<T>) const {
    if (l.shape.scaled != of_scaled) return;
    for (auto const& [gradient, factor] : {std::pair{l.dU, U}, std::pair{l.dV, V}, std::pair{l.ds, s}})
      hoft::as_eigen(gradient) *= factor;
  }
};

}  // namespace

TEST_CASE("training on the CPU reaches the target") {
  auto const& curve = judge().expected();
  CHECK(curve.back() <= 0.02 * curve.front());
  CHECK(judge().allowed(training_steps - 1) <= 0.01 * curve.back());  // it would not pass another curve
  CHECK(judge().fault(curve) == "");
}

TEST_CASE("the judge sees gradients that are wrong") {
  constexpr int some = 30;
  auto const fault = [](wrong_gradients const& wrong) { return judge().fault(curve_on_cpu(wrong, some), some); };
  CHECK(fault({}) == "");
  for (bool scaled : {false, true})
    for (float factor : {-1.0f, 0.0f, 1.02f}) {
      CAPTURE(scaled);
      CAPTURE(factor);
      CHECK(fault({{}, factor, 1, 1, scaled}) != "");
      CHECK(fault({{}, 1, factor, 1, scaled}) != "");
      if (scaled) CHECK(fault({{}, 1, 1, factor, scaled}) != "");
    }
  CHECK(judge().fault(curve_on_cpu(undisturbed{}, some)) != "");
  auto no_number = judge().expected();
  no_number[50] = std::numeric_limits<double>::quiet_NaN();
  CHECK(judge().fault(no_number) != "");
}

#ifndef HOFT_TEST_BESIDE_EMULATOR
TEST_CASE("training through the kernels has the CPU's curve") {
  training_result const result = trained_by_kernels<float>();
  CHECK(judge().fault(result.curve) == "");
  for (auto const& form : result.forms) CHECK(orthogonality_of(form) <= orthogonality_bound(form));
  check_merged<float>(result);
}

TEST_CASE("training with bfloat16 activations keeps float's orthogonality") {
  training_result const result = trained_by_kernels<Eigen::bfloat16>();
  check_16_bit_training(judge(), result);
  check_merged<Eigen::bfloat16>(result);
}
#endif
