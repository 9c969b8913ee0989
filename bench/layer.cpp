// SPDX-License-Identifier: BSD-3-Clause
// layer.cpp: the adapted layer and its rivals, instantiated here only.
#include "layer.hpp"

#include "base_of.hpp"

#include <hoft/hoft.hpp>

namespace bench {

template <class T>
layer<T>::layer(shape size, hoft::cpu policy_)
    : s(size),
      policy(policy_),
      M(numbers<T>("M", s.m, s.n)),
      tokens(numbers<T>("tokens", s.n, s.t)),
      gradient(numbers<T>("gradient", s.m, s.t)),
      left(s.m, s.r, 1),
      right(s.n, s.r, 2),
      adapter(left.U, right.U),
      A(matrix::Random(s.r, s.n)),
      B(matrix::Random(s.m, s.r)),
      dy(room<T>("dy", s.m, s.t)),
      dx(room<T>("dx", s.n, s.t)),
      y_memory(s.m, s.t),
      y(as_view(y_memory)),
      bound([&](hoft::arena& arena) { return hoft::carve_layer(arena, adapter.view()); }),
      state(
          [&](hoft::arena& arena) { return hoft::carve_layer_state<T, hoft::col_major>(arena, adapter.view(), s.t); }),
      sums([&](hoft::arena& arena) { return hoft::carve_layer_gradient(arena, adapter.view()); }),
      Mhat(room<T>("Mhat", s.m, s.n)),
      dMhat(room<T>("dMhat", s.m, s.n)),
      h(s.r, s.t),
      dh(s.r, s.t),
      dU(s.m, s.r),
      dV(s.n, s.r),
      dA(s.r, s.n),
      dB(s.m, s.r),
      work(std::max({hoft::bind_workspace<T>(policy, adapter.view()),
                     hoft::forward_workspace(policy, bound.parts, tokens),
                     hoft::forward_workspace(policy, bound.parts, tokens, false),
                     hoft::backward_workspace(policy, bound.parts, state.parts),
                     hoft::finish_workspace<T>(policy, bound.parts)})),
      merge_work(hoft::merge_workspace(policy, adapter.view(), Mhat)),
      merge_backward_work(hoft::merge_backward_workspace(policy, adapter.view(), M)) {
  bind(library::blas);
  clear();
}

template <class T>
template <class F>
void layer<T>::with_base(library base, F const& f) {
  if (base == library::hoft) {
    auto const op = hoft::dense(policy, M);
    f(op);
  } else {
    base_of<T> const op{base, M};
    f(op);
  }
}

template <class T>
void layer<T>::accumulate() {
  adapter = hoft::adapter<T>{left.U, right.U};
  bound.parts.adapter = adapter.view();  // the same numbers in other memory, for contestants that do not bind again
}
template <class T>
void layer<T>::bind(library base) {
  with_base(base, [&](auto& op) { hoft::bind_layer<T>(policy, adapter.view(), op, bound.parts, work); });
}
template <class T>
void layer<T>::forward_on(library base, index_t first, index_t count) {
  auto const& all = state.parts;
  state_view const part = all.columns(first, count);
  with_base(base, [&](auto& op) {
    hoft::forward(policy, bound.parts, op, tokens.columns(first, count), y.columns(first, count), part, work);
  });
}
template <class T>
void layer<T>::backward_on(library base, index_t first, index_t count) {
  auto const& all = state.parts;
  state_view const part = all.columns(first, count);
  auto const of_y = dy.columns(first, count);
  with_base(base, [&](auto& op) {
    hoft::backward(policy, bound.parts, op, tokens.columns(first, count), y.columns(first, count), part, of_y, of_y,
                   dx.columns(first, count), sums.parts, work);
  });
}
template <class T>
void layer<T>::forward(library base) {
  forward_on(base, 0, s.t);
}
template <class T>
void layer<T>::forward_only(library base) {
  with_base(base, [&](auto& op) { hoft::forward(policy, bound.parts, op, tokens, y, work); });
}
template <class T>
void layer<T>::backward(library base) {
  backward_on(base, 0, s.t);
}
template <class T>
void layer<T>::micro_batches(library base, index_t count) {
  for (index_t i = 0; i < count; ++i) {
    index_t const first = i * s.t / count, tokens_of = (i + 1) * s.t / count - first;
    forward_on(base, first, tokens_of);
    backward_on(base, first, tokens_of);
  }
}
template <class T>
void layer<T>::clear() {
  assign(gradient, dy);
  hoft::set_zero(policy, sums.parts);
}
template <class T>
void layer<T>::finish(library base) {
  with_base(base, [&](auto& op) {
    hoft::finish<T>(policy, bound.parts, op, sums.parts, as_view(dU), as_view(dV), hoft::vector_view<T>{}, work);
  });
}

template <class T>
void layer<T>::frozen_forward(library by) {
  gemm(by, false, false, 1, M, tokens, 0, y, policy);
}
template <class T>
void layer<T>::frozen_backward(library by) {
  gemm(by, true, false, 1, M, gradient, 0, dx, policy);
}

template <class T>
void layer<T>::lora_project(library by) {
  gemm(by, false, false, 1, as_view(A), tokens, 0, as_view(h), policy);
}
template <class T>
void layer<T>::lora_forward(library by) {
  frozen_forward(by);
  lora_project(by);
  gemm(by, false, false, 1, as_view(B), as_view(h), 1, y, policy);
}
template <class T>
void layer<T>::lora_backward(library by) {
  gemm(by, false, true, 1, gradient, as_view(h), 0, as_view(dB), policy);
  gemm(by, true, false, 1, as_view(B), gradient, 0, as_view(dh), policy);
  gemm(by, false, true, 1, as_view(dh), tokens, 0, as_view(dA), policy);
  frozen_backward(by);
  gemm(by, true, false, 1, as_view(A), as_view(dh), 1, dx, policy);
}

template <class T>
void layer<T>::form_Mhat() {
  hoft::merge(policy, adapter.view(), M, Mhat, merge_work);
}
template <class T>
void layer<T>::paper_forward(library by) {
  form_Mhat();
  gemm(by, false, false, 1, Mhat, tokens, 0, y, policy);
}
template <class T>
void layer<T>::paper_backward(library by) {
  gemm(by, false, true, 1, gradient, tokens, 0, dMhat, policy);
  gemm(by, true, false, 1, Mhat, gradient, 0, dx, policy);
  hoft::merge_backward(policy, adapter.view(), M, dMhat, as_view(dU), as_view(dV), hoft::vector_view<T>{},
                       merge_backward_work);
}

template struct layer<float>;
template struct layer<double>;

}  // namespace bench
