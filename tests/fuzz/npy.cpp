// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a .npy file: a matrix or npy::error, and nothing else.
#include "../../examples/npy.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  std::istringstream file(std::string(reinterpret_cast<char const*>(data), size));
  npy::matrix a;
  try {
    a = npy::read(file, "fuzz.npy");
  } catch (npy::error const&) {
    return 0;
  }
  // The elements are the file's last bytes, in one order or the other.
  std::size_t const bytes = std::size_t(a.elements.size()) * (a.type == "float16" ? 2 : a.type == "float32" ? 4 : 8);
  if (bytes > size) std::abort();
  if (bytes == 0 || a.type != "float64") return 0;
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> const rows = a.elements;
  bool const columns_first = std::memcmp(a.elements.data(), data + size - bytes, bytes) == 0;
  if (!columns_first && std::memcmp(rows.data(), data + size - bytes, bytes) != 0) std::abort();
  return 0;
}
