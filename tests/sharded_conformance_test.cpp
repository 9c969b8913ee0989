// SPDX-License-Identifier: BSD-3-Clause
// What every backend must do, of one rank: operations, calls, batches and layers. sharded_test has several ranks.
#include "conformance/batches.hpp"
#include "conformance/calls.hpp"
#include "conformance/layers.hpp"
#include "conformance/operations.hpp"
#include "sharded/thread_ranks.hpp"

#include <hoft/sharded/backend.hpp>

namespace hoft_test {

using one_rank = hoft::sharded<hoft::cpu, thread_communicator>;

/// Found by its argument.
template <class T, class L>
auto dense(one_rank const& policy, hoft::matrix_view<T const, L> M) {
  return hoft::dense_operator(policy.local, M);
}

}  // namespace hoft_test

using namespace hoft_test;

namespace {

/// body(policy) on a rank that is alone, by three threads.
template <class Body>
void on_one_rank(hoft::split of, Body const& body) {
  auto const thrown = on_ranks(
      1, 1 << 16, [&](thread_communicator& communicator) { body(one_rank({.threads = 3}, communicator, of)); });
  CHECK(thrown[0] == "");
}

}  // namespace

static_assert(hoft::backend::complete<one_rank> && hoft::backend::complete<one_rank, std::complex<double>>);

TEST_CASE_TEMPLATE("each operation: one rank", T, float, std::complex<double>) {
  for (hoft::split of : {hoft::split::tall, hoft::split::none})
    on_one_rank(of, [](one_rank const& policy) { check_operations<T>(policy); });
}
TEST_CASE("all calls: one rank") {
  on_one_rank(hoft::split::none, [](one_rank const& policy) {
    check_calls<std::complex<double>, col_major>(policy);
    check_calls<Eigen::half, row_major>(policy);
  });
}
TEST_CASE("batches and bound layers: one rank") {
  on_one_rank(hoft::split::none, [](one_rank const& policy) {
    check_batches<float, row_major>(policy);
    check_layers<Eigen::half, row_major>(policy);
  });
}
