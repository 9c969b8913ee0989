// SPDX-License-Identifier: BSD-3-Clause
// The kernels of the CUDA backend by threads that meet behind every step, as a GPU runs them: the same bits as in one
// thread, and no data race for ThreadSanitizer.
#include <hoft/cuda/dense.hpp>
#include "cuda_on_host/host.hpp"

#include "everything.hpp"

#include <array>
#include <tuple>

using namespace hoft_test;

TEST_CASE_TEMPLATE("every call by several threads a block", T, float, std::complex<double>) {
  for (auto const s : {shape{40, 33, 37, 20, 9, 8}, {33, 20, 50, 17, 6, 64}, {70, 9, 5, 66, 2, 70}}) {
    everything<T, row_major, hoft::cuda::host> one(s, true, true, 21), many(s, true, true, 21);
    one.run({});
    many.run({.workers = 3});
    std::vector<dense_matrix<T>> expected;
    one.for_each_result([&](char const*, auto const& a) { expected.push_back(a.template cast<T>()); });
    std::size_t i = 0;
    many.for_each_result([&](char const* name, auto const& a) {
      dense_matrix<T> const actual = a.template cast<T>();
      CHECK_MESSAGE(same_bits(actual, expected[i++]), std::string(name), " differs, m = ", s.m);
    });
  }
}

// Blocks that may share so little that four of them, or two, take the features of a matrix together.
TEST_CASE_TEMPLATE("clusters of blocks of several threads", T, float, Eigen::bfloat16) {
  using hoft::cuda::host;
  index_t const m = 300, r = 9, n = 90;
  dense_matrix<T> U = gaussian<T>(m, r, 1);
  for (index_t i = 0; i < m; ++i) U(i, 2) = static_cast<T>(static_cast<float>(U(i, 2)) * 1e30f);  // squares overflow
  dense_matrix<T> const X = gaussian<T>(m, n, 2), dY = gaussian<T>(m, n, 3);
  hoft::compact_wy<float> const Q = hoft::accumulate(U);
  auto const x = hoft::as_view(X), g = hoft::as_view(dY);
  for (index_t limit : {24, 36, 60}) {
    auto const results = [&](host const& device) {
      std::array<dense_matrix<T>, 4> out{dense_matrix<T>(m, n), dense_matrix<T>(m, n), dense_matrix<T>(m, r)};
      hoft::compact_wy<float> form(m, r, hoft::exact{}, 4);  // three factors
      guarded_workspace accumulate_work(hoft::accumulate_workspace<float>(device, r, 4));
      hoft::accumulate(device, U, form, hoft::exact{}, accumulate_work);
      out[3] = hoft::as_eigen(form.view().factor).template cast<T>();
      guarded_workspace apply_work(hoft::apply_workspace(device, Q.view(), x));
      hoft::apply(device, Q.view(), x, hoft::as_view(out[0]), side::left, op::plain, apply_work);
      guarded_workspace work(hoft::apply_backward_workspace(device, Q.view(), x));
      hoft::apply_backward(device, Q.view(), x, g, hoft::as_view(out[1]), hoft::as_view(out[2]),
                           hoft::vector_view<float>{}, side::left, op::plain, work);
      return out;
    };
    auto const one = results({.shared_limit = limit * 1024});
    auto const many = results({.shared_limit = limit * 1024, .workers = 2});
    for (std::size_t i = 0; i < one.size(); ++i) CHECK(same_bits(one[i], many[i]));
  }
}

// HOFT and SHOFT by clusters of 4 and 8 that hold all features, and by slices that go by themselves.
TEST_CASE("transforms by blocks of several threads") {
  using T = float;
  using hoft::cuda::host;
  index_t const m = 200, n = 100, t = 40, ru = 17, rv = 9;
  dense_matrix<T> const M = gaussian<T>(m, n, 1), dMhat = gaussian<T>(m, n, 2), x = gaussian<T>(n, t, 3),
                        g = gaussian<T>(m, t, 4);
  hoft::compact_wy<float> const QU = hoft::accumulate(gaussian<float>(m, ru, 5)),
                                QV = hoft::accumulate(gaussian<float>(n, rv, 6));
  dense_matrix<float> const s = gaussian<float>(m, 1, 7);
  hoft::adapter_view<float const> const a{QU.view(), QV.view(), {s.data(), m}};
  auto const results = [&](host const& device) {
    std::array<dense_matrix<T>, 3> stored{dense_matrix<T>(m, n), dense_matrix<T>(m, t), dense_matrix<T>(n, t)};
    std::array<dense_matrix<float>, 6> sums;
    for (std::size_t i = 0; i < 6; ++i) sums[i].resize(i % 3 == 1 ? n : m, i % 3 == 0 ? ru : i % 3 == 1 ? rv : 1);
    auto const gradient = [&](std::size_t i) { return hoft::as_view(sums[i]); };
    auto const scale = [&](std::size_t i) { return hoft::vector_view<float>(sums[i].data(), m); };
    auto const weight = hoft::as_view(M);
    guarded_workspace merge_work(hoft::merge_workspace(device, a, weight));
    hoft::merge(device, a, weight, hoft::as_view(stored[0]), merge_work);
    guarded_workspace weight_work(hoft::merge_backward_workspace(device, a, weight));
    hoft::merge_backward(device, a, weight, hoft::as_view(dMhat), gradient(0), gradient(1), scale(2), weight_work);
    dense_matrix<T> dbase(m, t);
    auto const X = hoft::as_view(x), dY = hoft::as_view(g);
    auto const Y = hoft::as_view(stored[1]);
    auto const base = dense(device, weight);
    auto const carve = [&](hoft::arena& from) {
      return std::tuple(hoft::carve_layer(from, a), hoft::carve_layer_state<T, col_major>(from, a, t),
                        hoft::carve_layer_gradient(from, a));
    };
    hoft::arena count;
    carve(count);
    guarded_workspace kept(count.size());
    hoft::arena memory{hoft::workspace(kept)};
    auto [layer, state, total] = carve(memory);
    hoft::set_zero(device, total);
    guarded_workspace bind_work(hoft::bind_workspace<T>(device, a));
    hoft::bind_layer<T>(device, a, base, layer, bind_work);
    guarded_workspace forward_work(hoft::forward_workspace(device, layer, X));
    hoft::forward(device, layer, base, X, Y, state, forward_work);
    guarded_workspace work(hoft::backward_workspace(device, layer, state));
    hoft::backward(device, layer, base, X, Y, state, dY, hoft::as_view(dbase), hoft::as_view(stored[2]), total, work);
    guarded_workspace finish_work(hoft::finish_workspace<T>(device, layer));
    hoft::finish<T>(device, layer, base, total, gradient(3), gradient(4), scale(5), finish_work);
    return std::pair(stored, sums);
  };
  for (index_t cluster : {8, 1}) {
    auto const kind = [&](index_t workers) {
      return host{.shared_limit = 64 * 1024, .most_blocks = 9, .workers = workers, .most_cluster = cluster};
    };
    auto const one = results(kind(1)), many = results(kind(2));
    for (std::size_t i = 0; i < 3; ++i) CHECK(same_bits(one.first[i], many.first[i]));
    for (std::size_t i = 0; i < 6; ++i) CHECK(same_bits(one.second[i], many.second[i]));
  }
}
