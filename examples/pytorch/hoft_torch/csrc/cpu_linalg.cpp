// SPDX-License-Identifier: BSD-3-Clause
// cpu_linalg.cpp: products of reflectors on hoft's CPU backend. A source of its own, so that two compilers share the
// work.
#include "cpu.hpp"
#include "linalg_operators.hpp"

TORCH_LIBRARY_IMPL(hoft, CPU, library) { hoft_torch::implement_linalg(library); }
