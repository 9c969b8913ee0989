// layer.hpp: one adapted linear layer y = M̂ x and what its rivals need: the frozen layer alone, LoRA, and the paper's
// own formulation, which forms M̂. Compiled once, in layer.cpp, for float and double.
#pragma once
#include "data.hpp"
#include "products.hpp"
#include "reflectors.hpp"

#include <hoft/eigen/adapter.hpp>
#include <hoft/core/cost.hpp>
#include <hoft/adapter/forward.hpp>

namespace bench {

/// Whose products the base operator, the frozen layer and LoRA take: hoft itself runs over hoft's or OpenBLAS's.
template <class T>
struct layer {
  using matrix = hoft::dense_matrix<T>;
  shape s;
  matrix_view<T const> M, tokens, gradient;  // [m, n], [n, t], [m, t]
  reflectors<T> left, right;
  hoft::adapter<T> adapter;
  matrix A, B;  // LoRA: M + B A, A [r, n], B [m, r]

  matrix_view<T> x, dy, dx;  // [n, t + r], [m, t + r], [n, t + r]: r spare columns for hoft
  matrix y_memory;           // of this layer alone: backward passes read it
  matrix_view<T> y;          // [m, t + r]
  std::vector<std::byte> saved_memory;
  hoft::saved_activations<T, T, hoft::col_major> saved;
  matrix_view<T> Mhat, dMhat;  // [m, n], the paper's
  matrix h, dh;                // [r, t], LoRA's
  matrix dU, dV, dA, dB;
  memory forward_work, backward_work, merge_work, merge_backward_work;

  explicit layer(shape size);

  matrix_view<T> x_tokens() const { return x.columns(0, s.t); }
  matrix_view<T> y_tokens() const { return y.columns(0, s.t); }
  matrix_view<T> dx_tokens() const { return dx.columns(0, s.t); }

  void accumulate();  ///< the adapter anew, as each step of training does
  void forward(library base);
  void backward(library base);

  void frozen_forward(library by);
  void frozen_backward(library by);

  void lora_project(library by);  ///< what LoRA's backward pass needs of its forward pass: h = A x
  void lora_forward(library by);
  void lora_backward(library by);

  void form_Mhat();
  void paper_forward(library by);
  void paper_backward(library by);

  hoft::cost frozen_cost() const { return hoft::forward_cost(m(), n(), t(), 0, 0, sizeof(T)); }
  hoft::cost frozen_backward_cost() const { return hoft::backward_cost(m(), n(), t(), 0, 0, sizeof(T)); }
  hoft::cost forward_cost() const { return hoft::forward_cost(m(), n(), t(), r(), r(), sizeof(T)); }
  hoft::cost backward_cost() const { return hoft::backward_cost(m(), n(), t(), r(), r(), sizeof(T)); }
  /// LoRA adds `products` products of rank r on each side of the frozen layer: one forward, two backward.
  hoft::cost lora_cost(hoft::cost frozen, double products) const {
    return {frozen.flops + products * 2 * (m() + n()) * r() * t(),
            frozen.bytes + products * sizeof(T) * (m() + n()) * r()};
  }

 private:
  double m() const { return double(s.m); }
  double n() const { return double(s.n); }
  double r() const { return double(s.r); }
  double t() const { return double(s.t); }
  std::size_t saved_size() const;
  hoft::saved_activations<T, T, hoft::col_major> carve_saved();
};

}  // namespace bench
