// SPDX-License-Identifier: BSD-3-Clause
// hoft_linear.hpp: a frozen linear layer between two products of reflectors, as a torch::autograd::Function.
#pragma once
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/functional/linear.h>
#include <torch/nn/module.h>

#include <hoft/hoft.hpp>

#include <vector>

namespace hoft_torch {

inline hoft::cpu policy() { return {}; }

template <class Body>
void dispatch(char const* function, at::ScalarType type, Body const& body) {
  TORCH_CHECK(type == at::kFloat, function, ": ", type, " is not float, all that this program computes in");
  body(float{});
}

}  // namespace hoft_torch

#include <adapter.hpp>

/// Q_U M Q_V x for every row x, Q_U and Q_V of the rows of u and v. torch multiplies with M, before hoft adapts what
/// came out in its place; x is only read.
struct adapted : torch::autograd::Function<adapted> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, at::Tensor const& x, at::Tensor const& u,
                            at::Tensor const& v, at::Tensor const& weight) {
    std::vector<int64_t> const sizes{u.size(1), v.size(1), u.size(0), v.size(0), 0};
    // What depends on weights alone. A program that takes several micro-batches in a step would keep it for them.
    auto const [layer, directions] = hoft_torch::begin_layer(u, v, u.new_empty({0}));
    hoft_torch::bind_layer(layer, sizes, at::mm(directions, weight.t()));
    at::Tensor const y = at::linear(x, weight);
    at::Tensor const projected = hoft_torch::project(x, layer, sizes);
    auto const [w, q] = hoft_torch::adapt(y, projected, {}, layer, sizes, false, y);
    context->save_for_backward({x, y, projected, w, q, layer, weight});
    context->saved_data["sizes"] = sizes;
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list const& dy) {
    // Under create_graph its results would count as constants, without a word.
    TORCH_CHECK(!at::GradMode::is_enabled(), "adapted: second derivatives are not computed");
    auto const saved = context->get_saved_variables();
    auto const &x = saved[0], &y = saved[1], &layer = saved[5], &weight = saved[6];
    std::vector<int64_t> const sizes = context->saved_data["sizes"].toIntVector();
    at::Tensor const dbase = at::empty_like(y);
    auto const [dprojected, sums] =
        hoft_torch::adapt_backward(dy[0].contiguous(), y, saved[2], saved[3], saved[4], {}, layer, sizes, dbase);
    at::Tensor const dx = at::mm(dbase, weight);
    hoft_torch::project_backward(x, dprojected, layer, sizes, dx, sums);
    auto const [du, dv, ds] = hoft_torch::finish(layer, sizes, sums, weight);
    return {dx, du, dv, {}};
  }
};

/// Reflectors that come in pairs, so that their product is the identity.
inline at::Tensor paired_gaussian(int64_t rank, int64_t size) {
  return at::randn({rank / 2, size}).repeat_interleave(2, 0);
}

/// y = Q_U M Q_V x + b around a frozen linear layer; u and v are trained.
class hoft_linear : public torch::nn::Module {
 public:
  hoft_linear(at::Tensor const& weight, at::Tensor const& bias, int64_t rank)
      : weight_(weight.detach()),
        bias_(bias.detach()),
        u(register_parameter("u", paired_gaussian(rank, weight.size(0)))),
        v(register_parameter("v", paired_gaussian(rank, weight.size(1)))) {}

  at::Tensor forward(at::Tensor const& x) const { return adapted::apply(x, u, v, weight_) + bias_; }
  /// M̂ = Q_U M Q_V: Q_V works on the rows of M (M Q_V)ᵀ = Q_Vᵀ Mᵀ, Q_U on its columns.
  at::Tensor merged() const { return forward(at::eye(weight_.size(1))).sub(bias_).t(); }

 private:
  at::Tensor weight_, bias_;

 public:
  at::Tensor const u, v;
};
