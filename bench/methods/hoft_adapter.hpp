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
    "(6*m + 3*n + 2*t)*r + 3*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 5*r**2",
    "(9*m + 5*n + 3*t)*r + 4*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 16*r**2",
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

  index_t spare() const override { return V_.value.cols(); }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    saved_.reset();
    auto const a = adapter().view();
    hoft::merge(hoft::cpu{}, a, M, Mhat, scratch(hoft::merge_workspace(hoft::cpu{}, a, Mhat)));
  }

  void merge_backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T> dMhat) override {
    auto const a = adapter_->view();
    hoft::merge_backward(hoft::cpu{}, a, M, dMhat, as_view(U_.gradient), as_view(V_.gradient), scale_gradient(),
                         scratch(hoft::merge_backward_workspace(hoft::cpu{}, a, M)));
  }

  void forward(matrix_view<T const> M, matrix_view<T> x, matrix_view<T> y) override {
    saved_.reset();
    auto const a = adapter().view();
    index_t const m = M.rows, t = x.cols - spare();
    auto& saved = saved_.emplace();
    saved.B.resize(m, a.right.rank());
    saved.v.resize(a.right.rank(), t);
    saved.w.resize(a.left.rank(), t);
    if (a.scaled()) saved.q.resize(m, t);
    base by{M};
    hoft::forward(hoft::cpu{}, a, by, x, y, saved.view(), scratch(hoft::forward_workspace(hoft::cpu{}, a, x)));
  }

  void backward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T const> y, matrix_view<T> dy,
                matrix_view<T> dx) override {
    auto const a = adapter_->view();
    auto const saved = std::as_const(*saved_).view();
    index_t const t = x.cols - spare();
    base by{M};
    hoft::backward(hoft::cpu{}, a, by, x.columns(0, t), y.columns(0, t), saved, dy, dx, as_view(U_.gradient),
                   as_view(V_.gradient), scale_gradient(), scratch(hoft::backward_workspace(hoft::cpu{}, a, saved)));
  }

 private:
  struct base {
    matrix_view<T const> M;
    void apply(matrix_view<T const> X, matrix_view<T> Y) const { multiply(M, X, Y); }
    void apply_adjoint(matrix_view<T const> X, matrix_view<T> Y) const { multiply_tn(M, X, Y); }
  };
  using scratch = hoft::detail::scratch;

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
  std::optional<hoft::saved_storage<T, T, hoft::col_major>> saved_;
};

}  // namespace bench::methods
