// SPDX-License-Identifier: BSD-3-Clause
// cpu.cpp: the operators' names, and those of HOFT and SHOFT on hoft's CPU backend.
#include "cpu.hpp"
#include "operators.hpp"

TORCH_LIBRARY(hoft, library) { hoft_torch::declare(library); }
TORCH_LIBRARY_IMPL(hoft, CPU, library) { hoft_torch::implement(library); }
