// hoft/cuda/primitives.hpp: what the algorithms of wy/ and transform/ ask of a backend, as launches of kernels.
// `Device` is the policy of a GPU, or of the host that stands in for one in tests: it has launch(device, blocks,
// kernel) and multiply_matrices(device, ...).
#pragma once
#include <hoft/core/outlook.hpp>
#include <hoft/core/workspace.hpp>
#include <hoft/cuda/accumulate.hpp>
#include <hoft/cuda/apply.hpp>
#include <hoft/cuda/backward.hpp>
#include <hoft/cuda/kernels.hpp>

#include <algorithm>
#include <limits>
#include <span>

namespace hoft::cuda {

/// A policy of this backend.
template <class P>
concept device_policy = execution_policy<P> && requires {
  typename P::cuda_device_tag;
};

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
  if constexpr (std::same_as<T, accumulator_t<T>>) return std::numeric_limits<index_t>::max() / 2;
  else return std::max<index_t>(64, (index_t{1} << 22) / std::max<index_t>(m, 1));
}
template <device_policy Device, class Body>
void for_each_panel(Device const&, index_t n, index_t width, Body const& body) {
  for (index_t j = 0; j < n; j += width) body(index_t{0}, panel{j, std::min(width, n - j), 0});
}
template <device_policy Device, class Clear, class Body, class Merge>
void for_each_panel_summed(Device const& device, index_t n, index_t width, Clear const& clear, Body const& body,
                           Merge const& merge) {
  if (n == 0) return;
  clear(index_t{0});
  for_each_panel(device, n, width, body);
  merge(index_t{0});
}
template <device_policy Device, class Body>
void for_each_problem(Device const&, index_t count, Body const& body) {
  for (index_t i = 0; i < count; ++i) body(index_t{0}, i);
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
  if (X.rows > 0) launch(device, X.rows, row_dots_kernel<T, L>{X, Y, d});
}
template <device_policy Device, class T>
void column_dots(Device const& device, matrix_view<T> X, matrix_view<T> Y, vector_view<T> d) {
  if (X.cols > 0) launch(device, X.cols, column_dots_kernel<T>{X, Y, d});
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

// --- algorithms that are one kernel -----------------------------------------------------------------------------

/// The exact forms Q[i] of U[i], a launch for each run of problems of one shape; false, and nothing done, if a block
/// cannot share as much memory as one of them takes.
template <device_policy Device, class TU, class LU, class Form>
bool accumulate_in_one_launch(Device const& device, std::span<matrix_view<TU, LU> const> U, std::span<Form> Q) {
  using T = typename Form::value_type;
  constexpr int few = 8, many = 640;  // what the arguments of a kernel have room for
  for (auto const& u : U)
    if (accumulate_kernel<TU, LU, T, few>::bytes_for(u.cols) > device.shared_limit) return false;
  auto const run = [&]<int Most>(std::size_t first, std::size_t count) {
    auto const& u = U[first];
    auto const& q = Q[first];
    accumulate_kernel<TU, LU, T, Most> kernel{};
    kernel.m = u.rows, kernel.r = u.cols, kernel.block_size = q.block;
    kernel.ld_U = u.ld, kernel.ld_vectors = q.vectors.ld, kernel.ld_factor = q.factor.ld, kernel.ld_gram = q.gram.ld,
    kernel.ld_scales = q.scales.ld;
    kernel.count = index_t(count);
    for (std::size_t i = 0; i < count; ++i) {
      auto const& p = Q[first + i];
      kernel.problems[i] = {U[first + i].data, p.vectors.data, p.factor.data, p.gram.data, p.tau.data, p.scales.data};
    }
    launch(device, index_t(count), kernel);
  };
  auto const alike = [&](std::size_t i, std::size_t j) {
    auto const &a = Q[i], &b = Q[j];
    return U[i].rows == U[j].rows && U[i].cols == U[j].cols && U[i].ld == U[j].ld && a.block == b.block &&
           a.vectors.ld == b.vectors.ld && a.factor.ld == b.factor.ld && a.gram.ld == b.gram.ld &&
           a.scales.ld == b.scales.ld;
  };
  for (std::size_t first = 0; first < U.size();) {
    std::size_t count = 1;
    while (count < many && first + count < U.size() && alike(first, first + count)) ++count;
    if (U[first].cols > 0) {
      if (count <= few) run.template operator()<few>(first, count);
      else run.template operator()<many>(first, count);
    }
    first += count;
  }
  return true;
}

/// Y := X − U op(F) UᴴX in one pass over X, and W := UᴴX if it has a place; false if there are too many reflectors.
template <device_policy Device, class A, class T, class L>
bool apply_in_one_pass(Device const& device, matrix_view<A const> U, matrix_view<A const> F, op o,
                       matrix_view<T const, L> X, matrix_view<T, L> Y, matrix_view<A> W) {
  using kernel_type = apply_kernel<T, L, A>;
  if (X.empty() || U.cols == 0 || U.cols > kernel_type::most_reflectors) return false;
  kernel_type kernel{U, F, o == op::adjoint, X, Y, W, true};
  if (kernel.shared_bytes() > device.shared_limit) kernel.keeps_columns = false;
  if (kernel.shared_bytes() > device.shared_limit) return false;
  launch(device, kernel.tasks(), kernel);
  return true;
}

/// Blocks of backward_in_one_pass: few, since each has a sum of its own, and all sums should stay in the second-level
/// cache. 0 where that leaves most of a device idle.
template <device_policy Device>
index_t backward_blocks(Device const& device, index_t columns, index_t part_bytes) {
  constexpr index_t cache = index_t{40} << 20, at_a_time = 16;
  index_t const wanted = std::min((columns + at_a_time - 1) / at_a_time, std::max<index_t>(1, device.most_blocks / 8));
  index_t const fit = cache / std::max<index_t>(part_bytes, 1);
  return 2 * fit < wanted ? 0 : std::min(wanted, fit);
}
/// Elements of scratch for backward_in_one_pass.
template <class T, class L, device_policy Device>
index_t backward_scratch(Device const& device, index_t m, index_t n, index_t r) {
  using A = accumulator_t<T>;
  using kernel_type = backward_kernel<T, L, A>;
  if (r > kernel_type::most_reflectors) return 0;
  index_t const size = kernel_type::part_size(m, r);
  return backward_blocks(device, n, size * index_t(sizeof(A))) * size;
}
/// dX := op(Q)ᴴ G, and the sums D, dF and E over all columns in `sums`, in one pass over X and G, for a Q of one factor
/// `q`; false if that has too many reflectors. dX may be G.
template <device_policy Device, class Factor, class T, class L, class Sums, class A>
bool backward_in_one_pass(Device const& device, Factor const& q, op o, bool from_output, matrix_view<T const, L> X,
                          matrix_view<T const, L> G, matrix_view<T, L> dX, Sums const& sums, A* scratch) {
  using kernel_type = backward_kernel<T, L, A>;
  index_t const m = X.rows, r = q.rank;
  if (r == 0 || r > kernel_type::most_reflectors || X.empty()) return false;
  kernel_type const kernel{q.U, q.T, q.gram, q.tau, o, from_output, X, G, dX, scratch};
  index_t const size = kernel_type::part_size(m, r);
  index_t const blocks = backward_blocks(device, X.cols, size * index_t(sizeof(A)));
  if (blocks == 0 || kernel.shared_bytes() > device.shared_limit) return false;
  launch(device, blocks, kernel);
  auto const add_parts = [&](matrix_view<A> to, A const* first) {
    index_t const rows = to.rows;
    for_each_element(device, to, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
      A total(0);
      for (index_t b = 0; b < blocks; ++b) total = sum(total, first[b * size + i + j * rows]);
      to(i, j) = total;
    });
  };
  add_parts(sums.D, scratch);
  add_parts(sums.dF.block(0, 0, r, r), scratch + m * r);
  add_parts(sums.E.block(0, 0, r, r), scratch + m * r + r * r);
  return true;
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
packed_matrix<T> carve_packed(Device const&, carver& memory, index_t rows, index_t cols) {
  return {memory.matrix<T>(rows, cols), rows, cols};
}
template <class T>
struct packed_once {
  packed_matrix<T> only;
  packed_matrix<T> operator()(index_t) const { return only; }
};
template <class T, class L, device_policy Device>
packed_once<T> carve_packed_each(Device const& device, carver& memory, index_t rows, index_t cols) {
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
            std::type_identity_t<outlook<T, L>> const& = {}) {
  update(device, T(1), U.view(), Z, X, Y);
}
template <device_policy Device, class T, class TZ, class TS, class L>
void update(Device const& device, packed_matrix<T> U, matrix_view<TZ, L> Z, packed_matrix<T> V, matrix_view<TS, L> S,
            std::type_identity_t<matrix_view<T const, L>> X, matrix_view<T, L> Y,
            std::type_identity_t<outlook<T, L>> const& = {}) {
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

}  // namespace hoft::cuda
