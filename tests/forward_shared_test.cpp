// SPDX-License-Identifier: BSD-3-Clause
// One base operator under the adapters of many users: forward_shared against forward for the tokens of each.
#include "activations.hpp"

#include <hoft/adapter/layer_batch.hpp>

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <span>
#include <string>

namespace {

using namespace hoft_test;

/// What one user brings: ranks, with a scale or without.
struct user {
  index_t ru, rv;
  bool scaled;
  inverse kind = {};
};

/// Bound layers of users of one weight [m, n], and the tokens of all of them.
template <class T, class L>
struct crowd {
  using A = hoft::accumulator_t<T>;
  static constexpr index_t m = 80, n = 21;
  dense_matrix<T> M = gaussian<T>(m, n, 300, 1 / std::sqrt(double(n)));
  counted<T, L> base{M};
  std::vector<std::unique_ptr<watched_layer<T, L>>> of;
  std::vector<hoft::bound_layer_view<A const>> layers;
  std::vector<index_t> offsets{0};
  dense_matrix<T, L> x;

  crowd(std::vector<user> const& users, std::vector<index_t> const& counts) {
    for (std::size_t i = 0; i < users.size(); ++i) {
      problem<T> p({m, n, 1, users[i].ru, users[i].rv}, users[i].scaled, users[i].kind, unsigned(310 + 10 * i));
      of.push_back(std::make_unique<watched_layer<T, L>>(p.make(), base));
      layers.push_back(of.back()->layer.views);
      offsets.push_back(offsets.back() + counts[i]);
    }
    x = gaussian<T, L>(n, offsets.back(), 301);
    base.forget();
  }

  /// Of forward, range by range.
  dense_matrix<T, L> alone() {
    padded<T, L> const all(x);
    padded<T, L> y(m, x.cols());
    for (std::size_t i = 0; i < of.size(); ++i) {
      index_t const first = offsets[i], t = offsets[i + 1] - first;
      of[i]->forward(all.view().columns(first, t), y.view().columns(first, t));
    }
    base.forget();
    return y.map();
  }
  template <class Layers>
  dense_matrix<T, L> shared(cpu policy, Layers const& all_layers) {
    padded<T, L> const all(x);
    padded<T, L> y(m, x.cols());
    std::span<index_t const> const ranges(offsets);
    watched_layer<T, L>::in_workspace(
        hoft::forward_shared_workspace(policy, all_layers, ranges, all.view()), [&](hoft::workspace work) {
          hoft::forward_shared(policy, all_layers, ranges, base, all.view(), y.view(), work);
        });
    CHECK((y.intact() && same_bits(all.map(), x)));
    return y.map();
  }
  void check() {
    auto const expected = alone();
    for (int threads : {1, 2, 5}) {
      base.forget();
      CHECK(same_bits(shared(cpu{.threads = threads}, layers), expected));
      bool const one_call = base.applied == std::vector<index_t>{x.cols()} && base.applied_adjoint.empty();
      CHECK(one_call);
    }
  }
};

std::vector<user> const users{{3, 2, false}, {5, 7, true},  {70, 4, false},          {66, 2, true},
                              {0, 3, false}, {4, 0, true},  {0, 0, false},           {0, 0, true},
                              {2, 6, true},  {1, 1, false}, {3, 2, true, neumann{2}}};

}  // namespace

TEST_SUITE_BEGIN("one base, many adapters");

TEST_CASE_TEMPLATE("forward_shared is forward of each range, bit for bit, with one call of the base", T, float,
                   std::complex<double>, Eigen::half, Eigen::bfloat16) {
  std::vector<index_t> const some{13, 1, 0, 300, 7, 5, 2, 9, 0, 64, 3}, none(11, 0),
      ends{0, 4, 4, 0, 0, 0, 1, 1, 0, 0, 0};
  for (auto const& counts : {some, none, ends}) {
    crowd<T, col_major>(users, counts).check();
    crowd<T, row_major>(users, counts).check();
  }
  crowd<T, row_major>({{3, 2, true}}, {17}).check();
}

TEST_CASE("forward_shared takes layers in what people have, and no layers at all") {
  crowd<float, col_major> of({{3, 2, false}, {5, 7, true}}, {6, 11});
  auto const expected = of.alone();
  std::array const layers{of.layers[0], of.layers[1]};
  std::array const mutable_layers{of.of[0]->layer.views, of.of[1]->layer.views};
  CHECK(same_bits(of.shared(cpu{}, layers), expected));
  CHECK(same_bits(of.shared(cpu{.threads = 2}, mutable_layers), expected));
  CHECK(same_bits(of.shared(cpu{.threads = 2}, std::span(of.layers)), expected));

  crowd<float, col_major> nobody({}, {});
  nobody.shared(cpu{}, nobody.layers);
  CHECK(nobody.base.applied.empty());
  dense_matrix<float> y = gaussian<float>(80, 2, 303);
  CHECK_THROWS_WITH_AS(hoft::forward_shared(cpu{}, nobody.layers, std::span<index_t const>(nobody.offsets), nobody.base,
                                            hoft::as_view(std::as_const(nobody.x)), hoft::as_view(y), {}),
                       "hoft::forward_shared: y.cols is 2, must be == 0", hoft::shape_error);
}

TEST_CASE("forward_shared refuses what does not fit, before it writes or calls the base operator") {
  using crowd_type = crowd<double, col_major>;
  auto const refuses = [](auto error, std::string const& message, auto const& spoil) {
    using Error = decltype(error);
    struct arguments {
      crowd_type of{{{3, 2, false}, {5, 7, true}, {1, 1, true}}, {6, 0, 11}};
      dense_matrix<double> y = gaussian<double>(crowd_type::m, 17, 302);
      matrix_view<double const> x_ = hoft::as_view(std::as_const(of.x));
      matrix_view<double> y_ = hoft::as_view(y);
      std::vector<std::byte> memory = std::vector<std::byte>(1000000);
      hoft::workspace work{memory.data(), index_t(memory.size())};
    } s;
    auto const before = s.y;
    spoil(s);
    CHECK_THROWS_WITH_AS(
        hoft::forward_shared(cpu{}, s.of.layers, std::span<index_t const>(s.of.offsets), s.of.base, s.x_, s.y_, s.work),
        ("hoft::forward_shared: " + message).c_str(), Error);
    CHECK(same_bits(s.y, before));
    CHECK(s.of.base.applied.empty());
  };
  using hoft::shape_error;
  shape_error const shape("");
  refuses(shape, "offsets.size() is 3, must be == 4", [](auto& s) { s.of.offsets.pop_back(); });
  refuses(shape, "offsets.size() is 0, must be == 4", [](auto& s) { s.of.offsets.clear(); });
  refuses(shape, "offsets.front() is 1, must be == 0", [](auto& s) { s.of.offsets[0] = 1; });
  refuses(shape, "end of range is 5, must be >= 6 (problem 1)", [](auto& s) { s.of.offsets[2] = 5; });
  refuses(shape, "end of range is -1, must be >= 0 (problem 0)", [](auto& s) { s.of.offsets[1] = -1; });
  refuses(shape, "offsets.back() is 17, must be == 16", [](auto& s) { s.x_.cols = s.y_.cols = 16; });
  refuses(shape, "offsets.back() is 18, must be == 17", [](auto& s) { s.of.offsets[3] = 18; });
  refuses(shape, "x.rows is 20, must be == 21 (problem 0)", [](auto& s) { s.x_.rows = 20; });
  refuses(shape, "y.rows is 79, must be == 80 (problem 0)", [](auto& s) { s.y_.rows = 79; });
  refuses(shape, "y.cols is 16, must be == 17 (problem 0)", [](auto& s) { s.y_.cols = 16; });
  refuses(shape, "layer is of 6 reflectors on the right (layer.B.cols), must be of 7 (problem 1)",
          [](auto& s) { s.of.layers[1].B.cols = 6; });
  refuses(hoft::argument_error(""),
          "layer is memory that has not been bound, must be filled by bind_layer first, and not a copy from before "
          "(problem 2)",
          [](auto& s) { s.of.layers[2].bound = false; });
  refuses(hoft::argument_error(""),
          "a.left is built with explicit tau, must be built from reflectors alone (problem 1)",
          [](auto& s) { s.of.layers[1].adapter.left.explicit_tau = true; });
  crowd_type sizes({{3, 2, false}, {5, 7, true}, {1, 1, true}}, {6, 0, 11});
  std::span<index_t const> const offsets(sizes.offsets);
  index_t const needed =
      hoft::forward_shared_workspace(cpu{}, sizes.layers, offsets, hoft::as_view(std::as_const(sizes.x)));
  refuses(hoft::workspace_error(""),
          "work.size is " + std::to_string(needed - 1) + ", must be >= " + std::to_string(needed) + " bytes",
          [&](auto& s) { s.work.size = needed - 1; });
  // The query too.
  CHECK_THROWS_WITH_AS(static_cast<void>(hoft::forward_shared_workspace(cpu{}, sizes.layers, offsets.first(3),
                                                                        hoft::as_view(std::as_const(sizes.x)))),
                       "hoft::forward_shared_workspace: offsets.size() is 3, must be == 4", shape_error);
  matrix_view<double const> const narrow(nullptr, crowd_type::n, 17, crowd_type::n - 1);
  CHECK_THROWS_WITH_AS(static_cast<void>(hoft::forward_shared_workspace(cpu{}, sizes.layers, offsets, narrow)),
                       "hoft::forward_shared_workspace: x.ld is 20, must be >= 21", shape_error);
}

TEST_SUITE_END();
