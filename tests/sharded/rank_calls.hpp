// SPDX-License-Identifier: BSD-3-Clause
// Every call of sharded problems on one rank, judged by reflectors one after another in long double (what the whole
// must be is known on every rank), and what every rank must hold with the same bits.
#pragma once
#include "../conformance/calls.hpp"

#include <hoft/sharded/backend.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace hoft_test {

/// The rows or columns of a whole that one rank holds.
struct part_of_whole {
  index_t first, count;
};
/// Of `extent` on `ranks` ranks: uneven on purpose, and nothing on the second of four or more.
inline part_of_whole part_on(index_t extent, int rank, int ranks) {
  auto const weight = [ranks](int r) { return index_t(ranks > 3 && r == 1 ? 0 : 2 + r % 3); };
  index_t all = 0, before = 0;
  for (int r = 0; r < ranks; ++r) all += weight(r);
  for (int r = 0; r < rank; ++r) before += weight(r);
  index_t const first = extent * before / all;
  return {first, extent * (before + weight(rank)) / all - first};
}

/// FNV-1a, for matrices that must have the same bits on all ranks.
class digest {
 public:
  template <class T, class L>
  void add(hoft::matrix_view<T, L> A) {
    for (index_t j = 0; j < A.cols; ++j)
      for (index_t i = 0; i < A.rows; ++i) add(&A(i, j), sizeof(T));
  }
  std::uint64_t value() const { return value_; }

 private:
  void add(void const* data, std::size_t bytes) {
    auto const* const of = static_cast<unsigned char const*>(data);
    for (std::size_t i = 0; i < bytes; ++i) value_ = (value_ ^ of[i]) * 1099511628211u;
  }
  std::uint64_t value_ = 14695981039346656037u;
};

/// What one rank has found.
struct rank_report {
  std::vector<std::string> failures;
  std::map<std::string, std::uint64_t> shared;   ///< the same on every rank
  std::map<std::string, std::uint64_t> results;  ///< this rank's, by their bits
  std::size_t judged = 0;
};

/// Calls on the rank that `policy` (of any split) belongs to. `Memory` is an allocator of what they read and write.
/// Matrices of odd ranks are padded: their messages are those of the others.
template <class T, class L, class Policy, template <class> class Memory = std::allocator>
class rank_calls {
 public:
  using A = hoft::accumulator_t<T>;
  using W = wide_t<T>;
  using matrix = padded<T, L, Memory<T>>;
  using sums = padded<A, col_major, Memory<A>>;

  /// finish() waits for what was submitted.
  rank_calls(
      Policy const& policy, shape const& s, bool scaled, bool keep_q, unsigned seed,
      std::function<void()> finish = [] {})
      : policy_(policy),
        finish_(std::move(finish)),
        s_(s),
        keep_q_(keep_q),
        padding_(policy.ranks->rank() % 2 == 0 ? 0 : 3),
        rows_(part_if(policy.of == hoft::split::rows || policy.of == hoft::split::tall, s.m)),
        cols_(part_if(policy.of == hoft::split::columns, s.n)),
        judges_(s, scaled, keep_q, seed),
        U(part(s.m, s.ru, seed, rows_, {0, s.ru})),
        V(part(s.n, s.rv, seed + 1, cols_, {0, s.rv})),
        M(part(s.m, s.n, seed + 3, rows_, cols_)),
        X(part(s.m, s.t, seed + 4, rows_, tokens())),
        dY(part(s.m, s.t, seed + 5, rows_, tokens())),
        dMhat(part(s.m, s.n, seed + 6, rows_, cols_)),
        x(part(s.n, s.t, seed + 7, cols_, tokens())),
        dy(part(s.m, s.t, seed + 8, rows_, tokens())),
        Xr(part(s.t, s.m, seed + 11, tokens(), rows_)),
        scale(scaled ? block(gaussian<A>(s.m, 1, seed + 10), rows_, {0, 1}) : dense_matrix<A>(0, 1)) {}

  rank_report run() {
    if (policy_.of == hoft::split::tall) run_tall();
    else run_weight();
    return report_;
  }

 private:
  part_of_whole part_if(bool is_split, index_t extent) const {
    return is_split ? part_on(extent, policy_.ranks->rank(), policy_.ranks->size()) : part_of_whole{0, extent};
  }
  part_of_whole tokens() const { return {0, s_.t}; }
  template <class D>
  static D block(D const& whole, part_of_whole rows, part_of_whole cols) {
    return whole.block(rows.first, cols.first, rows.count, cols.count);
  }
  matrix part(index_t m, index_t n, unsigned seed, part_of_whole rows, part_of_whole cols) const {
    return matrix(block(gaussian<T, L>(m, n, seed), rows, cols), padding_);
  }
  matrix result(index_t rows, index_t cols) const { return matrix(rows, cols, padding_); }
  sums result_sums(index_t rows, index_t cols) const { return sums(rows, cols, padding_); }

  /// actual is a block of the result of that name.
  template <class M>
  void judge(std::string const& name, M const& actual, part_of_whole rows, part_of_whole cols) {
    if (!actual.intact()) report_.failures.push_back(name + " was written beside its elements");
    auto const found = judges_.results.find(name);
    if (found == judges_.results.end()) return;
    report_.results[name] = bits_of(actual.view());
    judge_value(name, found->second, widen(actual.map()), rows, cols);
  }
  void judge_value(std::string const& name, judged_result<W> const& whole, deducible<W> const& here, part_of_whole rows,
                   part_of_whole cols, long double more = 0) {
    ++report_.judged;
    deducible<W> const expected = whole.value.block(rows.first, cols.first, rows.count, cols.count);
    std::string text;
    if (here.rows() != expected.rows() || here.cols() != expected.cols()) {
      text = "has another shape";
    } else if (whole.bound.size() > 0) {
      bound_matrix const allowed = whole.bound.block(rows.first, cols.first, rows.count, cols.count);
      if (auto const c = within(here, expected, allowed); !c) {
        std::ostringstream out;
        out << c;
        text = out.str();
      }
    } else if (here.size() > 0) {
      long double const error = (here - expected).norm(), allowed = whole.norm + more;
      if (!(error <= allowed)) text = "is off by " + std::to_string(error) + ", allowed " + std::to_string(allowed);
    }
    if (!text.empty()) report_.failures.push_back(name + " " + text);
  }
  template <class... Views>
  static std::uint64_t bits_of(Views const&... views) {
    digest sum;
    (sum.add(views), ...);
    return sum.value();
  }
  template <class... Views>
  void same_everywhere(std::string const& name, Views const&... views) {
    report_.shared[name] = bits_of(views...);
  }
  template <class F>
  void call(char const* name, index_t bytes, F const& f) {
    guarded_memory<Memory<std::byte>> work(bytes);
    f(hoft::workspace(work));
    finish_();
    if (!work.intact()) report_.failures.push_back(std::string(name) + " wrote outside its workspace");
  }
  static auto in(matrix const& a) { return a.view(); }
  /// This rank's part of the weight: a GPU has an operator of its own, dense(policy, M). Asked by its tag: whether that
  /// call compiles nvcc answers otherwise where it looks for kernels, and then leaves those of the operator out.
  auto dense_base() const {
    if constexpr (requires { typename Policy::local_policy::cuda_device_tag; }) return dense(policy_.local, in(M));
    else return hoft::dense_operator(in(M));
  }
  static hoft::vector_view<A> vector(sums& a) { return {a.view().data, a.view().rows}; }

  template <class P>
  hoft::compact_wy_view<A> form(P const& policy, matrix const& reflectors, index_t block, hoft::inverse kind = {}) {
    auto const columns = in(reflectors);
    auto Q = memory_.template cut<A>(columns.rows, columns.cols, block);
    call("accumulate", hoft::accumulate_workspace<A>(policy, columns.cols, block, kind),
         [&](hoft::workspace w) { hoft::accumulate(policy, columns, Q, kind, w); });
    return Q;
  }

  void run_tall() {
    using namespace hoft;
    part_of_whole const ru{0, s_.ru};
    vector_view<A> const none;
    auto const Q = form(policy_, U, s_.block), QN = form(policy_, U, std::max<index_t>(1, s_.ru), neumann{2});
    same_everywhere("T", Q.factor, Q.gram, Q.scales, QN.factor);
    index_t const m = rows_.count;
    matrix Y = result(m, s_.t), dX = result(m, s_.t), turned = result(s_.t, m);
    sums dU = result_sums(m, s_.ru), Z = result_sums(s_.ru, s_.t);
    call("apply", apply_workspace(policy_, Q, in(X)),
         [&](workspace w) { apply(policy_, Q, in(X), Y.view(), side::left, op::plain, w, Z.view()); });
    judge("apply", Y, rows_, tokens());
    same_everywhere("W", Z.view());
    call("apply right", apply_workspace(policy_, Q, in(Xr), side::right),
         [&](workspace w) { apply(policy_, Q, in(Xr), turned.view(), side::right, op::adjoint, w); });
    judge("apply right", turned, tokens(), rows_);
    call("apply_backward", apply_backward_workspace(policy_, Q, in(X)), [&](workspace w) {
      apply_backward(policy_, Q, in(X), in(dY), dX.view(), dU.view(), none, side::left, op::plain, w);
    });
    judge("apply_backward dX", dX, rows_, tokens()), judge("apply_backward dU", dU, rows_, ru);
    call("from output", apply_backward_workspace(policy_, Q, in(Y)), [&](workspace w) {
      apply_backward_from_output(policy_, Q, in(Y), in(dY), dX.view(), dU.view(), none, side::left, op::plain, w);
    });
    judge("from output dX", dX, rows_, tokens());
    call("apply_backward neumann", apply_backward_workspace(policy_, QN, in(X)), [&](workspace w) {
      apply_backward(policy_, QN, in(X), in(dY), dX.view(), dU.view(), none, side::left, op::plain, w);
    });
    judge("neumann dX", dX, rows_, tokens()), judge("neumann dU", dU, rows_, ru);
  }

  void run_weight() {
    auto const QU = form(policy_.left(), U, s_.block), QV = form(policy_.right(), V, std::max<index_t>(1, s_.rv));
    same_everywhere("T", QU.factor, QU.gram, QU.scales, QV.factor, QV.gram, QV.scales);
    auto const s = std::as_const(scale).view();
    hoft::adapter_view<A const> const a{QU, QV, hoft::vector_view<A const>(s.data, s.rows)};
    run_on_weight(a);
    run_on_activations(a);
  }

  void run_on_weight(hoft::adapter_view<A const> const& a) {
    using namespace hoft;
    index_t const m = rows_.count, n = cols_.count, both = s_.ru + s_.rv;
    matrix Mhat = result(m, n), left = result(m, both), right = result(both, n);
    sums dU = result_sums(m, s_.ru), dV = result_sums(n, s_.rv), ds = result_sums(scale.view().rows, 1);
    call("merge", merge_workspace(policy_, a, in(M)), [&](workspace w) { merge(policy_, a, in(M), Mhat.view(), w); });
    judge("merge", Mhat, rows_, cols_);
    call("unmerge", unmerge_workspace(policy_, a, Mhat.view()),
         [&](workspace w) { unmerge(policy_, a, Mhat.view(), w); });
    judge("unmerge", Mhat, rows_, cols_);
    call("merge_backward", merge_backward_workspace(policy_, a, in(M)),
         [&](workspace w) { merge_backward(policy_, a, in(M), in(dMhat), dU.view(), dV.view(), vector(ds), w); });
    judge_gradient("merge", dU, dV, ds);
    call("low_rank", low_rank_workspace(policy_, a, in(M)),
         [&](workspace w) { low_rank(policy_, a, in(M), left.view(), right.view(), w); });
    report_.results["low rank"] = bits_of(left.view(), right.view());
    deducible<W> const l = widen(left.map()), r = widen(right.map());
    judge_value("low rank", judges_.results.at("low rank"), times(l, r), rows_, cols_,
                2 * storage_rounding<T>() * l.norm() * r.norm());
    if (policy_.of == split::columns) same_everywhere("low rank L", left.view());
    else same_everywhere("low rank R", right.view());
    run_scaled_low_rank(a, left, right);
  }

  void run_scaled_low_rank(hoft::adapter_view<A const> const& a, matrix& left, matrix& right) {
    using namespace hoft;
    sums magnitude = result_sums(rows_.count, 1);
    call("scaled_low_rank", scaled_low_rank_workspace(policy_, a, in(M)),
         [&](workspace w) { scaled_low_rank(policy_, a, in(M), left.view(), right.view(), vector(magnitude), w); });
    report_.results["scaled low rank"] = bits_of(left.view(), right.view(), magnitude.view());
    deducible<W> const r = widen(right.map());
    deducible<W> l = deducible<W>::Zero(s_.m, s_.ru + s_.rv);  // among the whole's rows, which have the scale
    l.middleRows(rows_.first, rows_.count) = widen(left.map());
    l = deducible<W>(judges_.scaled(l).middleRows(rows_.first, rows_.count));
    long double const of_factors = 2 * storage_rounding<T>() * l.norm() * r.norm();
    judge_value("scaled low rank", judges_.results.at("scaled low rank"), times(l, r), rows_, cols_, of_factors);
    // Norms run over the columns of all ranks: V̂ has columns of norm 1, and |T_U| ≤ 4 in Z = T_U Ûᴴ P with ‖P‖ = ‖M̂‖.
    auto const& magnitudes = judges_.results.at("magnitude");
    auto const ru = static_cast<long double>(s_.ru), rv = static_cast<long double>(s_.rv);
    long double const whole_r =
        policy_.of == split::columns ? std::sqrt(rv) + 4 * ru * std::sqrt(ru) * magnitudes.value.norm() : r.norm();
    long double const of_norms = 2 * storage_rounding<T>() * l.norm() * whole_r;
    judge_value("magnitude", magnitudes, widen(magnitude.map()), rows_, {0, 1}, of_norms);
    if (!magnitude.intact()) report_.failures.push_back("magnitude was written beside its elements");
    if (policy_.of == split::columns) same_everywhere("scaled low rank L", left.view(), magnitude.view());
    else same_everywhere("scaled low rank R", right.view());
  }

  void judge_gradient(std::string const& pass, sums const& dU, sums const& dV, sums const& ds) {
    judge(pass + " dU", dU, rows_, {0, s_.ru}), judge(pass + " dV", dV, cols_, {0, s_.rv});
    if (ds.view().rows > 0) judge(pass + " ds", ds, rows_, {0, 1});
    if (policy_.of == hoft::split::columns) same_everywhere(pass + " dU and ds", dU.view(), ds.view());
    else same_everywhere(pass + " dV", dV.view());
  }

  void run_on_activations(hoft::adapter_view<A const> const& a) {
    using namespace hoft;
    auto const base = dense_base();
    arena count;
    auto const carve = [&](arena& from) {
      auto const layer = carve_layer(from, a);
      auto const state = carve_layer_state<T, L>(from, a, s_.t, keep_q_);
      return std::make_tuple(layer, state, carve_layer_gradient(from, a));
    };
    carve(count);
    std::vector<std::byte, Memory<std::byte>> memory(std::size_t(count.size()), std::byte(0xFF));
    arena from({memory.data(), count.size()});
    auto [layer, state, g] = carve(from);
    index_t const m = rows_.count, n = cols_.count;
    matrix y = result(m, s_.t), yu = result(m, s_.t), dbase = result(m, s_.t), dx = result(n, s_.t);
    sums dU = result_sums(m, s_.ru), dV = result_sums(n, s_.rv), ds = result_sums(scale.view().rows, 1);
    call("bind_layer", bind_workspace<T, L>(policy_, a),
         [&, &of = layer](workspace w) { bind_layer<T, L>(policy_, a, base, of, w); });
    set_zero(policy_, g);
    call("forward", forward_workspace(policy_, layer, in(x)),
         [&, &of = layer, &saved = state](workspace w) { forward(policy_, of, base, in(x), y.view(), saved, w); });
    judge("forward y", y, rows_, tokens());
    call("forward, nothing saved", forward_workspace(policy_, layer, in(x), false),
         [&, &of = layer](workspace w) { forward(policy_, of, base, in(x), yu.view(), w); });
    judge("forward y, nothing saved", yu, rows_, tokens());
    call("backward", backward_workspace(policy_, layer, state),
         [&, &of = layer, &saved = state, &sums = g](workspace w) {
           backward(policy_, of, base, in(x), in(y), saved, in(dy), dbase.view(), dx.view(), sums, w);
         });
    judge("backward dx", dx, cols_, tokens());
    same_everywhere("state", state.v, state.w, g.dF_U, g.E_U);
    if (policy_.of == split::columns) same_everywhere("y", y.view(), layer.minus_K);
    else same_everywhere("dx", dx.view());
    call("finish", finish_workspace<T, L>(policy_, layer), [&, &of = layer, &sums = g](workspace w) {
      finish<T, L>(policy_, of, base, sums, dU.view(), dV.view(), vector(ds), w);
    });
    judge_gradient("backward", dU, dV, ds);
    run_on_halves(base, layer, state, g);
  }

  /// `forward` and `backward` by their halves, around a base whose outputs the caller sums.
  template <class Base, class Layer, class State, class Gradient>
  void run_on_halves(Base const& base, Layer const& layer, State const& state, Gradient const& g) {
    using namespace hoft;
    matrix y = result(rows_.count, s_.t), dbase = result(rows_.count, s_.t), dx = result(cols_.count, s_.t);
    padded<A, L, Memory<A>> dv(s_.rv, s_.t, padding_);
    using operations = typename Policy::backend;
    call("project", project_workspace(policy_, layer, in(x)),
         [&](workspace w) { project(policy_, layer, in(x), state.v, w); });
    hoft::detail::apply_base(policy_, base, in(x), y.view());
    operations::template sum_ranks<A>(policy_.right(), y.view());
    call("adapt", adapt_workspace(policy_, layer, in(y)),
         [&](workspace w) { adapt(policy_, layer, in(y), y.view(), state, w); });
    judge("forward y", y, rows_, tokens());
    set_zero(policy_, g);
    call("adapt_backward", adapt_backward_workspace(policy_, layer, state),
         [&](workspace w) { adapt_backward(policy_, layer, in(y), state, in(dy), dbase.view(), dv.view(), g, w); });
    hoft::detail::apply_base_adjoint(policy_, base, in(dbase), dx.view());
    operations::template sum_ranks<A>(policy_.left(), dx.view());
    call("project_backward", project_backward_workspace(policy_, layer, in(x)),
         [&](workspace w) { project_backward(policy_, layer, in(x), std::as_const(dv).view(), dx.view(), g, w); });
    judge("backward dx", dx, cols_, tokens());
    sums dU = result_sums(rows_.count, s_.ru), dV = result_sums(cols_.count, s_.rv),
         ds = result_sums(scale.view().rows, 1);
    call("finish", finish_workspace<T, L>(policy_, layer),
         [&](workspace w) { finish<T, L>(policy_, layer, base, g, dU.view(), dV.view(), vector(ds), w); });
    judge_gradient("backward", dU, dV, ds);
  }

  Policy policy_;
  std::function<void()> finish_;
  shape s_;
  bool keep_q_;
  index_t padding_;
  part_of_whole rows_, cols_;
  judged_calls<T> judges_;
  matrix U, V, M, X, dY, dMhat, x, dy, Xr;
  sums scale;
  memory_for_forms<Memory<std::byte>> memory_;
  rank_report report_;
};

}  // namespace hoft_test
