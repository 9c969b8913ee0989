// SPDX-License-Identifier: BSD-3-Clause
// hoft/memory/workspace.hpp: scratch memory that the caller lends.
#pragma once
#include <hoft/core/index.hpp>

#include <cstddef>

namespace HOFT_NAMESPACE {

/// Scratch memory lent by the caller: any alignment, contents irrelevant before and after.
struct workspace {
  std::byte* data = nullptr;
  index_t size = 0;  ///< bytes
};

}  // namespace HOFT_NAMESPACE
