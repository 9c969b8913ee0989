// SPDX-License-Identifier: BSD-3-Clause
// The tests of the CUDA backend, for every machine that runs its kernels: a GPU, or the host in its place. They ask
// what the tests of the CPU ask, with the same judges and the same allowed errors.
//
// A machine has Allocator<T>, whose memory both the host and the machine see, finish(), which waits for what was
// submitted, policy() for calls.hpp, and limited(bytes, blocks), the same with less memory for a block to share and
// smaller clusters.
#pragma once
#include "calls.hpp"

#include "../support.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

namespace hoft_test {

#if defined(HOFT_TEST_FEW_SCALARS)
#define HOFT_CUDA_SCALARS std::complex<float>, Eigen::half
#elif defined(HOFT_TEST_EMULATED)
#define HOFT_CUDA_SCALARS std::complex<float>, Eigen::half, float
#elif defined(HOFT_TEST_BESIDE_EMULATOR)
#define HOFT_CUDA_SCALARS double, Eigen::bfloat16
#else
#define HOFT_CUDA_SCALARS float, double, std::complex<float>, Eigen::half, Eigen::bfloat16
#endif

// Sizes 0 and 1; r > m; around a warp (32), a block of threads (256), a tile of a product (32 x 32, 16 deep), the
// diagonal blocks of a triangle (16) and what one pass takes (64 reflectors).
struct cuda_shape {
  index_t m, r, n, block;
};
inline constexpr cuda_shape cuda_shapes[] = {
    {0, 0, 0, 64},    {0, 3, 2, 64},     {1, 0, 1, 64},     {1, 1, 0, 64},   {1, 1, 1, 64},    {2, 3, 2, 64},
    {5, 3, 0, 64},    {5, 0, 3, 64},     {7, 3, 1, 2},      {6, 9, 5, 4},    {31, 15, 17, 64}, {32, 16, 32, 64},
    {33, 17, 33, 64}, {64, 8, 16, 64},   {20, 5, 100, 64},  {70, 65, 9, 64}, {255, 4, 3, 64},  {257, 5, 40, 64},
    {300, 33, 5, 64}, {90, 70, 31, 128}, {100, 64, 35, 64},
};

/// What two bfloat16 parts of a float leave out beside storage in 16 bits, of a product of floats: 2⁻¹⁷ for each of the
/// two that is split, and 2⁻¹⁶ where both are, for the product of the second parts (warp.hpp).
inline constexpr long double one_in_parts = 0x1p-17L, both_in_parts = 0x1p-15L;
/// What is left of it in a sum of m products of two independent columns, relative to the product of their norms: it has
/// any sign, so 4 times the root of Σ |a b|², which is the product of the norms over √m; never more than all of it.
inline long double spread(index_t m) {
  return std::min(1.0L, 4 / std::sqrt(std::max(static_cast<long double>(m), 1.0L)));
}
/// The same for w = ûᴴx: û is split, and x has a second part if it has more than 8 bits, of which the product is left
/// out; but x itself is its parts.
template <class T>
long double projection_in_parts(index_t m) {
  return is_stored_in_16_bits<T> ? 3 * one_in_parts * spread(m) : 0;
}
/// line_bound with the term of kernels that split floats in two, for columns independent of reflectors. For one
/// reflector y = x − û z, z = tau w: w, tau, û and z are split, so that beside the error of w itself each of the two
/// products adds 2⁻¹⁵: 2 (3 · 2⁻¹⁷ + 2 · 2⁻¹⁵) = 22 · 2⁻¹⁷ of ‖x‖ in all, times what sums leave of it.
template <class T>
long double kernel_line_bound(index_t m, index_t r) {
  long double const products = is_stored_in_16_bits<T> ? 2 * both_in_parts * spread(m) : 0;
  return line_bound<T>(m, r) + 2 * static_cast<long double>(r) * (projection_in_parts<T>(m) + products);
}

/// What is made of reflectors U, by itself: columns of Û have norm 1, and scales μ ν = ‖u‖, or are zero, and the Gram
/// triangle is that of Û. No product with Q tells of a wrong norm, since tau is made of the same columns; storage in 16
/// bits hides what small parts of floats add. Sums are over m, with roundings of terms, root, quotient and μ ν.
template <class A, class DU>
void check_columns(Eigen::MatrixBase<DU> const& U, hoft::compact_wy_view<A> const& Q) {
  if (U.rows() == 0) return;
  auto const columns = widen(U), unit = widen(hoft::as_eigen(Q.vectors)), scales = widen(hoft::as_eigen(Q.scales)),
             gram = widen(hoft::as_eigen(Q.gram));
  long double const relative = (2 * std::sqrt(static_cast<long double>(U.rows())) + 10) * eps_of<A>();
  auto const is_number = [&](index_t j) { return !std::isnan(columns.col(j).norm()); };
  for (index_t j = 0; j < U.cols(); ++j) {
    if (!is_number(j)) continue;
    CAPTURE(j);
    long double const norm = columns.col(j).norm(), stored = std::abs(scales(0, j) * scales(1, j));
    CHECK(std::abs(unit.col(j).norm() - (norm > 0 ? 1 : 0)) <= relative);
    CHECK(std::abs(stored - norm) <= relative * norm);
    index_t const first = j / Q.block * Q.block;
    for (index_t i = first; i < j; ++i)
      if (is_number(i)) CHECK(std::abs(gram(i - first, j) - unit.col(i).dot(unit.col(j))) <= relative);
  }
}

template <class Machine, class T, class L>
struct cuda_tests {
  using A = hoft::accumulator_t<T>;
  using call = calls<Machine, T, L>;
  template <class S, class M = L>
  using matrix = padded<S, M, typename Machine::template Allocator<S>>;
  using work = guarded_memory<typename Machine::template Allocator<std::byte>>;
  using bytes = std::vector<std::byte, typename Machine::template Allocator<std::byte>>;

  Machine const& machine;
  std::span<cuda_shape const> shapes = cuda_shapes;
  bool aligned = false;  ///< lines of matrices are multiples of 16 bytes, so that as many are copied at a time
  index_t shift = 0;     ///< elements from a multiple of 16 bytes to where a matrix begins

  index_t padding(index_t rows, index_t cols) const {
    return aligned ? 16 - (std::same_as<L, col_major> ? rows : cols) % 8 : 3;
  }
  matrix<T> as_padded(dense_matrix<T, L> const& X) const { return matrix<T>(X, padding(X.rows(), X.cols()), shift); }
  matrix<T> room_for(index_t rows, index_t cols) const { return matrix<T>(rows, cols, padding(rows, cols), shift); }

  /// A compact WY form in the machine's memory.
  struct form {
    bytes memory;
    hoft::compact_wy_view<A> view;
    form(index_t m, index_t r, index_t block) {
      hoft::arena count;
      hoft::carve_compact_wy<A>(count, m, r, block);
      memory.resize(std::size_t(count.size()), std::byte(0xFF));
      hoft::arena memory_of(hoft::workspace{memory.data(), index_t(memory.size())});
      view = hoft::carve_compact_wy<A>(memory_of, m, r, block);
    }
  };

  form accumulated(dense_matrix<T, L> const& U, index_t wanted, hoft::inverse kind = {}) const {
    matrix<T> const u(U);
    form Q(U.rows(), U.cols(), hoft::block_for(U.cols(), kind, wanted));
    work scratch(call::accumulate_size(machine, Q.view, kind));
    call::accumulate(machine, u.view(), Q.view, kind, scratch);
    machine.finish();
    CHECK(u.intact());
    CHECK(scratch.intact());
    check_columns(U, Q.view);
    return Q;
  }

  dense_matrix<T, L> applied(form const& Q, dense_matrix<T, L> const& X, side s, op o) const {
    matrix<T> const x = as_padded(X);
    matrix<T> y = room_for(X.rows(), X.cols()), in_place = as_padded(X);
    index_t const n = s == side::left ? X.cols() : X.rows();
    matrix<A, col_major> W(Q.view.rank(), n), none(0, 0);
    work scratch(call::apply_size(machine, Q.view, x.view(), s));
    call::apply(machine, Q.view, x.view(), y.view(), s, o, scratch, W.view());
    machine.finish();
    CHECK(x.intact());
    CHECK(y.intact());
    CHECK(W.intact());
    CHECK(same_bits(x.map(), X));
    auto const U = widen(hoft::as_eigen(Q.view.vectors)), columns = widen(X);
    if (Q.view.rank() <= Q.view.block && U.allFinite()) {  // W = UᴴX, or (X U)ᵀ
      wide_matrix<T> const expected =
          s == side::left ? times(adjoint_copy(U), columns) : wide_matrix<T>(times(columns, U).transpose());
      long double const rows = static_cast<long double>(U.rows()),
                        relative = 2 * (std::sqrt(rows) + 5) * eps_of<T>() + projection_in_parts<T>(U.rows());
      bound_matrix bound(U.cols(), n);
      for (index_t j = 0; j < n; ++j)
        bound.col(j).setConstant(relative * (s == side::left ? columns.col(j).norm() : columns.row(j).norm()));
      CHECK(within(W.map(), expected, bound));
    }
    call::apply(machine, Q.view, in_place.view(), in_place.view(), s, o, scratch, none.view());
    machine.finish();
    CHECK(in_place.intact());
    CHECK(scratch.intact());
    CHECK(same_bits(in_place.map(), y.map()));
    return y.map();
  }

  /// dX and dU from the input or the output X of the forward pass.
  template <class Work>
  void back(form const& Q, bool from_output, hoft::matrix_view<T const, L> X, hoft::matrix_view<T const, L> dY,
            hoft::matrix_view<T, L> dX, hoft::matrix_view<T, L> dU, side s, op o, Work& scratch) const {
    if (from_output) call::apply_backward_from_output(machine, Q.view, X, dY, dX, dU, s, o, scratch);
    else call::apply_backward(machine, Q.view, X, dY, dX, dU, {}, s, o, scratch);
    machine.finish();
  }

  /// per_reflector for n columns, of which kernel_line_bound tells what is lost.
  static bound_matrix dU_bound(dense_matrix<T, L> const& U, wide_matrix<T> const& X, dense_matrix<T, L> const& dY,
                               wide_matrix<T> const& expected, index_t n) {
    index_t const m = U.rows(), r = U.cols();
    return per_reflector<T, T>(U, X, dY, expected, n, kernel_line_bound<T>(m, r) / line_bound<T>(m, r));
  }

  void check_apply() const {
    unsigned seed = 5100;
    for (auto const [m, r, n, block] : shapes) {
      std::string const label = text_of({{"m", m}, {"r", r}, {"n", n}, {"block", block}});
      INFO(label);
      dense_matrix<T, L> const U = gaussian<T, L>(m, r, ++seed);
      form const Q = accumulated(U, block);
      for (side s : sides)
        for (op o : ops) {
          std::string const how = text_of({{"s", index_t(s)}, {"o", index_t(o)}});
          INFO(how);
          dense_matrix<T, L> const X = s == side::left ? gaussian<T, L>(m, n, ++seed) : gaussian<T, L>(n, m, ++seed);
          auto const Y = reference_apply(U, X, s, o);
          CHECK(within(applied(Q, X, s, o), Y, per_line<T>(X, Y, s, kernel_line_bound<T>(m, r))));
        }
    }
  }

  void check_backward() const {
    unsigned seed = 6100;
    for (auto const [m, r, n, block] : shapes) {
      std::string const label = text_of({{"m", m}, {"r", r}, {"n", n}, {"block", block}});
      INFO(label);
      dense_matrix<T, L> const U = gaussian<T, L>(m, r, ++seed);
      form const Q = accumulated(U, block);
      for (side s : sides)
        for (op o : ops)
          for (bool from_output : {false, true}) {
            std::string const how = text_of({{"s", index_t(s)}, {"o", index_t(o)}, {"from output", from_output}});
            INFO(how);
            dense_matrix<T, L> const known =
                s == side::left ? gaussian<T, L>(m, n, ++seed) : gaussian<T, L>(n, m, ++seed);
            dense_matrix<T, L> const dY = gaussian<T, L>(known.rows(), known.cols(), ++seed);
            wide_matrix<T> const X =
                from_output ? reference_apply(U, known, s, hoft::adjoint_of(o)) : wide_matrix<T>(widen(known));
            auto const expected = reference_backward(U, X, dY, s, o);
            matrix<T> const x = as_padded(known), dy = as_padded(dY);
            matrix<T> dX = room_for(known.rows(), known.cols()), dU(m, r);
            work scratch(call::apply_backward_size(machine, Q.view, x.view(), s));
            back(Q, from_output, x.view(), dy.view(), dX.view(), dU.view(), s, o, scratch);
            bool const nothing_else = x.intact() && dy.intact() && dX.intact() && dU.intact() && scratch.intact();
            CHECK(nothing_else);
            CHECK(within(dX.map(), expected.X, per_line<T>(dY, expected.X, s, kernel_line_bound<T>(m, r))));
            CHECK(within(dU.map(), expected.U, dU_bound(U, X, dY, expected.U, n)));
          }
    }
  }

  /// Columns of any length, zero columns, parallel ones, NaN.
  void check_accumulate() const {
    index_t const m = 300, r = 40;
    long double const eps = eps_of<T>();
    dense_matrix<T, L> U = gaussian<T, L>(m, r, 7100);
    dense_matrix<A> const columns = U.template cast<A>();
    hoft::real_t<T> const far =
        sizeof(T) == 2 ? hoft::real_t<T>(1) : std::sqrt(std::numeric_limits<hoft::real_t<T>>::max());
    for (index_t i = 0; i < m; ++i) {
      U(i, 1) = T(0);
      U(i, 2) = static_cast<T>(columns(i, 2) * A(far));                              // squares overflow
      U(i, 3) = static_cast<T>(columns(i, 3) / A(far) / A(far < 2 ? 1 : 16));        // squares underflow
      U(i, 4) = i + 1 == m ? static_cast<T>(columns(i, 4) / A(far) / A(16)) : T(0);  // all of it in the last rows
      for (index_t j = 8; j < 16; ++j)  // all of it in rows of one of the blocks of a cluster
        U(i, j) = i == (j - 8) * m / 8 + 1 ? static_cast<T>(columns(i, j) / A(far) / A(16)) : T(0);
      for (index_t j = 20; j < r; ++j) U(i, j) = U(i, 0);
    }
    form const Q = accumulated(U, 64);
    dense_matrix<T, L> const E = dense_matrix<A>::Identity(m, m).template cast<T>();
    auto const got = applied(Q, E, side::left, op::plain);
    auto const expected = reference_apply(U, E);
    CHECK(within(got, expected, per_line<T>(E, expected, side::left, kernel_line_bound<T>(m, r))));
    if (sizeof(T) > 2) {
      auto const wide = widen(got);
      CHECK((times(adjoint_copy(wide), wide) - wide_matrix<T>::Identity(m, m)).norm() <=
            std::sqrt(static_cast<long double>(m)) * 40 * eps);
    }
    U(5, 7) = scalar_of<T>(std::numeric_limits<double>::quiet_NaN());
    CHECK(all_nan(applied(accumulated(U, 64), gaussian<T, L>(m, 2, 7101), side::left, op::plain)));
  }

  /// Gradients where columns are zero, huge or tiny; dX on top of dY.
  void check_unusual_gradients() const {
    index_t const m = 70, r = 9, n = 40;
    dense_matrix<T, L> U = gaussian<T, L>(m, r, 8200);
    using real = hoft::real_t<T>;
    real const far = sizeof(T) == 2 ? real(8) : std::sqrt(std::numeric_limits<real>::max());
    dense_matrix<A> const columns = U.template cast<A>();
    for (index_t i = 0; i < m; ++i) {
      U(i, 2) = T(0);
      U(i, 4) = static_cast<T>(columns(i, 4) * A(far));
      U(i, 5) = static_cast<T>(columns(i, 5) / A(far));
    }
    form const Q = accumulated(U, 64);
    dense_matrix<T, L> const known = gaussian<T, L>(m, n, 8201), dY = gaussian<T, L>(m, n, 8202);
    for (bool from_output : {false, true}) {
      std::string const how = text_of({{"from output", from_output}});
      INFO(how);
      wide_matrix<T> const X =
          from_output ? reference_apply(U, known, side::left, op::adjoint) : wide_matrix<T>(widen(known));
      auto const expected = reference_backward(U, X, dY, side::left, op::plain);
      matrix<T> const x(known), dy(dY);
      matrix<T> dX(dY), dU(m, r);
      work scratch(call::apply_backward_size(machine, Q.view, x.view(), side::left));
      hoft::matrix_view<T const, L> const g = dX.view();
      back(Q, from_output, x.view(), g, dX.view(), dU.view(), side::left, op::plain, scratch);
      CHECK(within(dX.map(), expected.X, per_line<T>(dY, expected.X, side::left, kernel_line_bound<T>(m, r))));
      CHECK(within(dU.map(), expected.U, dU_bound(U, X, dY, expected.U, n)));
      dense_matrix<T, L> const first_X = dX.map(), first_U = dU.map();
      for (int again = 0; again < 3; ++again) {
        dX.map() = dY;
        back(Q, from_output, x.view(), g, dX.view(), dU.view(), side::left, op::plain, scratch);
        CHECK(same_bits(dX.map(), first_X));
        CHECK(same_bits(dU.map(), first_U));
      }
    }
  }

  /// Blocks that may share little memory take large clusters; none are there where most_cluster is 0. Lines that begin
  /// at multiples of 16 bytes are fetched, others are not: neither those of another length, nor those that are shifted.
  void check_clusters() const {
    constexpr cuda_shape some[] = {{1, 1, 1, 64},    {33, 17, 33, 64}, {31, 15, 17, 64}, {64, 8, 16, 64},
                                   {257, 5, 40, 64}, {300, 33, 5, 64}, {72, 64, 50, 64}, {100, 40, 5, 16}};
    if constexpr (std::same_as<A, float>)  // others know no clusters
      for (auto const& [most, limit] :
           std::initializer_list<std::pair<index_t, index_t>>{{0, 160}, {1, 60}, {2, 36}, {8, 24}, {8, 44}}) {
        std::string const label = text_of({{"most", most}, {"limit", limit}});
        INFO(label);
        Machine const few = machine.limited(limit * 1024, most);
        for (auto const& [lines, by] :
             std::initializer_list<std::pair<bool, index_t>>{{false, 0}, {true, 0}, {true, 1}}) {
          if (by > 0 && most != 1) continue;
          cuda_tests<Machine, T, L> const tests{few, some, lines, by};
          tests.check_apply();
          tests.check_backward();
        }
        if (most == 8) cuda_tests<Machine, T, L>{few}.check_accumulate();  // in one launch, and column by column
      }
  }

  /// The same bits again and again.
  void check_bits() const {
    dense_matrix<T, L> const U = gaussian<T, L>(257, 20, 8100), X = gaussian<T, L>(257, 70, 8101);
    dense_matrix<T, L> const first = applied(accumulated(U, 64), X, side::left, op::plain);
    for (int again = 0; again < 10; ++again)
      CHECK(same_bits(applied(accumulated(U, 64), X, side::left, op::plain), first));
  }

  /// The products of parts that floats are split into, one at a time: in sums of which all others cancel, so that it
  /// does not hide below the tolerance of the whole. Of three parts, products below 2⁻²⁰ are left out here: what an
  /// instruction may cut behind those that cancel is as large.
  void check_parts() const {
    if constexpr (std::same_as<A, float>) {
      for (int p = 0; p < beside; ++p)
        for (int q = 0; p + q < beside; ++q) {
          std::string const label = text_of({{"p", p}, {"q", q}});
          INFO(label);
          check_parts_of_update(p, q);
          check_parts_of_factor(p, q);
          // With 48 reflectors a backward pass has a warp for each 16 of them, with 32 it shares them among warps.
          if (q < own) check_parts_of_projection(p, q, parts_r), check_parts_of_projection(p, q, 48);
          if (p < own) check_parts_of_sums(p, q);
        }
    }
  }

  // Of check_parts, here and in transforms.hpp: U is the identity above, so that there are rows for what is projected
  // and rows for what is updated.
  static constexpr index_t parts_below = 64, parts_r = 32, parts_m = parts_r + parts_below, parts_n = 32;
  using parts_matrix = dense_matrix<T, L>;
  /// Parts of T, and of a float beside it.
  static constexpr int own = std::same_as<T, float>         ? 3
                             : std::same_as<T, Eigen::half> ? 2
                                                            : 1,
                       beside = std::same_as<T, float> ? 3 : 2;

  /// A form with U below its identity and T by hand: it need not be one of reflectors.
  static form form_of(dense_matrix<A> const& below, dense_matrix<A> const& factor) {
    index_t const r = factor.cols();
    form Q(below.rows() + r, r, r);
    hoft::as_eigen(Q.view.vectors).setIdentity();
    hoft::as_eigen(Q.view.vectors).bottomRows(below.rows()) = below;
    hoft::as_eigen(Q.view.factor) = factor;
    hoft::as_eigen(Q.view.gram).setZero();
    hoft::as_eigen(Q.view.scales).setOnes();
    for (index_t k = 0; k < r; ++k) Q.view.tau[k] = A(1);
    Q.view.filled = true;
    return Q;
  }
  /// Part p of number n, a float in [1, 2): it fits bfloat16, and the number is cut and rounded to the same parts.
  /// Most differ from those 2, 4, 6, 8, 12 and 16 further, where a tile, or a quarter, that is taken for another has
  /// its own.
  static float part(int p, index_t n) {
    if (p == 0) return 1 + float(n * 37 % 128) / 128;
    if (p == 2) return float(64 + n * 29 % 64) * 0x1p-23f;
    // Half has 11 bits: three numbers, without a period that tiles of 8 lines might share.
    return sizeof(T) == 4 ? float(128 + n * 29 % 128) * 0x1p-16f : float(1 + n * n % 101 % 3) * 0x1p-10f;
  }
  static float up_to(int p, index_t n) { return p < 0 ? 0 : up_to(p - 1, n) + part(p, n); }
  /// Four factors, e of them, whose products with four others sum up to part(p, n) part(q, l): in AB − A'B − AB' +
  /// A'B', which is (A − A') (B − B'), A' lacks the last part of A, and B' that of B.
  static float left_of_four(int p, index_t n, index_t e) { return (e % 3 == 0 ? 1 : -1) * up_to(p - int(e % 2), n); }
  static float right_of_four(int q, index_t l, index_t e) { return up_to(q - int(e / 2), l); }
  /// sums(i, j) is the sum of so many products part(p, i + f) part(q, j + 3 f), times scale(i, j).
  template <class Sums, class Scale>
  static comparison are_parts(Sums const& sums, int p, int q, index_t fours, Scale const& scale) {
    wide_matrix<float> expected = wide_matrix<float>::Zero(sums.rows(), sums.cols());
    for (index_t j = 0; j < sums.cols(); ++j)
      for (index_t i = 0; i < sums.rows(); ++i)
        for (index_t f = 0; f < fours; ++f)
          expected(i, j) += static_cast<long double>(part(p, i + f)) * part(q, j + 3 * f) * scale(i, j);
    // An instruction may cut 24 bits below what cancels, 2⁻²² of each product and 2⁻⁴ of the least that is left.
    return within(sums, expected, bound_matrix(expected.cwiseAbs() / 16));
  }

  /// U, with factor one, and X [r + 64, n], of whose lower rows UᴴX is made.
  static std::pair<form, parts_matrix> parts_to_project(int p, int q, index_t r, index_t n) {
    dense_matrix<A> U(parts_below, r);
    parts_matrix X = parts_matrix::Zero(r + parts_below, n);
    for (index_t i = 0; i < parts_below; ++i) {
      for (index_t k = 0; k < r; ++k) U(i, k) = left_of_four(p, k + i / 4, i % 4);
      for (index_t c = 0; c < n; ++c) X(r + i, c) = static_cast<T>(right_of_four(q, c + 3 * (i / 4), i % 4));
    }
    return {form_of(U, dense_matrix<A>::Identity(r, r)), X};
  }

  /// What is summed over columns: X dWᴴ, where dW is −Tᴴ dY of the upper rows, or −dY Zᴴ, where Z is T X of them.
  struct summed_parts {
    form Q;
    parts_matrix X, dY;
  };
  static summed_parts parts_to_sum(int p, int q, bool of_X) {
    index_t const m = parts_m, r = parts_r, n = parts_n;
    dense_matrix<A> factor = dense_matrix<A>::Zero(r, r);
    parts_matrix below = parts_matrix::Zero(m, n), above = parts_matrix::Zero(m, n);
    for (index_t c = 0; c < n; ++c) {
      index_t const f = c / 4, e = c % 4, l = 2 * f + e / 2;
      for (index_t i = 0; i < m - r; ++i) below(r + i, c) = static_cast<T>(left_of_four(p, i + f, e));
      for (index_t k = 0; k < r; ++k) factor(l, k) = right_of_four(q, k + 3 * f, e);
      above(l, c) = static_cast<T>(1.0f);
    }
    return {form_of(dense_matrix<A>::Zero(m - r, r), of_X ? factor : dense_matrix<A>(factor.transpose())),
            of_X ? below : above, of_X ? above : below};
  }

 private:
  /// The lower rows of Y and dX: −U T W, where W is X above.
  void check_parts_of_update(int p, int q) const {
    index_t const m = parts_m, r = parts_r, n = parts_n;
    dense_matrix<A> U(m - r, r), factor = dense_matrix<A>::Zero(r, r);
    parts_matrix X = parts_matrix::Zero(m, n);
    auto const power = [](index_t c) { return float(1 << (c + c / 8) % 4); };
    for (index_t k = 0; k < r; ++k) {
      for (index_t i = 0; i < m - r; ++i) U(i, k) = left_of_four(p, i + k / 4, k % 4);
      for (index_t c = 0; c < n; ++c) X(k, c) = static_cast<T>(power(c));
      factor(k, k) = right_of_four(q, 3 * (k / 4), k % 4);
    }
    form const Q = form_of(U, factor);
    matrix<T> const x = as_padded(X), zero = as_padded(parts_matrix::Zero(m, n));
    matrix<T> y = room_for(m, n), dX = room_for(m, n), dU(m, r);
    matrix<A, col_major> W(0, 0);
    work scratch(call::apply_size(machine, Q.view, x.view(), side::left)),
        scratch_back(call::apply_backward_size(machine, Q.view, x.view(), side::left));
    call::apply(machine, Q.view, x.view(), y.view(), side::left, op::plain, scratch, W.view());
    back(Q, false, zero.view(), x.view(), dX.view(), dU.view(), side::left, op::plain, scratch_back);
    // All columns have the same factor, whose number does not depend on them.
    for (index_t c = 0; c < n; ++c) {
      auto const scale = [&](index_t, index_t) { return -power(c); };
      CHECK(are_parts(y.map().col(c).tail(m - r), p, q, r / 4, scale));
      CHECK(are_parts(dX.map().col(c).tail(m - r), p, q, r / 4, scale));
    }
  }
  /// The lower rows of Y and dX once more, which are those of −T W and −Tᴴ P: U has the right factors in place of ones
  /// above, and ones below.
  void check_parts_of_factor(int p, int q) const {
    index_t const m = parts_m, r = parts_r, n = parts_n;
    dense_matrix<A> U = dense_matrix<A>::Zero(m - r, r), factor(r, r);
    parts_matrix X = parts_matrix::Zero(m, n);
    for (index_t k = 0; k < r; ++k) {
      for (index_t i = k; i < m - r; i += r) U(i, k) = 1;
      for (index_t l = 0; l < r; ++l) factor(k, l) = left_of_four(p, k + l / 4, l % 4);
      X.row(k).setConstant(static_cast<T>(1.0f));
    }
    matrix<T> const x = as_padded(X), zero = as_padded(parts_matrix::Zero(m, n));
    for (bool backward : {false, true}) {
      form const Q = form_of(U, backward ? dense_matrix<A>(factor.transpose()) : factor);
      for (index_t k = 0; k < r; ++k) hoft::as_eigen(Q.view.vectors)(k, k) = right_of_four(q, 3 * (k / 4), k % 4);
      matrix<T> y = room_for(m, n), dU(m, r);
      matrix<A, col_major> W(0, 0);
      if (backward) {
        work scratch(call::apply_backward_size(machine, Q.view, x.view(), side::left));
        back(Q, false, zero.view(), x.view(), y.view(), dU.view(), side::left, op::plain, scratch);
      } else {
        work scratch(call::apply_size(machine, Q.view, x.view(), side::left));
        call::apply(machine, Q.view, x.view(), y.view(), side::left, op::plain, scratch, W.view());
        machine.finish();
      }
      for (index_t c = 0; c < n; ++c)
        for (index_t first = r; first < m; first += r)
          CHECK(are_parts(y.map().col(c).segment(first, r), p, q, r / 4, [](index_t, index_t) { return -1.0f; }));
    }
  }
  /// W = UᴴX of the lower rows.
  void check_parts_of_projection(int p, int q, index_t r) const {
    index_t const m = r + parts_below, n = parts_n;
    auto const of = parts_to_project(p, q, r, n);
    form const& Q = of.first;
    matrix<T> const x = as_padded(of.second);
    matrix<T> y = room_for(m, n);
    matrix<A, col_major> W(r, n);
    work scratch(call::apply_size(machine, Q.view, x.view(), side::left));
    call::apply(machine, Q.view, x.view(), y.view(), side::left, op::plain, scratch, W.view());
    machine.finish();
    CHECK(are_parts(W.map(), p, q, (m - r) / 4, [](index_t, index_t) { return 1.0f; }));
    // And −P = −UᴴdY in the upper rows of dX.
    matrix<T> const zero = as_padded(parts_matrix::Zero(m, n));
    matrix<T> dX = room_for(m, n), dU(m, r);
    work scratch_back(call::apply_backward_size(machine, Q.view, x.view(), side::left));
    back(Q, false, zero.view(), x.view(), dX.view(), dU.view(), side::left, op::plain, scratch_back);
    CHECK(are_parts(dX.map().topRows(r), p, q, (m - r) / 4, [](index_t, index_t) { return -1.0f; }));
  }
  /// The lower rows of dU: Σ X dWᴴ over the columns, and −Σ dY Zᴴ.
  void check_parts_of_sums(int p, int q) const {
    index_t const m = parts_m, r = parts_r, n = parts_n;
    for (bool of_X : {true, false}) {
      auto const of = parts_to_sum(p, q, of_X);
      matrix<T> const x = as_padded(of.X), dY = as_padded(of.dY);
      matrix<T> dX = room_for(m, n), dU(m, r);
      work scratch(call::apply_backward_size(machine, of.Q.view, x.view(), side::left));
      back(of.Q, false, x.view(), dY.view(), dX.view(), dU.view(), side::left, op::plain, scratch);
      CHECK(are_parts(dU.map().bottomRows(m - r), p, q, n / 4, [](index_t, index_t) { return -1.0f; }));
    }
  }
};

/// Every test, for machine() of the source that says HOFT_CUDA_TESTS.
#define HOFT_CUDA_TESTS(Machine, machine, ...)                                           \
  TEST_CASE_TEMPLATE("apply and accumulate, column-major", T, __VA_ARGS__) {             \
    cuda_tests<Machine, T, col_major>{machine()}.check_apply();                          \
  }                                                                                      \
  TEST_CASE_TEMPLATE("apply and accumulate, row-major", T, __VA_ARGS__) {                \
    cuda_tests<Machine, T, row_major>{machine()}.check_apply();                          \
  }                                                                                      \
  TEST_CASE_TEMPLATE("apply_backward, column-major", T, __VA_ARGS__) {                   \
    cuda_tests<Machine, T, col_major>{machine()}.check_backward();                       \
  }                                                                                      \
  TEST_CASE_TEMPLATE("apply_backward, row-major", T, __VA_ARGS__) {                      \
    cuda_tests<Machine, T, row_major>{machine()}.check_backward();                       \
  }                                                                                      \
  TEST_CASE_TEMPLATE("columns of every length, zero, parallel or NaN", T, __VA_ARGS__) { \
    cuda_tests<Machine, T, row_major>{machine()}.check_accumulate();                     \
  }                                                                                      \
  TEST_CASE_TEMPLATE("gradients of unusual columns", T, __VA_ARGS__) {                   \
    cuda_tests<Machine, T, row_major>{machine()}.check_unusual_gradients();              \
  }                                                                                      \
  TEST_CASE_TEMPLATE("clusters of every size, and none", T, __VA_ARGS__) {               \
    cuda_tests<Machine, T, row_major>{machine()}.check_clusters();                       \
  }                                                                                      \
  TEST_CASE_TEMPLATE("parts of floats, product by product", T, __VA_ARGS__) {            \
    cuda_tests<Machine, T, col_major>{machine()}.check_parts();                          \
  }                                                                                      \
  TEST_CASE_TEMPLATE("the same bits from every run", T, __VA_ARGS__) {                   \
    cuda_tests<Machine, T, row_major>{machine()}.check_bits();                           \
  }

}  // namespace hoft_test
