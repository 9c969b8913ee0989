// SPDX-License-Identifier: BSD-3-Clause
// hoft/eigen/dense.hpp: a dense weight as a base operator.
#pragma once
#include <hoft/cpu/kernel/pair_product.hpp>
#include <hoft/eigen/scratch.hpp>
#include <hoft/view/shape.hpp>

#include <algorithm>
#include <vector>

namespace HOFT_TARGET_NAMESPACE {

/// The base operator of a dense weight M [m, n] that somebody else owns: Y := M X and Y := MᴴX for X and Y of one
/// layout. Weights in their accumulator type are multiplied without allocating; 16-bit ones are converted or packed in
/// memory allocated for the length of the call: panels of M and X, or with AMX all of X, or of M where Y is row-major.
/// Made with a policy, it computes there; made without, on the threads of the forward or backward pass that calls it.
/// The same bits for any number of threads.
///
/// M and X in bfloat16 stay in 16 bits where the compiler targets AVX512-BF16, unless M has contiguous rows (columns
/// for Mᴴ) and X one token. Where it targets AMX too, tiles are multiplied, if Linux lets the process use them; the
/// first such product asks it to. Sums are floats as ever, but rounded to the nearest whatever the caller's modes, and
/// numbers below 2⁻¹²⁶ count as zeros. So a sum of k products may be off by another 2k 2⁻¹²⁶, and by each product with
/// an element of M or X below 2⁻¹²⁶, which is lost.
template <class T, class LM>
class dense_operator {
 public:
  using value_type = T;

  /// @throws hoft::shape_error if M has a negative extent or a leading dimension that does not hold the other one
  dense_operator(cpu policy, matrix_view<T const, LM> M) : policy_(policy), has_policy_(true), M_(M) {
    detail::require_view("dense_operator", "M", M);
  }
  explicit dense_operator(matrix_view<T const, LM> M) : dense_operator(cpu{}, M) { has_policy_ = false; }

  [[nodiscard]] index_t rows() const { return M_.rows; }
  [[nodiscard]] index_t cols() const { return M_.cols; }
  [[nodiscard]] matrix_view<T const, LM> weight() const { return M_; }

  /// Y [m, t] := M X, X [n, t]. @throws hoft::shape_error before anything is written. Cost: 2 m n t flops.
  template <class TX, class L>
  void apply(matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    apply(policy_, X, Y);
  }
  /// The same on the threads of a caller's policy, unless this has its own.
  template <class TX, class L>
  void apply(cpu const& caller, matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    detail::require_shape("dense_operator::apply", "X", X, M_.cols, X.cols);
    detail::require_shape("dense_operator::apply", "Y", Y, M_.rows, X.cols);
    multiply(has_policy_ ? policy_ : caller, cpu_backend::plain(M_), X, Y);
  }
  /// Y [n, t] := MᴴX, X [m, t]. @throws hoft::shape_error before anything is written. Cost: 2 m n t flops.
  template <class TX, class L>
  void apply_adjoint(matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    apply_adjoint(policy_, X, Y);
  }
  /// The same on the threads of a caller's policy, unless this has its own.
  template <class TX, class L>
  void apply_adjoint(cpu const& caller, matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    detail::require_shape("dense_operator::apply_adjoint", "X", X, M_.rows, X.cols);
    detail::require_shape("dense_operator::apply_adjoint", "Y", Y, M_.cols, X.cols);
    multiply(has_policy_ ? policy_ : caller, cpu_backend::adjoint(M_), X, Y);
  }

 private:
  template <class Operand, class TX, class L>
  void multiply(cpu const& policy, Operand M, matrix_view<TX, L> X, matrix_view<T, L> Y) const {
    using A = accumulator_t<T>;
    static_assert(std::same_as<T, A> || !is_complex<A>, "hoft::dense: 16-bit storage of reals only");
    if constexpr (std::same_as<T, A>) {
      product(policy, T(1), M, cpu_backend::plain(X), {}, Y);
    } else {
      if constexpr (cpu_backend::takes_pairs<T, TX>)
        // One token and contiguous rows of M: packing pairs would take longer than converting.
        if (M.matrix.is_col_major || X.cols > 1) {
          matrix_view<T const, L> const x = X;
          if constexpr (Y.is_col_major) return pair_product(policy, M.matrix, x, Y);
          else return pair_product(policy, x.transposed(), M.matrix.transposed(), Y.transposed());
        }
      multiply_converted(policy, M.matrix, X, Y);
    }
  }
  /// Rows of M are converted once for many tokens. Threads share them, in parts that depend on shapes alone: the kernel
  /// that a part takes, and so the bits, depend on its shape.
  template <class LR, class TX, class L>
  static void multiply_converted(cpu const& policy, matrix_view<T const, LR> M, matrix_view<TX, L> X,
                                 matrix_view<T, L> Y) {
    constexpr index_t most_tokens = 1024;
    index_t const rows = X.cols <= 256 || Y.rows <= 256 ? 64 : 128, sweeps = (X.cols + most_tokens - 1) / most_tokens;
    index_t const tokens = sweeps > 0 ? (X.cols + sweeps - 1) / sweeps : 1;
    cpu const threads = cpu_backend::worth_threads(policy, Y.rows * Y.cols * X.rows);
    dense_matrix<accumulator_t<T>, L> x;
    std::vector<converted<LR>> memory;
    for (index_t j = 0; j < X.cols; j += tokens) {
      index_t const t = (std::min)(tokens, X.cols - j);
      convert(X.columns(j, t), x);
      cpu_backend::parallel_parts(threads, Y.rows, rows, memory, [&](converted<LR>& own, index_t i, index_t count) {
        multiply_rows(M, i, count, x, Y.columns(j, t), own);
      });
    }
  }
  /// Rows of M and what they give: kept from one part of a product to the next, since new memory costs more than to
  /// convert a matrix into it.
  template <class LR>
  struct converted {
    dense_matrix<accumulator_t<T>, LR> of_M;
    dense_matrix<accumulator_t<T>> product;
  };
  template <class TX, class A, class L>
  static void convert(matrix_view<TX, L> X, dense_matrix<A, L>& x) {
    x.resize(X.rows, X.cols);
    ops<cpu>::copy(cpu{}, X, as_view(x));
  }
  /// `count` rows of Y := M x from row i, by a converted copy of theirs of M.
  template <class LR, class A, class L>
  static void multiply_rows(matrix_view<T const, LR> M, index_t i, index_t count, dense_matrix<A, L> const& x,
                            matrix_view<T, L> Y, converted<LR>& memory) {
    convert(M.block(i, 0, count, M.cols), memory.of_M);
    memory.product.resize(count * Y.cols, 1);
    matrix_view<A, L> const y(memory.product.data(), count, Y.cols);
    product(cpu{}, A(1), cpu_backend::plain(as_view(memory.of_M)), cpu_backend::plain(as_view(x)), {}, y);
    ops<cpu>::copy(cpu{}, y, Y.block(i, 0, count, Y.cols));
  }

  cpu policy_;
  bool has_policy_;
  matrix_view<T const, LM> M_;
};

namespace detail {

/// Not a matrix, which many hand over where an operator is expected.
template <class Base>
inline constexpr bool is_operator = !is_eigen<Base>;

}  // namespace detail

/// The base operator of M, which must outlive it.
template <class DM>
[[nodiscard]] auto dense(cpu policy, DM&& M) {
  static_assert(!detail::ends_with_the_call<DM>,
                "hoft: dense(M) refers to M, which must outlive it: pass a named matrix, not a temporary.");
  auto const view = as_view(M);
  return dense_operator<typename decltype(view)::value_type, typename decltype(view)::layout_type>(policy, view);
}
/// The same on the threads of the pass that calls it.
template <class DM>
requires(!execution_policy<DM>) [[nodiscard]] auto dense(DM&& M) {
  static_assert(!detail::ends_with_the_call<DM>,
                "hoft: dense(M) refers to M, which must outlive it: pass a named matrix, not a temporary.");
  auto const view = as_view(M);
  return dense_operator<typename decltype(view)::value_type, typename decltype(view)::layout_type>(view);
}

}  // namespace HOFT_TARGET_NAMESPACE
