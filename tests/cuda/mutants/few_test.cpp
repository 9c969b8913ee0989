// SPDX-License-Identifier: BSD-3-Clause
// The cases of few.cu. Their names are those of device_test.cpp, whose filters choose among them.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include "../bodies.hpp"
#include "../device.hpp"
#include "../transforms.hpp"

using namespace hoft_test;

namespace {

device_machine const& machine() {
  static device_machine const only;
  return only;
}

}  // namespace

HOFT_CUDA_TESTS(device_machine, machine, Eigen::half)

TEST_CASE_TEMPLATE("parts of floats, product by product", T, Eigen::bfloat16) {
  cuda_tests<device_machine, T, col_major>{machine()}.check_parts();
}

TEST_CASE_TEMPLATE("HOFT and SHOFT on matrices as they are stored", Case, std::pair<Eigen::bfloat16, col_major>) {
  transform_tests<device_machine, typename Case::first_type, typename Case::second_type>::check(
      machine(), {{96, 8}, {60, 8}, {76, 1}});
}
TEST_CASE_TEMPLATE("parts of floats in HOFT and SHOFT", Case, std::pair<Eigen::bfloat16, col_major>) {
  transform_tests<device_machine, typename Case::first_type, typename Case::second_type>::check_parts(
      machine(), {{96, 8}, {60, 8}, {76, 1}});
}
