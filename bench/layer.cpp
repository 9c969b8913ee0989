// layer.cpp: the adapted layer and its rivals, instantiated here only.
#include "layer.hpp"

#include "base_of.hpp"

#include <hoft/hoft.hpp>

namespace bench {

template <class T>
layer<T>::layer(shape size)
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

template <class T>
std::size_t layer<T>::saved_size() const {
  hoft::arena count;
  hoft::carve_saved<T, hoft::col_major>(count, adapter.view(), s.t);
  return std::size_t(count.size());
}
template <class T>
hoft::saved_activations<T, T, hoft::col_major> layer<T>::carve_saved() {
  hoft::arena arena(hoft::workspace{saved_memory.data(), index_t(saved_memory.size())});
  return hoft::carve_saved<T, hoft::col_major>(arena, adapter.view(), s.t);
}

template <class T>
void layer<T>::accumulate() {
  adapter = hoft::adapter<T>{left.U, right.U};
}
template <class T>
void layer<T>::forward(library base) {
  auto const run = [&](auto op) { hoft::forward(hoft::cpu{}, adapter.view(), op, x, y, saved, forward_work); };
  if (base == library::hoft) run(hoft::dense(hoft::cpu{}, M));
  else run(base_of<T>{base, M});
}
template <class T>
void layer<T>::backward(library base) {
  auto const run = [&](auto op) {
    hoft::backward(hoft::cpu{}, adapter.view(), op, x_tokens(), y_tokens(), saved, dy, dx, as_view(dU), as_view(dV),
                   hoft::vector_view<T>{}, backward_work);
  };
  if (base == library::hoft) run(hoft::dense(hoft::cpu{}, M));
  else run(base_of<T>{base, M});
}

template <class T>
void layer<T>::frozen_forward(library by) {
  gemm(by, false, false, 1, M, tokens, 0, y_tokens());
}
template <class T>
void layer<T>::frozen_backward(library by) {
  gemm(by, true, false, 1, M, gradient, 0, dx_tokens());
}

template <class T>
void layer<T>::lora_project(library by) {
  gemm(by, false, false, 1, as_view(A), tokens, 0, as_view(h));
}
template <class T>
void layer<T>::lora_forward(library by) {
  frozen_forward(by);
  lora_project(by);
  gemm(by, false, false, 1, as_view(B), as_view(h), 1, y_tokens());
}
template <class T>
void layer<T>::lora_backward(library by) {
  gemm(by, false, true, 1, gradient, as_view(h), 0, as_view(dB));
  gemm(by, true, false, 1, as_view(B), gradient, 0, as_view(dh));
  gemm(by, false, true, 1, as_view(dh), tokens, 0, as_view(dA));
  frozen_backward(by);
  gemm(by, true, false, 1, as_view(A), as_view(dh), 1, dx_tokens());
}

template <class T>
void layer<T>::form_Mhat() {
  hoft::merge(hoft::cpu{}, adapter.view(), M, Mhat, merge_work);
}
template <class T>
void layer<T>::paper_forward(library by) {
  form_Mhat();
  gemm(by, false, false, 1, Mhat, tokens, 0, y_tokens());
}
template <class T>
void layer<T>::paper_backward(library by) {
  gemm(by, false, true, 1, gradient, tokens, 0, dMhat);
  gemm(by, true, false, 1, Mhat, gradient, 0, dx_tokens());
  hoft::merge_backward(hoft::cpu{}, adapter.view(), M, dMhat, as_view(dU), as_view(dV), hoft::vector_view<T>{},
                       merge_backward_work);
}

template struct layer<float>;
template struct layer<double>;

}  // namespace bench
