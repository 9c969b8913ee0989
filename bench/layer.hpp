// layer.hpp: one adapted linear layer y = M̂ x and what its rivals need: the frozen layer alone, LoRA, and the paper's
// own formulation, which forms M̂.
#pragma once
#include "contest.hpp"
#include "products.hpp"

#include <cmath>

namespace bench {

/// Y := M X by somebody else's products: a base operator for hoft.
template <class P, class T>
struct base_of {
  matrix_view<T const> M;
  void apply(matrix_view<T const> X, matrix_view<T> Y) const { gemm(P{}, false, false, 1, M, X, 0, Y); }
  void apply_adjoint(matrix_view<T const> X, matrix_view<T> Y) const { gemm(P{}, true, false, 1, M, X, 0, Y); }
};

/// A weight [m, n] with its adapter, t tokens as columns, and everything that forward and backward passes write.
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

  explicit layer(shape size)
      : s(size),
        M(numbers<T>("M", s.m, s.n)),
        tokens(numbers<T>("tokens", s.n, s.t)),
        gradient(numbers<T>("gradient", s.m, s.t)),
        left(s.m, s.r, 1),
        right(s.n, s.r, 2),
        adapter(left.U, right.U),
        A(matrix::Random(s.r, s.n)),
        B(matrix::Random(s.m, s.r)),
        x(room<T>("x", s.n, s.t + s.r)),
        dy(room<T>("dy", s.m, s.t + s.r)),
        dx(room<T>("dx", s.n, s.t + s.r)),
        y_memory(s.m, s.t + s.r),
        y(as_view(y_memory)),
        saved_memory(saved_size()),
        saved(carve_saved()),
        Mhat(room<T>("Mhat", s.m, s.n)),
        dMhat(room<T>("dMhat", s.m, s.n)),
        h(s.r, s.t),
        dh(s.r, s.t),
        dU(s.m, s.r),
        dV(s.n, s.r),
        dA(s.r, s.n),
        dB(s.m, s.r),
        forward_work(hoft::forward_workspace(hoft::cpu{}, adapter.view(), x)),
        backward_work(hoft::backward_workspace(hoft::cpu{}, adapter.view(), saved)),
        merge_work(hoft::merge_workspace(hoft::cpu{}, adapter.view(), Mhat)),
        merge_backward_work(hoft::merge_backward_workspace(hoft::cpu{}, adapter.view(), M)) {}

  matrix_view<T> x_tokens() const { return x.columns(0, s.t); }
  matrix_view<T> y_tokens() const { return y.columns(0, s.t); }
  matrix_view<T> dx_tokens() const { return dx.columns(0, s.t); }

  /// hoft's forward pass over any base operator.
  template <class Base>
  void forward(Base base) {
    hoft::forward(hoft::cpu{}, adapter.view(), base, x, y, saved, forward_work);
  }
  template <class Base>
  void backward(Base base) {
    hoft::backward(hoft::cpu{}, adapter.view(), base, x_tokens(), y_tokens(), saved, dy, dx, as_view(dU), as_view(dV),
                   hoft::vector_view<T>{}, backward_work);
  }

  template <class P>
  void frozen_forward(P p) {
    gemm(p, false, false, 1, M, tokens, 0, y_tokens());
  }
  template <class P>
  void frozen_backward(P p) {
    gemm(p, true, false, 1, M, gradient, 0, dx_tokens());
  }

  /// What LoRA's backward pass needs of its forward pass: h = A x.
  template <class P>
  void lora_project(P p) {
    gemm(p, false, false, 1, as_view(A), tokens, 0, as_view(h));
  }
  template <class P>
  void lora_forward(P p) {
    frozen_forward(p);
    lora_project(p);
    gemm(p, false, false, 1, as_view(B), as_view(h), 1, y_tokens());
  }
  template <class P>
  void lora_backward(P p) {
    gemm(p, false, true, 1, gradient, as_view(h), 0, as_view(dB));
    gemm(p, true, false, 1, as_view(B), gradient, 0, as_view(dh));
    gemm(p, false, true, 1, as_view(dh), tokens, 0, as_view(dA));
    frozen_backward(p);
    gemm(p, true, false, 1, as_view(A), as_view(dh), 1, dx_tokens());
  }

  /// The paper's: M̂ is formed, and its gradient.
  void form_Mhat() { hoft::merge(hoft::cpu{}, adapter.view(), M, Mhat, merge_work); }
  template <class P>
  void paper_forward(P p) {
    form_Mhat();
    gemm(p, false, false, 1, Mhat, tokens, 0, y_tokens());
  }
  template <class P>
  void paper_backward(P p) {
    gemm(p, false, true, 1, gradient, tokens, 0, dMhat);
    gemm(p, true, false, 1, Mhat, gradient, 0, dx_tokens());
    hoft::merge_backward(hoft::cpu{}, adapter.view(), M, dMhat, as_view(dU), as_view(dV), hoft::vector_view<T>{},
                         merge_backward_work);
  }

 private:
  std::size_t saved_size() const {
    hoft::carver count;
    hoft::carve_saved<T, hoft::col_major>(count, adapter.view(), s.t);
    return std::size_t(count.size());
  }
  auto carve_saved() {
    hoft::carver carver(hoft::workspace{saved_memory.data(), index_t(saved_memory.size())});
    return hoft::carve_saved<T, hoft::col_major>(carver, adapter.view(), s.t);
  }
};

/// LoRA adds one product of rank r on each side of a plain one, three in the backward pass.
inline hoft::cost lora_cost(hoft::cost frozen, shape s, double products, double size) {
  double const m = double(s.m), n = double(s.n), r = double(s.r), t = double(s.t);
  return {frozen.flops + products * 2 * (m + n) * r * t, frozen.bytes + products * size * (m + n) * r};
}

}  // namespace bench
