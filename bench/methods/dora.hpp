// SPDX-License-Identifier: BSD-3-Clause
// dora.hpp: M̂ = diag(s) W, W = M + B A, s_i = μ_i / ‖row i of W‖: direction and magnitude apart, with the gradient of
// the norms (the paper's authors also offer to leave it out). W is formed only on the weight: norms come from ‖M_i‖² +
// 2 (M Aᵀ)_i · B_i + B_i A Aᵀ B_iᵀ.
#pragma once
#include "method.hpp"

namespace bench::methods {

template <class T>
class dora : public method<T> {
 public:
  static constexpr description about{
      .name = "dora",
      .text = "DoRA, with the gradient of the norms",
      .variables = "mnrt",
      .parameters = "(m + n) * r + m",
      .merge = {"4*m*n*r + 5*m*n + 2*(m + n)*r**2", "3*m*n + (m + n)*r", "2*m*r"},
      .merge_backward = {"6*m*n*r + 2*m*n + (4*m + 2*n)*r**2", "2*m*n + 3*(m + n)*r", "5*m*r"},
      .forward = {"2*m*n*(t + r + 1) + 2*(m + n)*r*(t + r)", "2*m*n + (m + n)*(t + r)", "2*m*r + r*t"},
      .backward = {"2*m*n*(t + r) + 4*(m + n)*r*t + (4*m + 2*n)*r**2", "2*m*n + (2*m + 2*n)*t + 3*(m + n)*r",
                   "3*m*r + 2*r*t"},
  };
  dora(sizes const& s, std::mt19937_64& rng)
      : B_(this->make(s.m, s.r)), A_(this->make(s.r, s.n)), magnitude_(this->make(s.m, 1)) {
    fill_gaussian(A_.value, 1 / std::sqrt(double(s.n)), rng);
    magnitude_.value.setConstant(T(1));
  }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    measure(M);
    as_eigen(Mhat) = as_eigen(M);
    multiply(as_view(B_.value), as_view(A_.value), Mhat, 1, 1);
    scale_rows(as_eigen(Mhat));
  }
  void merge_backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T> dMhat) override {
    auto const G = as_eigen(dMhat);
    matrix<T> GA(M.rows, A_.value.rows());
    multiply_nt(dMhat, as_view(A_.value), as_view(GA));
    vector<T> ds = GA.cwiseProduct(B_.value).rowwise().sum();
    for (index_t j = 0; j < M.cols; ++j) ds += G.col(j).cwiseProduct(as_eigen(M).col(j));
    scale_rows(GA);
    B_.gradient = GA;
    matrix<T> SB = B_.value;
    scale_rows(SB);
    multiply_tn(as_view(SB), dMhat, as_view(A_.gradient));
    through_norms(M, ds);
  }
  void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) override {
    h_.resize(0, 0);
    measure(M);
    h_.resize(A_.value.rows(), x.cols);
    multiply(M, x, y);
    multiply(as_view(A_.value), x, as_view(h_));
    multiply(as_view(B_.value), as_view(h_), y, 1, 1);
    scale_rows(as_eigen(y));
  }
  void backward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T const> y, matrix_view<T> dy,
                matrix_view<T> dx) override {
    vector<T> ds = vector<T>::Constant(M.rows, T(0));
    for (index_t j = 0; j < y.cols; ++j) ds += as_eigen(dy).col(j).cwiseProduct(as_eigen(y).col(j));
    ds.array() /= s_.array();
    scale_rows(as_eigen(dy));
    matrix<T> dh(h_.rows(), h_.cols());
    multiply_nt(dy, as_view(h_), as_view(B_.gradient));
    multiply_tn(as_view(B_.value), dy, as_view(dh));
    multiply_nt(as_view(dh), x, as_view(A_.gradient));
    multiply_tn(M, dy, dx);
    multiply_tn(as_view(A_.value), as_view(dh), dx, 1, 1);
    through_norms(M, ds);
  }

 private:
  /// X := diag(s) X, by columns, which are what lies together.
  template <class X>
  void scale_rows(X&& x) const {
    for (index_t j = 0; j < x.cols(); ++j) x.col(j) = x.col(j).cwiseProduct(s_);
  }
  void measure(matrix_view<T const> M) {
    index_t const m = M.rows, r = A_.value.rows();
    MA_.resize(m, r);
    AA_.resize(r, r);
    multiply_nt(M, as_view(A_.value), as_view(MA_));
    multiply_nt(as_view(A_.value), as_view(A_.value), as_view(AA_));
    vector<T> squares = vector<T>::Constant(m, T(0));
    for (index_t j = 0; j < M.cols; ++j) squares += as_eigen(M).col(j).cwiseAbs2();
    matrix<T> mixed = MA_ * T(2);
    multiply(as_view(B_.value), as_view(AA_), as_view(mixed), 1, 1);
    squares += mixed.cwiseProduct(B_.value).rowwise().sum();
    norms_ = squares.cwiseSqrt();
    s_ = magnitude_.value.col(0).cwiseQuotient(norms_);
  }
  /// Adds what comes through the norms: dW = diag(e) W, e = −ds s / ‖w‖².
  void through_norms(matrix_view<T const> M, vector<T> const& ds) {
    magnitude_.gradient.col(0) = ds.cwiseQuotient(norms_);
    vector<T> const e = -(ds.cwiseProduct(s_).cwiseQuotient(norms_.cwiseAbs2()));
    matrix<T> EB = B_.value, mixed = MA_;
    for (index_t j = 0; j < EB.cols(); ++j) EB.col(j) = EB.col(j).cwiseProduct(e);
    multiply(as_view(B_.value), as_view(AA_), as_view(mixed), 1, 1);
    for (index_t j = 0; j < EB.cols(); ++j) B_.gradient.col(j) += mixed.col(j).cwiseProduct(e);
    multiply_tn(as_view(EB), M, as_view(A_.gradient), 1, 1);
    matrix<T> BEB(EB.cols(), EB.cols());
    multiply_tn(as_view(B_.value), as_view(EB), as_view(BEB));
    multiply(as_view(BEB), as_view(A_.value), as_view(A_.gradient), 1, 1);
  }

  parameter<T>&B_, &A_, &magnitude_;
  matrix<T> h_, MA_, AA_;  ///< A x, M Aᵀ, A Aᵀ
  vector<T> norms_, s_;
};

}  // namespace bench::methods

BENCH_METHOD(dora)
