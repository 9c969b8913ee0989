#include "compiled.hpp"

namespace hoft::cpu_backend {
HOFT_COMPILED_FOR_EACH(HOFT_COMPILED_KERNELS, )
}  // namespace hoft::cpu_backend
namespace hoft::detail {
HOFT_COMPILED_FOR_EACH(HOFT_COMPILED_PANELS, )
}  // namespace hoft::detail
