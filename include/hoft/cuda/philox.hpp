// hoft/cuda/philox.hpp: random numbers by counter, the same on either side, whoever asks for them and in what order.
#pragma once
#include <hoft/config.hpp>
#include <hoft/cuda/abi.hpp>

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace HOFT_CUDA_NAMESPACE {

/// 128 bits, as a counter or as what is drawn at it.
struct philox_block {
  std::uint32_t word[4];
};

/// Philox4x32-10 at a counter. curand_init(key, c.word[2..3], 4 c.word[0..1]) on cuRAND's generator of that name draws
/// the same. Source: Salmon, Moraes, Dror, Shaw, SC 2011.
HOFT_HOST_DEVICE constexpr philox_block philox(philox_block c, std::uint64_t key) {
  std::uint32_t low = std::uint32_t(key), high = std::uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const a = std::uint64_t(0xD2511F53u) * c.word[0], b = std::uint64_t(0xCD9E8D57u) * c.word[2];
    c = {{std::uint32_t(b >> 32) ^ c.word[1] ^ low, std::uint32_t(b), std::uint32_t(a >> 32) ^ c.word[3] ^ high,
          std::uint32_t(a)}};
    low += 0x9E3779B9u;
    high += 0xBB67AE85u;
  }
  return c;
}

/// Independent standard Gaussian numbers from one draw: 4 floats, of 32 bits each, or 2 doubles, of 64.
template <class R>
struct normal_numbers {
  static_assert(std::is_same_v<R, float> || std::is_same_v<R, double>);
  static constexpr int count = std::is_same_v<R, float> ? 4 : 2;
  R value[count];
};

/// By Box and Muller: √(−2 ln a) (cos 2πb, sin 2πb), with a in (0, 1] and b in [0, 1] to the precision of R.
template <class R>
HOFT_HOST_DEVICE normal_numbers<R> normals(philox_block const& drawn) {
  using std::cos, std::log, std::sin, std::sqrt;
  constexpr R turn = R(6.283185307179586476925286766559);
  auto const uniform = [&](int which) {
    if constexpr (std::is_same_v<R, float>) return (float(drawn.word[which]) + 0.5f) * 0x1p-32f;
    else return (double(std::uint64_t(drawn.word[2 * which + 1]) << 32 | drawn.word[2 * which]) + 0.5) * 0x1p-64;
  };
  normal_numbers<R> numbers;
  for (int i = 0; i < normal_numbers<R>::count; i += 2) {
    R const radius = sqrt(R(-2) * log(uniform(i))), angle = turn * uniform(i + 1);
    numbers.value[i] = radius * cos(angle);
    numbers.value[i + 1] = radius * sin(angle);
  }
  return numbers;
}

}  // namespace HOFT_CUDA_NAMESPACE
