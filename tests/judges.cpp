#include "support.hpp"

namespace hoft_test {
HOFT_JUDGES_AND_INPUTS()
}  // namespace hoft_test
