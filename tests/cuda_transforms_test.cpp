// HOFT and SHOFT through the kernels of the CUDA backend, run by the host.
#include <hoft/cuda/host.hpp>

#include "cuda/transform_calls_of.hpp"
#include "cuda/transforms.hpp"

using namespace hoft_test;

namespace {

struct host_machine {
  template <class T>
  using Allocator = std::allocator<T>;
  hoft::cuda::host device{};
  hoft::cuda::host const& policy() const { return device; }
  host_machine limited(index_t shared, index_t cluster) const {
    return {{.reversed = shared / 1024 % 16 == 12, .shared_limit = shared, .most_blocks = 17, .most_cluster = cluster}};
  }
  void finish() const {}
};

}  // namespace

TEST_CASE_TEMPLATE("HOFT and SHOFT on matrices as they are stored", Case, HOFT_TRANSFORM_CASES) {
  transform_tests<host_machine, typename Case::first_type, typename Case::second_type>::check(
      {}, {{227, 8}, {60, 8}, {76, 1}, {20, 3}});
}
