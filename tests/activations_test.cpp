// HOFT and SHOFT on activations: against reflectors one after another in long double, against the weight form and
// against central differences; over dense, quantised and other base operators.
#include "support.hpp"

#include <hoft/hoft.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

namespace {

using namespace hoft_test;
using hoft::adapter;
using hoft::cpu;
using hoft::inverse;
using hoft::matrix_view;
using hoft::neumann;

template <class T>
using vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

struct sizes {
  index_t m, n, t, ru, rv;
};
std::ostream& operator<<(std::ostream& out, sizes const& d) {
  return out << "m " << d.m << " n " << d.n << " t " << d.t << " ru " << d.ru << " rv " << d.rv;
}

/// In long double. s [m, 1], or empty for HOFT.
template <class W>
struct inputs {
  sizes d;
  dense_matrix<W> U, V, s, M, x, g;
};

/// Inputs of y = M̂ x and a gradient g = ∂L/∂y. M is scaled to keep y of the size of x; s, where there is one, lies
/// around 1, complex for complex scalars.
template <class T>
struct problem {
  using A = hoft::accumulator_t<T>;
  sizes d;
  inverse kind;
  dense_matrix<A> U, V;
  vector<A> s;
  dense_matrix<T> M, x, g;

  problem(sizes dims, bool scaled, inverse k = {}, unsigned seed = 1)
      : d(dims),
        kind(k),
        U(gaussian<A>(d.m, d.ru, seed)),
        V(gaussian<A>(d.n, d.rv, seed + 1)),
        M(gaussian<T>(d.m, d.n, seed + 2, 1 / std::sqrt(double(std::max<index_t>(d.n, 1))))),
        x(gaussian<T>(d.n, d.t, seed + 3)),
        g(gaussian<T>(d.m, d.t, seed + 4)) {
    if (scaled) s = (gaussian<A>(d.m, 1, seed + 5, 0.25).array() + A(1)).matrix();
  }
  inputs<wide_t<T>> widened() const { return {d, widen(U), widen(V), widen(s), widen(M), widen(x), widen(g)}; }
  adapter<A> make() const { return s.size() > 0 ? adapter<A>(U, V, s, kind) : adapter<A>(U, V, kind); }
};

template <class W>
deducible<W> scaled_rows(deducible<W> const& s, deducible<W> const& X) {
  deducible<W> Y = X;
  for (index_t i = 0; i < s.rows(); ++i) Y.row(i) *= s(i, 0);
  return Y;
}

/// Q X and its gradients: reflectors one after another, or the truncated series.
template <class W>
deducible<W> multiplied(deducible<W> const& U, inverse kind, deducible<W> const& X) {
  if (kind.truncated) return neumann_form(U, kind.terms).apply(X, side::left, op::plain);
  return reference_apply(U, X);
}
template <class W>
wide_gradients<W> multiplied_backward(deducible<W> const& U, inverse kind, deducible<W> const& X,
                                      deducible<W> const& G) {
  if (kind.truncated) return neumann_form(U, kind.terms).backward(X, G, side::left, op::plain);
  return reference_backward(U, X, G);
}

/// What forward and backward have to return, by the chain rule. dq = ∂L/∂(M x), dM = ∂L/∂M.
template <class W>
struct answers {
  deducible<W> y, dq, dM, dx, dU, dV, ds;
};

template <class W>
answers<W> answers_of(inputs<W> const& p, inverse kind) {
  answers<W> a;
  deducible<W> const rotated = multiplied(p.V, kind, p.x), q = times(p.M, rotated), scaled = scaled_rows(p.s, q);
  a.y = multiplied(p.U, kind, scaled);
  auto const left = multiplied_backward(p.U, kind, scaled, p.g);
  a.dU = left.U;
  a.ds.resize(p.s.rows(), 1);
  for (index_t i = 0; i < p.s.rows(); ++i) a.ds(i, 0) = q.row(i).dot(left.X.row(i));
  a.dq = scaled_rows(deducible<W>(p.s.conjugate()), left.X);
  a.dM = times(a.dq, adjoint_copy(rotated));
  auto const right = multiplied_backward(p.V, kind, p.x, times(adjoint_copy(p.M), a.dq));
  a.dx = right.X;
  a.dV = right.U;
  return a;
}
template <class T>
auto answers_of(problem<T> const& p) {
  return answers_of(p.widened(), p.kind);
}

/// ‖|M|‖₂ ≤ min(‖M‖_F, √(‖M‖₁ ‖M‖_∞)).
template <class W>
long double norm_bound(deducible<W> const& M) {
  if (M.size() == 0) return 0;
  bound_matrix const sizes = M.cwiseAbs();
  long double const columns = sizes.colwise().sum().maxCoeff(), rows = sizes.rowwise().sum().maxCoeff();
  return std::min<long double>(sizes.norm(), std::sqrt(columns * rows));
}

/// factor × the norm of each column of X, for each entry of a matrix with so many rows.
template <class W>
bound_matrix column_norms(deducible<W> const& X, index_t rows, long double factor) {
  bound_matrix bound(rows, X.cols());
  for (index_t j = 0; j < X.cols(); ++j) bound.col(j).setConstant(factor * X.col(j).norm());
  return bound;
}
/// size / ‖u‖ for each entry of a column. A zero column has exactly zero gradient.
template <class W>
bound_matrix inverse_norms(deducible<W> const& U, long double size) {
  bound_matrix bound(U.rows(), U.cols());
  for (index_t j = 0; j < U.cols(); ++j) bound.col(j).setConstant(U.col(j).isZero(0) ? 0 : size / U.col(j).norm());
  return bound;
}

/// Allowed errors. Both products of reflectors err by line_bound, the sums over m, n and t by 2 √k ε times the absolute
/// values (support.hpp), all relative to σ μ ‖x‖, where μ ≥ ‖|M|‖₂ and σ = max |s_i|. With 16-bit storage V̂ and M V̂ are
/// rounded, each of which moves each reflector's 2 û ûᴴx by at most 2 u, and so are M x and the result. With a
/// truncated inverse Q and its rounding errors grow.
struct allowed {
  long double arithmetic = 0, storage = 0, relative = 0, size = 0;  // relative is the sum of the first two
  bound_matrix y, dq, dx, dM, dU, dV, ds;
};
template <class W>
void fill(allowed& b, inputs<W> const& p, bool q_is_recovered) {
  long double const largest = p.s.size() > 0 ? p.s.cwiseAbs().maxCoeff() : 1, mu = norm_bound(p.M);
  long double const both = p.x.norm() * p.g.norm();
  b.size = largest * mu;
  b.y = column_norms(p.x, p.d.m, b.relative * b.size);
  b.dq = column_norms(p.g, p.d.m, b.relative * largest);
  b.dx = column_norms(p.g, p.d.n, b.relative * b.size);
  b.dM = bound_matrix::Constant(p.d.m, p.d.n, 2 * b.relative * largest * both);
  // Four terms (−g Zᴴ, y dwᴴ, U dGram and its adjoint; for V likewise), each a product of two such results and at
  // most twice their size; then the division by ‖u‖. Only one factor of each was rounded to storage.
  long double const gradient = (16 * b.arithmetic + 4 * b.storage) * b.size * both;
  b.dU = inverse_norms(p.U, gradient);
  b.dV = inverse_norms(p.V, gradient);
  // dp_i is off by at most ‖g‖ relative and q_i by μ ‖x‖ relative; q_i = p_i / s_i carries the error of p.
  b.ds = bound_matrix::Constant(p.s.rows(), 1, 2 * b.relative * mu * both);
  for (index_t i = 0; i < p.s.rows() && q_is_recovered; ++i) b.ds(i, 0) *= 1 + largest / std::abs(p.s(i, 0));
}
template <class T>
allowed allowed_for(problem<T> const& p_in_T, bool q_is_recovered = false) {
  auto const p = p_in_T.widened();
  auto const root = [](index_t k) { return std::sqrt(static_cast<long double>(k)); };
  allowed b;
  b.arithmetic = line_bound<T>(p.d.m, p.d.ru) + line_bound<T>(p.d.n, p.d.rv) +
                 2 * (root(p.d.m) + root(p.d.n) + root(p.d.t) + 5) * eps_of<T>();
  b.storage = static_cast<long double>(2 + 4 * p.d.rv) * storage_rounding<T>();
  if (inverse const kind = p_in_T.kind; kind.truncated) {
    long double const growth = neumann_form(p.U, kind.terms).growth * neumann_form(p.V, kind.terms).growth;
    b.arithmetic *= growth;
    b.storage *= growth;
  }
  b.relative = b.arithmetic + b.storage;
  fill(b, p, q_is_recovered);
  return b;
}

template <class W>
void check_values(answers<W> const& got, answers<W> const& expected, allowed const& bound) {
  CHECK(within(got.y, expected.y, bound.y));
  CHECK(within(got.dx, expected.dx, bound.dx));
  CHECK(within(got.dU, expected.dU, bound.dU));
  CHECK(within(got.dV, expected.dV, bound.dV));
  CHECK(within(got.ds, expected.ds, bound.ds));
  if (got.dq.size() > 0) CHECK(within(got.dq, expected.dq, bound.dq));
  if (got.dM.size() > 0) CHECK(within(got.dM, expected.dM, bound.dM));
}

/// Any base operator for one element type and layout, its calls and their columns counted. (One type for all of them:
/// the templates under test are then compiled once.)
template <class T, class L = col_major>
struct counted {
  using function = std::function<void(matrix_view<T const, L>, matrix_view<T, L>)>;
  function plain, adjoint;
  std::vector<index_t> applied = {}, applied_adjoint = {};
  template <hoft::base_operator<T, L> Base>
  explicit counted(Base& base)
      : plain([&base](auto X, auto Y) { base.apply(X, Y); }),
        adjoint([&base](auto X, auto Y) { base.apply_adjoint(X, Y); }) {}
  /// M itself.
  explicit counted(dense_matrix<T> const& M)
      : plain([&M](auto X, auto Y) { hoft::dense(M).apply(X, Y); }),
        adjoint([&M](auto X, auto Y) { hoft::dense(M).apply_adjoint(X, Y); }) {}
  void apply(matrix_view<T const, L> X, matrix_view<T, L> Y) {
    applied.push_back(X.cols);
    plain(X, Y);
  }
  void apply_adjoint(matrix_view<T const, L> X, matrix_view<T, L> Y) {
    applied_adjoint.push_back(X.cols);
    adjoint(X, Y);
  }
};

/// What forward saves, in memory of exactly the size that carve_saved asks for.
template <class T, class L>
struct saved_memory {
  using A = hoft::accumulator_t<T>;
  guarded_workspace memory;
  hoft::saved_activations<A, T, L> saved;
  saved_memory(adapter<A> const& a, index_t t, bool keep_q) : memory(size(a, t, keep_q)) {
    hoft::arena arena(memory);
    saved = hoft::carve_saved<T, L>(arena, a.view(), t, keep_q);
  }
  saved_memory(saved_memory const&) = delete;
  static index_t size(adapter<A> const& a, index_t t, bool keep_q) {
    hoft::arena count;
    hoft::carve_saved<T, L>(count, a.view(), t, keep_q);
    return count.size();
  }
  std::vector<std::byte> bytes() {
    hoft::workspace const all = memory;
    return {all.data, all.data + all.size};
  }
};

/// Forward and backward with views in padded storage: values, calls of the base operator, and what may be written.
template <class T, class L>
void check_views(problem<T> const& p, counted<T, L> base, bool keep_q, cpu policy = {}) {
  using A = hoft::accumulator_t<T>;
  auto const [m, n, t, ru, rv] = p.d;
  CAPTURE(p.d);
  CAPTURE(keep_q);
  CAPTURE(p.kind.terms);
  adapter<A> const a = p.make();
  answers<wide_t<T>> got;

  padded<T, L> x(n, t + rv), y(m, t + rv);
  x.map().leftCols(t) = p.x;
  saved_memory<T, L> kept(a, t, keep_q);
  guarded_workspace work(hoft::forward_workspace(policy, a.view(), x.view()));
  hoft::forward(policy, a.view(), base, x.view(), y.view(), kept.saved, work);
  got.y = widen(y.map().leftCols(t));
  bool const x_as_documented = same_bits(widen(x.map().leftCols(t)), widen(p.x)) &&
                               same_bits(widen(x.map().rightCols(rv)), widen(narrowed<T>(widen(a.right().vectors()))));
  CHECK(x_as_documented);
  CHECK((x.intact() && y.intact() && kept.memory.intact() && work.intact()));

  padded<T, L> dy(m, t + rv), dx(n, t + rv);
  dy.map().leftCols(t) = p.g;
  padded<A, row_major> dU(m, ru);
  padded<A> dV(n, rv);
  vector<A> ds(p.s.size());
  guarded_workspace more(hoft::backward_workspace(policy, a.view(), kept.saved));
  auto const x_before = widen(x.map()), y_before = widen(y.map());
  auto const kept_before = kept.bytes();
  matrix_view<T const, L> const x_view = x.view(), y_view = y.view();
  hoft::backward(policy, a.view(), base, x_view.columns(0, t), y_view.columns(0, t), kept.saved, dy.view(), dx.view(),
                 dU.view(), dV.view(), hoft::as_vector_view(ds), more);
  got.dx = widen(dx.map().leftCols(t));
  got.dU = widen(dU.map());
  got.dV = widen(dV.map());
  got.ds = widen(ds);
  // dy holds [∂L/∂(M x) | ∂L/∂(M V̂)]: with x and V̂ they make the gradient of all of M.
  auto const dy_after = widen(dy.map());
  got.dq = dy_after.leftCols(t);
  got.dM = times(dy_after, adjoint_copy(x_before));
  check_values(got, answers_of(p), allowed_for(p, p.s.size() > 0 && !keep_q));
  bool const one_call_each = base.applied == std::vector<index_t>{t + rv} && base.applied_adjoint == base.applied;
  CHECK(one_call_each);
  bool const inputs_kept =
      same_bits(widen(x.map()), x_before) && same_bits(widen(y.map()), y_before) && kept.bytes() == kept_before;
  CHECK(inputs_kept);
  CHECK((x.intact() && y.intact() && dy.intact() && dx.intact() && dU.intact() && dV.intact() && more.intact()));
}

template <class T, class L>
void check_views(sizes d, bool scaled, inverse kind = {}, bool keep_q = true) {
  problem<T> const p(d, scaled, kind);
  check_views<T, L>(p, counted<T, L>(p.M), keep_q);
}

/// Both layouts, HOFT, and SHOFT with q saved and recovered.
template <class T>
void check_forms(sizes d, inverse kind = {}) {
  check_views<T, col_major>(d, false, kind);
  check_views<T, col_major>(d, true, kind);
  check_views<T, row_major>(d, false, kind);
  check_views<T, row_major>(d, true, kind, false);
}

/// The value-returning calls.
template <class T>
auto computed(problem<T> const& p) {
  counted<T> base(p.M);
  auto const a = p.make();
  auto const f = hoft::forward(a, base, p.x);
  auto const g = hoft::backward(a, base, p.x, f, p.g);
  return answers<wide_t<T>>{widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), widen(g.ds)};
}
template <class W>
bool same_answers(answers<W> const& a, answers<W> const& b) {
  return same_bits(a.y, b.y) && same_bits(a.dx, b.dx) && same_bits(a.dU, b.dU) && same_bits(a.dV, b.dV) &&
         same_bits(a.ds, b.ds);
}

}  // namespace

TEST_SUITE_BEGIN("activations");

TEST_CASE_TEMPLATE("forward and backward are those of the reflectors, for every scalar and layout", T,
                   HOFT_ALL_SCALARS) {
  for (sizes d : {sizes{7, 5, 3, 2, 3}, {5, 8, 13, 1, 2}, {1, 1, 1, 1, 1}, {2, 1, 2, 2, 1}}) check_forms<T>(d);
  for (sizes d : {sizes{8, 6, 1, 3, 0}, {6, 9, 12, 0, 2}, {5, 4, 7, 0, 0}}) check_forms<T>(d);  // one-sided
  for (index_t terms : {1, 2, 3}) check_forms<T>({9, 8, 5, 3, 2}, neumann{terms});
  check_forms<T>({7, 9, 4, 0, 2}, neumann{2});
  check_forms<T>({6, 5, 13, 2, 0}, neumann{2});
}

TEST_CASE_TEMPLATE("several blocks of reflectors, and more reflectors than rows", T, float, std::complex<double>) {
  check_forms<T>({80, 75, 9, 66, 3});     // two blocks on U
  check_forms<T>({75, 80, 9, 3, 67});     // one triangle on V
  check_forms<T>({70, 66, 12, 131, 65});  // three blocks
  check_forms<T>({3, 2, 4, 5, 7});
}

TEST_CASE_TEMPLATE("numbers of tokens around the widths of panels and chunks", T, double, Eigen::half) {
  for (index_t t : {11, 12, 13, 63, 64, 65, 95, 96, 97, 127, 128, 129, 255, 256, 257, 287, 288, 289, 300})
    for (bool scaled : {false, true}) {
      check_views<T, col_major>({6, 5, t, 2, 3}, scaled, {}, t % 2 == 0);
      check_views<T, row_major>({6, 5, t, 2, 3}, scaled, {}, t % 2 == 1);
    }
  // So tall and so wide that panels are as narrow as they get.
  check_forms<T>({4100, 3, 26, 2, 1});
  check_forms<T>({3, 4100, 26, 1, 2});
}

TEST_CASE_TEMPLATE("empty shapes", T, float, std::complex<double>, Eigen::half) {
  for (sizes d : {sizes{0, 5, 3, 0, 2},
                  {0, 5, 3, 1, 1},
                  {4, 0, 3, 2, 0},
                  {4, 0, 3, 2, 1},
                  {4, 5, 0, 2, 2},
                  {0, 0, 0, 0, 0},
                  {0, 0, 3, 0, 0},
                  {4, 5, 0, 0, 0},
                  {0, 5, 0, 1, 2}})
    check_forms<T>(d);
}

TEST_CASE("the value-returning calls: any storage, and the same bits for any number of threads") {
  using T = float;
  for (bool scaled : {false, true}) {
    problem<T> const p({33, 29, 300, 70, 5}, scaled);
    auto const expected = computed(p);
    check_values(expected, answers_of(p), allowed_for(p));
    CHECK(expected.ds.size() == p.s.size());

    adapter<T> const a = p.make();
    padded<T> const x(p.x), dy(p.g);
    for (int threads : {1, 2, 3, 7}) {
      cpu const policy{.threads = threads};
      auto const f = hoft::forward(policy, a, hoft::dense(policy, p.M), x.map());
      auto const g = hoft::backward(policy, a, hoft::dense(policy, p.M), x.map(), f, dy.map());
      CHECK(same_answers({widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), widen(g.ds)}, expected));
    }
    auto const base = hoft::dense(p.M);
    Eigen::Ref<dense_matrix<T> const> const x_ref = p.x;
    CHECK(
        same_bits(widen(hoft::forward(a, base, x_ref.leftCols(7)).y), deducible<long double>(expected.y.leftCols(7))));
    check_views<T, row_major>(p, counted<T, row_major>(p.M), false, cpu{.threads = 3});
  }
}

// --- against itself ---------------------------------------------------------------------------------------------

TEST_CASE_TEMPLATE("the gradients are the slopes of forward itself", T, double, std::complex<double>) {
  for (inverse kind : {inverse(hoft::exact{}), inverse(neumann{2})}) {
    problem<T> const p({6, 5, 4, 3, 2}, true, kind, 30);
    counted<T> base(p.M);
    adapter<T> const a = p.make();
    auto const gradient = hoft::backward(a, base, p.x, hoft::forward(a, base, p.x), p.g);
    auto const loss_of = [&](adapter<T> const& moved, dense_matrix<T> const& x) {
      return loss<T>(p.g, hoft::forward(moved, base, x).y);
    };
    auto const in_x = [&](dense_matrix<T> const& x) { return loss_of(a, x); };
    auto const in_U = [&](dense_matrix<T> const& U) { return loss_of(adapter<T>(U, p.V, p.s, kind), p.x); };
    auto const in_V = [&](dense_matrix<T> const& V) { return loss_of(adapter<T>(p.U, V, p.s, kind), p.x); };
    auto const in_s = [&](dense_matrix<T> const& s) { return loss_of(adapter<T>(p.U, p.V, s.col(0), kind), p.x); };
    // Central differences are off by h² |f‴| / 6 + δ / h, h = ε^{1/3} max(1, |x|) and δ the error of forward. The loss
    // is a polynomial of û of degree 2 r (the product), 2 (terms + 1) for the series, and a step moves û by h / ‖u‖ at
    // most twice: |f‴| ≤ (4 r)³ of its size, ‖u‖ being above 1 here and |x| below 3.
    long double const h = 3 * std::cbrt(std::numeric_limits<double>::epsilon());
    allowed const bound = allowed_for(p);
    long double const size = bound.size * widen(p.x).norm() * widen(p.g).norm();
    long double const growth =
        kind.truncated ? neumann_form(p.U, kind.terms).growth * neumann_form(p.V, kind.terms).growth : 1;
    long double const off = h * h * std::pow(12.0L, 3) / 6 * growth * size + 3 * bound.relative * size / h;
    CHECK(hoft::check_gradient(in_x, p.x, gradient.dx).difference <= off);
    CHECK(hoft::check_gradient(in_U, p.U, gradient.dU).difference <= off);
    CHECK(hoft::check_gradient(in_V, p.V, gradient.dV).difference <= off);
    CHECK(hoft::check_gradient(in_s, dense_matrix<T>(p.s), dense_matrix<T>(gradient.ds)).difference <= off);
  }
}

TEST_CASE_TEMPLATE("the activation form and the weight form agree", T, double, std::complex<double>) {
  for (sizes d : {sizes{12, 10, 17, 3, 4}, {80, 70, 65, 68, 5}, {9, 11, 300, 2, 0}})
    for (bool scaled : {false, true})
      for (inverse kind : {inverse(hoft::exact{}), inverse(neumann{2})}) {
        if (kind.truncated && d.ru > 10) continue;  // the series explodes, and the comparison would say nothing
        CAPTURE(d);
        CAPTURE(scaled);
        problem<T> const p(d, scaled, kind, 40);
        dense_matrix<T> Mhat = p.M;
        hoft::merge(p.make(), Mhat);
        dense_matrix<T> const dMhat = times(p.g, adjoint_copy(p.x));
        auto const w = hoft::merge_backward(p.make(), p.M, dMhat);
        auto const merged = widen(Mhat);
        // Both are within the bound of the activation form, the weight form having sums over n in place of t, ‖I‖_F =
        // √n in place of ‖x‖_F, and ‖g xᴴ‖_F ≤ ‖g‖_F ‖x‖_F.
        allowed bound = allowed_for(p);
        long double const factor = 2 * std::sqrt(static_cast<long double>(d.n));
        for (bound_matrix* b : {&bound.y, &bound.dx, &bound.dU, &bound.dV, &bound.ds}) *b *= factor;
        check_values(computed(p),
                     {times(merged, widen(p.x)),
                      {},
                      {},
                      times(adjoint_copy(merged), widen(p.g)),
                      widen(w.dU),
                      widen(w.dV),
                      widen(w.ds)},
                     bound);
      }
}

// --- base operators ---------------------------------------------------------------------------------------------

namespace {

/// A weight of 8-bit integers with one scale for each row: M = diag(scale) codes.
struct quantised {
  Eigen::Matrix<std::int8_t, Eigen::Dynamic, Eigen::Dynamic> codes;
  vector<float> scale;

  quantised(index_t m, index_t n, unsigned seed) : codes(m, n), scale(m) {
    std::mt19937_64 engine(seed);
    std::uniform_int_distribution<int> code(-127, 127);
    for (index_t i = 0; i < m; ++i) {
      scale(i) = std::ldexp(1.0f, -7 - int(i % 3));
      for (index_t j = 0; j < n; ++j) codes(i, j) = static_cast<std::int8_t>(code(engine));
    }
  }
  float at(index_t i, index_t j) const { return scale(i) * static_cast<float>(codes(i, j)); }
  dense_matrix<float> weight() const {
    dense_matrix<float> M(codes.rows(), codes.cols());
    for (index_t j = 0; j < M.cols(); ++j)
      for (index_t i = 0; i < M.rows(); ++i) M(i, j) = at(i, j);
    return M;
  }
  template <class L>
  void apply(matrix_view<float const, L> X, matrix_view<float, L> Y) const {
    for (index_t k = 0; k < X.cols; ++k)
      for (index_t i = 0; i < codes.rows(); ++i) {
        float sum = 0;
        for (index_t j = 0; j < codes.cols(); ++j) sum += static_cast<float>(codes(i, j)) * X(j, k);
        Y(i, k) = scale(i) * sum;
      }
  }
  template <class L>
  void apply_adjoint(matrix_view<float const, L> X, matrix_view<float, L> Y) const {
    for (index_t k = 0; k < X.cols; ++k)
      for (index_t j = 0; j < codes.cols(); ++j) {
        float sum = 0;
        for (index_t i = 0; i < codes.rows(); ++i) sum += at(i, j) * X(i, k);
        Y(j, k) = sum;
      }
  }
};

/// Two shards of rows behind one plain, stateful, row-major interface: no templates, nothing but the two calls.
class sharded {
 public:
  explicit sharded(dense_matrix<double> const& M)
      : upper_(M.topRows(M.rows() / 2)), lower_(M.bottomRows(M.rows() - M.rows() / 2)) {}
  sharded(sharded const&) = delete;

  void apply(matrix_view<double const, row_major> X, matrix_view<double, row_major> Y) {
    hoft::dense(upper_).apply(X, Y.block(0, 0, upper_.rows(), X.cols));
    hoft::dense(lower_).apply(X, Y.block(upper_.rows(), 0, lower_.rows(), X.cols));
    ++calls;
  }
  void apply_adjoint(matrix_view<double const, row_major> X, matrix_view<double, row_major> Y) {
    dense_matrix<double, row_major> part(Y.rows, Y.cols);
    hoft::dense(upper_).apply_adjoint(X.block(0, 0, upper_.rows(), X.cols), Y);
    hoft::dense(lower_).apply_adjoint(X.block(upper_.rows(), 0, lower_.rows(), X.cols), hoft::as_view(part));
    hoft::as_eigen(Y) += part;
    ++calls;
  }
  int calls = 0;

 private:
  dense_matrix<double> upper_, lower_;
};

struct half_an_operator {
  void apply(matrix_view<double const>, matrix_view<double>);
};

static_assert(hoft::base_operator<quantised const, float, row_major>);
static_assert(hoft::base_operator<sharded, double, row_major>);
static_assert(!hoft::base_operator<sharded, double, col_major>);
static_assert(!hoft::base_operator<sharded const, double, row_major>);
static_assert(!hoft::base_operator<half_an_operator, double, col_major>);
static_assert(hoft::base_operator<hoft::dense_operator<double, col_major> const, double, row_major>);

}  // namespace

TEST_CASE("any type with apply and apply_adjoint is a base operator") {
  for (bool scaled : {false, true})
    for (bool keep_q : {false, true}) {
      quantised const base(19, 13, 50);
      problem<float> p({19, 13, 21, 4, 3}, scaled);
      p.M = base.weight();
      check_views(p, counted<float, col_major>(base), keep_q);
      check_views(p, counted<float, row_major>(base), keep_q);

      problem<double> const q({11, 6, 14, 2, 5}, scaled);
      sharded state(q.M);
      check_views(q, counted<double, row_major>(state), keep_q);
      CHECK(state.calls == 2);
    }
  // The value-returning calls take it directly.
  problem<double> const p({11, 6, 14, 2, 5}, true);
  sharded state(p.M);
  dense_matrix<double, row_major> const x = p.x, dy = p.g;
  auto const f = hoft::forward(p.make(), state, x);
  auto const g = hoft::backward(p.make(), state, x, f, dy);
  CHECK(state.calls == 2);
  check_values({widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), widen(g.ds)}, answers_of(p), allowed_for(p));
}

namespace {

/// A B, the entries allowed to be off by 4 √k (ε / 2) |A| |B|, with a factor 2 for complex products, and by rounding to
/// 16-bit storage.
template <class W>
void check_product(deducible<W> const& A, deducible<W> const& B, deducible<W> const& got, long double eps,
                   long double storage, long double floor) {
  auto const expected = times(A, B);
  bound_matrix bound = times(bound_matrix(A.cwiseAbs()), bound_matrix(B.cwiseAbs()));
  bound *= 4 * std::sqrt(static_cast<long double>(A.cols())) * eps;
  for (index_t j = 0; j < bound.cols(); ++j)
    for (index_t i = 0; i < bound.rows(); ++i)
      bound(i, j) += storage * (std::abs(expected(i, j)) + bound(i, j)) + floor;
  CHECK(within(got, expected, bound));
}

template <class T, class LM, class L>
void check_dense(index_t m, index_t n, index_t t, cpu policy = {}) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(t);
  padded<T, LM> const M(gaussian<T, LM>(m, n, 60));
  padded<T, L> const X(gaussian<T, L>(n, t, 61)), G(gaussian<T, L>(m, t, 62));
  auto const base = hoft::dense(policy, M.map());
  CHECK((base.rows() == m && base.cols() == n));
  padded<T, L> Y(m, t), D(n, t);
  base.apply(X.view(), Y.view());
  base.apply_adjoint(G.view(), D.view());
  auto const weight = widen(M.map());
  long double const eps = eps_of<T>(), storage = storage_rounding<T>(), floor = storage_floor<T>();
  check_product(weight, widen(X.map()), widen(Y.map()), eps, storage, floor);
  check_product(adjoint_copy(weight), widen(G.map()), widen(D.map()), eps, storage, floor);
  CHECK((Y.intact() && D.intact()));
}

template <class T>
void check_dense_layouts(index_t m, index_t n, index_t t) {
  check_dense<T, col_major, col_major>(m, n, t);
  check_dense<T, col_major, row_major>(m, n, t);
  check_dense<T, row_major, col_major>(m, n, t);
  check_dense<T, row_major, row_major>(m, n, t, cpu{.threads = 2});
}

}  // namespace

TEST_CASE_TEMPLATE("dense: every pair of layouts", T, std::complex<double>, Eigen::half) {
  for (auto [m, n, t] : {std::tuple<index_t, index_t, index_t>{7, 5, 3},
                         {1, 1, 1},
                         {13, 1, 2},
                         {0, 3, 2},
                         {3, 0, 2},
                         {3, 2, 0},
                         {17, 33, 6}})
    check_dense_layouts<T>(m, n, t);
  if (is_stored_in_16_bits<T>)  // converted by 256 outputs and 256 tokens
    for (index_t edge : {255, 256, 257, 513}) {
      check_dense_layouts<T>(edge, 3, 5);
      check_dense_layouts<T>(3, edge, 5);
      check_dense_layouts<T>(4, 5, edge);
    }
}

TEST_CASE("dense refuses wrong shapes before it writes") {
  dense_matrix<double> const M = gaussian<double>(4, 3, 63), X = gaussian<double>(3, 2, 64);
  auto const base = hoft::dense(M);
  dense_matrix<double> Y = gaussian<double>(4, 2, 65);
  auto const before = Y;
  auto const view = [](auto& A) { return hoft::as_view(A); };
  CHECK_THROWS_WITH_AS(base.apply(view(Y), view(Y)), "hoft::dense_operator::apply: X.rows is 4, must be == 3",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(base.apply(view(X), view(Y).columns(0, 1)),
                       "hoft::dense_operator::apply: Y.cols is 1, must be == 2", hoft::shape_error);
  CHECK_THROWS_WITH_AS(base.apply_adjoint(view(X), view(Y)),
                       "hoft::dense_operator::apply_adjoint: X.rows is 3, must be == 4", hoft::shape_error);
  CHECK_THROWS_WITH_AS(base.apply_adjoint(view(before), view(Y)),
                       "hoft::dense_operator::apply_adjoint: Y.rows is 4, must be == 3", hoft::shape_error);
  CHECK(same_bits(Y, before));
}

// --- properties and edges ---------------------------------------------------------------------------------------

namespace {

/// du := (d − û ûᴴd) / ‖u‖ leaves 2 √m ε |û|ᴴ|d| along û; d is at most 8 times as long as du for the random data here.
template <class W>
void check_orthogonal(deducible<W> const& U, deducible<W> const& dU, long double eps) {
  for (index_t j = 0; j < U.cols(); ++j)
    CHECK(std::abs(U.col(j).dot(dU.col(j))) <=
          8 * 2 * std::sqrt(static_cast<long double>(U.rows())) * eps * U.col(j).norm() * dU.col(j).norm());
}

}  // namespace

TEST_CASE_TEMPLATE("gradients are orthogonal to their reflectors, and zero columns have none", T, double,
                   std::complex<double>, Eigen::half) {
  for (inverse kind : {inverse(hoft::exact{}), inverse(neumann{2})}) {
    problem<T> p({10, 9, 14, 5, 4}, true, kind, 70);
    p.U.col(0).setZero();
    p.U.col(3).setZero();
    p.V.col(2).setZero();
    auto const got = computed(p);
    check_values(got, answers_of(p), allowed_for(p));
    CHECK((got.dU.col(0).isZero(0) && got.dU.col(3).isZero(0) && got.dV.col(2).isZero(0)));
    check_orthogonal(widen(p.U), got.dU, eps_of<T>());
    check_orthogonal(widen(p.V), got.dV, eps_of<T>());
  }
}

TEST_CASE("scaling a reflector changes y by rounding only, and its gradient inversely") {
  using T = double;
  problem<T> p({9, 8, 6, 3, 2}, true, {}, 80), q = p;
  T const up = 1e200;
  q.U.col(0) *= up;
  q.U.col(1) /= up;
  q.V.col(1) *= -up;
  auto const first = computed(p);
  auto second = computed(q);
  second.dU.col(0) *= up;
  second.dU.col(1) /= up;
  second.dV.col(1) *= -up;
  allowed bound = allowed_for(p);
  for (bound_matrix* b : {&bound.y, &bound.dx, &bound.dU, &bound.dV, &bound.ds}) *b *= 2;
  check_values(second, first, bound);
}

TEST_CASE_TEMPLATE("equal pairs of reflectors leave M x and its gradient", T, double, std::complex<double>,
                   Eigen::half) {
  using A = hoft::accumulator_t<T>;
  problem<T> p({12, 11, 9, 4, 5}, true, {}, 90);
  p.U = hoft::paired_gaussian<A>(12, 4, 93);
  p.V = hoft::paired_gaussian<A>(11, 5, 92);  // odd: the last column is zero
  p.s.setOnes();
  auto const got = computed(p);
  auto const M = widen(p.M);
  allowed const bound = allowed_for(p);
  CHECK(within(got.y, times(M, widen(p.x)), bound.y));
  CHECK(within(got.dx, times(adjoint_copy(M), widen(p.g)), bound.dx));
  CHECK(got.dV.col(4).isZero(0));
  // H(u) H(u) does not move when both move alike: the gradients of a pair cancel. Each alone is not zero, or training
  // could not start.
  deducible<wide_t<T>> const sum = got.dU.col(0) + got.dU.col(1);
  CHECK(within(sum, deducible<wide_t<T>>::Zero(12, 1), bound_matrix(2 * bound.dU.col(0))));
  CHECK(got.dU.col(0).norm() > bound.dU(0, 0));
}

TEST_CASE("SHOFT with zeros in s: the saved q gives the gradient, the recovered one is not finite") {
  problem<double> p({7, 6, 5, 2, 3}, true, {}, 100);
  p.s(2) = 0;
  check_views(p, counted<double, col_major>(p.M), true);
  counted<double> base(p.M);
  adapter<double> const a = p.make();
  auto f = hoft::forward(a, base, p.x);
  f.saved.q.resize(0, 0);
  auto const g = hoft::backward(a, base, p.x, f, p.g);
  CHECK_FALSE(std::isfinite(g.ds(2)));
  auto const expected = answers_of(p);
  check_values({widen(f.y), {}, {}, widen(g.dx), widen(g.dU), widen(g.dV), expected.ds}, expected, allowed_for(p));
}

namespace {

template <class W>
bool none_finite(deducible<W> const& A) {
  for (index_t j = 0; j < A.cols(); ++j)
    for (index_t i = 0; i < A.rows(); ++i)
      if (std::isfinite(std::real(A(i, j))) && std::isfinite(std::imag(A(i, j)))) return false;
  return true;
}
/// Column j of got is not finite, and the others are as they were.
template <class W>
void check_one_spoilt(deducible<W> const& got, deducible<W> const& good, index_t j) {
  index_t const after = got.cols() - j - 1;
  CHECK(none_finite<W>(got.col(j)));
  CHECK(same_bits(deducible<W>(got.leftCols(j)), deducible<W>(good.leftCols(j))));
  CHECK(same_bits(deducible<W>(got.rightCols(after)), deducible<W>(good.rightCols(after))));
}

}  // namespace

TEST_CASE_TEMPLATE("NaN and infinity come out as such, and stay with their token", T, double, Eigen::half) {
  using A = hoft::accumulator_t<T>;
  problem<T> const good({8, 7, 15, 3, 2}, true, {}, 110);
  auto const expected = computed(good);
  for (double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    problem<T> p = good;
    p.x(3, 6) = scalar_of<T>(bad);
    auto got = computed(p);
    check_one_spoilt(got.y, expected.y, 6);
    CHECK((none_finite(got.dU) && none_finite(got.dV) && none_finite(got.ds)));

    p = good;
    p.g(2, 4) = scalar_of<T>(bad);
    got = computed(p);
    CHECK(same_bits(got.y, expected.y));
    check_one_spoilt(got.dx, expected.dx, 4);
    CHECK((none_finite(got.dU) && none_finite(got.dV)));

    p = good;
    p.U(1, 1) = scalar_of<A>(bad);
    CHECK(all_nan(computed(p).y));
    p = good;
    p.V(1, 1) = scalar_of<A>(bad);
    CHECK(all_nan(computed(p).y));
    p = good;
    p.s(5) = scalar_of<A>(bad);
    CHECK(none_finite(computed(p).y));
  }
}

TEST_CASE("16-bit tokens near the limits of half keep their own relative accuracy") {
  using T = Eigen::half;
  problem<T> p({8, 7, 3, 2, 2}, false, {}, 120);
  p.M = gaussian<T>(8, 7, 122, 0.1);
  for (index_t i = 0; i < 7; ++i) {
    p.x(i, 0) = T(i % 2 == 0 ? 3e4f : -2e4f);
    p.x(i, 1) = T(static_cast<float>(1 + i) * 5.96e-8f);  // subnormal
  }
  allowed bound = allowed_for(p);
  // Base and result are each rounded to multiples of the subnormal spacing, and Q mixes the rows.
  bound.y.array() += (std::sqrt(8.0L) + 1) * storage_floor<T>();
  CHECK(within(computed(p).y, answers_of(p).y, bound.y));
}

// --- refusals ---------------------------------------------------------------------------------------------------

namespace {

/// All arguments of the forms with views, right; a test spoils one.
struct arguments {
  problem<double> p{{6, 5, 4, 3, 2}, true, {}, 130};
  adapter<double> a = p.make();
  hoft::compact_wy<double> split = hoft::accumulate(p.V, inverse{}, 1);  // two triangles
  counted<double> base = counted<double>(p.M);
  dense_matrix<double> x = gaussian<double>(5, 6, 131), y = gaussian<double>(6, 6, 132),
                       dy = gaussian<double>(6, 6, 133), dx = gaussian<double>(5, 6, 134),
                       dU = gaussian<double>(6, 3, 135), dV = gaussian<double>(5, 2, 136),
                       B = gaussian<double>(6, 2, 137), v = gaussian<double>(2, 4, 138),
                       w = gaussian<double>(3, 4, 139), q = gaussian<double>(6, 4, 140);
  vector<double> ds = gaussian<double>(6, 1, 141);
  hoft::adapter_view<double const> view = a.view();
  matrix_view<double> x_ = hoft::as_view(x), y_ = hoft::as_view(y), dy_ = hoft::as_view(dy), dx_ = hoft::as_view(dx),
                      dU_ = hoft::as_view(dU), dV_ = hoft::as_view(dV);
  hoft::vector_view<double> ds_ = hoft::as_vector_view(ds);
  hoft::saved_activations<double, double, col_major> saved{hoft::as_view(B), hoft::as_view(v), hoft::as_view(w),
                                                           hoft::as_view(q)};
  std::vector<std::byte> memory = std::vector<std::byte>(
      std::size_t(std::max(hoft::forward_workspace(cpu{}, view, x_), hoft::backward_workspace(cpu{}, view, saved))));
  hoft::workspace work{memory.data(), index_t(memory.size())};

  auto everything() const { return std::tie(x, y, dy, dx, dU, dV, B, v, w, q, ds); }

  template <class Error, class Spoil, class Call>
  void check(char const* message, Spoil spoil, Call call) {
    arguments spoilt;
    spoil(spoilt);
    arguments const before;
    CHECK_THROWS_WITH_AS(call(spoilt), message, Error);
    CHECK(spoilt.everything() == before.everything());
    CHECK((spoilt.base.applied.empty() && spoilt.base.applied_adjoint.empty()));
  }
  template <class Error = hoft::shape_error, class Spoil>
  void forward_refuses(char const* message, Spoil spoil) {
    check<Error>(message, spoil,
                 [](arguments& s) { hoft::forward(cpu{}, s.view, s.base, s.x_, s.y_, s.saved, s.work); });
  }
  template <class Error = hoft::shape_error, class Spoil>
  void backward_refuses(char const* message, Spoil spoil) {
    check<Error>(message, spoil, [](arguments& s) {
      hoft::backward(cpu{}, s.view, s.base, s.x_.columns(0, 4), s.y_.columns(0, 4), s.saved, s.dy_, s.dx_, s.dU_, s.dV_,
                     s.ds_, s.work);
    });
  }
};

}  // namespace

TEST_CASE("forward refuses what does not fit, before it writes or calls the base operator") {
  arguments test;
  using args = arguments;
  test.forward_refuses("hoft::forward: x.cols is 1, must be == 6", [](args& s) { s.x_.cols = 1; });
  test.forward_refuses("hoft::forward: x.rows is 4, must be == 5", [](args& s) { s.x_.rows = 4; });
  test.forward_refuses("hoft::forward: x.ld is 4, must be >= 5", [](args& s) { s.x_.ld = 4; });
  test.forward_refuses("hoft::forward: y.rows is 5, must be == 6", [](args& s) { s.y_.rows = 5; });
  test.forward_refuses("hoft::forward: y.cols is 4, must be == 6", [](args& s) { s.y_.cols = 4; });
  test.forward_refuses("hoft::forward: saved.B.cols is 1, must be == 2", [](args& s) { s.saved.B.cols = 1; });
  test.forward_refuses("hoft::forward: x.cols is 6, must be == 8", [](args& s) { s.saved.v.cols = 6; });
  test.forward_refuses("hoft::forward: saved.w.rows is 2, must be == 3", [](args& s) { s.saved.w.rows = 2; });
  test.forward_refuses("hoft::forward: saved.q.cols is 3, must be == 4", [](args& s) { s.saved.q.cols = 3; });
  test.forward_refuses("hoft::forward: a.scale.size is 5, must be == 6", [](args& s) { s.view.scale.size = 5; });
  test.forward_refuses("hoft::forward: a.right.block is 1, must be >= 2",
                       [](args& s) { s.view.right = s.split.view(); });
  arguments sizes;
  index_t const needed = hoft::forward_workspace(cpu{}, sizes.view, sizes.x_);
  std::string const message =
      "hoft::forward: work.size is " + std::to_string(needed - 1) + ", must be >= " + std::to_string(needed);
  test.forward_refuses<hoft::workspace_error>(message.c_str(), [&](args& s) { s.work.size = needed - 1; });

  problem<double> const& p = sizes.p;
  // A base operator that knows its extents is asked for them.
  dense_matrix<double> const wider = gaussian<double>(6, 7, 144), taller = gaussian<double>(8, 5, 145);
  CHECK_THROWS_WITH_AS(hoft::forward(sizes.a, hoft::dense(wider), p.x), "hoft::forward: base.cols is 7, must be == 5",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::forward(sizes.a, hoft::dense(taller), p.x), "hoft::forward: base.rows is 8, must be == 6",
                       hoft::shape_error);
  auto const f = hoft::forward(sizes.a, sizes.base, p.x);
  CHECK_THROWS_WITH_AS(hoft::backward(sizes.a, hoft::dense(taller), p.x, f, p.g),
                       "hoft::backward: base.rows is 8, must be == 6", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::forward(sizes.a, sizes.base, p.g), "hoft::forward: x.rows is 6, must be == 5",
                       hoft::shape_error);
}

TEST_CASE("backward refuses what does not fit, before it writes or calls the base operator") {
  arguments test;
  using args = arguments;
  test.backward_refuses("hoft::backward: x.rows is 4, must be == 5", [](args& s) { s.x_.rows = 4; });
  test.backward_refuses("hoft::backward: y.rows is 5, must be == 6", [](args& s) { s.y_.rows = 5; });
  test.backward_refuses("hoft::backward: dy.cols is 4, must be == 6", [](args& s) { s.dy_.cols = 4; });
  test.backward_refuses("hoft::backward: dy.rows is 5, must be == 6", [](args& s) { s.dy_.rows = 5; });
  test.backward_refuses("hoft::backward: dx.cols is 4, must be == 6", [](args& s) { s.dx_.cols = 4; });
  test.backward_refuses("hoft::backward: dx.ld is 3, must be >= 5", [](args& s) { s.dx_.ld = 3; });
  test.backward_refuses("hoft::backward: saved.B.rows is 5, must be == 6", [](args& s) { s.saved.B.rows = 5; });
  test.backward_refuses("hoft::backward: saved.v.rows is 1, must be == 2", [](args& s) { s.saved.v.rows = 1; });
  test.backward_refuses("hoft::backward: saved.w.cols is 3, must be == 4", [](args& s) { s.saved.w.cols = 3; });
  test.backward_refuses("hoft::backward: saved.q.rows is 5, must be == 6", [](args& s) { s.saved.q.rows = 5; });
  test.backward_refuses("hoft::backward: dU.cols is 2, must be == 3", [](args& s) { s.dU_.cols = 2; });
  test.backward_refuses("hoft::backward: dV.rows is 6, must be == 5", [](args& s) { s.dV_.rows = 6; });
  test.backward_refuses("hoft::backward: ds.size is 0, must be == 6", [](args& s) { s.ds_.size = 0; });
  test.backward_refuses("hoft::backward: saved.q.rows is 6, must be == 0", [](args& s) { s.view.scale.size = 0; });
  test.backward_refuses("hoft::backward: ds.size is 6, must be == 0",
                        [](args& s) { s.view.scale.size = 0, s.saved.q = {}; });
  test.backward_refuses("hoft::backward: a.right.block is 1, must be >= 2",
                        [](args& s) { s.view.right = s.split.view(); });
  arguments sizes;
  index_t const needed = hoft::backward_workspace(cpu{}, sizes.view, sizes.saved);
  std::string const message =
      "hoft::backward: work.size is " + std::to_string(needed - 1) + ", must be >= " + std::to_string(needed);
  test.backward_refuses<hoft::workspace_error>(message.c_str(), [&](args& s) { s.work.size = needed - 1; });

  auto const& p = sizes.p;
  auto const f = hoft::forward(sizes.a, sizes.base, p.x);
  CHECK_THROWS_WITH_AS(hoft::backward(sizes.a, sizes.base, p.g, f, p.g), "hoft::backward: x.rows is 6, must be == 5",
                       hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::backward(sizes.a, sizes.base, p.x, f, p.x), "hoft::backward: dy.rows is 5, must be == 6",
                       hoft::shape_error);
  dense_matrix<double> const short_dy = p.g.leftCols(3), long_x = gaussian<double>(5, 7, 142),
                             long_dy = gaussian<double>(6, 7, 143);
  CHECK_THROWS_WITH_AS(hoft::backward(sizes.a, sizes.base, p.x, f, short_dy),
                       "hoft::backward: dy.cols is 3, must be == 4", hoft::shape_error);
  CHECK_THROWS_WITH_AS(hoft::backward(sizes.a, sizes.base, long_x, f, long_dy),
                       "hoft::backward: y.cols is 4, must be == 7", hoft::shape_error);
}

TEST_SUITE_END();
