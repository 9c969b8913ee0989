// SPDX-License-Identifier: BSD-3-Clause
// storage.cpp: hoft on matrices that are stored in 16 bits, beside hoft on floats: Q X, its gradients, M̂, and the
// forward and backward passes of a layer. Sums are floats in all of them.
#include "program.hpp"
#include "reflectors.hpp"

#include <hoft/hoft.hpp>

namespace bench {
namespace {

/// A job on storage S: what it leaves in S, and what it leaves as floats.
template <class S>
struct left_behind {
  std::vector<matrix_view<S const>> stored;
  std::vector<matrix_view<float const>> sums = {};
};

template <class S>
struct stored_apply {
  using value_type = S;
  reflectors<float> Q;
  matrix_view<S const> start;
  matrix_view<S> X;
  memory work;

  explicit stored_apply(shape s)
      : Q(s.m, s.r, 1),
        start(numbers<S>("start", s.m, s.n)),
        X(room<S>("X", s.m, s.n)),
        work(hoft::apply_workspace(hoft::cpu{}, Q.form.view(), X)) {}

  static hoft::cost cost(shape s) {
    return hoft::apply_cost(double(s.m), double(s.n), double(s.r), double(hoft::default_block), sizeof(S));
  }
  void prepare() { assign(start, X); }
  void run() { apply(hoft::cpu{}, Q.form.view(), X, X, hoft::side::left, hoft::op::plain, work); }
  left_behind<S> results() const { return {{X}}; }
};

template <class S>
struct stored_apply_backward {
  using value_type = S;
  reflectors<float> Q;
  matrix_view<S const> X, dY;
  matrix_view<S> dX;
  hoft::dense_matrix<float> dU;
  memory work;

  explicit stored_apply_backward(shape s)
      : Q(s.m, s.r, 1),
        X(numbers<S>("X", s.m, s.n)),
        dY(numbers<S>("dY", s.m, s.n)),
        dX(room<S>("dX", s.m, s.n)),
        dU(s.m, s.r),
        work(hoft::apply_backward_workspace(hoft::cpu{}, Q.form.view(), X)) {}

  static hoft::cost cost(shape s) {
    return hoft::apply_backward_cost(double(s.m), double(s.n), double(s.r), double(hoft::default_block), sizeof(S));
  }
  void prepare() {}
  void run() {
    hoft::apply_backward(hoft::cpu{}, Q.form.view(), X, dY, dX, as_view(dU), hoft::vector_view<float>{},
                         hoft::side::left, hoft::op::plain, work);
  }
  left_behind<S> results() const { return {{dX}, {as_view(dU)}}; }
};

template <class S>
struct stored_merge {
  using value_type = S;
  hoft::adapter<float> adapter;
  matrix_view<S const> M;
  matrix_view<S> Mhat;
  memory work;

  explicit stored_merge(shape s)
      : adapter(reflectors<float>(s.m, s.r, 1).U, reflectors<float>(s.n, s.r, 2).U),
        M(numbers<S>("M", s.m, s.n)),
        Mhat(room<S>("Mhat", s.m, s.n)),
        work(hoft::merge_workspace(hoft::cpu{}, adapter.view(), Mhat)) {}

  static hoft::cost cost(shape s) {
    return hoft::merge_cost(double(s.m), double(s.n), double(s.r), double(s.r), sizeof(S));
  }
  void prepare() {}
  void run() { hoft::merge(hoft::cpu{}, adapter.view(), M, Mhat, work); }
  left_behind<S> results() const { return {{Mhat}}; }
};

/// The base operator is hoft's too, on a weight that is stored as the tokens are.
template <class S>
struct stored_step {
  using value_type = S;
  hoft::adapter<float> adapter;
  matrix_view<S const> M, x, gradient;
  matrix_view<S> y, dy, dx;
  carved<hoft::bound_layer_view<float>> bound;
  carved<hoft::layer_state<float, S, hoft::col_major>> state;
  carved<hoft::layer_gradient_view<float>> sums;
  memory work;

  explicit stored_step(shape s)
      : adapter(reflectors<float>(s.m, s.r, 1).U, reflectors<float>(s.n, s.r, 2).U),
        M(numbers<S>("M", s.m, s.n)),
        x(numbers<S>("tokens", s.n, s.t)),
        gradient(numbers<S>("gradient", s.m, s.t)),
        y(room<S>("y", s.m, s.t)),
        dy(room<S>("dy", s.m, s.t)),
        dx(room<S>("dx", s.n, s.t)),
        bound([&](hoft::arena& arena) { return hoft::carve_layer(arena, adapter.view()); }),
        state([&](hoft::arena& arena) {
          return hoft::carve_layer_state<S, hoft::col_major>(arena, adapter.view(), s.t);
        }),
        sums([&](hoft::arena& arena) { return hoft::carve_layer_gradient(arena, adapter.view()); }),
        work(std::max({hoft::bind_workspace<S>(hoft::cpu{}, adapter.view()),
                       hoft::forward_workspace(hoft::cpu{}, bound.parts, x),
                       hoft::backward_workspace(hoft::cpu{}, bound.parts, state.parts)})) {
    auto base = hoft::dense(hoft::cpu{}, M);
    hoft::bind_layer<S>(hoft::cpu{}, adapter.view(), base, bound.parts, work);
  }

  static hoft::cost cost(shape s) {
    double const m = double(s.m), n = double(s.n), t = double(s.t), r = double(s.r);
    return hoft::forward_cost(m, n, t, r, r, sizeof(S)) + hoft::backward_cost(m, n, t, r, r, sizeof(S));
  }
  /// Repeated, the backward pass works on the gradient that it left itself: of the same length, since Q_U is
  /// orthogonal.
  void prepare() {
    assign(gradient, dy);
    hoft::set_zero(hoft::cpu{}, sums.parts);
  }
  void run() {
    auto base = hoft::dense(hoft::cpu{}, M);
    hoft::forward(hoft::cpu{}, bound.parts, base, x, y, state.parts, work);
    hoft::backward(hoft::cpu{}, bound.parts, base, x, y, state.parts, dy, dy, dx, sums.parts, work);
  }
  left_behind<S> results() const {
    auto const& g = sums.parts;
    return {{y, dx}, {g.D_U, g.minus_dK, g.D_V}};
  }
};

/// Enters a job on its storage. Results in 16 bits are compared as floats, in memory that all such jobs share.
template <class Job>
void enter(contest<float>& contest, char const* name, shape s) {
  using S = typename Job::value_type;
  auto const job = std::make_shared<Job>(s);
  left_behind<S> const left = job->results();
  contestant<float> entry{{name, [job] { job->run(); }, Job::cost(s), [job] { job->prepare(); }}, left.sums};
  std::vector<matrix_view<float>> widened;
  for (matrix_view<S const> const& result : left.stored) {
    if constexpr (std::same_as<S, float>) {
      entry.results.push_back(result);
    } else {
      widened.push_back(room<float>("widened/" + std::to_string(widened.size()), result.rows, result.cols));
      entry.results.push_back(widened.back());
    }
  }
  if constexpr (!std::same_as<S, float>) {
    entry.widen = [from = left.stored, widened] {
      for (std::size_t i = 0; i < widened.size(); ++i) as_eigen(widened[i]) = as_eigen(from[i]).template cast<float>();
    };
    entry.storage_epsilon = double(std::numeric_limits<S>::epsilon());
  }
  contest.contestants.push_back(std::move(entry));
}

template <template <class> class Job>
contest<float> contest_of_storage(shape s) {
  contest<float> contest{std::max({s.m, s.n, s.t})};
  enter<Job<float>>(contest, "hoft", s);
  enter<Job<Eigen::bfloat16>>(contest, "hoft_bfloat16", s);
  enter<Job<Eigen::half>>(contest, "hoft_half", s);
  return contest;
}

}  // namespace

void storage_cases(program& p) {
  shape const one = p.quick() ? smallest : large, layer = p.quick() ? smallest : middle;
  p.hold<float>("apply_storage", one, [&] { return contest_of_storage<stored_apply>(one); });
  p.hold<float>("apply_backward_storage", one, [&] { return contest_of_storage<stored_apply_backward>(one); });
  p.hold<float>("merge_storage", one, [&] { return contest_of_storage<stored_merge>(one); });
  p.hold<float>("step_storage", layer, [&] { return contest_of_storage<stored_step>(layer); });
}

}  // namespace bench
