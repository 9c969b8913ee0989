// SPDX-License-Identifier: BSD-3-Clause
// functional.hpp: layers and adapted weights as functions that change no argument, for programs that a compiler of
// torch sees: torch.compile, torch.export, vmap. They keep no forms between calls: those are made again from u and v,
// (m + n) r² operations, so that all that passes from the forward to the backward pass has a known shape and type.
// Tensors may have any strides here; results are contiguous.
#pragma once
#include "adapter.hpp"

namespace hoft_torch {

inline std::vector<int64_t> sizes_of(at::Tensor const& u, at::Tensor const& v, at::Tensor const& s) {
  return {u.size(1), v.size(1), u.size(0), v.size(0), s.numel() > 0};
}

/// A bound layer's memory, from product [rv, m] = the base's products with the normalised rows of v.
inline at::Tensor layer_of(at::Tensor const& u, at::Tensor const& v, at::Tensor const& s, at::Tensor const& product) {
  auto const [memory, directions] = begin_layer(with_rows(u), with_rows(v), s.contiguous());
  bind_layer(memory, sizes_of(u, v, s), product);
  return memory;
}

/// {y, projected, w, q}: y [t, m] = Q_U diag(s) M Q_V x from base_output [t, m] = M x, for x [t, n]. The others are for
/// `adapted_backward`, q only if keep_q.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> adapted(at::Tensor const& base_output,
                                                                          at::Tensor const& x, at::Tensor const& u,
                                                                          at::Tensor const& v, at::Tensor const& s,
                                                                          at::Tensor const& product, bool keep_q) {
  auto const sizes = sizes_of(u, v, s);
  at::Tensor const memory = layer_of(u, v, s, product), y = at::empty(base_output.sizes(), base_output.options());
  at::Tensor const projected = project(with_rows(x), memory, sizes);
  auto const [w, q] = adapt(with_rows(base_output), projected, {}, memory, sizes, keep_q, y);
  return {y, projected, w, q};
}

/// {dbase_output, dx, du, dv, ds, dproduct} for that y. dx and dv are without what flows through base_output and
/// product, whose gradients are the base's own.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> adapted_backward(
    at::Tensor const& dy, at::Tensor const& y, at::Tensor const& projected, at::Tensor const& w, at::Tensor const& q,
    at::Tensor const& x, at::Tensor const& u, at::Tensor const& v, at::Tensor const& s, at::Tensor const& product) {
  auto const sizes = sizes_of(u, v, s);
  at::Tensor const memory = layer_of(u, v, s, product);
  at::Tensor const dbase = at::empty(y.sizes(), y.options()), dx = at::zeros(x.sizes(), x.options());
  at::Tensor const dproduct = at::zeros(product.sizes(), product.options());
  auto const [dprojected, sums] = adapt_backward(with_rows(dy), with_rows(y), with_rows(projected), with_rows(w),
                                                 q.dim() == 2 ? with_rows(q) : q, {}, memory, sizes, dbase);
  project_backward(with_rows(x), dprojected, memory, sizes, dx, sums);
  auto const [du, dv, ds] = finish_with(memory, layer_sizes(sizes), sums, [&](at::Tensor const& dB) {
    dproduct.copy_(dB);
    return at::zeros({v.size(0), v.size(1)}, memory.options());
  });
  return {dbase, dx, du, dv, ds, dproduct};
}

/// {y, projected, w, q}: rows x [t, n] through a bound layer of the weight [m, n], whose product with x is adapted in
/// place, and the bias [m] added. All have x's type, under autocast too.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bound_linear(at::Tensor const& x,
                                                                               at::Tensor const& weight,
                                                                               optional_tensor const& bias,
                                                                               at::Tensor const& memory,
                                                                               at::IntArrayRef sizes, bool keep_q) {
  c10::impl::ExcludeDispatchKeyGuard const no_autocast(c10::autocast_dispatch_keyset);
  at::Tensor const y = at::linear(x, weight), rows = with_rows(x);
  at::Tensor const projected = project(rows, memory, sizes);
  auto const [w, q] = adapt(y, projected, bias, memory, sizes, keep_q, y);
  return {y, projected, w, q};
}

/// {dx, du, dv, ds} for that y; dx, or all others, are of no meaning if they are not wanted.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> bound_linear_backward(
    at::Tensor const& dy, at::Tensor const& y, at::Tensor const& projected, at::Tensor const& w, at::Tensor const& q,
    at::Tensor const& x, at::Tensor const& weight, optional_tensor const& bias, at::Tensor const& memory,
    at::IntArrayRef sizes, bool want_dx, bool want_parameters) {
  c10::impl::ExcludeDispatchKeyGuard const no_autocast(c10::autocast_dispatch_keyset);
  at::Tensor const dbase = at::empty(y.sizes(), y.options());
  auto const [dprojected, sums] = adapt_backward(with_rows(dy), y, projected, w, q,
                                                 want_parameters ? bias : optional_tensor{}, memory, sizes, dbase);
  at::Tensor const dx = want_dx ? at::mm(dbase, weight) : at::empty(x.sizes(), x.options());
  project_backward(with_rows(x), dprojected, memory, sizes, dx, sums);
  at::Tensor const none = at::empty({0}, memory.options());
  auto const [du, dv, ds] = want_parameters ? finish(memory, sizes, sums, weight) : std::tuple{none, none, none};
  return {dx, du, dv, ds};
}

/// Q_U diag(s) M Q_V of the weight M [m, n].
inline at::Tensor merged(at::Tensor const& weight, at::Tensor const& u, at::Tensor const& v, at::Tensor const& s) {
  at::Tensor const result = at::empty(weight.sizes(), weight.options());
  merge(accumulate(with_rows(u), with_rows(v)), s.contiguous(), u.size(0), v.size(0), with_rows(weight), result);
  return result;
}

/// {du, dv, ds} from the gradient of the merged weight.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> merged_backward(at::Tensor const& dmerged,
                                                                      at::Tensor const& weight, at::Tensor const& u,
                                                                      at::Tensor const& v, at::Tensor const& s) {
  return merge_backward(accumulate(with_rows(u), with_rows(v)), s.contiguous(), u.size(0), v.size(0), with_rows(weight),
                        with_rows(dmerged));
}

/// M from `merged`'s result.
inline at::Tensor unmerged(at::Tensor const& merged, at::Tensor const& u, at::Tensor const& v, at::Tensor const& s) {
  at::Tensor const weight = merged.clone(at::MemoryFormat::Contiguous);
  unmerge(accumulate(with_rows(u), with_rows(v)), s.contiguous(), u.size(0), v.size(0), weight);
  return weight;
}

}  // namespace hoft_torch
