// reflectors.hpp: a product of reflectors as a torch::autograd::Function, and a HOFT layer made of two of them.
#pragma once
#include <torch/csrc/autograd/custom_function.h>
#include <torch/nn/functional/linear.h>
#include <torch/nn/module.h>

#include <hoft/hoft.hpp>

#include <utility>

namespace hoft_torch {

inline hoft::cpu policy() { return {}; }

template <class Body>
void dispatch(char const* function, at::ScalarType type, Body const& body) {
  TORCH_CHECK(type == at::kFloat, function, ": ", type, " is not float, all that this program computes in");
  body(float{});
}

}  // namespace hoft_torch

#include <householder.hpp>

/// Q x for every row x, Q = H(u₁) ⋯ H(u_r) for the rows of u. With `from_output` the backward pass keeps the output.
struct householder : torch::autograd::Function<householder> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, at::Tensor const& x, at::Tensor const& u,
                            bool from_output) {
    auto const [y, form] = hoft_torch::householder_forward(x, u, u.new_empty({0}), false);
    context->save_for_backward({from_output ? y : x, form});
    context->saved_data["rank"] = u.size(0);
    context->saved_data["from_output"] = from_output;
    return y;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list const& dy) {
    // Under create_graph its results would count as constants, without a word.
    TORCH_CHECK(!at::GradMode::is_enabled(), "householder: second derivatives are not computed");
    auto const saved = context->get_saved_variables();
    auto const [dx, du, dtau] =
        hoft_torch::householder_backward(dy[0].contiguous(), saved[0], saved[1], context->saved_data["rank"].toInt(),
                                         false, context->saved_data["from_output"].toBool(), false);
    return {dx, du, {}};
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

  at::Tensor forward(at::Tensor const& x) const {
    return householder::apply(at::linear(householder::apply(x, v, false), weight_), u, true) + bias_;
  }
  /// M̂ = Q_U M Q_V: Q_V works on the rows of M (M Q_V)ᵀ = Q_Vᵀ Mᵀ, Q_U on its columns.
  at::Tensor merged() const { return forward(at::eye(weight_.size(1))).sub(bias_).t(); }

 private:
  at::Tensor weight_, bias_;

 public:
  at::Tensor const u, v;
};
