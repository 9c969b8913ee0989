// SPDX-License-Identifier: BSD-3-Clause
// What the tests of the fast code share: matrices by seed, storage with sentinels, wide copies, oracles in long double,
// and the errors that are allowed.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/core/scalar.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/householder/compact_wy.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/eigen.hpp>
#include <hoft/reference/reflectors.hpp>

#include "compiled.hpp"
#include <Eigen/Core>
#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS  // a third off the time to compile
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <ostream>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

// Lists for TEST_CASE_TEMPLATE(name, T, list). Sanitizers judge code and not numbers: one scalar for each kind of code
// will do for them (complex, and converted to vectors of float), at a third of the time to compile.
#if defined(HOFT_TEST_FEW_SCALARS)
#define HOFT_ALL_SCALARS std::complex<double>, Eigen::half
#define HOFT_LAPACK_SCALARS float, std::complex<double>
#define HOFT_STORED_IN_16_BITS Eigen::half
#elif defined(HOFT_TEST_VECTOR_SCALARS)  // one for each kind of vectors
#define HOFT_ALL_SCALARS float, double, std::complex<float>, Eigen::bfloat16
#define HOFT_LAPACK_SCALARS float, double, std::complex<float>
#define HOFT_STORED_IN_16_BITS Eigen::bfloat16
#else
#define HOFT_ALL_SCALARS \
  float, double, long double, std::complex<float>, std::complex<double>, Eigen::half, Eigen::bfloat16
#define HOFT_LAPACK_SCALARS float, double, std::complex<float>, std::complex<double>
#define HOFT_STORED_IN_16_BITS Eigen::half, Eigen::bfloat16
#endif

namespace hoft_test {

using hoft::col_major;
using hoft::index_t;
using hoft::op;
using hoft::row_major;
using hoft::side;

/// Eigen's own matrix: what users bring, and what results must convert to.
template <class T, class Layout = col_major>
using dense_matrix = Eigen::Matrix<std::remove_cv_t<T>, Eigen::Dynamic, Eigen::Dynamic,
                                   std::is_same_v<Layout, col_major> ? Eigen::ColMajor : Eigen::RowMajor>;

inline constexpr side sides[] = {side::left, side::right};
inline constexpr op ops[] = {op::plain, op::adjoint};

// --- scalars ----------------------------------------------------------------------------------------------------

template <class T>
inline constexpr bool is_complex_scalar = Eigen::NumTraits<T>::IsComplex;
template <class T>
inline constexpr bool is_stored_in_16_bits = sizeof(T) == 2;

/// The type in which T is judged: long double, or complex<long double>.
template <class T>
using wide_t = std::conditional_t<is_complex_scalar<T>, std::complex<long double>, long double>;
template <class T>
using wide_matrix = dense_matrix<wide_t<T>>;
/// dense_matrix<W>, in a form from which W can be deduced.
template <class W>
using deducible = Eigen::Matrix<W, Eigen::Dynamic, Eigen::Dynamic>;
/// Bounds, entry by entry.
using bound_matrix = dense_matrix<long double>;

/// ε of the arithmetic, that of float for 16-bit storage.
template <class T>
long double eps_of() {
  return static_cast<long double>(std::numeric_limits<hoft::real_t<T>>::epsilon());
}

/// The relative error of rounding to 16-bit storage, half the spacing above 1; 0 where storage is no step of its own.
template <class T>
long double storage_rounding() {
  if constexpr (is_stored_in_16_bits<T>) return std::ldexp(1.0L, -std::numeric_limits<T>::digits);
  else return 0;
}
/// Half the spacing of the subnormal numbers of 16-bit storage: the rounding error of what is smaller still.
template <class T>
long double storage_floor() {
  if constexpr (is_stored_in_16_bits<T>) return static_cast<long double>(std::numeric_limits<T>::denorm_min()) / 2;
  else return 0;
}

template <class T>
T scalar_of(long double re, long double im = 0) {
  if constexpr (is_complex_scalar<T>)
    return T(static_cast<typename T::value_type>(re), static_cast<typename T::value_type>(im));
  else if constexpr (is_stored_in_16_bits<T>) return T(static_cast<float>(re));
  else return static_cast<T>(re);
}

template <class T>
wide_t<T> widened(T const& a) {
  return static_cast<wide_t<T>>(a);
}

/// The same numbers in long double; a column-major copy.
template <class D>
auto widen(Eigen::MatrixBase<D> const& A) {
  wide_matrix<typename D::Scalar> B(A.rows(), A.cols());
  for (index_t j = 0; j < A.cols(); ++j)
    for (index_t i = 0; i < A.rows(); ++i) B(i, j) = widened<typename D::Scalar>(A.coeff(i, j));
  return B;
}

/// Rounded from long double to T.
template <class T, class L = col_major, class D>
dense_matrix<T, L> narrowed(Eigen::MatrixBase<D> const& A) {
  dense_matrix<T, L> B(A.rows(), A.cols());
  for (index_t j = 0; j < A.cols(); ++j)
    for (index_t i = 0; i < A.rows(); ++i) B(i, j) = scalar_of<T>(std::real(A(i, j)), std::imag(A(i, j)));
  return B;
}

// --- matrices ---------------------------------------------------------------------------------------------------

/// Independent standard Gaussian entries (real and imaginary parts each); the same numbers, rounded, for every T and
/// layout.
template <class T, class L = col_major>
dense_matrix<T, L> gaussian(index_t m, index_t n, unsigned seed, double scale = 1) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  dense_matrix<T, L> A(m, n);
  for (index_t j = 0; j < n; ++j)
    for (index_t i = 0; i < m; ++i) {
      double const re = normal(engine), im = normal(engine);
      A(i, j) = scalar_of<T>(re * scale, im * scale);
    }
  return A;
}

/// A matrix inside a larger buffer: its leading dimension exceeds its extent, and memory lies before and after it.
/// Whatever is not an element holds sentinels, which are NaN in every type: reading one spoils the result, writing one
/// is seen by `intact`.
template <class T, class L = col_major, class Allocator = std::allocator<T>>
class padded {
 public:
  using matrix = dense_matrix<T, L>;

  /// Its first element lies `shift` elements, fewer than 16, behind a multiple of 16 bytes.
  padded(index_t rows, index_t cols, index_t padding = 3, index_t shift = 0)
      : first_(guard + shift),
        inner_(std::is_same_v<L, col_major> ? rows : cols),
        ld_(std::max<index_t>(inner_ + padding, 1)),
        rows_(rows),
        cols_(cols),
        memory_(std::size_t((std::is_same_v<L, col_major> ? cols : rows) * ld_ + 2 * guard), T(0)) {
    std::memset(static_cast<void*>(memory_.data()), 0xFF, memory_.size() * sizeof(T));
  }
  template <class D>
  explicit padded(Eigen::MatrixBase<D> const& A, index_t padding = 3, index_t shift = 0)
      : padded(A.rows(), A.cols(), padding, shift) {
    map() = A;
  }

  hoft::matrix_view<T, L> view() { return {memory_.data() + first_, rows_, cols_, ld_}; }
  hoft::matrix_view<T const, L> view() const { return {memory_.data() + first_, rows_, cols_, ld_}; }
  auto map() { return hoft::as_eigen(view()); }
  auto map() const { return hoft::as_eigen(view()); }

  /// No sentinel was overwritten.
  bool intact() const {
    for (index_t e = 0; e < index_t(memory_.size()); ++e) {
      index_t const offset = e - first_;
      bool const inside =
          offset >= 0 && offset % ld_ < inner_ && offset < (std::is_same_v<L, col_major> ? cols_ : rows_) * ld_;
      if (inside) continue;
      auto const* const bytes = reinterpret_cast<unsigned char const*>(memory_.data() + e);
      if (!std::all_of(bytes, bytes + sizeof(T), [](unsigned char b) { return b == 0xFF; })) return false;
    }
    return true;
  }

 private:
  static constexpr index_t guard = 16;
  index_t first_, inner_, ld_, rows_, cols_;
  std::vector<T, Allocator> memory_;
};

/// The same numbers, NaN equal to NaN and 0 different from −0.
template <class DA, class DB>
bool same_bits(Eigen::MatrixBase<DA> const& A, Eigen::MatrixBase<DB> const& B) {
  static_assert(std::is_same_v<typename DA::Scalar, typename DB::Scalar>);
  if (A.rows() != B.rows() || A.cols() != B.cols()) return false;
  auto const same_real = [](auto a, auto b) {
    auto const x = static_cast<long double>(a), y = static_cast<long double>(b);
    return std::isnan(x) ? std::isnan(y) : x == y && std::signbit(x) == std::signbit(y);
  };
  for (index_t j = 0; j < A.cols(); ++j)
    for (index_t i = 0; i < A.rows(); ++i) {
      auto const a = widened<typename DA::Scalar>(A.coeff(i, j)), b = widened<typename DA::Scalar>(B.coeff(i, j));
      if (!same_real(std::real(a), std::real(b)) || !same_real(std::imag(a), std::imag(b))) return false;
    }
  return true;
}

/// Every element has a NaN in it.
template <class D>
bool all_nan(Eigen::MatrixBase<D> const& A) {
  for (index_t j = 0; j < A.cols(); ++j)
    for (index_t i = 0; i < A.rows(); ++i) {
      auto const a = widened<typename D::Scalar>(A.coeff(i, j));
      if (!std::isnan(std::real(a)) && !std::isnan(std::imag(a))) return false;
    }
  return true;
}

// --- comparison -------------------------------------------------------------------------------------------------

/// A case as text, for INFO.
inline std::string text_of(std::initializer_list<std::pair<char const*, index_t>> values) {
  std::string text;
  for (auto const& [name, value] : values) text += std::string(name) + " = " + std::to_string(value) + " ";
  return text;
}

/// What `within` found, and what a failing CHECK(within(...)) prints.
struct comparison {
  bool passed = true;
  char const* reason = "";
  index_t row = -1, col = -1;  ///< where the error is the largest in terms of its bound
  std::complex<long double> actual = 0, expected = 0;
  long double error = 0, bound = 0;
  explicit operator bool() const { return passed; }
};

inline std::ostream& operator<<(std::ostream& out, comparison const& c) {
  if (c.passed) out << "within the bound";
  else out << c.reason;
  if (c.row >= 0)
    out << ", worst at (" << c.row << ", " << c.col << "): " << c.actual << ", expected " << c.expected << ", error "
        << c.error << ", allowed " << c.bound;
  return out;
}

namespace detail {

template <class W>
comparison compare(deducible<W> const& actual, deducible<W> const& expected, bound_matrix const& bound) {
  comparison worst;
  if (actual.rows() != expected.rows() || actual.cols() != expected.cols() || bound.rows() != expected.rows() ||
      bound.cols() != expected.cols()) {
    worst.passed = false;
    worst.reason = "shapes differ";
    return worst;
  }
  long double const largest = std::numeric_limits<long double>::max();
  long double worst_ratio = -1;
  for (index_t j = 0; j < actual.cols(); ++j)
    for (index_t i = 0; i < actual.rows(); ++i) {
      long double const allowed = bound(i, j), error = std::abs(actual(i, j) - expected(i, j));
      if (!(error <= allowed && allowed <= largest)) {
        worst.passed = false;
        worst.reason = "outside the bound";
      }
      long double ratio = error == 0 ? 0 : error / allowed;
      if (!(ratio <= largest)) ratio = std::numeric_limits<long double>::infinity();
      if (ratio > worst_ratio) {
        worst_ratio = ratio;
        worst.row = i;
        worst.col = j;
        worst.actual = actual(i, j);
        worst.expected = expected(i, j);
        worst.error = error;
        worst.bound = allowed;
      }
    }
  return worst;
}

/// `relative` × the norm of each line of X, for each entry of Y.
template <class W>
bound_matrix line_norms(deducible<W> const& X, side s, long double relative) {
  bound_matrix bound(X.rows(), X.cols());
  if (X.size() == 0) return bound;
  for (index_t j = 0; j < X.cols() && s == side::left; ++j) bound.col(j).setConstant(relative * X.col(j).norm());
  for (index_t i = 0; i < X.rows() && s == side::right; ++i) bound.row(i).setConstant(relative * X.row(i).norm());
  return bound;
}

/// bound, and what rounding Y ± bound to storage adds.
template <class W>
bound_matrix stored(bound_matrix bound, deducible<W> const& Y, long double rounding, long double floor) {
  for (index_t j = 0; j < Y.cols() && rounding > 0; ++j)
    for (index_t i = 0; i < Y.rows(); ++i) bound(i, j) += rounding * (std::abs(Y(i, j)) + bound(i, j)) + floor;
  return bound;
}

}  // namespace detail

/// |actual − expected| ≤ bound in every entry, `bound` one number or one for each entry. NaN anywhere fails, and so
/// does an infinity: check those on their own.
template <class DA, class DE, class DB>
comparison within(Eigen::MatrixBase<DA> const& actual, Eigen::MatrixBase<DE> const& expected,
                  Eigen::MatrixBase<DB> const& bound) {
  return detail::compare(widen(actual), widen(expected), bound_matrix(bound));
}
template <class DA, class DE>
comparison within(Eigen::MatrixBase<DA> const& actual, Eigen::MatrixBase<DE> const& expected, long double bound) {
  return within(actual, expected, bound_matrix::Constant(expected.rows(), expected.cols(), bound));
}

// --- allowed errors ---------------------------------------------------------------------------------------------
//
// A computed sum of k products has, but for negligible probability, an error of at most λ √k u Σ |a_l b_l| with λ = 4
// and u = ε / 2 (Higham & Mary, SIAM J. Sci. Comput. 41(5), 2019); every input here has a fixed seed, so a test that
// passes keeps passing. "To first order" everywhere.

/// Allowed relative error of a line (a column, or a row from the right) of op(Q) X, Q of r reflectors of order m. For
/// one reflector x − 2 û (ûᴴx): the sum is off by 2 √m ε ‖x‖, which the factor 2 doubles; rounding û, tau, the product
/// and the difference adds less than 20 ε ‖x‖. The factors are orthogonal, so the errors of r reflectors add up. This
/// is the documented c r ε with c a small multiple of √m.
template <class T>
long double line_bound(index_t m, index_t r) {
  return 4 * static_cast<long double>(r) * (std::sqrt(static_cast<long double>(m)) + 5) * eps_of<T>();
}

/// `relative` × the norm of each line of X, plus the rounding of `result` to 16-bit storage, for each entry.
template <class T, class DX, class DY>
bound_matrix per_line(Eigen::MatrixBase<DX> const& X, Eigen::MatrixBase<DY> const& result, side s,
                      long double relative) {
  return detail::stored(detail::line_norms(widen(X), s, relative), widen(result), storage_rounding<T>(),
                        storage_floor<T>());
}

/// Allowed relative error of a column of dU, to be multiplied by ‖X‖_F ‖dY‖_F / ‖u‖. Four terms, −dY Zᴴ, X dWᴴ,
/// U dGram and U dGramᴴ, are each at most 2 ‖X‖ ‖dY‖ and carry the errors of one application to X and of one to dY
/// (Cauchy-Schwarz over the columns), and those of a sum over n columns.
template <class T>
long double gradient_bound(index_t m, index_t r, index_t n) {
  long double const sum = 2 * std::sqrt(static_cast<long double>(n)) * eps_of<T>();
  return 4 * 2 * (2 * line_bound<T>(m, r) + sum);
}

/// gradient_bound ‖X‖_F ‖dY‖_F / ‖u_j‖ for each entry of column j, plus the rounding of dU to storage of type S.
/// `growth` is 1 where ‖Q‖ ≤ 1.
template <class T, class S = hoft::accumulator_t<T>, class DU, class DX, class DG, class DR>
bound_matrix per_reflector(Eigen::MatrixBase<DU> const& U, Eigen::MatrixBase<DX> const& X,
                           Eigen::MatrixBase<DG> const& dY, Eigen::MatrixBase<DR> const& result, index_t n,
                           long double growth = 1) {
  auto const u = widen(U);
  long double const size = growth * gradient_bound<T>(u.rows(), u.cols(), n) * widen(X).norm() * widen(dY).norm();
  bound_matrix bound(u.rows(), u.cols());
  for (index_t j = 0; j < u.cols(); ++j) {
    long double const length = u.col(j).norm();
    bound.col(j).setConstant(length > 0 ? size / length : 0);  // a zero column has exactly zero gradient
  }
  return detail::stored(bound, widen(result), storage_rounding<S>(), storage_floor<S>());
}

// --- oracles ----------------------------------------------------------------------------------------------------

/// op(Q) X or X op(Q) by reflectors one after another in long double.
template <class DU, class DX>
auto reference_apply(Eigen::MatrixBase<DU> const& U, Eigen::MatrixBase<DX> const& X, side s = side::left,
                     op o = op::plain) {
  auto Y = widen(X);
  hoft::reference::apply(widen(U), Y, s, o);
  return Y;
}
/// The same from V and tau in LAPACK's convention.
template <class DV, class Dt, class DX>
auto reference_apply(Eigen::MatrixBase<DV> const& V, Eigen::MatrixBase<Dt> const& tau, Eigen::MatrixBase<DX> const& X,
                     side s, op o) {
  auto Y = widen(X);
  hoft::reference::apply(widen(V), widen(tau), Y, s, o);
  return Y;
}

/// A B by its definition: Eigen's product takes seconds to compile for each type.
template <class W>
deducible<W> times(deducible<W> const& A, deducible<W> const& B) {
  deducible<W> C = deducible<W>::Zero(A.rows(), B.cols());
  for (index_t j = 0; j < B.cols(); ++j)
    for (index_t l = 0; l < A.cols(); ++l)
      for (index_t i = 0; i < A.rows(); ++i) C(i, j) += A(i, l) * B(l, j);
  return C;
}
template <class W, class... Rest>
deducible<W> times(deducible<W> const& A, deducible<W> const& B, Rest const&... rest) {
  return times(times(A, B), rest...);
}
template <class D>
auto adjoint_copy(Eigen::MatrixBase<D> const& A) {
  return deducible<typename D::Scalar>(A.adjoint());
}

/// Re tr(Gᴴ Y), the loss whose gradient with respect to Y is G.
template <class W>
long double loss(deducible<W> const& G, deducible<W> const& Y) {
  long double sum = 0;
  for (index_t j = 0; j < Y.cols(); ++j)
    for (index_t i = 0; i < Y.rows(); ++i)
      sum += std::real(G(i, j)) * std::real(Y(i, j)) + std::imag(G(i, j)) * std::imag(Y(i, j));
  return sum;
}

template <class W>
W conjugate_of(W const& a) {
  if constexpr (is_complex_scalar<W>) return std::conj(a);
  else return a;
}

/// Gradients of `loss`; tau as a column, empty where Q depends on U alone.
template <class W>
struct wide_gradients {
  deducible<W> X, U, tau;
};

/// Backward through (I − τ₁ v₁ v₁ᴴ) ⋯ (I − τ_r v_r v_rᴴ) X one reflector at a time, all v_i and τ_i independent. Each
/// reflector is y = x − t v w, w = vᴴx, t = τ or conj(τ). Nothing of the compact WY form is used.
template <class W>
wide_gradients<W> reflectors_backward(deducible<W> const& V, deducible<W> const& tau, deducible<W> X, deducible<W> G,
                                      side s, op o) {
  if (s == side::right) {  // X Q = (Qᴴ Xᴴ)ᴴ, and the real part of the trace does not mind
    auto g = reflectors_backward<W>(V, tau, adjoint_copy(X), adjoint_copy(G), side::left, hoft::adjoint_of(o));
    g.X = adjoint_copy(g.X);
    return g;
  }
  index_t const r = V.cols();
  auto const nth = [&](index_t n) { return o == op::plain ? r - 1 - n : n; };
  auto const t_of = [&](index_t k) { return o == op::plain ? tau(k, 0) : conjugate_of(tau(k, 0)); };
  wide_gradients<W> g{{}, deducible<W>::Zero(V.rows(), r), deducible<W>::Zero(r, 1)};
  deducible<W> inputs(V.rows(), r);  // of one column, before each reflector
  for (index_t c = 0; c < X.cols(); ++c) {
    for (index_t n = 0; n < r; ++n) {
      index_t const k = nth(n);
      inputs.col(n) = X.col(c);
      W const w = t_of(k) * V.col(k).dot(X.col(c));
      for (index_t i = 0; i < V.rows(); ++i) X(i, c) -= V(i, k) * w;
    }
    for (index_t n = r; n-- > 0;) {
      index_t const k = nth(n);
      W const w = V.col(k).dot(inputs.col(n)), p = V.col(k).dot(G.col(c)), t = t_of(k), t_bar = conjugate_of(t);
      W const dt = -p * conjugate_of(w);
      g.tau(k, 0) += o == op::plain ? dt : conjugate_of(dt);
      for (index_t i = 0; i < V.rows(); ++i) {
        g.U(i, k) -= t_bar * G(i, c) * conjugate_of(w) + t * inputs(i, n) * conjugate_of(p);
        G(i, c) -= V(i, k) * (t_bar * p);
      }
    }
  }
  g.X = G;
  return g;
}

/// Gradients through Q = H(u₁) ⋯ H(u_r), τ = 2 / (uᴴu). Columns of zeros have zero gradient.
template <class DU, class DX, class DG>
auto reference_backward(Eigen::MatrixBase<DU> const& U, Eigen::MatrixBase<DX> const& X, Eigen::MatrixBase<DG> const& dY,
                        side s = side::left, op o = op::plain) {
  using W = wide_t<typename DU::Scalar>;
  deducible<W> const u = widen(U);
  deducible<W> tau(u.cols(), 1);
  for (index_t k = 0; k < u.cols(); ++k) {
    long double const square = u.col(k).squaredNorm();
    tau(k, 0) = square > 0 ? 2 / square : 0;
  }
  auto g = reflectors_backward<W>(u, tau, widen(X), widen(dY), s, o);
  for (index_t k = 0; k < u.cols(); ++k) g.U.col(k) -= tau(k, 0) * tau(k, 0) * std::real(g.tau(k, 0)) * u.col(k);
  g.tau.resize(0, 1);
  return g;
}

/// Gradients through LAPACK's convention: with respect to the strictly lower part of V, and to tau.
template <class DV, class Dt, class DX, class DG>
auto reference_backward(Eigen::MatrixBase<DV> const& V, Eigen::MatrixBase<Dt> const& tau,
                        Eigen::MatrixBase<DX> const& X, Eigen::MatrixBase<DG> const& dY, side s, op o) {
  using W = wide_t<typename DV::Scalar>;
  deducible<W> v = widen(V);
  for (index_t j = 0; j < v.cols(); ++j)
    for (index_t i = 0; i <= j; ++i) v(i, j) = i == j ? W(1) : W(0);
  auto g = reflectors_backward<W>(v, widen(tau), widen(X), widen(dY), s, o);
  for (index_t j = 0; j < v.cols(); ++j)
    for (index_t i = 0; i <= j; ++i) g.U(i, j) = W(0);
  return g;
}

/// Q = I − Û T Ûᴴ in long double with T cut after k terms of Σ (−D A)^i D, by powers (the fast code has Horner's form).
template <class W>
struct neumann_form {
  using matrix = deducible<W>;
  matrix U, T;                  ///< Û; the sum
  std::vector<matrix> partial;  ///< (−D A)^i D, A = striu(ÛᴴÛ), D = diag(2), 0 for a zero column
  std::vector<long double> norms;
  long double growth = 1;  ///< 1 + ‖ |Û| ‖² ‖Σ (|D| |A|)^i |D|‖ in Frobenius norms: what multiplies rounding errors

  template <class DU>
  neumann_form(Eigen::MatrixBase<DU> const& vectors, index_t terms) : U(widen(vectors)) {
    form(terms);
  }
  matrix apply(matrix const& X, side s, op o) const {
    matrix const F = o == op::plain ? T : adjoint_copy(T);
    if (s == side::left) return X - times(U, F, times(adjoint_copy(U), X));
    return X - times(times(X, U), F, adjoint_copy(U));
  }
  wide_gradients<W> backward(matrix const& X, matrix const& G, side s, op o) const {
    if (s == side::right) {
      auto g = backward(adjoint_copy(X), adjoint_copy(G), side::left, hoft::adjoint_of(o));
      g.X = adjoint_copy(g.X);
      return g;
    }
    wide_gradients<W> g;
    g.X = apply(G, side::left, hoft::adjoint_of(o));
    matrix const F = o == op::plain ? T : adjoint_copy(T);
    matrix const w = times(adjoint_copy(U), X), p = times(adjoint_copy(U), G);
    matrix dT = -times(p, adjoint_copy(w));
    if (o == op::adjoint) dT = adjoint_copy(dT);
    matrix dA = matrix::Zero(T.rows(), T.cols());
    for (std::size_t i = 1; i < partial.size(); ++i)
      for (std::size_t j = 0; j < i; ++j)  // the product rule: d((−D A)^i D) has −(−D A)^j D dA (−D A)^(i−1−j) D
        dA -= times(adjoint_copy(partial[j]), dT, adjoint_copy(partial[i - 1 - j]));
    for (index_t j = 0; j < dA.cols(); ++j)
      for (index_t i = j; i < dA.rows(); ++i) dA(i, j) = W(0);
    g.U = times(U, matrix(dA + adjoint_copy(dA))) - times(G, adjoint_copy(times(F, w))) -
          times(X, adjoint_copy(times(adjoint_copy(F), p)));
    for (index_t j = 0; j < U.cols(); ++j) {
      long double const length = norms[std::size_t(j)], along = std::real(U.col(j).dot(g.U.col(j)));
      for (index_t i = 0; i < U.rows(); ++i) g.U(i, j) = length > 0 ? (g.U(i, j) - U(i, j) * along) / length : W(0);
    }
    return g;
  }

 private:
  void form(index_t terms) {
    index_t const r = U.cols();
    matrix A = matrix::Zero(r, r), D = matrix::Zero(r, r);
    for (index_t j = 0; j < r; ++j) {
      norms.push_back(U.col(j).norm());
      if (!(norms.back() > 0)) continue;
      U.col(j) /= norms.back();
      D(j, j) = 2;
      for (index_t i = 0; i < j; ++i) A(i, j) = U.col(i).dot(U.col(j));
    }
    matrix const minus_DA = times(D, matrix(-A));
    bound_matrix size = D.cwiseAbs(), sum = size;
    partial.push_back(D);
    T = D;
    for (index_t i = 1; i < terms; ++i) {
      partial.push_back(times(minus_DA, partial.back()));
      T += partial.back();
      size = times(bound_matrix(minus_DA.cwiseAbs()), size);
      sum += size;
    }
    if (r > 0) growth += sum.norm() * times(bound_matrix(U.cwiseAbs().transpose()), bound_matrix(U.cwiseAbs())).norm();
  }
};
template <class DU>
neumann_form(Eigen::MatrixBase<DU> const&, index_t) -> neumann_form<wide_t<typename DU::Scalar>>;

// --- scratch memory ---------------------------------------------------------------------------------------------

/// Workspace of exactly `bytes`, as badly aligned as memory can be, full of sentinels that are NaN when read, with
/// sentinels on either side.
template <class Allocator = std::allocator<std::byte>>
class guarded_memory {
 public:
  explicit guarded_memory(index_t bytes) : memory_(std::size_t(bytes + 2 * guard), std::byte(0xFF)), bytes_(bytes) {}
  operator hoft::workspace() { return {memory_.data() + guard, bytes_}; }
  bool intact() const {
    auto const sentinel = [](std::byte b) { return b == std::byte(0xFF); };
    return std::all_of(memory_.begin(), memory_.begin() + guard, sentinel) &&
           std::all_of(memory_.end() - guard, memory_.end(), sentinel);
  }

 private:
  static constexpr index_t guard = 129;
  std::vector<std::byte, Allocator> memory_;
  index_t bytes_;
};
using guarded_workspace = guarded_memory<>;

/// Memory for forms of the calls with views, full of NaN.
template <class Allocator = std::allocator<std::byte>>
class memory_for_forms {
 public:
  template <class A>
  hoft::compact_wy_view<A> cut(index_t m, index_t r, index_t block) {
    hoft::arena count;
    hoft::carve_compact_wy<A>(count, m, r, block);
    pieces_.emplace_back(std::size_t(count.size()), std::byte(0xFF));
    hoft::arena piece({pieces_.back().data(), count.size()});
    return hoft::carve_compact_wy<A>(piece, m, r, block);
  }

 private:
  std::vector<std::vector<std::byte, Allocator>> pieces_;
};
using form_memory = memory_for_forms<>;

// --- compiled once, by judges.cpp -----------------------------------------------------------------------------------

#define HOFT_JUDGES(declare, W)                                                                                     \
  declare template comparison detail::compare<W>(deducible<W> const&, deducible<W> const&, bound_matrix const&);    \
  declare template bound_matrix detail::line_norms<W>(deducible<W> const&, side, long double);                      \
  declare template bound_matrix detail::stored<W>(bound_matrix, deducible<W> const&, long double, long double);     \
  declare template deducible<W> times<W>(deducible<W> const&, deducible<W> const&);                                 \
  declare template wide_gradients<W> reflectors_backward<W>(deducible<W> const&, deducible<W> const&, deducible<W>, \
                                                            deducible<W>, side, op);                                \
  declare template struct neumann_form<W>;
#define HOFT_INPUTS(declare, T)                                                                           \
  declare template dense_matrix<T, col_major> gaussian<T, col_major>(index_t, index_t, unsigned, double); \
  declare template dense_matrix<T, row_major> gaussian<T, row_major>(index_t, index_t, unsigned, double);
#define HOFT_JUDGES_AND_INPUTS(declare)           \
  HOFT_JUDGES(declare, long double)               \
  HOFT_JUDGES(declare, std::complex<long double>) \
  HOFT_INPUTS(declare, float)                     \
  HOFT_INPUTS(declare, double)                    \
  HOFT_INPUTS(declare, long double)               \
  HOFT_INPUTS(declare, std::complex<float>)       \
  HOFT_INPUTS(declare, std::complex<double>)      \
  HOFT_INPUTS(declare, Eigen::half)               \
  HOFT_INPUTS(declare, Eigen::bfloat16)

HOFT_JUDGES_AND_INPUTS(extern)

}  // namespace hoft_test
