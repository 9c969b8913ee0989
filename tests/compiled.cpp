// SPDX-License-Identifier: BSD-3-Clause
#include "compiled.hpp"

namespace HOFT_TARGET_NAMESPACE::cpu_backend {
HOFT_COMPILED_FOR_EACH(HOFT_COMPILED_KERNELS, )
}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
namespace HOFT_TARGET_NAMESPACE::detail {
HOFT_COMPILED_FOR_EACH(HOFT_COMPILED_PANELS, )
}  // namespace HOFT_TARGET_NAMESPACE::detail
