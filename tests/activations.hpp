// SPDX-License-Identifier: BSD-3-Clause
// What the tests of HOFT and SHOFT on activations share: a problem, its answers in long double by reflectors one after
// another, the errors that are allowed, a base operator that counts, and the calls with views, watched.
#pragma once
#include "support.hpp"

#include <hoft/hoft.hpp>

#include <cstddef>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

namespace hoft_test {

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

/// Any base operator for one element type and layout, its calls written down. (One type for all of them: the templates
/// under test are then compiled once.)
template <class T, class L = col_major>
struct counted {
  using function = std::function<void(matrix_view<T const, L>, matrix_view<T, L>)>;
  function plain, adjoint;
  std::vector<index_t> applied = {}, applied_adjoint = {};  ///< columns of each call
  std::vector<wide_matrix<T>> inputs = {}, gradients = {};  ///< what it was called on
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
    inputs.push_back(widen(hoft::as_eigen(X)));
    plain(X, Y);
  }
  void apply_adjoint(matrix_view<T const, L> X, matrix_view<T, L> Y) {
    applied_adjoint.push_back(X.cols);
    gradients.push_back(widen(hoft::as_eigen(X)));
    adjoint(X, Y);
  }
  void forget() { applied.clear(), applied_adjoint.clear(), inputs.clear(), gradients.clear(); }
};

/// What `carve` cuts from an arena, in guarded memory of exactly the size that it asks for, full of NaN.
template <class Carve>
struct carved {
  guarded_workspace memory;
  std::invoke_result_t<Carve, hoft::arena&> views;
  explicit carved(Carve const& carve) : memory(size_of(carve)) {
    hoft::arena from(memory);
    views = carve(from);
  }
  carved(carved const&) = delete;
  std::vector<std::byte> bytes() {
    hoft::workspace const all = memory;
    return {all.data, all.data + all.size};
  }

 private:
  static index_t size_of(Carve const& carve) {
    hoft::arena count;
    carve(count);
    return count.size();
  }
};

/// A bound layer, with the calls of views on it, each in a workspace of exactly the size that it asks for.
template <class T, class L, class Base = counted<T, L>>
struct watched_layer {
  using A = hoft::accumulator_t<T>;
  using in = matrix_view<T const, L>;
  using out = matrix_view<T, L>;
  using state_type = hoft::layer_state<A, T, L>;

  adapter<A> a;
  Base& base;
  cpu policy;
  carved<std::function<hoft::bound_layer_view<A>(hoft::arena&)>> layer;
  carved<std::function<hoft::layer_gradient_view<A>(hoft::arena&)>> g;

  watched_layer(adapter<A> adapted, Base& of, cpu where = {})
      : a(std::move(adapted)),
        base(of),
        policy(where),
        layer([this](hoft::arena& from) { return hoft::carve_layer(from, a.view()); }),
        g([this](hoft::arena& from) { return hoft::carve_layer_gradient(from, a.view()); }) {
    bind();
    hoft::set_zero(policy, g.views);
    CHECK((layer.memory.intact() && g.memory.intact()));
  }

  watched_layer(watched_layer const&) = delete;

  void bind() {
    in_workspace(hoft::bind_workspace<T, L>(policy, a.view()),
                 [&](hoft::workspace w) { hoft::bind_layer<T, L>(policy, a.view(), base, layer.views, w); });
  }
  /// State for t tokens.
  auto state_of(index_t t, bool keep_q = true) const {
    return carved(std::function<state_type(hoft::arena&)>(
        [this, t, keep_q](hoft::arena& from) { return hoft::carve_layer_state<T, L>(from, a.view(), t, keep_q); }));
  }
  void forward(in x, out y, state_type const& state) {
    in_workspace(hoft::forward_workspace(policy, layer.views, x),
                 [&](hoft::workspace w) { hoft::forward(policy, layer.views, base, x, y, state, w); });
  }
  /// Nothing saved.
  void forward(in x, out y) {
    in_workspace(hoft::forward_workspace(policy, layer.views, x, false),
                 [&](hoft::workspace w) { hoft::forward(policy, layer.views, base, x, y, w); });
  }
  void backward(in x, in y, state_type const& state, in dy, out dbase, out dx) {
    in_workspace(hoft::backward_workspace(policy, layer.views, state), [&](hoft::workspace w) {
      hoft::backward(policy, layer.views, base, x, y, state, dy, dbase, dx, g.views, w);
    });
  }
  hoft::adapter_gradient<A> finish() {
    padded<A, row_major> dU(a.rows(), a.left().rank());
    padded<A> dV(a.cols(), a.right().rank());
    padded<A> ds(a.view().scaled() ? a.rows() : 0, 1);
    auto const of_s = ds.view();
    in_workspace(hoft::finish_workspace<T, L>(policy, layer.views), [&](hoft::workspace w) {
      hoft::finish<T, L>(policy, layer.views, base, g.views, dU.view(), dV.view(),
                         hoft::vector_view<A>(of_s.data, of_s.rows), w);
    });
    CHECK((dU.intact() && dV.intact() && ds.intact()));
    return {dU.map(), dV.map(), ds.map().col(0)};
  }

  /// call(workspace) in a workspace of so many bytes, beyond which nothing may be written.
  template <class Call>
  static void in_workspace(index_t bytes, Call const& call) {
    guarded_workspace work(bytes);
    call(work);
    CHECK(work.intact());
  }
};

/// All passes with views in padded storage: values, calls of the base operator, and what may be written.
template <class T, class L>
void check_views(problem<T> const& p, counted<T, L> base, bool keep_q, cpu policy = {}) {
  auto const [m, n, t, ru, rv] = p.d;
  CAPTURE(p.d);
  CAPTURE(keep_q);
  CAPTURE(p.kind.terms);
  answers<wide_t<T>> got;

  watched_layer<T, L> of(p.make(), base, policy);
  auto const layer_before = of.layer.bytes();
  padded<T, L> const x(p.x), dy(p.g);
  padded<T, L> y(m, t), dbase(m, t), dx(n, t);
  auto state = of.state_of(t, keep_q);
  of.forward(x.view(), y.view(), state.views);
  got.y = widen(y.map());
  CHECK((y.intact() && state.memory.intact()));

  auto const state_before = state.bytes();
  of.backward(x.view(), std::as_const(y).view(), state.views, dy.view(), dbase.view(), dx.view());
  auto const d = of.finish();
  got.dx = widen(dx.map());
  got.dU = widen(d.dU);
  got.dV = widen(d.dV);
  got.ds = widen(d.ds);
  got.dq = widen(dbase.map());
  // A base that is trained too has its gradient from what it was called on: ∂L/∂(M x) xᴴ + ∂L/∂(M V̂) V̂ᴴ.
  got.dM = deducible<wide_t<T>>::Zero(m, n);
  for (std::size_t i = 0; i < base.gradients.size(); ++i)
    got.dM += times(base.gradients[i], adjoint_copy(base.inputs[base.inputs.size() - 1 - i]));
  check_values(got, answers_of(p), allowed_for(p, p.s.size() > 0 && !keep_q));
  // rv columns in bind_layer and in finish, exactly the tokens between them.
  using calls = std::vector<index_t>;
  bool const one_call_each = rv > 0 ? base.applied == calls{rv, t} && base.applied_adjoint == calls{t, rv}
                                    : base.applied == calls{t} && base.applied_adjoint == calls{t};
  CHECK(one_call_each);
  bool const inputs_kept = same_bits(x.map(), p.x) && same_bits(dy.map(), p.g) && same_bits(widen(y.map()), got.y) &&
                           state.bytes() == state_before && of.layer.bytes() == layer_before;
  CHECK(inputs_kept);
  CHECK((x.intact() && y.intact() && dy.intact() && dbase.intact() && dx.intact()));
  CHECK((of.layer.memory.intact() && of.g.memory.intact() && state.memory.intact()));
}

}  // namespace hoft_test
