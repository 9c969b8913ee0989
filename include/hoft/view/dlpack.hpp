// SPDX-License-Identifier: BSD-3-Clause
// hoft/view/dlpack.hpp: matrices and vectors as DLPack tensors and back, without a copy. No other header includes
// it; it needs dlpack.h (Debian: libdlpack-dev), or a framework's own copy of it included before. Versioned tensors are
// there if that header knows them, from DLPack 1.0 on.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/view/shape.hpp>
#include <hoft/view/strides.hpp>
#include <hoft/view/vector_view.hpp>

#ifndef DLPACK_DLPACK_H_
#include <dlpack/dlpack.h>
#endif

#include <complex>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#if defined(DLPACK_MAJOR_VERSION) && DLPACK_MAJOR_VERSION >= 1
#define HOFT_DLPACK_VERSIONED 1
#endif

namespace HOFT_TARGET_NAMESPACE::dlpack {

/// Memory of the host.
inline constexpr DLDevice host{kDLCPU, 0};

namespace detail {

template <class T>
constexpr DLDataType data_type() {
  auto const of_code = [](DLDataTypeCode code) {
    return DLDataType{std::uint8_t(code), std::uint8_t(8 * sizeof(T)), std::uint16_t(1)};
  };
  if constexpr (std::same_as<T, float> || std::same_as<T, double>) return of_code(kDLFloat);
  else if constexpr (std::same_as<T, std::complex<float>> || std::same_as<T, std::complex<double>>)
    return of_code(kDLComplex);
  else if constexpr (sizeof(T) == 2 && significand_bits<T> == 11) return of_code(kDLFloat);
  else if constexpr (sizeof(T) == 2 && significand_bits<T> == 8) return of_code(kDLBfloat);
  else return {};
}

inline std::string text_of(DLDataType type) {
  constexpr char const* names[] = {"int", "uint", "float", "handle", "bfloat", "complex"};
  std::string text = type.code < std::size(names) ? names[type.code] : "code " + std::to_string(type.code) + " bits ";
  text += std::to_string(type.bits);
  if (type.lanes != 1) text += " x " + std::to_string(type.lanes) + " lanes";
  return text;
}

/// The number of a device's kind. Copied and not loaded: a newer producer's may be none of this header's enumerators.
inline std::int32_t kind_of(DLDevice const& device) {
  std::int32_t kind = 0;
  static_assert(sizeof kind == sizeof device.device_type);
  std::memcpy(&kind, &device.device_type, sizeof kind);
  return kind;
}

inline std::string text_of(DLDevice const& device) {
  std::string const id = ' ' + std::to_string(device.device_id);
  switch (std::int32_t const kind = kind_of(device)) {
    case kDLCPU:
      return "CPU memory";
    case kDLCUDA:
      return "CUDA device" + id;
    case kDLCUDAHost:
      return "pinned CUDA host memory";
    case kDLCUDAManaged:
      return "managed CUDA memory";
    default:
      return "device type " + std::to_string(kind) + " number" + id;
  }
}

/// Memory of `got` can be addressed where memory of `wanted` can: pinned memory on the host, managed memory everywhere.
inline bool reaches(DLDevice const& wanted, DLDevice const& got) {
  std::int32_t const from = kind_of(wanted), to = kind_of(got);
  if (from == kDLCPU) return to == kDLCPU || to == kDLCUDAHost || to == kDLCUDAManaged;
  if (from == kDLCUDA && to == kDLCUDAManaged) return true;
  return from == to && wanted.device_id == got.device_id;
}

/// What does not depend on the shape: element type, device, number of dimensions.
template <class T>
void require_kind(char const* function, std::string_view name, DLTensor const& tensor, DLDevice const& device,
                  int dimensions) {
  constexpr DLDataType expected = data_type<std::remove_cv_t<T>>();
  static_assert(expected.lanes == 1, "hoft: DLPack has no data type for this element type.");
  auto const part = [&](char const* member) { return std::string(name) + member; };
  DLDataType const got = tensor.dtype;
  if (got.code != expected.code || got.bits != expected.bits || got.lanes != expected.lanes)
    hoft::detail::refuse<argument_error>(function, part(".dtype").c_str(), text_of(got), text_of(expected));
  if (!reaches(device, tensor.device))
    hoft::detail::refuse<argument_error>(function, part(".device").c_str(), text_of(tensor.device), text_of(device));
  if (tensor.ndim != dimensions) hoft::detail::require_equal(function, part(".ndim").c_str(), tensor.ndim, dimensions);
  if (tensor.shape == nullptr)
    hoft::detail::refuse<argument_error>(function, part(".shape").c_str(), "null", "the extents");
}

/// The first of `count` elements, counted with the gaps between them; null if there are none.
template <class T>
T* first_element(char const* function, std::string_view name, DLTensor const& tensor, index_t count) {
  if (count == 0) return nullptr;
  auto const part = [&](char const* member) { return std::string(name) + member; };
  if (tensor.data == nullptr)
    hoft::detail::refuse<argument_error>(function, part(".data").c_str(), "null", "the address of the elements");
  auto const address = reinterpret_cast<std::uintptr_t>(tensor.data);
  constexpr std::uintptr_t last = (std::numeric_limits<std::uintptr_t>::max)();
  std::uintptr_t const bytes = std::uintptr_t(count) * sizeof(T);  // leading_dimension made sure of that
  if (tensor.byte_offset > last - address || bytes > last - address - tensor.byte_offset)
    hoft::detail::refuse<argument_error>(function, part(".byte_offset").c_str(), std::to_string(tensor.byte_offset),
                                         "small enough for elements inside the address space");
  if ((address + tensor.byte_offset) % alignof(T) != 0)
    hoft::detail::refuse<argument_error>(function, part(".data + byte_offset").c_str(),
                                         std::to_string(address + tensor.byte_offset),
                                         "a multiple of " + std::to_string(alignof(T)));
  return reinterpret_cast<T*>(address + tensor.byte_offset);
}

}  // namespace detail

/// The elements of a tensor as a view, where element (i, j) is data[i * strides[0] + j * strides[1]].
///
/// @tparam T the element type, which may be const: float, double, std::complex of these, or a 16-bit scalar (half and
///   bfloat16 are told apart by hoft::significand_bits).
/// @tparam Layout hoft::row_major asks for strides[1] = 1, hoft::col_major for strides[0] = 1; the other stride may
///   exceed the extent. Strides of null mean compact and row-major. The stride of a dimension with one element says
///   nothing, so a single row or column may have either layout.
/// @param tensor [rows, cols] In. The view refers to its memory; shape and strides are copied.
/// @param device where the elements must be: the host, which also reaches pinned and managed memory, or one GPU
///   ({kDLCUDA, number}), which also reaches managed memory. What still runs on that memory's stream is the caller's
///   to order.
/// @param name the tensor's name in messages.
/// @throws hoft::argument_error for another element type or several lanes, another device, no data, elements at an
///   address that is no multiple of alignof(T).
/// @throws hoft::shape_error unless it has two dimensions, of no negative extent, with strides of the layout (no
///   broadcast, no reversed dimension).
/// Cost: none in flops; nothing is copied or allocated.
/// Source: DLPack, https://dmlc.github.io/dlpack.
template <class T, class Layout>
requires scalar<T> matrix_view<T, Layout> as_matrix(DLTensor const& tensor, DLDevice const& device = host,
                                                    std::string_view name = "tensor") {
  constexpr char const* function = "dlpack::as_matrix";
  detail::require_kind<T>(function, name, tensor, device, 2);
  index_t const shape[2] = {index_t(tensor.shape[0]), index_t(tensor.shape[1])};
  bool const compact = tensor.strides == nullptr;
  index_t const strides[2] = {compact ? shape[1] : index_t(tensor.strides[0]),
                              compact ? 1 : index_t(tensor.strides[1])};
  index_t const ld = hoft::detail::leading_dimension<T, Layout>(function, name, shape, strides);
  bool const empty = shape[0] == 0 || shape[1] == 0;
  constexpr int inner = std::same_as<Layout, col_major> ? 0 : 1;
  index_t const count = empty ? 0 : (shape[1 - inner] - 1) * ld + shape[inner];
  return {detail::first_element<T>(function, name, tensor, count), shape[0], shape[1], ld};
}

/// The elements of a tensor of one dimension as a view, like `as_matrix`.
///
/// @param tensor [size] In. Its stride is 1 unless it has fewer than two elements.
/// @throws hoft::argument_error, hoft::shape_error as `as_matrix` does.
/// Cost: none in flops; nothing is copied or allocated.
/// Source: DLPack.
template <class T>
requires scalar<T> vector_view<T> as_vector(DLTensor const& tensor, DLDevice const& device = host,
                                            std::string_view name = "tensor") {
  constexpr char const* function = "dlpack::as_vector";
  detail::require_kind<T>(function, name, tensor, device, 1);
  index_t const size = index_t(tensor.shape[0]);
  hoft::detail::require_contiguous<T>(function, name, size, tensor.strides == nullptr ? 1 : index_t(tensor.strides[0]));
  return {detail::first_element<T>(function, name, tensor, size), size};
}

/// Where shape and strides of a DLTensor lie: the tensor only refers to them.
struct tensor_extents {
  std::int64_t shape[2], strides[2];
};

namespace detail {

/// The tensor of as_tensor, of elements that may be constant.
template <class T, class Layout>
DLTensor described(char const* function, matrix_view<T, Layout> a, tensor_extents& lent, DLDevice const& device) {
  constexpr DLDataType type = data_type<std::remove_cv_t<T>>();
  static_assert(type.lanes == 1, "hoft: DLPack has no data type for this element type.");
  hoft::detail::require_view(function, "a", a);
  constexpr bool col = matrix_view<T, Layout>::is_col_major;
  lent = {{a.rows, a.cols}, {col ? 1 : a.ld, col ? a.ld : 1}};
  // DLPack wants no address of no elements.
  return {a.empty() ? nullptr : const_cast<std::remove_cv_t<T>*>(a.data), device, 2, type, lent.shape, lent.strides, 0};
}
template <class T>
DLTensor described(char const* function, vector_view<T> a, tensor_extents& lent, DLDevice const& device) {
  hoft::detail::require_at_least(function, "a.size", a.size, 0);
  DLTensor tensor = described(function, matrix_view<T>(a.data, a.size, 1), lent, device);
  tensor.ndim = 1;
  return tensor;
}

}  // namespace detail

/// A view as a tensor of the caller's, with explicit strides and no byte_offset.
///
/// @param a [rows, cols] In. The tensor refers to its memory. A view of constants does not compile: DLPack tensors may
///   be written to.
/// @param lent Out. Overwritten; must live as long as the tensor is used.
/// @param device where the elements are.
/// @return a tensor of two dimensions.
/// @throws hoft::shape_error for a view with a negative extent or an `ld` below its inner extent.
/// Cost: none in flops; nothing is copied or allocated.
/// Source: DLPack.
template <class T, class Layout>
requires scalar<T> DLTensor as_tensor(matrix_view<T, Layout> a, tensor_extents& lent, DLDevice const& device = host) {
  static_assert(!std::is_const_v<T>, "hoft: a DLPack tensor may be written to, and this is a view of constants.");
  return detail::described("dlpack::as_tensor", a, lent, device);
}

/// A vector as a tensor of one dimension.
///
/// @param a [size] In. The tensor refers to its memory.
/// @param lent Out. Overwritten, as far as one dimension needs it; must live as long as the tensor is used.
/// @param device where the elements are.
/// @throws hoft::shape_error for a negative size.
/// Cost: none in flops; nothing is copied or allocated.
/// Source: DLPack.
template <class T>
requires scalar<T> DLTensor as_tensor(vector_view<T> a, tensor_extents& lent, DLDevice const& device = host) {
  static_assert(!std::is_const_v<T>, "hoft: a DLPack tensor may be written to, and this is a view of constants.");
  return detail::described("dlpack::as_tensor", a, lent, device);
}

/// Calls a managed tensor's deleter, if it has one.
struct release {
  void operator()(DLManagedTensor* tensor) const noexcept {
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  }
};

/// A managed tensor that is given back to its producer in the end. Wrap what a framework hands over, and view
/// `owner->dl_tensor`; `release()` hands one's own over.
using managed_tensor = std::unique_ptr<DLManagedTensor, release>;

namespace detail {

/// A managed tensor beside what it refers to and what keeps its elements.
template <class Managed>
struct held_tensor {
  Managed managed{};
  tensor_extents lent{};
  std::shared_ptr<void const> owner{};

  template <class View>
  held_tensor(char const* function, View a, std::shared_ptr<void const>&& owner_, DLDevice const& device) {
    managed.dl_tensor = described(function, a, lent, device);
    managed.manager_ctx = this;
    managed.deleter = [](Managed* self) { delete static_cast<held_tensor*>(self->manager_ctx); };
    owner = std::move(owner_);
  }
};

}  // namespace detail

/// A view as a tensor that keeps its memory alive until the consumer calls its deleter, on any thread. NumPy 2 makes
/// arrays of it that cannot be written to; `manage_versioned` says that they may be.
///
/// @param a [rows, cols] or [size] In. A matrix_view or vector_view of elements that may be written to.
/// @param owner kept until then; null if somebody else sees to it. A std::shared_ptr<Matrix> will do.
/// @param device where the elements are.
/// @throws hoft::shape_error as `as_tensor` does.
/// Cost: one allocation.
/// Source: DLPack.
template <class View>
managed_tensor manage(View a, std::shared_ptr<void const> owner, DLDevice const& device = host) {
  static_assert(!std::is_const_v<typename View::element_type>,
                "hoft: a DLPack tensor may be written to, and this is a view of constants: manage_versioned says so.");
  auto whole = std::make_unique<detail::held_tensor<DLManagedTensor>>("dlpack::manage", a, std::move(owner), device);
  return managed_tensor(&whole.release()->managed);
}

#if defined(HOFT_DLPACK_VERSIONED)

namespace detail {

/// What can be said of a versioned tensor before its DLTensor is looked at, which another major version may have
/// elsewhere. Flags that are not known say nothing about how elements lie.
template <class T>
void require_usable(char const* function, std::string_view name, DLManagedTensorVersioned const& tensor) {
  auto const part = [&](char const* member) { return std::string(name) + member; };
  if (tensor.version.major != DLPACK_MAJOR_VERSION)
    hoft::detail::refuse<argument_error>(function, part(".version.major").c_str(), std::to_string(tensor.version.major),
                                         "== " + std::to_string(DLPACK_MAJOR_VERSION));
  if (!std::is_const_v<T> && (tensor.flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0)
    hoft::detail::refuse<argument_error>(function, part(".flags").c_str(), "read-only",
                                         "writable for a view that is not one of constants");
}

}  // namespace detail

/// The elements of a versioned tensor as a view, like `as_matrix` and `as_vector` of a DLTensor.
///
/// @tparam T must be const if the tensor may be read-only.
/// @param tensor [rows, cols] or [size] In. What the unique_ptr of a framework's capsule "dltensor_versioned" holds.
/// @throws hoft::argument_error also for another major version of DLPack (its deleter may still be called), and for a
///   read-only tensor unless T is const.
/// Cost: none in flops; nothing is copied or allocated.
/// Source: DLPack 1.0.
template <class T, class Layout>
requires scalar<T> matrix_view<T, Layout> as_matrix(DLManagedTensorVersioned const& tensor,
                                                    DLDevice const& device = host, std::string_view name = "tensor") {
  detail::require_usable<T>("dlpack::as_matrix", name, tensor);
  return as_matrix<T, Layout>(tensor.dl_tensor, device, name);
}
template <class T>
requires scalar<T> vector_view<T> as_vector(DLManagedTensorVersioned const& tensor, DLDevice const& device = host,
                                            std::string_view name = "tensor") {
  detail::require_usable<T>("dlpack::as_vector", name, tensor);
  return as_vector<T>(tensor.dl_tensor, device, name);
}

/// Calls a versioned tensor's deleter, if it has one.
struct release_versioned {
  void operator()(DLManagedTensorVersioned* tensor) const noexcept {
    if (tensor->deleter != nullptr) tensor->deleter(tensor);
  }
};

/// `managed_tensor` for versioned tensors.
using versioned_tensor = std::unique_ptr<DLManagedTensorVersioned, release_versioned>;

/// `manage`, as a tensor that says whether it may be written to: for consumers that know DLPack 1 (in Python those that
/// ask with max_version = (1, 0) or later, for a capsule "dltensor_versioned").
///
/// @param a [rows, cols] or [size] In. A view of constants makes a read-only tensor.
/// @param owner kept until the consumer calls the deleter, on any thread; null if somebody else sees to it.
/// @param device where the elements are.
/// @throws hoft::shape_error as `as_tensor` does.
/// Cost: one allocation.
/// Source: DLPack 1.0.
template <class View>
versioned_tensor manage_versioned(View a, std::shared_ptr<void const> owner, DLDevice const& device = host) {
  auto whole = std::make_unique<detail::held_tensor<DLManagedTensorVersioned>>("dlpack::manage_versioned", a,
                                                                               std::move(owner), device);
  whole->managed.version = {DLPACK_MAJOR_VERSION, DLPACK_MINOR_VERSION};
  whole->managed.flags = std::is_const_v<typename View::element_type> ? DLPACK_FLAG_BITMASK_READ_ONLY : 0;
  return versioned_tensor(&whole.release()->managed);
}

#endif

}  // namespace HOFT_TARGET_NAMESPACE::dlpack

#undef HOFT_DLPACK_VERSIONED
