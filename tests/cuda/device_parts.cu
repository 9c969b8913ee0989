// SPDX-License-Identifier: BSD-3-Clause
// Of the calls for bfloat16 those that judge the parts of floats: all of them would take as long to compile as those of
// another scalar.
#include "calls_of.hpp"
#include "device.hpp"

#include <hoft/cuda.hpp>

namespace hoft_test {

using of_parts = calls<device_machine, Eigen::bfloat16, hoft::col_major>;
template hoft::index_t of_parts::apply_size(device_machine const&, of_parts::constant_form const&, of_parts::constant,
                                            hoft::side);
template void of_parts::apply(device_machine const&, of_parts::constant_form const&, of_parts::constant,
                              of_parts::matrix, hoft::side, hoft::op, hoft::workspace, hoft::matrix_view<float>);
template hoft::index_t of_parts::apply_backward_size(device_machine const&, of_parts::constant_form const&,
                                                     of_parts::constant, hoft::side);
template void of_parts::apply_backward(device_machine const&, of_parts::constant_form const&, of_parts::constant,
                                       of_parts::constant, of_parts::matrix, of_parts::matrix, hoft::vector_view<float>,
                                       hoft::side, hoft::op, hoft::workspace);
template void of_parts::apply_backward_from_output(device_machine const&, of_parts::constant_form const&,
                                                   of_parts::constant, of_parts::constant, of_parts::matrix,
                                                   of_parts::matrix, hoft::side, hoft::op, hoft::workspace);

}  // namespace hoft_test
