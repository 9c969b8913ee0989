// SPDX-License-Identifier: BSD-3-Clause
// hoft/cpu/backend.hpp: the operations of the CPU (backend/concept.hpp) beside walks and packing.
//
// No sum and no complex product here uses Eigen: it starts its vectors at the first aligned address, so bits would
// depend on the address of the caller's memory.
#pragma once
#include <hoft/backend/concept.hpp>
#include <hoft/cpu/kernel/product.hpp>
#include <hoft/cpu/kernel/small_product.hpp>
#include <hoft/cpu/packing.hpp>
#include <hoft/view/eigen.hpp>

#include <cmath>

namespace HOFT_TARGET_NAMESPACE {
namespace cpu_backend {

/// The team of one thread that works on a column (backend/columns.hpp).
struct column_team {
  template <class F>
  void each(index_t n, F const& f) const {
    for (index_t i = 0; i < n; ++i) f(i);
  }
  template <class F>
  auto largest(index_t n, F const& f) const {
    decltype(f(index_t{})) found(0);
    for (index_t i = 0; i < n; ++i) found = scalar_math::larger(found, f(i));
    return found;
  }
  template <class T, class L>
  T dot(matrix_view<T const, L> X, matrix_view<T const, L> Y, index_t j) const {
    if constexpr (X.is_col_major) {
      return cpu_backend::dot(X.rows, X.data + X.offset(0, j), Y.data + Y.offset(0, j));
    } else {
      T total(0);
      for (index_t i = 0; i < X.rows; ++i) total += conjugate(X(i, j)) * Y(i, j);
      return total;
    }
  }
  template <class T>
  void divide(matrix_view<T> X, index_t j, real_t<T> s) const {
    T* const column = X.data + X.offset(0, j);
    quotients(X.rows, column, s, column);
  }
  /// y[i] := x[i] / s. No x[i] is larger than 2 |s|. Vectors begin at the first element: to find an aligned one takes
  /// as long as a short column.
  template <class T>
  static void quotients(index_t count, T const* x, real_t<T> s, T* y) {
    using real = real_t<T>;
    if constexpr (kernel::has_fused<real>)
      if (std::isnormal(real(1) / s)) return quotients(count, x, s, y, kernel::quotient<real>(s));
    quotients(count, x, s, y, [by = kernel::broadcast(s)](auto const& a) { return Eigen::internal::pdiv(a, by); });
  }

 private:
  template <class T, class Divide>
  static void quotients(index_t count, T const* x, real_t<T> s, T* y, Divide const& divided) {
    using real = real_t<T>;
    constexpr index_t lane = kernel::lanes<real>;
    index_t const n = count * index_t(sizeof(T) / sizeof(real));
    auto const* const from = reinterpret_cast<real const*>(x);
    auto* const to = reinterpret_cast<real*>(y);
    index_t i = 0;
    for (; i + lane <= n; i += lane) Eigen::internal::pstoreu(to + i, divided(kernel::load(from + i)));
    for (; i < n; ++i) to[i] = from[i] / s;
  }
};

/// One of them is float, the other stored in 16 bits, and kernels convert between them.
template <class TX, class TY>
inline constexpr bool converts_lines = kernel::converts<TX, TY> || kernel::converts<TY, TX>;

/// y[i] := x[i], in whole vectors, where Eigen converts some types one by one.
template <class TX, class TY>
void convert(index_t n, TX const* x, TY* y) {
  constexpr index_t lane = kernel::lanes<float>;
  index_t const whole = n / lane * lane, rest = n - whole;
  for (index_t i = 0; i < whole; i += lane) kernel::store_as<float>(y + i, kernel::load_as<float>(x + i));
  if (rest > 0) kernel::store_part_as<float>(y + whole, kernel::load_part_as<float>(x + whole, rest), rest);
}

struct operations : packing {
  /// Y := X, converting between storage and accumulator types. Nothing to do when X is Y.
  template <class TX, class LX, class TY, class LY>
  static void copy(cpu const&, matrix_view<TX, LX> X, matrix_view<TY, LY> Y) {
    if (static_cast<void const*>(X.data) == static_cast<void const*>(Y.data) || X.empty()) return;
    constexpr bool same = std::same_as<TX const, TY const>;
    if constexpr (std::same_as<LX, LY> && (same || converts_lines<std::remove_const_t<TX>, TY>)) {
      constexpr index_t short_line = 512, lines_ahead = 32, cache_line = 64 / index_t(sizeof(TX));
      index_t const lines = X.is_col_major ? X.cols : X.rows, length = X.is_col_major ? X.rows : X.cols;
      for (index_t j = 0; j < lines; ++j) {
        TX const* const x = X.data + j * X.ld;
        TY* const y = Y.data + j * Y.ld;
        // Panels of rows are short lines far apart, which the hardware does not follow.
        if (!same && length <= short_line && j + lines_ahead < lines)
          for (index_t i = 0; i < length; i += cache_line) kernel::prefetch(x + lines_ahead * X.ld + i);
        if constexpr (same) std::copy_n(x, length, y);
        else convert(length, x, y);
      }
    } else {
      as_eigen(Y) = as_eigen(X).template cast<TY>();
    }
  }

  template <class TX, class TY>
  static void copy(cpu const&, vector_view<TX> x, vector_view<TY> y) {
    if (x.size > 0) as_eigen(y) = as_eigen(x).template cast<TY>();
  }

  /// f(i, j) for every element of X, in the order of memory.
  template <class T, class Layout, class F>
  static void for_each_element(cpu const&, matrix_view<T, Layout> X, F const& f) {
    if constexpr (X.is_col_major) {
      for (index_t j = 0; j < X.cols; ++j)
        for (index_t i = 0; i < X.rows; ++i) f(i, j);
    } else {
      for (index_t i = 0; i < X.rows; ++i)
        for (index_t j = 0; j < X.cols; ++j) f(i, j);
    }
  }

  /// f(team, j) for every column j < n of m elements.
  template <class F>
  static void for_each_column(cpu const& policy, index_t m, index_t n, F const& f) {
    constexpr index_t passes = 4;  // of about a multiply-add for each element
    parallel_for(worth_threads(policy, passes * m * n), n, [&](index_t, index_t j) {
      F const own = f;  // a copy cannot alias what is written, so its loops can be vectorised
      own(column_team{}, j);
    });
  }

  /// As the default, but with columns converted by `copy`, which makes vectors of complex numbers too. Where nothing is
  /// converted, a column is only copied if its squares may leave the range of T.
  template <class TU, class LU, class T>
  static void normalise_columns(cpu const& policy, matrix_view<TU, LU> U, matrix_view<T> Uhat,
                                matrix_view<real_t<T>> scales) {
    using real = real_t<T>;
    backend::normalise_column<T, col_major, T> const in_place{Uhat, Uhat, scales};
    for_each_column(policy, U.rows, U.cols, [&](column_team const& team, index_t j) {
      if constexpr (std::same_as<TU const, T const> && U.is_col_major) {
        T const* const u = U.data + U.offset(0, j);
        real const squares = scalar_math::real_part(dot(U.rows, u, u));
        if (scalar_math::is_safe_sum(squares)) {
          real const norm = scalar_math::square_root(squares);
          column_team::quotients(U.rows, u, norm, Uhat.data + Uhat.offset(0, j));
          scales(0, j) = real(1), scales(1, j) = norm;
          return;
        }
      }
      copy(policy, U.columns(j, 1), Uhat.columns(j, 1));
      in_place(team, j);
    });
  }
  /// V := the unit lower trapezoid of A: a column at a time, without a choice for each element.
  template <class TA, class LA, class T>
  static void unit_lower(cpu const& policy, matrix_view<TA, LA> A, matrix_view<T> V) {
    for (index_t j = 0; j < V.cols; ++j) {
      std::fill_n(V.data + V.offset(0, j), (std::min)(j, V.rows), T(0));
      if (j >= V.rows) continue;
      V(j, j) = T(1);
      index_t const below = V.rows - j - 1;
      copy(policy, A.block(j + 1, j, below, 1), V.block(j + 1, j, below, 1));
    }
  }
  /// E := the first columns of the identity.
  template <class T, class Layout>
  static void set_identity(cpu const& policy, matrix_view<T, Layout> E) {
    fill(policy, T(0), E);
    for (index_t i = 0; i < (std::min)(E.rows, E.cols); ++i) E(i, i) = T(1);
  }

  /// d_i := d_i + Σ_j X(i, j) conj(Y(i, j)).
  template <class T, class TY, class Layout>
  static void add_row_dots(cpu const&, matrix_view<T const, Layout> X, matrix_view<TY const, Layout> Y,
                           vector_view<T> d) {
    if (X.empty()) return;  // its address may be null
    if constexpr (X.is_col_major) {
      index_t first = 0;
      if constexpr (!is_complex<T>) {
        constexpr index_t lane = kernel::lanes<T>;
        kernel::for_each_group_run<kernel::tile_vectors<T>>(X.rows / lane, [&](index_t v, auto size, index_t count) {
          kernel::add_row_dots<size>(count, X.cols, X.data + v * lane, X.ld, Y.data + v * lane, Y.ld,
                                     d.data + v * lane);
        });
        first = X.rows / lane * lane;
      }
      for (index_t j = 0; j < X.cols; ++j)
        for (index_t i = first; i < X.rows; ++i) d[i] += X(i, j) * conjugate(static_cast<T>(Y(i, j)));
    } else {
      for (index_t i = 0; i < X.rows; ++i) d[i] += dot(X.cols, Y.data + i * Y.ld, X.data + i * X.ld);
    }
  }

  /// A := striu(UᴴU), zero on and below the diagonal; tau_j := 2 / ‖u_j‖² where tau is asked for, 0 for a zero column.
  template <class T>
  static void gram_upper(cpu const& policy, matrix_view<T const> U, matrix_view<T> A, vector_view<T> tau) {
    constexpr index_t step = 4 * kernel::tile_cols;  // columns at a time, each down to its diagonal only
    if (A.cols <= step) small_gram(U, A);
    else
      for (index_t j = 0; j < A.cols; j += step) {
        index_t const cols = (std::min)(step, A.cols - j);
        product(policy, T(1), adjoint(U.columns(0, j + cols)), plain(U.columns(j, cols)), {},
                A.block(0, j, j + cols, cols));
      }
    for (index_t j = 0; j < tau.size; ++j) backend::gram_element<T>{A, tau}(j, j);
    for (index_t j = 0; j < A.cols; ++j) {
      T* const column = A.data + A.offset(0, j);
      for (index_t i = 0; i < A.rows; ++i) column[i] = i < j ? column[i] : T(0);
    }
  }

  /// T := (diag(1/tau) + A)⁻¹, upper triangular, A strictly upper. Written so that nothing is divided by tau: a zero
  /// tau gives a zero row and column. Blocks by recursion, T₁₂ = −T₁₁ A₁₂ T₂₂ (Elmroth & Gustavson 2000). scratch:
  /// (r/2)² elements.
  template <class T>
  static void form_factor(cpu const& policy, matrix_view<T const> A, vector_view<T const> tau, matrix_view<T> F,
                          T* scratch) {
    index_t const r = A.cols;
    if (r <= 8) return form_small_factor<8>(A, tau, F);
    if (r <= 16) return form_small_factor<16>(A, tau, F);
    index_t const p = r / 2, q = r - p;
    auto const F11 = F.block(0, 0, p, p), F12 = F.block(0, p, p, q), F22 = F.block(p, p, q, q);
    form_factor(policy, A.block(0, 0, p, p), tau.part(0, p), F11, scratch);
    form_factor(policy, A.block(p, p, q, q), tau.part(p, q), F22, scratch);
    fill(policy, T(0), F.block(p, 0, q, p));
    matrix_view<T> const AF(scratch, p, q);
    product(policy, T(1), plain(A.block(0, p, p, q)), plain(F22), {}, AF);
    product(policy, T(-1), plain(F11), plain(AF), {}, F12);
  }
  static index_t form_factor_scratch(cpu const&, index_t r) { return (r / 2) * (r - r / 2); }

  /// W := UᴴX.
  template <class TU, class LU, class TX, class LX, class T, class LW>
  static void project(cpu const& policy, matrix_view<TU, LU> U, matrix_view<TX, LX> X, matrix_view<T, LW> W) {
    product(policy, T(1), adjoint(U), plain(X), {}, W);
  }

  /// Y := X + alpha U Z. X may be Y, or have no data for zero.
  template <class TU, class LU, class TZ, class LZ, class T, class LY>
  static void update(cpu const& policy, std::type_identity_t<T> alpha, matrix_view<TU, LU> U, matrix_view<TZ, LZ> Z,
                     std::type_identity_t<matrix_view<T const, LY>> X, matrix_view<T, LY> Y) {
    product(policy, T(alpha), plain(U), plain(Z), X, Y);
  }

  /// D := D + alpha X Zᴴ.
  template <class TX, class LX, class TZ, class LZ, class T, class LD>
  static void outer(cpu const& policy, std::type_identity_t<T> alpha, matrix_view<TX, LX> X, matrix_view<TZ, LZ> Z,
                    matrix_view<T, LD> D) {
    product(policy, T(alpha), plain(X), adjoint(Z), D, D);
  }

  /// Z := alpha op(F) W, F small and square. Z overlaps neither F nor W.
  template <class TF, class TW, class LW, class T, class LZ>
  static void multiply(cpu const& policy, std::type_identity_t<T> alpha, matrix_view<TF> F, op o, matrix_view<TW, LW> W,
                       matrix_view<T, LZ> Z) {
    bool const turned = o == op::adjoint;
    if constexpr ((std::same_as<T, float> || std::same_as<T, double>)&&W.is_col_major && Z.is_col_major)
      if (kernel::takes_small_product<T>(alpha, turned, F, W, Z)) return;
    if (turned) product(policy, T(alpha), adjoint(F), plain(W), {}, Z);
    else product(policy, T(alpha), plain(F), plain(W), {}, Z);
  }

 private:
  /// form_factor of up to Most columns: T_j = tau_j (e_j − Σ_l<j T_l A(l, j)), in whole vectors. Numbers that are not
  /// finite may stand below the diagonal, too.
  template <int Most, class T>
  static void form_small_factor(matrix_view<T const> A, vector_view<T const> tau, matrix_view<T> F) {
    constexpr index_t lane = kernel::lanes<T>, vectors = (Most + lane - 1) / lane, height = vectors * lane;
    alignas(64) T column[Most * height], identity[2 * height] = {};
    identity[height - 1] = T(1);  // e_j begins j elements before it
    for (index_t j = 0; j < A.cols; ++j) {
      kernel::packet<T> sum[vectors];
      for (index_t v = 0; v < vectors; ++v) sum[v] = kernel::load(identity + height - 1 - j + v * lane);
      for (index_t l = 0; l < j; ++l) {
        auto const factor = kernel::broadcast(-A(l, j));
        for (index_t v = 0; v < vectors; ++v)
          sum[v] = Eigen::internal::pmadd(kernel::load(column + l * height + v * lane), factor, sum[v]);
      }
      for (index_t v = 0; v < vectors; ++v) {
        index_t const rows = A.cols - v * lane;
        sum[v] = Eigen::internal::pmul(kernel::broadcast(tau[j]), sum[v]);
        Eigen::internal::pstore(column + j * height + v * lane, sum[v]);
        if (rows >= lane) Eigen::internal::pstoreu(F.data + F.offset(v * lane, j), sum[v]);
        else if (rows > 0) kernel::store_part(F.data + F.offset(v * lane, j), sum[v], rows);
      }
    }
  }
};

}  // namespace cpu_backend

static_assert(backend::complete<cpu>);

}  // namespace HOFT_TARGET_NAMESPACE
