// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/orthogonality.hpp: how far columns, or a product of reflectors, whose rows lie on several ranks are from
// orthonormal.
#pragma once
#include <hoft/householder/compact_wy.hpp>
#include <hoft/sharded/message.hpp>
#include <hoft/view/shape.hpp>

#include <cmath>
#include <complex>
#include <cstddef>
#include <vector>

namespace HOFT_TARGET_NAMESPACE {
namespace sharded_backend {

/// What float is measured in.
template <class A>
struct measuring {
  using type = A;
};
template <>
struct measuring<float> {
  using type = double;
};
template <>
struct measuring<std::complex<float>> {
  using type = std::complex<double>;
};
template <class T>
using measuring_t = typename measuring<accumulator_t<T>>::type;

/// A small matrix that is the same on every rank, column by column.
template <class W>
class small_matrix {
 public:
  explicit small_matrix(index_t order) : order_(order), elements_(std::size_t(order * order)) {}
  W& operator()(index_t i, index_t j) { return elements_[std::size_t(i + j * order_)]; }
  W const& operator()(index_t i, index_t j) const { return elements_[std::size_t(i + j * order_)]; }
  [[nodiscard]] index_t order() const { return order_; }
  [[nodiscard]] matrix_view<W> view() { return {elements_.data(), order_, order_}; }

 private:
  index_t order_;
  std::vector<W> elements_;
};

/// UᴴU over all ranks.
template <class Policy, class T, class L>
auto measured_gram(Policy const& policy, matrix_view<T, L> U) {
  static_assert(on_host<typename Policy::local_policy>,
                "hoft::orthogonality_error reads memory of the host: copy what a GPU holds.");
  using W = measuring_t<T>;
  using A = accumulator_t<T>;
  small_matrix<W> gram(U.cols);
  for (index_t j = 0; j < U.cols; ++j)
    for (index_t i = 0; i < U.cols; ++i)
      for (index_t l = 0; l < U.rows; ++l)
        gram(i, j) += conjugate(W(static_cast<A>(U(l, i)))) * W(static_cast<A>(U(l, j)));
  if (policy.sums()) sum_parts<W>(policy, exchange::gram, gram.view());
  return gram;
}
/// A B, or AᴴB.
template <class W>
small_matrix<W> small_product(small_matrix<W> const& A, bool adjoint, small_matrix<W> const& B) {
  small_matrix<W> C(A.order());
  for (index_t j = 0; j < A.order(); ++j)
    for (index_t i = 0; i < A.order(); ++i)
      for (index_t l = 0; l < A.order(); ++l) C(i, j) += (adjoint ? conjugate(A(l, i)) : A(i, l)) * B(l, j);
  return C;
}
/// One triangle for all blocks of a form: T₁₂ = −T₁ (U₁ᴴU₂) T₂ between what stands before a block and the block.
template <class A, class W>
small_matrix<W> whole_triangle(compact_wy_view<A> const& Q, small_matrix<W> const& gram) {
  small_matrix<W> T(Q.rank());
  for (index_t b = 0; b < Q.blocks(); ++b) {
    auto const q = Q.at(b);
    for (index_t j = 0; j < q.rank; ++j)
      for (index_t i = 0; i <= j; ++i) T(q.first + i, q.first + j) = W(q.T(i, j));
    small_matrix<W> between(Q.rank());
    for (index_t j = q.first; j < q.first + q.rank; ++j)
      for (index_t i = 0; i < q.first; ++i)
        for (index_t l = q.first; l <= j; ++l) between(i, j) += gram(i, l) * T(l, j);
    for (index_t j = q.first; j < q.first + q.rank; ++j)
      for (index_t i = 0; i < q.first; ++i)
        for (index_t l = i; l < q.first; ++l) T(i, j) -= T(i, l) * between(l, j);
  }
  return T;
}

}  // namespace sharded_backend

/// ‖I − EᴴE‖_F / √k of columns E [m, k] whose rows lie on several ranks, the same number on every rank.
///
/// @param policy of split::tall: this rank's rows are E. Memory of the host
/// @throws hoft::shape_error if the ranks' columns differ in number; hoft::workspace_error if the communicator's
///         message memory holds no column of k numbers
///
/// Cost: m k² flops in plain loops, k² numbers summed. Accuracy: computed in double for float and 16-bit E, else in E's
/// own type. Source: as of orthogonality_error(E) (reference/orthogonality.hpp).
template <class Local, class Communicator, class T, class L>
[[nodiscard]] auto orthogonality_error(sharded<Local, Communicator> const& policy, matrix_view<T, L> E) {
  using sharded_backend::measuring_t;
  using R = real_t<measuring_t<T>>;
  detail::require_view("orthogonality_error", "E", E);
  auto const gram = sharded_backend::measured_gram(policy, E);
  R sum(0);
  for (index_t j = 0; j < E.cols; ++j)
    for (index_t i = 0; i < E.cols; ++i) sum += scalar_math::squared(measuring_t<T>(gram(i, j) - R(i == j ? 1 : 0)));
  return static_cast<real_t<T>>(E.cols == 0 ? R(0) : std::sqrt(sum / R(E.cols)));
}

/// ‖I − QᴴQ‖_F / √m of a form Q [m, m] whose rows of reflectors lie on several ranks, the same number on every rank. Q
/// is not formed: QᴴQ − I = U E Uᴴ with E = TᴴUᴴU T − T − Tᴴ, from the triangle T of all reflectors.
///
/// @param policy of split::tall: this rank's rows are Q's. Memory of the host
/// @param m      rows on all ranks
/// @throws hoft::shape_error, hoft::argument_error (Q was not accumulated); hoft::workspace_error as for columns
///
/// Cost: m r² + O(r³) flops in plain loops, r² numbers summed. Accuracy: computed in double for float, else in Q's own
/// type, where an error of about r ε comes from the measure itself.
template <class Local, class Communicator, class A>
[[nodiscard]] auto orthogonality_error(sharded<Local, Communicator> const& policy, compact_wy_view<A> const& Q,
                                       index_t m) {
  using W = sharded_backend::measuring_t<std::remove_const_t<A>>;
  using R = real_t<W>;
  detail::require_form("orthogonality_error", "Q", policy.rank_count(), Q, Q.rows(), Q.rank());
  detail::require_at_least("orthogonality_error", "m", m, Q.rows());
  auto const gram = sharded_backend::measured_gram(policy, Q.vectors);
  auto const T = sharded_backend::whole_triangle(Q, gram);
  auto E = sharded_backend::small_product(T, true, sharded_backend::small_product(gram, false, T));
  for (index_t j = 0; j < Q.rank(); ++j)
    for (index_t i = 0; i < Q.rank(); ++i) E(i, j) -= T(i, j) + conjugate(T(j, i));
  auto const EG = sharded_backend::small_product(E, false, gram);  // E is Hermitian: ‖U E Uᴴ‖² = tr(E G E G)
  R sum(0);
  for (index_t j = 0; j < Q.rank(); ++j)
    for (index_t i = 0; i < Q.rank(); ++i) sum += scalar_math::real_part(W(EG(i, j) * EG(j, i)));
  return static_cast<real_t<A>>(m == 0 ? R(0) : std::sqrt((std::max)(sum, R(0)) / R(m)));
}

}  // namespace HOFT_TARGET_NAMESPACE
