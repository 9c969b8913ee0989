// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/kernel/few_columns.hpp: a large matrix times few columns, as decoding has them. The matrix is read once, at
// the speed of memory: nothing of it is packed, and it is walked through as it lies.
#pragma once
#include <hoft/cpu/kernel/dot_tiles.hpp>
#include <hoft/cpu/kernel/sum_tiles.hpp>
#include <hoft/cpu/policy.hpp>

namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail {

/// Columns that are few.
inline constexpr index_t few = 8;

/// A [m, k] times n columns: few, and A more than a first-level cache holds.
template <class T>
bool is_read_once(index_t m, index_t n, index_t k) {
  constexpr index_t large = (index_t{1} << 16) / index_t(sizeof(T));
  return n <= few && m > 0 && k >= large / m;
}

/// C = S + alpha A op(B) of contiguous columns of A: some columns of A pass together, from their tops to their ends.
/// C, which is read and written each time, stays in the caches. Where its rows are no neighbours, a part of it is
/// summed on the stack.
template <class T>
void sum_few(index_t m, index_t n, index_t k, T alpha, kernel::strided<T const> const& a,
             kernel::strided<T const> const& b, bool conj_b, kernel::strided<T const> const& s,
             kernel::strided<T> const& c) {
  constexpr index_t together = 8;  // columns of A: their lines meet in one set of the cache where they lie 2^k apart
  constexpr index_t part = index_t{4096} / index_t(sizeof(T)), longest = 16 * part;
  bool const direct = c.row == 1 && (s.data == nullptr || s.row == 1);
  T sums[few * part];
  T factors[together * few];
  for (index_t i = 0; i < m;) {
    index_t const rows = (std::min)(direct ? longest : part, m - i);
    T* const to = direct ? c.at(i, 0).data : sums;
    index_t const to_col = direct ? c.col : part;
    for (index_t l = 0; l < k || l == 0; l += together) {
      index_t const depth = (std::min)(together, k - l);
      for (index_t j = 0; j < n; ++j)
        for (index_t d = 0; d < depth; ++d)
          factors[j * together + d] = alpha * (conj_b ? conjugate(b(l + d, j)) : b(l + d, j));
      kernel::sum_term<T> const term{a.at(i, l).data, a.col, {factors, 1, together}, depth};
      T const* const first = direct ? s.at(i, 0).data : nullptr;
      T const* const start = l == 0 ? first : to;
      kernel::sum_rows<false, T>(rows, n, 1, &term, false, start, l == 0 ? s.col : to_col, to, to_col);
    }
    if (!direct)
      for (index_t r = 0; r < rows; ++r)
        for (index_t j = 0; j < n; ++j)
          c(i + r, j) = s.data == nullptr ? sums[j * part + r] : s(i + r, j) + sums[j * part + r];
    i += rows;
  }
}

/// C = S + alpha op(A)ᵀ op(B) of A [k, m] with contiguous columns: a few of them pass together, as long as B stays in
/// the second-level cache. Where rows of B are no neighbours, a part of it is copied to the stack.
template <bool ConjA, bool ConjB, class T>
void dot_few(index_t m, index_t n, index_t k, T alpha, kernel::strided<T const> const& a,
             kernel::strided<T const> const& b, kernel::strided<T const> const& s, kernel::strided<T> const& c) {
  constexpr index_t part = index_t{4096} / index_t(sizeof(T)), longest = 8 * part;
  index_t const col = few * part / n;  // of the copy
  index_t const most = b.row == 1 ? longest : col;
  T copied[few * part];
  for (index_t l = 0; l < k || l == 0; l += most) {
    index_t const depth = (std::min)(most, k - l);
    kernel::strided<T const> const start = l == 0 ? s : kernel::strided<T const>{c.data, c.row, c.col};
    kernel::strided<T const> right = b.at(l, 0);
    if (b.row != 1) {
      for (index_t d = 0; d < depth; ++d)
        for (index_t j = 0; j < n; ++j) copied[j * col + d] = right(d, j);
      right = {copied, 1, col};
    }
    kernel::for_each_group<kernel::tile_vectors<T>>(m, [&](index_t i, auto size) {
      kernel::for_each_tile_col(n, [&](index_t j, auto width) {
        kernel::dot_term<T> const term{a.at(l, i).data, kernel::lanes<T>, a.col, right.at(0, j).data, right.col, depth};
        kernel::dot_tiles<size, width, 1, ConjA, ConjB>(1, alpha, 1, &term, start.at(i, j), c.at(i, j));
      });
    });
  }
}

/// C := S + alpha op(A) op(B), A [m, k] read once, n columns in B [k, n], in S (or without data) and in C [m, n].
/// Threads share the rows; where they are cut does not change the sum of an element.
template <class T, class Layout>
void few_columns(cpu const& policy, index_t n, T alpha, matrix_view<T const, Layout> A, bool conj_a,
                 kernel::strided<T const> const& b, bool conj_b, kernel::strided<T const> const& s,
                 kernel::strided<T> const& c) {
  using conj = std::bool_constant<is_complex<T>>;
  index_t const m = A.rows, k = A.cols, workers = worker_count(policy);
  constexpr index_t multiple = kernel::tile_vectors<T> * kernel::lanes<T>;
  index_t const share = (std::max)(multiple, ((m + workers - 1) / workers + multiple - 1) / multiple * multiple);
  kernel::strided<T const> const a = kernel::as_strided(A);
  auto const rows_from = [&](index_t i) {
    index_t const rows = (std::min)(share, m - i);
    kernel::strided<T const> const of_s = s.at(i, 0);
    if constexpr (A.is_col_major) {
      sum_few<T>(rows, n, k, alpha, a.at(i, 0), b, conj_b, of_s, c.at(i, 0));
    } else {
      kernel::strided<T const> const columns{a.at(i, 0).data, a.col, a.row};
      auto const run = [&](auto of_a, auto of_b) {
        dot_few<of_a, of_b, T>(rows, n, k, alpha, columns, b, of_s, c.at(i, 0));
      };
      if (conj_a && conj_b) run(conj{}, conj{});
      else if (conj_a) run(conj{}, std::false_type{});
      else if (conj_b) run(std::false_type{}, conj{});
      else run(std::false_type{}, std::false_type{});
    }
  };
  parallel_for(policy, (m + share - 1) / share, [&](index_t, index_t task) { rows_from(task * share); });
}

}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend::detail
