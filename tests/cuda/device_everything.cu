// SPDX-License-Identifier: BSD-3-Clause
#include "device_everything.hpp"

#include <hoft/cuda.hpp>

namespace hoft_test {

template <class T>
named_results<T> everything_on_device(device_machine const& machine, shape const& s, bool scaled, bool keep_q,
                                      unsigned seed) {
  everything<T, row_major, hoft::cuda::device, device_machine::Allocator> all(s, scaled, keep_q, seed);
  all.run(machine.policy(), [&](char const*, auto const& call) {
    call();
    machine.finish();
  });
  CHECK(all.intact());
  return results_of<T>(all);
}

template named_results<std::complex<double>> everything_on_device<std::complex<double>>(device_machine const&,
                                                                                        shape const&, bool, bool,
                                                                                        unsigned);

}  // namespace hoft_test
