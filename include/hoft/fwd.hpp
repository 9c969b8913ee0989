// SPDX-License-Identifier: BSD-3-Clause
// hoft/fwd.hpp: declarations of hoft's types, for headers that only name them.
#pragma once
#include <hoft/core/index.hpp>

namespace HOFT_NAMESPACE {

struct col_major;
struct row_major;
template <class T, class Layout>
struct matrix_view;
template <class T>
struct vector_view;
struct workspace;

enum class side;
enum class op;
struct exact;
struct neumann;
struct inverse;

struct shape_error;
struct workspace_error;
struct argument_error;
struct cuda_error;

template <class A>
struct compact_wy_view;
template <class A>
struct adjoint_view;
template <class A>
struct adapter_view;
template <class A>
struct bound_layer_view;
template <class A, class T, class L>
struct layer_state;
template <class A>
struct layer_gradient_view;

class executor;
class thread_pool;
class scratch;

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {

class arena;
namespace cpu_backend {
struct cpu;
}
using cpu_backend::cpu;
template <class T, class Layout, int Columns>
class dense_matrix;

}  // namespace HOFT_TARGET_NAMESPACE
