// adapter.hpp: HOFT and SHOFT with memory of torch's allocator, over what householder.hpp asks for. weight [m, n], x
// and dx [t, n], y and dy [t, m], u [ru, m] and v [rv, n] (a reflector is a row), s [m] or empty for HOFT. Activations
// and weight share one type; u, v and s have the type that it is computed in.
#pragma once
#include "householder.hpp"

#include <hoft/adapter/backward.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/adapter/merge.hpp>
#include <hoft/adapter/unmerge.hpp>

namespace hoft_torch {

/// torch's own product with the frozen weight.
template <class T>
class base_product {
 public:
  explicit base_product(at::Tensor const& weight) : weight_(weight) {}
  index_t rows() const { return weight_.size(0); }
  index_t cols() const { return weight_.size(1); }
  void apply(matrix_view<T const> X, matrix_view<T> Y) const { multiply(X, weight_.t(), Y); }
  void apply_adjoint(matrix_view<T const> X, matrix_view<T> Y) const { multiply(X, weight_, Y); }

 private:
  void multiply(matrix_view<T const> X, at::Tensor const& by, matrix_view<T> Y) const {
    at::Tensor result = tensor(Y);
    at::mm_out(result, tensor({const_cast<T*>(X.data), X.rows, X.cols, X.ld}), by);
  }
  at::Tensor tensor(matrix_view<T> a) const {
    return at::from_blob(a.data, {a.cols, a.rows}, {a.ld, 1}, weight_.options());
  }

  at::Tensor weight_;
};

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

/// What the forward pass keeps, in one piece of memory.
template <class T>
struct kept_views {
  using A = hoft::accumulator_t<T>;
  hoft::adapter_view<A> adapter;
  hoft::saved_activations<A, T, hoft::col_major> saved;
  kept_views(hoft::arena& memory, at::Tensor const& weight, at::Tensor const& s, ranks r, index_t t, bool keep_q)
      : adapter(carve_forms<A>(memory, weight.size(0), weight.size(1), r)) {
    adapter.scale = vector_of<A>(s);
    saved = hoft::carve_saved<T, hoft::col_major>(memory, adapter, t, keep_q);
  }
};

inline void require_weight(char const* function, at::Tensor const& weight, at::Tensor const& s) {
  require(function, "weight", weight, 2, weight, weight.scalar_type());
  require_vector(function, "s", s, weight, accumulator_of(weight.scalar_type()));
  if (s.numel() > 0) require_size(function, "the length of s", s.numel(), weight.size(0));
}
inline void require_reflectors(char const* function, at::Tensor const& weight, at::Tensor const& u,
                               at::Tensor const& v) {
  auto const type = accumulator_of(weight.scalar_type());
  require_rows(function, "u", u, weight, type);
  require_rows(function, "v", v, weight, type);
  require_size(function, "the number of features of u", u.size(1), weight.size(0));
  require_size(function, "the number of features of v", v.size(1), weight.size(1));
}

/// {y, kept}: y = Q_U diag(s) M Q_V x and what `backward` needs of it, forms included. With `spare_rows`, x is the head
/// of memory with rv rows more, which are overwritten; else it is copied to such memory. `keep_q`: SHOFT keeps one
/// [t, m] for its backward pass, else recovers it from y.
inline std::tuple<at::Tensor, at::Tensor> forward(at::Tensor const& x, at::Tensor const& weight, at::Tensor const& u,
                                                  at::Tensor const& v, at::Tensor const& s, bool keep_q,
                                                  bool spare_rows) {
  constexpr char const* function = "hoft_linear";
  auto const type = weight.scalar_type();
  require_weight(function, weight, s);
  require_rows(function, "x", x, weight, type);
  require_reflectors(function, weight, u, v);
  require_size(function, "the number of features of x", x.size(1), weight.size(1));
  c10::OptionalDeviceGuard const guard(weight.device());
  index_t const t = x.size(0), rv = v.size(0), m = weight.size(0), n = weight.size(1);
  at::Tensor tokens = x;
  if (spare_rows) {
    auto const room = index_t(x.storage().nbytes()) / index_t(x.element_size()) - x.storage_offset();
    TORCH_CHECK(x.is_contiguous() && room >= (t + rv) * n, function, ": there are no ", rv, " spare rows behind x");
  } else {
    tokens = at::empty({t + rv, n}, x.options());
    tokens.narrow(0, 0, t).copy_(x);
  }
  at::Tensor const y = at::empty({t + rv, m}, x.options());
  at::Tensor kept;
  dispatch(function, type, [&]<class T>(T) {
    auto const device = policy();
    auto const carve = [&](hoft::arena& memory) {
      return kept_views<T>(memory, weight, s, {u.size(0), rv}, t, keep_q);
    };
    kept = bytes_for(x, carve);
    hoft::arena memory(memory_of(kept));
    auto views = carve(memory);
    accumulate_into(device, u, v, views.adapter);
    matrix_view<T> const x_view(static_cast<T*>(tokens.data_ptr()), n, t + rv);
    at::Tensor const work = bytes(hoft::forward_workspace(device, views.adapter, x_view), x);
    base_product<T> base(weight);
    hoft::forward(device, views.adapter, base, x_view, columns_of<T>(y), views.saved, memory_of(work));
  });
  return {y.narrow(0, 0, t), kept};
}

/// {dx, du, dv, ds}.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(at::Tensor const& dy, at::Tensor const& x,
                                                                           at::Tensor const& y,
                                                                           at::Tensor const& weight,
                                                                           at::Tensor const& kept, at::Tensor const& s,
                                                                           index_t ru, index_t rv, bool keep_q) {
  constexpr char const* function = "hoft_linear's gradient";
  auto const type = weight.scalar_type();
  require_weight(function, weight, s);
  require(function, "dy", dy, 2, weight, type);
  require_rows(function, "x", x, weight, type);
  require_rows(function, "y", y, weight, type);
  c10::OptionalDeviceGuard const guard(weight.device());
  index_t const t = x.size(0), m = weight.size(0), n = weight.size(1);
  at::Tensor const gradient = at::empty({t + rv, m}, dy.options());  // the call overwrites it
  gradient.narrow(0, 0, t).copy_(dy);
  at::Tensor const dx = at::empty({t + rv, n}, dy.options());
  auto const parameters = dy.options().dtype(accumulator_of(type));
  at::Tensor const du = at::empty({ru, m}, parameters), dv = at::empty({rv, n}, parameters);
  at::Tensor const ds = at::empty({s.numel()}, parameters);
  dispatch(function, type, [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const device = policy();
    hoft::arena memory(memory_of(kept));
    kept_views<T> views(memory, weight, s, {ru, rv}, t, keep_q);
    already_filled(views.adapter);
    at::Tensor const work = bytes(hoft::backward_workspace(device, views.adapter, views.saved), dy);
    base_product<T> base(weight);
    hoft::backward(device, views.adapter, base, columns_of<T const>(x), columns_of<T const>(y), views.saved,
                   columns_of<T>(gradient), columns_of<T>(dx), columns_of<A>(du), columns_of<A>(dv), vector_of<A>(ds),
                   memory_of(work));
  });
  return {dx.narrow(0, 0, t), du, dv, ds};
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
