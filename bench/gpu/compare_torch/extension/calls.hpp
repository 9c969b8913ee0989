// calls.hpp: what Python calls. Tensors are contiguous; weight [m, n], x and dx [t, n], y and dy [t, m], u [ru, m] and
// v [rv, n] (a reflector is a row), s [m] or empty for HOFT. Activations and weight share one type; u, v and s have the
// type that it is computed in.
#pragma once
#include <ATen/ATen.h>

#include <tuple>

namespace compare {

/// The compact WY forms of u and v, as bytes.
at::Tensor accumulate(at::Tensor const& u, at::Tensor const& v);

/// {y, kept}: y = Q_U diag(s) M Q_V x and what `backward` needs of it, forms included. With `spare_rows`, x is the head
/// of memory with rv rows more, which are overwritten; else it is copied.
std::tuple<at::Tensor, at::Tensor> forward(at::Tensor const& x, at::Tensor const& weight, at::Tensor const& u,
                                           at::Tensor const& v, at::Tensor const& s, bool keep_q, bool spare_rows);

/// {dx, du, dv, ds}.
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(at::Tensor const& dy, at::Tensor const& x,
                                                                    at::Tensor const& y, at::Tensor const& weight,
                                                                    at::Tensor const& kept, at::Tensor const& s,
                                                                    int64_t ru, int64_t rv, bool keep_q);

/// merged [m, n] := Q_U diag(s) M Q_V for the forms of `accumulate`.
void merge(at::Tensor const& forms, at::Tensor const& s, int64_t ru, int64_t rv, at::Tensor const& weight,
           at::Tensor const& merged);

}  // namespace compare
