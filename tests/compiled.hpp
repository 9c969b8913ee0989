// SPDX-License-Identifier: BSD-3-Clause
// What many tests call, and what therefore one source compiles, compiled.cpp, instead of each of them: the kernels of
// the CPU, and what is built of them for a panel of columns, for the types that they sum in.
#pragma once
#include <hoft/cpu/backend.hpp>
#include <hoft/adapter/panel.hpp>

#include <complex>

#define HOFT_COMPILED_PRODUCT(declare, T, LA, LB)                                                            \
  declare template void product<T, LA, LB, col_major>(cpu const&, T, operand<T, LA>, operand<T, LB>,         \
                                                      std::type_identity_t<matrix_view<T const, col_major>>, \
                                                      matrix_view<T, col_major>);
#define HOFT_COMPILED_KERNELS(declare, T)                                                                           \
  declare template void detail::project_panel<T>(packed_matrix<T, col_major>, matrix_view<T const>, matrix_view<T>, \
                                                 matrix_view<T const>);                                             \
  declare template void detail::project_panel<T>(packed_matrix<T, col_major>, matrix_view<T const>,                 \
                                                 matrix_view<T, row_major>, matrix_view<T const>);                  \
  declare template void detail::project_panel<T>(packed_matrix<T, row_major>, matrix_view<T const, row_major>,      \
                                                 matrix_view<T, row_major>);                                        \
  declare template void detail::update_panel<T>(int, update_term<T, col_major> const*, matrix_view<T const>,        \
                                                matrix_view<T>, prefetch_hint<T, col_major> const&);                \
  declare template void detail::update_panel<T>(int, update_term<T, row_major> const*,                              \
                                                matrix_view<T const, row_major>, matrix_view<T, row_major>,         \
                                                prefetch_hint<T, row_major>);                                       \
  declare template void detail::outer_panel<T>(int, outer_term<T, col_major> const*, packed_matrix<T, col_major>);  \
  declare template void detail::outer_panel<T>(int, outer_term<T, row_major> const*, packed_matrix<T, row_major>);  \
  HOFT_COMPILED_PRODUCT(declare, T, col_major, col_major)                                                           \
  HOFT_COMPILED_PRODUCT(declare, T, col_major, row_major)                                                           \
  HOFT_COMPILED_PRODUCT(declare, T, row_major, col_major)                                                           \
  HOFT_COMPILED_PRODUCT(declare, T, row_major, row_major)                                                           \
  declare template T dot<T>(index_t, T const*, T const*);

#define HOFT_COMPILED_FACTORS(declare, T)                                                                         \
  declare template void form_factors(cpu const&, compact_wy_view<T> const&, accumulate_pieces<T> const&);         \
  declare template compact_wy_view<T const> conjugated(cpu const&, compact_wy_view<T const> const&,               \
                                                       compact_wy_view<T>);                                       \
  declare template void finish_gradient(cpu const&, compact_wy_view<T const> const&, op, gradient_sums<T> const&, \
                                        vector_view<T>, finish_pieces<T> const&);                                 \
  declare template void product_backward(cpu const&, adapter_view<T const> const&, matrix_view<T const>,          \
                                         matrix_view<T>, matrix_view<T>, adapter_finish_pieces<T> const&);        \
  declare template void vectors_backward(cpu const&, compact_wy_view<T const> const&, matrix_view<T>, matrix_view<T>);
#define HOFT_COMPILED_APPLY_PANEL(declare, T, TX, L, LW)                                                            \
  declare template void apply_panel(                                                                                \
      cpu const&, compact_wy_view<T const> const&, cpu_backend::packed_matrix<T, L> const&, op, matrix_view<TX, L>, \
      matrix_view<T, L>, matrix_view<T, LW>, matrix_view<T, L>, prefetch_hint<T, L> const&, bool);
#define HOFT_COMPILED_PANELS_OF(declare, T, L)                                                                        \
  HOFT_COMPILED_APPLY_PANEL(declare, T, T, L, col_major)                                                              \
  HOFT_COMPILED_APPLY_PANEL(declare, T, T const, L, col_major)                                                        \
  declare template void backward_panel(                                                                               \
      cpu const&, compact_wy_view<T const> const&, cpu_backend::packed_matrix<T, L> const&, op, forward_state<T, L>,  \
      matrix_view<T const, L>, matrix_view<T, L>, gradient_sums<T, cpu_backend::packed_matrix<T, L>> const&,          \
      matrix_view<T, L>, prefetch_hint<T, L> const&);                                                                 \
  declare template void adapt_panel(cpu const&, bound_layer_view<T const> const&,                                     \
                                    packed_layer<cpu_backend::packed_matrix<T, L>> const&, matrix_view<T const, L>,   \
                                    matrix_view<T const, L>, matrix_view<T, L>, matrix_view<T, L>, matrix_view<T, L>, \
                                    matrix_view<T, L>, prefetch_hint<T, L> const&, bool);                             \
  declare template void adapt_backward_panel(                                                                         \
      cpu const&, adapter_view<T const> const&, packed_layer<cpu_backend::packed_matrix<T, L>> const&,                \
      matrix_view<T const, L>, forward_state<T, L>, matrix_view<T const, L>, matrix_view<T const, L>,                 \
      matrix_view<T, L>, adapter_sums<T, cpu_backend::packed_matrix<T, L>> const&, matrix_view<T, L>,                 \
      prefetch_hint<T, L> const&);
#define HOFT_COMPILED_PANELS(declare, T)         \
  HOFT_COMPILED_FACTORS(declare, T)              \
  HOFT_COMPILED_PANELS_OF(declare, T, col_major) \
  HOFT_COMPILED_PANELS_OF(declare, T, row_major) \
  HOFT_COMPILED_APPLY_PANEL(declare, T, T, row_major, row_major)

// The accumulators of most scalars that the build's tests run (support.hpp); the others are compiled where they are
// used.
#if defined(HOFT_TEST_FEW_SCALARS)
#define HOFT_COMPILED_FOR_EACH(of, declare) of(declare, float) of(declare, double) of(declare, std::complex<double>)
#elif defined(HOFT_TEST_VECTOR_SCALARS)
#define HOFT_COMPILED_FOR_EACH(of, declare) of(declare, float) of(declare, double) of(declare, std::complex<float>)
#else
#define HOFT_COMPILED_FOR_EACH(of, declare)                                                        \
  of(declare, float) of(declare, double) of(declare, long double) of(declare, std::complex<float>) \
      of(declare, std::complex<double>)
#endif

namespace HOFT_TARGET_NAMESPACE::cpu_backend {
HOFT_COMPILED_FOR_EACH(HOFT_COMPILED_KERNELS, extern)
}  // namespace HOFT_TARGET_NAMESPACE::cpu_backend
namespace HOFT_TARGET_NAMESPACE::detail {
HOFT_COMPILED_FOR_EACH(HOFT_COMPILED_PANELS, extern)
}  // namespace HOFT_TARGET_NAMESPACE::detail
