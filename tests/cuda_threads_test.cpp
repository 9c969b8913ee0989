// The kernels of the CUDA backend by threads that meet behind every step, as a GPU runs them: the same bits as in one
// thread, and no data race for ThreadSanitizer.
#include <hoft/cuda/dense.hpp>
#include <hoft/cuda/host.hpp>

#include "everything.hpp"

#include <array>

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
  dense_matrix<T> const U = gaussian<T>(m, r, 1), X = gaussian<T>(m, n, 2), dY = gaussian<T>(m, n, 3);
  hoft::compact_wy<float> const Q = hoft::accumulate(U);
  auto const x = hoft::as_view(X), g = hoft::as_view(dY);
  for (index_t limit : {24, 36, 60}) {
    auto const results = [&](host const& device) {
      std::array<dense_matrix<T>, 4> out{dense_matrix<T>(m, n), dense_matrix<T>(m, n), dense_matrix<T>(m, r)};
      hoft::compact_wy<float> form(m, r, hoft::exact{}, 4);  // three factors
      auto view = form.mutable_view();
      guarded_workspace accumulate_work(hoft::accumulate_workspace<float>(device, r, 4));
      hoft::accumulate(device, hoft::as_view(U), view, hoft::exact{}, accumulate_work);
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
