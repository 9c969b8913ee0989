// apply_backward.cpp: dX and dU of Y = Q X, from X and dY [m, n], Q of rank r.
#include "contest.hpp"
#include "products.hpp"

namespace {

using bench::gemm;
using hoft::as_view;
using hoft::index_t;

template <class T>
struct apply_backward_case {
  using matrix = hoft::dense_matrix<T>;
  bench::reflectors<T> Q;
  hoft::matrix_view<T const> X, dY;
  hoft::matrix_view<T> dX;
  matrix dU;
  bench::memory work;
  bench::projections<T> forward, backward;
  matrix dT, product, dS;  // [r, r]
  matrix panel;            // [m, panel columns]
  hoft::dense_vector<T> a, b;

  explicit apply_backward_case(bench::shape s)
      : Q(s.m, s.r, 1),
        X(bench::numbers<T>("X", s.m, s.n)),
        dY(bench::numbers<T>("dY", s.m, s.n)),
        dX(bench::room<T>("dX", s.m, s.n)),
        dU(s.m, s.r),
        work(hoft::apply_backward_workspace(hoft::cpu{}, Q.form.view(), X)),
        forward(s.r, s.n),
        backward(s.r, s.n),
        dT(s.r, s.r),
        product(s.r, s.r),
        dS(s.r, s.r),
        panel(s.m, std::max<index_t>(8, (index_t{1} << 18) / (s.m * index_t(sizeof(T))))),
        a(panel.cols()),
        b(panel.cols()) {}
};

/// The formulas of docs/mathematics.md, section 2, on whole matrices.
template <class P, class T>
void backward_products(P p, apply_backward_case<T>& d) {
  auto const U = as_view(d.Q.U), F = as_view(d.Q.F), dU = as_view(d.dU), dT = as_view(d.dT);
  auto const product = as_view(d.product), dS = as_view(d.dS);
  auto const W = as_view(d.forward.W), Z = as_view(d.forward.Z), dZ = as_view(d.backward.W), dW = as_view(d.backward.Z);
  gemm(p, true, false, 1, U, d.X, 0, W);
  gemm(p, false, false, 1, F, W, 0, Z);
  gemm(p, true, false, 1, U, d.dY, 0, dZ);
  gemm(p, true, false, -1, F, dZ, 0, dW);
  bench::assign(d.dY, d.dX);
  gemm(p, false, false, 1, U, dW, 1, d.dX);
  gemm(p, false, true, -1, d.dY, Z, 0, dU);
  gemm(p, false, true, 1, d.X, dW, 1, dU);
  gemm(p, false, true, -1, dZ, W, 0, dT);
  gemm(p, true, false, -1, F, dT, 0, product);
  gemm(p, false, true, 1, product, F, 0, dS);
  d.dS.diagonal() *= T(0.5);
  for (index_t j = 0; j < d.dS.cols(); ++j)
    for (index_t i = 0; i <= j; ++i) d.product(i, j) = d.product(j, i) = (i == j ? T(2) : T(1)) * d.dS(i, j);
  gemm(p, false, false, 1, U, product, 1, dU);
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
    auto g = hoft::as_eigen(d.dX.columns(j, w));
    auto a = d.a.head(w), b = d.b.head(w);
    x = hoft::as_eigen(d.X.columns(j, w));
    g = hoft::as_eigen(d.dY.columns(j, w));
    bench::reflect_left(d.Q, hoft::matrix_view<T>(d.panel.data(), m, w), d.a);
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
bench::contest<T> apply_backward_contest(bench::shape s) {
  using data = apply_backward_case<T>;
  auto const c = std::make_shared<data>(s);
  auto const cost =
      hoft::apply_backward_cost(double(s.m), double(s.n), double(s.r), double(hoft::default_block), sizeof(T));
  bench::contest<T> contest{{}, std::max(s.m, s.n)};
  auto const enter = [&](char const* name, auto run) {
    contest.contestants.push_back(
        {name, [c, run] { run(*c); }, {c->dX, as_view(std::as_const(c->dU))}, cost, [] {}, "hoft"});
  };
  enter("hoft", [](data& d) {
    hoft::apply_backward(hoft::cpu{}, d.Q.form.view(), d.X, d.dY, d.dX, as_view(d.dU), hoft::vector_view<T>{},
                         hoft::side::left, hoft::op::plain, d.work);
  });
  enter("reflectors", [](data& d) { backward_reflectors(d); });
  enter("eigen_products", [](data& d) { backward_products(bench::eigen_products{}, d); });
  enter("blas_products", [](data& d) { backward_products(bench::blas_products{}, d); });
  return contest;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "apply_backward",
                    [](auto type, bench::shape s) { return apply_backward_contest<decltype(type)>(s); });
}
