// SPDX-License-Identifier: BSD-3-Clause
// accumulate.cpp: from reflectors U [m, r] to the triangular factor F of I − U F Uᵀ, and what share of an apply the
// exact inverse takes.
#include "lapack.hpp"
#include "products.hpp"
#include "program.hpp"
#include "reflectors.hpp"

#include <hoft/hoft.hpp>

#include <Eigen/LU>

namespace bench {
namespace {

template <class T>
struct accumulate_case {
  using matrix = hoft::dense_matrix<T>;
  reflectors<T> Q;
  carved_form<T> form;
  memory work;
  matrix F, Uhat, S, result;
  matrix_view<T> X;

  explicit accumulate_case(shape s)
      : Q(s.m, s.r, 1),
        form(s.m, s.r, hoft::block_for(s.r, {})),
        work(std::max({hoft::accumulate_workspace<T>(hoft::cpu{}, s.r, form.view.block),
                       hoft::accumulate_workspace<T>(hoft::cpu{}, s.r, form.view.block, hoft::neumann{2}),
                       hoft::apply_workspace(hoft::cpu{}, form.view, room<T>("X", s.m, s.n))})),
        Uhat(s.m, s.r),
        S(s.r, s.r),
        result(s.r, s.r),
        X(room<T>("X", s.m, s.n)) {}

  /// hoft's form with its triangle where the peers leave theirs.
  void accumulate(hoft::inverse kind) {
    auto q = form.view;
    q.factor = as_view(result);
    hoft::accumulate(hoft::cpu{}, as_view(std::as_const(Q.U)), q, kind, work);
  }
};

template <class T>
hoft::cost cost_of(accumulate_case<T> const& c) {
  return hoft::accumulate_cost(double(c.Q.U.rows()), double(c.Q.U.cols()), double(c.form.view.block), sizeof(T));
}

template <class T>
contest<T> accumulate_contest(shape s) {
  using data = accumulate_case<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{s.m};
  // Columns of norm 1 (the first group) have another F than columns that begin with a one (the second).
  auto const enter = [&](char const* name, char const* group, auto run) {
    contest.enter(group, {name, [c, run] { run(*c); }, cost_of(*c)}, {as_view(c->result)});
  };
  enter("hoft", "normalised", [](data& d) { d.accumulate(hoft::exact{}); });
  enter("eigen_products", "normalised", [](data& d) {
    d.Uhat = d.Q.U.colwise().normalized();
    gemm(library::eigen, true, false, 1, as_view(d.Uhat), as_view(d.Uhat), 0, as_view(d.S));
    d.S.diagonal() *= T(0.5);
    d.result.setIdentity();
    d.S.template triangularView<Eigen::Upper>().solveInPlace(d.result);
  });
  enter("hoft_tau", "tau", [](data& d) {
    auto q = d.form.view;
    q.factor = as_view(d.result);
    hoft::accumulate(hoft::cpu{}, as_view(std::as_const(d.Q.packed)), hoft::as_vector_view(d.Q.tau), q, d.work);
  });
  enter("eigen_sequence", "tau", [](data& d) {  // what HouseholderSequence does for each block of 48 columns or more
    d.result.setZero();
    Eigen::internal::make_block_householder_triangular_factor(d.result, d.Q.packed, d.Q.tau);
  });
  enter("lapack_larft", "tau", [](data& d) {
    d.result.setZero();
    lapack::larft(as_view(std::as_const(d.Q.packed)), d.Q.tau.data(), as_view(d.result));
  });
  return contest;
}

/// The exact inverse, all of accumulate with it and with the paper's two terms, beside one apply.
template <class T>
contest<T> inverse_contest(shape s) {
  using data = accumulate_case<T>;
  auto const c = std::make_shared<data>(s);
  contest<T> contest{s.m};
  auto const apply_cost =
      hoft::apply_cost(double(s.m), double(s.n), double(s.r), double(c->form.view.block), sizeof(T));
  contest.enter(
      "apply",
      {"apply",
       [c] { hoft::apply(hoft::cpu{}, c->Q.form.view(), c->X, c->X, hoft::side::left, hoft::op::plain, c->work); },
       apply_cost, [c] { assign(numbers<T>("start", c->X.rows, c->X.cols), c->X); }},
      {c->X});
  double const r = double(s.r);
  contest.enter("exact",
                {"exact_inverse",
                 [c] {
                   auto const q = c->Q.form.view();
                   hoft::ops<hoft::cpu>::form_factor(hoft::cpu{}, q.gram, q.tau, as_view(c->result),
                                                     reinterpret_cast<T*>(c->S.data()));
                 },
                 {r * r * r / 3, 2 * r * r * double(sizeof(T))}},
                {as_view(c->result)});
  contest.enter("exact", {"accumulate", [c] { c->accumulate(hoft::exact{}); }, cost_of(*c)}, {as_view(c->result)});
  contest.enter("neumann", {"accumulate_neumann_2", [c] { c->accumulate(hoft::neumann{2}); }, cost_of(*c)},
                {as_view(c->result)});
  return contest;
}

}  // namespace

void accumulate_cases(program& p) {
  p.hold_all("accumulate", [](auto type, shape s) { return accumulate_contest<decltype(type)>(s); });
  shape const one = p.quick() ? smallest : large;
  p.hold<float>("inverse", one, [&] { return inverse_contest<float>(one); });
}

}  // namespace bench
