// hoft/cuda/primitives.hpp: what the algorithms of wy/ and transform/ ask of a backend, as launches of kernels.
#pragma once
#include <hoft/backend/prefetch_hint.hpp>
#include <hoft/cuda/elements.hpp>
#include <hoft/cuda/one_launch.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

// --- one block for each column or row ---------------------------------------------------------------------------

template <device_policy Device, class TU, class LU, class T>
void normalise_columns(Device const& device, matrix_view<TU, LU> U, matrix_view<T> Uhat,
                       matrix_view<real_t<T>> scales) {
  if (U.cols > 0) launch(device, U.cols, normalise_columns_kernel<TU, LU, T>{U, Uhat, scales});
}
template <device_policy Device, class T, class TU, class LU>
void normalise_columns_backward(Device const& device, matrix_view<T const> Uhat, matrix_view<real_t<T> const> scales,
                                vector_view<T const> tau, matrix_view<T> D, matrix_view<TU, LU> dU) {
  if (D.cols == 0) return;
  launch(device, D.cols, normalise_columns_backward_kernel<T, TU, LU>{Uhat, scales, tau, D, dU});
}
template <device_policy Device, class T, class L>
void add_row_dots(Device const& device, matrix_view<T const, L> X, matrix_view<T const, L> Y, vector_view<T> d) {
  using kernel = column_dots_kernel<T, transposed_layout<L>>;
  if (X.rows > 0) launch(device, X.rows, kernel{Y.transposed(), X.transposed(), d, true});
}
template <device_policy Device, class T>
void column_dots(Device const& device, matrix_view<T> X, matrix_view<T> Y, vector_view<T> d) {
  if (X.cols > 0) launch(device, X.cols, column_dots_kernel<T, col_major>{X, Y, d, false});
}
/// The host does not read what the device holds.
template <device_policy Device, class T>
index_t find_zero(Device const&, vector_view<T const>) {
  return -1;
}

// --- products ---------------------------------------------------------------------------------------------------

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

template <device_policy Device, class TU, class LU, class TX, class LX, class T, class LW>
void project(Device const& device, matrix_view<TU, LU> U, matrix_view<TX, LX> X, matrix_view<T, LW> W) {
  general_product<Device, T>(device, T(1), matrix_view<T const, LU>(U).transposed(), is_complex<T>,
                             matrix_view<T const, LX>(X), false, {}, W);
}
template <device_policy Device, class TU, class LU, class TZ, class LZ, class T, class LY>
void update(Device const& device, std::type_identity_t<T> alpha, matrix_view<TU, LU> U, matrix_view<TZ, LZ> Z,
            std::type_identity_t<matrix_view<T const, LY>> X, matrix_view<T, LY> Y) {
  general_product<Device, T>(device, alpha, matrix_view<T const, LU>(U), false, matrix_view<T const, LZ>(Z), false, X,
                             Y);
}
template <device_policy Device, class TX, class LX, class TZ, class LZ, class T, class LD>
void outer(Device const& device, std::type_identity_t<T> alpha, matrix_view<TX, LX> X, matrix_view<TZ, LZ> Z,
           matrix_view<T, LD> D) {
  general_product<Device, T>(device, alpha, matrix_view<T const, LX>(X), false,
                             matrix_view<T const, LZ>(Z).transposed(), is_complex<T>, D, D);
}
template <device_policy Device, class TF, class TW, class LW, class T, class LZ>
void multiply(Device const& device, std::type_identity_t<T> alpha, matrix_view<TF> F, op o, matrix_view<TW, LW> W,
              matrix_view<T, LZ> Z) {
  if (o == op::plain)
    general_product<Device, T>(device, alpha, matrix_view<T const>(F), false, matrix_view<T const, LW>(W), false, {},
                               Z);
  else
    general_product<Device, T>(device, alpha, matrix_view<T const>(F).transposed(), is_complex<T>,
                               matrix_view<T const, LW>(W), false, {}, Z);
}
template <device_policy Device, class T, class LZ>
void multiply_inverse_factor(Device const& device, matrix_view<T const> A, vector_view<T const> tau, op o,
                             std::type_identity_t<matrix_view<T const, LZ>> Z, matrix_view<T, LZ> W) {
  multiply(device, T(1), A, o, Z, W);
  for_each_element(device, W, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    T const t = conjugate_if(o == op::adjoint, T(tau[i]));
    W(i, j) = t == T(0) ? T(0) : sum(W(i, j), quotient(T(Z(i, j)), t));
  });
}

// --- the triangular factor --------------------------------------------------------------------------------------

template <device_policy Device, class T>
void gram_upper(Device const& device, matrix_view<T const> U, matrix_view<T> A, vector_view<T> tau) {
  project(device, U, U, A);
  for_each_element(device, A, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    if (i == j && tau.size > 0) {
      real_t<T> const square = real_part(A(j, j));
      tau[j] = square == real_t<T>(0) ? T(0) : T(real_t<T>(2) / square);
    }
    if (i >= j) A(i, j) = T(0);
  });
}
template <device_policy Device, class T>
void form_factor(Device const& device, matrix_view<T const> A, vector_view<T const> tau, matrix_view<T> F, T*) {
  if (A.cols > 0) launch(device, 1, invert_triangle_kernel<T>{A, tau, F});
}
template <device_policy Device>
index_t form_factor_scratch(Device const&, index_t) {
  return 0;
}

// --- packed reflectors ------------------------------------------------------------------------------------------

/// U [m, r] for panels of any layout: a copy by columns without padding.
template <class T>
struct packed_matrix {
  matrix_view<T> elements;
  index_t rows = 0, cols = 0;
  packed_matrix columns(index_t j, index_t count) const { return {elements.columns(j, count), rows, count}; }
  matrix_view<T const> view() const { return elements; }
};

template <class T, class L, device_policy Device>
packed_matrix<T> carve_packed(Device const&, arena& memory, index_t rows, index_t cols) {
  return {memory.matrix<T>(rows, cols), rows, cols};
}
template <class T>
struct packed_once {
  packed_matrix<T> only;
  packed_matrix<T> operator()(index_t) const { return only; }
};
template <class T, class L, device_policy Device>
packed_once<T> carve_packed_each(Device const& device, arena& memory, index_t rows, index_t cols) {
  return {carve_packed<T, L>(device, memory, rows, cols)};
}
template <device_policy Device, class TU, class LU, class T>
void pack(Device const& device, matrix_view<TU, LU> U, packed_matrix<T> P, bool conjugated = false) {
  if (conjugated) conjugate_copy(device, U, P.elements);
  else copy(device, U, P.elements);
}
template <device_policy Device, class T>
void clear(Device const& device, packed_matrix<T> P) {
  fill(device, T(0), P.elements);
}
template <device_policy Device, class T>
void add(Device const& device, packed_matrix<T> P, matrix_view<T> Y) {
  add(device, P.view(), Y);
}

template <device_policy Device, class T, class TX, class L, class LW>
void project(Device const& device, packed_matrix<T> U, matrix_view<TX, L> X, matrix_view<T, LW> W) {
  project(device, U.view(), X, W);
}
template <device_policy Device, class T, class TZ, class L>
void update(Device const& device, packed_matrix<T> U, matrix_view<TZ, L> Z,
            std::type_identity_t<matrix_view<T const, L>> X, matrix_view<T, L> Y,
            std::type_identity_t<prefetch_hint<T, L>> const& = {}) {
  update(device, T(1), U.view(), Z, X, Y);
}
template <device_policy Device, class T, class TZ, class TS, class L>
void update(Device const& device, packed_matrix<T> U, matrix_view<TZ, L> Z, packed_matrix<T> V, matrix_view<TS, L> S,
            std::type_identity_t<matrix_view<T const, L>> X, matrix_view<T, L> Y,
            std::type_identity_t<prefetch_hint<T, L>> const& = {}) {
  update(device, T(1), U.view(), Z, X, Y);
  update(device, T(1), V.view(), S, Y, Y);
}
template <device_policy Device, class T, class TX, class TZ, class L>
void outer(Device const& device, matrix_view<TX, L> X, matrix_view<TZ, L> Z, packed_matrix<T> D) {
  outer(device, T(1), X, Z, D.elements);
}
template <device_policy Device, class T, class TX, class TZ, class TG, class TP, class L>
void outer(Device const& device, matrix_view<TX, L> X, matrix_view<TZ, L> Z, matrix_view<TG, L> G, matrix_view<TP, L> P,
           packed_matrix<T> D) {
  outer(device, T(1), X, Z, D.elements);
  outer(device, T(1), G, P, D.elements);
}

}  // namespace HOFT_CUDA_NAMESPACE
