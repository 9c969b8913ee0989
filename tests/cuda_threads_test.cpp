// The kernels of the CUDA backend by threads that meet behind every step, as a GPU runs them: the same bits as in one
// thread, and no data race for ThreadSanitizer.
#include <hoft/cuda/host.hpp>

#include "everything.hpp"

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
