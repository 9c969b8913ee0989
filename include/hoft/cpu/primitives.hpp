// hoft/cpu/primitives.hpp: what the algorithms of wy/ and transform/ ask of a backend, on the CPU. They find these
// functions by the type of the policy. Matrices are views; T is the accumulator type throughout.
//
// No sum and no complex product here goes through Eigen: it starts its vectors at the first aligned address, so that
// bits would depend on where the caller's memory lies.
#pragma once
#include <hoft/cpu/kernel/packed.hpp>
#include <hoft/cpu/kernel/product.hpp>
#include <hoft/view/eigen.hpp>

#include <cmath>
#include <limits>

namespace HOFT_TARGET_NAMESPACE {
namespace cpu_backend {

// --- moving and filling -----------------------------------------------------------------------------------------

/// Y := X, converting between storage and accumulator types. Nothing to do when X is Y.
template <class TX, class LX, class TY, class LY>
void copy(cpu const&, matrix_view<TX, LX> X, matrix_view<TY, LY> Y) {
  if (static_cast<void const*>(X.data) == static_cast<void const*>(Y.data) || X.empty()) return;
  as_eigen(Y) = as_eigen(X).template cast<TY>();
}

template <class TX, class TY>
void copy(cpu const&, vector_view<TX> x, vector_view<TY> y) {
  if (x.size > 0) as_eigen(y) = as_eigen(x).template cast<TY>();
}

template <class T, class Layout>
void fill(cpu const&, T value, matrix_view<T, Layout> X) {
  if (!X.empty()) as_eigen(X).setConstant(value);
}
template <class T>
void fill(cpu const&, T value, vector_view<T> x) {
  if (x.size > 0) as_eigen(x).setConstant(value);
}

/// D := diag(d).
template <class T>
void set_diagonal(cpu const&, vector_view<T const> d, matrix_view<T> D) {
  for (index_t j = 0; j < D.cols; ++j)
    for (index_t i = 0; i < D.rows; ++i) D(i, j) = i == j ? d[i] : T(0);
}

/// E := the first columns of the identity.
template <class T, class Layout>
void set_identity(cpu const&, matrix_view<T, Layout> E) {
  if (!E.empty()) as_eigen(E).setIdentity();
}

/// Y := conj(X), element by element; given X.transposed(), Y := Xᴴ.
template <class TX, class LX, class T, class LY>
void conjugate_copy(cpu const&, matrix_view<TX, LX> X, matrix_view<T, LY> Y) {
  if (!X.empty()) as_eigen(Y) = as_eigen(X).conjugate();
}
/// X := conj(X).
template <class T, class Layout>
void conjugate_in_place(cpu const&, matrix_view<T, Layout> X) {
  if constexpr (is_complex<T>)
    if (!X.empty()) as_eigen(X) = as_eigen(X).conjugate();
}

/// Y := Y + X.
template <class T, class Layout>
void add(cpu const&, std::type_identity_t<matrix_view<T const, Layout>> X, matrix_view<T, Layout> Y) {
  if (!X.empty()) as_eigen(Y) += as_eigen(X);
}

/// X := −X.
template <class T, class Layout>
void negate(cpu const&, matrix_view<T, Layout> X) {
  if (!X.empty()) as_eigen(X) = -as_eigen(X);
}

// --- columns of reflectors --------------------------------------------------------------------------------------

/// Û := U with columns of norm 1. scales [2, r]: μ, a power of two, and ν = ‖u / μ‖, so that ‖u‖ = μ ν without overflow
/// or underflow. A zero column stays zero, μ = 0.
template <class TU, class LU, class T>
void normalise_columns(cpu const& policy, matrix_view<TU, LU> U, matrix_view<T> Uhat, matrix_view<real_t<T>> scales) {
  using real = real_t<T>;
  using limits = std::numeric_limits<real>;
  // Squares between these bounds lose nothing that their sum would show: most columns need no μ.
  constexpr real least = (limits::min)() / (limits::epsilon() * limits::epsilon()), most = (limits::max)();
  if (U.rows == 0) {
    fill(policy, real(0), scales.block(0, 0, 1, U.cols));
    return fill(policy, real(1), scales.block(1, 0, 1, U.cols));
  }
  constexpr index_t passes = 4;  // of about a multiply-add for each element
  parallel_for(worth_threads(policy, passes * U.rows * U.cols), U.cols, [&](index_t, index_t j) {
    auto const column = Uhat.columns(j, 1);
    copy(policy, U.columns(j, 1), column);
    // One rounding to each element below: no bit depends on where a vector begins.
    auto parts = Eigen::Map<Eigen::Array<real, Eigen::Dynamic, 1>>(reinterpret_cast<real*>(column.data),
                                                                   U.rows * index_t(sizeof(T) / sizeof(real)));
    auto const squares = [&] { return std::real(dot(U.rows, column.data, column.data)); };
    real mu(1), sum = squares();
    if (!(sum >= least && sum <= most)) {
      real const largest = parts.abs().template maxCoeff<Eigen::PropagateNaN>();
      mu = largest == real(0)       ? real(0)
           : std::isfinite(largest) ? std::scalbn(real(1), std::ilogb(largest))
                                    : limits::quiet_NaN();
      if (mu != real(0)) parts /= mu;  // exact
      sum = mu == real(0) ? real(1) : squares();
    }
    scales(0, j) = mu;
    scales(1, j) = std::sqrt(sum);
    parts /= scales(1, j);
  });
}

/// du := (d − û (ûᴴd) / (ûᴴû)) / ‖u‖: the gradient before normalising from the gradient after it, d, which is
/// overwritten. tau_j = 2 / (ûᴴû), and 0 for a zero column, whose gradient is 0.
template <class T, class TU, class LU>
void normalise_columns_backward(cpu const& policy, matrix_view<T const> Uhat, matrix_view<real_t<T> const> scales,
                                vector_view<T const> tau, matrix_view<T> D, matrix_view<TU, LU> dU) {
  constexpr index_t passes = 4;
  parallel_for(worth_threads(policy, passes * D.rows * D.cols), D.cols, [&](index_t, index_t j) {
    auto const u = Uhat.columns(j, 1);
    auto const d = D.columns(j, 1);
    real_t<T> const mu = scales(0, j), nu = scales(1, j);
    if (mu == real_t<T>(0)) return fill(cpu{}, static_cast<TU>(T(0)), dU.columns(j, 1));
    T const along = -dot(D.rows, u.data, d.data) * tau[j] / real_t<T>(2);
    product(cpu{}, T(1), plain(u), plain(matrix_view<T const>(&along, 1, 1)), d, d);
    for (index_t i = 0; i < D.rows; ++i) dU(i, j) = static_cast<TU>(d(i, 0) / nu / mu);
  });
}

/// V := the unit lower trapezoid of A, as LAPACK's geqrf leaves reflectors: ones on the diagonal, zeros above.
template <class TA, class LA, class T>
void unit_lower(cpu const&, matrix_view<TA, LA> A, matrix_view<T> V) {
  for (index_t j = 0; j < A.cols; ++j)
    for (index_t i = 0; i < A.rows; ++i) V(i, j) = i < j ? T(0) : i == j ? T(1) : static_cast<T>(A(i, j));
}

/// dA := the strictly lower part of D, zeros elsewhere.
template <class T, class TA, class LA>
void strictly_lower(cpu const&, matrix_view<T const> D, matrix_view<TA, LA> dA) {
  for (index_t j = 0; j < D.cols; ++j)
    for (index_t i = 0; i < D.rows; ++i) dA(i, j) = i > j ? static_cast<TA>(D(i, j)) : static_cast<TA>(T(0));
}

// --- the triangular factor --------------------------------------------------------------------------------------

/// A := striu(A), zero on and below the diagonal.
template <class T>
void keep_strictly_upper(cpu const&, matrix_view<T> A) {
  for (index_t j = 0; j < A.cols; ++j)
    for (index_t i = j; i < A.rows; ++i) A(i, j) = T(0);
}

/// A := striu(UᴴU), zero on and below the diagonal; tau_j := 2 / ‖u_j‖² where tau is asked for, 0 for a zero column.
template <class T>
void gram_upper(cpu const& policy, matrix_view<T const> U, matrix_view<T> A, vector_view<T> tau) {
  constexpr index_t step = 4 * kernel::tile_cols;  // columns at a time, each down to its diagonal only
  for (index_t j = 0; j < A.cols; j += step) {
    index_t const cols = (std::min)(step, A.cols - j);
    product(policy, T(1), adjoint(U.columns(0, j + cols)), plain(U.columns(j, cols)), {},
            A.block(0, j, j + cols, cols));
  }
  if (tau.size > 0)
    for (index_t j = 0; j < A.cols; ++j) tau[j] = A(j, j) == T(0) ? T(0) : T(2) / T(std::real(A(j, j)));
  keep_strictly_upper(policy, A);
}

/// T := (diag(1/tau) + A)⁻¹, upper triangular, A strictly upper. Written so that nothing is divided by tau: a zero tau
/// gives a zero row and column. Blocks by recursion, T₁₂ = −T₁₁ A₁₂ T₂₂ (Elmroth & Gustavson 2000).
/// scratch: (r/2)² elements.
template <class T>
void form_factor(cpu const& policy, matrix_view<T const> A, vector_view<T const> tau, matrix_view<T> F, T* scratch) {
  constexpr index_t direct = 16;
  index_t const r = A.cols;
  if (r <= direct) {
    for (index_t j = 0; j < r; ++j) {
      for (index_t i = 0; i < j; ++i) {
        T sum(0);
        for (index_t l = i; l < j; ++l) sum += F(i, l) * A(l, j);
        F(i, j) = -sum * tau[j];
      }
      F(j, j) = tau[j];
      for (index_t i = j + 1; i < r; ++i) F(i, j) = T(0);
    }
    return;
  }
  index_t const p = r / 2, q = r - p;
  auto const F11 = F.block(0, 0, p, p), F12 = F.block(0, p, p, q), F22 = F.block(p, p, q, q);
  form_factor(policy, A.block(0, 0, p, p), tau.part(0, p), F11, scratch);
  form_factor(policy, A.block(p, p, q, q), tau.part(p, q), F22, scratch);
  fill(policy, T(0), F.block(p, 0, q, p));
  matrix_view<T> const AF(scratch, p, q);
  product(policy, T(1), plain(A.block(0, p, p, q)), plain(F22), {}, AF);
  product(policy, T(-1), plain(F11), plain(AF), {}, F12);
}
inline index_t form_factor_scratch(cpu const&, index_t r) { return (r / 2) * (r - r / 2); }

/// f(element, i, j) for every element of X, in the order of memory.
template <class T, class Layout, class F>
void for_each_element(matrix_view<T, Layout> X, F const& f) {
  if constexpr (X.is_col_major) {
    for (index_t j = 0; j < X.cols; ++j)
      for (index_t i = 0; i < X.rows; ++i) f(X(i, j), i, j);
  } else {
    for (index_t i = 0; i < X.rows; ++i)
      for (index_t j = 0; j < X.cols; ++j) f(X(i, j), i, j);
  }
}

/// Y := diag(d) X or conj(diag(d)) X. In place is fine.
template <class T, class Layout>
void scale_rows(cpu const&, vector_view<T const> d, op o, std::type_identity_t<matrix_view<T const, Layout>> X,
                matrix_view<T, Layout> Y) {
  for_each_element(Y, [&](T& y, index_t i, index_t j) { y = (o == op::plain ? d[i] : conjugate(d[i])) * X(i, j); });
}

/// X := diag(d)⁻¹ X.
template <class A, class T, class Layout>
void divide_rows(cpu const&, vector_view<A const> d, matrix_view<T, Layout> X) {
  for_each_element(X, [&](T& x, index_t i, index_t) { x = static_cast<T>(static_cast<A>(x) / d[i]); });
}

/// d_i := d_i + Σ_j X(i, j) conj(Y(i, j)).
template <class T, class Layout>
void add_row_dots(cpu const&, matrix_view<T const, Layout> X, matrix_view<T const, Layout> Y, vector_view<T> d) {
  if constexpr (X.is_col_major) {
    for (index_t j = 0; j < X.cols; ++j)
      for (index_t i = 0; i < X.rows; ++i) d[i] += X(i, j) * conjugate(Y(i, j));
  } else {
    for (index_t i = 0; i < X.rows; ++i) d[i] += dot(X.cols, Y.data + i * Y.ld, X.data + i * X.ld);
  }
}

/// d_j := Σ_l conj(X(l, j)) Y(l, j), the diagonal of XᴴY.
template <class T>
void column_dots(cpu const&, matrix_view<T> X, matrix_view<T> Y, vector_view<T> d) {
  for (index_t j = 0; j < X.cols; ++j) d[j] = dot(X.rows, X.columns(j, 1).data, Y.columns(j, 1).data);
}

/// The first index at which d is zero, or -1. (Where reading d would stall, a backend may always answer -1.)
template <class T>
index_t find_zero(cpu const&, vector_view<T const> d) {
  for (index_t i = 0; i < d.size; ++i)
    if (d[i] == T(0)) return i;
  return -1;
}

// --- products of whole matrices (those of panels with packed reflectors: packed.hpp) ---------------------------

/// W := UᴴX.
template <class TU, class LU, class TX, class LX, class T, class LW>
void project(cpu const& policy, matrix_view<TU, LU> U, matrix_view<TX, LX> X, matrix_view<T, LW> W) {
  product(policy, T(1), adjoint(U), plain(X), {}, W);
}

/// Y := X + alpha U Z. X may be Y, or have no data for zero.
template <class TU, class LU, class TZ, class LZ, class T, class LY>
void update(cpu const& policy, std::type_identity_t<T> alpha, matrix_view<TU, LU> U, matrix_view<TZ, LZ> Z,
            std::type_identity_t<matrix_view<T const, LY>> X, matrix_view<T, LY> Y) {
  product(policy, T(alpha), plain(U), plain(Z), X, Y);
}

/// D := D + alpha X Zᴴ.
template <class TX, class LX, class TZ, class LZ, class T, class LD>
void outer(cpu const& policy, std::type_identity_t<T> alpha, matrix_view<TX, LX> X, matrix_view<TZ, LZ> Z,
           matrix_view<T, LD> D) {
  product(policy, T(alpha), plain(X), adjoint(Z), D, D);
}

/// Z := alpha op(F) W, F small and square.
template <class TF, class TW, class LW, class T, class LZ>
void multiply(cpu const& policy, std::type_identity_t<T> alpha, matrix_view<TF> F, op o, matrix_view<TW, LW> W,
              matrix_view<T, LZ> Z) {
  if (o == op::plain) product(policy, T(alpha), plain(F), plain(W), {}, Z);
  else product(policy, T(alpha), adjoint(F), plain(W), {}, Z);
}

/// W := op(S) Z with S = diag(1/tau) + A, the inverse of T. Rows with tau = 0, which T maps to zero, give zero.
template <class T, class LZ>
void multiply_inverse_factor(cpu const& policy, matrix_view<T const> A, vector_view<T const> tau, op o,
                             std::type_identity_t<matrix_view<T const, LZ>> Z, matrix_view<T, LZ> W) {
  multiply(policy, T(1), A, o, Z, W);
  for_each_element(W, [&](T& w, index_t i, index_t j) {
    T const t = o == op::plain ? tau[i] : conjugate(tau[i]);
    w = t == T(0) ? T(0) : w + Z(i, j) / t;
  });
}

}  // namespace cpu_backend
}  // namespace HOFT_TARGET_NAMESPACE
