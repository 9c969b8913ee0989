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

template <class T, class Layout>
DLManagedTensor* made(index_t rows, index_t cols, index_t padding, void const* from) {
  bool const col = std::same_as<Layout, col_major>;
  index_t const ld = (col ? rows : cols) + padding;
  auto owner = std::make_shared<numbers<T>>(ld * (col ? cols : rows) + 1);
  matrix_view<T, Layout> const a(owner->elements.data(), rows, cols, ld);
  auto const* next = static_cast<T const*>(from);
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < cols; ++j) std::memcpy(&a(i, j), next++, sizeof(T));
  return dlpack::manage(a, owner).release();
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
void read_matrix(DLManagedTensor const* tensor, char const* type, int col, void* to, char* message, std::size_t room) {
  *message = '\0';
  with(type, col != 0, [&]<class T, class Layout>() {
    try {
      copy_rows(dlpack::as_matrix<T const, Layout>(tensor->dl_tensor), to);
    } catch (std::exception const& error) {
      std::snprintf(message, room, "%s", error.what());
    }
  });
}

void read_vector(DLManagedTensor const* tensor, char const* type, void* to, char* message, std::size_t room) {
  *message = '\0';
  with(type, false, [&]<class T, class>() {
    try {
      auto const a = dlpack::as_vector<T const>(tensor->dl_tensor);
      copy_rows(matrix_view<T const>(a.data, a.size, 1), to);
    } catch (std::exception const& error) {
      std::snprintf(message, room, "%s", error.what());
    }
  });
}

/// A matrix of hoft's, with the elements that lie row by row at `from`.
DLManagedTensor* make_matrix(char const* type, int col, long rows, long cols, long padding, void const* from) {
  DLManagedTensor* tensor = nullptr;
  with(type, col != 0, [&]<class T, class Layout>() { tensor = made<T, Layout>(rows, cols, padding, from); });
  return tensor;
}

/// Matrices of make_matrix that nobody has given back.
int matrices_alive() { return alive; }
}
