// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a gzip-compressed IDX file, as they are or compressed here, so that what is inside is reached too: an
// array or data_error, and nothing else. The first byte chooses.
#include "../../examples/finetune_images/idx.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  static int const memory = memfd_create("fuzz", 0);  // a file that no disk sees
  static std::string const path = "/proc/self/fd/" + std::to_string(memory);
  if (size == 0) return 0;
  bool const compressed_here = data[0] % 2 == 1;
  std::size_t const rank = data[0] / 2 % 4;
  ++data, --size;

  if (compressed_here) {
    gzFile const out = gzopen(path.c_str(), "wb1");
    if (out == nullptr) std::abort();
    if (size > 0 && gzwrite(out, data, unsigned(size)) != int(size)) std::abort();
    if (gzclose(out) != Z_OK) std::abort();
  } else if (ftruncate(memory, 0) != 0 || pwrite(memory, data, size, 0) != ssize_t(size)) {
    std::abort();
  }
  try {
    finetune::idx_array const a = finetune::read_idx(path, rank);
    std::size_t const count = std::accumulate(a.extents.begin(), a.extents.end(), std::size_t{1}, std::multiplies<>());
    if (a.extents.size() != rank || a.bytes.size() != count) std::abort();
    if (compressed_here && (count > size || std::memcmp(a.bytes.data(), data + size - count, count) != 0)) std::abort();
  } catch (finetune::data_error const&) {
  }
  return 0;
}
