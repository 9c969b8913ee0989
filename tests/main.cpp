// SPDX-License-Identifier: BSD-3-Clause
// The entry point that every test executable shares.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
