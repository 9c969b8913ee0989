// SPDX-License-Identifier: BSD-3-Clause
// apply_backward.cpp: dX and dU of Y = Q X, from X and dY [m, n], Q of rank r; and all of a training step: accumulate,
// apply and their gradients.
#include "products.hpp"
#include "program.hpp"
#include "reflectors.hpp"

#include <hoft/hoft.hpp>

namespace bench {
namespace {

template <class T>
struct apply_backward_case {
  using matrix = hoft::dense_matrix<T>;
  reflectors<T> Q;
  hoft::compact_wy<T> form;
  matrix_view<T const> X, dY;
  matrix_view<T> Y, dX;
  matrix dU;
  memory work;
  matrix F;                // [r, r]
  matrix W, Z, dZ, dW;     // [r, n]
  matrix dT, product, dS;  // [r, r]
  matrix panel;            // [m, panel columns]
  hoft::dense_vector<T> a, b;

  explicit apply_backward_case(shape s, hoft::cpu policy = {})
      : Q(s.m, s.r, 1),
        form(Q.form),
        X(numbers<T>("X", s.m, s.n)),
        dY(numbers<T>("dY", s.m, s.n)),
        Y(room<T>("Y", s.m, s.n)),
        dX(room<T>("dX", s.m, s.n)),
        dU(s.m, s.r),
        work(std::max({hoft::accumulate_workspace<T>(hoft::cpu{}, s.r, form.block()),
                       hoft::apply_workspace(hoft::cpu{}, form.view(), X),
                       hoft::apply_backward_workspace(policy, form.view(), X)})),
        F(Q.F),
        W(s.r, s.n),
        Z(s.r, s.n),
        dZ(s.r, s.n),
        dW(s.r, s.n),
        dT(s.r, s.r),
        product(s.r, s.r),
        dS(s.r, s.r),
        panel(s.m, std::max<index_t>(8, (index_t{1} << 18) / (s.m * index_t(sizeof(T))))),
        a(panel.cols()),
        b(panel.cols()) {}

  void accumulate() { hoft::accumulate(hoft::cpu{}, Q.U, form, hoft::exact{}, work); }
  void apply() { hoft::apply(hoft::cpu{}, form.view(), X, Y, hoft::side::left, hoft::op::plain, work); }
  void backward(hoft::cpu policy = {}) {
    hoft::apply_backward(policy, form.view(), X, dY, dX, as_view(dU), hoft::vector_view<T>{}, hoft::side::left,
                         hoft::op::plain, work);
  }
  void backward_from_output() {
    hoft::apply_backward_from_output(hoft::cpu{}, form.view(), matrix_view<T const>(Y), dY, dX, as_view(dU),
                                     hoft::vector_view<T>{}, hoft::side::left, hoft::op::plain, work);
  }
};

/// The formulas of docs/reference/mathematics.md, section 2, on whole matrices.
template <class T>
void project(library by, apply_backward_case<T>& d) {
  gemm(by, true, false, 1, as_view(d.Q.U), d.X, 0, as_view(d.W));
  gemm(by, false, false, 1, as_view(d.F), as_view(d.W), 0, as_view(d.Z));
}
template <class T>
void backward_products(library by, apply_backward_case<T>& d) {
  auto const U = as_view(d.Q.U), F = as_view(d.F), dU = as_view(d.dU), dT = as_view(d.dT);
  auto const product = as_view(d.product), dS = as_view(d.dS);
  auto const W = as_view(d.W), Z = as_view(d.Z), dZ = as_view(d.dZ), dW = as_view(d.dW);
  gemm(by, true, false, 1, U, d.dY, 0, dZ);
  gemm(by, true, false, -1, F, dZ, 0, dW);
  assign(d.dY, d.dX);
  gemm(by, false, false, 1, U, dW, 1, d.dX);
  gemm(by, false, true, -1, d.dY, Z, 0, dU);
  gemm(by, false, true, 1, d.X, dW, 1, dU);
  gemm(by, false, true, -1, dZ, W, 0, dT);
  gemm(by, true, false, -1, F, dT, 0, product);
  gemm(by, false, true, 1, product, F, 0, dS);
  d.dS.diagonal() *= T(0.5);
  for (index_t j = 0; j < d.dS.cols(); ++j)
    for (index_t i = 0; i <= j; ++i) d.product(i, j) = d.product(j, i) = (i == j ? T(2) : T(1)) * d.dS(i, j);
  gemm(by, false, false, 1, U, product, 1, dU);
}

/// From U on: F = S⁻¹, the forward pass, and the backward pass with what the forward pass projected.
template <class T>
void training_products(library by, apply_backward_case<T>& d) {
  gemm(by, true, false, 1, as_view(d.Q.U), as_view(d.Q.U), 0, as_view(d.dS));
  d.dS.diagonal() *= T(0.5);
  d.F.setIdentity();
  d.dS.template triangularView<Eigen::Upper>().solveInPlace(d.F);
  project(by, d);
  assign(d.X, d.Y);
  gemm(by, false, false, -1, as_view(d.Q.U), as_view(d.Z), 1, d.Y);
  backward_products(by, d);
}

/// One reflector after another, Y = X − τ v (vᵀX): with a = Xᵀv and b = GᵀV,
/// dv = −τ (X b + G a) + τ² (aᵀb) v because τ = 2 / vᵀv, and G := G − τ v bᵀ. Panels stay in cache.
template <class T>
void backward_reflectors(apply_backward_case<T>& d) {
  index_t const m = d.X.rows, n = d.X.cols, r = d.Q.U.cols();
  d.dU.setZero();
  for (index_t j = 0; j < n; j += d.panel.cols()) {
    index_t const w = std::min(d.panel.cols(), n - j);
    auto x = d.panel.leftCols(w);
    auto g = as_eigen(d.dX.columns(j, w));
    auto a = d.a.head(w), b = d.b.head(w);
    x = as_eigen(d.X.columns(j, w));
    g = as_eigen(d.dY.columns(j, w));
    reflect_left(d.Q, matrix_view<T>(d.panel.data(), m, w), d.a);
    for (index_t k = 0; k < r; ++k) {
      T const tau = d.Q.tau(k);
      auto const v = d.Q.U.col(k).tail(m - k);
      auto xk = x.bottomRows(m - k);
      auto gk = g.bottomRows(m - k);
      a.noalias() = xk.transpose() * v;
      xk.noalias() -= (tau * v) * a.transpose();
      a = -a;  // Hv = −v: from the output's projection to the input's
      b.noalias() = gk.transpose() * v;
      // The whole columns: dv has elements above the diagonal too.
      d.dU.col(k).noalias() -= tau * (x * b);
      d.dU.col(k).noalias() -= tau * (g * a);
      d.dU.col(k).tail(m - k) += (tau * tau * a.dot(b)) * v;
      gk.noalias() -= (tau * v) * b.transpose();
    }
  }
}

template <class T>
contest<T> apply_backward_contest(shape s) {
  using data = apply_backward_case<T>;
  auto const c = std::make_shared<data>(s);
  auto const cost =
      hoft::apply_backward_cost(double(s.m), double(s.n), double(s.r), double(hoft::default_block), sizeof(T));
  contest<T> contest{std::max(s.m, s.n)};
  auto const enter = [&](char const* name, auto run) {
    contest.enter("hoft", {name, [c, run] { run(*c); }, cost, [c] { c->apply(); }}, {c->dX, as_view(c->dU)});
  };
  enter("hoft", [](data& d) { d.backward(); });
  enter("hoft_from_output", [](data& d) { d.backward_from_output(); });
  enter("reflectors", [](data& d) { backward_reflectors(d); });
  for (auto [by, name] : {std::pair{library::eigen, "eigen_products"}, std::pair{library::blas, "blas_products"}})
    enter(name, [by = by](data& d) {
      project(by, d);
      backward_products(by, d);
    });
  return contest;
}

/// The same matrices by rows, beside those by columns.
template <class T>
struct apply_backward_rows_case : apply_backward_case<T> {
  matrix_view<T, hoft::row_major> rows_X, rows_dY, rows_dX;
  memory rows_work;

  explicit apply_backward_rows_case(shape s)
      : apply_backward_case<T>(s),
        rows_X(room<T>("rows X", s.n, s.m).transposed()),
        rows_dY(room<T>("rows dY", s.n, s.m).transposed()),
        rows_dX(room<T>("rows dX", s.n, s.m).transposed()),
        rows_work(hoft::apply_backward_workspace(hoft::cpu{}, this->form.view(), rows_X)) {
    as_eigen(rows_X) = as_eigen(this->X);
    as_eigen(rows_dY) = as_eigen(this->dY);
  }
  void backward_rows() {
    hoft::apply_backward(hoft::cpu{}, this->form.view(), rows_X, rows_dY, rows_dX, as_view(this->dU),
                         hoft::vector_view<T>{}, hoft::side::left, hoft::op::plain, rows_work);
  }
};

template <class T>
contest<T> apply_backward_rows_contest(shape s) {
  auto const c = std::make_shared<apply_backward_rows_case<T>>(s);
  auto const cost =
      hoft::apply_backward_cost(double(s.m), double(s.n), double(s.r), double(hoft::default_block), sizeof(T));
  contest<T> contest{std::max(s.m, s.n)};
  contest.enter("hoft", {.name = "hoft", .run = [c] { c->backward_rows(); }, .work = cost}, {as_view(c->dU)});
  contest.enter("hoft", {.name = "hoft_columns", .run = [c] { c->backward(); }, .work = cost}, {as_view(c->dU)});
  return contest;
}

/// By the wall clock: processor time would count both threads.
template <class T>
contest<T> apply_backward_threads_contest(shape s) {
  auto const pool = std::make_shared<hoft::thread_pool>(2);
  hoft::cpu const two{.threads = 2, .executor = pool.get()};
  auto const c = std::make_shared<apply_backward_case<T>>(s, two);
  auto const cost =
      hoft::apply_backward_cost(double(s.m), double(s.n), double(s.r), double(hoft::default_block), sizeof(T));
  contest<T> contest{std::max(s.m, s.n)};
  for (auto [policy, name] : {std::pair{two, "hoft"}, std::pair{hoft::cpu{}, "hoft_1_thread"}})
    contest.enter(
        "hoft", {.name = name, .run = [c, pool, policy = policy] { c->backward(policy); }, .work = cost, .wall = true},
        {c->dX, as_view(c->dU)});
  return contest;
}

template <class T>
contest<T> training_contest(shape s) {
  using data = apply_backward_case<T>;
  auto const c = std::make_shared<data>(s);
  double const m = double(s.m), n = double(s.n), r = double(s.r), b = double(c->form.block()), size = sizeof(T);
  hoft::cost cost = hoft::accumulate_cost(m, r, b, size);
  for (hoft::cost part : {hoft::apply_cost(m, n, r, b, size), hoft::apply_backward_cost(m, n, r, b, size)})
    cost = {cost.flops + part.flops, cost.bytes + part.bytes};
  contest<T> contest{std::max(s.m, s.n)};
  auto const enter = [&](char const* name, auto run) {
    contest.enter("hoft", {name, [c, run] { run(*c); }, cost}, {c->Y, c->dX, as_view(c->dU)});
  };
  enter("hoft", [](data& d) {
    d.accumulate();
    d.apply();
    d.backward();
  });
  enter("hoft_from_output", [](data& d) {
    d.accumulate();
    d.apply();
    d.backward_from_output();
  });
  for (auto [by, name] : {std::pair{library::eigen, "eigen_products"}, std::pair{library::blas, "blas_products"}})
    enter(name, [by = by](data& d) { training_products(by, d); });
  // Beside torch.ormqr, which has no derivative.
  contest.enter("apply", {"hoft_apply", [c] { c->apply(); }, hoft::apply_cost(m, n, r, b, size)}, {c->Y});
  return contest;
}

}  // namespace

void apply_backward_cases(program& p) {
  p.hold_all("apply_backward", [](auto type, shape s) { return apply_backward_contest<decltype(type)>(s); });
  if (!p.quick()) p.hold<float>("apply_backward", cached, [] { return apply_backward_contest<float>(cached); });
  shape const one = p.quick() ? smallest : large;
  p.hold<float>("apply_backward_rows", one, [&] { return apply_backward_rows_contest<float>(one); });
  p.hold<float>("apply_backward_2_threads", one, [&] { return apply_backward_threads_contest<float>(one); });
}

void training_case(program& p) {
  shape const one = p.quick() ? smallest : large;
  p.hold<float>("training", one, [&] { return training_contest<float>(one); });
}

}  // namespace bench
