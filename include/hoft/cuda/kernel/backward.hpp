// SPDX-License-Identifier: BSD-3-Clause
// hoft/cuda/kernel/backward.hpp: the gradients of Y = X − U F UᴴX in one pass over X and dY.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/block/collectives.hpp>
#include <hoft/view/vector_view.hpp>

namespace HOFT_CUDA_NAMESPACE {

/// What the gradients of 16 columns take beside X and G: matrices of r rows, and the formulas of backward_panel
/// (householder/gradient.hpp).
template <class A>
struct small_gradients {
  static constexpr index_t columns = 16;

  matrix_view<A const> F, gram;
  vector_view<A const> tau;
  op o;
  bool from_output;  ///< X is the output of the forward pass

  /// [r, 16] each, by rows: UᴴX, P = UᴴG, and what `form` makes of them.
  struct arrays {
    A *UX, *P, *W, *minus_Z, *dW;
    HOFT_HOST_DEVICE arrays(shared_arena& memory, index_t r)
        : UX(memory.template array<A>(r * columns)),
          P(memory.template array<A>(r * columns)),
          W(memory.template array<A>(r * columns)),
          minus_Z(memory.template array<A>(r * columns)),
          dW(memory.template array<A>(r * columns)) {}
  };

  /// W, −Z and dW from UX and P.
  template <class Block>
  HOFT_HOST_DEVICE void form(Block const& block, arrays const& s) const {
    bool const adjoint = o == op::adjoint;
    index_t const all = F.cols * columns;
    if (from_output) {  // Z := −op(F)ᴴ UᴴY, W := op(S) Z: zero where tau is
      block.each(all, [&](index_t e) {
        s.minus_Z[e] = row_times(F, !adjoint, s.UX, e / columns, e % columns);
        s.dW[e] = negative(row_times(F, !adjoint, s.P, e / columns, e % columns));
      });
      block.each(all, [&](index_t e) {
        index_t const k = e / columns;
        A const t = conjugate_if(adjoint, A(tau[k])), z = negative(s.minus_Z[e]);
        A const above = negative(row_times(gram, adjoint, s.minus_Z, k, e % columns));
        s.W[e] = t == A(0) ? A(0) : sum(above, quotient(z, t));
      });
    } else {
      block.each(all, [&](index_t e) {
        s.W[e] = s.UX[e];
        s.minus_Z[e] = negative(row_times(F, adjoint, s.UX, e / columns, e % columns));
        s.dW[e] = negative(row_times(F, !adjoint, s.P, e / columns, e % columns));
      });
    }
  }

  /// dF += −P Wᴴ and, for D from the output, E += Z dWᴴ.
  template <class Block>
  HOFT_HOST_DEVICE void add(Block const& block, arrays const& s, bool output, matrix_view<A> dF,
                            matrix_view<A> E) const {
    block.each(dF.rows * dF.cols, [&](index_t e) {
      auto const [l, k] = divide(e, dF.rows);
      A f = dF(k, l), t = E(k, l);
      for (index_t c = 0; c < columns; ++c) {
        f = multiply_add(negative(s.P[k * columns + c]), conjugate(s.W[l * columns + c]), f);
        if (output) t = multiply_add(negative(s.minus_Z[k * columns + c]), conjugate(s.dW[l * columns + c]), t);
      }
      dF(k, l) = f, E(k, l) = t;
    });
  }

  /// (op(S) without rows whose tau is zero)(k, l): W = that Z, from the output.
  HOFT_HOST_DEVICE A over(index_t k, index_t l) const {
    bool const adjoint = o == op::adjoint;
    A const t = conjugate_if(adjoint, A(tau[k]));
    if (t == A(0)) return A(0);
    if (k == l) return quotient(A(1), t);
    return adjoint ? conjugate(A(gram(l, k))) : A(gram(k, l));
  }

 private:
  /// (op(M) V)(k, c), op adjoint or not, V [r, 16] by rows.
  HOFT_HOST_DEVICE A row_times(matrix_view<A const> M, bool adjoint, A const* V, index_t k, index_t c) const {
    A total(0);
    for (index_t l = 0; l < F.cols; ++l)
      total = multiply_add(adjoint ? conjugate(A(M(l, k))) : A(M(k, l)), V[l * columns + c], total);
    return total;
  }
};

/// What the gradients of adapters sum over columns. apply_backward has D, dF and E.
struct gradient_shape {
  index_t m, ru;
  index_t rv = 0;
  bool split_D = false;  ///< the two terms of D, G (−Z)ᴴ and X dWᴴ, have a sum each
  bool dots = false;     ///< sums of G ∘ X along rows are wanted
  HOFT_HOST_DEVICE constexpr index_t size() const {
    return m * (ru * (split_D ? 2 : 1) + rv + (dots ? 1 : 0)) + 2 * ru * ru + ru * rv;
  }
};
/// Where a block or a cluster adds up its columns, one behind the other.
template <class A>
struct gradient_part {
  matrix_view<A> dF, E;  ///< [ru, ru]
  matrix_view<A> J;      ///< [ru, rv] Σ dW vᴴ
  matrix_view<A> D;      ///< [m, ru] Σ G (−Z)ᴴ + X dWᴴ, or its first term
  matrix_view<A> X_dW;   ///< [m, ru] its second term, or empty
  matrix_view<A> G_v;    ///< [m, rv] Σ G vᴴ
  vector_view<A> dots;   ///< [m], or empty
  HOFT_HOST_DEVICE gradient_part(A* parts, index_t which, gradient_shape const& s)
      : dF(behind(parts, which * s.size()), s.ru, s.ru),
        E(behind(dF.data, s.ru * s.ru), s.ru, s.ru),
        J(behind(E.data, s.ru * s.ru), s.ru, s.rv),
        D(behind(J.data, s.ru * s.rv), s.m, s.ru),
        X_dW(behind(D.data, s.m * s.ru), s.m, s.split_D ? s.ru : 0),
        G_v(behind(X_dW.data, s.m * X_dW.cols), s.m, s.rv),
        dots(behind(G_v.data, s.m * s.rv), s.dots ? s.m : 0) {}

 private:
  /// No address where memory is counted only.
  HOFT_HOST_DEVICE static A* behind(A* first, index_t count) { return first == nullptr ? first : first + count; }
};

/// A block takes 16 columns at a time, reads them for the projections on U and, from the second-level cache, for the
/// gradients. Whoever launches it adds up the parts, in the order of blocks.
template <class T, class L, class A>
struct backward_kernel {
  static constexpr index_t columns = small_gradients<A>::columns;
  static constexpr index_t most_reflectors = 64;

  matrix_view<A const> U;
  small_gradients<A> small_part;
  matrix_view<T const, L> X, G;
  matrix_view<T, L> dX;
  A* parts;  ///< of every block

  struct shared {
    A* partial;
    typename small_gradients<A>::arrays arrays;
    HOFT_HOST_DEVICE shared(shared_arena& memory, index_t r)
        : partial(memory.template array<A>(2 * threads * tile_elements)), arrays(memory, r) {}
  };
  index_t shared_bytes() const {
    shared_arena counter;
    shared(counter, U.cols);
    return counter.size();
  }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    shared_arena arena(block.memory);
    index_t const m = X.rows, r = U.cols;
    shared const memory(arena, r);
    auto const& s = memory.arrays;
    gradient_part<A> const part(parts, block.x, {m, r});
    block.each(2 * r * r, [&](index_t e) { part.dF.data[e] = A(0); });
    for (index_t task = block.x; task * columns < X.cols; task += block.blocks) {
      index_t const first = task * columns, count = first + columns < X.cols ? columns : X.cols - first;
      auto const x = [&](index_t i, index_t c) { return c < count ? static_cast<A>(X(i, first + c)) : A(0); };
      auto const g = [&](index_t i, index_t c) { return c < count ? static_cast<A>(G(i, first + c)) : A(0); };
      block_project<2>(
          block, memory.partial, U, columns,
          [&](index_t n, index_t i, index_t c) { return n == 0 ? x(i, c) : g(i, c); },
          [&](index_t n, index_t k, index_t c, A value) { (n == 0 ? s.UX : s.P)[k * columns + c] = value; },
          every_tile{});
      small_part.form(block, s);
      small_part.add(block, s, small_part.from_output, part.dF, part.E);
      bool const begins = task == block.x;
      block.each(m, [&](index_t i) {
        A left[columns], right[columns], d[columns];
        for (index_t c = 0; c < columns; ++c) left[c] = g(i, c), right[c] = x(i, c), d[c] = left[c];
        for (index_t k = 0; k < r; ++k) {
          A const u = U(i, k);
          A total = begins ? A(0) : part.D(i, k);
          for (index_t c = 0; c < columns; ++c) {
            A const dw = s.dW[k * columns + c];
            d[c] = multiply_add(u, dw, d[c]);
            total = multiply_add(left[c], conjugate(s.minus_Z[k * columns + c]), total);
            total = multiply_add(right[c], conjugate(dw), total);
          }
          part.D(i, k) = total;
        }
        for (index_t c = 0; c < columns; ++c)
          if (c < count) dX(i, first + c) = static_cast<T>(d[c]);
      });
    }
  }
};

}  // namespace HOFT_CUDA_NAMESPACE
