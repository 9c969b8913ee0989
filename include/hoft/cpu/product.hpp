// hoft/cpu/product.hpp: the general product on the CPU.
#pragma once
#include <hoft/cpu/kernels.hpp>
#include <hoft/cpu/policy.hpp>

namespace hoft {
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

/// Calls f with both flags as constants; reals have nothing to conjugate.
template <class T, class F>
void with_flags(bool first, bool second, F&& f) {
  using no = std::false_type;
  using yes = std::bool_constant<is_complex<T>>;
  if (!first && !second) f(no{}, no{});
  else if (!second) f(yes{}, no{});
  else if (!first) f(no{}, yes{});
  else f(yes{}, yes{});
}

}  // namespace detail

/// C := S + alpha op(A) op(B), A [m, k], B [k, n], S and C [m, n] of one layout. S may be C itself, or a view without
/// data for zero; C must not overlap A or B. The contiguous directions of the operands choose
/// the kernel.
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
    index_t const m = C.rows, n = C.cols, k = A.matrix.cols;
    if (m == 0 || n == 0) return;
    // Vectors along the sum read all of A again for every few columns of C; a large C is worth transposing A's slabs.
    constexpr index_t large = 128;
    bool const dots = along_the_sum && (m < large || n < large);
    auto const run = [&](index_t i, index_t rows, index_t j, index_t cols) {
      strided<T const> const a = as_strided(A.matrix).at(i, 0), b = as_strided(B.matrix).at(0, j);
      strided<T const> const s = as_strided(S).at(i, j);
      strided<T> const c = as_strided(C).at(i, j);
      detail::with_flags<T>(A.conjugated, B.conjugated, [&](auto ca, auto cb) {
        if (!dots) return kernel::columns_kernel<ca, cb, T>(rows, cols, k, alpha, a, b, s, c);
        if constexpr (along_the_sum)
          kernel::dots_kernel<ca, cb, T>(rows, cols, k, alpha, {a.data, a.col, a.row}, b, s, c);
      });
    };
    // Tasks are cut by shape alone; tile boundaries do not move, so neither do the bits.
    constexpr index_t rows_a_task = 4 * kernel::tile_rows<T> * kernel::lanes<T>;
    constexpr index_t cols_a_task = 8 * kernel::tile_cols;
    constexpr index_t worth_a_thread = index_t{1} << 20;  // multiply-adds: about the time it takes to start one
    if (worker_count(policy) == 1 || m * n * k < worth_a_thread) {
      run(0, m, 0, n);
    } else if (m >= n) {
      parallel_for(policy, (m + rows_a_task - 1) / rows_a_task, [&](index_t, index_t task) {
        run(task * rows_a_task, std::min(rows_a_task, m - task * rows_a_task), 0, n);
      });
    } else {
      parallel_for(policy, (n + cols_a_task - 1) / cols_a_task, [&](index_t, index_t task) {
        run(0, m, task * cols_a_task, std::min(cols_a_task, n - task * cols_a_task));
      });
    }
  }
}

/// xᴴy of contiguous vectors.
template <class T>
T dot(index_t n, T const* x, T const* y) {
  T sum(0);
  kernel::dots_kernel<is_complex<T>, false, T>(1, 1, n, T(1), {x, 1, n}, {y, 1, n}, {}, {&sum, 1, 1});
  return sum;
}

}  // namespace cpu_backend
}  // namespace hoft
