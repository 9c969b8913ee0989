// SPDX-License-Identifier: BSD-3-Clause
// What all parts share: short names of integers, the options of the environment, and how faults are told.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace emu {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
__extension__ using s128 = __int128;
__extension__ using u128 = unsigned __int128;

inline constexpr u32 full_warp = 0xFFFFFFFFu;

enum class schedule { forward, reverse, random };

/// Read once from the environment; README.md tells what they mean.
struct options {
  bool uninitialised = true, races = true, lanes_race = true, unwaited = true, global_uninitialised = true;
  schedule order = schedule::forward;
  u64 seed = 1;
  bool lanes_alone = false;  ///< one lane at a time instead of all that stand at the same instruction
  bool truncate_mma = false;
  bool eager = false;  ///< work is done when it is submitted, not when somebody waits for it
  int threads = 1;
  std::size_t memory = std::size_t{3} << 30;
  std::string report;  ///< file of JSON lines
  bool report_lines = false;
  bool trace = false;
  int most_reports = 40;  ///< that are printed
  int processors = 132;   ///< a smaller device makes every block do more of the work
  static options const& get();
};
extern options const all_options;  ///< set before the program's own statics
inline options const& options::get() { return all_options; }

/// Something that a device refuses or that is undefined: the launch ends with this CUDA error.
struct fault : std::runtime_error {
  int error;
  fault(int error_, std::string const& what) : std::runtime_error(what), error(error_) {}
};

/// Errors of faults, as CUDA numbers them.
inline constexpr int launch_failure = 719;
inline constexpr int illegal_address = 700, illegal_instruction = 715, misaligned_address = 716;

/// The tool has no such thing; never the program's fault.
struct unsupported : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Findings that do not end a launch, and those that do. Each is printed once for a place and counted.
class findings {
 public:
  static findings& get();
  void add(std::string const& kind, std::string const& place, std::string const& what);
  u64 count() const { return count_; }
  void summary();

 private:
  std::mutex mutex_;
  std::map<std::string, std::pair<u64, std::string>> known_;
  u64 count_ = 0;
  int printed_ = 0;
};

std::string format(char const* pattern, ...) __attribute__((format(printf, 1, 2)));

}  // namespace emu
