// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/product.hpp: the general product on the CPU.
#pragma once
#include <hoft/cpu/kernel/few_columns.hpp>
#include <hoft/cpu/kernel/sum_tiles.hpp>

namespace HOFT_TARGET_NAMESPACE {
namespace cpu_backend {

/// A matrix operand, conjugated or not. (Transposing is free: `A.transposed()` flips the layout of the view.)
template <class T, class Layout>
struct operand {
  matrix_view<T const, Layout> matrix;
  bool conjugated = false;
};

template <class T, class Layout>
operand<std::remove_const_t<T>, Layout> plain(matrix_view<T, Layout> a) {
  return {a, false};
}
template <class T, class Layout>
operand<std::remove_const_t<T>, Layout> conjugated(matrix_view<T, Layout> a) {
  return {a, true};
}
template <class T, class Layout>
auto adjoint(matrix_view<T, Layout> a) {
  return conjugated(a.transposed());
}

namespace detail {

/// Bytes of a column of a slab of A, and of the tiles of C beside it.
template <class T>
inline constexpr index_t slab_bytes = index_t(sizeof(kernel::packet<T>)) * kernel::tile_vectors<T>;
/// Terms summed in one sweep: so many that the tile's loads and stores of C cost little beside them. A slab that does
/// not stay in the first-level cache is read again and again from the second, where there is room for more: 128 KiB,
/// if threads have so much of a stack. They have with glibc; with musl all of it is 128 KiB by default.
inline constexpr index_t usual_depth = 256;
template <class T>
inline constexpr bool deep_slabs =
#if defined(__GLIBC__)
    usual_depth* slab_bytes<T> > (index_t{1} << 15);
#else
    false;
#endif
template <class T>
inline constexpr index_t sum_depth = (std::min)(deep_slabs<T> ? 2 * usual_depth : usual_depth,
                                                index_t{2048} / index_t(sizeof(T)));
template <class T>
inline constexpr index_t dot_depth = index_t{4096} / index_t(sizeof(T));

/// `alpha` times rows of `depth` neighbouring elements, `ld` apart, as columns of `height` elements, in squares that
/// are turned in registers: each line of memory is read once, also where `ld` brings all lines to one set of the cache.
/// Rows up to `height` are zeros; it is a multiple of the lanes.
template <class T>
void pack_turned(T alpha, T const* from, index_t ld, index_t rows, index_t height, index_t depth, T* slab) {
  constexpr int lanes = kernel::lanes<T>;
  auto factor = kernel::broadcast(alpha);
  for (index_t i = 0; i < height; i += lanes)
    for (index_t d = 0; d < depth; d += lanes) {
      index_t const count = (std::min)(index_t(lanes), depth - d);
      Eigen::internal::PacketBlock<decltype(factor), lanes> square;
      for (int v = 0; v < lanes; ++v) {
        if (i + v >= rows) {
          square.packet[v] = kernel::zero<T>();
        } else {
          T const* const row = from + (i + v) * ld + d;
          square.packet[v] = count == lanes ? kernel::load(row) : kernel::load_part(row, count);
        }
      }
      Eigen::internal::ptranspose(square);
      for (int v = 0; v < count; ++v)
        Eigen::internal::pstoreu(slab + (d + v) * height + i, Eigen::internal::pmul(factor, square.packet[v]));
    }
}

/// `alpha` times op(A) [rows, depth] as columns of `height` elements, with zeros behind the rows.
template <class T>
void pack_slab(T alpha, bool conj, kernel::strided<T const> const& a, index_t rows, index_t height, index_t depth,
               T* slab) {
  bool const conjugates = conj && is_complex<T>, changed = alpha != T(1) || conjugates;
  if constexpr (!is_complex<T>)
    if (a.col == 1) return pack_turned(alpha, a.data, a.row, rows, height, depth, slab);
  for (index_t d = 0; d < depth; ++d) {
    T* const to = slab + d * height;
    if (a.row == 1 && !changed) std::copy_n(a.data + d * a.col, rows, to);
    else
      for (index_t v = 0; v < rows; ++v) to[v] = alpha * (conjugates ? conjugate(a(v, d)) : a(v, d));
    std::fill(to + rows, to + height, T(0));
  }
}

/// What the tiles of a slab along n columns of C fetch meanwhile: the part of C that the next tile begins with, and
/// what the next slab will be packed from. Of rows that is their beginning, behind which the hardware follows.
template <class T>
kernel::traffic<T> fetched_along(index_t n, kernel::strided<T const> const& start, kernel::strided<T const> const& next,
                                 index_t rows, index_t depth) {
  kernel::traffic<T> moves;
  constexpr index_t width = kernel::tile_cols;
  if (start.data != nullptr && n > width) moves.ahead = {start.at(0, width).data, start.col, n - width};
  if (next.data == nullptr) return moves;
  if (next.row == 1) moves.also_ahead = {next.data, next.col, (std::min)(n, depth)};
  else if (next.col == 1) moves.also_ahead = {next.data, next.row, (std::min)(n, rows)};
  return moves;
}

/// C = S + alpha op(A) op(B) with vectors along the rows of C, which are neighbours in memory. Rows of A are packed
/// into a slab on the stack when they are not neighbours, when they change on the way, or when a slab is used often.
template <bool ConjB, class T>
void sum_product(index_t m, index_t n, index_t k, T alpha, bool conj_a, kernel::strided<T const> const& a,
                 kernel::strided<T const> const& b, kernel::strided<T const> const& s, kernel::strided<T> const& c) {
  constexpr index_t slab_rows = slab_bytes<T> / index_t(sizeof(T));
  constexpr index_t reuse = 24;  // columns of C from which packing pays
  bool const packs = alpha != T(1) || (conj_a && is_complex<T>) || a.row != 1 || n >= reuse;
  // Contiguous columns of A lie far apart: where C has few columns, which stay in the caches, deep slabs do not pay.
  constexpr index_t many = 144;
  index_t const deepest = a.row == 1 && n < many ? (std::min)(usual_depth, sum_depth<T>) : sum_depth<T>;
  alignas(64) T slab[slab_rows * sum_depth<T>];
  for (index_t l = 0; l < k || l == 0; l += deepest) {
    index_t const depth = (std::min)(deepest, k - l);
    kernel::strided<T const> const start = l == 0 ? s : kernel::strided<T const>{c.data, c.row, c.col};
    for (index_t i = 0; i < m; i += slab_rows) {
      index_t const rows = (std::min)(slab_rows, m - i);
      kernel::strided<T const> const from = a.at(i, l);
      kernel::sum_term<T> term{from.data, from.col, b.at(l, 0), depth};
      if (packs) {
        index_t const height = (rows + kernel::lanes<T> - 1) / kernel::lanes<T> * kernel::lanes<T>;
        pack_slab(alpha, conj_a, from, rows, height, depth, slab);
        term.a = slab;
        term.lda = height;
      }
      bool const fetches = packs && i + 2 * slab_rows <= m;
      kernel::strided<T const> const next = fetches ? a.at(i + slab_rows, l) : kernel::strided<T const>{};
      kernel::sum_rows<ConjB, T>(rows, n, 1, &term, packs, start.at(i, 0).data, start.col, c.at(i, 0).data, c.col,
                                 fetched_along(n, start.at(i, 0), next, slab_rows, depth));
    }
  }
}

/// C = S + alpha op(A)ᵀ op(B) with vectors along the sum: A [k, m] and B [k, n] with unit row stride.
template <bool ConjA, bool ConjB, class T>
void dot_product(index_t m, index_t n, index_t k, T alpha, kernel::strided<T const> const& a,
                 kernel::strided<T const> const& b, kernel::strided<T const> const& s, kernel::strided<T> const& c) {
  for (index_t l = 0; l < k || l == 0; l += dot_depth<T>) {
    index_t const depth = (std::min)(dot_depth<T>, k - l);
    kernel::strided<T const> const start = l == 0 ? s : kernel::strided<T const>{c.data, c.row, c.col};
    kernel::for_each_tile_col(n, [&](index_t j, auto width) {
      kernel::for_each_group_run<kernel::tile_vectors<T>>(m, [&](index_t i, auto size, index_t count) {
        kernel::dot_term<T> const term{a.at(l, i).data, kernel::lanes<T>, a.col, b.at(l, j).data, b.col, depth};
        kernel::dot_tiles<size, width, 1, ConjA, ConjB>(count, alpha, 1, &term, start.at(i, j), c.at(i, j));
      });
    });
  }
}

/// Columns of a block of C, of which there shall be `least` beside one another. A's slabs are packed for each block, so
/// it should be wide; but what a slab meets of B should stay in the second-level cache, and of C too: where its columns
/// lie whole pages apart, slabs that are at most one line high meet few sets of that cache.
template <class T>
index_t block_cols(index_t n, index_t least, index_t ldc) {
  constexpr index_t cache = index_t{1} << 19, line = 64, page = 4096, fewer = 256;
  bool const meets_few_sets = slab_bytes<T> <= line && ldc * index_t(sizeof(T)) % page == 0;
  index_t const fit = cache / (sum_depth<T> * index_t(sizeof(T))), most = meets_few_sets ? (std::min)(fit, fewer) : fit;
  constexpr index_t tiles = 8 * kernel::tile_cols;
  index_t const count = (std::max)(kernel::blocks(n, most), least);
  return kernel::blocks(kernel::blocks(n, count), tiles) * tiles;
}

/// C = AᵀB with vectors along the sum reads all of A [k, m] again for each few columns of C; with the slabs of A
/// turned, which takes time too, A is read once. Dots are worth it for the fewer columns of C the further away A lies.
template <class T>
bool worth_dots(index_t m, index_t n, index_t k) {
  constexpr index_t large = 128, columns = 36, last_level = (index_t{12} << 20) / index_t(sizeof(T));
  return m < large || (n < columns && m <= last_level / (std::max<index_t>)(k, 1));
}

/// The product, where one operand is large and the other has few columns, or few rows: then the transposed one.
template <class T, class LA, class LB>
bool takes_few_columns(cpu const& policy, T alpha, operand<T, LA> A, operand<T, LB> B, matrix_view<T const> S,
                       matrix_view<T> C) {
  using kernel::as_strided;
  // Of sums along rows, conjugated ones would need another kernel.
  auto const has_kernel = [](auto const& large) {
    return !large.conjugated || !is_complex<T> || !large.matrix.is_col_major;
  };
  index_t const m = C.rows, n = C.cols, k = A.matrix.cols;
  cpu const threads = worth_threads(policy, m * n * k);
  if (is_read_once<T>(m, n, k) && has_kernel(A)) {
    few_columns<T>(threads, n, alpha, A.matrix, A.conjugated, as_strided(B.matrix), B.conjugated, as_strided(S),
                   as_strided(C));
    return true;
  }
  operand<T, transposed_layout<LB>> const large{B.matrix.transposed(), B.conjugated};
  if (!is_read_once<T>(n, m, k) || !has_kernel(large)) return false;
  few_columns<T>(threads, m, alpha, large.matrix, large.conjugated, as_strided(A.matrix.transposed()), A.conjugated,
                 as_strided(S.transposed()), as_strided(C.transposed()));
  return true;
}

}  // namespace detail

/// C := S + alpha op(A) op(B), A [m, k], B [k, n], S and C [m, n] of one layout. S may be C itself, or a view without
/// data for zero; C must not overlap A or B. The contiguous directions of the operands choose the kernel.
template <class T, class LA, class LB, class LC>
void product(cpu const& policy, T alpha, operand<T, LA> A, operand<T, LB> B,
             std::type_identity_t<matrix_view<T const, LC>> S, matrix_view<T, LC> C) {
  if constexpr (!C.is_col_major) {
    product(policy, alpha, operand<T, transposed_layout<LB>>{B.matrix.transposed(), B.conjugated},
            operand<T, transposed_layout<LA>>{A.matrix.transposed(), A.conjugated}, S.transposed(), C.transposed());
  } else {
    constexpr bool along_the_sum = std::same_as<LA, row_major> && std::same_as<LB, col_major>;
    using kernel::as_strided;
    using kernel::strided;
    using conj = std::bool_constant<is_complex<T>>;  // reals have nothing to conjugate
    index_t const m = C.rows, n = C.cols, k = A.matrix.cols;
    if (m == 0 || n == 0) return;
    if (detail::takes_few_columns(policy, alpha, A, B, S, C)) return;
    bool const dots = along_the_sum && detail::worth_dots<T>(m, n, k);
    auto const run = [&](index_t i, index_t rows, index_t j, index_t cols) {
      strided<T const> const a = as_strided(A.matrix).at(i, 0), b = as_strided(B.matrix).at(0, j);
      strided<T const> const s = as_strided(S).at(i, j);
      strided<T> const c = as_strided(C).at(i, j);
      auto const with = [&](auto conj_b) {
        if (!dots) return detail::sum_product<conj_b>(rows, cols, k, alpha, A.conjugated, a, b, s, c);
        if constexpr (along_the_sum) {
          strided<T const> const left{a.data, a.col, a.row};
          if (A.conjugated) detail::dot_product<conj::value, conj_b>(rows, cols, k, alpha, left, b, s, c);
          else detail::dot_product<false, conj_b>(rows, cols, k, alpha, left, b, s, c);
        }
      };
      if (B.conjugated) with(conj{});
      else with(std::false_type{});
    };
    // Blocks of C: one thread takes all rows at once, several share them. The order of an element's sum, and so its
    // bits, depend on no block and no tile.
    constexpr index_t shared_height = detail::slab_bytes<T> / index_t(sizeof(T)), shared_blocks = 16;
    cpu const threads = worth_threads(policy, m * n * k);
    bool const shared = worker_count(threads) > 1;
    index_t const height = shared ? shared_height : m, row_blocks = kernel::blocks(m, height);
    index_t const width = detail::block_cols<T>(n, shared ? kernel::blocks(shared_blocks, row_blocks) : 1, C.ld);
    index_t const col_blocks = kernel::blocks(n, width);
    auto const run_block = [&](index_t, index_t task) {
      index_t const i = task % row_blocks * height, j = task / row_blocks * width;
      run(i, (std::min)(height, m - i), j, (std::min)(width, n - j));
    };
    parallel_for(threads, row_blocks * col_blocks, run_block);
  }
}

/// The upper triangle of UᴴU for few columns, in tiles down to the diagonal; something is left below it.
template <class T>
void small_gram(matrix_view<T const> U, matrix_view<T> A) {
  constexpr int tile = 4;
  kernel::strided<T const> const u = kernel::as_strided(U);
  for (index_t l = 0; l < U.rows || l == 0; l += detail::dot_depth<T>) {
    index_t const depth = (std::min)(detail::dot_depth<T>, U.rows - l);
    auto const sums = [&](index_t i, index_t rows, index_t j, index_t cols) {
      auto const a = kernel::as_strided(A).at(i, j);
      kernel::strided<T const> const start{l == 0 ? nullptr : a.data, a.row, a.col};
      if constexpr (!is_complex<T>)
        if (i == j && cols == tile) return kernel::gram_tile<tile>(depth, u.at(l, j), start, a);
      detail::dot_product<is_complex<T>, false, T>(rows, cols, depth, T(1), u.at(l, i), u.at(l, j), start, a);
    };
    for (index_t j = 0; j < A.cols; j += tile) {
      index_t const cols = (std::min)(index_t{tile}, A.cols - j);
      if (j > 0) sums(0, j, j, cols);
      sums(j, cols, j, cols);
    }
  }
}

/// xᴴy of contiguous vectors: four sums side by side, since each step of one waits for the step before.
template <class T>
T dot(index_t n, T const* x, T const* y) {
  using namespace Eigen::internal;
  constexpr int lane = kernel::lanes<T>, together = 4;
  auto const add = [&](auto const& left, auto const& right, auto& sum) {
    sum = pmadd(kernel::conj_if<is_complex<T>>(left), right, sum);
  };
  kernel::packet<T> sum[together];
  for (auto& s : sum) s = kernel::zero<T>();
  index_t i = 0;
  for (; i + together * lane <= n; i += together * lane) {
    HOFT_UNROLL
    for (int v = 0; v < together; ++v) add(kernel::load(x + i + v * lane), kernel::load(y + i + v * lane), sum[v]);
  }
  for (; i + lane <= n; i += lane) add(kernel::load(x + i), kernel::load(y + i), sum[0]);
  if (i < n) add(kernel::load_part(x + i, n - i), kernel::load_part(y + i, n - i), sum[1]);
  return predux(padd(padd(sum[0], sum[1]), padd(sum[2], sum[3])));
}

}  // namespace cpu_backend
}  // namespace HOFT_TARGET_NAMESPACE
