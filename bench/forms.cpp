// SPDX-License-Identifier: BSD-3-Clause
// forms.cpp: the forms of one call side by side: a result in the caller's memory with a workspace (hoft), one that is
// refilled, and one that is returned and given back.
#include "products.hpp"
#include "program.hpp"
#include "reflectors.hpp"

#include <hoft/hoft.hpp>

namespace bench {
namespace {

template <class T>
struct forms_case {
  reflectors<T> left, right;
  hoft::adapter<T> adapter;
  matrix_view<T const> X, dY;
  hoft::scratch scratch;
  hoft::cpu policy{.scratch = &scratch};
  memory work;

  forms_case(shape s, index_t (*bytes)(hoft::adapter<T> const&, matrix_view<T const>))
      : left(s.m, s.r, 1),
        right(s.n, s.r, 2),
        adapter(left.U, right.U),
        X(numbers<T>("X", s.m, s.n)),
        dY(numbers<T>("dY", s.m, s.n)),
        work(bytes(adapter, X)) {}
};

template <class T>
struct apply_backward_forms : forms_case<T> {
  matrix_view<T> dX;
  hoft::dense_matrix<T> dU;
  hoft::apply_gradient<T, T, hoft::col_major> g;

  explicit apply_backward_forms(shape s)
      : forms_case<T>(
            s, [](auto const& a, auto x) { return hoft::apply_backward_workspace(hoft::cpu{}, a.left().view(), x); }),
        dX(room<T>("dX", s.m, s.n)),
        dU(s.m, s.r) {
    refill();  // results have their places from here on
  }
  void into_memory() {
    hoft::apply_backward(hoft::cpu{}, this->adapter.left().view(), this->X, this->dY, dX, as_view(dU),
                         hoft::vector_view<T>{}, hoft::side::left, hoft::op::plain, this->work);
  }
  void refill() { hoft::apply_backward(this->policy, this->adapter.left(), this->X, this->dY, g); }
  void value() const { static_cast<void>(hoft::apply_backward(this->adapter.left(), this->X, this->dY)); }
  std::vector<matrix_view<T const>> of_memory() const { return {dX, as_view(dU)}; }
  std::vector<matrix_view<T const>> refilled() const { return {as_view(g.dX), as_view(g.dU)}; }
};

template <class T>
struct merge_forms : forms_case<T> {
  matrix_view<T> Mhat;
  hoft::dense_matrix<T> kept;

  explicit merge_forms(shape s)
      : forms_case<T>(s, [](auto const& a, auto m) { return hoft::merge_workspace(hoft::cpu{}, a.view(), m); }),
        Mhat(room<T>("Mhat", s.m, s.n)) {
    refill();
  }
  void into_memory() { hoft::merge(hoft::cpu{}, this->adapter.view(), this->X, Mhat, this->work); }
  void refill() { hoft::merge(this->policy, this->adapter, this->X, kept); }
  void value() const {
    hoft::dense_matrix<T> M;
    hoft::merge(this->adapter, this->X, M);
  }
  std::vector<matrix_view<T const>> of_memory() const { return {Mhat}; }
  std::vector<matrix_view<T const>> refilled() const { return {as_view(kept)}; }
};

template <class Data>
contest<float> contest_of_forms(shape s, hoft::cost cost) {
  auto const c = std::make_shared<Data>(s);
  contest<float> contest{std::max(s.m, s.n)};
  contest.enter("hoft", {"hoft", [c] { c->into_memory(); }, cost}, c->of_memory());
  contest.enter("hoft", {"hoft_refilled", [c] { c->refill(); }, cost}, c->refilled());
  contest.enter("value", {"hoft_value", [c] { c->value(); }, cost}, {});  // gone before it could be compared
  return contest;
}

}  // namespace

void forms_cases(program& p) {
  shape const s = p.quick() ? smallest : large;
  double const m = double(s.m), n = double(s.n), r = double(s.r);
  p.hold<float>("apply_backward_forms", s, [&] {
    auto const cost = hoft::apply_backward_cost(m, n, r, double(hoft::default_block), sizeof(float));
    return contest_of_forms<apply_backward_forms<float>>(s, cost);
  });
  p.hold<float>("merge_forms", s,
                [&] { return contest_of_forms<merge_forms<float>>(s, hoft::merge_cost(m, n, r, r, sizeof(float))); });
}

}  // namespace bench
