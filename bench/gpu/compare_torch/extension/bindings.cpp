// bindings.cpp: calls.hpp for Python.
#include "calls.hpp"

#include <torch/extension.h>

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  module.def("accumulate", &compare::accumulate);
  module.def("forward", &compare::forward);
  module.def("backward", &compare::backward);
  module.def("merge", &compare::merge);
}
