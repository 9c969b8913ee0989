// SPDX-License-Identifier: BSD-3-Clause
// HOFT and SHOFT by a machine of bodies.hpp on matrices as they are stored, judged by the CPU in double.
#pragma once
#include "bodies.hpp"
#include "transform_calls.hpp"

#include "../support.hpp"

#include <hoft/hoft.hpp>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace hoft_test {

/// Ranks 0, whole tiles, 64, and of every kind that a tile of 16 ends in: odd and even, in either half. No feature,
/// one, less than a strip of 32, more than a slice of 256; no tokens, one, more than a tile of 16; a left side of three
/// factors, which is not taken as it is stored.
struct transform_shape {
  index_t m, n, t, ru, rv;
  index_t block = 64;  ///< of U
};
inline constexpr transform_shape transform_shapes[] = {
    {1, 1, 1, 1, 1},       {7, 5, 0, 2, 1},       {7, 0, 3, 2, 1},      {0, 5, 3, 1, 2},
    {40, 33, 17, 0, 11},   {33, 40, 16, 10, 0},   {20, 20, 3, 0, 0},    {300, 70, 40, 16, 14},
    {64, 300, 35, 25, 16}, {90, 100, 50, 64, 33}, {40, 9, 5, 20, 3, 8},
};
#if defined(HOFT_TEST_FEW_SCALARS) || defined(HOFT_TEST_BESIDE_EMULATOR)
#define HOFT_TRANSFORM_CASES std::pair<Eigen::half, row_major>
#else
#define HOFT_TRANSFORM_CASES \
  std::pair<float, col_major>, std::pair<Eigen::half, row_major>, std::pair<Eigen::bfloat16, col_major>
#endif

/// How the storage of a machine is shared: as wide as it goes, clusters of 8 and 4, and slices by themselves.
struct transform_machine {
  index_t limit, cluster;
};

template <class Machine, class T, class L>
struct transform_tests {
  using call = transform_calls<Machine, T, L>;
  template <class S, class M = L>
  using matrix = padded<S, M, typename Machine::template Allocator<S>>;
  using work = guarded_memory<typename Machine::template Allocator<std::byte>>;
  using bytes = std::vector<std::byte, typename Machine::template Allocator<std::byte>>;
  using named = std::vector<std::pair<std::string, dense_matrix<double>>>;

  /// Every result in double, with `scaled`, and q saved or recovered. U, V, s and M are the same numbers for every T.
  struct problem {
    transform_shape shape;
    bool scaled, keep_q;
    dense_matrix<T, L> M, x, dy, dMhat;
    dense_matrix<float> U, V, s;
    problem(transform_shape const& of, bool scaled_, bool keep_q_, unsigned seed)
        : shape(of),
          scaled(scaled_),
          keep_q(keep_q_),
          M(gaussian<T, L>(of.m, of.n, seed)),
          x(gaussian<T, L>(of.n, of.t, seed + 1)),
          dy(gaussian<T, L>(of.m, of.t, seed + 2)),
          dMhat(gaussian<T, L>(of.m, of.n, seed + 3)),
          U(gaussian<float>(of.m, of.ru, seed + 4)),
          V(gaussian<float>(of.n, of.rv, seed + 5)),
          s(gaussian<float>(scaled_ ? of.m : 0, 1, seed + 6)) {
      for (index_t i = 0; i < s.rows(); ++i) s(i) = s(i) < 0 ? s(i) - 0.5f : s(i) + 0.5f;  // divided by
      if (keep_q && s.rows() > 2) s(2) = 0.0f;                                             // but not where q is saved
    }
  };

  static named judged(problem const& of) {
    dense_matrix<double> const U = of.U.template cast<double>(), V = of.V.template cast<double>();
    dense_matrix<double> const s = of.s.template cast<double>();
    Eigen::VectorXd const scale = s.rows() > 0 ? Eigen::VectorXd(s.col(0)) : Eigen::VectorXd();
    hoft::adapter<double> const a = of.scaled ? hoft::adapter<double>(U, V, scale) : hoft::adapter<double>(U, V);
    auto const wide = [](auto const& X) {
      return dense_matrix<double>(X.template cast<float>().template cast<double>());
    };
    dense_matrix<double> const M = wide(of.M), x = wide(of.x), dy = wide(of.dy), dMhat = wide(of.dMhat);
    dense_matrix<double> Mhat = M;
    hoft::merge(a, Mhat);
    auto const gw = hoft::merge_backward(a, M, dMhat);
    auto const base = hoft::dense(M);
    auto const f = hoft::forward(a, base, x);
    auto const g = hoft::backward(a, base, x, f, dy);
    return {{"merge", Mhat},       {"merge dU", gw.dU},           {"merge dV", gw.dV},   {"merge ds", gw.ds},
            {"forward y", f.y},    {"backward dx", g.dx},         {"backward dU", g.dU}, {"backward dV", g.dV},
            {"backward ds", g.ds}, {"forward v", projected(V, x)}};
  }
  /// V̂ᴴ x.
  static dense_matrix<double> projected(dense_matrix<double> const& V, dense_matrix<double> const& x) {
    dense_matrix<double> v(V.cols(), x.cols());
    for (index_t k = 0; k < V.cols(); ++k) {
      double const norm = V.rows() > 0 ? V.col(k).norm() : 1;
      for (index_t j = 0; j < x.cols(); ++j) v(k, j) = V.rows() > 0 ? V.col(k).dot(x.col(j)) / norm : 0;
    }
    return v;
  }

  /// The tokens in two micro-batches: the first `cut`, and the rest.
  static named computed(Machine const& machine, problem const& of, index_t padding, index_t cut) {
    index_t const m = of.shape.m, n = of.shape.n, t = of.shape.t, ru = of.shape.ru, rv = of.shape.rv;
    matrix<float, col_major> const U(of.U), V(of.V), s(of.s);
    auto const form = [&](bytes& memory, matrix<float, col_major> const& vectors, index_t rows, index_t rank,
                          index_t most) {
      index_t const at_a_time = std::min(most, std::max<index_t>(rank, 1));
      hoft::arena count;
      hoft::carve_compact_wy<float>(count, rows, rank, at_a_time);
      memory.resize(std::size_t(count.size()), std::byte(0xFF));
      hoft::arena carve(hoft::workspace{memory.data(), index_t(memory.size())});
      auto Q = hoft::carve_compact_wy<float>(carve, rows, rank, at_a_time);
      work scratch(call::accumulate_size(machine, Q));
      call::accumulate(machine, vectors.view(), Q, scratch);
      machine.finish();
      CHECK(scratch.intact());
      check_columns(vectors.map(), Q);
      return Q;
    };
    bytes left, right, kept;
    std::vector<bytes> of_tokens;
    hoft::vector_view<float const> const scale(s.view().data, of.s.rows());
    hoft::compact_wy_view<float const> const QU = form(left, U, m, ru, of.shape.block), QV = form(right, V, n, rv, 64);
    hoft::adapter_view<float const> const a{QU, QV, scale};

    matrix<T> const M(of.M, padding), dMhat(of.dMhat, padding), x(of.x, padding);
    matrix<T> Mhat(m, n, padding), y(m, t, padding), dy(of.dy, padding), dbase(m, t, padding), dx(n, t, padding);
    matrix<float, col_major> wU(m, ru), wV(n, rv), ws(of.s.rows(), 1), dU(m, ru), dV(n, rv), ds(of.s.rows(), 1);
    auto const column = [](matrix<float, col_major>& X) {
      auto const view = X.view();
      return hoft::vector_view<float>(view.data, view.rows);
    };
    auto const run = [&](index_t size, auto const& f) {
      work scratch(size);
      f(hoft::workspace(scratch));
      machine.finish();
      CHECK(scratch.intact());
    };
    run(call::merge_size(machine, a, M.view()), [&](auto w) { call::merge(machine, a, M.view(), Mhat.view(), w); });
    matrix<T> in_place(of.M, padding);
    run(call::merge_size(machine, a, M.view()),
        [&](auto w) { call::merge(machine, a, in_place.view(), in_place.view(), w); });
    CHECK(same_bits(in_place.map(), Mhat.map()));
    run(call::merge_backward_size(machine, a, M.view()),
        [&](auto w) { call::merge_backward(machine, a, M.view(), dMhat.view(), wU.view(), wV.view(), column(ws), w); });
    auto const carved = [&](bytes& memory, auto const& cut_from) {
      hoft::arena count;
      cut_from(count);
      memory.resize(std::size_t(count.size()), std::byte(0xFF));
      hoft::arena arena(hoft::workspace{memory.data(), index_t(memory.size())});
      return cut_from(arena);
    };
    auto [layer, g] = carved(kept, [&](hoft::arena& from) {
      return std::pair(hoft::carve_layer(from, a), hoft::carve_layer_gradient(from, a));
    });
    run(call::bind_size(machine, a), [&, &to = layer](auto w) { call::bind(machine, a, M.view(), to, w); });
    call::set_zero(machine, g);
    dense_matrix<double> v(rv, t);
    // The gradient of the base's output takes the place of dy for the second ones.
    for (auto const& [first, count] : {std::pair(index_t{0}, cut), std::pair(cut, t - cut)}) {
      auto const state = carved(of_tokens.emplace_back(), [&, many = count](hoft::arena& from) {
        return hoft::carve_layer_state<T, L>(from, a, many, of.keep_q);
      });
      auto const some = [&, from = first, many = count](auto&& X) { return X.view().columns(from, many); };
      run(call::forward_size(machine, layer, some(x)),
          [&, &bound = layer](auto w) { call::forward(machine, bound, M.view(), some(x), some(y), state, w); });
      v.middleCols(first, count) = hoft::as_eigen(state.v).template cast<double>();
      if (m == 0) CHECK(hoft::as_eigen(state.w).isZero(0));  // sums over nothing, which are written nevertheless
      run(call::backward_size(machine, layer, state), [&, from = first, &bound = layer, &sums = g](auto w) {
        call::backward(machine, bound, M.view(), some(x), some(y), state, some(dy), some(from == 0 ? dbase : dy),
                       some(dx), sums, w);
      });
    }
    run(call::finish_size(machine, layer), [&, &bound = layer, &sums = g](auto w) {
      call::finish(machine, bound, M.view(), sums, dU.view(), dV.view(), column(ds), w);
    });
    for (auto const* X : {&M, &dMhat, &x}) CHECK(X->intact());
    for (auto const* X : {&Mhat, &y, &dy, &dbase, &dx, &in_place}) CHECK(X->intact());
    for (auto const* X : {&wU, &wV, &ws, &dU, &dV, &ds}) CHECK(X->intact());
    CHECK(same_bits(M.map(), of.M));
    CHECK(same_bits(x.map(), of.x));
    CHECK(same_bits(dy.map().leftCols(cut), of.dy.leftCols(cut)));
    auto const wide = [](auto const& X) {
      return dense_matrix<double>(X.template cast<float>().template cast<double>());
    };
    return {{"merge", wide(Mhat.map())},     {"merge dU", wide(wU.map())},
            {"merge dV", wide(wV.map())},    {"merge ds", wide(ws.map())},
            {"forward y", wide(y.map())},    {"backward dx", wide(dx.map())},
            {"backward dU", wide(dU.map())}, {"backward dV", wide(dV.map())},
            {"backward ds", wide(ds.map())}, {"forward v", v}};
  }

  /// Relative to the whole result. A result is rounded to T once, and what it is made of (base, V, q or y, dq) at most
  /// three times more, each by u at most; a sum of products with such factors keeps that. Sums in float are to √(m + n
  /// + t) of their roundings, and T, which the factors of the adapter go through, to r. Beside 16 bits floats are two
  /// bfloat16 parts: each reflector leaves out 22 · 2⁻¹⁷ of a column at most (kernel_line_bound in bodies.hpp), which
  /// in the norm of r of them, of any sign, is √r times that. A missing or a doubled term is 0.1 or more.
  static double allowed(transform_shape const& s) {
    double const single = std::ldexp(1.0, -24), r = double(std::max(s.ru, s.rv));
    double const u = std::is_same_v<T, float> ? 0.0 : std::ldexp(1.0, std::is_same_v<T, Eigen::half> ? -11 : -8);
    double const parts = std::is_same_v<T, float> ? 0.0 : 22 * std::ldexp(1.0, -17) * std::sqrt(r);
    return 4 * u + parts + 4 * single * (std::sqrt(double(s.m + s.n + s.t)) + r);
  }

  /// Of v = V̂ᴴx in the Frobenius norm, relative to ‖x‖: x is as it is stored, so that a product with the second part of
  /// V̂, which the bound above does not show, does not hide. Each of rv rows as in the tests of apply.
  static double allowed_of_projections(transform_shape const& s) {
    long double const sums = 2 * (std::sqrt(static_cast<long double>(s.n)) + 5) * eps_of<float>();
    return double((sums + projection_in_parts<T>(s.n)) * std::sqrt(static_cast<long double>(s.rv)));
  }

  /// On every kind of machine; lines that begin at multiples of 16 bytes and not.
  static void check(Machine const& machine, std::initializer_list<transform_machine> kinds) {
    unsigned seed = 3300;
    for (auto const& shape : transform_shapes)
      for (auto const& [scaled, keep_q] :
           std::initializer_list<std::pair<bool, bool>>{{false, true}, {true, true}, {true, false}}) {
        problem const of(shape, scaled, keep_q, seed += 10);
        named const expected = judged(of);
        for (auto const& kind : kinds) {
          index_t const inner = std::same_as<L, col_major> ? shape.m : shape.n;
          index_t const padding = kind.cluster % 2 == 0 ? 16 - inner % 8 : 3;
          std::string const label = text_of({{"m", shape.m},
                                             {"n", shape.n},
                                             {"t", shape.t},
                                             {"ru", shape.ru},
                                             {"rv", shape.rv},
                                             {"scaled", index_t(scaled)},
                                             {"keep_q", index_t(keep_q)},
                                             {"limit", kind.limit},
                                             {"cluster", kind.cluster}});
          INFO(label);
          named const actual = computed(machine.limited(kind.limit * 1024, kind.cluster), of, padding,
                                        kind.limit < 64 ? (shape.t + 2) / 3 : 0);
          for (std::size_t i = 0; i < expected.size(); ++i) {
            std::string const& name = expected[i].first;
            INFO(name);
            auto const& want = expected[i].second;
            REQUIRE(actual[i].second.rows() == want.rows());
            REQUIRE(actual[i].second.cols() == want.cols());
            double const error = (actual[i].second - want).norm();
            double const size = of.x.template cast<float>().norm();
            CHECK(error <= (name == "forward v" ? allowed_of_projections(shape) * size : allowed(shape) * want.norm()));
          }
        }
      }
  }

  /// Products of parts, as check_parts of bodies.hpp judges them: in the upper rows of Y and of the gradient of the
  /// base's output, −UᴴX and −UᴴdY, and in the lower rows of D, −Σ X dWᴴ and −Σ dY Zᴴ. With 64 reflectors of U and 32
  /// of V slices that go by themselves have a warp for each 16 of both. What V gives is zero, scales are one, and the
  /// base is one.
  static void check_parts(Machine const& machine, std::initializer_list<transform_machine> kinds) {
    for (auto const& kind : kinds)
      for (bool scaled : {false, true})
        for (int p = 0; p < parts::beside; ++p)
          for (int q = 0; p + q < parts::beside; ++q) {
            std::string const label = text_of(
                {{"limit", kind.limit}, {"cluster", kind.cluster}, {"scaled", index_t(scaled)}, {"p", p}, {"q", q}});
            INFO(label);
            Machine const of_kind = machine.limited(kind.limit * 1024, kind.cluster);
            if (q < parts::own) check_parts_of_projections(of_kind, scaled, p, q);
            if (p < parts::own) check_parts_of_sums(of_kind, scaled, p, q);
          }
  }

 private:
  using parts = cuda_tests<Machine, T, L>;
  static float minus_one(index_t, index_t) { return -1; }

  static void check_parts_of_projections(Machine const& machine, bool scaled, int p, int q) {
    index_t const ru = 64;
    auto const of = parts::parts_to_project(p, q, ru, parts::parts_n);
    passed const by = passed_through(machine, of.first.view, scaled, of.second, of.second);
    CHECK(parts::are_parts(by.y.topRows(ru), p, q, parts::parts_below / 4, minus_one));
    CHECK(parts::are_parts(by.dbase.topRows(ru), p, q, parts::parts_below / 4, minus_one));
  }
  static void check_parts_of_sums(Machine const& machine, bool scaled, int p, int q) {
    for (bool of_X : {true, false}) {
      auto const of = parts::parts_to_sum(p, q, of_X);
      passed const by = passed_through(machine, of.Q.view, scaled, of.X, of.dY);
      CHECK(parts::are_parts(by.D.bottomRows(parts::parts_below), p, q, parts::parts_n / 4, minus_one));
    }
  }

  /// What a layer makes of X and dY, with `left` as its U.
  struct passed {
    dense_matrix<T, L> y, dbase;
    dense_matrix<float> D;
  };
  static passed passed_through(Machine const& machine, hoft::compact_wy_view<float const> left, bool scaled,
                               dense_matrix<T, L> const& X, dense_matrix<T, L> const& dY) {
    index_t const rv = 32, m = X.rows(), t = X.cols();
    auto const right = parts::form_of(dense_matrix<float>::Zero(m - rv, rv), dense_matrix<float>::Zero(rv, rv));
    matrix<float, col_major> const ones(dense_matrix<float>::Ones(scaled ? m : 0, 1));
    hoft::adapter_view<float const> const a{left, right.view,
                                            hoft::vector_view<float const>(ones.view().data, scaled ? m : 0)};
    matrix<T> const M(dense_matrix<float>::Identity(m, m).template cast<T>()), x(X), dy(dY);
    matrix<T> y(m, t), dbase(m, t), dx(m, t);
    auto const run = [&](index_t size, auto const& f) {
      work scratch(size);
      f(hoft::workspace(scratch));
      machine.finish();
    };
    auto const carved = [](bytes& memory, auto const& cut_from) {
      hoft::arena count;
      cut_from(count);
      memory.resize(std::size_t(count.size()), std::byte(0xFF));
      hoft::arena arena(hoft::workspace{memory.data(), index_t(memory.size())});
      return cut_from(arena);
    };
    bytes of_layer, of_sums, of_state;
    auto layer = carved(of_layer, [&](hoft::arena& from) { return hoft::carve_layer(from, a); });
    auto const sums = carved(of_sums, [&](hoft::arena& from) { return hoft::carve_layer_gradient(from, a); });
    auto const state =
        carved(of_state, [&](hoft::arena& from) { return hoft::carve_layer_state<T, L>(from, a, t, true); });
    run(call::bind_size(machine, a), [&](auto w) { call::bind(machine, a, M.view(), layer, w); });
    call::set_zero(machine, sums);
    run(call::forward_size(machine, layer, x.view()),
        [&](auto w) { call::forward(machine, layer, M.view(), x.view(), y.view(), state, w); });
    run(call::backward_size(machine, layer, state), [&](auto w) {
      call::backward(machine, layer, M.view(), x.view(), y.view(), state, dy.view(), dbase.view(), dx.view(), sums, w);
    });
    return {y.map(), dbase.map(), hoft::as_eigen(sums.D_U)};
  }
};

}  // namespace hoft_test
