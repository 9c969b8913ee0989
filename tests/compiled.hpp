// What every test calls, and what therefore one source compiles, compiled.cpp, instead of each of them: the kernels of
// the CPU for the types that they sum in.
#pragma once
#include <hoft/cpu/primitives.hpp>

#include <complex>

#define HOFT_COMPILED_PRODUCT(declare, T, LA, LB)                                                            \
  declare template void product<T, LA, LB, col_major>(cpu const&, T, operand<T, LA>, operand<T, LB>,         \
                                                      std::type_identity_t<matrix_view<T const, col_major>>, \
                                                      matrix_view<T, col_major>);
#define HOFT_COMPILED_KERNELS(declare, T)                                                                            \
  declare template void detail::project_panel<T>(packed_matrix<T, col_major>, matrix_view<T const>, matrix_view<T>); \
  declare template void detail::project_panel<T>(packed_matrix<T, col_major>, matrix_view<T const>,                  \
                                                 matrix_view<T, row_major>);                                         \
  declare template void detail::project_panel<T>(packed_matrix<T, row_major>, matrix_view<T const, row_major>,       \
                                                 matrix_view<T, row_major>);                                         \
  declare template void detail::update_panel<T>(int, update_term<T, col_major> const*, matrix_view<T const>,         \
                                                matrix_view<T>, outlook<T, col_major> const&);                       \
  declare template void detail::update_panel<T>(int, update_term<T, row_major> const*,                               \
                                                matrix_view<T const, row_major>, matrix_view<T, row_major>,          \
                                                outlook<T, row_major>);                                              \
  declare template void detail::outer_panel<T>(int, outer_term<T, col_major> const*, packed_matrix<T, col_major>);   \
  declare template void detail::outer_panel<T>(int, outer_term<T, row_major> const*, packed_matrix<T, row_major>);   \
  HOFT_COMPILED_PRODUCT(declare, T, col_major, col_major)                                                            \
  HOFT_COMPILED_PRODUCT(declare, T, col_major, row_major)                                                            \
  HOFT_COMPILED_PRODUCT(declare, T, row_major, col_major)                                                            \
  HOFT_COMPILED_PRODUCT(declare, T, row_major, row_major)                                                            \
  declare template T dot<T>(index_t, T const*, T const*);

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

namespace hoft::cpu_backend {
HOFT_COMPILED_FOR_EACH(HOFT_COMPILED_KERNELS, extern)
}  // namespace hoft::cpu_backend
