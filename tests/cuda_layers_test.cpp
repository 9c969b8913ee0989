// SPDX-License-Identifier: BSD-3-Clause
// Bound layers through the kernels of the CUDA backend, run by the host: micro-batches that add up, the tokens of many
// adapters behind one base, a few tokens at a time, and q, k and v of one x.
#include <hoft/cuda/dense.hpp>
#include "cuda_on_host/host.hpp"

#include "support.hpp"

#include <hoft/hoft.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <vector>

using namespace hoft_test;

namespace {

/// The host in a GPU's place, with its launches counted.
struct counting : hoft::cuda::host {
  index_t* launches;
};
template <class Kernel>
void launch_blocks(counting const& on, index_t blocks, Kernel const& kernel) {
  ++*on.launches;
  launch_blocks(static_cast<hoft::cuda::host const&>(on), blocks, kernel);
}
template <class Kernel>
void launch_clusters(counting const& on, index_t clusters, hoft::cuda::cluster_size size, Kernel const& kernel) {
  ++*on.launches;
  launch_clusters(static_cast<hoft::cuda::host const&>(on), clusters, size, kernel);
}

/// A weight that tells on what it was called. Its products count as launches of `device`.
template <class T, class L>
struct telling {
  struct call {
    bool adjoint;
    void const* input;
    index_t columns;
    bool operator==(call const&) const = default;
  };
  counting device;
  hoft::matrix_view<T const, L> M;
  std::vector<call>* calls;
  bool broken = false;
  index_t rows() const { return M.rows; }
  index_t cols() const { return M.cols; }
  void apply(hoft::matrix_view<T const, L> X, hoft::matrix_view<T, L> Y) const {
    if (broken) throw std::runtime_error("a base operator");
    calls->push_back({false, X.data, X.cols});
    dense(device, M).apply(X, Y);
  }
  void apply_adjoint(hoft::matrix_view<T const, L> X, hoft::matrix_view<T, L> Y) const {
    calls->push_back({true, X.data, X.cols});
    dense(device, M).apply_adjoint(X, Y);
  }
};

/// An adapter of M [m, n], and a layer that has memory.
template <class T, class L>
struct layer_of_weight {
  using A = float;
  hoft::compact_wy<A> left, right;
  dense_matrix<A> U, V, s;
  std::vector<std::byte> memory;
  hoft::adapter_view<A const> a;
  hoft::bound_layer_view<A> layer;
  hoft::layer_gradient_view<A> sums;

  layer_of_weight(index_t m, index_t n, index_t ru, index_t rv, bool scaled, unsigned seed)
      : U(gaussian<A>(m, ru, seed)), V(gaussian<A>(n, rv, seed + 1)), s(gaussian<A>(scaled ? m : 0, 1, seed + 2, 0.2)) {
    for (index_t i = 0; i < s.rows(); ++i) s(i) = 1 + std::clamp(s(i), -0.5f, 0.5f);
    left = hoft::accumulate(U), right = hoft::accumulate(V);
    a = {left.view(), right.view(), {s.data(), s.rows()}};
    auto const carve = [&](hoft::arena& from) {
      return std::pair(hoft::carve_layer(from, a), hoft::carve_layer_gradient(from, a));
    };
    hoft::arena count;
    carve(count);
    memory.resize(std::size_t(count.size()), std::byte(0xFF));
    hoft::arena arena(hoft::workspace{memory.data(), count.size()});
    std::tie(layer, sums) = carve(arena);
  }
  layer_of_weight(layer_of_weight const&) = delete;

  template <class Policy, class Base>
  void bind(Policy const& policy, Base& base) {
    guarded_workspace work(hoft::bind_workspace<T, L>(policy, a));
    hoft::bind_layer<T, L>(policy, a, base, layer, work);
    CHECK(work.intact());
  }
};

/// Memory of a forward pass of t tokens.
template <class T, class L>
struct state_of_tokens {
  std::vector<std::byte> memory;
  hoft::layer_state<float, T, L> view;
  state_of_tokens(hoft::adapter_view<float const> const& a, index_t t, bool keep_q) {
    hoft::arena count;
    hoft::carve_layer_state<T, L>(count, a, t, keep_q);
    memory.resize(std::size_t(count.size()), std::byte(0xFF));
    hoft::arena arena(hoft::workspace{memory.data(), count.size()});
    view = hoft::carve_layer_state<T, L>(arena, a, t, keep_q);
  }
};

/// Clusters that hold all features, and slices that go by themselves.
struct machine_kind {
  index_t shared, cluster;
};
constexpr machine_kind kinds[] = {{227, 8}, {60, 8}, {20, 3}};
counting device_of(machine_kind const& kind, index_t& launches) {
  counting device;
  device.launches = &launches;
  device.shared_limit = kind.shared << 10, device.most_cluster = kind.cluster, device.most_blocks = 9;
  return device;
}

/// dU, dV, ds, y and dx of tokens in micro-batches of these sizes.
template <class T, class L>
std::pair<std::array<dense_matrix<float>, 3>, std::array<dense_matrix<T, L>, 2>> in_micro_batches(
    counting const& device, layer_of_weight<T, L>& of, dense_matrix<T, L> const& M, dense_matrix<T, L> const& x,
    dense_matrix<T, L> const& dy, bool keep_q, std::vector<index_t> const& sizes) {
  index_t const m = M.rows(), n = M.cols(), t = x.cols();
  dense_matrix<T, L> y(m, t), dbase(m, t), dx(n, t);
  std::array<dense_matrix<float>, 3> d{dense_matrix<float>(m, of.U.cols()), dense_matrix<float>(n, of.V.cols()),
                                       dense_matrix<float>(of.s.rows(), 1)};
  auto const base = dense(device, hoft::as_view(M));
  of.bind(device, base);
  hoft::set_zero(device, of.sums);
  index_t first = 0;
  for (index_t const count : sizes) {
    auto const some = [&](auto& X) { return hoft::as_view(X).columns(first, count); };
    state_of_tokens<T, L> const state(of.a, count, keep_q);
    guarded_workspace forward_work(hoft::forward_workspace(device, of.layer, some(x)));
    hoft::forward(device, of.layer, base, some(x), some(y), state.view, forward_work);
    guarded_workspace work(hoft::backward_workspace(device, of.layer, state.view));
    hoft::backward(device, of.layer, base, some(x), some(y), state.view, some(dy), some(dbase), some(dx), of.sums,
                   work);
    CHECK((forward_work.intact() && work.intact()));
    first += count;
  }
  REQUIRE(first == t);
  guarded_workspace finish_work(hoft::finish_workspace<T, L>(device, of.layer));
  hoft::finish<T, L>(device, of.layer, base, of.sums, hoft::as_view(d[0]), hoft::as_view(d[1]),
                     hoft::vector_view<float>(d[2].data(), d[2].rows()), finish_work);
  return {d, {y, dx}};
}

}  // namespace

// What is made for each token does not depend on its neighbours, so y and dx have the same bits. The sums are of the
// same t products in another order, over at most 16 blocks and micro-batches: each addition rounds a partial sum, whose
// size is at most the product of the norms of the two factors, so two of them differ by 2 (t + 16) u of it at most.
// From there to dU and dV it is four terms of norm 2 at most, over ‖u_j‖, each of a factor with a norm of 2
// (gradient_bound); to ds four terms of norm 2. dV goes through dB, which is rounded to T.
TEST_CASE_TEMPLATE("micro-batches add up to the gradient of one batch", T, float, Eigen::bfloat16) {
  using L = std::conditional_t<std::is_same_v<T, float>, col_major, row_major>;
  index_t const m = 90, n = 70, t = 96, ru = 17, rv = 9;
  dense_matrix<T, L> const M = gaussian<T, L>(m, n, 1, 0.1), x = gaussian<T, L>(n, t, 2), dy = gaussian<T, L>(m, t, 3);
  long double const both = widen(M).norm() * widen(x).norm() * widen(dy).norm();
  long double const order = 2 * static_cast<long double>(t + 16) * std::ldexp(1.0L, -24);
  index_t launches = 0;
  for (auto const& kind : kinds)
    for (auto const& [scaled, keep_q] : {std::pair{false, false}, {true, true}, {true, false}}) {
      CAPTURE(kind.shared);
      std::string const label = hoft_test::text_of({{"scaled", index_t{scaled}}, {"keep_q", index_t{keep_q}}});
      INFO(label);
      counting const device = device_of(kind, launches);
      layer_of_weight<T, L> of(m, n, ru, rv, scaled, 10);
      auto const [whole, tokens] = in_micro_batches(device, of, M, x, dy, keep_q, {t});
      auto const [parts, same_tokens] = in_micro_batches(device, of, M, x, dy, keep_q, {24, 24, 24, 24});
      auto const [uneven, others] = in_micro_batches(device, of, M, x, dy, keep_q, {0, 1, 40, 0, 55, 0});
      auto const [with_none, all] = in_micro_batches(device, of, M, x, dy, keep_q, {0, t, 0});
      for (auto const* results : {&same_tokens, &others, &all})
        for (std::size_t i = 0; i < 2; ++i) CHECK(same_bits((*results)[i], tokens[i]));
      for (std::size_t i = 0; i < 3; ++i) CHECK(same_bits(with_none[i], whole[i]));  // nothing was added to it
      float const largest = scaled ? of.s.maxCoeff() : 1, smallest = scaled ? of.s.minCoeff() : 1;
      for (auto const* results : {&parts, &uneven})
        for (std::size_t i = 0; i < 3; ++i) {
          CAPTURE(i);
          dense_matrix<float> const difference = (*results)[i] - whole[i];
          long double const relative = order + (i == 1 ? storage_rounding<T>() : 0);
          if (difference.rows() == 0) continue;
          for (index_t j = 0; j < difference.cols(); ++j) {
            long double const bound =
                i == 2 ? 8 * relative * both * largest / smallest
                       : 16 * relative * both * largest / widen((i == 0 ? of.U : of.V).col(j)).norm();
            CHECK(widen(difference.col(j)).norm() <= bound);
            // A micro-batch that is left out, a quarter of the tokens, is seen.
            if (i != 1 || std::is_same_v<T, float>) CHECK(widen(whole[i].col(j)).norm() / 2 > bound);
          }
        }
    }
}

TEST_CASE_TEMPLATE("tokens of many adapters behind one base have the bits of forward", T, float, Eigen::bfloat16) {
  using L = std::conditional_t<std::is_same_v<T, float>, row_major, col_major>;
  // More adapters than a GPU takes at a time; the sixth and the last have no tokens.
  constexpr index_t m = 70, n = 50, lengths[] = {3, 1, 17, 2, 5, 0, 33, 1, 4, 0};
  constexpr std::size_t count = std::size(lengths);
  std::vector<index_t> offsets{0};
  for (index_t const length : lengths) offsets.push_back(offsets.back() + length);
  index_t const t = offsets.back();
  dense_matrix<T, L> const M = gaussian<T, L>(m, n, 1), x = gaussian<T, L>(n, t, 2);
  std::deque<layer_of_weight<T, L>> users;
  for (std::size_t i = 0; i < count; ++i)
    users.emplace_back(m, n, i == 3 ? 0 : 1 + index_t(i) * 2, i == 4 ? 0 : 2 + index_t(i), i % 2 == 1,
                       20 + 5 * unsigned(i));
  index_t launches = 0;
  for (auto const& kind : kinds) {
    CAPTURE(kind.shared);
    counting const device = device_of(kind, launches);
    std::vector<typename telling<T, L>::call> calls;
    telling<T, L> const base{{}, hoft::as_view(M), &calls};
    auto own = base;
    own.device = device;
    std::vector<hoft::bound_layer_view<float>> layers;
    for (auto& user : users) {
      user.bind(device, own);
      layers.push_back(user.layer);
    }
    calls.clear();
    padded<T, L> together(m, t), alone(m, t), with_state(m, t);
    guarded_workspace work(hoft::forward_shared_workspace(device, layers, offsets, hoft::as_view(x)));
    hoft::forward_shared(device, layers, offsets, own, hoft::as_view(x), together.view(), work);
    CHECK(work.intact());
    CHECK(calls == std::vector<typename telling<T, L>::call>{{false, x.data(), t}});
    for (std::size_t i = 0; i < count; ++i) {
      auto const some = [&, i](auto const& X) { return X.columns(offsets[i], lengths[i]); };
      guarded_workspace one(hoft::forward_workspace(device, layers[i], some(hoft::as_view(x)), false));
      hoft::forward(device, layers[i], own, some(hoft::as_view(x)), some(alone.view()), one);
      state_of_tokens<T, L> const state(layers[i].adapter, lengths[i], true);
      guarded_workspace another(hoft::forward_workspace(device, layers[i], some(hoft::as_view(x))));
      hoft::forward(device, layers[i], own, some(hoft::as_view(x)), some(with_state.view()), state.view, another);
      CHECK((one.intact() && another.intact()));
    }
    CHECK(same_bits(together.map(), alone.map()));
    if constexpr (std::is_same_v<T, float>) {
      // Saving q rounds nothing here.
      CHECK((with_state.map() - alone.map()).norm() <= 1e-5f * alone.map().norm());
    }
    CHECK((together.intact() && alone.intact()));
  }
}

TEST_CASE_TEMPLATE("one to eight tokens of a bound layer", T, float, Eigen::bfloat16) {
  using L = col_major;
  index_t const m = 90, n = 70, ru = 16, rv = 16;
  dense_matrix<T, L> const M = gaussian<T, L>(m, n, 1), x = gaussian<T, L>(n, 8, 2);
  index_t launches = 0;
  for (auto const& kind : kinds)
    for (bool scaled : {false, true}) {
      CAPTURE(kind.shared);
      CAPTURE(scaled);
      counting const device = device_of(kind, launches);
      std::vector<typename telling<T, L>::call> calls;
      telling<T, L> const base{device, hoft::as_view(M), &calls};
      layer_of_weight<T, L> of(m, n, ru, rv, scaled, 10);
      of.bind(device, base);
      CHECK(calls.size() == 1);  // M is read once more, for all steps
      dense_matrix<double> const U = of.U.template cast<double>(), V = of.V.template cast<double>(),
                                 s = of.s.template cast<double>();
      Eigen::VectorXd const scale = scaled ? Eigen::VectorXd(s.col(0)) : Eigen::VectorXd();
      hoft::adapter<double> const a = scaled ? hoft::adapter<double>(U, V, scale) : hoft::adapter<double>(U, V);
      auto const wide = [](auto const& X) {
        return dense_matrix<double>(X.template cast<float>().template cast<double>());
      };
      dense_matrix<double> Mhat = wide(M);
      hoft::merge(a, Mhat);
      dense_matrix<double> const expected = Mhat * wide(x);
      dense_matrix<T, L> all(m, 8);
      index_t of_eight = 0;
      for (index_t t = 8; t > 0; --t) {
        CAPTURE(t);
        padded<T, L> y(m, t);
        auto const tokens = hoft::as_view(x).columns(0, t);
        guarded_workspace work(hoft::forward_workspace(device, of.layer, tokens, false));
        calls.clear();
        launches = 0;
        hoft::forward(device, of.layer, base, tokens, y.view(), work);
        CHECK((work.intact() && y.intact()));
        // The base on these tokens and nothing else, a projection of x and an adaption of y: by clusters one launch
        // each beside the base's, by slices a few more, and none that grows with t.
        CHECK(calls == std::vector<typename telling<T, L>::call>{{false, x.data(), t}});
        if (t == 8) all = y.map(), of_eight = launches;
        CHECK(launches == of_eight);
        if (kind.shared == 227) CHECK(launches <= 3);
        CHECK(same_bits(y.map(), all.leftCols(t)));
        // As transforms.hpp has it: roundings of the storage, of parts, and of sums in float.
        double const u = double(storage_rounding<T>()), r = double(rv),
                     parts = std::is_same_v<T, float> ? 0 : 22 * std::ldexp(1.0, -17) * std::sqrt(r);
        double const allowed = 4 * u + parts + 4 * std::ldexp(1.0, -24) * (std::sqrt(double(m + n + t)) + r);
        CHECK((wide(y.map()) - expected.leftCols(t)).norm() <= allowed * expected.leftCols(t).norm());
      }
    }
}

// Recorded launches call base operators in their place: behind what makes their input, before what reads their output.
TEST_CASE("q, k and v of one x call each base once a pass, in its place") {
  using T = Eigen::bfloat16;
  using L = row_major;
  using call = telling<T, L>::call;
  index_t const m = 40, n = 30, t = 11;
  dense_matrix<T, L> const x = gaussian<T, L>(n, t, 1), dy = gaussian<T, L>(m, t, 2);
  index_t launches = 0;
  counting const device = device_of(kinds[0], launches);
  std::vector<call> calls;
  std::deque<layer_of_weight<T, L>> of;
  std::deque<dense_matrix<T, L>> M;
  std::deque<state_of_tokens<T, L>> states;
  std::array<dense_matrix<T, L>, 3> y, dbase, dx, y1, dbase1, dx1;
  std::array<dense_matrix<float>, 3> dU, dV, ds, dU1, dV1, ds1;
  std::vector<telling<T, L>> base;
  std::vector<hoft::adapter_view<float const>> a;
  std::vector<hoft::bound_layer_view<float>> layer;
  std::vector<hoft::layer_state<float, T, L>> state;
  std::vector<hoft::layer_gradient_view<float>> sums;
  for (unsigned i = 0; i < 3; ++i) {
    of.emplace_back(m, n, 3 + index_t(i), 2, i == 2, 10 * (i + 1));
    M.push_back(gaussian<T, L>(m, n, 60 + i));
    base.push_back({device, hoft::as_view(M.back()), &calls});
    states.emplace_back(of.back().a, t, true);
    for (auto* to : {&y, &dbase, &y1, &dbase1}) (*to)[i].resize(m, t);
    for (auto* to : {&dx, &dx1}) (*to)[i].resize(n, t);
    for (auto* to : {&dU, &dU1}) (*to)[i].resize(m, 3 + index_t(i));
    for (auto* to : {&dV, &dV1}) (*to)[i].resize(n, 2);
    for (auto* to : {&ds, &ds1}) (*to)[i].resize(of.back().s.rows(), 1);
    a.push_back(of.back().a), layer.push_back(of.back().layer), sums.push_back(of.back().sums);
    state.push_back(states.back().view);
  }
  auto const views = [](auto& all) {
    std::vector<decltype(hoft::as_view(all[0]))> v;
    for (auto& one : all) v.push_back(hoft::as_view(one));
    return v;
  };
  auto const vectors = [](auto& all) {
    std::vector<hoft::vector_view<float>> v;
    for (auto& one : all) v.emplace_back(one.data(), one.rows());
    return v;
  };
  std::vector const xs(3, hoft::as_view(x)), dys(3, hoft::as_view(dy));
  auto const of_batch = [&](auto const& policy, auto& bases) {
    hoft::set_zero(policy, sums);
    guarded_workspace bind_work(hoft::bind_workspace<T, L>(policy, a));
    hoft::bind_layer<T, L>(policy, a, bases, layer, bind_work);
    guarded_workspace forward_work(hoft::forward_workspace(policy, layer, xs));
    hoft::forward(policy, layer, bases, xs, views(y), state, forward_work);
    guarded_workspace work(hoft::backward_workspace(policy, layer, state));
    hoft::backward(policy, layer, bases, xs, views(y), state, dys, views(dbase), views(dx), sums, work);
    guarded_workspace finish_work(hoft::finish_workspace<T, L>(policy, layer));
    hoft::finish<T, L>(policy, layer, bases, sums, views(dU), views(dV), vectors(ds), finish_work);
    CHECK((bind_work.intact() && forward_work.intact() && work.intact() && finish_work.intact()));
  };
  dense_matrix<T, L> const untouched = x;
  of_batch(device, base);
  CHECK(same_bits(x, untouched));
  REQUIRE(calls.size() == 12);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK((!calls[i].adjoint && calls[i].columns == 2));
    CHECK(calls[3 + i] == call{false, x.data(), t});
    CHECK(calls[6 + i] == call{true, dbase[i].data(), t});
    CHECK((calls[9 + i].adjoint && calls[9 + i].columns == 2));
  }
  auto const as_single_calls = [&](auto const& policy, auto& bases) {
    for (std::size_t i = 0; i < 3; ++i) {
      hoft::set_zero(policy, sums[i]);
      guarded_workspace bind_work(hoft::bind_workspace<T, L>(policy, a[i]));
      hoft::bind_layer<T, L>(policy, a[i], bases[i], layer[i], bind_work);
      guarded_workspace forward_work(hoft::forward_workspace(policy, layer[i], xs[i]));
      hoft::forward(policy, layer[i], bases[i], xs[i], views(y1)[i], state[i], forward_work);
      guarded_workspace work(hoft::backward_workspace(policy, layer[i], state[i]));
      hoft::backward(policy, layer[i], bases[i], xs[i], views(y1)[i], state[i], dys[i], views(dbase1)[i], views(dx1)[i],
                     sums[i], work);
      guarded_workspace finish_work(hoft::finish_workspace<T, L>(policy, layer[i]));
      hoft::finish<T, L>(policy, layer[i], bases[i], sums[i], views(dU1)[i], views(dV1)[i], vectors(ds1)[i],
                         finish_work);
    }
    for (std::size_t i = 0; i < 3; ++i) {
      CHECK((same_bits(y[i], y1[i]) && same_bits(dbase[i], dbase1[i]) && same_bits(dx[i], dx1[i])));
      CHECK((same_bits(dU[i], dU1[i]) && same_bits(dV[i], dV1[i]) && same_bits(ds[i], ds1[i])));
    }
  };
  as_single_calls(device, base);
  for (int threads : {1, 3}) {
    hoft::cpu const policy{.threads = threads};
    std::vector<hoft::dense_operator<T, L>> dense_bases;
    for (auto const& weight : M) dense_bases.emplace_back(policy, hoft::as_view(weight));
    of_batch(policy, dense_bases);
    as_single_calls(policy, dense_bases);
  }
}

TEST_CASE("what a base operator throws in a batch leaves layers unbound") {
  using T = float;
  index_t launches = 0;
  counting const device = device_of(kinds[0], launches);
  dense_matrix<T> const M = gaussian<T>(12, 9, 1);
  std::deque<layer_of_weight<T, col_major>> of;
  std::vector<telling<T, col_major>::call> calls;
  std::vector<telling<T, col_major>> base;
  std::vector<hoft::adapter_view<float const>> a;
  std::vector<hoft::bound_layer_view<float>> layer;
  for (unsigned i = 0; i < 3; ++i) {
    of.emplace_back(12, 9, 2, 2, false, 10 * (i + 1));
    base.push_back({device, hoft::as_view(M), &calls, i == 1});
    a.push_back(of.back().a), layer.push_back(of.back().layer);
  }
  guarded_workspace work(hoft::bind_workspace<T>(device, a));
  CHECK_THROWS_AS(hoft::bind_layer<T>(device, a, base, layer, work), std::runtime_error);
  for (auto const& one : layer) CHECK_FALSE(one.bound);
  base[1].broken = false;
  hoft::bind_layer<T>(device, a, base, layer, work);
  for (auto const& one : layer) CHECK(one.bound);
  // One that had been bound is not any more.
  base[1].broken = true;
  CHECK_THROWS_AS(hoft::bind_layer<T>(device, a, base, layer, work), std::runtime_error);
  for (auto const& one : layer) CHECK_FALSE(one.bound);
}
