// SPDX-License-Identifier: BSD-3-Clause
// npy.hpp: matrices of real numbers in NumPy's .npy format, versions 1.0 to 3.0.
#pragma once
#include <Eigen/Core>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <istream>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace npy {

static_assert(std::endian::native == std::endian::little, "elements are read and written as they lie in memory");

/// A file is missing, damaged, or holds something else.
struct error : std::runtime_error {
  error(std::string const& file, std::string const& trouble) : std::runtime_error(file + ": " + trouble) {}
};

/// The elements, exactly, in double, whatever type and order they were stored in.
struct matrix {
  Eigen::MatrixXd elements;
  std::string type;  ///< that they were stored in: float16, float32 or float64
};

namespace detail {

/// What a header says.
struct description {
  std::string type;
  bool columns_first = false;
  std::vector<std::ptrdiff_t> shape;
};

/// A reader of the header's text, which is a Python dictionary of three known keys.
class header_parser {
 public:
  /// @param long_suffix whether Python 2's long numbers, 6L, may be there: NumPy reads them up to version 2.0.
  header_parser(std::string const& file, std::string_view text, bool long_suffix)
      : file_(file), rest_(text), long_suffix_(long_suffix) {}

  description parse() {
    description d;
    bool has_type = false, has_order = false, has_shape = false;
    auto const once = [&](bool& has) { require(!std::exchange(has, true), "has a header with the same key twice"); };
    expect('{');
    while (!next_is('}')) {
      std::string const key = quoted();
      expect(':');
      if (key == "descr") once(has_type), d.type = element_type();
      else if (key == "fortran_order") once(has_order), d.columns_first = truth();
      else if (key == "shape") once(has_shape), d.shape = extents();
      else fail();
      if (!next_is(',')) {
        expect('}');
        break;
      }
    }
    skip_blanks();
    if (!rest_.empty() || !has_type || !has_order || !has_shape) fail();
    return d;
  }

 private:
  [[noreturn]] void fail() const { throw error(file_, "has a header that is not understood"); }
  void require(bool good, char const* trouble) const {
    if (!good) throw error(file_, trouble);
  }
  void skip_blanks() { rest_.remove_prefix(std::min(rest_.find_first_not_of(" \t\r\n"), rest_.size())); }
  bool next_is(char c) {
    skip_blanks();
    if (rest_.empty() || rest_.front() != c) return false;
    rest_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!next_is(c)) fail();
  }
  /// A short string without escapes, and without what would disturb a message that quotes it.
  std::string quoted() {
    if (!next_is('u')) next_is('U');  // of a Python 2 string, and without effect
    if (rest_.empty() || (rest_.front() != '\'' && rest_.front() != '"')) fail();
    std::size_t const end = rest_.find(rest_.front(), 1);
    if (end == rest_.npos || end > 40) fail();
    std::string const text(rest_.substr(1, end - 1));
    if (!std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~' && c != '\\'; })) fail();
    rest_.remove_prefix(end + 1);
    return text;
  }
  std::string element_type() {
    skip_blanks();
    require(!rest_.starts_with('['), "holds records; a matrix of '<f2', '<f4' or '<f8' is expected");
    return quoted();
  }
  bool truth() {
    skip_blanks();
    for (bool const value : {true, false})
      if (std::string_view const word = value ? "True" : "False"; rest_.starts_with(word)) {
        rest_.remove_prefix(word.size());
        return value;
      }
    fail();
  }
  std::vector<std::ptrdiff_t> extents() {
    std::vector<std::ptrdiff_t> shape;
    expect('(');
    while (!next_is(')')) {
      skip_blanks();
      std::ptrdiff_t extent = -1;
      auto const [end, trouble] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), extent);
      require(trouble != std::errc::result_out_of_range, "has an extent that no memory can hold");
      if (trouble != std::errc{} || (rest_.front() == '0' && end - rest_.data() > 1)) fail();  // 010 was 8 in Python 2
      require(extent >= 0, "has a negative extent");
      rest_.remove_prefix(std::size_t(end - rest_.data()));
      if (long_suffix_) next_is('L');
      shape.push_back(extent);
      if (!next_is(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }

  std::string const& file_;
  std::string_view rest_;
  bool long_suffix_;
};

/// Bytes of an element of this type, in any of the forms that NumPy reads as a little-endian float16, float32 or
/// float64: a byte order (native ones are little-endian here) and a code, or a name. 0: it is none of them.
inline Eigen::Index element_size(std::string_view type) {
  constexpr std::pair<std::string_view, Eigen::Index> names[] = {
      {"float16", 2}, {"half", 2}, {"float32", 4}, {"single", 4}, {"float64", 8}, {"double", 8}, {"float", 8}};
  for (auto const& [name, size] : names)
    if (type == name) return size;
  if (type.starts_with('<') || type.starts_with('=') || type.starts_with('|')) type.remove_prefix(1);
  constexpr std::pair<std::string_view, Eigen::Index> codes[] = {{"f2", 2}, {"f4", 4}, {"f8", 8},
                                                                 {"e", 2},  {"f", 4},  {"d", 8}};
  for (auto const& [code, size] : codes)
    if (type == code) return size;
  return 0;
}

/// Exactly `size` bytes. Memory grows with what is there: a damaged header must not ask for all of it.
inline std::string read_bytes(std::istream& in, std::string const& file, std::size_t size, char const* what) {
  std::string bytes;
  while (bytes.size() < size) {
    std::size_t const before = bytes.size(), more = std::min(size - before, std::max(before, std::size_t{1} << 16));
    bytes.resize(before + more);
    in.read(bytes.data() + before, std::streamsize(more));
    std::size_t const got = before + std::size_t(in.gcount());
    if (got != bytes.size())
      throw error(file, "is truncated: its " + std::string(what) + " should have " + std::to_string(size) +
                            " bytes and has " + std::to_string(got));
  }
  return bytes;
}

template <class T>
Eigen::MatrixXd decoded(std::string const& bytes, Eigen::Index rows, Eigen::Index cols, bool columns_first) {
  Eigen::MatrixXd a(rows, cols);
  if (bytes.empty()) return a;  // the other extent may be anything: none must walk along it
  char const* next = bytes.data();
  auto const element = [&] {
    T x;
    std::memcpy(&x, next, sizeof x);
    next += sizeof x;
    return static_cast<double>(x);
  };
  if (columns_first)
    for (Eigen::Index j = 0; j < cols; ++j)
      for (Eigen::Index i = 0; i < rows; ++i) a(i, j) = element();
  else
    for (Eigen::Index i = 0; i < rows; ++i)
      for (Eigen::Index j = 0; j < cols; ++j) a(i, j) = element();
  return a;
}

}  // namespace detail

/// Reads a matrix from a stream, to its end.
/// The format: "\x93NUMPY", major and minor version, the length of the header (16 bits in version 1, else 32), the
/// header, the elements.
/// @param file the stream's name in messages.
/// @throws npy::error if the stream is truncated, goes on behind the last element, or holds anything but a
///   two-dimensional array of little-endian float16, float32 or float64.
inline matrix read(std::istream& in, std::string const& file) {
  auto const require = [&](bool good, std::string const& trouble) {
    if (!good) throw error(file, trouble);
  };
  std::string const start = detail::read_bytes(in, file, 8, "start");
  require(start.starts_with("\x93NUMPY"), "is no .npy file");
  int const major = static_cast<unsigned char>(start[6]), minor = static_cast<unsigned char>(start[7]);
  require(major >= 1 && major <= 3 && minor == 0, "has version " + std::to_string(major) + '.' + std::to_string(minor) +
                                                      " of the .npy format; 1.0, 2.0 and 3.0 are known");
  std::size_t length = 0;
  std::string const digits = detail::read_bytes(in, file, major == 1 ? 2 : 4, "header's length");
  for (std::size_t i = digits.size(); i-- > 0;) length = length << 8 | static_cast<unsigned char>(digits[i]);
  require(length < std::size_t{1} << 16, "has a header of " + std::to_string(length) + " bytes, too long for a matrix");
  detail::description const d =
      detail::header_parser(file, detail::read_bytes(in, file, length, "header"), major < 3).parse();

  Eigen::Index const size = detail::element_size(d.type);
  require(size > 0, "holds elements of type '" + d.type + "'; '<f2', '<f4' and '<f8' are known");
  std::size_t const rank = d.shape.size();
  require(rank == 2, "has " + std::to_string(rank) + (rank == 1 ? " dimension" : " dimensions") + "; a matrix has 2");
  Eigen::Index const rows = d.shape[0], cols = d.shape[1];
  require(rows == 0 || cols <= std::numeric_limits<Eigen::Index>::max() / Eigen::Index(sizeof(double)) / rows,
          "has " + std::to_string(rows) + " x " + std::to_string(cols) + " elements, more than memory can hold");
  std::string const bytes = detail::read_bytes(in, file, std::size_t(rows * cols * size), "elements");
  require(in.peek() == std::istream::traits_type::eof(), "goes on behind its last element");
  if (size == 2) return {detail::decoded<Eigen::half>(bytes, rows, cols, d.columns_first), "float16"};
  if (size == 4) return {detail::decoded<float>(bytes, rows, cols, d.columns_first), "float32"};
  return {detail::decoded<double>(bytes, rows, cols, d.columns_first), "float64"};
}

/// Reads a matrix from a file. @throws npy::error also if it cannot be opened.
inline matrix load(std::filesystem::path const& path) {
  std::error_code unknown;
  if (std::filesystem::is_directory(path, unknown)) throw error(path.string(), "is a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw error(path.string(), std::string("cannot be opened: ") + std::strerror(errno));
  return read(file, path.string());
}

/// Writes a matrix of floats, in version 1.0 and Fortran order, which is Eigen's. @throws npy::error if it cannot.
inline void save(std::filesystem::path const& path, Eigen::MatrixXf const& a) {
  std::string header = "{'descr': '<f4', 'fortran_order': True, 'shape': (" + std::to_string(a.rows()) + ", " +
                       std::to_string(a.cols()) + "), }";
  constexpr std::size_t prefix = 10;  // elements start at a multiple of 64
  header.append(63 - (prefix + header.size()) % 64, ' ');
  header += '\n';
  std::ofstream file(path, std::ios::binary);
  file.write("\x93NUMPY\x01\x00", 8);
  file.put(static_cast<char>(header.size() & 0xff)).put(static_cast<char>(header.size() >> 8));
  file.write(header.data(), std::streamsize(header.size()));
  file.write(reinterpret_cast<char const*>(a.data()), a.size() * std::streamsize{sizeof(float)});
  if (!file.flush()) throw error(path.string(), "cannot be written");
}

}  // namespace npy
