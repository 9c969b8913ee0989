// SPDX-License-Identifier: BSD-3-Clause
#include "support.hpp"

namespace hoft_test {
HOFT_JUDGES_AND_INPUTS()
}  // namespace hoft_test
