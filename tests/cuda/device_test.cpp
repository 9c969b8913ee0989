// SPDX-License-Identifier: BSD-3-Clause
// The CUDA backend on a GPU. Without one, all is skipped, or fails if HOFT_REQUIRE_GPU is 1.
#define DOCTEST_CONFIG_IMPLEMENT
#include "bodies.hpp"
#include "device_everything.hpp"
#include "device_training.hpp"
#include "transforms.hpp"

#include "../training_judge.hpp"

#include <cstdlib>
#include <cstring>
#include <iostream>

using namespace hoft_test;

namespace {

device_machine const& machine() {
  static device_machine const only;
  return only;
}

}  // namespace

HOFT_CUDA_TESTS(device_machine, machine, HOFT_CUDA_SCALARS)
#if defined(HOFT_TEST_EMULATED)  // not among those scalars
TEST_CASE_TEMPLATE("parts of floats, product by product", T, Eigen::bfloat16) {
  cuda_tests<device_machine, T, col_major>{machine()}.check_parts();
}
#endif

TEST_CASE_TEMPLATE("every call, series and transforms too, agrees with the CPU's", T, std::complex<double>) {
  check_everything<T>([](auto const&... of) { return everything_on_device<T>(machine(), of...); });
}
TEST_CASE_TEMPLATE("HOFT and SHOFT on matrices as they are stored", Case, HOFT_TRANSFORM_CASES) {
  transform_tests<device_machine, typename Case::first_type, typename Case::second_type>::check(
      machine(), {{96, 8}, {60, 8}, {76, 1}});
}
TEST_CASE_TEMPLATE("parts of floats in HOFT and SHOFT", Case, HOFT_TRANSFORM_CASES) {
  transform_tests<device_machine, typename Case::first_type, typename Case::second_type>::check_parts(
      machine(), {{96, 8}, {60, 8}, {76, 1}});
}
TEST_CASE("a graph of calls replays with other data") { CHECK(check_graphs() == ""); }
TEST_CASE("two streams at once") { CHECK(check_streams() == ""); }
TEST_CASE("no memory of the device is taken") { CHECK(check_allocations() == ""); }
TEST_CASE("a batch has the bits of single calls") { CHECK(check_batches() == ""); }
TEST_CASE_TEMPLATE("training in a graph, and merging", T, HOFT_TRAINED_SCALARS) {
  static training_judge const judge;
  training_result const result = trained_on_device<T>(training_example());
  check_merged<T>(result);
  if constexpr (is_stored_in_16_bits<T>) return check_16_bit_training(judge, result);
  CHECK(judge.fault(result.curve) == "");
  for (auto const& form : result.forms) CHECK(orthogonality_of(form) <= orthogonality_bound(form));
}
TEST_CASE("more than 2^31 elements") {
  std::string const answer = check_large();
  if (answer.starts_with("skipped")) MESSAGE(answer);
  else CHECK(answer == "");
}

int main(int count, char** arguments) {
  constexpr int skipped = 77;  // as CMakeLists.txt tells ctest
  if (std::string const why = device_machine::missing(); !why.empty()) {
    char const* const required = std::getenv("HOFT_REQUIRE_GPU");
    bool const fails = required != nullptr && std::strcmp(required, "1") == 0;
    std::cout << (fails ? "Failed" : "Skipped") << ": no GPU to test on (" << why << ")\n";
    return fails ? 1 : skipped;
  }
  return doctest::Context(count, arguments).run();
}
