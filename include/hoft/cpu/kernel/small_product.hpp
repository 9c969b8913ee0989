// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/small_product.hpp: the product with the triangular factor of few reflectors, whose columns stay in
// registers while the columns of a panel pass.
#pragma once
#include <hoft/cpu/kernel/packet.hpp>

#include <Eigen/Core>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel {

/// Aᵀ for A [r, r], by squares that are turned in registers, in columns of r elements.
template <class P, class T>
void turn_factor(index_t r, T const* a, index_t lda, T* turned) {
  constexpr int lane = Eigen::internal::unpacket_traits<P>::size;
  for (index_t i = 0; i < r; i += lane)
    for (index_t j = 0; j < r; j += lane) {
      Eigen::internal::PacketBlock<P, lane> square;
      for (int v = 0; v < lane; ++v) square.packet[v] = Eigen::internal::ploadu<P>(a + i + (j + v) * lda);
      Eigen::internal::ptranspose(square);
      for (int v = 0; v < lane; ++v) Eigen::internal::pstoreu(turned + j + (i + v) * r, square.packet[v]);
    }
}

/// C := alpha A B, or added to C, for the rows of one vector and R columns of A, which stay in registers. Two sums side
/// by side, since each step of one waits for the step before.
template <int R, bool Adds, class P, class T>
EIGEN_DONT_INLINE void kept_product(index_t n, T alpha, T const* a, index_t lda, T const* b, index_t ldb, T* c,
                                    index_t ldc) {
  using namespace Eigen::internal;
  static_assert(R % 2 == 0);
  P column[R];
  HOFT_UNROLL
  for (int l = 0; l < R; ++l) column[l] = pmul(pset1<P>(alpha), ploadu<P>(a + l * lda));
  for (index_t j = 0; j < n; ++j) {  // the stride of a single column may be any number
    T const* const from = b + j * ldb;
    T* const to = c + j * ldc;
    P even = pmul(column[0], pset1<P>(from[0])), odd = pmul(column[1], pset1<P>(from[1]));
    HOFT_UNROLL
    for (int l = 2; l < R; l += 2) {
      even = pmadd(column[l], pset1<P>(from[l]), even);
      odd = pmadd(column[l + 1], pset1<P>(from[l + 1]), odd);
    }
    P const sum = padd(even, odd);
    pstoreu(to, Adds ? padd(ploadu<P>(to), sum) : sum);
  }
}

/// Rows of a factor up to which its columns are kept in registers, some at a time, as it is or turned. Larger ones are
/// loaded more often than the general product loads them.
inline constexpr index_t most_kept = 32, most_turned = 64;

/// C := alpha op(F) B by the rows of a vector P and R columns of op(F) at a time, which both divide r.
template <int R, class P, class T>
void small_product(T alpha, bool turns, matrix_view<T const> F, matrix_view<T const> B, matrix_view<T> C) {
  constexpr index_t lane = Eigen::internal::unpacket_traits<P>::size;
  index_t const r = F.cols;
  T const* f = F.data;
  index_t ld = F.ld;
  alignas(64) T turned[most_turned * most_turned];
  if (turns) {
    turn_factor<P>(r, f, ld, turned);
    f = turned, ld = r;
  }
  for (index_t i = 0; i < r; i += lane)
    for (index_t l = 0; l < r; l += R) {
      T const *const part = f + i + l * ld, *const b = B.data + l;
      if (l == 0) kept_product<R, false, P>(B.cols, alpha, part, ld, b, B.ld, C.data + i, C.ld);
      else kept_product<R, true, P>(B.cols, alpha, part, ld, b, B.ld, C.data + i, C.ld);
    }
}

/// C := alpha op(F) B, F [r, r], if r is 4, a multiple of 8, or one of 12 where there are 32 registers, and at most
/// most_kept or most_turned; otherwise false, and nothing happens. C overlaps neither F nor B.
template <class T, class P = packet<T>>
bool takes_small_product(T alpha, bool turns, matrix_view<T const> F, matrix_view<T const> B, matrix_view<T> C) {
  using traits = Eigen::internal::unpacket_traits<P>;
  index_t const r = F.cols;
  if (r == 0 || r > (turns ? most_turned : most_kept) || r % 4 != 0) return false;
  if (B.cols == 0) return true;  // there may be no address either
  if constexpr (traits::size > 4)
    if (r % traits::size != 0) return takes_small_product<T, typename traits::half>(alpha, turns, F, B, C);
  if (many_registers && r % 16 == 0) small_product<many_registers ? 16 : 8, P>(alpha, turns, F, B, C);
  else if (many_registers && r % 12 == 0) small_product<many_registers ? 12 : 8, P>(alpha, turns, F, B, C);
  else if (r % 8 == 0) small_product<8, P>(alpha, turns, F, B, C);
  else if (r == 4) small_product<4, P>(alpha, turns, F, B, C);
  else return false;
  return true;
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::kernel
