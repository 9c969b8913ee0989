// SPDX-License-Identifier: BSD-3-Clause
// hoft/core/index.hpp: the type of extents, strides and indices.
#pragma once
#include <hoft/config.hpp>

#include <cstddef>

namespace HOFT_NAMESPACE {

using index_t = std::ptrdiff_t;

}  // namespace HOFT_NAMESPACE
