// SPDX-License-Identifier: BSD-3-Clause
// Workspace queries: the same answer for views of constant elements, and bad sizes refused where they are given.
#include "cuda_on_host/host.hpp"
#include <hoft/hoft.hpp>

#include "support.hpp"

#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace hoft_test;

namespace {

/// What every query answers for views of these elements: E and F are the elements of matrices and of forms.
template <class E, class F, class L, class Policy>
std::vector<std::pair<std::string, index_t>> answers(Policy const& policy, bool scaled) {
  using A = std::remove_const_t<F>;
  index_t const m = 70, n = 50, ru = 9, rv = 5, t = 33;
  hoft::arena count;
  hoft::compact_wy_view<F> const left = hoft::carve_compact_wy<A>(count, m, ru, 4),
                                 right = hoft::carve_compact_wy<A>(count, n, rv, rv);
  hoft::vector_view<F> const scale(nullptr, scaled ? m : 0);
  hoft::adapter_view<F> const a{left, right, scale};
  hoft::matrix_view<E, L> const M(nullptr, m, n), x(nullptr, n, t), Mt(nullptr, n, m), some(nullptr, m, 3);
  hoft::matrix_view<E, L> q;  // of SHOFT only
  if (scaled) q = {nullptr, m, t};
  hoft::layer_state<F, E, L> const state{{nullptr, rv, t}, {nullptr, ru, t}, q},
      without_q{{nullptr, rv, t}, {nullptr, ru, t}, {}};
  hoft::bound_layer_view<F> const layer = hoft::carve_layer(count, hoft::adapter_view<A const>(a));
  hoft::matrix_view<E, L> const base_output(nullptr, m, t);
  auto const all_of = [](auto const& one) {  // a batch of two
    return std::array{one, one};
  };
  auto const forms = all_of(left);
  auto const adapters = all_of(a);
  auto const matrices = all_of(M), tokens = all_of(x);
  auto const kept = all_of(state);
  auto const layers = all_of(layer);
  std::array<index_t, 3> const offsets{0, 20, t};
  auto const span = []<class X>(std::array<X, 2> const& of) { return std::span<X const>(of); };
  return {{"apply", apply_workspace(policy, left, M)},
          {"apply right", apply_workspace(policy, left, Mt, side::right)},
          {"materialize", materialize_workspace(policy, left, some)},
          {"apply_backward", apply_backward_workspace(policy, left, M)},
          {"apply_backward right", apply_backward_workspace(policy, left, Mt, side::right)},
          {"merge", merge_workspace(policy, a, M)},
          {"unmerge", unmerge_workspace(policy, a, M)},
          {"merge_backward", merge_backward_workspace(policy, a, M)},
          {"low_rank", low_rank_workspace(policy, a, M)},
          {"scaled_low_rank", scaled_low_rank_workspace(policy, a, M)},
          {"bind_layer", bind_workspace<std::remove_const_t<E>, row_major>(policy, a)},
          {"project", project_workspace(policy, layer, x)},
          {"adapt", adapt_workspace(policy, layer, base_output)},
          {"forward", forward_workspace(policy, layer, x)},
          {"forward, nothing saved", forward_workspace(policy, layer, x, false)},
          {"adapt_backward", adapt_backward_workspace(policy, layer, state)},
          {"project_backward", project_backward_workspace(policy, layer, x)},
          {"backward", backward_workspace(policy, layer, state)},
          {"backward without q", backward_workspace(policy, layer, without_q)},
          {"finish", finish_workspace<std::remove_const_t<E>, L>(policy, layer)},
          {"apply of a batch", apply_workspace(policy, span(forms), span(matrices))},
          {"merge of a batch", merge_workspace(policy, span(adapters), span(matrices))},
          {"unmerge of a batch", unmerge_workspace(policy, span(adapters), span(matrices))},
          {"merge_backward of a batch", merge_backward_workspace(policy, span(adapters), span(matrices))},
          {"bind_layer of a batch", bind_workspace<std::remove_const_t<E>, row_major>(policy, span(adapters))},
          {"forward of a batch", forward_workspace(policy, span(layers), span(tokens))},
          {"backward of a batch", backward_workspace(policy, span(layers), span(kept))},
          {"finish of a batch", finish_workspace<std::remove_const_t<E>, L>(policy, span(layers))},
          {"forward_shared", forward_shared_workspace(policy, span(layers), std::span<index_t const>(offsets), x)}};
}

template <class T, class L, class Policy>
void same_for_constants(Policy const& policy) {
  using A = hoft::accumulator_t<T>;
  for (bool scaled : {false, true}) {
    auto const expected = answers<T, A, L>(policy, scaled);
    for (auto const& got : {answers<T const, A const, L>(policy, scaled), answers<T const, A, L>(policy, scaled),
                            answers<T, A const, L>(policy, scaled)})
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(expected[i].first);
        // A GPU's kernel projects without.
        CHECK((expected[i].second > 0 || expected[i].first == "project"));
        CHECK(got[i].second == expected[i].second);
      }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("every query answers the same for constant views", T, float, std::complex<double>, Eigen::half) {
  same_for_constants<T, hoft::col_major>(hoft::cpu{});
  same_for_constants<T, hoft::row_major>(hoft::cpu{.threads = 3});
  same_for_constants<T, hoft::row_major>(hoft::cuda::host{});
}

TEST_CASE_TEMPLATE("threads that a problem cannot keep busy need no workspace", T, float, std::complex<double>,
                   Eigen::bfloat16) {
  using A = hoft::accumulator_t<T>;
  auto const same = [](auto layout) {
    using L = decltype(layout);
    for (bool scaled : {false, true}) {
      // 70 columns at most, in panels of 18 at least: no more than six of them.
      auto const few = answers<T, A, L>(hoft::cpu{.threads = 6}, scaled),
                 many = answers<T, A, L>(hoft::cpu{.threads = 64}, scaled);
      CHECK(many == few);
    }
  };
  same(hoft::col_major{});
  same(hoft::row_major{});
  // 4096 columns of a gradient in panels of 18 are summed in 29 chunks of eight panels.
  hoft::arena count;
  auto const Q = hoft::carve_compact_wy<A>(count, 4096, 16, 16);
  hoft::matrix_view<T const> const X(nullptr, 4096, 4096);
  auto const gradient = [&](int threads) { return apply_backward_workspace(hoft::cpu{.threads = threads}, Q, X); };
  CHECK(gradient(1) < gradient(2));
  CHECK(gradient(28) < gradient(29));
  CHECK(gradient(29) == gradient(64));
  // 64 chunks of a 64th, while that has 128 to 256 columns; and more chunks of 256, rounded up to panels of 18 or 24.
  auto const chunks = [&](index_t columns, int most) {
    hoft::arena memory;
    auto const short_Q = hoft::carve_compact_wy<A>(memory, 2048, 16, 16);
    hoft::matrix_view<T const> const wide(nullptr, 2048, columns);
    auto const bytes = [&](int threads) {
      return apply_backward_workspace(hoft::cpu{.threads = threads}, short_Q, wide);
    };
    CHECK(bytes(most - 1) < bytes(most));
    CHECK(bytes(most) == bytes(4 * most));
  };
  chunks(13824, 64);
  chunks(20000, hoft::is_complex<T> ? 75 : 76);
  auto const product = [&](int threads) { return apply_workspace(hoft::cpu{.threads = threads}, Q, X); };
  CHECK(product(16) < product(17));
}

TEST_CASE_TEMPLATE("workspace for many tokens serves fewer", T, float, Eigen::half) {
  using A = hoft::accumulator_t<T>;
  for (index_t m : {3, 70, 5000})
    for (int threads : {1, 3}) {
      hoft::cpu const policy{.threads = threads};
      hoft::arena count;
      hoft::adapter_view<A> const a{hoft::carve_compact_wy<A>(count, m, 5, 5),
                                    hoft::carve_compact_wy<A>(count, 9, 3, 3), hoft::vector_view<A>(nullptr, m)};
      auto const layer = hoft::carve_layer(count, a);
      index_t forward = 0, alone = 0, backward = 0;
      for (index_t t = 0; t <= 300; ++t) {
        CAPTURE(t);
        hoft::matrix_view<T const> const x(nullptr, 9, t);
        hoft::arena memory;
        auto const state = hoft::carve_layer_state<T, hoft::col_major>(memory, a, t, false);
        CHECK(forward_workspace(policy, layer, x) >= forward);
        CHECK(forward_workspace(policy, layer, x, false) >= alone);
        CHECK(backward_workspace(policy, layer, state) >= backward);
        forward = forward_workspace(policy, layer, x);
        alone = forward_workspace(policy, layer, x, false);
        backward = backward_workspace(policy, layer, state);
      }
    }
}

namespace {

template <class Error, class F>
void refuses(std::string const& message, F const& f) {
  CHECK_THROWS_WITH_AS(static_cast<void>(f()), ("hoft::" + message).c_str(), Error);
}

}  // namespace

TEST_CASE("sizes of forms and arenas are refused where they are given") {
  using hoft::argument_error, hoft::shape_error;
  using form = hoft::compact_wy<double>;
  auto const carve = [](index_t m, index_t r, index_t block) {
    return [=] {
      hoft::arena count;
      return hoft::carve_compact_wy<double>(count, m, r, block);
    };
  };
  refuses<shape_error>("carve_compact_wy: m is -5, must be >= 0", carve(-5, 3, 3));
  refuses<shape_error>("carve_compact_wy: r is -1, must be >= 0", carve(5, -1, 3));
  refuses<argument_error>("carve_compact_wy: block is 0, must be >= 1", carve(5, 3, 0));
  auto const owner = [](auto... a) { return [=] { return form(a...); }; };
  refuses<shape_error>("compact_wy: m is -5, must be >= 0", owner(-5));
  refuses<shape_error>("compact_wy: m is -5, must be >= 0", owner(-5, 3, hoft::exact{}, 3));
  refuses<shape_error>("compact_wy: r is -3, must be >= 0", owner(5, -3, hoft::exact{}, 3));
  refuses<argument_error>("compact_wy: block is 0, must be >= 1", owner(5, 3, hoft::exact{}, 0));
  refuses<argument_error>("compact_wy: neumann.terms is 0, must be >= 1", owner(5, 3, hoft::neumann{0}, 3));
  refuses<shape_error>("compact_wy: block is 2, must be >= 3", owner(5, 3, hoft::neumann{2}, 2));
  refuses<shape_error>("block_for: r is -1, must be >= 0", [] { return hoft::block_for(-1, hoft::exact{}); });
  refuses<argument_error>("block_for: wanted is 0, must be >= 1", [] { return hoft::block_for(3, hoft::exact{}, 0); });
  hoft::arena count;
  refuses<shape_error>("arena::array: count is -1, must be >= 0", [&] { return count.array<float>(-1); });
  refuses<shape_error>("arena::matrix: rows is -2, must be >= 0", [&] { return count.matrix<float>(-2, -3); });
  refuses<shape_error>("arena::matrix: cols is -3, must be >= 0", [&] { return count.matrix<float>(2, -3); });
  CHECK(count.size() == 0);
  hoft::matrix_view<double const> const negative(nullptr, -2, 3, 1);
  refuses<shape_error>("dense_operator: M.rows is -2, must be >= 0", [&] { return hoft::dense(negative); });
}

TEST_CASE("queries refuse sizes that no call would take") {
  using hoft::argument_error, hoft::cpu, hoft::shape_error;
  using hoft::exact, hoft::neumann;
  using matrix = hoft::matrix_view<double>;
  hoft::arena count;
  auto const left = hoft::carve_compact_wy<double>(count, 7, 3, 2),
             right = hoft::carve_compact_wy<double>(count, 5, 2, 2);
  hoft::adapter_view<double> const a(left, right);
  auto const accumulate = [](auto... rest) {
    return [=] { return hoft::accumulate_workspace<double>(cpu{}, rest...); };
  };
  refuses<shape_error>("accumulate_workspace: r is -1, must be >= 0", accumulate(-1, 2));
  refuses<argument_error>("accumulate_workspace: block is 0, must be >= 1", accumulate(3, 0));
  refuses<argument_error>("accumulate_workspace: neumann.terms is 0, must be >= 1", accumulate(3, 3, neumann{0}));

  matrix const negative(nullptr, 7, -5, 7), no_room(nullptr, 7, 5, 6);
  refuses<shape_error>("apply_workspace: X.cols is -5, must be >= 0",
                       [&] { return apply_workspace(cpu{}, left, negative); });
  refuses<shape_error>("apply_workspace: X.ld is 6, must be >= 7",
                       [&] { return materialize_workspace(cpu{}, left, no_room); });
  refuses<shape_error>("apply_backward_workspace: X.cols is -5, must be >= 0",
                       [&] { return apply_backward_workspace(cpu{}, left, negative); });
  auto no_block = left;
  no_block.block = 0;
  matrix const M(nullptr, 7, 5);
  refuses<shape_error>("apply_workspace: Q.block is 0, must be >= 1",
                       [&] { return apply_workspace(cpu{}, no_block, M); });
  refuses<shape_error>("apply_backward_workspace: Q.block is 0, must be >= 1",
                       [&] { return apply_backward_workspace(cpu{}, no_block, M); });

  hoft::layer_state<double, double, hoft::col_major> const state{{nullptr, 2, 4}, {nullptr, 3, 4}, {}};
  auto const layer = hoft::carve_layer(count, a);
  auto blocked = a, unfit = a;
  blocked.right.block = 1;
  unfit.scale.size = 6;
  for (auto const& [adapter, message] : {std::pair{blocked, "_workspace: a.right.block is 1, must be >= 2"},
                                         std::pair{unfit, "_workspace: a.scale.size is 6, must be == 7"}}) {
    auto const& b = adapter;
    refuses<shape_error>(std::string("merge") + message, [&] { return merge_workspace(cpu{}, b, M); });
    refuses<shape_error>(std::string("unmerge") + message, [&] { return unmerge_workspace(cpu{}, b, M); });
    refuses<shape_error>(std::string("merge_backward") + message,
                         [&] { return merge_backward_workspace(cpu{}, b, M); });
    refuses<shape_error>(std::string("low_rank") + message, [&] { return low_rank_workspace(cpu{}, b, M); });
    refuses<shape_error>(std::string("scaled_low_rank") + message,
                         [&] { return scaled_low_rank_workspace(cpu{}, b, M); });
    refuses<shape_error>(std::string("bind") + message, [&] { return hoft::bind_workspace<double>(cpu{}, b); });
    auto changed = layer;
    changed.adapter = b;
    auto const& l = changed;
    refuses<shape_error>(std::string("project") + message, [&] { return project_workspace(cpu{}, l, M); });
    refuses<shape_error>(std::string("adapt") + message, [&] { return adapt_workspace(cpu{}, l, M); });
    refuses<shape_error>(std::string("forward") + message, [&] { return forward_workspace(cpu{}, l, M); });
    refuses<shape_error>(std::string("adapt_backward") + message,
                         [&] { return adapt_backward_workspace(cpu{}, l, state); });
    refuses<shape_error>(std::string("project_backward") + message,
                         [&] { return project_backward_workspace(cpu{}, l, M); });
    refuses<shape_error>(std::string("backward") + message, [&] { return backward_workspace(cpu{}, l, state); });
    refuses<shape_error>(std::string("finish") + message, [&] { return hoft::finish_workspace<double>(cpu{}, l); });
  }
  refuses<shape_error>("merge_workspace: M.cols is -5, must be >= 0",
                       [&] { return merge_workspace(cpu{}, a, negative); });
  refuses<shape_error>("unmerge_workspace: M.cols is -5, must be >= 0",
                       [&] { return unmerge_workspace(cpu{}, a, negative); });
  refuses<shape_error>("merge_backward_workspace: M.cols is -5, must be >= 0",
                       [&] { return merge_backward_workspace(cpu{}, a, negative); });
  refuses<shape_error>("low_rank_workspace: M.cols is -5, must be >= 0",
                       [&] { return low_rank_workspace(cpu{}, a, negative); });
  refuses<shape_error>("scaled_low_rank_workspace: M.cols is -5, must be >= 0",
                       [&] { return scaled_low_rank_workspace(cpu{}, a, negative); });
  refuses<shape_error>("forward_workspace: x.rows is 7, must be == 5",
                       [&] { return forward_workspace(cpu{}, layer, negative); });
  refuses<shape_error>("forward_workspace: x.cols is -4, must be >= 0",
                       [&] { return forward_workspace(cpu{}, layer, matrix(nullptr, 5, -4)); });
  refuses<shape_error>("project_workspace: x.rows is 7, must be == 5",
                       [&] { return project_workspace(cpu{}, layer, negative); });
  refuses<shape_error>("adapt_workspace: base_output.cols is -5, must be >= 0",
                       [&] { return adapt_workspace(cpu{}, layer, negative); });
  refuses<shape_error>("adapt_workspace: base_output.rows is 5, must be == 7",
                       [&] { return adapt_workspace(cpu{}, layer, matrix(nullptr, 5, 4)); });
  refuses<shape_error>("project_backward_workspace: x.rows is 7, must be == 5",
                       [&] { return project_backward_workspace(cpu{}, layer, negative); });
  auto negative_tokens = state;
  negative_tokens.v.cols = negative_tokens.w.cols = -4;
  refuses<shape_error>("backward_workspace: state.v.cols is -4, must be >= 0",
                       [&] { return backward_workspace(cpu{}, layer, negative_tokens); });
  auto one_less = state;
  one_less.w.cols = 3;
  refuses<shape_error>("adapt_backward_workspace: state is of 3 tokens (state.w.cols), must be of 4",
                       [&] { return adapt_backward_workspace(cpu{}, layer, one_less); });
  auto less = layer;
  less.minus_K.cols = 1;
  refuses<shape_error>("finish_workspace: layer is of 1 reflectors on the right (layer.minus_K.cols), must be of 2",
                       [&] { return hoft::finish_workspace<double>(cpu{}, less); });
  refuses<shape_error>("carve_layer: a.scale.size is 6, must be == 7", [&] { return hoft::carve_layer(count, unfit); });
  refuses<shape_error>("carve_layer_gradient: a.scale.size is 6, must be == 7",
                       [&] { return hoft::carve_layer_gradient(count, unfit); });
  refuses<shape_error>("carve_layer_state: t is -1, must be >= 0",
                       [&] { return hoft::carve_layer_state<double, hoft::col_major>(count, a, -1); });
  refuses<shape_error>("carve_layer_state: a.scale.size is 6, must be == 7",
                       [&] { return hoft::carve_layer_state<double, hoft::col_major>(count, unfit, 4); });
}
