// SPDX-License-Identifier: BSD-3-Clause
// Versioned DLPack tensors: what they say of themselves, that is their version and whether they may be written to, is
// kept both ways. (dlpack_judges.py has NumPy 2 on the other side.)
#include <hoft/view/dlpack.hpp>

#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace hoft;

namespace {

template <class F>
std::string refusal(F const& f) {
  try {
    f();
  } catch (argument_error const& error) {
    return error.what();
  }
  return "nothing";
}

/// A tensor of another library's.
struct example {
  std::array<float, 12> memory{};
  std::int64_t shape[2] = {3, 4}, strides[2] = {4, 1};
  DLManagedTensorVersioned managed{};
  example() {
    managed.version = {1, 0};
    managed.dl_tensor = {memory.data(), {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, strides, 0};
  }
  example(example const&) = delete;
};

}  // namespace

TEST_CASE("a versioned tensor is a view of the same memory") {
  example e;
  auto const a = dlpack::as_matrix<float, row_major>(e.managed);
  CHECK((a.data == e.memory.data() && a.rows == 3 && a.cols == 4 && a.ld == 4));
  e.managed.version.minor = 99;  // newer minor versions mean the same
  CHECK(dlpack::as_matrix<float const, row_major>(e.managed).data == e.memory.data());
  e.managed.dl_tensor.ndim = 1;
  e.strides[0] = 1;
  CHECK(dlpack::as_vector<float>(e.managed).size == 3);
}

TEST_CASE("a read-only tensor is a view of constants only") {
  example e;
  e.managed.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  CHECK(dlpack::as_matrix<float const, row_major>(e.managed).data == e.memory.data());
  CHECK(refusal([&] { dlpack::as_matrix<float, row_major>(e.managed, dlpack::host, "X"); }) ==
        "hoft::dlpack::as_matrix: X.flags is read-only, must be writable for a view that is not one of constants");
  e.managed.dl_tensor.ndim = 1, e.strides[0] = 1;
  CHECK(refusal([&] { dlpack::as_vector<float>(e.managed); }) ==
        "hoft::dlpack::as_vector: tensor.flags is read-only, must be writable for a view that is not one of constants");
  CHECK(dlpack::as_vector<float const>(e.managed).size == 3);
  e.managed.flags = 1U << 1;  // copied: nobody else has it
  CHECK(dlpack::as_vector<float>(e.managed).size == 3);
}

TEST_CASE("another major version is refused before its tensor is looked at") {
  example e;
  e.managed.dl_tensor.shape = nullptr, e.managed.dl_tensor.ndim = 77;
  for (std::uint32_t major : {0U, 2U}) {
    e.managed.version.major = major;
    CHECK(refusal([&] { dlpack::as_matrix<float, row_major>(e.managed, dlpack::host, "X"); }) ==
          "hoft::dlpack::as_matrix: X.version.major is " + std::to_string(major) + ", must be == 1");
  }
}

TEST_CASE("memory that GPUs and the host share can be had from both") {
  example e;
  DLDevice const gpu{kDLCUDA, 1};
  auto const on = [&](DLDeviceType type, int number, DLDevice const& wanted) {
    e.managed.dl_tensor.device = {type, number};
    return refusal([&] { dlpack::as_matrix<float, row_major>(e.managed, wanted); }) == "nothing";
  };
  CHECK((on(kDLCUDAHost, 0, dlpack::host) && on(kDLCUDAManaged, 0, dlpack::host) && on(kDLCUDAManaged, 0, gpu)));
  CHECK((on(kDLCUDA, 1, gpu) && !on(kDLCUDA, 0, gpu) && !on(kDLCUDA, 1, dlpack::host) && !on(kDLCPU, 0, gpu)));
}

TEST_CASE("views are made into versioned tensors, writable or read-only as they are") {
  auto memory = std::make_shared<std::vector<float>>(12, 1.F);
  std::weak_ptr<std::vector<float>> const watch = memory;
  matrix_view<float, row_major> const view(memory->data(), 3, 4);
  dlpack::versioned_tensor tensor = dlpack::manage_versioned(view, memory, {kDLCUDAManaged, 2});
  CHECK((tensor->version.major == DLPACK_MAJOR_VERSION && tensor->version.minor == DLPACK_MINOR_VERSION));
  CHECK((tensor->flags == 0 && tensor->dl_tensor.data == view.data && tensor->dl_tensor.ndim == 2));
  CHECK((tensor->dl_tensor.device.device_type == kDLCUDAManaged && tensor->dl_tensor.device.device_id == 2));
  CHECK((tensor->dl_tensor.strides[0] == 4 && tensor->dl_tensor.strides[1] == 1));
  tensor = dlpack::manage_versioned(matrix_view<float const, row_major>(view), memory);
  CHECK(tensor->flags == DLPACK_FLAG_BITMASK_READ_ONLY);
  CHECK(dlpack::as_matrix<float const, row_major>(*tensor).data == view.data);
  tensor = dlpack::manage_versioned(vector_view<float const>(view.data, 12), std::move(memory));
  CHECK((tensor->flags == DLPACK_FLAG_BITMASK_READ_ONLY && tensor->dl_tensor.ndim == 1 && watch.use_count() == 1));
  DLManagedTensorVersioned* const handed_over = tensor.release();
  handed_over->deleter(handed_over);
  CHECK(watch.expired());
  example borrowed;  // a producer without a deleter
  tensor.reset(&borrowed.managed);
  tensor.reset();
  CHECK_THROWS_AS(dlpack::manage_versioned(matrix_view<float>(nullptr, 3, 4, 2), nullptr), shape_error);
}
