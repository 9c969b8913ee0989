// SPDX-License-Identifier: BSD-3-Clause
// A program may use the names of hoft and of the standard library without qualification: what it types means what it
// meant before. (mdspan has such a test of its own.)
#include <algorithm>
#include <array>
#include <functional>
#include <iterator>
#include <numeric>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>
#if __has_include(<mdspan>)
#include <mdspan>
#endif

#include <hoft/hoft.hpp>
#if __has_include(<dlpack/dlpack.h>)
#include <hoft/view/dlpack.hpp>
#endif

#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS
#include <doctest/doctest.h>

namespace {

using namespace std;
using namespace hoft;
#if __has_include(<dlpack/dlpack.h>)
using namespace hoft::dlpack;
#endif

int sum_of(int a, int b) { return a + b; }

}  // namespace

TEST_CASE("words of the standard library after using namespace hoft") {
  vector<int> const a{1, 4}, b{2, 3};
  vector<int> merged;
  merge(a.begin(), a.end(), b.begin(), b.end(), back_inserter(merged));
  CHECK(merged == vector<int>{1, 2, 3, 4});
  CHECK(accumulate(merged.begin(), merged.end(), 0) == 10);
  CHECK(apply(sum_of, make_tuple(2, 3)) == 5);
  string text = "text";
  CHECK(forward<string&>(text) == "text");
  CHECK(min(span<int const>(a).size(), size_t(3)) == 2);
#if defined(__cpp_lib_mdspan)
  array<float, 6> memory{};
  mdspan<float, extents<int, 2, 3>> const m(memory.data());
  CHECK(m.extent(1) == 3);
#endif
}

TEST_CASE("words of hoft after using namespace std") {
  Eigen::MatrixXf const U = Eigen::MatrixXf::Identity(4, 2);
  Eigen::MatrixXf X = Eigen::MatrixXf::Ones(4, 3);
  auto const Q = accumulate(cpu{}, U);
  apply(cpu{}, Q, X);
  CHECK(X(0, 0) == -1);
  adapter<float> const a{U, U};
  Eigen::MatrixXf W = Eigen::MatrixXf::Identity(4, 4);
  merge(cpu{}, a, W);
  CHECK(W.isIdentity());
  auto const base = dense(W);
  CHECK(forward(a, base, X).y.isApprox(X));
  auto const layer = bind_layer(a, base);
  auto const f = forward(layer, X);
  CHECK(f.y.isApprox(X));
  layer_gradient sums(layer);
  CHECK(backward(layer, X, f, X, sums).isApprox(X));
  CHECK(finish(layer, sums).dU.rows() == 4);
}
