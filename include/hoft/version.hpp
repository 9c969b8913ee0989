// SPDX-License-Identifier: BSD-3-Clause
// hoft/version.hpp: the version. CMake reads it from here.
#pragma once

#define HOFT_VERSION_MAJOR 0
#define HOFT_VERSION_MINOR 2
#define HOFT_VERSION_PATCH 0
