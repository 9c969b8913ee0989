// SPDX-License-Identifier: BSD-3-Clause
// merge.cpp: M̂ = Q_U M Q_V, M [m, n], ranks r and r.
#include "lapack.hpp"
#include "products.hpp"
#include "program.hpp"
#include "reflectors.hpp"

#include <hoft/hoft.hpp>

namespace bench {
namespace {

template <class T>
struct merge_case {
  reflectors<T> left, right;
  hoft::adapter<T> adapter;
  matrix_view<T const> M;
  matrix_view<T> Mhat;
  memory work;
  hoft::dense_matrix<T> B, K;  // [m, r]
  hoft::dense_matrix<T> W, Z;  // [r, n]
  hoft::dense_vector<T> dots;
  std::vector<T> lapack_work;

  explicit merge_case(shape s)
      : left(s.m, s.r, 1),
        right(s.n, s.r, 2),
        adapter(left.U, right.U),
        M(numbers<T>("M", s.m, s.n)),
        Mhat(room<T>("Mhat", s.m, s.n)),
        work(hoft::merge_workspace(hoft::cpu{}, adapter.view(), Mhat)),
        B(s.m, s.r),
        K(s.m, s.r),
        W(s.r, s.n),
        Z(s.r, s.n),
        dots(std::max(s.m, s.n)),
        lapack_work(
            std::size_t(std::max({lapack::ormqr_size<T>('L', as_view(left.packed), Mhat),
                                  lapack::ormqr_size<T>('R', as_view(right.packed), Mhat), s.r * s.n, s.r * s.m}))) {}
};

template <class T>
void merge_products(library by, merge_case<T>& d) {
  gemm(by, false, false, 1, d.M, as_view(d.right.U), 0, as_view(d.B));
  gemm(by, false, false, 1, as_view(d.B), as_view(d.right.F), 0, as_view(d.K));
  assign(d.M, d.Mhat);
  gemm(by, false, true, -1, as_view(d.K), as_view(d.right.U), 1, d.Mhat);
  apply_products(by, as_view(d.left.U), as_view(d.left.F), d.Mhat, as_view(d.W), as_view(d.Z));
}

template <class T>
contest<T> merge_contest(shape s) {
  using data = merge_case<T>;
  auto const c = std::make_shared<data>(s);
  auto const cost = hoft::merge_cost(double(s.m), double(s.n), double(s.r), double(s.r), sizeof(T));
  contest<T> contest{std::max(s.m, s.n)};
  auto const enter = [&](char const* name, auto run) {
    contest.enter("hoft", {name, [c, run] { run(*c); }, cost}, {c->Mhat});
  };
  enter("hoft", [](data& d) { hoft::merge(hoft::cpu{}, d.adapter.view(), d.M, d.Mhat, d.work); });
  enter("reflectors", [](data& d) {
    assign(d.M, d.Mhat);
    reflect_left(d.left, d.Mhat, d.dots);
    reflect_right(d.right, d.Mhat, d.dots);
  });
  enter("eigen_sequence", [](data& d) {
    assign(d.M, d.Mhat);
    eigen_sequence_left(d.left, d.Mhat);
    eigen_sequence_right(d.right, d.Mhat);
  });
  enter("eigen_products", [](data& d) { merge_products(library::eigen, d); });
  enter("blas_products", [](data& d) { merge_products(library::blas, d); });
  enter("lapack_ormqr", [](data& d) {
    assign(d.M, d.Mhat);
    index_t const size = index_t(d.lapack_work.size());
    for (char side : {'L', 'R'}) {
      reflectors<T> const& Q = side == 'L' ? d.left : d.right;
      lapack::ormqr(side, as_view(Q.packed), Q.tau.data(), d.Mhat, d.lapack_work.data(), size);
    }
  });
  enter("lapack_larfb", [](data& d) {
    assign(d.M, d.Mhat);
    for (char side : {'L', 'R'}) {
      reflectors<T> const& Q = side == 'L' ? d.left : d.right;
      lapack::larfb(side, as_view(Q.packed), as_view(Q.F), d.Mhat, d.lapack_work.data());
    }
  });
  return contest;
}

}  // namespace

void merge_cases(program& p) {
  p.hold_all("merge", [](auto type, shape s) { return merge_contest<decltype(type)>(s); });
}

}  // namespace bench
