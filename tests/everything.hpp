// Every call that takes views and a workspace, once, on padded storage: what the promises are checked on.
#pragma once
#include "support.hpp"

#include <hoft/hoft.hpp>

#include <string>

namespace hoft_test {

struct shape {
  index_t m, n, t, ru, rv, block;
};

/// Inputs and outputs of one run. `scaled` chooses SHOFT or HOFT, `keep_q` whether the forward pass saves q.
template <class T, class L, class Policy = hoft::cpu>
class everything {
 public:
  using A = hoft::accumulator_t<T>;
  using out = padded<T, L>;
  using acc = padded<A, col_major>;

  everything(shape s, bool scaled, bool keep_q, unsigned seed)
      : shape_(s),
        keep_q_(keep_q),
        U(gaussian<T, L>(s.m, s.ru, seed)),
        V(gaussian<T, L>(s.n, s.rv, seed + 1)),
        geqrf(gaussian<T, L>(s.m, s.ru, seed + 2, 0.1)),
        M(gaussian<T, L>(s.m, s.n, seed + 3)),
        X(gaussian<T, L>(s.m, s.t, seed + 4)),
        dY(gaussian<T, L>(s.m, s.t, seed + 5)),
        dMhat(gaussian<T, L>(s.m, s.n, seed + 6)),
        x(gaussian<T, L>(s.n, s.t + s.rv, seed + 7)),
        dy(gaussian<T, L>(s.m, s.t + s.rv, seed + 8)),
        tau(gaussian<T>(s.ru, 1, seed + 9)),
        scale(gaussian<T>(scaled ? s.m : 0, 1, seed + 10)),
        Y(s.m, s.t),
        Xr(gaussian<T, L>(s.t, s.m, seed + 11)),
        E(s.m, s.m),
        dX(s.m, s.t),
        dXout(s.m, s.t),
        dXt(s.m, s.t),
        Mhat(s.m, s.n),
        Mback(s.m, s.n),
        y(s.m, s.t + s.rv),
        dx(s.n, s.t + s.rv),
        left(s.m, s.ru + s.rv),
        right(s.ru + s.rv, s.n),
        W(s.ru, s.t),
        dU(s.m, s.ru),
        dUout(s.m, s.ru),
        dV(s.m, s.ru),
        wU(s.m, s.ru),
        wV(s.n, s.rv),
        fU(s.m, s.ru),
        fV(s.n, s.rv),
        dtau(s.ru),
        ws(scaled ? s.m : 0),
        fs(scaled ? s.m : 0) {
    dtau.setZero(), ws.setZero(), fs.setZero();
  }

  /// around(name, call): runs `call`, and may watch it.
  template <class Around>
  void run(Policy const& policy, Around const& around) {
    using namespace hoft;
    auto const& s = shape_;
    inverse const exactly = exact{};
    auto const form = [&](index_t m, index_t r, index_t block) {
      carver count;
      carve_compact_wy<A>(count, m, r, block);
      carver memory(keep(count.size()));
      return carve_compact_wy<A>(memory, m, r, block);
    };
    compact_wy_view<A> QU = form(s.m, s.ru, s.block), QV = form(s.n, s.rv, std::max<index_t>(1, s.rv)),
                       QT = form(s.m, s.ru, s.block), QN = form(s.m, s.ru, std::max<index_t>(1, s.ru));
    auto const call = [&](char const* name, index_t bytes, auto const& f) {
      guarded_workspace work(bytes);
      around(name, [&] { f(workspace(work)); });
      CHECK_MESSAGE(work.intact(), std::string(name), " wrote outside its workspace");
    };
    call("accumulate U", accumulate_workspace<A>(policy, s.ru, s.block),
         [&](workspace w) { accumulate(policy, in(U), QU, exactly, w); });
    call("accumulate V", accumulate_workspace<A>(policy, s.rv, QV.block),
         [&](workspace w) { accumulate(policy, in(V), QV, exactly, w); });
    call("accumulate tau", accumulate_workspace<A>(policy, s.ru, s.block),
         [&](workspace w) { accumulate(policy, geqrf.view(), as_vector_view(tau), QT, w); });
    call("accumulate neumann", accumulate_workspace<A>(policy, s.ru, QN.block, neumann{2}),
         [&](workspace w) { accumulate(policy, in(U), QN, neumann{2}, w); });
    call("apply", apply_workspace(policy, QU, in(X)),
         [&](workspace w) { apply(policy, QU, in(X), Y.view(), side::left, op::plain, w); });
    call("apply right", apply_workspace(policy, QU, in(Xr), side::right),
         [&](workspace w) { apply(policy, QU, in(Xr), Xr.view(), side::right, op::adjoint, w); });
    call("materialize", materialize_workspace(policy, QU, E.view()),
         [&](workspace w) { materialize(policy, QU, E.view(), w); });
    vector_view<A> const none;
    call("apply_backward", apply_backward_workspace(policy, QU, in(X)), [&](workspace w) {
      apply_backward(policy, QU, in(X), in(dY), dX.view(), dU.view(), none, side::left, op::plain, w);
    });
    call("apply_backward_from_output", apply_backward_workspace(policy, QU, in(Y)), [&](workspace w) {
      apply_backward_from_output(policy, QU, in(Y), in(dY), dXout.view(), dUout.view(), none, side::left, op::plain, w);
    });
    padded<T, L> Yt(s.m, s.t);
    call("apply saving", apply_workspace(policy, QT, in(X)),
         [&](workspace w) { apply(policy, QT, in(X), Yt.view(), side::left, op::plain, w, W.view()); });
    call("apply_backward_from_output, W", apply_backward_workspace(policy, QT, in(Yt)), [&](workspace w) {
      apply_backward_from_output(policy, QT, in(Yt), W.view(), in(dY), dXt.view(), dV.view(), as_vector_view(dtau),
                                 side::left, op::plain, w);
    });
    padded<T, L> Yn(s.m, s.t);
    call("apply neumann", apply_workspace(policy, QN, in(X)),
         [&](workspace w) { apply(policy, QN, in(X), Yn.view(), side::left, op::plain, w); });
    call("apply_backward neumann", apply_backward_workspace(policy, QN, in(X)), [&](workspace w) {
      apply_backward(policy, QN, in(X), in(dY), Yn.view(), dUout.view(), none, side::left, op::plain, w);
    });

    dense_matrix<A> const s_acc = scale.template cast<A>();
    adapter_view<A const> const a{QU, QV, vector_view<A const>(s_acc.data(), s_acc.size())};
    call("merge", merge_workspace(policy, a, in(M)), [&](workspace w) { merge(policy, a, in(M), Mhat.view(), w); });
    Mback.map() = Mhat.map();
    call("unmerge", unmerge_workspace(policy, a, Mback.view()),
         [&](workspace w) { unmerge(policy, a, Mback.view(), w); });
    call("merge_backward", merge_backward_workspace(policy, a, in(M)), [&](workspace w) {
      merge_backward(policy, a, in(M), in(dMhat), wU.view(), wV.view(), as_vector_view(ws), w);
    });
    call("low_rank", low_rank_workspace(policy, a, in(M)),
         [&](workspace w) { low_rank(policy, a, in(M), left.view(), right.view(), w); });
    carver count;
    carve_saved<T, L>(count, a, s.t, keep_q_);
    carver memory(keep(count.size()));
    auto const saved = carve_saved<T, L>(memory, a, s.t, keep_q_);
    dense_operator base(base_policy(policy), in(M));
    call("forward", forward_workspace(policy, a, x.view()),
         [&](workspace w) { forward(policy, a, base, x.view(), y.view(), saved, w); });
    call("backward", backward_workspace(policy, a, saved), [&](workspace w) {
      backward(policy, a, base, in(x).columns(0, s.t), in(y).columns(0, s.t), saved, dy.view(), dx.view(), fU.view(),
               fV.view(), as_vector_view(fs), w);
    });
    Ytau = Yt.map(), Yneumann = Yn.map();
  }
  void run(Policy const& policy) {
    run(policy, [](char const*, auto const& call) { call(); });
  }

  /// f(name, matrix) for every result.
  template <class F>
  void for_each_result(F const& f) const {
    f("apply", Y.map()), f("apply right", Xr.map()), f("materialize", E.map()), f("apply tau", Ytau);
    f("apply_backward dX", dX.map()), f("apply_backward dU", dU.map());
    f("from output dX", dXout.map()), f("neumann dU", dUout.map()), f("neumann dX", Yneumann);
    f("W", W.map()), f("tau dX", dXt.map()), f("tau dV", dV.map()), f("dtau", dtau);
    f("merge", Mhat.map()), f("unmerge", Mback.map()), f("merge dU", wU.map()), f("merge dV", wV.map()),
        f("merge ds", ws);
    f("low rank L", left.map()), f("low rank R", right.map());
    f("forward y", y.map().leftCols(shape_.t)), f("backward dx", dx.map().leftCols(shape_.t));
    f("backward dU", fU.map()), f("backward dV", fV.map()), f("backward ds", fs);
  }
  bool intact() const {
    bool all = true;
    for (auto const* a : {&U, &V,  &geqrf, &M,   &X,    &dY,    &dMhat, &x,  &dy,   &Y,    &Xr,
                          &E, &dX, &dXout, &dXt, &Mhat, &Mback, &y,     &dx, &left, &right})
      all = all && a->intact();
    for (auto const* a : {&W, &dU, &dUout, &dV, &wU, &wV, &fU, &fV}) all = all && a->intact();
    return all;
  }

 private:
  static hoft::matrix_view<T const, L> in(padded<T, L> const& a) { return a.view(); }
  static hoft::cpu base_policy(Policy const& policy) {
    if constexpr (std::is_same_v<Policy, hoft::cpu>) return policy;
    else return {};
  }
  hoft::workspace keep(index_t bytes) {
    kept_.emplace_back(std::size_t(bytes));
    return {kept_.back().data(), bytes};
  }

  shape shape_;
  bool keep_q_;
  out U, V, geqrf, M, X, dY, dMhat, x, dy;
  Eigen::Matrix<T, Eigen::Dynamic, 1> tau, scale;
  out Y, Xr, E, dX, dXout, dXt, Mhat, Mback, y, dx, left, right;
  acc W, dU, dUout, dV, wU, wV, fU, fV;
  Eigen::Matrix<A, Eigen::Dynamic, 1> dtau, ws, fs;
  dense_matrix<T, L> Ytau, Yneumann;
  std::vector<std::vector<std::byte>> kept_;
};

}  // namespace hoft_test
