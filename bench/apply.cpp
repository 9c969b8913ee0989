// SPDX-License-Identifier: BSD-3-Clause
// apply.cpp: Q X with X [m, n] and Q of rank r, in place and into another matrix, by columns and by rows, on one thread
// and on two.
#include "lapack.hpp"
#include "machine.hpp"
#include "products.hpp"
#include "program.hpp"
#include "reflectors.hpp"

#include <hoft/hoft.hpp>

namespace bench {
namespace {

using hoft::op;
using hoft::side;

template <class T>
struct apply_case {
  reflectors<T> Q;
  matrix_view<T const> start;
  matrix_view<T> X, Y;
  hoft::dense_matrix<T> W, Z;
  memory work;
  hoft::dense_vector<T> dots;
  std::vector<T> lapack_work;

  explicit apply_case(shape s)
      : Q(s.m, s.r, 1),
        start(numbers<T>("start", s.m, s.n)),
        X(room<T>("X", s.m, s.n)),
        Y(room<T>("Y", s.m, s.n)),
        W(s.r, s.n),
        Z(s.r, s.n),
        work(hoft::apply_workspace(hoft::cpu{2}, Q.form.view(), X)),
        dots(std::max(s.m, s.n)),
        lapack_work(std::size_t(std::max(lapack::ormqr_size<T>('L', as_view(Q.packed), X), s.r * s.n))) {}
};

template <class T>
hoft::cost cost_of(shape s) {
  return hoft::apply_cost(double(s.m), double(s.n), double(s.r), double(hoft::default_block), sizeof(T));
}

template <class T>
contest<T> apply_contest(shape s) {
  using data = apply_case<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{s.m};
  // In place, again and again on its own result: Q is orthogonal, so nothing grows or dies away.
  auto const in_place = [&](char const* name, auto run) {
    contest.enter("hoft", {name, [c, run] { run(*c); }, cost_of<T>(s), [c] { assign(c->start, c->X); }}, {c->X});
  };
  auto const out_of_place = [&](char const* name, auto run) {
    contest.enter("hoft", {name, [c, run] { run(*c); }, cost_of<T>(s)}, {c->Y});
  };
  in_place("hoft", [](data& d) { apply(hoft::cpu{}, d.Q.form.view(), d.X, d.X, side::left, op::plain, d.work); });
  out_of_place("hoft_out",
               [](data& d) { apply(hoft::cpu{}, d.Q.form.view(), d.start, d.Y, side::left, op::plain, d.work); });
  for (auto [by, name, name_out] : {std::tuple{library::blas, "blas_products", "blas_products_out"},
                                    std::tuple{library::eigen, "eigen_products", "eigen_products_out"}}) {
    auto const multiply = [by = by](data& d, matrix_view<T> X) {
      apply_products(by, as_view(d.Q.U), as_view(d.Q.F), X, as_view(d.W), as_view(d.Z));
    };
    in_place(name, [multiply](data& d) { multiply(d, d.X); });
    out_of_place(name_out, [multiply](data& d) {
      assign(d.start, d.Y);
      multiply(d, d.Y);
    });
  }
  in_place("lapack_larfb", [](data& d) {
    lapack::larfb('L', as_view(std::as_const(d.Q.packed)), as_view(std::as_const(d.Q.F)), d.X, d.lapack_work.data());
  });
  if (s.r > 64) return contest;  // the others take their time for each reflector
  in_place("lapack_gemqrt", [](data& d) {
    lapack::gemqrt(as_view(std::as_const(d.Q.packed)), as_view(std::as_const(d.Q.F)), d.X, d.lapack_work.data());
  });
  in_place("lapack_ormqr", [](data& d) {
    lapack::ormqr('L', as_view(std::as_const(d.Q.packed)), d.Q.tau.data(), d.X, d.lapack_work.data(),
                  index_t(d.lapack_work.size()));
  });
  in_place("eigen_sequence", [](data& d) { eigen_sequence_left(d.Q, d.X); });
  in_place("reflectors", [](data& d) { reflect_left(d.Q, d.X, d.dots); });
  if (s.m < 1024) in_place("reference", [](data& d) { hoft::reference::apply(d.Q.U, as_eigen(d.X)); });
  return contest;
}

/// Everything by rows: X and what the peers multiply it with.
template <class T>
struct apply_rows_case {
  using rows = hoft::dense_matrix<T, hoft::row_major>;
  reflectors<T> Q;
  matrix_view<T const, hoft::row_major> start;
  matrix_view<T, hoft::row_major> X;
  rows U, F, W, Z;
  memory work;

  explicit apply_rows_case(shape s)
      : Q(s.m, s.r, 1),
        start(numbers<T>("start", s.n, s.m).transposed()),
        X(room<T>("X", s.n, s.m).transposed()),
        U(Q.U),
        F(Q.F),
        W(s.r, s.n),
        Z(s.r, s.n),
        work(hoft::apply_workspace(hoft::cpu{}, Q.form.view(), X)) {}
};

template <class T>
contest<T> apply_rows_contest(shape s) {
  using data = apply_rows_case<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{s.m};
  auto const enter = [&](char const* name, auto run) {
    contest.enter(
        "hoft", {name, [c, run] { run(*c); }, cost_of<T>(s), [c] { assign(c->start.transposed(), c->X.transposed()); }},
        {c->X.transposed()});
  };
  enter("hoft", [](data& d) { apply(hoft::cpu{}, d.Q.form.view(), d.X, d.X, side::left, op::plain, d.work); });
  for (auto [by, name] : {std::pair{library::blas, "blas_products"}, std::pair{library::eigen, "eigen_products"}})
    enter(name,
          [by = by](data& d) { apply_products(by, as_view(d.U), as_view(d.F), d.X, as_view(d.W), as_view(d.Z)); });
  return contest;
}

/// By the wall clock: processor time would count both threads.
template <class T>
contest<T> apply_threads_contest(shape s) {
  using data = apply_case<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{s.m};
  auto const pool = std::make_shared<hoft::thread_pool>(2);
  for (auto [policy, name] : {std::pair{hoft::cpu{2}, "hoft"}, std::pair{hoft::cpu{2, pool.get()}, "hoft_pool"},
                              std::pair{hoft::cpu{1}, "hoft_1_thread"}})
    contest.enter(
        "hoft",
        {name,
         [c, pool, policy = policy] { apply(policy, c->Q.form.view(), c->X, c->X, side::left, op::plain, c->work); },
         cost_of<T>(s), [c] { assign(c->start, c->X); }, true},
        {c->X});
  for (task const& bound : thread_bounds<T>(pool)) contest.enter(bound.name, bound, {});
  return contest;
}

}  // namespace

void apply_cases(program& p) {
  p.hold_all("apply", [](auto type, shape s) { return apply_contest<decltype(type)>(s); });
  shape const high_rank{4096, 4096, 256, 512}, one = p.quick() ? smallest : large;
  if (!p.quick())
    for (shape s : {high_rank, cached}) p.hold<float>("apply", s, [&] { return apply_contest<float>(s); });
  p.hold<float>("apply_rows", one, [&] { return apply_rows_contest<float>(one); });
  p.hold<float>("apply_2_threads", one, [&] { return apply_threads_contest<float>(one); });
}

}  // namespace bench
