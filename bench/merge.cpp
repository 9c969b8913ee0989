// merge.cpp: M̂ = Q_U M Q_V, M [m, n], ranks r and r.
#include "contest.hpp"
#include "products.hpp"

namespace {

template <class T>
struct merge_case {
  bench::reflectors<T> left, right;
  hoft::adapter<T> adapter;
  hoft::matrix_view<T const> M;
  hoft::matrix_view<T> Mhat;
  bench::memory work;
  hoft::dense_matrix<T> B, K;  // [m, r]
  bench::projections<T> scratch;
  hoft::dense_vector<T> dots;
  std::vector<T> lapack_work;

  explicit merge_case(bench::shape s)
      : left(s.m, s.r, 1),
        right(s.n, s.r, 2),
        adapter(left.U, right.U),
        M(bench::numbers<T>("M", s.m, s.n)),
        Mhat(bench::room<T>("Mhat", s.m, s.n)),
        work(hoft::merge_workspace(hoft::cpu{}, adapter.view(), Mhat)),
        B(s.m, s.r),
        K(s.m, s.r),
        scratch(s.r, s.n),
        dots(std::max(s.m, s.n)),
        lapack_work(std::size_t(
            std::max({bench::lapack::ormqr_size<T>('L', hoft::as_view(left.packed), Mhat),
                      bench::lapack::ormqr_size<T>('R', hoft::as_view(right.packed), Mhat), s.r * s.n, s.r * s.m}))) {}
};

template <class P, class T>
void merge_products(P p, merge_case<T>& d) {
  auto const V = hoft::as_view(d.right.U), F = hoft::as_view(d.right.F);
  auto const B = hoft::as_view(d.B), K = hoft::as_view(d.K);
  bench::gemm(p, false, false, 1, d.M, V, 0, B);
  bench::gemm(p, false, false, 1, B, F, 0, K);
  bench::assign(d.M, d.Mhat);
  bench::gemm(p, false, true, -1, K, V, 1, d.Mhat);
  bench::apply_products(p, d.left, d.Mhat, d.scratch);
}

template <class T>
bench::contest<T> merge_contest(bench::shape s) {
  using data = merge_case<T>;
  auto const c = std::make_shared<data>(s);
  auto const cost = hoft::merge_cost(double(s.m), double(s.n), double(s.r), double(s.r), sizeof(T));
  bench::contest<T> contest{{}, std::max(s.m, s.n)};
  auto const enter = [&](char const* name, auto run) {
    contest.contestants.push_back({name, [c, run] { run(*c); }, {c->Mhat}, cost, [] {}, "hoft"});
  };
  enter("hoft", [](data& d) { hoft::merge(hoft::cpu{}, d.adapter.view(), d.M, d.Mhat, d.work); });
  enter("reflectors", [](data& d) {
    bench::assign(d.M, d.Mhat);
    bench::reflect_left(d.left, d.Mhat, d.dots);
    bench::reflect_right(d.right, d.Mhat, d.dots);
  });
  enter("eigen_sequence", [](data& d) {
    auto Mhat = hoft::as_eigen(d.Mhat);
    Mhat = hoft::as_eigen(d.M);
    Mhat.applyOnTheLeft(bench::eigen_sequence(d.left));
    Mhat.applyOnTheRight(bench::eigen_sequence(d.right));
  });
  enter("eigen_products", [](data& d) { merge_products(bench::eigen_products{}, d); });
  enter("blas_products", [](data& d) { merge_products(bench::blas_products{}, d); });
  enter("lapack_ormqr", [](data& d) {
    bench::assign(d.M, d.Mhat);
    hoft::index_t const size = hoft::index_t(d.lapack_work.size());
    for (char side : {'L', 'R'}) {
      bench::reflectors<T> const& Q = side == 'L' ? d.left : d.right;
      bench::lapack::ormqr(side, hoft::as_view(Q.packed), Q.tau.data(), d.Mhat, d.lapack_work.data(), size);
    }
  });
  enter("lapack_larfb", [](data& d) {
    bench::assign(d.M, d.Mhat);
    for (char side : {'L', 'R'}) {
      bench::reflectors<T> const& Q = side == 'L' ? d.left : d.right;
      bench::lapack::larfb(side, hoft::as_view(Q.packed), hoft::as_view(Q.F), d.Mhat, d.lapack_work.data());
    }
  });
  return contest;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "merge", [](auto type, bench::shape s) { return merge_contest<decltype(type)>(s); });
}
