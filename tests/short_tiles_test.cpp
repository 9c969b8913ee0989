// SPDX-License-Identifier: BSD-3-Clause
// The kernels of short columns, against plain loops in long double: UᵀX, X + U Z, F W and UᴴU. And UᴴX of rows.
#include "support.hpp"

#include <hoft/cpu/backend.hpp>

#include <string>
#include <utility>

using namespace hoft_test;

namespace {

namespace kernel = hoft::cpu_backend::kernel;
using O = hoft::ops<hoft::cpu>;

/// |computed − exact| is at most γ_{k + 3} of what is added, for a sum of k products in any order, scaled and added to
/// another number.
template <class T, class D>
void check_sums(Eigen::MatrixBase<D> const& computed, wide_matrix<T> const& exact, wide_matrix<T> const& sizes,
                index_t k) {
  long double const gamma = (hoft::is_complex<T> ? 2 : 1) * static_cast<long double>(k + 3) * eps_of<T>();
  CHECK(within(computed, exact, bound_matrix(gamma * sizes.cwiseAbs())));
}

/// U in slabs, as panels of layout L meet it.
template <class T, class L = hoft::col_major>
class packed {
 public:
  explicit packed(dense_matrix<T> const& U) : memory_(size(U)) {
    hoft::arena arena{hoft::workspace(memory_)};
    slabs = O::carve_packed<T, L>(hoft::cpu{}, arena, U.rows(), U.cols());
    O::pack(hoft::cpu{}, hoft::as_view(U), slabs);
  }
  hoft::cpu_backend::packed_matrix<T, L> slabs;

 private:
  static index_t size(dense_matrix<T> const& U) {
    hoft::arena count;
    O::carve_packed<T, L>(hoft::cpu{}, count, U.rows(), U.cols());
    return count.size();
  }
  guarded_workspace memory_;
};

/// Around a vector, half of it, and the longest column that counts as short.
template <class T>
std::vector<index_t> heights() {
  index_t const lane = kernel::lanes<T>, most = kernel::short_rows<T>;
  return {1, 2, 3, lane - 1, lane, lane + 1, 2 * lane, 4 * lane, most - 1, most, most + 1};
}
/// Columns that fill no vector of units, one, two, and more.
template <class T>
std::vector<index_t> ranks() {
  index_t const units = kernel::units<T>;
  return {1, units, units + 1, 2 * units, 3 * units + 1, 8};
}

template <class T>
void check_projections(index_t m, index_t r, index_t n) {
  std::string const label = text_of({{"m", m}, {"r", r}, {"n", n}});
  INFO(label);
  dense_matrix<T> const U = gaussian<T>(m, r, 1);
  packed<T> const u(U);
  padded<T> const X(gaussian<T>(m, n, 2));
  padded<T> W(r, n), alone(r, n);
  padded<T, hoft::row_major> rows(r, n);
  O::project_packed(hoft::cpu{}, u.slabs, X.view(), W.view());
  wide_matrix<T> const wide_u = widen(U), wide_x = widen(X.map());
  check_sums<T>(W.map(), wide_u.transpose() * wide_x, wide_u.cwiseAbs().transpose() * wide_x.cwiseAbs(), m);
  O::project_packed(hoft::cpu{}, u.slabs, X.view(), rows.view());
  hoft::matrix_view<T const> const distant{X.view().data, m, 1, (std::numeric_limits<index_t>::max)()};
  for (index_t j = 0; j < n; ++j)  // with a hint, of a column whose stride is not looked at
    O::project_packed(hoft::cpu{}, u.slabs, X.view().columns(j, 1), alone.view().columns(j, 1), distant);
  CHECK(same_bits(dense_matrix<T>(W.map()), dense_matrix<T>(rows.map())));
  CHECK(same_bits(W.map(), alone.map()));
  CHECK((W.intact() && rows.intact() && alone.intact()));
}

/// Rows are read as they lie by one tile of reflectors, and copied where several meet them.
template <class T>
void check_row_projections(index_t m, index_t r, index_t n) {
  std::string const label = text_of({{"m", m}, {"r", r}, {"n", n}});
  INFO(label);
  dense_matrix<T> const U = gaussian<T>(m, r, 11);
  packed<T, hoft::row_major> const u(U);
  padded<T, hoft::row_major> const X(gaussian<T>(m, n, 12));
  padded<T, hoft::row_major> W(r, n), alone(r, n);
  O::project_packed(hoft::cpu{}, u.slabs, X.view(), W.view());
  for (index_t j = 0; j < n; ++j)
    O::project_packed(hoft::cpu{}, u.slabs, X.view().columns(j, 1), alone.view().columns(j, 1));
  wide_matrix<T> const wide_u = widen(U), wide_x = widen(X.map());
  check_sums<T>(W.map(), wide_u.adjoint() * wide_x, wide_u.cwiseAbs().transpose() * wide_x.cwiseAbs(), m);
  CHECK(same_bits(W.map(), alone.map()));
  CHECK((W.intact() && alone.intact()));
}

enum class start { none, apart, in_place };

template <class T>
void check_updates(index_t m, index_t n, start from) {
  std::string const label = text_of({{"m", m}, {"n", n}, {"from", index_t(from)}});
  INFO(label);
  index_t const r = kernel::kept_terms;
  dense_matrix<T> const U = gaussian<T>(m, r, 3);
  packed<T> const u(U);
  padded<T> const Z(gaussian<T>(r, n, 4)), X(gaussian<T>(m, n, 5));
  padded<T> Y(X.map()), alone(X.map());
  auto const update = [&](padded<T>& to, index_t j, index_t cols) {
    hoft::matrix_view<T const> x;
    if (from == start::apart) x = X.view().columns(j, cols);
    if (from == start::in_place) x = std::as_const(to).view().columns(j, cols);
    O::update_packed(hoft::cpu{}, u.slabs, Z.view().columns(j, cols), x, to.view().columns(j, cols));
  };
  update(Y, 0, n);
  for (index_t j = 0; j < n; ++j) update(alone, j, 1);
  wide_matrix<T> const wide_u = widen(U), wide_z = widen(Z.map());
  wide_matrix<T> exact = wide_u * wide_z, sizes = wide_u.cwiseAbs() * wide_z.cwiseAbs();
  if (from != start::none) exact += widen(X.map()), sizes += wide_matrix<T>(widen(X.map())).cwiseAbs();
  check_sums<T>(Y.map(), exact, sizes, r);
  CHECK(same_bits(Y.map(), alone.map()));
  CHECK((Y.intact() && alone.intact()));
}

template <class T>
void check_multiply(index_t r, index_t n, op o) {
  std::string const label = text_of({{"r", r}, {"n", n}, {"adjoint", o == op::adjoint ? 1 : 0}});
  INFO(label);
  padded<T> const F(gaussian<T>(r, r, 6)), W(gaussian<T>(r, n, 7));
  padded<T> Z(r, n), alone(r, n);
  T const alpha(-0.75);
  O::multiply(hoft::cpu{}, alpha, F.view(), o, W.view(), Z.view());
  // Where columns of F stay in registers, the stride of a single column is not looked at.
  bool const any = r == 4 || (r % 8 == 0 && r <= 32);
  index_t const ld = any ? (std::numeric_limits<index_t>::max)() : r;
  for (index_t j = 0; j < n; ++j)
    O::multiply(hoft::cpu{}, alpha, F.view(), o, hoft::matrix_view<T const>(W.view().columns(j, 1).data, r, 1, ld),
                hoft::matrix_view<T>(alone.view().columns(j, 1).data, r, 1, ld));
  wide_matrix<T> f = widen(F.map());
  if (o == op::adjoint) f.transposeInPlace();
  wide_matrix<T> const w = widen(W.map());
  check_sums<T>(Z.map(), widened(alpha) * (f * w), f.cwiseAbs() * w.cwiseAbs(), r);
  CHECK(same_bits(Z.map(), alone.map()));
  CHECK((Z.intact() && alone.intact()));
}

}  // namespace

TEST_CASE_TEMPLATE("projections of short columns, whose bits depend on no neighbour", T, float, double) {
  for (index_t m : heights<T>())
    for (index_t r : ranks<T>())
      for (index_t n : {1, 2, 3, 17, 31}) check_projections<T>(m, r, n);
}

TEST_CASE_TEMPLATE("projections of rows, whose bits depend on no neighbour", T, float, double, std::complex<float>) {
  index_t const width = kernel::tile_vectors<T> * kernel::lanes<T>;
  for (index_t m : {0, 1, 64, 65, 131})
    for (index_t r : {0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
      for (index_t n : {index_t{1}, width - 1, width, 2 * width + 3}) check_row_projections<T>(m, r, n);
}

TEST_CASE_TEMPLATE("updates of short columns by few reflectors", T, float, double) {
  for (index_t m : heights<T>())
    for (index_t n : {1, 7}) {
      for (start from : {start::none, start::apart, start::in_place}) check_updates<T>(m, n, from);
    }
}

TEST_CASE_TEMPLATE("products with a factor whose columns stay in registers, or are too many", T, float, double) {
  for (op o : ops)
    for (index_t r : {1, 3, 4, 5, 7, 8, 9, 12, 16, 20, 24, 28, 32, 36, 40, 48, 60, 64, 65, 72})
      for (index_t n : {1, 2, 19}) check_multiply<T>(r, n, o);
}

TEST_CASE_TEMPLATE("products with a factor and no columns need no memory for them", T, float, double) {
  for (op o : ops)
    for (index_t r : {4, 16, 32}) {
      padded<T> const F(gaussian<T>(r, r, 6));
      O::multiply(hoft::cpu{}, T(-1), F.view(), o, hoft::matrix_view<T const>(nullptr, r, 0),
                  hoft::matrix_view<T>(nullptr, r, 0));
      CHECK(F.intact());
    }
}

TEST_CASE_TEMPLATE("a NaN in a short column stays in it, and what lies behind a column is not read", T, float, double) {
  index_t const m = kernel::lanes<T> + 1, r = 2 * kernel::units<T>, n = 21;
  packed<T> const u(gaussian<T>(m, r, 8));
  padded<T> X(gaussian<T>(m, n, 9));  // with NaN between its columns
  X.map()(m - 1, 4) = T(std::numeric_limits<double>::quiet_NaN());
  padded<T> W(r, n);
  O::project_packed(hoft::cpu{}, u.slabs, std::as_const(X).view(), W.view());
  bool all = true;
  for (index_t j = 0; j < n; ++j)
    for (index_t k = 0; k < r; ++k) all = all && std::isnan(W.map()(k, j)) == (j == 4);
  CHECK(all);
}

TEST_CASE_TEMPLATE("a Gram triangle of few columns holds those of fewer", T, float, double, std::complex<float>) {
  for (index_t m : {0, 1, 63, 200, 1100})
    for (index_t r : {1, 3, 4, 5, 8, 15, 24, 25}) {
      std::string const label = text_of({{"m", m}, {"r", r}});
      INFO(label);
      dense_matrix<T> const U = gaussian<T>(m, r, 10);
      padded<T> A(r, r);
      std::vector<T> tau(std::size_t(r), T(7));
      O::gram_upper(hoft::cpu{}, hoft::as_view(U), A.view(), hoft::vector_view<T>{tau.data(), r});
      CHECK(A.intact());
      wide_matrix<T> const u = widen(U);
      wide_matrix<T> exact = u.adjoint() * u;
      long double const gamma = (hoft::is_complex<T> ? 2 : 1) * static_cast<long double>(m + 3) * eps_of<T>();
      bound_matrix bound = gamma * bound_matrix(u.cwiseAbs()).transpose() * bound_matrix(u.cwiseAbs());
      for (index_t j = 0; j < r; ++j)
        for (index_t i = j; i < r; ++i) exact(i, j) = 0, bound(i, j) = 0;
      CHECK(within(A.map(), exact, bound));
      for (index_t j = 0; j < r; ++j) CHECK((m > 0 || tau[std::size_t(j)] == T(0)));
      if (r > 24) continue;                 // more are summed in other tiles
      for (index_t k = 4; k < r; k += 4) {  // whole tiles
        padded<T> leading(k, k);
        O::gram_upper(hoft::cpu{}, hoft::as_view(U).columns(0, k), leading.view(), hoft::vector_view<T>{});
        CHECK(same_bits(leading.map(), A.map().topLeftCorner(k, k)));
      }
    }
}

TEST_CASE_TEMPLATE("columns are divided by their norm with the bits of a division", T, float, double) {
  std::mt19937_64 generator(5);
  std::uniform_real_distribution<T> mantissa(T(1), T(2));
  std::uniform_int_distribution<int> exponent(-30, 0);
  std::vector<T> divisors{T(1), std::nextafter(T(2), T(0)), std::nextafter(T(1), T(2)), T(3), T(1e-10), T(1e10)};
  for (int i = 0; i < 300; ++i) divisors.push_back(std::ldexp(mantissa(generator), exponent(generator)));
  index_t const n = 203;
  std::vector<T> x(static_cast<std::size_t>(n)), y(x.size());
  for (T const s : divisors) {
    CAPTURE(s);
    for (auto& e : x) e = std::ldexp(s / 2 * mantissa(generator), exponent(generator));
    hoft::cpu_backend::column_team::quotients(n, x.data(), s, y.data());
    for (index_t i = 0; i < n; ++i) {
      T const expected = x[std::size_t(i)] / s;
      if (y[std::size_t(i)] != expected) FAIL_CHECK("x[", i, "] / s is ", y[std::size_t(i)], " for ", expected);
    }
  }
}

TEST_CASE_TEMPLATE("small triangles: the inverse of diag(1/tau) + A, and nothing beside it", T, float, double,
                   std::complex<float>, std::complex<double>) {
  for (index_t r = 1; r <= 16; ++r) {
    CAPTURE(r);
    index_t const rows = r + 3;
    dense_matrix<T> A = gaussian<T>(r, r, 11) / hoft::real_t<T>(r);
    A.template triangularView<Eigen::Lower>().setZero();
    dense_matrix<T> tau(r, 1);
    for (index_t j = 0; j < r; ++j) tau(j, 0) = j == 1 ? T(0) : T(hoft::real_t<T>(2) / hoft::real_t<T>(j + 1));
    dense_matrix<T> F = dense_matrix<T>::Constant(rows, r, T(7));
    std::vector<T> scratch(static_cast<std::size_t>(O::form_factor_scratch(hoft::cpu{}, r)));
    O::form_factor(hoft::cpu{}, hoft::as_view(std::as_const(A)), hoft::vector_view<T const>(tau.data(), r),
                   hoft::as_view(F).block(0, 0, r, r), scratch.data());
    CHECK((F.bottomRows(3).array() == T(7)).all());
    // F = D − F A D: what each column has of those before it.
    wide_matrix<T> const D = widen(dense_matrix<T>(tau.col(0).asDiagonal()));
    wide_matrix<T> const product = widen(dense_matrix<T>(F.topRows(r))) * widen(A);
    wide_matrix<T> const sizes =
        (D.cwiseAbs() + widen(dense_matrix<T>(F.topRows(r))).cwiseAbs() * widen(A).cwiseAbs() * D.cwiseAbs()).eval();
    check_sums<T>(dense_matrix<T>(F.topRows(r)), D - product * D, sizes, r);
  }
}
