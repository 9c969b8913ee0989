// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/product.hpp: the general product on a GPU.
#pragma once
#include <hoft/cuda/kernel/elements.hpp>
#include <hoft/cuda/launch.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// C := S + alpha op(A) op(B), op conjugating or not. S may be C or have no data for zero.
template <device_policy Device, class T, class LA, class LB, class LC>
void general_product(Device const& device, T alpha, matrix_view<T const, LA> A, bool conjugate_a,
                     matrix_view<T const, LB> B, bool conjugate_b, std::type_identity_t<matrix_view<T const, LC>> S,
                     matrix_view<T, LC> C) {
  if (C.empty()) return;
  if constexpr (!C.is_col_major) {
    general_product(device, alpha, B.transposed(), conjugate_b, A.transposed(), conjugate_a, S.transposed(),
                    C.transposed());
  } else {
    if (A.cols > 0 && multiply_matrices(device, alpha, A, conjugate_a, B, conjugate_b, S, C)) return;
    tile_product<T, LA, LB, LC> const kernel{alpha, A, conjugate_a, B, conjugate_b, S, C};
    launch(device, kernel.tiles(), kernel);
  }
}

}  // namespace HOFT_CUDA_NAMESPACE
