// SPDX-License-Identifier: BSD-3-Clause
// The C functions by which dlpack_judges.py hands DLPack tensors of other libraries to hoft, and takes hoft's.
#include <hoft/view/eigen.hpp>
#include <hoft/view/dlpack.hpp>

#include <complex>
#include <cstdio>
#include <exception>
#include <memory>
#include <string_view>
#include <vector>

namespace {

using namespace hoft;

int alive = 0;

/// Elements as bytes, so that any pattern of bits passes unchanged.
template <class View>
void copy_rows(View const& from, void* to) {
  auto* next = static_cast<typename View::value_type*>(to);
  for (index_t i = 0; i < from.rows; ++i)
    for (index_t j = 0; j < from.cols; ++j) std::memcpy(next++, &from(i, j), sizeof(from(i, j)));
}

template <class T>
struct numbers {
  explicit numbers(index_t count) : elements(std::size_t(count)) { ++alive; }
  numbers(numbers const&) = delete;
  ~numbers() { --alive; }
  std::vector<T> elements;
};

/// How a tensor is handed over.
enum class capsule : int { plain, versioned, read_only };

template <class T, class Layout>
void* made(capsule how, index_t rows, index_t cols, index_t padding, void const* from) {
  bool const col = std::same_as<Layout, col_major>;
  index_t const ld = (col ? rows : cols) + padding;
  auto owner = std::make_shared<numbers<T>>(ld * (col ? cols : rows) + 1);
  matrix_view<T, Layout> const a(owner->elements.data(), rows, cols, ld);
  auto const* next = static_cast<T const*>(from);
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < cols; ++j) std::memcpy(&a(i, j), next++, sizeof(T));
  if (how == capsule::plain) return dlpack::manage(a, owner).release();
  if (how == capsule::versioned) return dlpack::manage_versioned(a, owner).release();
  return dlpack::manage_versioned(matrix_view<T const, Layout>(a), owner).release();
}

/// f.template operator()<T, Layout>() for the type and layout of these names.
template <class F>
void with(std::string_view type, bool col, F const& f) {
  auto const of_type = [&]<class T>() {
    if (col) f.template operator()<T, col_major>();
    else f.template operator()<T, row_major>();
  };
  if (type == "float32") of_type.template operator()<float>();
  if (type == "float64") of_type.template operator()<double>();
  if (type == "complex64") of_type.template operator()<std::complex<float>>();
  if (type == "complex128") of_type.template operator()<std::complex<double>>();
  if (type == "float16") of_type.template operator()<Eigen::half>();
  if (type == "bfloat16") of_type.template operator()<Eigen::bfloat16>();
}

}  // namespace

extern "C" {

/// Copies the tensor's elements row by row. Says why not in `message`, which is empty otherwise.
void read_matrix(void const* tensor, capsule how, char const* type, int col, void* to, char* message,
                 std::size_t room) {
  *message = '\0';
  with(type, col != 0, [&]<class T, class Layout>() {
    try {
      auto const* const versioned = static_cast<DLManagedTensorVersioned const*>(tensor);
      copy_rows(how == capsule::plain
                    ? dlpack::as_matrix<T const, Layout>(static_cast<DLManagedTensor const*>(tensor)->dl_tensor)
                    : dlpack::as_matrix<T const, Layout>(*versioned),
                to);
      if (how == capsule::versioned) dlpack::as_matrix<T, Layout>(*versioned);  // where it must be writable
    } catch (std::exception const& error) {
      std::snprintf(message, room, "%s", error.what());
    }
  });
}

void read_vector(void const* tensor, capsule how, char const* type, void* to, char* message, std::size_t room) {
  *message = '\0';
  with(type, false, [&]<class T, class>() {
    try {
      auto const a = how == capsule::plain
                         ? dlpack::as_vector<T const>(static_cast<DLManagedTensor const*>(tensor)->dl_tensor)
                         : dlpack::as_vector<T const>(*static_cast<DLManagedTensorVersioned const*>(tensor));
      copy_rows(matrix_view<T const>(a.data, a.size, 1), to);
    } catch (std::exception const& error) {
      std::snprintf(message, room, "%s", error.what());
    }
  });
}

/// A matrix of hoft's, with the elements that lie row by row at `from`.
void* make_matrix(capsule how, char const* type, int col, long rows, long cols, long padding, void const* from) {
  void* tensor = nullptr;
  with(type, col != 0, [&]<class T, class Layout>() { tensor = made<T, Layout>(how, rows, cols, padding, from); });
  return tensor;
}

/// Matrices of make_matrix that nobody has given back.
int matrices_alive() { return alive; }
}
