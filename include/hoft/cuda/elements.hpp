// hoft/cuda/elements.hpp: walks over panels, and what is done element by element. `Device` is the policy of a GPU, or
// of the host that stands in for one in tests, or of a problem that writes its launches down (group.hpp): it has
// launch_blocks(device, blocks, kernel), launch_clusters(...), multiplies(...) and multiply_matrices(...).
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/kernel/elements.hpp>
#include <hoft/cuda/tuning.hpp>
#include <hoft/view/vector_view.hpp>

#include <algorithm>
#include <limits>

namespace HOFT_CUDA_NAMESPACE {

/// A policy of this backend.
template <class P>
concept device_policy = execution_policy<P> && requires {
  typename P::cuda_device_tag;
};

/// kernel(block) by as many blocks as there are tasks, at most `most_blocks`.
template <device_policy Device, class Kernel>
void launch(Device const& device, index_t tasks, Kernel const& kernel) {
  launch_blocks(device, (std::min)(tasks, device.most_blocks), kernel);
}

// --- walking: kernels take whole matrices -----------------------------------------------------------------------

template <device_policy Device>
index_t worker_count(Device const&) {
  return 1;
}
template <device_policy Device>
Device serial(Device const& device) {
  return device;
}

struct panel {
  index_t first, count, next;
};

/// All columns at once. Storage in 16 bits is converted panel by panel where no kernel reads it as it is: enough
/// columns to fill the device, few enough that the copy is small beside the matrix.
template <class T, class Layout, device_policy Device>
index_t panel_width(Device const&, index_t m) {
  if constexpr (std::same_as<T, accumulator_t<T>>) return (std::numeric_limits<index_t>::max)() / 2;
  else return std::max<index_t>(64, (index_t{1} << 22) / std::max<index_t>(m, 1));
}
template <device_policy Device, class Body>
void for_each_panel(Device const&, index_t n, index_t width, Body const& body) {
  for (index_t j = 0; j < n; j += width) body(index_t{0}, panel{j, (std::min)(width, n - j), 0});
}
template <device_policy Device, class Clear, class Body, class Merge>
void for_each_panel_summed(Device const& device, index_t n, index_t width, Clear const& clear, Body const& body,
                           Merge const& merge) {
  if (n == 0) return;
  clear(index_t{0});
  for_each_panel(device, n, width, body);
  merge(index_t{0});
}

// --- element by element -----------------------------------------------------------------------------------------

template <class F>
struct turned {
  F f;
  HOFT_HOST_DEVICE void operator()(index_t j, index_t i) const { f(i, j); }
};

/// f(i, j) for every element of X, along its lines.
template <device_policy Device, class T, class L, class F>
void for_each_element(Device const& device, matrix_view<T, L> X, F const& f) {
  if (X.empty()) return;
  if constexpr (X.is_col_major) {
    elements<F> const kernel{X.rows, X.cols, f};
    launch(device, kernel.tiles(), kernel);
  } else {
    elements<turned<F>> const kernel{X.cols, X.rows, {f}};
    launch(device, kernel.tiles(), kernel);
  }
}

template <device_policy Device, class TX, class LX, class TY, class LY>
void copy(Device const& device, matrix_view<TX, LX> X, matrix_view<TY, LY> Y) {
  if (static_cast<void const*>(X.data) == static_cast<void const*>(Y.data)) return;
  using A = accumulator_t<TX>;
  for_each_element(
      device, Y, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) { Y(i, j) = static_cast<TY>(static_cast<A>(X(i, j))); });
}
template <device_policy Device, class TX, class TY>
void copy(Device const& device, vector_view<TX> x, vector_view<TY> y) {
  copy(device, matrix_view<TX>(x.data, x.size, 1), matrix_view<TY>(y.data, y.size, 1));
}

template <device_policy Device, class T, class L>
void fill(Device const& device, T value, matrix_view<T, L> X) {
  for_each_element(device, X, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) { X(i, j) = value; });
}
template <device_policy Device, class T>
void fill(Device const& device, T value, vector_view<T> x) {
  fill(device, value, matrix_view<T>(x.data, x.size, 1));
}

template <device_policy Device, class T>
void set_diagonal(Device const& device, vector_view<T const> d, matrix_view<T> D) {
  for_each_element(device, D, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) { D(i, j) = i == j ? d[i] : T(0); });
}
template <device_policy Device, class T, class L>
void set_identity(Device const& device, matrix_view<T, L> E) {
  using A = accumulator_t<T>;
  for_each_element(device, E,
                   [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) { E(i, j) = static_cast<T>(A(i == j ? 1 : 0)); });
}

template <device_policy Device, class TX, class LX, class T, class LY>
void conjugate_copy(Device const& device, matrix_view<TX, LX> X, matrix_view<T, LY> Y) {
  for_each_element(device, Y, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) { Y(i, j) = conjugate(T(X(i, j))); });
}
template <device_policy Device, class T, class L>
void conjugate_in_place(Device const& device, matrix_view<T, L> X) {
  if constexpr (is_complex<T>)
    for_each_element(device, X, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) { X(i, j) = conjugate(T(X(i, j))); });
}

template <device_policy Device, class T, class L>
void add(Device const& device, std::type_identity_t<matrix_view<T const, L>> X, matrix_view<T, L> Y) {
  for_each_element(device, Y, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) { Y(i, j) = sum(Y(i, j), T(X(i, j))); });
}
template <device_policy Device, class T, class L>
void negate(Device const& device, matrix_view<T, L> X) {
  for_each_element(device, X, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) { X(i, j) = negative(T(X(i, j))); });
}

template <device_policy Device, class TA, class LA, class T>
void unit_lower(Device const& device, matrix_view<TA, LA> A, matrix_view<T> V) {
  for_each_element(device, V, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    V(i, j) = i < j ? T(0) : i == j ? T(1) : static_cast<T>(A(i, j));
  });
}
template <device_policy Device, class T, class TA, class LA>
void strictly_lower(Device const& device, matrix_view<T const> D, matrix_view<TA, LA> dA) {
  for_each_element(device, dA, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    dA(i, j) = static_cast<TA>(i > j ? T(D(i, j)) : T(0));
  });
}
template <device_policy Device, class T>
void keep_strictly_upper(Device const& device, matrix_view<T> A) {
  for_each_element(device, A, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    if (i >= j) A(i, j) = T(0);
  });
}

template <device_policy Device, class T, class L>
void scale_rows(Device const& device, vector_view<T const> d, op o, std::type_identity_t<matrix_view<T const, L>> X,
                matrix_view<T, L> Y) {
  for_each_element(device, Y, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    Y(i, j) = product(conjugate_if(o == op::adjoint, T(d[i])), T(X(i, j)));
  });
}
template <device_policy Device, class A, class T, class L>
void divide_rows(Device const& device, vector_view<A const> d, matrix_view<T, L> X) {
  for_each_element(device, X, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    X(i, j) = static_cast<T>(quotient(static_cast<A>(X(i, j)), A(d[i])));
  });
}

}  // namespace HOFT_CUDA_NAMESPACE
