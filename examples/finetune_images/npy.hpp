// npy.hpp: float matrices in NumPy's .npy format (version 1.0), so that other programs read the trained network.
#pragma once
#include <Eigen/Core>

#include <bit>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace finetune {

static_assert(std::endian::native == std::endian::little, "the header below says little-endian");

/// The bytes before the elements: magic, version, length of the dictionary, dictionary padded to a multiple of 64.
/// Elements follow in Fortran order, which is Eigen's.
inline std::string npy_header(Eigen::Index rows, Eigen::Index cols) {
  std::string dictionary = "{'descr': '<f4', 'fortran_order': True, 'shape': (" + std::to_string(rows) + ", " +
                           std::to_string(cols) + "), }";
  constexpr std::size_t prefix = 10;
  while ((prefix + dictionary.size() + 1) % 64 != 0) dictionary += ' ';
  dictionary += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(dictionary.size() & 0xff);
  header += static_cast<char>(dictionary.size() >> 8);
  return header + dictionary;
}

inline void save_npy(std::filesystem::path const& path, Eigen::MatrixXf const& a) {
  std::ofstream file(path, std::ios::binary);
  std::string const header = npy_header(a.rows(), a.cols());
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  file.write(reinterpret_cast<char const*>(a.data()), a.size() * std::streamsize{sizeof(float)});
  if (!file.flush()) throw std::runtime_error(path.string() + ": cannot be written");
}

/// Reads what `save_npy` wrote; the shape is known beforehand, and any other header is refused.
inline Eigen::MatrixXf load_npy(std::filesystem::path const& path, Eigen::Index rows, Eigen::Index cols) {
  std::ifstream file(path, std::ios::binary);
  std::string const expected = npy_header(rows, cols);
  std::string header(expected.size(), '\0');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  Eigen::MatrixXf a(rows, cols);
  file.read(reinterpret_cast<char*>(a.data()), a.size() * std::streamsize{sizeof(float)});
  if (!file || header != expected || file.peek() != std::ifstream::traits_type::eof())
    throw std::runtime_error(path.string() + ": is not the .npy matrix that was saved");
  return a;
}

}  // namespace finetune
