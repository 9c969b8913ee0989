// SPDX-License-Identifier: BSD-3-Clause
// layers.cpp: what each way of training does to a layer; the one source here that trains through hoft.
#include "layers.hpp"

#include <hoft/hoft.hpp>

#include <cmath>
#include <stdexcept>
#include <utility>

namespace finetune {

Matrix gaussian(Index rows, Index cols, float deviation, random_engine& rng) {
  std::normal_distribution<float> normal(0.0f, deviation);
  return Matrix::NullaryExpr(rows, cols, [&] { return normal(rng); });
}

namespace {

/// W = M, not trained.
class frozen_layer : public layer {
 public:
  explicit frozen_layer(Matrix const& M) : M_(M) {}
  Matrix forward(Matrix const& x) override { return M_ * x; }
  Matrix backward(Matrix const&, Matrix const& dy) override { return M_.transpose() * dy; }
  Matrix merged() const override { return M_; }

 private:
  Matrix const& M_;
};

/// W itself is trained, from M on: full fine-tuning.
class full_layer : public layer {
 public:
  explicit full_layer(Matrix M) : W_(std::move(M)) {}
  void begin() override { dW_.setZero(W_.rows(), W_.cols()); }
  Matrix forward(Matrix const& x) override { return W_ * x; }
  Matrix backward(Matrix const& x, Matrix const& dy) override {
    dW_.noalias() += dy * x.transpose();
    return W_.transpose() * dy;
  }
  std::vector<parameter> parameters() override { return {{W_, dW_}}; }
  Matrix merged() const override { return W_; }

 private:
  Matrix W_, dW_;
};

/// LoRA: W = M + B A with B [out, r] from zero and A [r, in] from a Gaussian.
class lora_layer : public layer {
 public:
  lora_layer(Matrix const& M, Index rank, random_engine& rng)
      : M_(M),
        A_(gaussian(rank, M.cols(), 1.0f / std::sqrt(static_cast<float>(M.cols())), rng)),
        B_(Matrix::Zero(M.rows(), rank)) {}
  void begin() override {
    dA_.setZero(A_.rows(), A_.cols());
    dB_.setZero(B_.rows(), B_.cols());
  }
  Matrix forward(Matrix const& x) override {
    Ax_.noalias() = A_ * x;
    Matrix y = M_ * x;
    y.noalias() += B_ * Ax_;
    return y;
  }
  Matrix backward(Matrix const& x, Matrix const& dy) override {
    Matrix const dAx = B_.transpose() * dy;
    dB_.noalias() += dy * Ax_.transpose();
    dA_.noalias() += dAx * x.transpose();
    Matrix dx = M_.transpose() * dy;
    dx.noalias() += A_.transpose() * dAx;
    return dx;
  }
  std::vector<parameter> parameters() override { return {{A_, dA_}, {B_, dB_}}; }
  Matrix merged() const override { return M_ + B_ * A_; }

 private:
  Matrix const& M_;
  Matrix A_, B_, dA_, dB_, Ax_;
};

/// HOFT: W = Q_U M Q_V; SHOFT: W = Q_U diag(s) M Q_V.
/// Paired vectors make Q the identity and s = 1 the scale, so that W = M at the start. Trained on the activations:
/// neither W nor its gradient is ever formed.
class hoft_layer : public layer {
 public:
  using adapter = hoft::adapter<float>;
  using bound_layer = decltype(hoft::bind_layer(std::declval<adapter>(), hoft::dense(std::declval<Matrix const&>())));

  hoft_layer(Matrix const& M, adapter_start start, bool scaled, random_engine& rng)
      : M_(M),
        U_(start.deviation * hoft::paired_gaussian<float>(M.rows(), start.rank, rng())),
        V_(start.deviation * hoft::paired_gaussian<float>(M.cols(), start.rank, rng())),
        s_(Vector::Ones(scaled ? M.rows() : 0)) {}
  void begin() override {
    layer_.emplace(hoft::bind_layer(current(), hoft::dense(M_)));
    sums_.emplace(*layer_);
  }
  Matrix forward(Matrix const& x) override {
    forward_.emplace(hoft::forward(*layer_, x));
    return forward_->y;
  }
  Matrix backward(Matrix const& x, Matrix const& dy) override {
    return hoft::backward(*layer_, x, *forward_, dy, *sums_);
  }
  void finish() override {
    auto d = hoft::finish(*layer_, std::move(*sums_));
    dU_ = std::move(d.dU);
    dV_ = std::move(d.dV);
    ds_ = std::move(d.ds);
  }
  std::vector<parameter> parameters() override {
    std::vector<parameter> all{{U_, dU_}, {V_, dV_}};
    if (s_.size() > 0) all.emplace_back(s_, ds_);
    return all;
  }
  Matrix merged() const override {
    Matrix W = M_;
    hoft::merge(current(), W);
    return W;
  }
  std::optional<double> orthogonality_error() const override {
    adapter const a = current();
    return worse(static_cast<double>(hoft::orthogonality_error(a.left())),
                 static_cast<double>(hoft::orthogonality_error(a.right())));
  }

 private:
  /// The transform of the parameters as they are now.
  adapter current() const { return s_.size() > 0 ? adapter{U_, V_, s_} : adapter{U_, V_}; }

  Matrix const& M_;
  Matrix U_, V_, dU_, dV_;
  Vector s_, ds_;
  std::optional<bound_layer> layer_;
  std::optional<hoft::layer_gradient<float>> sums_;
  std::optional<hoft::forward_result<float, float, hoft::col_major>> forward_;
};

}  // namespace

std::unique_ptr<layer> make_layer(method how, Matrix const& M, adapter_start start, random_engine& rng) {
  switch (how) {
    case method::frozen:
      return std::make_unique<frozen_layer>(M);
    case method::full:
      return std::make_unique<full_layer>(M);
    case method::lora:
      return std::make_unique<lora_layer>(M, start.rank, rng);
    case method::hoft:
      return std::make_unique<hoft_layer>(M, start, false, rng);
    case method::shoft:
      return std::make_unique<hoft_layer>(M, start, true, rng);
  }
  throw std::logic_error("finetune::make_layer: no such method");
}

}  // namespace finetune
