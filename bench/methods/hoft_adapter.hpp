// SPDX-License-Identifier: BSD-3-Clause
// hoft_adapter.hpp: hoft itself, for the methods that are hoft. Its base operator takes the product of all methods.
#pragma once
#include "costs.hpp"
#include "method.hpp"

#include <hoft/hoft.hpp>

#include <optional>

namespace bench::methods {

/// The panels of the processor have at least 12 and at most 96 columns.
inline constexpr memory_formulas hoft_memory{
    "(5*m + 2*n)*r + 3*r*min(n, max(12, min(96, 2**17/max(m, n)))) + 5*r**2",
    "(10*m + 4*n)*r + (6*r + 2*m)*min(n, max(12, min(96, 2**17/max(m, n)))) + 18*r**2",
    "(5*m + n + 2*t)*r + 2*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 5*r**2",
    // What finish takes, or the pass before it.
    "(5*m + 2*n + 2*t)*r + max((3*m + t)*r + 4*r*min(t, max(12, min(96, 2**17/max(m, n)))), 2*(m + n)*r) + 9*r**2",
};

template <class T>
class hoft_adapter : public method<T> {
 public:
  hoft_adapter(sizes const& s, std::mt19937_64& rng, hoft::inverse kind, bool scaled)
      : U_(this->make(s.m, s.r)), V_(this->make(s.n, s.r)), kind_(kind) {
    fill_paired(U_.value, rng);
    fill_paired(V_.value, rng);
    if (scaled) {
      scale_ = &this->make(s.m, 1);
      scale_->value.setConstant(T(1));
    }
  }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    forget();
    auto const a = adapter().view();
    hoft::merge(hoft::cpu{}, a, M, Mhat, scratch(hoft::merge_workspace(hoft::cpu{}, a, Mhat)));
  }

  void merge_backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T> dMhat) override {
    auto const a = adapter_->view();
    hoft::merge_backward(hoft::cpu{}, a, M, dMhat, as_view(U_.gradient), as_view(V_.gradient), scale_gradient(),
                         scratch(hoft::merge_backward_workspace(hoft::cpu{}, a, M)));
  }

  void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) override {
    forget();
    auto const a = adapter().view();
    base by{M};
    hoft::arena size;
    hoft::carve_layer(size, a);
    layer_bytes_.resize(std::size_t(size.size()));
    hoft::arena memory{hoft::workspace{layer_bytes_.data(), size.size()}};
    layer_ = hoft::carve_layer(memory, a);
    hoft::bind_layer<T>(hoft::cpu{}, a, by, layer_, scratch(hoft::bind_workspace<T>(hoft::cpu{}, a)));
    auto const state = state_.emplace(a, x.cols).view();
    hoft::forward(hoft::cpu{}, layer_, by, x, y, state, scratch(hoft::forward_workspace(hoft::cpu{}, layer_, x)));
  }

  void backward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T const> y, matrix_view<T> dy,
                matrix_view<T> dx) override {
    auto const state = std::as_const(*state_).view();
    base by{M};
    hoft::layer_gradient<T> g(adapter_->view());
    hoft::backward(hoft::cpu{}, layer_, by, x, y, state, dy, dy, dx, g.view(),
                   scratch(hoft::backward_workspace(hoft::cpu{}, layer_, state)));
    hoft::finish<T>(hoft::cpu{}, layer_, by, g.view(), as_view(U_.gradient), as_view(V_.gradient), scale_gradient(),
                    scratch(hoft::finish_workspace<T>(hoft::cpu{}, layer_)));
  }

 private:
  struct base {
    matrix_view<T const> M;
    void apply(matrix_view<T const> X, matrix_view<T> Y) const { multiply(M, X, Y); }
    void apply_adjoint(matrix_view<T const> X, matrix_view<T> Y) const { multiply_tn(M, X, Y); }
  };
  using scratch = hoft::detail::lent_workspace;

  void forget() {
    state_.reset();
    std::vector<std::byte>().swap(layer_bytes_);
  }
  /// Anew for each step, as training does. The last one stays for the backward pass.
  hoft::adapter<T> const& adapter() {
    adapter_.reset();
    if (scale_ != nullptr) adapter_.emplace(U_.value, V_.value, vector<T>(scale_->value), kind_);
    else adapter_.emplace(U_.value, V_.value, kind_);
    return *adapter_;
  }
  hoft::vector_view<T> scale_gradient() {
    return scale_ == nullptr ? hoft::vector_view<T>{}
                             : hoft::vector_view<T>(scale_->gradient.data(), scale_->gradient.size());
  }

  parameter<T>&U_, &V_, *scale_ = nullptr;
  hoft::inverse kind_;
  std::optional<hoft::adapter<T>> adapter_;
  std::vector<std::byte> layer_bytes_;
  hoft::bound_layer_view<T> layer_;
  std::optional<hoft::state_storage<T, T, hoft::col_major>> state_;
};

}  // namespace bench::methods
