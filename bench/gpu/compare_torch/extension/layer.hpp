// layer.hpp: defines calls.hpp with memory of torch's allocator, which counts it, for the backend of the one source
// that includes this and has declared before, in compare,
//   policy()                    on torch's current stream
//   dispatch(type, function)    function(T{}) for hoft's name of torch's element type
#pragma once
#include "calls.hpp"

#include <hoft/transform/backward.hpp>
#include <hoft/transform/forward.hpp>
#include <hoft/transform/merge.hpp>
#include <hoft/wy/accumulate.hpp>

namespace compare {

using hoft::index_t;
using hoft::matrix_view;

/// A row-major tensor [rows, cols] is a column-major view [cols, rows] of the same memory.
template <class T>
matrix_view<T> columns_of(at::Tensor const& a) {
  return {static_cast<T*>(a.data_ptr()), a.size(1), a.size(0)};
}
template <class T>
hoft::vector_view<T> vector_of(at::Tensor const& a) {
  return {static_cast<T*>(a.data_ptr()), a.numel()};
}

inline void require(at::Tensor const& a, char const* name, int64_t dimensions, at::Tensor const& like,
                    at::ScalarType type) {
  TORCH_CHECK(a.dim() == dimensions, "hoft: ", name, " has ", a.dim(), " dimensions, expected ", dimensions);
  TORCH_CHECK(a.device() == like.device(), "hoft: ", name, " is on ", a.device(), ", expected ", like.device());
  TORCH_CHECK(a.scalar_type() == type, "hoft: ", name, " holds ", a.scalar_type(), ", expected ", type);
  TORCH_CHECK(a.is_contiguous(), "hoft: ", name, " is not contiguous");
}
/// The type that 16-bit numbers are computed in.
inline at::ScalarType accumulator_of(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16 ? at::kFloat : type;
}

inline at::Tensor bytes(index_t size, at::Tensor const& like) {
  return at::empty({size}, like.options().dtype(at::kByte));
}
inline hoft::workspace memory_of(at::Tensor const& memory) {
  return {static_cast<std::byte*>(memory.data_ptr()), memory.numel()};
}
/// Memory for whatever `carve` cuts from a carver.
template <class Carve>
at::Tensor bytes_for(at::Tensor const& like, Carve const& carve) {
  hoft::carver count;
  carve(count);
  return bytes(count.size(), like);
}

/// torch's own product with the frozen weight, the one that all contestants take.
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

template <class A>
hoft::adapter_view<A> carve_forms(hoft::carver& memory, index_t m, index_t n, index_t ru, index_t rv) {
  auto const left = hoft::carve_compact_wy<A>(memory, m, ru, hoft::block_for(ru, hoft::exact{}));
  return {left, hoft::carve_compact_wy<A>(memory, n, rv, std::max<index_t>(1, rv))};  // V in one triangle
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

at::Tensor accumulate(at::Tensor const& u, at::Tensor const& v) {
  require(u, "u", 2, u, accumulator_of(u.scalar_type()));
  require(v, "v", 2, u, u.scalar_type());
  at::Tensor forms;
  dispatch(u.scalar_type(), [&]<class A>(A) {
    if constexpr (hoft::accumulating<A>) {
      auto const carve = [&](hoft::carver& memory) {
        return carve_forms<A>(memory, u.size(1), v.size(1), u.size(0), v.size(0));
      };
      forms = bytes_for(u, carve);
      hoft::carver memory(memory_of(forms));
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
  kept_views(hoft::carver& memory, at::Tensor const& weight, at::Tensor const& s, index_t ru, index_t rv, index_t t,
             bool keep_q)
      : adapter(carve_forms<A>(memory, weight.size(0), weight.size(1), ru, rv)) {
    adapter.scale = vector_of<A>(s);
    saved = hoft::carve_saved<T, hoft::col_major>(memory, adapter, t, keep_q);
  }
};

inline void require_parameters(at::Tensor const& weight, at::Tensor const& s) {
  require(weight, "weight", 2, weight, weight.scalar_type());
  require(s, "s", 1, weight, accumulator_of(weight.scalar_type()));
}

std::tuple<at::Tensor, at::Tensor> forward(at::Tensor const& x, at::Tensor const& weight, at::Tensor const& u,
                                           at::Tensor const& v, at::Tensor const& s, bool keep_q, bool spare_rows) {
  auto const type = weight.scalar_type();
  require_parameters(weight, s);
  require(x, "x", 2, weight, type);
  require(u, "u", 2, weight, accumulator_of(type));
  require(v, "v", 2, weight, accumulator_of(type));
  TORCH_CHECK(x.size(1) == weight.size(1), "hoft: x has ", x.size(1), " features, expected ", weight.size(1));
  index_t const t = x.size(0), ru = u.size(0), rv = v.size(0), m = weight.size(0), n = weight.size(1);
  at::Tensor tokens = x;
  if (spare_rows) {
    auto const room = index_t(x.storage().nbytes()) / index_t(x.element_size()) - x.storage_offset();
    TORCH_CHECK(room >= (t + rv) * n, "hoft: there are no ", rv, " spare rows behind x");
  } else {
    tokens = at::empty({t + rv, n}, x.options());
    tokens.narrow(0, 0, t).copy_(x);
  }
  at::Tensor const y = at::empty({t + rv, m}, x.options());
  at::Tensor kept;
  dispatch(type, [&]<class T>(T) {
    auto const device = policy();
    auto const carve = [&](hoft::carver& memory) { return kept_views<T>(memory, weight, s, ru, rv, t, keep_q); };
    kept = bytes_for(x, carve);
    hoft::carver memory(memory_of(kept));
    auto views = carve(memory);
    accumulate_into(device, u, v, views.adapter);
    matrix_view<T> const x_view(static_cast<T*>(tokens.data_ptr()), n, t + rv);
    at::Tensor const work = bytes(hoft::forward_workspace(device, views.adapter, x_view), x);
    base_product<T> base(weight);
    hoft::forward(device, views.adapter, base, x_view, columns_of<T>(y), views.saved, memory_of(work));
  });
  return {y.narrow(0, 0, t), kept};
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(at::Tensor const& dy, at::Tensor const& x,
                                                                    at::Tensor const& y, at::Tensor const& weight,
                                                                    at::Tensor const& kept, at::Tensor const& s,
                                                                    index_t ru, index_t rv, bool keep_q) {
  auto const type = weight.scalar_type();
  require_parameters(weight, s);
  require(dy, "dy", 2, weight, type);
  require(x, "x", 2, weight, type);
  require(y, "y", 2, weight, type);
  index_t const t = x.size(0), m = weight.size(0), n = weight.size(1);
  at::Tensor const gradient = at::empty({t + rv, m}, dy.options());  // the call overwrites it
  gradient.narrow(0, 0, t).copy_(dy);
  at::Tensor const dx = at::empty({t + rv, n}, dy.options());
  auto const parameters = dy.options().dtype(accumulator_of(type));
  at::Tensor const du = at::empty({ru, m}, parameters), dv = at::empty({rv, n}, parameters);
  at::Tensor const ds = at::empty({s.numel()}, parameters);
  dispatch(type, [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const device = policy();
    hoft::carver memory(memory_of(kept));
    kept_views<T> const views(memory, weight, s, ru, rv, t, keep_q);
    at::Tensor const work = bytes(hoft::backward_workspace(device, views.adapter, views.saved), dy);
    base_product<T> base(weight);
    hoft::backward(device, views.adapter, base, columns_of<T const>(x), columns_of<T const>(y), views.saved,
                   columns_of<T>(gradient), columns_of<T>(dx), columns_of<A>(du), columns_of<A>(dv), vector_of<A>(ds),
                   memory_of(work));
  });
  return {dx.narrow(0, 0, t), du, dv, ds};
}

void merge(at::Tensor const& forms, at::Tensor const& s, index_t ru, index_t rv, at::Tensor const& weight,
           at::Tensor const& merged) {
  require_parameters(weight, s);
  require(merged, "merged", 2, weight, weight.scalar_type());
  dispatch(weight.scalar_type(), [&]<class T>(T) {
    using A = hoft::accumulator_t<T>;
    auto const device = policy();
    hoft::carver memory(memory_of(forms));
    auto a = carve_forms<A>(memory, weight.size(0), weight.size(1), ru, rv);
    a.scale = vector_of<A>(s);
    auto const M = columns_of<T const>(weight).transposed();
    auto const Mhat = columns_of<T>(merged).transposed();
    at::Tensor const work = bytes(hoft::merge_workspace(device, a, M), weight);
    hoft::merge(device, a, M, Mhat, memory_of(work));
  });
}

}  // namespace compare
