// hoft/cuda/backward.hpp: the gradients of Y = X − U F UᴴX in one pass over X and dY.
#pragma once
#include <hoft/core/options.hpp>
#include <hoft/cuda/collectives.hpp>

namespace hoft::cuda {

/// A block takes 16 columns at a time, reads them for the projections on U and, from the second-level cache, for the
/// gradients. It adds to sums of its own over its columns; whoever launches it adds those up, in the order of blocks.
/// The formulas are those of backward_panel (wy/gradient.hpp).
template <class T, class L, class A>
struct backward_kernel {
  static constexpr index_t columns = 16;
  static constexpr index_t most_reflectors = 64;

  matrix_view<A const> U, F, gram;
  vector_view<A const> tau;
  op o;
  bool from_output;  ///< X is the output of the forward pass
  matrix_view<T const, L> X, G;
  matrix_view<T, L> dX;
  A* parts;  ///< for each block D [m, r], dF [r, r] and E [r, r]

  static constexpr HOFT_HOST_DEVICE index_t part_size(index_t m, index_t r) { return m * r + 2 * r * r; }
  index_t tasks() const { return (X.cols + columns - 1) / columns; }

  struct shared {
    A *partial, *UX, *P, *W, *minus_Z, *dW;
    HOFT_HOST_DEVICE shared(shared_carver& memory, index_t r)
        : partial(memory.template array<A>(2 * threads * tile_elements)),
          UX(memory.template array<A>(r * columns)),
          P(memory.template array<A>(r * columns)),
          W(memory.template array<A>(r * columns)),
          minus_Z(memory.template array<A>(r * columns)),
          dW(memory.template array<A>(r * columns)) {}
  };
  index_t shared_bytes() const {
    shared_carver counter;
    shared(counter, U.cols);
    return counter.size();
  }

  template <class Block>
  HOFT_HOST_DEVICE void operator()(Block const& block) const {
    shared_carver carver(block.memory);
    index_t const m = X.rows, r = U.cols;
    shared const s(carver, r);
    A* const part = parts + block.x * part_size(m, r);
    matrix_view<A> const D(part, m, r), dF(part + m * r, r, r), E(part + m * r + r * r, r, r);
    block.each(2 * r * r, [&](index_t e) { part[m * r + e] = A(0); });
    for (index_t task = block.x; task * columns < X.cols; task += block.blocks) {
      index_t const first = task * columns, count = first + columns < X.cols ? columns : X.cols - first;
      auto const x = [&](index_t i, index_t c) { return c < count ? static_cast<A>(X(i, first + c)) : A(0); };
      auto const g = [&](index_t i, index_t c) { return c < count ? static_cast<A>(G(i, first + c)) : A(0); };
      block_project<2>(
          block, s.partial, U, columns, [&](index_t n, index_t i, index_t c) { return n == 0 ? x(i, c) : g(i, c); },
          [&](index_t n, index_t k, index_t c, A value) { (n == 0 ? s.UX : s.P)[k * columns + c] = value; },
          every_tile{});
      form_small(block, s);
      block.each(r * r, [&](index_t e) {
        index_t const k = e % r, l = e / r;
        A f = dF(k, l), t = E(k, l);
        for (index_t c = 0; c < columns; ++c) {
          f = multiply_add(negative(s.P[k * columns + c]), conjugate(s.W[l * columns + c]), f);
          t = multiply_add(negative(s.minus_Z[k * columns + c]), conjugate(s.dW[l * columns + c]), t);
        }
        dF(k, l) = f;
        E(k, l) = from_output ? t : A(0);
      });
      bool const begins = task == block.x;
      block.each(m, [&](index_t i) {
        A left[columns], right[columns], d[columns];
        for (index_t c = 0; c < columns; ++c) left[c] = g(i, c), right[c] = x(i, c), d[c] = left[c];
        for (index_t k = 0; k < r; ++k) {
          A const u = U(i, k);
          A total = begins ? A(0) : D(i, k);
          for (index_t c = 0; c < columns; ++c) {
            A const dw = s.dW[k * columns + c];
            d[c] = multiply_add(u, dw, d[c]);
            total = multiply_add(left[c], conjugate(s.minus_Z[k * columns + c]), total);
            total = multiply_add(right[c], conjugate(dw), total);
          }
          D(i, k) = total;
        }
        for (index_t c = 0; c < columns; ++c)
          if (c < count) dX(i, first + c) = static_cast<T>(d[c]);
      });
    }
  }

 private:
  /// (op(F) V)(k, c), op adjoint or not, V [r, columns] by rows.
  HOFT_HOST_DEVICE A row_times(matrix_view<A const> M, bool adjoint, A const* V, index_t k, index_t c) const {
    A total(0);
    for (index_t l = 0; l < U.cols; ++l)
      total = multiply_add(adjoint ? conjugate(A(M(l, k))) : A(M(k, l)), V[l * columns + c], total);
    return total;
  }

  /// W, −Z and dW from UX and P.
  template <class Block>
  HOFT_HOST_DEVICE void form_small(Block const& block, shared const& s) const {
    bool const adjoint = o == op::adjoint;
    index_t const all = U.cols * columns;
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
};

}  // namespace hoft::cuda
