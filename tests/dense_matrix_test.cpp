// SPDX-License-Identifier: BSD-3-Clause
// The matrices that hoft returns: their memory, and that they stand wherever an Eigen matrix may stand.
#include <hoft/hoft.hpp>

#include <doctest/doctest.h>

#include <complex>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

using hoft::col_major;
using hoft::index_t;
using hoft::row_major;

namespace {

template <class T, class L>
hoft::dense_matrix<T, L> counted(index_t rows, index_t cols) {
  hoft::dense_matrix<T, L> A(rows, cols);
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < cols; ++j) A(i, j) = T(static_cast<float>(10 * i + j));
  return A;
}

template <class L>
using plain = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic,
                            std::is_same_v<L, col_major> ? Eigen::ColMajor : Eigen::RowMajor>;

template <class T>
bool is_aligned(T const* address) {
  return reinterpret_cast<std::uintptr_t>(address) % 64 == 0;
}

}  // namespace

TEST_CASE_TEMPLATE("memory: aligned, copied, moved, given back", T, float, std::complex<double>, Eigen::half) {
  auto const body = [](auto layout) {
    using matrix = hoft::dense_matrix<T, decltype(layout)>;
    static_assert(std::is_nothrow_move_constructible_v<matrix> && std::is_nothrow_move_assignable_v<matrix>);
    for (index_t rows : {0, 1, 2, 7, 65})
      for (index_t cols : {0, 1, 3, 64}) {
        matrix A = counted<T, decltype(layout)>(rows, cols);
        CHECK(A.rows() == rows);
        CHECK(A.cols() == cols);
        CHECK(is_aligned(A.data()));
        matrix copy = A;
        CHECK((rows * cols == 0 || copy.data() != A.data()));
        T const* const data = copy.data();
        matrix moved = std::move(copy);
        CHECK(moved.data() == data);
        CHECK(copy.size() == 0);  // NOLINT(bugprone-use-after-move): what is left is empty
        CHECK(moved == A);
        matrix assigned(3, 2);
        assigned = A;
        CHECK(assigned == A);
        assigned = std::as_const(assigned);
        CHECK(assigned == A);
        assigned = std::move(moved);
        CHECK(assigned.data() == data);
        swap(assigned, A);
        CHECK(A.data() == data);
      }
  };
  body(col_major{});
  body(row_major{});
}

TEST_CASE("extents that cannot be are refused") {
  CHECK_THROWS_WITH_AS(hoft::dense_matrix<float>(-1, 2), "hoft::dense_matrix: rows is -1, must be >= 0",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::dense_matrix<float>(2, -1), "hoft::dense_matrix: cols is -1, must be >= 0",
                       hoft::shape_error);
  CHECK_THROWS_AS(hoft::dense_matrix<float>(PTRDIFF_MAX / 4, 2), std::bad_alloc);
  CHECK_THROWS_AS(hoft::dense_vector<float>(2, 2), hoft::shape_error);
  hoft::dense_matrix<float> A(2, 2);
  CHECK_THROWS_AS(A.resize(PTRDIFF_MAX / 4, 2), std::bad_alloc);
}

TEST_CASE_TEMPLATE("an Eigen expression like any other", L, col_major, row_major) {
  auto A = counted<double, L>(4, 3);
  plain<L> const E = A;
  CHECK(E == A);
  Eigen::MatrixXd U = E;
  U -= A;
  CHECK(U.norm() == 0);
  U = A;
  U.noalias() = A.transpose() * A;
  CHECK(U == E.transpose() * E);
  A.noalias() += 2 * E;
  CHECK(A == 3 * E);
  A.col(1).setZero();
  A.row(0) << 1, 2, 3;
  CHECK(A(0, 2) == 3);
  CHECK(A.col(1).tail(3).norm() == 0);

  // No copy: views, references.
  CHECK(hoft::as_view(A).data == A.data());
  CHECK(hoft::as_view(A).ld == (std::is_same_v<L, col_major> ? 4 : 3));
  static_assert(!std::is_const_v<typename decltype(hoft::as_view(A))::element_type>);
  static_assert(std::is_const_v<typename decltype(hoft::as_view(std::as_const(A)))::element_type>);
  Eigen::Ref<plain<L>> written = A;
  Eigen::Ref<plain<L> const> const read = A;
  CHECK(written.data() == A.data());
  CHECK(read.data() == A.data());
}

TEST_CASE("assigning an expression resizes, also where it reads what is assigned") {
  auto const E = counted<double, col_major>(4, 3);
  hoft::dense_matrix<double> A = E;
  A = A.topRows(2);
  CHECK(A == E.topRows(2));
  A = E;
  A = A.transpose() * A;
  CHECK(A == E.transpose() * E);
  A = E;
  A = A.transpose();
  CHECK(A == E.transpose());
  A = hoft::dense_matrix<double>::Identity(3, 3);
  A = A * A;  // of the same shape: Eigen's own rule for products
  CHECK(A == Eigen::Matrix3d::Identity());
  hoft::dense_vector<double> v(3), w;
  v.setConstant(2);
  w = E * v;
  CHECK(w.size() == 4);
  CHECK(w == E * Eigen::Vector3d(2, 2, 2));
  CHECK(w.dot(w) == w.squaredNorm());
  Eigen::VectorXd const plain = w;
  CHECK(plain == w);
}

TEST_CASE("results: structured bindings, and Eigen's matrices made of them") {
  Eigen::MatrixXf const U = Eigen::MatrixXf::Random(20, 3), X = Eigen::MatrixXf::Random(20, 5);
  auto const Q = hoft::accumulate(U);
  auto [dX, dU, dtau] = hoft::apply_backward(Q, X, X);
  CHECK(dtau.size() == 0);
  hoft::apply(Q, dX);              // a result is an output
  hoft::apply(Q, dX.leftCols(2));  // and so is a block of one
  Eigen::MatrixXf const copy = dU, moved = std::move(dU);
  CHECK(copy == moved);
  Eigen::MatrixXf u = U;
  u -= hoft::apply_backward(Q, X, X).dU;
  CHECK(u == U - copy);
}

template <class D>
concept takes_output = requires(Eigen::MatrixXf const& U, D&& X) {
  hoft::reference::apply(U, std::forward<D>(X));
};

TEST_CASE("a temporary result is no output of the reference") {
  static_assert(takes_output<hoft::dense_matrix<float>&>);
  static_assert(!takes_output<hoft::dense_matrix<float>>);
  static_assert(!takes_output<hoft::dense_matrix<float> const&>);
  static_assert(takes_output<Eigen::Block<hoft::dense_matrix<float>>>);
  CHECK(hoft::singular_values(hoft::dense_matrix<float>(0, 0)).size() == 0);
}
