// accumulate.cpp: from reflectors U [m, r] to the triangular factor F of I − U F Uᵀ.
#include "contest.hpp"
#include "products.hpp"

namespace {

template <class T>
struct accumulate_case {
  using matrix = hoft::dense_matrix<T>;
  bench::reflectors<T> Q;
  hoft::compact_wy<T> form;
  bench::memory work;
  matrix F, Uhat, S, result;

  explicit accumulate_case(bench::shape s)
      : Q(s.m, s.r, 1),
        form(s.m, s.r, {}, hoft::block_for(s.r, {})),
        work(hoft::accumulate_workspace<T>(hoft::cpu{}, s.r, form.block())),
        F(matrix::Zero(s.r, s.r)),
        Uhat(s.m, s.r),
        S(s.r, s.r),
        result(s.r, s.r) {}
};

template <class T>
bench::contest<T> accumulate_contest(bench::shape s) {
  using data = accumulate_case<T>;
  auto const c = std::make_shared<data>(s);
  auto const cost = hoft::accumulate_cost(double(s.m), double(s.r), double(c->form.block()), sizeof(T));
  bench::contest<T> contest{{}, s.m};
  // Columns of norm 1 (the first group) have another F than columns that begin with a one (the second).
  auto const enter = [&](char const* name, char const* group, auto run) {
    contest.contestants.push_back({name, [c, run] { run(*c); }, {hoft::as_view(c->result)}, cost, [] {}, group});
  };
  enter("hoft", "normalised", [](data& d) {
    auto q = d.form.mutable_view();
    q.factor = hoft::as_view(d.result);
    hoft::accumulate(hoft::cpu{}, hoft::as_view(d.Q.U), q, hoft::exact{}, d.work);
  });
  enter("eigen_products", "normalised", [](data& d) {
    d.Uhat = d.Q.U.colwise().normalized();
    d.S.noalias() = d.Uhat.transpose() * d.Uhat;
    d.S.diagonal() *= T(0.5);
    d.result.setIdentity();
    d.S.template triangularView<Eigen::Upper>().solveInPlace(d.result);
  });
  enter("hoft_tau", "tau", [](data& d) {
    auto q = d.form.mutable_view();
    q.factor = hoft::as_view(d.result);
    hoft::accumulate(hoft::cpu{}, hoft::as_view(std::as_const(d.Q.packed)), hoft::as_vector_view(d.Q.tau), q, d.work);
  });
  enter("eigen_sequence", "tau", [](data& d) {  // what HouseholderSequence does for each block of 48 columns or more
    d.result.setZero();
    Eigen::internal::make_block_householder_triangular_factor(d.result, d.Q.packed, d.Q.tau);
  });
  enter("lapack_larft", "tau", [](data& d) {
    d.result.setZero();
    bench::lapack::larft(hoft::as_view(std::as_const(d.Q.packed)), d.Q.tau.data(), hoft::as_view(d.result));
  });
  return contest;
}

}  // namespace

int main(int argc, char** argv) {
  return bench::run(argc, argv, "accumulate",
                    [](auto type, bench::shape s) { return accumulate_contest<decltype(type)>(s); });
}
