// SPDX-License-Identifier: BSD-3-Clause
// hoft_in_turn.hpp: HOFT in the order in which its formula reads: Q_V x, then M, then Q_U, with hoft's products of
// reflectors. It needs no M V, which hoft's own passes need and which costs 2 m n r: cheaper for few tokens.
#pragma once
#include "method.hpp"

#include <hoft/hoft.hpp>

#include <optional>

namespace bench::methods {

/// The costs do not depend on the inverse.
constexpr description describe_hoft_in_turn(char const* name, char const* text) {
  return {
      .name = name,
      .text = text,
      .variables = "mnrt",
      .parameters = "(m + n) * r",
      .merge = {"8*m*n*r + 4*(m + n)*r**2", "4*m*n + (m + n)*r",
                "2*(m + n)*r + 3*r*min(n, max(12, min(96, 2**17/max(m, n)))) + 5*r**2"},
      .merge_backward = {"18*m*n*r + (8*m + 10*n)*r**2", "6*m*n + 2*(m + n)*r",
                         "4*(m + n)*r + 5*r*min(n, max(12, min(96, 2**17/max(m, n)))) + 18*r**2"},
      .forward = {"2*m*n*t + 4*(m + n)*r*t + 2*(m + n)*r**2", "m*n + (2*m + 3*n)*t + (m + n)*r",
                  "n*t + (2*m + 2*n + t)*r + 2*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 5*r**2"},
      .backward = {"2*m*n*t + (8*m + 10*n)*r*t + 2*(m + n)*r**2", "m*n + (3*m + 5*n)*t + 2*(m + n)*r",
                   "(3*m + 3*n + t)*r + 6*r*min(t, max(12, min(96, 2**17/max(m, n)))) + 9*r**2"},
  };
}

template <class T>
class hoft_in_turn : public method<T> {
 public:
  hoft_in_turn(sizes const& s, std::mt19937_64& rng, hoft::inverse kind)
      : U_(this->make(s.m, s.r)), V_(this->make(s.n, s.r)), kind_(kind) {
    fill_paired(U_.value, rng);
    fill_paired(V_.value, rng);
  }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    form();
    apply(*right_, M, Mhat, hoft::side::right);
    apply_left(Mhat);
  }
  void merge_backward(matrix_view<T const> M, matrix_view<T const> Mhat, matrix_view<T> dMhat) override {
    turn_back_left(Mhat, dMhat);
    hoft::apply_backward(hoft::cpu{}, right_->view(), M, matrix_view<T const>(dMhat), dMhat, as_view(V_.gradient),
                         hoft::vector_view<T>{}, hoft::side::right, hoft::op::plain,
                         scratch(hoft::apply_backward_workspace(hoft::cpu{}, right_->view(), M, hoft::side::right)));
  }
  void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) override {
    form();
    matrix<T> turned(x.rows, x.cols);
    apply(*right_, x, as_view(turned), hoft::side::left);
    multiply(M, as_view(turned), y);
    apply_left(y);
  }
  void backward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T const> y, matrix_view<T> dy,
                matrix_view<T> dx) override {
    turn_back_left(y, dy);
    multiply_tn(M, dy, dx);
    hoft::apply_backward(hoft::cpu{}, right_->view(), x, matrix_view<T const>(dx), dx, as_view(V_.gradient),
                         hoft::vector_view<T>{}, hoft::side::left, hoft::op::plain,
                         scratch(hoft::apply_backward_workspace(hoft::cpu{}, right_->view(), x)));
  }

 private:
  using form_type = hoft::compact_wy<T>;
  using scratch = hoft::detail::lent_workspace;

  void form() {
    W_.resize(0, 0);
    left_.reset();
    right_.reset();
    left_.emplace(hoft::accumulate(U_.value, kind_));
    right_.emplace(hoft::accumulate(V_.value, kind_));
  }
  static void apply(form_type const& Q, matrix_view<T const> X, matrix_view<T> Y, hoft::side s, matrix_view<T> W = {}) {
    hoft::apply(hoft::cpu{}, Q.view(), X, Y, s, hoft::op::plain,
                scratch(hoft::apply_workspace(hoft::cpu{}, Q.view(), Y, s)), W);
  }
  void apply_left(matrix_view<T> X) {
    W_.resize(left_->rank(), X.cols);
    apply(*left_, X, X, hoft::side::left, as_view(W_));
  }
  /// From the output, since the pass ran in place; with projections, since a truncated Q has no other way back.
  void turn_back_left(matrix_view<T const> Y, matrix_view<T> G) {
    hoft::apply_backward_from_output(hoft::cpu{}, left_->view(), Y, as_view(W_), matrix_view<T const>(G), G,
                                     as_view(U_.gradient), hoft::vector_view<T>{}, hoft::side::left, hoft::op::plain,
                                     scratch(hoft::apply_backward_workspace(hoft::cpu{}, left_->view(), Y)));
  }

  parameter<T>&U_, &V_;
  hoft::inverse kind_;
  std::optional<form_type> left_, right_;
  matrix<T> W_;  ///< [r, columns] what Q_U's reflectors saw
};

}  // namespace bench::methods
