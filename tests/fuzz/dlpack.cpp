// SPDX-License-Identifier: BSD-3-Clause
// Any DLTensor as a view: taken if and only if 128-bit arithmetic on its members says that it is one, with the same
// addresses, and otherwise refused by one of hoft's errors.
#include <hoft/view/dlpack.hpp>

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <complex>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>

namespace {

using namespace hoft;
__extension__ using wide = __int128;

alignas(16) char memory[512];

/// Mostly what makes sense, now and then anything.
std::int64_t some_extent(FuzzedDataProvider& from) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
  switch (from.ConsumeIntegralInRange(0, 15)) {
    case 0:
      return from.ConsumeIntegral<std::int64_t>();
    case 1:
      return most / (std::int64_t{1} << from.ConsumeIntegralInRange(0, 62));
    default:
      return from.ConsumeIntegralInRange<std::int64_t>(-1, 6);
  }
}

/// Where element (i, j) lies.
wide address(DLTensor const& t, wide i, wide j, wide size) {
  wide const down = t.strides != nullptr ? t.strides[0] : t.ndim == 2 ? t.shape[1] : 1;
  wide const across = t.ndim < 2 ? 0 : t.strides != nullptr ? t.strides[1] : 1;
  wide const limit = wide(1) << 100;  // beyond every address, and still far from an overflow
  wide const elements = std::clamp(i * down + j * across, -limit, limit);
  return wide(reinterpret_cast<std::uintptr_t>(t.data)) + wide(t.byte_offset) + elements * size;
}

/// `cols` is 1 for a vector.
bool expected(DLTensor const& t, DLDataType type, bool right_device, int ndim, bool col, wide size, wide alignment) {
  if (t.dtype.code != type.code || t.dtype.bits != type.bits || t.dtype.lanes != type.lanes) return false;
  if (!right_device || t.ndim != ndim || t.shape == nullptr || t.shape[0] < 0) return false;
  wide const rows = t.shape[0], cols = ndim == 2 ? t.shape[1] : 1;
  if (cols < 0) return false;
  if (rows == 0 || cols == 0) return true;
  wide const down = rows > 1 ? address(t, 1, 0, size) - address(t, 0, 0, size) : 0;
  wide const across = cols > 1 ? address(t, 0, 1, size) - address(t, 0, 0, size) : 0;
  wide const inner = col ? down : across, outer = col ? across : down, length = col ? rows : cols;
  if (length > 1 && inner != size) return false;
  if ((col ? cols : rows) > 1 && outer < length * size) return false;
  wide const first = address(t, 0, 0, size), end = address(t, rows - 1, cols - 1, size) + size;
  constexpr wide most = std::numeric_limits<std::int64_t>::max();
  // At most as many whole elements as an index of 64 bits can count bytes of.
  return t.data != nullptr && first % alignment == 0 && end <= wide(~std::uint64_t{0}) && (end - first) <= most;
}

template <class T, class Layout>
void take(DLTensor const& t, DLDataType type, bool right_device) {
  constexpr bool col = std::same_as<Layout, col_major>;
  std::optional<matrix_view<T, Layout>> view;
  try {
    view = dlpack::as_matrix<T, Layout>(t);
  } catch (shape_error const&) {
  } catch (argument_error const&) {
  }
  if (view.has_value() != expected(t, type, right_device, 2, col, sizeof(T), alignof(T))) std::abort();
  if (!view) return;
  if (view->rows != t.shape[0] || view->cols != t.shape[1] || !detail::valid(*view)) std::abort();
  if (view->empty()) return;
  for (index_t i : {index_t(0), view->rows - 1})
    for (index_t j : {index_t(0), view->cols - 1}) {
      auto const here = reinterpret_cast<std::uintptr_t>(view->data) + std::uintptr_t(view->offset(i, j)) * sizeof(T);
      if (wide(here) != address(t, i, j, sizeof(T))) std::abort();
    }
}

template <class T>
void take_vector(DLTensor const& t, DLDataType type, bool right_device) {
  std::optional<vector_view<T>> view;
  try {
    view = dlpack::as_vector<T>(t);
  } catch (shape_error const&) {
  } catch (argument_error const&) {
  }
  if (view.has_value() != expected(t, type, right_device, 1, true, sizeof(T), alignof(T))) std::abort();
  if (view && (view->size != t.shape[0] ||
               (view->size > 0 && wide(reinterpret_cast<std::uintptr_t>(view->data)) != address(t, 0, 0, sizeof(T)))))
    std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  FuzzedDataProvider from(data, size);
  auto const rarely = [&] { return from.ConsumeIntegralInRange(0, 15) == 0; };
  std::int64_t shape[3], strides[3];
  for (int i = 0; i < 3; ++i) shape[i] = some_extent(from), strides[i] = some_extent(from);
  DLTensor t{};
  t.data = rarely() ? nullptr : memory + (rarely() ? from.ConsumeIntegralInRange(0, 15) : 0);
  t.ndim = rarely() ? from.ConsumeIntegral<int>() : from.ConsumeIntegralInRange(1, 2);
  t.shape = rarely() ? nullptr : shape;
  t.strides = rarely() ? nullptr : strides;
  t.byte_offset =
      rarely() ? from.ConsumeIntegral<std::uint64_t>() : from.ConsumeIntegralInRange<std::uint64_t>(0, 4) * 8;
  t.dtype = {std::uint8_t(from.ConsumeIntegralInRange(0, 6)),
             from.PickValueInArray<std::uint8_t>({16, 32, 64, 128, 8, 0}), std::uint16_t(rarely() ? 4 : 1)};
  if (!rarely()) t.dtype.code = t.dtype.bits == 128 ? kDLComplex : kDLFloat;
  std::int32_t const device = rarely() ? from.ConsumeIntegral<std::int32_t>() : std::int32_t{kDLCPU};
  std::memcpy(&t.device.device_type, &device, sizeof device);  // may be no enumerator
  t.device.device_id = from.ConsumeIntegralInRange(-1, 1);
  bool const host = device == kDLCPU || device == kDLCUDAHost || device == kDLCUDAManaged;

  take<float, row_major>(t, {kDLFloat, 32, 1}, host);
  take<float, col_major>(t, {kDLFloat, 32, 1}, host);
  take<double const, row_major>(t, {kDLFloat, 64, 1}, host);
  take<std::complex<double>, col_major>(t, {kDLComplex, 128, 1}, host);
  take_vector<float>(t, {kDLFloat, 32, 1}, host);
  return 0;
}
