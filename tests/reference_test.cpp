// SPDX-License-Identifier: BSD-3-Clause
// The numerical reference against what is independent of it: explicit m × m products in a wider type, LAPACK,
// multiprecision and dual numbers, and values worked out by hand.
#include <hoft/reference/gradient.hpp>
#include <hoft/reference/hyperspherical_energy.hpp>
#include <hoft/reference/orthogonality.hpp>
#include <hoft/reference/reflectors.hpp>
#include <hoft/reference/singular_values.hpp>

#include <boost/multiprecision/cpp_bin_float.hpp>
#include <boost/multiprecision/cpp_complex.hpp>
#include <boost/multiprecision/cpp_dec_float.hpp>
#include <boost/multiprecision/eigen.hpp>
#include <doctest/doctest.h>
#include <complex>
#define lapack_complex_float std::complex<float>
#define lapack_complex_double std::complex<double>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

using hoft::index_t;
using hoft::op;
using hoft::side;
namespace reference = hoft::reference;
namespace mp = boost::multiprecision;

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using row_matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

template <class T>
constexpr bool is_complex = Eigen::NumTraits<T>::IsComplex;
/// The type of the oracle, for real scalars too: one type to compile its products for.
using wide = std::complex<long double>;
/// The type a T is documented to be computed in.
template <class T>
using computed = std::conditional_t<sizeof(T) == 2, float, T>;
template <class T>
using real = typename Eigen::NumTraits<computed<T>>::Real;

struct sizes {
  index_t m, r, n;
};
constexpr side sides[] = {side::left, side::right};
constexpr op ops[] = {op::plain, op::adjoint};
long double const wide_eps = std::numeric_limits<long double>::epsilon();
double const not_a_number = std::numeric_limits<double>::quiet_NaN();
double const infinity = std::numeric_limits<double>::infinity();

template <class T>
long double eps_of() {
  return static_cast<long double>(std::numeric_limits<real<T>>::epsilon());
}

/// The storage rounding of 16-bit types, relative to an element; 0 for the others, where it is part of the arithmetic.
template <class T>
long double storage_eps() {
  if constexpr (sizeof(T) == 2) return std::ldexp(1.0L, 1 - std::numeric_limits<T>::digits);
  else return 0;
}

template <class T>
T scalar_of(double re, double im = 0) {
  if constexpr (is_complex<T>) return T(typename Eigen::NumTraits<T>::Real(re), typename Eigen::NumTraits<T>::Real(im));
  else if constexpr (sizeof(T) == 2) return T(static_cast<float>(re));
  else return static_cast<T>(re);
}

template <class T>
matrix<T> gaussian(index_t m, index_t n, unsigned seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  matrix<T> A(m, n);
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) {
      double const re = normal(engine), im = normal(engine);
      A(i, j) = scalar_of<T>(re, im);
    }
  return A;
}

template <class T>
wide widened_scalar(T const& a) {
  if constexpr (is_complex<T>) return static_cast<wide>(a);
  else return static_cast<long double>(a);
}

template <class D>
matrix<wide> widened(Eigen::MatrixBase<D> const& A) {
  matrix<wide> B(A.rows(), A.cols());
  for (index_t j = 0; j < A.cols(); ++j)
    for (index_t i = 0; i < A.rows(); ++i) B(i, j) = widened_scalar(A(i, j));
  return B;
}

/// H(u₁) ⋯ H(u_r) as a product of explicit m × m matrices.
matrix<wide> product_of_reflectors(matrix<wide> const& U) {
  matrix<wide> const I = matrix<wide>::Identity(U.rows(), U.rows());
  matrix<wide> Q = I;
  for (index_t j = 0; j < U.cols(); ++j) {
    if (U.col(j).isZero(0)) continue;
    vector<wide> const u = U.col(j) / U.col(j).cwiseAbs().maxCoeff();
    Q = (Q * (I - u * u.adjoint() * wide(2 / u.squaredNorm()))).eval();
  }
  return Q;
}

/// (I − τ₁ v₁ v₁ᴴ) ⋯ (I − τ_r v_r v_rᴴ) likewise, V unit lower trapezoidal.
matrix<wide> product_of_reflectors(matrix<wide> const& V, matrix<wide> const& tau) {
  matrix<wide> const I = matrix<wide>::Identity(V.rows(), V.rows());
  matrix<wide> Q = I;
  for (index_t j = 0; j < V.cols(); ++j) {
    vector<wide> v = vector<wide>::Zero(V.rows());
    v(j) = wide(1);
    v.tail(V.rows() - j - 1) = V.col(j).tail(V.rows() - j - 1);
    Q = (Q * (I - tau(j) * v * v.adjoint())).eval();
  }
  return Q;
}

matrix<wide> applied(matrix<wide> const& Q, matrix<wide> const& X, side s, op o) {
  matrix<wide> const P = o == op::plain ? Q : matrix<wide>(Q.adjoint());
  return s == side::left ? matrix<wide>(P * X) : matrix<wide>(X * P);
}

/// The documented bound, 4 r (m + 5) ε relative to each column (row, from the right) of X. The oracle's own error has
/// the same form: |H| has 2-norm at most 3, so a product with it adds at most 3 (m + 5) ε.
template <class T>
long double reflector_bound(index_t m, index_t r) {
  return 4 * static_cast<long double>(r * (m + 5)) * (eps_of<T>() + wide_eps) + storage_eps<T>();
}

/// Every line of got is within relative × its norm in X0 of expected.
bool lines_agree(matrix<wide> const& got, matrix<wide> const& expected, matrix<wide> const& X0, side s,
                 long double relative) {
  matrix<wide> const difference = got - expected;
  for (index_t k = 0; k < (s == side::left ? X0.cols() : X0.rows()); ++k) {
    long double const error = s == side::left ? difference.col(k).norm() : difference.row(k).norm();
    long double const size = s == side::left ? X0.col(k).norm() : X0.row(k).norm();
    if (!(error <= relative * size)) {
      MESSAGE("line " << k << ": error " << double(error) << ", allowed " << double(relative * size));
      return false;
    }
  }
  return true;
}

/// By elimination with row exchanges.
wide determinant_of(matrix<wide> A) {
  wide product(1);
  for (index_t k = 0; k < A.rows(); ++k) {
    index_t pivot = k;
    for (index_t i = k; i < A.rows(); ++i)
      if (std::abs(A(i, k)) > std::abs(A(pivot, k))) pivot = i;
    if (pivot != k) {
      for (index_t j = k; j < A.cols(); ++j) std::swap(A(k, j), A(pivot, j));
      product = -product;
    }
    product *= A(k, k);
    for (index_t i = k + 1; i < A.rows(); ++i) {
      wide const factor = A(i, k) / A(k, k);
      for (index_t j = k; j < A.cols(); ++j) A(i, j) -= factor * A(k, j);
    }
  }
  return product;
}

bool same_elements(matrix<wide> const& A, matrix<wide> const& B) {
  if (A.rows() != B.rows() || A.cols() != B.cols()) return false;
  for (index_t k = 0; k < A.size(); ++k)
    if (!(A(k) == B(k))) return false;
  return true;
}

/// Equal shapes and elements, to the last bit.
template <class D, class E>
bool same_bits(Eigen::MatrixBase<D> const& A, Eigen::MatrixBase<E> const& B) {
  return same_elements(widened(A), widened(B));
}

/// In the complex case both parts.
template <class D>
bool all_nan(Eigen::MatrixBase<D> const& A) {
  matrix<wide> const W = widened(A);
  for (wide const& a : W.reshaped())
    if (!std::isnan(a.real()) || (is_complex<typename D::Scalar> && !std::isnan(a.imag()))) return false;
  return true;
}

// --- a dual number: value and derivative, with nothing but what the reference says it needs -----------------------

struct dual {
  double value = 0, slope = 0;
  dual() = default;
  explicit dual(int a) : value(a) {}
  dual(double a, double b) : value(a), slope(b) {}
  dual& operator+=(dual const& b) { return *this = *this + b; }
  dual& operator-=(dual const& b) { return *this = *this - b; }
  dual& operator*=(dual const& b) { return *this = *this * b; }
  friend dual operator-(dual const& a) { return {-a.value, -a.slope}; }
  friend dual operator+(dual const& a, dual const& b) { return {a.value + b.value, a.slope + b.slope}; }
  friend dual operator-(dual const& a, dual const& b) { return {a.value - b.value, a.slope - b.slope}; }
  friend dual operator*(dual const& a, dual const& b) {
    return {a.value * b.value, a.slope * b.value + a.value * b.slope};
  }
  friend dual operator/(dual const& a, dual const& b) {
    return {a.value / b.value, (a.slope - a.value / b.value * b.slope) / b.value};
  }
  friend bool operator<(dual const& a, dual const& b) { return a.value < b.value; }
  friend bool operator==(dual const& a, dual const& b) { return a.value == b.value; }
  friend dual sqrt(dual const& a) { return {std::sqrt(a.value), a.slope / (2 * std::sqrt(a.value))}; }
};

// --- LAPACK, one name for the real and the complex routine -----------------------------------------------------

lapack_int const column_major = LAPACK_COL_MAJOR;

template <class T>
lapack_int geqrf(matrix<T>& A, vector<T>& tau) {
  lapack_int const m = lapack_int(A.rows()), n = lapack_int(A.cols());
  if constexpr (is_complex<T>) return LAPACKE_zgeqrf(column_major, m, n, A.data(), m, tau.data());
  else return LAPACKE_dgeqrf(column_major, m, n, A.data(), m, tau.data());
}

template <class T>
lapack_int orgqr(matrix<T>& Q, vector<T> const& tau) {
  lapack_int const m = lapack_int(Q.rows()), k = lapack_int(tau.size());
  if constexpr (is_complex<T>) return LAPACKE_zungqr(column_major, m, m, k, Q.data(), m, tau.data());
  else return LAPACKE_dorgqr(column_major, m, m, k, Q.data(), m, tau.data());
}

template <class T>
lapack_int ormqr(side s, op o, matrix<T> const& V, vector<T> const& tau, matrix<T>& C) {
  lapack_int const m = lapack_int(C.rows()), n = lapack_int(C.cols()), k = lapack_int(V.cols());
  lapack_int const ldv = lapack_int(V.rows());
  char const where = s == side::left ? 'L' : 'R', adjoint = is_complex<T> ? 'C' : 'T';
  char const how = o == op::plain ? 'N' : adjoint;
  if constexpr (is_complex<T>)
    return LAPACKE_zunmqr(column_major, where, how, m, n, k, V.data(), ldv, tau.data(), C.data(), m);
  else return LAPACKE_dormqr(column_major, where, how, m, n, k, V.data(), ldv, tau.data(), C.data(), m);
}

}  // namespace

TEST_SUITE_BEGIN("reference");

// --- reflectors -------------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("reflectors one by one are the product of explicit matrices, both sides, plain and adjoint", T,
                   float, double, long double, std::complex<float>, std::complex<double>, std::complex<long double>,
                   Eigen::half, Eigen::bfloat16) {
  for (sizes const& z : {sizes{1, 1, 1}, {1, 2, 3}, {2, 1, 1}, {5, 3, 4}, {9, 9, 2}, {6, 11, 3}, {33, 7, 5}})
    for (side s : sides)
      for (op o : ops) {
        index_t const m = z.m, r = z.r, n = z.n;
        CAPTURE(m);
        CAPTURE(r);
        CAPTURE(int(s));
        CAPTURE(int(o));
        matrix<T> const U = gaussian<T>(m, r, 1);
        matrix<T> const X0 = s == side::left ? gaussian<T>(m, n, 2) : gaussian<T>(n, m, 2);
        matrix<wide> const expected = applied(product_of_reflectors(widened(U)), widened(X0), s, o);
        long double const bound = reflector_bound<T>(m, r);

        matrix<T> X = X0;
        reference::apply(U, X, s, o);
        CHECK(lines_agree(widened(X), expected, widened(X0), s, bound));

        row_matrix<T> R = X0;  // the layout of X does not change a bit
        reference::apply(row_matrix<T>(U), R, s, o);
        CHECK(same_bits(R, X));

        matrix<T> frame = matrix<T>::Constant(X0.rows() + 2, X0.cols() + 3, scalar_of<T>(7));
        frame.block(1, 2, X0.rows(), X0.cols()) = X0;
        matrix<T> expected_frame = frame;
        expected_frame.block(1, 2, X0.rows(), X0.cols()) = X;
        reference::apply(U, frame.block(1, 2, X0.rows(), X0.cols()), s, o);
        CHECK(same_bits(frame, expected_frame));  // the padding is as it was
      }
}

TEST_CASE_TEMPLATE("the product of reflectors is unitary and its determinant counts the non-zero ones", T, float,
                   std::complex<double>) {
  for (index_t r : {0, 1, 2, 3, 6, 9}) {
    CAPTURE(r);
    index_t const m = 6;
    matrix<T> U = gaussian<T>(m, r, 3);
    index_t nonzero = r;
    if (r > 2) {
      U.col(1).setZero();
      --nonzero;
    }
    matrix<T> const Q = reference::materialize(U);
    REQUIRE(Q.rows() == m);
    REQUIRE(Q.cols() == m);
    // Q + E with ‖E‖_F ≤ b √m: ‖I − QᴴQ‖_F ≤ 2 b √m + b² m, and |det| moves by at most ‖E‖_F √m to first order.
    long double const b = reflector_bound<T>(m, r) + 2 * wide_eps;
    CHECK(static_cast<long double>(hoft::orthogonality_error(Q)) <= 2 * b + b * b * m + m * eps_of<T>());
    wide const determinant = determinant_of(widened(Q));
    CHECK(std::abs(determinant - wide(nonzero % 2 == 0 ? 1 : -1)) <= 2 * b * m + m * m * wide_eps);
  }
}

TEST_CASE_TEMPLATE("zero columns change nothing, not even a NaN's place", T, double, std::complex<float>, Eigen::half) {
  matrix<T> const V = gaussian<T>(5, 3, 4), X0 = gaussian<T>(5, 4, 5);
  matrix<T> U = matrix<T>::Zero(5, 6);
  U.col(1) = V.col(0);
  U.col(2) = V.col(1);
  U.col(4) = V.col(2);
  matrix<T> X = X0, Y = X0;
  reference::apply(U, X);
  reference::apply(V, Y);
  CHECK(same_bits(X, Y));

  matrix<T> Z = X0;
  Z(2, 1) = scalar_of<T>(not_a_number);
  reference::apply(matrix<T>::Zero(5, 2).eval(), Z);
  CHECK(std::isnan(std::abs(widened_scalar(Z(2, 1)))));
  Z(2, 1) = X0(2, 1);
  CHECK(same_bits(Z, X0));
}

TEST_CASE_TEMPLATE("the length of a vector does not matter", T, float, std::complex<double>) {
  index_t const m = 9, r = 4;
  matrix<T> const U = gaussian<T>(m, r, 6), X0 = gaussian<T>(m, 3, 7);
  double const huge = sizeof(real<T>) == 4 ? 1e30 : 1e200;
  for (double factor : {1 / huge, huge}) {
    CAPTURE(factor);
    matrix<T> const V = U * scalar_of<T>(factor);
    matrix<T> X = X0;
    reference::apply(V, X);
    CHECK(lines_agree(widened(X), applied(product_of_reflectors(widened(V)), widened(X0), side::left, op::plain),
                      widened(X0), side::left, reflector_bound<T>(m, r)));
  }
  // A power of two, and a sign, do not change a bit.
  matrix<T> X = X0, Y = X0;
  matrix<T> const V = U * scalar_of<T>(-std::ldexp(1.0, sizeof(real<T>) == 4 ? -99 : -600));
  reference::apply(U, X);
  reference::apply(V, Y);
  CHECK(same_bits(X, Y));
  // Subnormal elements: the direction is what is stored.
  matrix<T> tiny = matrix<T>::Zero(2, 1);
  tiny(0, 0) = tiny(1, 0) = T(std::numeric_limits<real<T>>::denorm_min());
  CHECK(
      (reference::materialize(tiny) - (matrix<T>(2, 2) << T(0), T(-1), T(-1), T(0)).finished()).cwiseAbs().maxCoeff() <=
      4 * 7 * std::numeric_limits<real<T>>::epsilon());
}

TEST_CASE_TEMPLATE("NaN or infinity among the reflectors comes out as NaN everywhere", T, float, std::complex<double>,
                   Eigen::bfloat16) {
  for (double bad : {not_a_number, infinity, -infinity})
    for (side s : sides) {
      CAPTURE(bad);
      matrix<T> U = gaussian<T>(4, 3, 8);
      U(2, 1) = scalar_of<T>(bad);
      matrix<T> X = gaussian<T>(4, 4, 9);
      reference::apply(U, X, s);
      CHECK(all_nan(X));

      matrix<T> single = matrix<T>::Zero(4, 1);  // beside zeros, which must not make it a zero column
      single(0, 0) = scalar_of<T>(bad);
      X = gaussian<T>(4, 4, 9);
      reference::apply(single, X, s);
      CHECK(all_nan(X));

      matrix<T> V = gaussian<T>(4, 3, 10);
      vector<T> tau = gaussian<T>(3, 1, 11);
      V(2, 1) = scalar_of<T>(bad);
      X = gaussian<T>(4, 4, 9);
      reference::apply(V, tau, X, s);
      CHECK(all_nan(X));

      V(2, 1) = scalar_of<T>(1);
      tau(2) = scalar_of<T>(bad);
      X = gaussian<T>(4, 4, 9);
      reference::apply(V, tau, X, s);
      CHECK(all_nan(X));
    }
}

TEST_CASE("NaN in X stays within its column from the left and its row from the right") {
  matrix<double> const U = gaussian<double>(4, 2, 12);
  for (side s : sides) {
    matrix<double> X = gaussian<double>(4, 4, 13);
    X(1, 2) = not_a_number;
    reference::apply(U, X, s);
    for (index_t i = 0; i < 4; ++i)
      for (index_t j = 0; j < 4; ++j) CHECK(std::isnan(X(i, j)) == (s == side::left ? j == 2 : i == 1));
  }
}

TEST_CASE("U may overlap X, and may be an expression or of another type") {
  matrix<double> const U = gaussian<double>(5, 2, 14);
  matrix<double> A(5, 4);
  A << U, gaussian<double>(5, 2, 15);
  matrix<double> expected = A;
  reference::apply(U, expected);
  reference::apply(A.leftCols(2), A);
  CHECK(same_bits(A, expected));

  matrix<double> X = matrix<double>::Identity(5, 5), Y = X;
  reference::apply(2 * matrix<double>::Identity(5, 5) * U, X);  // a product expression, of vectors twice as long
  reference::apply(U, Y);
  CHECK(same_bits(X, Y));

  // Complex products are contracted otherwise than real ones: each is within the bound.
  matrix<float> const F = U.cast<float>();
  matrix<std::complex<double>> Z = matrix<std::complex<double>>::Identity(5, 5);
  Y.setIdentity();
  reference::apply(F, Z);
  reference::apply(F, Y);
  CHECK(lines_agree(widened(Z), widened(Y.cast<std::complex<double>>()), matrix<wide>::Identity(5, 5), side::left,
                    2 * reflector_bound<std::complex<double>>(5, 2)));

  // Maps with both strides.
  std::vector<double> memory(64, -3);
  Eigen::Map<matrix<double>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> map(memory.data(), 5, 3, {12, 2});
  map = gaussian<double>(5, 3, 16);
  matrix<double> dense = map;
  reference::apply(U, map);
  reference::apply(U, dense);
  CHECK(same_bits(map, dense));
  CHECK(memory[1] == -3);
}

template <class U, class X>
concept applicable = requires(U&& u, X&& x) {
  reference::apply(u, std::forward<X>(x));
};
static_assert(applicable<matrix<double> const&, matrix<double>&>);
static_assert(applicable<matrix<double> const&, Eigen::Map<matrix<double>>>);
static_assert(applicable<matrix<double> const&, Eigen::Ref<matrix<double>>>);
static_assert(!applicable<matrix<double> const&, matrix<double>>, "the result would be lost");
static_assert(!applicable<matrix<double> const&, matrix<double> const&>);
static_assert(!applicable<matrix<double> const&, Eigen::Map<matrix<double> const>>);
static_assert(!applicable<matrix<double> const&, decltype(matrix<double>() + matrix<double>())>);

TEST_CASE_TEMPLATE("LAPACK's convention against LAPACK", T, double, std::complex<double>) {
  for (sizes const& z : {sizes{1, 1, 1}, {2, 1, 3}, {5, 5, 2}, {9, 4, 6}, {40, 35, 3}}) {
    index_t const m = z.m, r = z.r, n = z.n;
    CAPTURE(m);
    CAPTURE(r);
    matrix<T> V = gaussian<T>(m, r, 17);
    vector<T> tau(r);
    REQUIRE(geqrf(V, tau) == 0);  // V's upper triangle holds R: it must not be read
    // Ours and LAPACK's both have the documented error.
    long double const bound = 2 * reflector_bound<T>(m, r);

    matrix<T> expected = matrix<T>::Zero(m, m);
    expected.leftCols(r) = V;
    REQUIRE(orgqr(expected, tau) == 0);
    matrix<T> const Q = reference::materialize(V, tau);
    CHECK(lines_agree(widened(Q), widened(expected), matrix<wide>::Identity(m, m), side::left, bound));

    for (side s : sides)
      for (op o : ops) {
        matrix<T> const X0 = s == side::left ? gaussian<T>(m, n, 18) : gaussian<T>(n, m, 18);
        matrix<T> X = X0, C = X0;
        REQUIRE(ormqr(s, o, V, tau, C) == 0);
        reference::apply(V, tau, X, s, o);
        CHECK(lines_agree(widened(X), widened(C), widened(X0), s, bound));
        matrix<T> Y = X0;  // tau as a row
        reference::apply(V, tau.transpose(), Y, s, o);
        CHECK(same_bits(Y, X));
      }
  }
}

TEST_CASE_TEMPLATE("LAPACK's convention with any tau against explicit matrices", T, double, long double,
                   std::complex<float>, Eigen::half) {
  index_t const m = 7, n = 3;
  for (index_t r : {0, 1, 4, 7})
    for (side s : sides)
      for (op o : ops) {
        CAPTURE(r);
        CAPTURE(int(s));
        CAPTURE(int(o));
        matrix<T> V = gaussian<T>(m, r, 19);
        vector<T> tau = gaussian<T>(r, 1, 20);
        if (r > 2) tau(1) = scalar_of<T>(0);
        // The documented error of one reflector, carried through the others: each multiplies by at most 1 + |τ| ‖v‖².
        long double growth = 1, sum = 0;
        for (index_t k = 0; k < r; ++k) {
          long double const t = std::abs(widened_scalar(tau(k)));
          long double const factor = t * (1 + widened(V).col(k).tail(m - k - 1).squaredNorm());
          growth *= 1 + factor;
          sum += factor;
        }
        long double const bound = 2 * (m + 5) * sum * growth * (eps_of<T>() + 2 * wide_eps) + growth * storage_eps<T>();
        matrix<T> const X0 = s == side::left ? gaussian<T>(m, n, 21) : gaussian<T>(n, m, 21);
        matrix<wide> const explicit_Q = product_of_reflectors(widened(V), widened(tau));
        matrix<wide> const expected = applied(explicit_Q, widened(X0), s, o);
        for (index_t j = 0; j < r; ++j)  // what may not be read
          for (index_t i = 0; i <= j; ++i) V(i, j) = scalar_of<T>(not_a_number);
        matrix<T> X = X0;
        reference::apply(V, tau, X, s, o);
        CHECK(lines_agree(widened(X), expected, widened(X0), s, bound));
        if (s == side::left && o == op::plain) {
          matrix<computed<T>> const Q = reference::materialize(V, tau);
          CHECK(lines_agree(widened(Q), explicit_Q, matrix<wide>::Identity(m, m), side::left, bound));
        }
      }
}

/// Elementwise loops only: Eigen's own products of multiprecision types would cost most of this file's compile time.
template <class T>
matrix<T> dense_product(matrix<T> const& A, matrix<T> const& B) {
  matrix<T> C(A.rows(), B.cols());
  for (index_t i = 0; i < A.rows(); ++i)
    for (index_t j = 0; j < B.cols(); ++j) {
      C(i, j) = T(0);
      for (index_t l = 0; l < A.cols(); ++l) C(i, j) += A(i, l) * B(l, j);
    }
  return C;
}

TEST_CASE_TEMPLATE("multiprecision, real and complex, with and without expression templates", T, mp::cpp_dec_float_50,
                   mp::cpp_complex_50) {
  using R = typename Eigen::NumTraits<T>::Real;
  index_t const m = 5, r = 3;
  matrix<T> const U = gaussian<T>(m, r, 22), X0 = gaussian<T>(m, m, 23);
  matrix<T> Q(m, m);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < m; ++j) Q(i, j) = T(i == j ? 1 : 0);
  matrix<T> const I = Q;
  auto const conjugated = [](T const& a) {
    if constexpr (is_complex<T>) return T(conj(a));
    else return a;
  };
  for (index_t k = 0; k < r; ++k) {
    T square(0);
    for (index_t i = 0; i < m; ++i) square += conjugated(U(i, k)) * U(i, k);
    matrix<T> H = I;
    for (index_t i = 0; i < m; ++i)
      for (index_t j = 0; j < m; ++j) H(i, j) -= 2 * U(i, k) * conjugated(U(j, k)) / square;
    Q = dense_product(Q, H);
  }
  matrix<T> Qh(m, m);
  for (index_t i = 0; i < m; ++i)
    for (index_t j = 0; j < m; ++j) Qh(i, j) = conjugated(Q(j, i));
  R const eps = std::numeric_limits<R>::epsilon();
  for (side s : sides)
    for (op o : ops) {
      matrix<T> X = X0;
      reference::apply(U, X, s, o);
      matrix<T> const P = o == op::plain ? Q : Qh;
      matrix<T> const expected = s == side::left ? dense_product(P, X0) : dense_product(X0, P);
      R worst(0), size(0);
      for (index_t i = 0; i < m; ++i)
        for (index_t j = 0; j < m; ++j) {
          R const error = R(abs(T(X(i, j) - expected(i, j)))), a = R(abs(X0(i, j)));
          if (!(error <= worst)) worst = error;
          size += a * a;
        }
      // The documented bound for ours and as much for the explicit product; decimal digits round up to 10 times worse.
      CHECK(worst <= R(2 * 4 * r * (m + 5) * 10) * eps * R(sqrt(size)));
    }
  CHECK(hoft::orthogonality_error(reference::materialize(U)) <= R(2 * 4 * r * (m + 5) * 10) * eps);
  CHECK(hoft::orthogonality_error(U) > R(1));
  CHECK(abs(R(hoft::hyperspherical_energy(I) - R(20) / sqrt(R(2)))) <= R(20 * 20) * eps);
  matrix<T> V = I;
  V(1, 0) = T(1) / T(3);
  vector<T> tau(1);
  tau(0) = T(9) / T(5);  // 2 / (1 + 1/9): a reflector
  CHECK(hoft::orthogonality_error(reference::materialize(V.leftCols(1), tau)) <= R(100) * eps);
}

TEST_CASE("double and long double results agree with 50 digits") {
  using big = mp::cpp_bin_float_50;
  index_t const m = 12, r = 5;
  auto const check = [&]<class T>(T) {
    matrix<T> const U = gaussian<T>(m, r, 24);
    matrix<big> wide_U(m, r);
    for (index_t j = 0; j < r; ++j)
      for (index_t i = 0; i < m; ++i) wide_U(i, j) = big(U(i, j));
    matrix<T> const Q = reference::materialize(U);
    matrix<big> const expected = reference::materialize(wide_U);
    for (index_t j = 0; j < m; ++j) {
      big square = 0;
      for (index_t i = 0; i < m; ++i) square += pow(big(Q(i, j)) - expected(i, j), 2);
      CHECK(sqrt(square) <= big(4 * r * (m + 5)) * std::numeric_limits<T>::epsilon());
    }
  };
  check(double());
  check(static_cast<long double>(0));
}

TEST_CASE("dual numbers carry the derivative of a product of reflectors") {
  index_t const m = 6, r = 3, n = 2;
  matrix<double> const U = gaussian<double>(m, r, 25), dU = gaussian<double>(m, r, 26), X = gaussian<double>(m, n, 27),
                       dX = gaussian<double>(m, n, 28);
  matrix<dual> U_dual(m, r + 1), X_dual(m, n);
  for (index_t i = 0; i < m; ++i) {
    for (index_t j = 0; j < r; ++j) U_dual(i, j) = dual(U(i, j), dU(i, j));
    U_dual(i, r) = dual(0, 1);  // a zero column: the identity, and zero derivative by definition
    for (index_t j = 0; j < n; ++j) X_dual(i, j) = dual(X(i, j), dX(i, j));
  }
  // d(H₁ ⋯ H_r X) = Σ_k H₁ ⋯ dH_k ⋯ H_r X + H₁ ⋯ H_r dX, dH = −2 (du uᵀ + u duᵀ)/s + 4 u uᵀ (uᵀdu)/s², s = uᵀu.
  matrix<double> const I = matrix<double>::Identity(m, m);
  matrix<double> Q = I, dQ = matrix<double>::Zero(m, m);
  double bend = 0;  // Σ 8 ‖du‖ / ‖u‖ bounds ‖dQ‖
  for (index_t k = 0; k < r; ++k) {
    vector<double> const u = U.col(k), du = dU.col(k);
    double const square = u.squaredNorm();
    matrix<double> const H = I - 2 / square * u * u.transpose();
    matrix<double> const dH =
        -2 / square * (du * u.transpose() + u * du.transpose()) + 4 * u.dot(du) / (square * square) * u * u.transpose();
    dQ = (dQ * H + Q * dH).eval();
    Q = (Q * H).eval();
    bend += 8 * du.norm() / u.norm();
  }
  // Each rounding of the plain bound meets a derivative at most `bend` times as large, in ours and in the oracle.
  double const bound =
      2 * 4 * double(r * (m + 5)) * std::numeric_limits<double>::epsilon() * ((1 + r) * bend * X.norm() + dX.norm());
  for (side s : sides)
    for (op o : ops) {
      matrix<double> const P = o == op::plain ? Q : matrix<double>(Q.transpose());
      matrix<double> const dP = o == op::plain ? dQ : matrix<double>(dQ.transpose());
      bool const left = s == side::left;
      matrix<double> const Xs = left ? X : matrix<double>(X.transpose());
      matrix<double> const dXs = left ? dX : matrix<double>(dX.transpose());
      matrix<double> const expected = left ? matrix<double>(dP * Xs + P * dXs) : matrix<double>(Xs * dP + dXs * P);
      matrix<dual> Y = left ? X_dual : matrix<dual>(X_dual.transpose());
      reference::apply(U_dual, Y, s, o);
      for (index_t i = 0; i < Y.rows(); ++i)
        for (index_t j = 0; j < Y.cols(); ++j) CHECK(std::abs(Y(i, j).slope - expected(i, j)) <= bound);
    }
}

TEST_CASE("dual numbers through the measures") {
  double const eps = std::numeric_limits<double>::epsilon();
  // Two unit vectors at angle a: energy 2 / (2 sin(a/2)), slope −cos(a/2) / (2 sin²(a/2)).
  double const a = 0.7;
  matrix<dual> W(2, 2);
  W << dual(1), dual(std::cos(a), -std::sin(a)), dual(0), dual(std::sin(a), std::cos(a));
  dual const energy = hoft::hyperspherical_energy(W);
  double const s = std::sin(a / 2);
  CHECK(std::abs(energy.value - 1 / s) <= 20 * eps / (s * s));
  CHECK(std::abs(energy.slope + std::cos(a / 2) / (2 * s * s)) <= 40 * eps / (s * s * s));
  // One column of length c: |1 − c²|, slope 2c beyond 1.
  matrix<dual> q(1, 1);
  q << dual(1.5, 1);
  CHECK(hoft::orthogonality_error(q).value == 1.25);
  CHECK(hoft::orthogonality_error(q).slope == 3);
}

TEST_CASE_TEMPLATE("reflectors of empty shapes", T, float, std::complex<double>, Eigen::half) {
  for (side s : sides) {
    matrix<T> const X0 = gaussian<T>(4, 4, 29);
    matrix<T> X = X0;
    reference::apply(matrix<T>(4, 0), X, s);
    CHECK(same_bits(X, X0));
    reference::apply(matrix<T>(4, 0), vector<T>(0), X, s, op::adjoint);
    CHECK(same_bits(X, X0));
    matrix<T> none = s == side::left ? matrix<T>(4, 0) : matrix<T>(0, 4);
    reference::apply(X0, none, s);
    CHECK(none.size() == 0);
    matrix<T> flat = s == side::left ? matrix<T>(0, 3) : matrix<T>(3, 0);
    reference::apply(matrix<T>(0, 2), flat, s);
    CHECK(flat.size() == 0);
  }
  CHECK(same_bits(reference::materialize(matrix<T>(3, 0)), matrix<computed<T>>::Identity(3, 3)));
  CHECK(reference::materialize(matrix<T>(0, 2)).size() == 0);
  CHECK(reference::materialize(matrix<T>(0, 0), vector<T>(0)).size() == 0);
}

TEST_CASE("reflectors refuse shapes that do not fit, and write nothing before") {
  matrix<double> const U = gaussian<double>(4, 3, 30), X0 = gaussian<double>(5, 4, 31);
  vector<double> const tau = vector<double>::Ones(3);
  matrix<double> X = X0;
  CHECK_THROWS_WITH_AS(reference::apply(U, X), "hoft::reference::apply: X.rows is 5, must be == 4", hoft::shape_error);
  CHECK_THROWS_WITH_AS(reference::apply(U, tau, X), "hoft::reference::apply: X.rows is 5, must be == 4",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(reference::apply(gaussian<double>(5, 1, 1), X, side::right),
                       "hoft::reference::apply: X.cols is 4, must be == 5", hoft::shape_error);
  CHECK_THROWS_WITH_AS(reference::apply(gaussian<double>(5, 1, 1), tau.head(1), X, side::right),
                       "hoft::reference::apply: X.cols is 4, must be == 5", hoft::shape_error);
  CHECK_THROWS_WITH_AS(reference::apply(U, tau.head(2), X, side::right),
                       "hoft::reference::apply: tau.size is 2, must be == 3", hoft::shape_error);
  CHECK_THROWS_WITH_AS(reference::apply(U, matrix<double>::Ones(3, 2).eval(), X, side::right),
                       "hoft::reference::apply: tau.cols is 2, must be == 1", hoft::shape_error);
  CHECK_THROWS_WITH_AS(reference::apply(gaussian<double>(4, 5, 1), vector<double>::Ones(5).eval(), X, side::right),
                       "hoft::reference::apply: V.cols is 5, must be <= 4", hoft::shape_error);
  CHECK(same_bits(X, X0));
  CHECK_THROWS_WITH_AS(reference::materialize(U, tau.head(2)),
                       "hoft::reference::materialize: tau.size is 2, must be == 3", hoft::shape_error);
  CHECK_THROWS_WITH_AS(reference::materialize(gaussian<double>(2, 3, 1), tau),
                       "hoft::reference::materialize: V.cols is 3, must be <= 2", hoft::shape_error);
}

// --- orthogonality ----------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("orthogonality error of known matrices", T, float, long double, std::complex<double>, Eigen::half) {
  using R = real<T>;
  static_assert(std::is_same_v<decltype(hoft::orthogonality_error(matrix<T>())), R>);
  CHECK(hoft::orthogonality_error(matrix<T>::Identity(5, 3)) == R(0));
  CHECK(hoft::orthogonality_error(matrix<T>::Identity(5, 3) * scalar_of<T>(3)) == R(8));
  CHECK(hoft::orthogonality_error(matrix<T>::Zero(5, 3)) == R(1));
  matrix<T> parallel = matrix<T>::Zero(4, 2);  // Gram [1 1; 1 1]: ‖I − G‖_F = √2
  parallel.row(1).setConstant(scalar_of<T>(1));
  CHECK(hoft::orthogonality_error(parallel) == R(1));
  CHECK(hoft::orthogonality_error(matrix<T>(3, 0)) == R(0));
  CHECK(hoft::orthogonality_error(matrix<T>(0, 0)) == R(0));
  CHECK(hoft::orthogonality_error(matrix<T>(0, 3)) == R(1));
  for (double bad : {not_a_number, infinity}) {
    matrix<T> Q = matrix<T>::Identity(3, 3);
    Q(1, 2) = scalar_of<T>(bad);
    CHECK(std::isnan(hoft::orthogonality_error(Q)));
    // Where no infinity meets a zero or one of the other sign, sums alone would stay infinite.
    for (index_t k : {1, 3}) CHECK(std::isnan(hoft::orthogonality_error(matrix<T>::Constant(3, k, scalar_of<T>(bad)))));
    if constexpr (Eigen::NumTraits<T>::IsComplex) {
      Q(1, 2) = T(1, -bad);
      CHECK(std::isnan(hoft::orthogonality_error(Q)));
    }
  }
}

TEST_CASE("orthogonality error of complex columns uses the adjoint") {
  using C = std::complex<double>;
  matrix<C> Q(2, 2);
  Q << C(0.6, 0), C(0, 0.8), C(0, 0.8), C(0.6, 0);  // unitary; QᵀQ is not the identity
  CHECK(hoft::orthogonality_error(Q) <= 4 * std::numeric_limits<double>::epsilon());
  Q << C(0.6, 0), C(0.8, 0), C(0, 0.8), C(0, 0.6);  // columns (0.6, 0.8i) and (0.8, 0.6i): inner product 0.96
  CHECK(hoft::orthogonality_error(Q) == doctest::Approx(0.96).epsilon(1e-14));
}

TEST_CASE("orthogonality error of float columns is not lost in float sums") {
  matrix<float> const Q = matrix<float>::Constant(100, 1, 0.1f);
  long double const expected = std::abs(100 * static_cast<long double>(0.1f) * static_cast<long double>(0.1f) - 1);
  // Half an ulp of the result, and m ε of double from the sum.
  long double const bound =
      expected * std::numeric_limits<float>::epsilon() + 100 * std::numeric_limits<double>::epsilon();
  CHECK(std::abs(static_cast<long double>(hoft::orthogonality_error(Q)) - expected) <= bound);
}

TEST_CASE_TEMPLATE("orthogonality error against a Gram matrix in long double", T, float, std::complex<double>) {
  index_t const m = 20, k = 6;
  matrix<T> const Q = gaussian<T>(m, k, 32);
  matrix<wide> const W = widened(Q);
  matrix<wide> const gram = W.adjoint() * W;
  long double const expected = (matrix<wide>::Identity(k, k) - gram).norm() / std::sqrt(static_cast<long double>(k));
  // m ε times the Gram matrix of absolute values, and the roundings of the norm.
  long double const bound = eps_of<T>() * (m * W.squaredNorm() + k * k * expected);
  CHECK(std::abs(static_cast<long double>(hoft::orthogonality_error(Q)) - expected) <= bound);
}

// --- hyperspherical energy --------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("hyperspherical energy of known configurations", T, float, long double, std::complex<double>,
                   Eigen::bfloat16) {
  using R = real<T>;
  static_assert(std::is_same_v<decltype(hoft::hyperspherical_energy(matrix<T>())), R>);
  auto const close = [](R got, double expected) {
    return std::abs(static_cast<double>(got) - expected) <= 20 * static_cast<double>(eps_of<T>()) * expected;
  };
  // Orthonormal columns are √2 apart, opposite ones 2.
  CHECK(close(hoft::hyperspherical_energy(matrix<T>::Identity(5, 4)), 12 / std::sqrt(2.0)));
  matrix<T> W = matrix<T>::Zero(3, 2);
  W(1, 0) = scalar_of<T>(2);
  W(1, 1) = scalar_of<T>(-0.5);
  CHECK(hoft::hyperspherical_energy(W) == R(1));
  // An equilateral triangle: sides √3, six ordered pairs. In 16 bits its corners are not representable.
  if constexpr (sizeof(T) > 2) {
    matrix<T> triangle(2, 3);
    T const h = scalar_of<T>(std::sqrt(0.75));
    triangle << T(1), scalar_of<T>(-0.5), scalar_of<T>(-0.5), T(0), h, -h;
    CHECK(std::abs(static_cast<double>(hoft::hyperspherical_energy(triangle)) - 6 / std::sqrt(3.0)) <=
          20 * std::max(static_cast<double>(eps_of<T>()), std::numeric_limits<double>::epsilon()) * 6);
  }
  // A zero column has no direction.
  matrix<T> gap = matrix<T>::Zero(5, 6);
  gap.leftCols(2).setIdentity();
  gap.rightCols(2) = matrix<T>::Identity(5, 5).middleCols(2, 2);
  CHECK(hoft::hyperspherical_energy(gap) == hoft::hyperspherical_energy(matrix<T>::Identity(5, 4)));
  // Coincident columns.
  matrix<T> twice = gaussian<T>(5, 3, 33);
  twice.col(2) = twice.col(0) * scalar_of<T>(4);
  CHECK(hoft::hyperspherical_energy(twice) == std::numeric_limits<R>::infinity());
  for (double bad : {not_a_number, infinity}) {
    twice = gaussian<T>(5, 3, 33);
    twice(1, 1) = scalar_of<T>(bad);
    CHECK(std::isnan(hoft::hyperspherical_energy(twice)));
  }
  CHECK(hoft::hyperspherical_energy(matrix<T>(4, 0)) == R(0));
  CHECK(hoft::hyperspherical_energy(matrix<T>(0, 4)) == R(0));
  CHECK(hoft::hyperspherical_energy(gaussian<T>(4, 1, 34)) == R(0));
  CHECK(hoft::hyperspherical_energy(matrix<T>::Zero(4, 3)) == R(0));
}

TEST_CASE("hyperspherical energy in the complex space tells phases apart") {
  using C = std::complex<double>;
  matrix<C> W(1, 2);
  W << C(1, 0), C(0, 3);
  CHECK(hoft::hyperspherical_energy(W) == doctest::Approx(std::sqrt(2.0)).epsilon(1e-14));
}

TEST_CASE_TEMPLATE("hyperspherical energy against inner products in long double, at any column length", T, float,
                   std::complex<double>) {
  index_t const m = 24, n = 9;
  double const huge = sizeof(real<T>) == 4 ? 1e30 : 1e200;
  matrix<T> W = gaussian<T>(m, n, 35);
  W.col(2) *= scalar_of<T>(huge);
  W.col(5) *= scalar_of<T>(1 / huge);
  matrix<wide> const V = widened(W).colwise().normalized();
  long double expected = 0, nearest = 2;
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < n; ++j) {
      if (i == j) continue;
      long double const distance = std::sqrt(2 - 2 * std::real(V.col(i).dot(V.col(j))));
      expected += 1 / distance;
      nearest = std::min(nearest, distance);
    }
  long double const eps = std::numeric_limits<double>::epsilon();
  long double const bound = ((m + 8) * eps / nearest + n * n * eps / 2 + eps_of<T>()) * expected;
  CHECK(std::abs(static_cast<long double>(hoft::hyperspherical_energy(W)) - expected) <= bound);
}

TEST_CASE("hyperspherical energy of near neighbours keeps its digits") {
  double const d = 1e-9;  // 1 − cos is lost in double here
  matrix<double> W(2, 2);
  W << 1, 1, 0, d;
  double const expected = 1 / std::sin(std::atan(d) / 2);
  // (m + 8) ε over the distance.
  CHECK(std::abs(hoft::hyperspherical_energy(W) / expected - 1) <= 10 * std::numeric_limits<double>::epsilon() / d);
}

TEST_CASE_TEMPLATE("a product of reflectors keeps the energy from the left and not from the right", T, float,
                   std::complex<double>) {
  index_t const m = 16, n = 12;
  matrix<T> const W = gaussian<T>(m, n, 36);
  matrix<T> left = W, right = W;
  reference::apply(gaussian<T>(m, 4, 37), left);
  reference::apply(gaussian<T>(n, 4, 38), right, side::right);
  double const energy = static_cast<double>(hoft::hyperspherical_energy(W));
  // Each column moves by at most the reflectors' bound, each distance by twice that, and 1/d by 2 b / d²; the nearest
  // of these columns are more than 1/2 apart, so a term moves by at most 4 b relative to itself. Then the energy's
  // own.
  double const b = static_cast<double>(reflector_bound<T>(m, 4));
  double const bound = (4 * b + 2 * (m + 8 + n * n) * static_cast<double>(eps_of<T>())) * energy;
  CHECK(std::abs(static_cast<double>(hoft::hyperspherical_energy_change(W, left))) <= bound);
  CHECK(std::abs(static_cast<double>(hoft::hyperspherical_energy_change(W, right))) > 0.1);
}

TEST_CASE("the energy's change has a sign, and float matrices lose nothing in it") {
  matrix<double> const spread = matrix<double>::Identity(3, 2);
  matrix<double> close = spread;
  close(0, 1) = 1;  // 45° instead of 90°
  double const expected = 1 / std::sin(std::atan(1.0) / 2) - std::sqrt(2.0);
  CHECK(hoft::hyperspherical_energy_change(spread, close) == doctest::Approx(expected).epsilon(1e-13));
  CHECK(hoft::hyperspherical_energy_change(close, spread) == doctest::Approx(-expected).epsilon(1e-13));
  CHECK(hoft::hyperspherical_energy_change(close, close) == 0);

  matrix<float> const W = gaussian<float>(40, 30, 39);
  matrix<float> What = W;
  What(0, 0) += 1e-3f;  // changes an energy of 600 by far less than float resolves
  double const change =
      hoft::hyperspherical_energy(What.cast<double>()) - hoft::hyperspherical_energy(W.cast<double>());
  REQUIRE(std::abs(change) > 0);
  CHECK(std::abs(static_cast<double>(hoft::hyperspherical_energy_change(W, What)) - change) <=
        std::abs(change) * std::numeric_limits<float>::epsilon());
  CHECK_THROWS_WITH_AS(static_cast<void>(hoft::hyperspherical_energy_change(W, W.topRows(3))),
                       "hoft::hyperspherical_energy_change: What.rows is 3, must be == 40", hoft::shape_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(hoft::hyperspherical_energy_change(W, W.leftCols(3))),
                       "hoft::hyperspherical_energy_change: What.cols is 3, must be == 30", hoft::shape_error);
}

// --- singular values --------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("singular values of matrices built from them", T, float, std::complex<double>) {
  using R = real<T>;
  vector<R> const sigma = (vector<R>(4) << R(5), R(2), R(0.5), R(0)).finished();
  for (auto [m, n] : {std::pair<index_t, index_t>{4, 4}, {7, 4}, {4, 9}}) {
    matrix<T> M = matrix<T>::Zero(m, n);
    for (index_t i = 0; i < 4; ++i) M(i, i) = T(sigma(3 - i));
    matrix<T> const diagonal = M;
    reference::apply(gaussian<T>(m, 3, 40), M);
    reference::apply(gaussian<T>(n, 2, 41), M, side::right);
    vector<R> const got = hoft::singular_values(M);
    REQUIRE(got.size() == 4);
    // The reflectors move M by their bound times ‖M‖_F, so each value by no more (Weyl); then Jacobi's min(m, n) ε
    // σ₁.
    long double const moved = reflector_bound<T>(m, 3) + reflector_bound<T>(n, 2);
    long double const bound = moved * sigma.norm() + 4 * 4 * eps_of<T>() * sigma(0);
    CHECK(static_cast<long double>((got - sigma).cwiseAbs().maxCoeff()) <= bound);
    CHECK(static_cast<long double>(hoft::singular_value_drift(diagonal, M)) <= bound / sigma(0));
    CHECK(static_cast<long double>(hoft::singular_value_drift(diagonal, (M * T(3)).eval())) ==
          doctest::Approx(2).epsilon(1e-5));
  }
}

TEST_CASE_TEMPLATE("singular values: zero, empty, NaN, 16 bits", T, double, std::complex<float>, Eigen::half) {
  using R = real<T>;
  using singular_values_of = decltype(hoft::singular_values(matrix<T>()));
  static_assert(std::is_same_v<typename singular_values_of::Scalar, R> && singular_values_of::ColsAtCompileTime == 1);
  matrix<T> const zero = matrix<T>::Zero(3, 2);
  matrix<T> M = zero;
  M(2, 0) = scalar_of<T>(-4);
  CHECK(same_bits(hoft::singular_values(M), (vector<R>(2) << R(4), R(0)).finished()));
  CHECK(hoft::singular_values(matrix<T>(3, 0)).size() == 0);
  CHECK(hoft::singular_values(matrix<T>(0, 3)).size() == 0);
  CHECK(hoft::singular_value_drift(matrix<T>(0, 3), matrix<T>(0, 3)) == R(0));
  CHECK(hoft::singular_value_drift(zero, zero) == R(0));
  CHECK(hoft::singular_value_drift(M, M) == R(0));
  CHECK(hoft::singular_value_drift(M, zero) == R(1));
  CHECK(hoft::singular_value_drift(zero, M) == std::numeric_limits<R>::infinity());
  for (double bad : {not_a_number, infinity}) {
    matrix<T> broken = M;
    broken(1, 1) = scalar_of<T>(bad);
    CHECK(all_nan(hoft::singular_values(broken)));
    CHECK(std::isnan(hoft::singular_value_drift(M, broken)));
    CHECK(std::isnan(hoft::singular_value_drift(broken, M)));
    CHECK(std::isnan(hoft::singular_value_drift(zero, broken)));
  }
  CHECK_THROWS_WITH_AS(hoft::singular_value_drift(M, M.topRows(1)),
                       "hoft::singular_value_drift: Mhat.rows is 1, must be == 3", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::singular_value_drift(M, M.leftCols(1)),
                       "hoft::singular_value_drift: Mhat.cols is 1, must be == 2", hoft::shape_error);
}

// --- gradient check ---------------------------------------------------------------------------------------------

namespace {

/// f(X) = Σ sin(|x|² + Re(conj(a) x)): smooth, not quadratic, of order 1.
template <class T>
struct wave {
  matrix<T> A;
  static real<T> re(T const& a) { return std::real(a); }
  static T conjugate(T const& a) {
    if constexpr (is_complex<T>) return std::conj(a);
    else return a;
  }
  real<T> argument(T const& a, T const& x) const { return re(conjugate(x) * x) + re(conjugate(a) * x); }
  real<T> operator()(matrix<T> const& X) const {
    real<T> sum = 0;
    for (index_t k = 0; k < X.size(); ++k) sum += std::sin(argument(A(k), X(k)));
    return sum;
  }
  matrix<T> gradient(matrix<T> const& X) const {
    matrix<T> G(X.rows(), X.cols());
    for (index_t k = 0; k < X.size(); ++k) G(k) = (T(2) * X(k) + A(k)) * T(std::cos(argument(A(k), X(k))));
    return G;
  }
  /// The documented accuracy, h² |f‴| / 6 + δ / h, relative to the largest part of the gradient: with q the argument
  /// of the sine, |f‴| ≤ |q′|³ + 3 |q′| |q″| and q″ = 2; δ is ε times the arguments' rounding and the sum's.
  double bound(matrix<T> const& X, double h) const {
    double const eps = static_cast<double>(eps_of<T>()), count = static_cast<double>(X.size());
    matrix<T> const G = gradient(X);
    double third = 0, noise = 0, scale = 0;
    for (index_t k = 0; k < X.size(); ++k) {
      double const x = static_cast<double>(std::abs(X(k))) + h, a = static_cast<double>(std::abs(A(k)));
      double const slope = 2 * x + a;
      third = std::max(third, slope * slope * slope + 6 * slope);
      noise += eps * (4 * x * (x + a) + count);
      scale = std::max(scale, static_cast<double>(std::abs(G(k))) / std::sqrt(2.0));
    }
    return (h * h * third / 6 + noise / h) / scale;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("the gradient check passes a right gradient and fails a wrong one", T, float, double, long double,
                   std::complex<double>) {
  matrix<T> const X = gaussian<T>(3, 4, 42) * scalar_of<T>(0.5);
  wave<T> const f{gaussian<T>(3, 4, 43)};
  matrix<T> const G = f.gradient(X);
  double const h =
      std::cbrt(static_cast<double>(eps_of<T>())) * std::max(1.0, static_cast<double>(X.cwiseAbs().maxCoeff()));
  double const bound = f.bound(X, h);

  auto const right = hoft::check_gradient(f, X, G);
  CAPTURE(double(right.error));
  CAPTURE(bound);
  CHECK(right.error <= bound);
  CHECK(right.difference == doctest::Approx(double(right.error * right.scale)).epsilon(1e-5));
  REQUIRE(bound < (sizeof(real<T>) == 4 ? 2e-2 : 1e-6));  // the bound says something

  // Wrong by 1e-3 of the largest element, in one place.
  real<T> const wrong = real<T>(sizeof(real<T>) == 4 ? 5e-2 : 1e-3);
  matrix<T> off = G;
  off(2, 1) += T(wrong * right.scale);
  auto const found = hoft::check_gradient(f, X, off);
  CHECK_FALSE(found.error <= bound);
  CHECK(double(found.error) == doctest::Approx(double(wrong)).epsilon(0.5));
  CHECK(found.row == 2);
  CHECK(found.col == 1);
  CHECK_FALSE(hoft::check_gradient(f, X, matrix<T>(G * T(real<T>(1) + wrong))).error <= bound);
  CHECK_FALSE(hoft::check_gradient(f, X, matrix<T>(-G)).error <= bound);
  auto const nothing = hoft::check_gradient(f, X, matrix<T>::Zero(3, 4));
  CHECK(nothing.error == 1);  // all of the numeric gradient is missing
  CHECK(nothing.scale == nothing.difference);
  if constexpr (is_complex<T>) {
    matrix<T> imaginary = G;
    imaginary(1, 3) += T(real<T>(0), wrong * right.scale);
    CHECK_FALSE(hoft::check_gradient(f, X, imaginary).error <= bound);
    CHECK_FALSE(hoft::check_gradient(f, X, G.conjugate()).error <= bound);
  }
}

TEST_CASE("the gradient check never passes NaN or infinity") {
  matrix<double> const X = gaussian<double>(3, 2, 44);
  wave<double> const f{gaussian<double>(3, 2, 45)};
  for (double bad : {not_a_number, infinity, -infinity}) {
    CAPTURE(bad);
    matrix<double> G = f.gradient(X);
    G(1, 1) = bad;
    auto const claimed = hoft::check_gradient(f, X, G);
    CHECK(claimed.error == infinity);
    CHECK(claimed.difference == infinity);
    CHECK(claimed.row == 1);
    CHECK(claimed.col == 1);
    auto const broken = [&](matrix<double> const& Y) { return Y(2, 0) > X(2, 0) ? bad : f(Y); };
    auto const numeric = hoft::check_gradient(broken, X, f.gradient(X));
    CHECK(numeric.error == infinity);
    CHECK(numeric.row == 2);
    CHECK(numeric.col == 0);
    matrix<double> point = X;
    point(0, 1) = bad;
    CHECK(hoft::check_gradient(f, point, f.gradient(X)).error == infinity);
  }
}

TEST_CASE("the gradient check: zero gradients, steps, types, calls") {
  matrix<double> const X = gaussian<double>(3, 2, 46), zero = matrix<double>::Zero(3, 2);
  auto const constant = [](auto const&) { return 1.5; };
  CHECK(hoft::check_gradient(constant, X, zero).error == 0);
  CHECK(hoft::check_gradient(constant, X, zero).scale == 0);
  CHECK(hoft::check_gradient(constant, X, X).error == 1);
  CHECK(hoft::check_gradient(constant, matrix<double>(0, 2), matrix<double>(0, 2)).error == 0);

  // One element of x moves at a time, two calls each, four with complex x; the others are exact.
  index_t calls = 0;
  auto const counting = [&](auto const& Y) {
    ++calls;
    CHECK((Y.array() != X.array()).count() == 1);
    return Y.sum();
  };
  CHECK(hoft::check_gradient(counting, X, matrix<double>::Ones(3, 2)).error <= 1e-9);
  CHECK(calls == 2 * X.size());
  calls = 0;
  using C = std::complex<double>;
  auto const counting_complex = [&](matrix<C> const& Y) {
    ++calls;
    return Y.real().sum() - 2 * Y.imag().sum();
  };
  matrix<C> const slope = matrix<C>::Constant(3, 2, C(1, -2));
  CHECK(hoft::check_gradient(counting_complex, X.cast<C>(), slope).error <= 1e-9);
  CHECK(calls == 4 * X.size());

  // The default step: the cube root of the spacing of numbers near 1, times max(1, |x|).
  matrix<double> far = matrix<double>::Constant(1, 2, 0.25);
  far(1) = -8;
  matrix<double> steps = matrix<double>::Zero(1, 2);
  auto const recording = [&](matrix<double> const& Y) {
    steps = steps.cwiseMax((Y - far).cwiseAbs());
    return 0.0;
  };
  static_cast<void>(hoft::check_gradient(recording, far, matrix<double>::Zero(1, 2)));
  CHECK(steps(0) == doctest::Approx(std::cbrt(std::ldexp(1.0, -52))).epsilon(1e-9));
  CHECK(steps(1) == doctest::Approx(8 * std::cbrt(std::ldexp(1.0, -52))).epsilon(1e-9));
  float half_step = 0;
  matrix<Eigen::half> const one = matrix<Eigen::half>::Constant(1, 1, Eigen::half(1.0f));
  auto const recording_half = [&](matrix<Eigen::half> const& Y) {
    half_step = std::max(half_step, static_cast<float>(Y(0)) - 1);
    return half_step;
  };
  static_cast<void>(hoft::check_gradient(recording_half, one, one));
  CHECK(half_step == doctest::Approx(std::cbrt(std::ldexp(1.0, -10))).epsilon(1e-2));

  // A scale-invariant function far from scale 1 needs its own step.
  matrix<double> const tiny = X * 1e-100;
  auto const direction = [](matrix<double> const& Y) { return Y(0, 0) / Y.stableNorm(); };
  matrix<double> gradient = X * (-X(0, 0) / (X.norm() * X.squaredNorm()));
  gradient(0, 0) += 1 / X.norm();
  double const h = std::cbrt(std::numeric_limits<double>::epsilon());
  CHECK(hoft::check_gradient(direction, tiny, gradient * 1e100, h * 1e-100).error <= 1e-8);
  CHECK_FALSE(hoft::check_gradient(direction, tiny, gradient * 1e100).error <= 1e-1);
  // A step that x does not feel.
  CHECK(hoft::check_gradient(direction, X, gradient, 1e-30).error == infinity);

  // float x, f in double: only the rounding of x + h remains, and the step that was taken is known exactly.
  matrix<float> const F = X.cast<float>();
  wave<double> const f{gaussian<double>(3, 2, 47)};
  auto const through = [&](matrix<float> const& Y) { return f(Y.cast<double>()); };
  static_assert(std::is_same_v<decltype(hoft::check_gradient(through, F, F).error), double>);
  double const h_float = std::cbrt(static_cast<double>(std::numeric_limits<float>::epsilon()));
  CHECK(hoft::check_gradient(through, F, f.gradient(F.cast<double>())).error <= f.bound(X, 4 * h_float));
  CHECK(hoft::check_gradient(through, F, f.gradient(F.cast<double>()), 1e-4).error <= f.bound(X, 2e-4));
  // 16-bit x likewise.
  matrix<Eigen::half> const H = X.cast<Eigen::half>();
  auto const sum = [](matrix<Eigen::half> const& Y) { return Y.cast<float>().squaredNorm(); };
  CHECK(hoft::check_gradient(sum, H, matrix<float>(2 * H.cast<float>())).error <= 1e-5);

  CHECK_THROWS_WITH_AS(static_cast<void>(hoft::check_gradient(constant, X, X.topRows(2))),
                       "hoft::check_gradient: dx.rows is 2, must be == 3", hoft::shape_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(hoft::check_gradient(constant, X, X.leftCols(1))),
                       "hoft::check_gradient: dx.cols is 1, must be == 2", hoft::shape_error);
  CHECK_THROWS_WITH_AS(static_cast<void>(hoft::check_gradient(constant, X, X, -1)),
                       "hoft::check_gradient: step is -1.000000, must be finite and >= 0", hoft::argument_error);
  CHECK_THROWS_AS(static_cast<void>(hoft::check_gradient(constant, X, X, not_a_number)), hoft::argument_error);
  CHECK_THROWS_AS(static_cast<void>(hoft::check_gradient(constant, X, X, infinity)), hoft::argument_error);
}

TEST_SUITE_END();
