// SPDX-License-Identifier: BSD-3-Clause
// layer.hpp: one adapted linear layer y = M̂ x and what its rivals need: the frozen layer alone, LoRA, and the paper's
// own formulation, which forms M̂. Compiled once, in layer.cpp, for float and double.
#pragma once
#include "data.hpp"
#include "products.hpp"
#include "reflectors.hpp"

#include <hoft/adapter/layer.hpp>
#include <hoft/core/cost.hpp>
#include <hoft/eigen/adapter.hpp>

namespace bench {

/// Whose products the base operator, the frozen layer and LoRA take: hoft itself runs over hoft's or OpenBLAS's.
template <class T>
struct layer {
  using matrix = hoft::dense_matrix<T>;
  using state_view = hoft::layer_state<T, T, hoft::col_major>;
  shape s;
  hoft::cpu policy;                          // of hoft and its products; may be changed to one of fewer threads
  matrix_view<T const> M, tokens, gradient;  // [m, n], [n, t], [m, t]
  reflectors<T> left, right;
  hoft::adapter<T> adapter;
  matrix A, B;  // LoRA: M + B A, A [r, n], B [m, r]

  matrix_view<T> dy, dx;  // [m, t] a copy of the gradient that hoft may overwrite, [n, t]
  matrix y_memory;        // of this layer alone: backward passes read it
  matrix_view<T> y;       // [m, t]
  carved<hoft::bound_layer_view<T>> bound;
  carved<state_view> state;
  carved<hoft::layer_gradient_view<T>> sums;
  matrix_view<T> Mhat, dMhat;  // [m, n], the paper's
  matrix h, dh;                // [r, t], LoRA's
  matrix dU, dV, dA, dB;
  memory work, merge_work, merge_backward_work;

  explicit layer(shape size, hoft::cpu policy = {});

  void accumulate();        ///< the adapter anew, as each step of training does
  void bind(library base);  ///< once in a step
  void forward(library base);
  void forward_only(library base);  ///< keeps nothing for a backward pass
  void backward(library base);      ///< adds to the sums
  void clear();                     ///< the sums, and dy from the gradient
  void finish(library base);        ///< once in a step: dU and dV from the sums, which it overwrites
  /// The tokens in `count` equal parts, forward and backward each.
  void micro_batches(library base, index_t count);

  void frozen_forward(library by);
  void frozen_backward(library by);

  void lora_project(library by);  ///< what LoRA's backward pass needs of its forward pass: h = A x
  void lora_forward(library by);
  void lora_backward(library by);

  void form_Mhat();
  void paper_forward(library by);
  void paper_backward(library by);

  hoft::cost frozen_cost() const { return hoft::forward_cost(m(), n(), t(), 0, 0, sizeof(T)); }
  hoft::cost frozen_backward_cost() const { return hoft::forward_cost(n(), m(), t(), 0, 0, sizeof(T)); }
  hoft::cost bind_cost() const { return hoft::bind_cost(m(), n(), r(), r(), sizeof(T)); }
  hoft::cost forward_cost() const { return hoft::forward_cost(m(), n(), t(), r(), r(), sizeof(T)); }
  hoft::cost backward_cost() const { return hoft::backward_cost(m(), n(), t(), r(), r(), sizeof(T)); }
  hoft::cost finish_cost() const { return hoft::finish_cost(m(), n(), r(), r(), sizeof(T)); }
  /// accumulate, bind and finish: what a step has but once.
  hoft::cost once_cost() const {
    double const size = sizeof(T);
    return hoft::accumulate_cost(m(), r(), r(), size) + hoft::accumulate_cost(n(), r(), r(), size) + bind_cost() +
           finish_cost();
  }
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
  template <class F>
  void with_base(library base, F const& f);
  void forward_on(library base, index_t first, index_t count);
  void backward_on(library base, index_t first, index_t count);
};

}  // namespace bench
