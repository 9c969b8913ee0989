// SPDX-License-Identifier: BSD-3-Clause
// Every call that takes views and a workspace, once, on padded storage: what the promises are checked on.
#pragma once
#include "support.hpp"

#include <hoft/hoft.hpp>

#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace hoft_test {

struct shape {
  index_t m, n, t, ru, rv, block;
};

/// Inputs and outputs of one run. `scaled` chooses SHOFT or HOFT, `keep_q` whether the forward pass saves q.
/// `Memory` is an allocator of what the policy's calls read and write.
template <class T, class L, class Policy = hoft::cpu, template <class> class Memory = std::allocator>
class everything {
 public:
  using A = hoft::accumulator_t<T>;
  using out = padded<T, L, Memory<T>>;
  using acc = padded<A, col_major, Memory<A>>;

  /// Leading dimensions exceed extents by `padding`, and `shift` is as in `padded`.
  everything(shape s, bool scaled, bool keep_q, unsigned seed, index_t padding = 3, index_t shift = 0)
      : shape_(s),
        keep_q_(keep_q),
        padding_(padding),
        shift_(shift),
        U(gaussian<T, L>(s.m, s.ru, seed), padding, shift),
        V(gaussian<T, L>(s.n, s.rv, seed + 1), padding, shift),
        geqrf(gaussian<T, L>(s.m, s.ru, seed + 2, 0.1), padding, shift),
        M(gaussian<T, L>(s.m, s.n, seed + 3), padding, shift),
        X(gaussian<T, L>(s.m, s.t, seed + 4), padding, shift),
        dY(gaussian<T, L>(s.m, s.t, seed + 5), padding, shift),
        dMhat(gaussian<T, L>(s.m, s.n, seed + 6), padding, shift),
        x(gaussian<T, L>(s.n, s.t, seed + 7), padding, shift),
        dy(gaussian<T, L>(s.m, s.t, seed + 8), padding, shift),
        tau(gaussian<A>(s.ru, 1, seed + 9), padding, shift),
        scale(gaussian<A>(scaled ? s.m : 0, 1, seed + 10), padding, shift),
        Y(s.m, s.t, padding, shift),
        Xr(gaussian<T, L>(s.t, s.m, seed + 11), padding, shift),
        E(s.m, s.m, padding, shift),
        dX(s.m, s.t, padding, shift),
        dXout(s.m, s.t, padding, shift),
        dXt(s.m, s.t, padding, shift),
        Mhat(s.m, s.n, padding, shift),
        Mback(s.m, s.n, padding, shift),
        y(s.m, s.t, padding, shift),
        yu(s.m, s.t, padding, shift),
        dbase(s.m, s.t, padding, shift),
        dx(s.n, s.t, padding, shift),
        left(s.m, s.ru + s.rv, padding, shift),
        right(s.ru + s.rv, s.n, padding, shift),
        dleft(s.m, s.ru + s.rv, padding, shift),
        dright(s.ru + s.rv, s.n, padding, shift),
        W(s.ru, s.t, padding, shift),
        dU(s.m, s.ru, padding, shift),
        dUout(s.m, s.ru, padding, shift),
        dV(s.m, s.ru, padding, shift),
        wU(s.m, s.ru, padding, shift),
        wV(s.n, s.rv, padding, shift),
        fU(s.m, s.ru, padding, shift),
        fV(s.n, s.rv, padding, shift),
        magnitude(s.m, 1, padding, shift),
        dtau(s.ru, 1, padding, shift),
        ws(scaled ? s.m : 0, 1, padding, shift),
        fs(scaled ? s.m : 0, 1, padding, shift) {}

  /// around(name, call): runs `call`, and may watch it.
  template <class Around>
  void run(Policy const& policy, Around const& around) {
    using namespace hoft;
    auto const& s = shape_;
    inverse const exactly = exact{};
    auto const form = [&](index_t m, index_t r, index_t block) {
      arena count;
      carve_compact_wy<A>(count, m, r, block);
      arena memory(keep(count.size()));
      return carve_compact_wy<A>(memory, m, r, block);
    };
    compact_wy_view<A> QU = form(s.m, s.ru, s.block), QV = form(s.n, s.rv, std::max<index_t>(1, s.rv)),
                       QT = form(s.m, s.ru, s.block), QN = form(s.m, s.ru, std::max<index_t>(1, s.ru));
    auto const call = [&](char const* name, index_t bytes, auto const& f) {
      guarded_memory<Memory<std::byte>> work(bytes);
      around(name, [&] { f(workspace(work)); });
      CHECK_MESSAGE(work.intact(), std::string(name), " wrote outside its workspace");
    };
    call("accumulate U", accumulate_workspace<A>(policy, s.ru, s.block),
         [&](workspace w) { accumulate(policy, in(U), QU, exactly, w); });
    call("accumulate V", accumulate_workspace<A>(policy, s.rv, QV.block),
         [&](workspace w) { accumulate(policy, in(V), QV, exactly, w); });
    call("accumulate tau", accumulate_workspace<A>(policy, s.ru, s.block),
         [&](workspace w) { accumulate(policy, geqrf.view(), vector(tau), QT, w); });
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
    out Yt(s.m, s.t, padding_, shift_);
    call("apply saving", apply_workspace(policy, QT, in(X)),
         [&](workspace w) { apply(policy, QT, in(X), Yt.view(), side::left, op::plain, w, W.view()); });
    call("apply_backward_from_output, W", apply_backward_workspace(policy, QT, in(Yt)), [&](workspace w) {
      apply_backward_from_output(policy, QT, in(Yt), W.view(), in(dY), dXt.view(), dV.view(), vector(dtau), side::left,
                                 op::plain, w);
    });
    out Yn(s.m, s.t, padding_, shift_);
    call("apply neumann", apply_workspace(policy, QN, in(X)),
         [&](workspace w) { apply(policy, QN, in(X), Yn.view(), side::left, op::plain, w); });
    call("apply_backward neumann", apply_backward_workspace(policy, QN, in(X)), [&](workspace w) {
      apply_backward(policy, QN, in(X), in(dY), Yn.view(), dUout.view(), none, side::left, op::plain, w);
    });

    adapter_view<A const> const a{QU, QV, vector(scale)};
    call("merge", merge_workspace(policy, a, in(M)), [&](workspace w) { merge(policy, a, in(M), Mhat.view(), w); });
    Mback.map() = Mhat.map();
    call("unmerge", unmerge_workspace(policy, a, Mback.view()),
         [&](workspace w) { unmerge(policy, a, Mback.view(), w); });
    call("merge_backward", merge_backward_workspace(policy, a, in(M)),
         [&](workspace w) { merge_backward(policy, a, in(M), in(dMhat), wU.view(), wV.view(), vector(ws), w); });
    call("low_rank", low_rank_workspace(policy, a, in(M)),
         [&](workspace w) { low_rank(policy, a, in(M), left.view(), right.view(), w); });
    call("scaled_low_rank", scaled_low_rank_workspace(policy, a, in(M)),
         [&](workspace w) { scaled_low_rank(policy, a, in(M), dleft.view(), dright.view(), vector(magnitude), w); });
    auto const base = base_of(policy, in(M));
    arena count;
    auto const carve = [&](arena& from) {
      auto const parts = carve_layer(from, a);
      auto const tokens = carve_layer_state<T, L>(from, a, s.t, keep_q_);
      return std::make_tuple(parts, tokens, carve_layer_gradient(from, a));
    };
    carve(count);
    arena memory(keep(count.size()));
    auto [layer, state, g] = carve(memory);
    call("bind_layer", bind_workspace<T, L>(policy, a),
         [&, &of = layer](workspace w) { bind_layer<T, L>(policy, a, base, of, w); });
    set_zero(policy, g);
    call("forward", forward_workspace(policy, layer, in(x)), [&, &of = layer, &left_state = state](workspace w) {
      forward(policy, of, base, in(x), y.view(), left_state, w);
    });
    call("forward, nothing saved", forward_workspace(policy, layer, in(x), false),
         [&, &of = layer](workspace w) { forward(policy, of, base, in(x), yu.view(), w); });
    call("backward", backward_workspace(policy, layer, state),
         [&, &of = layer, &left_state = state, &sums = g](workspace w) {
           backward(policy, of, base, in(x), in(y), left_state, in(dy), dbase.view(), dx.view(), sums, w);
         });
    call("finish", finish_workspace<T, L>(policy, layer), [&, &of = layer, &sums = g](workspace w) {
      finish<T, L>(policy, of, base, sums, fU.view(), fV.view(), vector(fs), w);
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
    f("W", W.map()), f("tau dX", dXt.map()), f("tau dV", dV.map()), f("dtau", dtau.map());
    f("merge", Mhat.map()), f("unmerge", Mback.map()), f("merge dU", wU.map()), f("merge dV", wV.map()),
        f("merge ds", ws.map());
    f("low rank L", left.map()), f("low rank R", right.map());
    f("scaled low rank L", dleft.map()), f("scaled low rank R", dright.map()), f("magnitude", magnitude.map());
    f("forward y", y.map()), f("forward y, nothing saved", yu.map()), f("backward dx", dx.map());
    f("backward dU", fU.map()), f("backward dV", fV.map()), f("backward ds", fs.map());
  }
  bool intact() const {
    bool all = true;
    for (auto const* a : {&U,     &V,   &geqrf, &M,     &X, &dY, &dMhat, &x,  &dy,   &Y,     &Xr,    &E,     &dX,
                          &dXout, &dXt, &Mhat,  &Mback, &y, &yu, &dbase, &dx, &left, &right, &dleft, &dright})
      all = all && a->intact();
    for (auto const* a : {&tau, &scale, &W, &dU, &dUout, &dV, &wU, &wV, &fU, &fV, &dtau, &ws, &fs, &magnitude})
      all = all && a->intact();
    return all;
  }

 private:
  static hoft::matrix_view<T const, L> in(out const& a) { return a.view(); }
  template <class Column>
  static auto vector(Column& a) {
    auto const whole = a.view();
    return hoft::vector_view<std::remove_pointer_t<decltype(whole.data)>>(whole.data, whole.rows);
  }
  /// The policy's own operator of a dense weight, found by its type.
  static auto base_of(Policy const& policy, hoft::matrix_view<T const, L> weight) {
    if constexpr (std::is_same_v<Policy, hoft::cpu>) return hoft::dense_operator(policy, weight);
    else return dense(policy, weight);
  }
  hoft::workspace keep(index_t bytes) {
    kept_.emplace_back(std::size_t(bytes));
    return {kept_.back().data(), bytes};
  }

  shape shape_;
  bool keep_q_;
  index_t padding_, shift_;
  out U, V, geqrf, M, X, dY, dMhat, x, dy;
  acc tau, scale;
  out Y, Xr, E, dX, dXout, dXt, Mhat, Mback, y, yu, dbase, dx, left, right, dleft, dright;
  acc W, dU, dUout, dV, wU, wV, fU, fV, magnitude, dtau, ws, fs;
  dense_matrix<T, L> Ytau, Yneumann;
  std::vector<std::vector<std::byte, Memory<std::byte>>> kept_;
};

/// Names and values of all results.
template <class T>
using named_results = std::vector<std::pair<std::string, dense_matrix<T>>>;
template <class T, class Everything>
named_results<T> results_of(Everything const& all) {
  named_results<T> results;
  all.for_each_result([&](char const* name, auto const& a) { results.emplace_back(name, a.template cast<T>()); });
  return results;
}

/// Compares run(shape, scaled, keep_q, seed), the results of another backend, with those of the CPU. They differ by
/// rounding only: 1e-9 in double is a million roundings, and a wrong formula is seen.
template <class T, class Run>
void check_everything(Run const& run) {
  for (auto const s : {shape{50, 33, 40, 20, 9, 8}, {33, 70, 17, 5, 6, 64}, {20, 20, 5, 0, 3, 64}, {9, 7, 3, 4, 0, 2}})
    for (bool scaled : {false, true})
      for (bool keep_q : {false, true}) {
        everything<T, row_major> cpu(s, scaled, keep_q, 11);
        cpu.run({});
        named_results<T> const expected = results_of<T>(cpu), actual = run(s, scaled, keep_q, 11u);
        REQUIRE(actual.size() == expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i) {
          auto const& value = expected[i].second;
          CHECK_MESSAGE((actual[i].second - value).norm() <= 1e-9 * value.norm(), expected[i].first,
                        " differs, m = ", s.m);
        }
      }
}

}  // namespace hoft_test
