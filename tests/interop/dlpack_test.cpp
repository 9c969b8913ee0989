// SPDX-License-Identifier: BSD-3-Clause
// DLPack tensors as views and back: what is accepted is the same memory, what is refused says why.
// (dlpack_judges.py has NumPy and PyTorch on the other side.)
#include <hoft/view/eigen.hpp>
#include <hoft/view/dlpack.hpp>

#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS
#include <doctest/doctest.h>

#include <array>
#include <complex>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace hoft;

namespace {

constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();

/// A tensor [rows, cols] of 24 numbers that a test may spoil.
struct example {
  std::array<float, 24> memory{};
  std::int64_t shape[2], strides[2];
  DLTensor tensor;
  example(std::int64_t rows, std::int64_t cols, std::int64_t down, std::int64_t across)
      : shape{rows, cols}, strides{down, across}, tensor{memory.data(), {kDLCPU, 0}, 2, {kDLFloat, 32, 1},
                                                         shape,         strides,     0} {}
  example(example const&) = delete;
};

/// f must throw Error with exactly this message.
template <class Error, class F>
void refuses(std::string const& message, F const& f) {
  std::string thrown = "nothing";
  try {
    f();
  } catch (Error const& error) {
    thrown = error.what();
  }
  CHECK(thrown == message);
}
template <class Error, class Layout = row_major>
void refuses(example const& e, std::string const& message, DLDevice const& device = dlpack::host) {
  refuses<Error>("hoft::dlpack::as_matrix: X" + message,
                 [&] { dlpack::as_matrix<float, Layout>(e.tensor, device, "X"); });
}

/// A view of the tensor has the tensor's addresses.
template <class Layout>
void accepts(example& e, index_t ld) {
  auto const a = dlpack::as_matrix<float const, Layout>(e.tensor);
  CHECK(a.rows == e.shape[0]);
  CHECK(a.cols == e.shape[1]);
  CHECK(a.ld == ld);
  std::int64_t const down = e.tensor.strides != nullptr ? e.strides[0] : e.shape[1];
  std::int64_t const across = e.tensor.strides != nullptr ? e.strides[1] : 1;
  for (index_t i = 0; i < a.rows; ++i)
    for (index_t j = 0; j < a.cols; ++j)
      CHECK(&a(i, j) == e.memory.data() + e.tensor.byte_offset / sizeof(float) + i * down + j * across);
}

template <class T>
DLDataType type_of() {
  std::array<T, 2> memory{};
  dlpack::tensor_extents lent;
  DLTensor const tensor = dlpack::as_tensor(vector_view<T>(memory.data(), 2), lent);
  CHECK(dlpack::as_vector<T>(tensor).data == memory.data());
  return tensor.dtype;
}

}  // namespace

TEST_CASE("both layouts, padded and not, are views of the same memory") {
  example row(3, 4, 4, 1), padded_row(3, 4, 7, 1), column(3, 4, 1, 3), padded_column(3, 4, 1, 6), compact(3, 4, 0, 0);
  accepts<row_major>(row, 4);
  accepts<row_major>(padded_row, 7);
  accepts<col_major>(column, 3);
  accepts<col_major>(padded_column, 6);
  compact.tensor.strides = nullptr;
  accepts<row_major>(compact, 4);
  row.tensor.byte_offset = 8 * sizeof(float);
  accepts<row_major>(row, 4);
}

TEST_CASE("tokens x features in row-major order are the column-major matrix of features x tokens") {
  example e(3, 4, 4, 1);
  DLTensor const& tensor = e.tensor;
  auto const x = hoft::dlpack::as_matrix<float, hoft::row_major>(tensor, hoft::dlpack::host, "x").transposed();
  static_assert(std::is_same_v<decltype(x), matrix_view<float, col_major> const>);
  CHECK((x.rows == 4 && x.cols == 3 && &x(1, 2) == &e.memory[2 * 4 + 1]));
}

TEST_CASE("strides of dimensions with one element, and of empty matrices, say nothing") {
  example one_row(1, 4, -9, 1), one_column(4, 1, 5, 0), one(1, 1, 0, -1), a_row(1, 4, 0, 5), a_column(4, 1, 1, 0);
  accepts<row_major>(one_row, 4);
  accepts<row_major>(one_column, 5);
  accepts<row_major>(one, 1);
  accepts<col_major>(one, 1);
  accepts<col_major>(a_row, 5);
  accepts<col_major>(a_column, 4);
  for (auto const& [rows, cols] : {std::pair<std::int64_t, std::int64_t>{0, 4}, {4, 0}, {0, 0}, {0, most}}) {
    example empty(rows, cols, -3, 0);
    empty.tensor.data = nullptr;
    auto const a = dlpack::as_matrix<float, row_major>(empty.tensor);
    CHECK((a.rows == rows && a.cols == cols && a.ld == cols && a.data == nullptr));
    auto const b = dlpack::as_matrix<float, col_major>(empty.tensor);
    CHECK((b.rows == rows && b.cols == cols && b.ld == rows && b.data == nullptr));
  }
}

TEST_CASE("vectors") {
  std::array<double, 6> memory{};
  std::int64_t size = 5, stride = 1;
  DLTensor tensor{memory.data(), {kDLCPU, 0}, 1, {kDLFloat, 64, 1}, &size, &stride, 8};
  auto const a = dlpack::as_vector<double>(tensor);
  CHECK((a.data == memory.data() + 1 && a.size == 5));
  stride = 2;
  refuses<shape_error>("hoft::dlpack::as_vector: tau.strides[0] is 2, must be == 1",
                       [&] { dlpack::as_vector<double>(tensor, dlpack::host, "tau"); });
  size = 2;
  CHECK_THROWS_AS(dlpack::as_vector<double>(tensor), shape_error);
  size = 1;
  CHECK(dlpack::as_vector<double>(tensor).size == 1);
  size = -1;
  refuses<shape_error>("hoft::dlpack::as_vector: tensor.shape[0] is -1, must be >= 0",
                       [&] { dlpack::as_vector<double>(tensor); });
  size = most, stride = 1;
  CHECK_THROWS_AS(dlpack::as_vector<double>(tensor), shape_error);
  tensor.strides = nullptr, size = 5;
  CHECK(dlpack::as_vector<double const>(tensor).size == 5);
  tensor.ndim = 2;
  CHECK_THROWS_AS(dlpack::as_vector<double>(tensor), shape_error);
}

TEST_CASE("every element type has DLPack's name") {
  auto const is = [](DLDataType a, int code, int bits) { return a.code == code && a.bits == bits && a.lanes == 1; };
  CHECK(is(type_of<float>(), kDLFloat, 32));
  CHECK(is(type_of<double>(), kDLFloat, 64));
  CHECK(is(type_of<std::complex<float>>(), kDLComplex, 64));
  CHECK(is(type_of<std::complex<double>>(), kDLComplex, 128));
  CHECK(is(type_of<Eigen::half>(), kDLFloat, 16));
  CHECK(is(type_of<Eigen::bfloat16>(), kDLBfloat, 16));
}

TEST_CASE("another element type is refused") {
  example e(3, 4, 4, 1);
  e.tensor.dtype = {kDLInt, 32, 1};
  refuses<argument_error>(e, ".dtype is int32, must be float32");
  e.tensor.dtype = {kDLBfloat, 16, 1};
  refuses<argument_error>(e, ".dtype is bfloat16, must be float32");
  e.tensor.dtype = {kDLFloat, 64, 1};
  refuses<argument_error>(e, ".dtype is float64, must be float32");
  e.tensor.dtype = {kDLFloat, 32, 4};
  refuses<argument_error>(e, ".dtype is float32 x 4 lanes, must be float32");
  e.tensor.dtype = {200, 32, 1};
  refuses<argument_error>(e, ".dtype is code 200 bits 32, must be float32");
}

TEST_CASE("memory of another device is refused") {
  example e(3, 4, 4, 1);
  DLDevice const gpu{kDLCUDA, 1};
  e.tensor.device = gpu;
  refuses<argument_error>(e, ".device is CUDA device 1, must be CPU memory");
  refuses<argument_error>(e, ".device is CUDA device 1, must be CUDA device 0", {kDLCUDA, 0});
  CHECK(dlpack::as_matrix<float, row_major>(e.tensor, gpu).data == e.memory.data());
  e.tensor.device = {kDLCPU, 0};
  refuses<argument_error>(e, ".device is CPU memory, must be CUDA device 1", gpu);
  e.tensor.device = {kDLCUDAHost, 0};
  CHECK(dlpack::as_matrix<float, row_major>(e.tensor).data == e.memory.data());
  refuses<argument_error>(e, ".device is pinned CUDA host memory, must be CUDA device 1", gpu);
  e.tensor.device = {kDLCUDAManaged, 0};
  CHECK(dlpack::as_matrix<float, row_major>(e.tensor).data == e.memory.data());
  CHECK(dlpack::as_matrix<float, row_major>(e.tensor, gpu).data == e.memory.data());
  e.tensor.device = {kDLROCM, 3};
  refuses<argument_error>(e, ".device is device type 10 number 3, must be CPU memory");
  std::int32_t const unheard_of = 1000;  // the enumeration has no such value
  std::memcpy(&e.tensor.device.device_type, &unheard_of, sizeof unheard_of);
  refuses<argument_error>(e, ".device is device type 1000 number 3, must be CPU memory");
}

TEST_CASE("shapes and strides that are no matrix of the layout are refused") {
  {
    example e(3, 4, 4, 1);
    refuses<shape_error, col_major>(e, ".strides[0] is 4, must be 1 for a column-major view");
    e.tensor.ndim = 3;
    refuses<shape_error>(e, ".ndim is 3, must be == 2");
    e.tensor.ndim = 0;
    refuses<shape_error>(e, ".ndim is 0, must be == 2");
    e.tensor.ndim = 2, e.tensor.shape = nullptr;
    refuses<argument_error>(e, ".shape is null, must be the extents");
  }
  refuses<shape_error>(example(-1, 4, 4, 1), ".shape[0] is -1, must be >= 0");
  refuses<shape_error>(example(0, -4, 4, 1), ".shape[1] is -4, must be >= 0");
  refuses<shape_error>(example(3, 4, 1, 3), ".strides[1] is 3, must be 1 for a row-major view");
  refuses<shape_error>(example(3, 4, 8, 2), ".strides[1] is 2, must be 1 for a row-major view");
  refuses<shape_error>(example(3, 2, 8, 2), ".strides[1] is 2, must be 1 for a row-major view");
  refuses<shape_error>(example(3, 4, 4, -1), ".strides[1] is -1, must be 1 for a row-major view");
  refuses<shape_error>(example(3, 4, 0, 1), ".strides[0] is 0, must be >= 4, the other extent");    // broadcast
  refuses<shape_error>(example(3, 4, -4, 1), ".strides[0] is -4, must be >= 4, the other extent");  // reversed
  refuses<shape_error>(example(3, 4, 3, 1), ".strides[0] is 3, must be >= 4, the other extent");    // overlapping
  refuses<shape_error>(example(3, 1, 0, 0), ".strides[0] is 0, must be >= 1, the other extent");
  // Memory holds at most (2⁶³ − 1) / 4 floats.
  refuses<shape_error>(example(2, 4, most, 1), ".shape[0] is 2, must be <= 1");
  refuses<shape_error>(example(2, 4, most / 4 - 3, 1), ".shape[0] is 2, must be <= 1");
  CHECK(dlpack::as_matrix<float, row_major>(example(2, 4, most / 4 - 4, 1).tensor).ld == most / 4 - 4);
  refuses<shape_error>(example(most / 8, 4, 4, 1), ".shape[0] is 1152921504606846975, must be <= 576460752303423487");
  refuses<shape_error>(example(1, most, 1, 1), ".shape[1] is 9223372036854775807, must be <= 2305843009213693951");
}

TEST_CASE("addresses that cannot be are refused") {
  example e(3, 4, 4, 1);
  e.tensor.data = nullptr;
  refuses<argument_error>(e, ".data is null, must be the address of the elements");
  e.tensor.data = e.memory.data();
  for (std::uint64_t offset : {~std::uint64_t{0}, ~reinterpret_cast<std::uintptr_t>(e.memory.data()) - 47}) {
    e.tensor.byte_offset = offset;
    refuses<argument_error>(e, ".byte_offset is " + std::to_string(offset) +
                                   ", must be small enough for elements inside the address space");
  }
  e.tensor.byte_offset = 2;
  refuses<argument_error>(e, ".data + byte_offset is " +
                                 std::to_string(reinterpret_cast<std::uintptr_t>(e.memory.data()) + 2) +
                                 ", must be a multiple of 4");
}

TEST_CASE("views become tensors") {
  std::array<float, 24> memory{};
  dlpack::tensor_extents lent;
  matrix_view<float, col_major> const column(memory.data(), 3, 4, 5);
  DLTensor t = dlpack::as_tensor(column, lent, {kDLCUDA, 2});
  CHECK((t.data == memory.data() && t.ndim == 2 && t.shape == lent.shape && t.strides == lent.strides));
  CHECK((t.device.device_type == kDLCUDA && t.device.device_id == 2 && t.byte_offset == 0));
  CHECK((t.shape[0] == 3 && t.shape[1] == 4 && t.strides[0] == 1 && t.strides[1] == 5));
  t = dlpack::as_tensor(matrix_view<float, row_major>(memory.data(), 3, 4, 5), lent);
  CHECK((t.shape[0] == 3 && t.shape[1] == 4 && t.strides[0] == 5 && t.strides[1] == 1));
  CHECK((t.device.device_type == kDLCPU && t.device.device_id == 0));
  t = dlpack::as_tensor(vector_view<float>(memory.data(), 7), lent);
  CHECK((t.ndim == 1 && t.shape[0] == 7 && t.strides[0] == 1));
  CHECK(dlpack::as_tensor(matrix_view<float>(memory.data(), 0, 4), lent).data == nullptr);
  CHECK(dlpack::as_tensor(vector_view<float>(memory.data(), 0), lent).data == nullptr);
  refuses<shape_error>("hoft::dlpack::as_tensor: a.ld is 2, must be >= 3",
                       [&] { dlpack::as_tensor(matrix_view<float>(memory.data(), 3, 4, 2), lent); });
  refuses<shape_error>("hoft::dlpack::as_tensor: a.size is -1, must be >= 0",
                       [&] { dlpack::as_tensor(vector_view<float>(memory.data(), -1), lent); });
}

TEST_CASE("a managed tensor keeps its owner until it is given back, once") {
  auto memory = std::make_shared<std::vector<float>>(12, 1.F);
  std::weak_ptr<std::vector<float>> const watch = memory;
  matrix_view<float, row_major> const view(memory->data(), 3, 4);
  hoft::dlpack::managed_tensor tensor = hoft::dlpack::manage(view, std::move(memory));
  CHECK(watch.use_count() == 1);
  auto const seen = dlpack::as_matrix<float, row_major>(tensor->dl_tensor);
  CHECK((seen.data == view.data && seen.rows == 3 && seen.cols == 4 && seen.ld == 4));
  DLManagedTensor* const handed_over = tensor.release();
  CHECK(watch.use_count() == 1);
  handed_over->deleter(handed_over);
  CHECK(watch.expired());

  memory = std::make_shared<std::vector<float>>(3);
  dlpack::managed_tensor vector = dlpack::manage(vector_view<float>(memory->data(), 3), memory);
  CHECK((vector->dl_tensor.ndim == 1 && memory.use_count() == 2));
  vector.reset();
  CHECK(memory.use_count() == 1);
  DLManagedTensor borrowed{};  // a producer without a deleter
  vector.reset(&borrowed);
  vector.reset();
}
