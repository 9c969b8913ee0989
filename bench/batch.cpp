// SPDX-License-Identifier: BSD-3-Clause
// batch.cpp: many small problems, each X_i := Q_i X_i with X_i [m, n] and Q_i of rank r.
#include "lapack.hpp"
#include "products.hpp"
#include "program.hpp"
#include "reflectors.hpp"

#include <hoft/hoft.hpp>

#include <span>

namespace bench {
namespace {

template <class T>
struct batch_case {
  static constexpr int most_threads = 2;
  std::vector<reflectors<T>> Q;
  std::vector<carved_form<T>> memory_of_forms;
  matrix_view<T const> start;
  matrix_view<T> all;  // [m, n count], the problems side by side
  std::vector<matrix_view<T const>> U;
  std::vector<hoft::compact_wy_view<T>> forms;
  std::vector<matrix_view<T>> X;
  hoft::dense_matrix<T> W, Z, F;
  memory work{0};
  hoft::dense_vector<T> dots;
  std::vector<T> lapack_work;

  batch_case(shape s, index_t count)
      : start(numbers<T>("start", s.m, s.n * count)),
        all(room<T>("X", s.m, s.n * count)),
        W(s.r, s.n),
        Z(s.r, s.n),
        F(s.r, s.r),
        dots(std::max(s.m, s.n)) {
    Q.reserve(std::size_t(count));
    memory_of_forms.reserve(std::size_t(count));
    index_t const block = hoft::block_for(s.r, {});
    for (index_t i = 0; i < count; ++i) {
      Q.emplace_back(s.m, s.r, unsigned(i + 1));
      memory_of_forms.emplace_back(s.m, s.r, block);
      U.push_back(as_view(std::as_const(Q.back().U)));
      forms.push_back(memory_of_forms.back().view);
      X.push_back(all.columns(i * s.n, s.n));
    }
    hoft::cpu const policy{most_threads};
    work = memory(std::max(hoft::accumulate_workspace(policy, std::span(forms)),
                           hoft::apply_workspace(policy, constant_span(forms), constant_span(X))));
    accumulate_all();
    lapack_work.resize(std::size_t(lapack::ormqr_size<T>('L', as_view(Q[0].packed), X[0])));
  }

  template <class View>
  static std::span<View const> constant_span(std::vector<View> const& views) {
    return views;
  }

  void accumulate_all(hoft::cpu policy = {}) {
    hoft::accumulate(policy, constant_span(U), std::span(forms), hoft::exact{}, work);
  }
  void apply_all(hoft::cpu policy = {}) {
    auto const side = hoft::side::left;
    auto const op = hoft::op::plain;
    hoft::apply(policy, constant_span(forms), constant_span(X), constant_span(X), side, op, work);
  }
};

template <class T>
contest<T> batch_contest(shape s, index_t count) {
  using data = batch_case<T>;
  auto const c = std::make_shared<data>(s, count);
  double const m = double(s.m), n = double(s.n), r = double(s.r);
  auto const times = [&](hoft::cost one) { return hoft::cost{double(count) * one.flops, double(count) * one.bytes}; };
  hoft::cost const apply = times(hoft::apply_cost(m, n, r, r, sizeof(T)));
  hoft::cost const accumulate = times(hoft::accumulate_cost(m, r, r, sizeof(T)));
  hoft::cost const both{apply.flops + accumulate.flops, apply.bytes + accumulate.bytes};
  contest<T> contest{s.m};
  auto const enter = [&](char const* name, hoft::cost work, auto run) {
    contest.enter("hoft", {name, [c, run] { run(*c); }, work, [c] { assign(c->start, c->all); }}, {c->all});
  };
  auto const one_by_one = [&](char const* name, hoft::cost work, auto run) {
    enter(name, work, [run](data& d) {
      for (std::size_t i = 0; i < d.Q.size(); ++i) run(d, d.Q[i], d.X[i]);
    });
  };
  using Q = reflectors<T>;
  using view = matrix_view<T>;
  enter("hoft", both, [](data& d) {
    d.accumulate_all();
    d.apply_all();
  });
  enter("hoft_apply", apply, [](data& d) { d.apply_all(); });
  one_by_one("eigen_sequence", apply, [](data&, Q const& q, view X) { eigen_sequence_left(q, X); });
  one_by_one("eigen_qr_sequence", both, [](data&, Q const& q, view X) { eigen_qr_left(q, X); });
  for (auto [by, name] : {std::pair{library::blas, "blas_products"}, std::pair{library::eigen, "eigen_products"}})
    one_by_one(name, apply, [by = by](data& d, Q const& q, view X) {
      apply_products(by, as_view(q.U), as_view(q.F), X, as_view(d.W), as_view(d.Z));
    });
  one_by_one("lapack_ormqr", apply, [](data& d, Q const& q, view X) {
    lapack::ormqr('L', as_view(q.packed), q.tau.data(), X, d.lapack_work.data(), index_t(d.lapack_work.size()));
  });
  one_by_one("lapack_larft_larfb", both, [](data& d, Q const& q, view X) {
    lapack::larft(as_view(q.packed), q.tau.data(), as_view(d.F));
    lapack::larfb('L', as_view(q.packed), as_view(std::as_const(d.F)), X, d.lapack_work.data());
  });
  one_by_one("reflectors", apply, [](data& d, Q const& q, view X) { reflect_left(q, X, d.dots); });
  return contest;
}

/// By the wall clock, threads over problems.
template <class T>
contest<T> batch_threads_contest(shape s, index_t count) {
  using data = batch_case<T>;
  auto const c = std::make_shared<data>(s, count);
  contest<T> contest{s.m};
  auto const enter = [&](char const* name, auto run) {
    contest.enter("hoft", {name, [c, run] { run(*c); }, {}, [c] { assign(c->start, c->all); }, true}, {c->all});
  };
  auto const pool = std::make_shared<hoft::thread_pool>(data::most_threads);
  for (auto [policy, name] :
       {std::pair{hoft::cpu{data::most_threads}, "hoft"},
        std::pair{hoft::cpu{data::most_threads, pool.get()}, "hoft_pool"}, std::pair{hoft::cpu{1}, "hoft_1_thread"}})
    enter(name, [pool, policy = policy](data& d) {
      d.accumulate_all(policy);
      d.apply_all(policy);
    });
  enter("eigen_sequence", [](data& d) {
    for (std::size_t i = 0; i < d.Q.size(); ++i) eigen_sequence_left(d.Q[i], d.X[i]);
  });
  return contest;
}

}  // namespace

void batch_cases(program& p) {
  shape const small{64, 64, 8, 64};
  p.hold<float>("batch", small, [&] { return batch_contest<float>(small, 256); });
  p.hold<float>("batch_2_threads", small, [&] { return batch_threads_contest<float>(small, 256); });
}

}  // namespace bench
