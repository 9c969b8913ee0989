// apply.cpp: X := Q X, X [m, n], Q of rank r.
#include "contest.hpp"
#include "products.hpp"

namespace {

template <class T>
struct apply_case {
  bench::reflectors<T> Q;
  hoft::matrix_view<T const> start;
  hoft::matrix_view<T> X;
  bench::projections<T> scratch;
  bench::memory work;
  hoft::dense_vector<T> dots;
  std::vector<T> lapack_work;

  explicit apply_case(bench::shape s)
      : Q(s.m, s.r, 1),
        start(bench::numbers<T>("start", s.m, s.n)),
        X(bench::room<T>("X", s.m, s.n)),
        scratch(s.r, s.n),
        work(hoft::apply_workspace(hoft::cpu{}, Q.form.view(), X)),
        dots(s.n),
        lapack_work(std::size_t(std::max(bench::lapack::ormqr_size<T>('L', hoft::as_view(Q.packed), X), s.r * s.n))) {}
};

template <class T>
bench::contest<T> apply_contest(bench::shape s) {
  auto const c = std::make_shared<apply_case<T>>(s);
  auto const cost = hoft::apply_cost(double(s.m), double(s.n), double(s.r), double(hoft::default_block), sizeof(T));
  bench::contest<T> contest{{}, s.m};
  // In place, again and again on its own result: Q is orthogonal, so nothing grows or dies away.
  auto const enter = [&](char const* name, auto run) {
    contest.contestants.push_back(
        {name, [c, run] { run(*c); }, {c->X}, cost, [c] { bench::assign(c->start, c->X); }, "hoft"});
  };
  using data = apply_case<T>;
  enter("hoft", [](data& d) {
    hoft::apply(hoft::cpu{}, d.Q.form.view(), d.X, d.X, hoft::side::left, hoft::op::plain, d.work);
  });
  if (s.m <= 1024) enter("reference", [](data& d) { hoft::reference::apply(d.Q.U, hoft::as_eigen(d.X)); });
  enter("reflectors", [](data& d) { bench::reflect_left(d.Q, d.X, d.dots); });
  enter("eigen_sequence", [](data& d) { hoft::as_eigen(d.X).applyOnTheLeft(bench::eigen_sequence(d.Q)); });
  enter("eigen_products", [](data& d) { bench::apply_products(bench::eigen_products{}, d.Q, d.X, d.scratch); });
  enter("blas_products", [](data& d) { bench::apply_products(bench::blas_products{}, d.Q, d.X, d.scratch); });
  enter("lapack_ormqr", [](data& d) {
    bench::lapack::ormqr('L', hoft::as_view(std::as_const(d.Q.packed)), d.Q.tau.data(), d.X, d.lapack_work.data(),
                         hoft::index_t(d.lapack_work.size()));
  });
  enter("lapack_larfb", [](data& d) {
    bench::lapack::larfb('L', hoft::as_view(std::as_const(d.Q.packed)), hoft::as_view(std::as_const(d.Q.F)), d.X,
                         d.lapack_work.data());
  });
  return contest;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "apply", [](auto type, bench::shape s) { return apply_contest<decltype(type)>(s); });
}
