// SPDX-License-Identifier: BSD-3-Clause
// The methods of bench/gpu/claims, with the host in a GPU's place, against those of bench/methods, which are tested
// against central differences.
#include "../../bench/gpu/claims/method.hpp"

#include "../../bench/claims/trial.hpp"

#include <doctest/doctest.h>

#include <cstring>

using namespace bench;
using gpu::matrix_view;
using hoft::index_t;

namespace {

using dense = methods::matrix<float>;
constexpr methods::sizes small{17, 12, 3, 4, 2, 5};

/// Sums of at most 17 products of numbers of order 1, several in a row: far below what a wrong term would make.
constexpr float allowed = 1e-5f;

dense gaussian(index_t m, index_t n, unsigned seed, double deviation = 1) {
  std::mt19937_64 rng(seed);
  dense A(m, n);
  methods::fill_gaussian(A, deviation, rng);
  return A;
}
gpu::matrix on(gpu::machine& machine, dense const& A) {
  gpu::matrix made(machine, A.rows(), A.cols());
  machine.copy(made.view().data, A.data(), A.size() * index_t(sizeof(float)));
  return made;
}
bool near(matrix_view<float> found, dense const& expected) {
  auto const difference = as_eigen(found).leftCols(expected.cols()) - expected;
  return difference.norm() <= allowed * expected.norm();
}

struct pair {
  std::unique_ptr<gpu::machine> machine = gpu::make_machine();
  std::unique_ptr<gpu::method> mine;
  std::unique_ptr<methods::method<float>> judge;
  explicit pair(gpu::entry const& e) {
    std::mt19937_64 rng(3);
    judge = claims::find<float>(e.about.name).make(small, rng);
    mine = e.make(*machine, small);
    REQUIRE(mine->parameters().size() == judge->parameters().size());
    unsigned seed = 4;
    for (std::size_t i = 0; i < mine->parameters().size(); ++i) {
      auto& value = judge->parameters()[i].value;
      value += gaussian(value.rows(), value.cols(), seed++, 0.2);
      auto const to = mine->parameters()[i].value.view();
      REQUIRE((to.rows == value.rows() && to.cols == value.cols()));
      machine->copy(to.data, value.data(), value.size() * index_t(sizeof(float)));
    }
  }
  void check_gradients() {
    for (std::size_t i = 0; i < mine->parameters().size(); ++i) {
      CAPTURE(i);
      CHECK(near(mine->parameters()[i].gradient.view(), judge->parameters()[i].gradient));
    }
  }
};

}  // namespace

TEST_CASE("methods start as the base weight") {
  dense const M = gaussian(small.m, small.n, 1), x = gaussian(small.n, small.t, 5);
  for (auto const& e : gpu::list()) {
    CAPTURE(std::string(e.about.name));
    // A truncated inverse does not undo pairs, and full fine-tuning starts as what its parameter is set to.
    std::string const name = e.about.name;
    if (name.ends_with("two_terms") || name == "full") continue;
    auto const machine = gpu::make_machine();
    methods::sizes even = small;
    even.r = 4;
    auto const by = e.make(*machine, even);
    gpu::matrix const on_M = on(*machine, M), on_x = on(*machine, x), y(*machine, small.m, small.t);
    by->forward(on_M.fixed(), on_x.view(), y.view());
    CHECK(near(y.view(), M * x));
  }
}

TEST_CASE("on the weight they are the CPU's") {
  dense const M = gaussian(small.m, small.n, 1), W = gaussian(small.m, small.n, 2);
  int checked = 0;
  for (auto const& e : gpu::list()) {
    CAPTURE(std::string(e.about.name));
    if (e.about.merge.flops[0] == '\0') continue;
    pair p(e);
    dense Mhat(small.m, small.n), dMhat = W;
    p.judge->merge(as_view(M), as_view(Mhat));
    gpu::matrix const on_M = on(*p.machine, M), found(*p.machine, small.m, small.n), on_W = on(*p.machine, W);
    p.mine->merge(on_M.fixed(), found.view());
    CHECK(near(found.view(), Mhat));
    p.judge->merge_backward(as_view(M), as_view(std::as_const(Mhat)), as_view(dMhat));
    p.mine->merge_backward(on_M.fixed(), on_W.view());
    p.check_gradients();
    ++checked;
  }
  CHECK(checked == 5);
}

TEST_CASE("on activations they are the CPU's, a second time too") {
  dense const M = gaussian(small.m, small.n, 1), x = gaussian(small.n, small.t, 5), W = gaussian(small.m, small.t, 2);
  int both = 0;
  for (auto const& e : gpu::list()) {
    CAPTURE(std::string(e.about.name));
    pair p(e);
    dense jdy = W, jy(small.m, small.t), jdx(small.n, small.t);
    p.judge->forward(as_view(M), as_view(x), as_view(jy));
    gpu::matrix const on_M = on(*p.machine, M), on_x = on(*p.machine, x), y(*p.machine, small.m, small.t),
                      dx(*p.machine, small.n, small.t);
    for (int time = 0; time < 2; ++time) {
      p.mine->forward(on_M.fixed(), on_x.view(), y.view());
      CHECK(near(y.view(), jy));
    }
    if (e.about.backward.flops[0] == '\0') continue;
    p.judge->backward(as_view(M), as_view(x), as_view(std::as_const(jy)), as_view(jdy), as_view(jdx));
    gpu::matrix const dy = on(*p.machine, W);
    p.mine->backward(on_M.fixed(), on_x.fixed(), y.fixed(), dy.view(), dx.view());
    CHECK(near(dx.view(), jdx));
    p.check_gradients();
    ++both;
  }
  CHECK(both == 5);
}

TEST_CASE("a machine counts what it lends and lends it again") {
  auto const machine = gpu::make_machine();
  void const* first = nullptr;
  {
    gpu::memory const a(*machine, 100), b(*machine, 50);
    first = a.work().data;
    CHECK(machine->in_use() == 150);
  }
  CHECK(machine->in_use() == 0);
  CHECK(machine->peak() == 150);
  machine->forget_peak();
  CHECK(machine->peak() == 0);
  gpu::memory a(*machine, 100);
  CHECK(a.work().data == first);
  gpu::memory b = std::move(a);
  CHECK(machine->in_use() == 100);
  b = gpu::memory(*machine, 30);
  CHECK(machine->in_use() == 30);
  CHECK(machine->peak() == 130);  // the old one goes when the new one is there
  machine->release_free();
  CHECK(machine->in_use() == 30);
}
