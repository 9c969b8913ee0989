// SPDX-License-Identifier: BSD-3-Clause
// adapter.hpp: bound layers of HOFT and SHOFT around a base that torch calls, and the adapted weight, with memory of
// torch's allocator, over what householder.hpp asks for. weight [m, n], x and dx [t, n], y and dy [t, m], u [ru, m] and
// v [rv, n] (a reflector is a row), s [m] or empty for HOFT. u, v and s have the type that the others are computed in.
#pragma once
#include "form.hpp"
#include "tensors.hpp"

#include <hoft/adapter/adapt.hpp>
#include <hoft/adapter/bind.hpp>
#include <hoft/adapter/finish.hpp>
#include <hoft/adapter/merge.hpp>
#include <hoft/adapter/unmerge.hpp>

#include <functional>

namespace hoft_torch {

struct ranks {
  index_t left, right;
};

template <class A>
hoft::adapter_view<A> carve_forms(hoft::arena& memory, index_t m, index_t n, ranks r) {
  auto const left = carve_form<A>(memory, m, r.left);
  return {left, hoft::carve_compact_wy<A>(memory, n, r.right, std::max<index_t>(1, r.right))};  // V in one triangle
}

/// The forms of u and v in `a`, whose memory the caller carved.
template <class A, class Policy>
void accumulate_into(Policy const& device, at::Tensor const& u, at::Tensor const& v, hoft::adapter_view<A>& a) {
  index_t const size = std::max(hoft::accumulate_workspace<A>(device, a.left.rank(), a.left.block, hoft::exact{}),
                                hoft::accumulate_workspace<A>(device, a.right.rank(), a.right.block, hoft::exact{}));
  at::Tensor const work = bytes(size, u);
  hoft::accumulate(device, columns_of<A const>(u), a.left, hoft::exact{}, memory_of(work));
  hoft::accumulate(device, columns_of<A const>(v), a.right, hoft::exact{}, memory_of(work));
}

/// `a` was carved again from memory that accumulate_into has filled.
template <class A>
void already_filled(hoft::adapter_view<A>& a) {
  a.left.filled = a.right.filled = true;
}

/// The compact WY forms of u and v, as bytes.
inline at::Tensor accumulate(at::Tensor const& u, at::Tensor const& v) {
  constexpr char const* function = "accumulate";
  auto const type = u.scalar_type();
  require_rows(function, "u", u, u, accumulator_of(type));
  require_rows(function, "v", v, u, type);
  c10::OptionalDeviceGuard const guard(u.device());
  at::Tensor forms;
  dispatch(function, type, [&]<class A>(A) {
    if constexpr (hoft::accumulating<A>) {
      auto const carve = [&](hoft::arena& memory) {
        return carve_forms<A>(memory, u.size(1), v.size(1), {u.size(0), v.size(0)});
      };
      forms = bytes_for(u, carve);
      hoft::arena memory(memory_of(forms));
      auto a = carve(memory);
      accumulate_into(policy(), u, v, a);
    }
  });
  return forms;
}

/// [m, n, ru, rv, 1 if there is an s]: what the operators on a layer are told of it.
struct layer_sizes {
  index_t m, n;
  ranks r;
  bool scaled;
  explicit layer_sizes(at::IntArrayRef sizes) {
    TORCH_CHECK(sizes.size() == 5, "hoft: sizes has ", sizes.size(), " numbers, must have 5");
    m = sizes[0], n = sizes[1], r = {sizes[2], sizes[3]}, scaled = sizes[4] != 0;
  }
};

/// A layer in one piece of memory: forms, s and what bind_layer makes. Nobody writes to it once it is bound.
template <class A>
struct layer_views {
  hoft::adapter_view<A> adapter;
  hoft::bound_layer_view<A> layer;
  layer_views(hoft::arena& memory, layer_sizes const& z) : adapter(carve_forms<A>(memory, z.m, z.n, z.r)) {
    adapter.scale = memory.vector<A>(z.scaled ? z.m : 0);
    layer = hoft::carve_layer(memory, adapter);
  }
};
template <class A>
layer_views<A> accumulated(at::Tensor const& memory, layer_sizes const& z) {
  hoft::arena carve(memory_of(memory));
  layer_views<A> views(carve, z);
  already_filled(views.adapter);
  return views;
}
template <class A>
hoft::bound_layer_view<A const> bound(at::Tensor const& memory, layer_sizes const& z) {
  auto views = accumulated<A>(memory, z);
  views.layer.adapter = views.adapter;
  views.layer.bound = true;
  return views.layer;
}

/// A base operator whose products torch makes, one token in each row.
template <class A>
struct torch_base {
  std::function<at::Tensor(at::Tensor const&)> product, adjoint;
  at::TensorOptions options;
  void apply(matrix_view<A const> X, matrix_view<A> Y) const { call(product, X, Y); }
  void apply_adjoint(matrix_view<A const> X, matrix_view<A> Y) const { call(adjoint, X, Y); }

 private:
  void call(std::function<at::Tensor(at::Tensor const&)> const& f, matrix_view<A const> X, matrix_view<A> Y) const {
    tensor(Y).copy_(f(tensor({const_cast<A*>(X.data), X.rows, X.cols, X.ld})));
  }
  at::Tensor tensor(matrix_view<A> a) const {
    return at::from_blob(a.data, {a.cols, a.rows}, {std::max<index_t>(1, a.ld), 1}, options);
  }
};

/// body(A{}) for the accumulator type that `of` holds.
template <class Body>
void dispatch_accumulator(char const* function, at::Tensor const& of, Body const& body) {
  dispatch(function, of.scalar_type(), [&]<class A>(A) {
    if constexpr (hoft::accumulating<A>) body(A{});
  });
}

/// {layer, directions}: memory of a layer with the forms of u and v and with s, and V̂ [rv, n], whose product with M
/// `bind_layer` needs.
inline std::tuple<at::Tensor, at::Tensor> begin_layer(at::Tensor const& u, at::Tensor const& v, at::Tensor const& s) {
  constexpr char const* function = "begin_layer";
  auto const type = u.scalar_type();
  require_rows(function, "u", u, u, accumulator_of(type));
  require_rows(function, "v", v, u, type);
  require_vector(function, "s", s, u, type);
  if (s.numel() > 0) require_size(function, "the length of s", s.numel(), u.size(1));
  c10::OptionalDeviceGuard const guard(u.device());
  at::Tensor memory, directions;
  dispatch_accumulator(function, u, [&]<class A>(A) {
    layer_sizes const z({u.size(1), v.size(1), u.size(0), v.size(0), s.numel() > 0});
    memory = elements_for<A>(u, [&](hoft::arena& count) { layer_views<A>(count, z); });
    hoft::arena carve(memory_of(memory));
    layer_views<A> views(carve, z);
    accumulate_into(policy(), u, v, views.adapter);
    if (z.scaled) at::from_blob(views.adapter.scale.data, s.sizes(), s.options()).copy_(s);
    directions = at::from_blob(views.adapter.right.vectors.data, v.sizes(), v.options()).clone();
  });
  return {memory, directions};
}

/// The rest of the layer from M V̂, a token in each row of product [rv, m].
inline void bind_layer(at::Tensor const& memory, at::IntArrayRef sizes, at::Tensor const& product) {
  constexpr char const* function = "bind_layer";
  layer_sizes const z(sizes);
  require(function, "product", product, 2, memory, product.scalar_type());
  require_size(function, "the number of rows of product", product.size(0), z.r.right);
  require_size(function, "the number of features of product", product.size(1), z.m);
  c10::OptionalDeviceGuard const guard(memory.device());
  dispatch_accumulator(function, memory, [&]<class A>(A) {
    auto const device = policy();
    auto views = accumulated<A>(memory, z);
    torch_base<A> base{[&](at::Tensor const&) { return product; }, {}, memory.options()};
    hoft::adapter_view<A const> const a(views.adapter);
    at::Tensor const work = bytes(hoft::bind_workspace<A>(device, a), memory);
    hoft::bind_layer<A>(device, a, base, views.layer, memory_of(work));
  });
}

inline void require_tokens(char const* function, char const* name, at::Tensor const& a, at::Tensor const& layer,
                           index_t features) {
  require_rows(function, name, a, layer, a.scalar_type());
  TORCH_CHECK(accumulator_of(a.scalar_type()) == layer.scalar_type(), function, ": ", name, " holds ", a.scalar_type(),
              ", the layer ", layer.scalar_type());
  require_size(function, (std::string("the number of features of ") + name).c_str(), a.size(1), features);
}

/// V̂ᵀx [t, rv], for `adapt`.
inline at::Tensor project(at::Tensor const& x, at::Tensor const& memory, at::IntArrayRef sizes) {
  constexpr char const* function = "project";
  layer_sizes const z(sizes);
  require_tokens(function, "x", x, memory, z.n);
  c10::OptionalDeviceGuard const guard(memory.device());
  at::Tensor const v = at::empty({x.size(0), z.r.right}, memory.options());
  dispatch(function, x.scalar_type(), [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const device = policy();
    auto const layer = bound<A>(memory, z);
    auto const X = columns_of<T const>(x);
    at::Tensor const work = bytes(hoft::project_workspace(device, layer, X), x);
    hoft::project(device, layer, X, columns_of<A>(v), memory_of(work));
  });
  return v;
}

template <class T>
hoft::layer_state<hoft::accumulator_t<T>, T, hoft::col_major> state_of(at::Tensor const& v, at::Tensor const& w,
                                                                       at::Tensor const& q) {
  using A = hoft::accumulator_t<T>;
  hoft::layer_state<A, T, hoft::col_major> state;
  state.v = columns_of<A>(v);
  state.w = columns_of<A>(w);
  if (q.dim() == 2) state.q = columns_of<T>(q);
  return state;
}

using optional_tensor = c10::optional<at::Tensor>;

inline void require_bias(char const* function, optional_tensor const& bias, at::Tensor const& y) {
  if (!bias) return;
  require_vector(function, "bias", *bias, y, bias->scalar_type());
  require_size(function, "the length of bias", bias->numel(), y.size(1));
}

/// y := Q_U diag(s) (M x − K v) + bias from base_output = M x, which y may be itself. {w, q}, for `adapt_backward`: q
/// for SHOFT if wanted, otherwise empty.
inline std::tuple<at::Tensor, at::Tensor> adapt(at::Tensor const& base_output, at::Tensor const& v,
                                                optional_tensor const& bias, at::Tensor const& memory,
                                                at::IntArrayRef sizes, bool keep_q, at::Tensor const& y) {
  constexpr char const* function = "adapt";
  layer_sizes const z(sizes);
  index_t const t = base_output.size(0);
  require_tokens(function, "the base's output", base_output, memory, z.m);
  require_rows(function, "v", v, memory, memory.scalar_type());
  require_rows(function, "y", y, memory, base_output.scalar_type());
  require_bias(function, bias, y);
  c10::OptionalDeviceGuard const guard(memory.device());
  // w is small, and with it y of HOFT has the same bits whether or not gradients follow.
  at::Tensor const w = at::empty({t, z.r.left}, memory.options());
  at::Tensor q = at::empty({0}, base_output.options());
  if (keep_q && z.scaled) q = at::empty({t, z.m}, base_output.options());
  dispatch(function, base_output.scalar_type(), [&]<class T>(T) {
    auto const device = policy();
    auto const layer = bound<hoft::accumulator_t<T>>(memory, z);
    auto const Mx = columns_of<T const>(base_output);
    at::Tensor const work = bytes(hoft::adapt_workspace(device, layer, Mx), memory);
    hoft::adapt(device, layer, Mx, columns_of<T>(y), state_of<T>(v, w, q), memory_of(work));
  });
  if (bias) y.add_(bias->to(y.scalar_type()));
  return {w, q};
}

template <class A>
hoft::layer_gradient_view<A> sums_of(at::Tensor const& sums, hoft::bound_layer_view<A const> const& layer) {
  hoft::arena carve(memory_of(sums));
  return hoft::carve_layer_gradient(carve, layer.adapter);
}

/// {dv, sums}, and dbase := ∂L/∂(M x), from dy and what `adapt` gave with that bias. `project_backward` and `finish`
/// take the sums.
inline std::tuple<at::Tensor, at::Tensor> adapt_backward(at::Tensor const& dy, at::Tensor const& y, at::Tensor const& v,
                                                         at::Tensor const& w, at::Tensor const& q,
                                                         optional_tensor const& bias, at::Tensor const& memory,
                                                         at::IntArrayRef sizes, at::Tensor const& dbase) {
  constexpr char const* function = "adapt's gradient";
  layer_sizes const z(sizes);
  require_tokens(function, "y", y, memory, z.m);
  for (at::Tensor const* a : {&dy, &dbase}) require_rows(function, "dy or dbase", *a, memory, y.scalar_type());
  require_bias(function, bias, y);
  c10::OptionalDeviceGuard const guard(memory.device());
  // For the length of the call. To take the bias out of the sums instead would leave less of them where it is large.
  bool const read = z.r.left > 0 || (z.scaled && q.dim() != 2);
  at::Tensor const rotated = bias && read ? y - bias->to(y.scalar_type()) : y;
  at::Tensor const dv = at::empty(v.sizes(), v.options());
  at::Tensor sums;
  dispatch(function, y.scalar_type(), [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const device = policy();
    auto const layer = bound<A>(memory, z);
    sums = elements_for<A>(memory, [&](hoft::arena& count) { hoft::carve_layer_gradient(count, layer.adapter); });
    auto const g = sums_of<A>(sums, layer);
    hoft::set_zero(device, g);
    auto const state = state_of<T>(v, w, q);
    at::Tensor const work = bytes(hoft::adapt_backward_workspace(device, layer, state), memory);
    hoft::adapt_backward(device, layer, columns_of<T const>(rotated), state, columns_of<T const>(dy),
                         columns_of<T>(dbase), columns_of<A>(dv), g, memory_of(work));
  });
  return {dv, sums};
}

/// dx += V̂ dv, and the rest of the sums.
inline void project_backward(at::Tensor const& x, at::Tensor const& dv, at::Tensor const& memory, at::IntArrayRef sizes,
                             at::Tensor const& dx, at::Tensor const& sums) {
  constexpr char const* function = "project's gradient";
  layer_sizes const z(sizes);
  require_tokens(function, "x", x, memory, z.n);
  require_rows(function, "dx", dx, memory, x.scalar_type());
  c10::OptionalDeviceGuard const guard(memory.device());
  dispatch(function, x.scalar_type(), [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const device = policy();
    auto const layer = bound<A>(memory, z);
    auto const X = columns_of<T const>(x);
    at::Tensor const work = bytes(hoft::project_backward_workspace(device, layer, X), memory);
    hoft::project_backward(device, layer, X, columns_of<A const>(dv), columns_of<T>(dx), sums_of<A>(sums, layer),
                           memory_of(work));
  });
}

using product_with_base = std::function<at::Tensor(at::Tensor const&)>;

/// {du, dv, ds} from the sums, which are overwritten. adjoint(dB) is Mᵀ dB of the rows of dB [rv, m].
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> finish_with(at::Tensor const& memory, layer_sizes const& z,
                                                                  at::Tensor const& sums,
                                                                  product_with_base const& adjoint) {
  auto const parameters = memory.options();
  at::Tensor const du = at::empty({z.r.left, z.m}, parameters), dv = at::empty({z.r.right, z.n}, parameters);
  at::Tensor const ds = at::empty({z.scaled ? z.m : 0}, parameters);
  c10::OptionalDeviceGuard const guard(memory.device());
  dispatch_accumulator("finish", memory, [&]<class A>(A) {
    auto const device = policy();
    auto const layer = bound<A>(memory, z);
    torch_base<A> base{{}, adjoint, parameters};
    at::Tensor const work = bytes(hoft::finish_workspace<A>(device, layer), memory);
    hoft::finish<A>(device, layer, base, sums_of<A>(sums, layer), columns_of<A>(du), columns_of<A>(dv),
                    vector_of<A>(ds), memory_of(work));
  });
  return {du, dv, ds};
}

/// The same for a dense weight.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> finish(at::Tensor const& memory, at::IntArrayRef sizes,
                                                             at::Tensor const& sums, at::Tensor const& weight) {
  return finish_with(memory, layer_sizes(sizes), sums,
                     [&](at::Tensor const& dB) { return at::mm(dB.to(weight.scalar_type()), weight); });
}

/// dB [rv, m], of which somebody else makes Mᵀ dB for `finish_given`.
inline at::Tensor finish_product(at::Tensor const& memory, at::IntArrayRef sizes, at::Tensor const& sums) {
  layer_sizes const z(sizes);
  at::Tensor product = at::zeros({z.r.right, z.m}, memory.options());
  finish_with(memory, z, sums.clone(), [&](at::Tensor const& dB) {
    product.copy_(dB);
    return at::zeros({z.r.right, z.n}, memory.options());
  });
  return product;
}
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> finish_given(at::Tensor const& memory, at::IntArrayRef sizes,
                                                                   at::Tensor const& sums, at::Tensor const& product) {
  return finish_with(memory, layer_sizes(sizes), sums, [&](at::Tensor const&) { return product; });
}

inline void require_weight(char const* function, at::Tensor const& weight, at::Tensor const& s) {
  require(function, "weight", weight, 2, weight, weight.scalar_type());
  require_vector(function, "s", s, weight, accumulator_of(weight.scalar_type()));
  if (s.numel() > 0) require_size(function, "the length of s", s.numel(), weight.size(0));
}

/// body(a, views of the matrices as row-major [m, n]...) with the adapter `a` of `accumulate`'s forms.
template <class Body, class... Matrices>
void on_weight(char const* function, at::Tensor const& forms, at::Tensor const& s, ranks r, Body const& body,
               at::Tensor const& weight, Matrices const&... others) {
  require_weight(function, weight, s);
  require_rows(function, "weight", weight, weight, weight.scalar_type());
  (require_rows(function, "a matrix of the weight's shape", others, weight, weight.scalar_type()), ...);
  c10::OptionalDeviceGuard const guard(weight.device());
  dispatch(function, weight.scalar_type(), [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    hoft::arena memory(memory_of(forms));
    auto a = carve_forms<A>(memory, weight.size(0), weight.size(1), r);
    already_filled(a);
    a.scale = vector_of<A>(s);
    body(policy(), a, columns_of<T>(weight).transposed(), columns_of<T>(others).transposed()...);
  });
}

/// merged [m, n] := Q_U diag(s) M Q_V for the forms of `accumulate`; merged may be the weight.
inline void merge(at::Tensor const& forms, at::Tensor const& s, index_t ru, index_t rv, at::Tensor const& weight,
                  at::Tensor const& merged) {
  auto const body = [&](auto const& device, auto const& a, auto M, auto Mhat) {
    at::Tensor const work = bytes(hoft::merge_workspace(device, a, M), weight);
    hoft::merge(device, a, M, Mhat, memory_of(work));
  };
  on_weight("merge", forms, s, {ru, rv}, body, weight, merged);
}

/// The inverse, in place.
inline void unmerge(at::Tensor const& forms, at::Tensor const& s, index_t ru, index_t rv, at::Tensor const& merged) {
  auto const body = [&](auto const& device, auto const& a, auto M) {
    at::Tensor const work = bytes(hoft::unmerge_workspace(device, a, M), merged);
    hoft::unmerge(device, a, M, memory_of(work));
  };
  on_weight("unmerge", forms, s, {ru, rv}, body, merged);
}

/// {du, dv, ds} from the gradient of the merged weight.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> merge_backward(at::Tensor const& forms, at::Tensor const& s,
                                                                     index_t ru, index_t rv, at::Tensor const& weight,
                                                                     at::Tensor const& dmerged) {
  auto const parameters = s.options();
  at::Tensor const du = at::empty({ru, weight.size(0)}, parameters), dv = at::empty({rv, weight.size(1)}, parameters);
  at::Tensor const ds = at::empty({s.numel()}, parameters);
  auto const body = [&](auto const& device, auto const& a, auto M, auto dMhat) {
    using A = typename decltype(a.scale)::value_type;
    at::Tensor const work = bytes(hoft::merge_backward_workspace(device, a, M), weight);
    hoft::merge_backward(device, a, M, dMhat, columns_of<A>(du), columns_of<A>(dv), vector_of<A>(ds), memory_of(work));
  };
  on_weight("merge's gradient", forms, s, {ru, rv}, body, weight, dmerged);
  return {du, dv, ds};
}

}  // namespace hoft_torch
