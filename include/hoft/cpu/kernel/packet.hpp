// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/packet.hpp: the vectors that the kernels are written in. Eigen's packets make one source serve SSE,
// AVX2, AVX-512 and NEON; what they lack stands here.
#pragma once
#include <hoft/core/scalar.hpp>
#include <hoft/view/matrix_view.hpp>

#include <Eigen/Core>

#include <concepts>
#include <cstdint>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

template <class T>
using packet = typename Eigen::internal::packet_traits<T>::type;
template <class T>
inline constexpr int lanes = Eigen::internal::unpacket_traits<packet<T>>::size;

/// Whether there are 32 registers for vectors, not 16.
inline constexpr bool many_registers = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32;

/// Vectors of accumulators along one side of a register tile; `tile_cols` along the other. 4 x 6 accumulators, 4
/// operands and one broadcast fill 32 registers, 2 x 6 fill 16. Complex products need registers of their own.
template <class T>
inline constexpr int tile_vectors = many_registers && !is_complex<T> ? 4 : 2;
inline constexpr int tile_cols = 6;

template <class T>
EIGEN_ALWAYS_INLINE packet<T> load(T const* from) {
  return Eigen::internal::ploadu<packet<T>>(from);
}
/// The first `count` elements, zeros behind them; nothing beyond is read.
template <class T>
EIGEN_ALWAYS_INLINE packet<T> load_part(T const* from, index_t count) {
#if defined(EIGEN_VECTORIZE_AVX512)
  if constexpr (std::same_as<T, float>) return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
  else if constexpr (std::same_as<T, double>)
    return _mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1), from);
  else
#endif
  {
    alignas(64) T part[lanes<T>] = {};
    for (index_t i = 0; i < count; ++i) part[i] = from[i];
    return load<T>(part);
  }
}
/// Stores the first `count` elements; nothing beyond is written.
template <class T>
EIGEN_ALWAYS_INLINE void store_part(T* to, packet<T> p, index_t count) {
#if defined(EIGEN_VECTORIZE_AVX512)
  if constexpr (std::same_as<T, float>) _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), p);
  else if constexpr (std::same_as<T, double>) _mm512_mask_storeu_pd(to, static_cast<__mmask8>((1u << count) - 1), p);
  else
#endif
  {
    alignas(64) T part[lanes<T>];
    Eigen::internal::pstoreu(part, p);
    for (index_t i = 0; i < count; ++i) to[i] = part[i];
  }
}
template <class T>
EIGEN_ALWAYS_INLINE packet<T> broadcast(T value) {
  return Eigen::internal::pset1<packet<T>>(value);
}
template <class T>
EIGEN_ALWAYS_INLINE packet<T> zero() {
  return broadcast(T(0));
}

/// Whether pmadd rounds once.
template <class T>
inline constexpr bool has_fused =
#if defined(EIGEN_VECTORIZE_FMA) || defined(__ARM_FEATURE_FMA)
    lanes<T> > 1 && (std::same_as<T, float> || std::same_as<T, double>);
#else
    false;
#endif

/// Quotients by one number, rounded as by a division, in less than half of its time: 1 / divisor in two parts gives one
/// of the two nearest numbers, and the remainder tells which (Brisebarre, Muller, Raina 2004). The divisor and its
/// inverse are normal numbers, and no quotient overflows. A remainder that is subnormal or flushed to zero may cost the
/// last bit, and −0 becomes 0.
template <class T>
class quotient {
 public:
  explicit quotient(T divisor)
      : minus_divisor_(broadcast(-divisor)),
        inverse_(broadcast(T(1) / divisor)),
        rest_(Eigen::internal::pmul(Eigen::internal::pmadd(minus_divisor_, inverse_, broadcast(T(1))), inverse_)) {}
  EIGEN_ALWAYS_INLINE packet<T> operator()(packet<T> const& a) const {
    using namespace Eigen::internal;
    packet<T> const about = pmadd(a, inverse_, pmul(a, rest_)), remainder = pmadd(about, minus_divisor_, a);
    return pmadd(remainder, inverse_, about);
  }

 private:
  packet<T> minus_divisor_, inverse_, rest_;
};

/// Keeps a loaded vector in its register. Compilers fold a load into every multiply-add that uses it otherwise, and the
/// load ports become the limit. `volatile` keeps loads in the order of the code: otherwise compilers load many vectors
/// ahead, and spill the accumulators.
template <class T>
EIGEN_ALWAYS_INLINE void keep_in_register([[maybe_unused]] packet<T>& p) {
#if defined(__GNUC__)
  if constexpr (std::same_as<T, float> || std::same_as<T, double>) {
#if EIGEN_ARCH_i386_OR_x86_64
    __asm__ volatile("" : "+v"(p));
#elif EIGEN_ARCH_ARM64
    __asm__ volatile("" : "+w"(p));
#endif
  }
#endif
}

/// Asks for the cache line of an element that will be read soon, into the second level.
template <class T>
EIGEN_ALWAYS_INLINE void prefetch([[maybe_unused]] T const* element) {
#if defined(__GNUC__)
  __builtin_prefetch(element, 0, 2);
#endif
}

/// Bytes from which a matrix counts as one that does not stay in the caches from one walk to the next.
inline constexpr index_t leaves_caches = index_t{1} << 23;

/// Columns that will be read soon, beside those that a product reads now.
template <class T>
struct prefetched {
  static constexpr index_t line = index_t{64} / index_t(sizeof(T));  ///< elements of a cache line
  T const* data = nullptr;
  index_t ld = 0, cols = 0;
  prefetched at(index_t i, index_t j) const {  // the ld of a single column may be any number
    return j < cols ? prefetched{data + i + j * ld, ld, cols - j} : prefetched{};
  }
};

/// Whether vectors can be stored past the caches, which saves reading lines that are to be overwritten.
template <class T>
inline constexpr bool has_stream =
#if defined(EIGEN_VECTORIZE_SSE2)
    std::same_as<T, float> || std::same_as<T, double>;
#else
    false;
#endif

/// Stores past the caches; `to` is aligned to a whole vector.
template <class T>
EIGEN_ALWAYS_INLINE void stream(T* to, packet<T> p) {
#if defined(EIGEN_VECTORIZE_AVX512)
  if constexpr (std::same_as<T, float>) return _mm512_stream_ps(to, p);
  if constexpr (std::same_as<T, double>) return _mm512_stream_pd(to, p);
#elif defined(EIGEN_VECTORIZE_AVX)
  if constexpr (std::same_as<T, float>) return _mm256_stream_ps(to, p);
  if constexpr (std::same_as<T, double>) return _mm256_stream_pd(to, p);
#elif defined(EIGEN_VECTORIZE_SSE2)
  if constexpr (std::same_as<T, float>) return _mm_stream_ps(to, p);
  if constexpr (std::same_as<T, double>) return _mm_stream_pd(to, p);
#endif
  Eigen::internal::pstoreu(to, p);
}
/// Orders streamed stores before what follows, as another thread sees it.
inline void finish_streams() {
#if defined(EIGEN_VECTORIZE_SSE2)
  _mm_sfence();
#endif
}
template <class T>
bool is_vector_aligned(T const* p) {
  return reinterpret_cast<std::uintptr_t>(p) % sizeof(packet<T>) == 0;
}

template <bool Conj, class T>
EIGEN_ALWAYS_INLINE T conj_if(T const& a) {
  if constexpr (Conj) return Eigen::internal::pconj(a);
  else return a;
}

/// A matrix by its first element and two strides: the operand that is read element by element.
template <class T>
struct strided {
  T* data = nullptr;
  index_t row = 0, col = 0;
  T& operator()(index_t i, index_t j) const { return data[i * row + j * col]; }
  strided at(index_t i, index_t j) const { return {data == nullptr ? data : data + i * row + j * col, row, col}; }
};
template <class T, class Layout>
strided<T> as_strided(matrix_view<T, Layout> a) {
  if constexpr (a.is_col_major) return {a.data, 1, a.ld};
  else return {a.data, a.ld, 1};
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
