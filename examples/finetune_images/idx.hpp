// SPDX-License-Identifier: BSD-3-Clause
// idx.hpp: reads the gzip-compressed IDX files in which MNIST and its relatives are distributed.
#pragma once
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace finetune {

/// A data file is missing or damaged.
struct data_error : std::runtime_error {
  data_error(std::filesystem::path const& file, std::string const& trouble)
      : std::runtime_error(file.string() + ": " + trouble +
                           "\nDebian's package brings this file: apt-get install dataset-fashion-mnist "
                           "(if it is damaged: apt-get install --reinstall dataset-fashion-mnist)") {}
};

/// An array of bytes with its extents, the slowest first.
struct idx_array {
  std::vector<std::size_t> extents;
  std::vector<std::uint8_t> bytes;
};

/// Reads an IDX file of unsigned bytes with `rank` extents.
/// The format: two zero bytes, the element type (8 = unsigned byte), the number of extents, each extent as a
/// big-endian 32-bit integer, then the elements.
/// @throws data_error if the file is missing, truncated, fails its checksum or holds something else.
inline idx_array read_idx(std::filesystem::path const& path, std::size_t rank) {
  if (!std::filesystem::is_regular_file(path)) throw data_error(path, "no such file");
  errno = 0;
  std::unique_ptr<gzFile_s, decltype(&gzclose)> const file(gzopen(path.c_str(), "rb"), &gzclose);
  if (!file) throw data_error(path, std::string("cannot be opened: ") + (errno ? std::strerror(errno) : "no memory"));
  if (gzdirect(file.get())) throw data_error(path, "is not a gzip file");

  // At most `count` bytes; fewer only at the end of the file. zlib's own count is 32 bits wide.
  auto const read = [&](std::uint8_t* into, std::size_t count) {
    std::size_t done = 0;
    while (done < count) {
      constexpr std::size_t most = std::size_t{1} << 30;
      int const got = gzread(file.get(), into + done, static_cast<unsigned>(std::min(count - done, most)));
      if (got < 0) throw data_error(path, "is damaged: it does not decompress");
      if (got == 0) break;
      done += static_cast<std::size_t>(got);
    }
    return done;
  };
  auto const require = [&](bool good, char const* trouble) {
    if (!good) throw data_error(path, trouble);
  };

  std::array<std::uint8_t, 4> magic{};
  require(read(magic.data(), 4) == 4, "is truncated in its header");
  require(magic[0] == 0 && magic[1] == 0 && magic[2] == 8, "is not an IDX file of unsigned bytes");
  require(magic[3] == rank, "has the wrong number of extents for an IDX file of its name");

  idx_array result;
  std::size_t size = 1;
  for (std::size_t i = 0; i < rank; ++i) {
    std::array<std::uint8_t, 4> e{};
    require(read(e.data(), 4) == 4, "is truncated in its header");
    std::size_t const extent = std::size_t{e[0]} << 24 | std::size_t{e[1]} << 16 | std::size_t{e[2]} << 8 | e[3];
    constexpr std::size_t sane = std::size_t{1} << 32;
    require(extent > 0 && size <= sane / extent, "is damaged: its header holds an impossible extent");
    size *= extent;
    result.extents.push_back(extent);
  }
  // Memory grows with what is there: a damaged header must not ask for all of it.
  while (result.bytes.size() < size) {
    std::size_t const before = result.bytes.size(),
                      more = std::min(size - before, std::max(before, std::size_t{1} << 16));
    result.bytes.resize(before + more);
    require(read(result.bytes.data() + before, more) == more, "is truncated");
  }
  std::uint8_t beyond = 0;  // reading past the last element also makes zlib compare the checksum
  require(read(&beyond, 1) == 0, "is longer than its header says");
  return result;
}

}  // namespace finetune
