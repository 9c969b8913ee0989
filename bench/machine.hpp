// SPDX-License-Identifier: BSD-3-Clause
// machine.hpp: what the machine can do at most. Both are contestants of every case, so that a clock that drifts shows
// in them as it does in the others.
#pragma once
#include "contest.hpp"

#include <hoft/cpu/thread_pool.hpp>

#include <memory>

namespace bench {

/// Multiply-adds on registers alone, in enough independent chains to fill the pipelines.
template <class T>
task fma_peak();

/// From one big array to another: by memcpy, and by vectors whose stores pass the caches by, where there are such.
template <class T>
task copy_memcpy();
template <class T>
task copy_streaming();

/// The same bounds by the wall clock, on one thread and on two of the pool: what a second thread can gain.
template <class T>
std::vector<task> thread_bounds(std::shared_ptr<hoft::thread_pool> const& pool);

/// Processor, vectors, libraries, compiler: what a result depends on, by name.
std::map<std::string, std::string> description();

}  // namespace bench
