// SPDX-License-Identifier: BSD-3-Clause
// reflections.hpp: Q = H(u₁) ⋯ H(u_r) applied one reflection after another by matrix-vector products and rank-1
// updates, on panels of columns that stay in the second-level cache.
#pragma once
#include "method.hpp"

namespace bench::methods {

template <class T>
class reflections {
 public:
  explicit reflections(matrix<T> const& U) : U_(U), norms_(U.cols()) {
    for (index_t k = 0; k < U_.cols(); ++k) {
      using std::sqrt;
      norms_(k) = sqrt(T(U_.col(k).squaredNorm()));
      U_.col(k) /= norms_(k);
    }
  }

  /// X := Q X.
  void apply(matrix_view<T> X) const {
    vector<T> dots(width(X));
    each_panel(X, [&](index_t j, index_t w) {
      auto panel = as_eigen(X.columns(j, w));
      for (index_t k = U_.cols(); k-- > 0;) reflect(k, panel, dots.head(w));
    });
  }

  /// G := QᵀG, and the gradient with respect to U, from Y = Q X and G = ∂L/∂Y. Y is not kept.
  void backward(matrix_view<T const> Y, matrix_view<T> G, matrix<T>& dU) const {
    index_t const most = width(Y);
    matrix<T> state(Y.rows, most);
    vector<T> from_state(most), from_gradient(most);
    dU.setConstant(T(0));
    each_panel(Y, [&](index_t j, index_t w) {
      auto x = state.leftCols(w);
      auto g = as_eigen(G.columns(j, w));
      auto a = from_state.head(w), c = from_gradient.head(w);
      x = as_eigen(Y.columns(j, w));
      for (index_t k = 0; k < U_.cols(); ++k) {
        reflect(k, x, a);  // what went into reflection k; a = −2 xᵀu of its output, so 2 xᵀu of its input
        c.noalias() = g.transpose() * U_.col(k);
        c *= T(-2);
        dU.col(k).noalias() += x * c;
        dU.col(k).noalias() -= g * a;
        g.noalias() += U_.col(k) * c.transpose();
      }
    });
    for (index_t k = 0; k < U_.cols(); ++k) {
      T const along = U_.col(k).dot(dU.col(k));
      dU.col(k) = (dU.col(k) - U_.col(k) * along) / norms_(k);
    }
  }

 private:
  template <class Panel, class Dots>
  void reflect(index_t k, Panel& panel, Dots dots) const {
    dots.noalias() = panel.transpose() * U_.col(k);
    dots *= T(-2);
    panel.noalias() += U_.col(k) * dots.transpose();
  }

  static index_t width(matrix_view<T const> X) {
    index_t const fits = (index_t{1} << 19) / (std::max<index_t>(X.rows, 1) * index_t(sizeof(T)));
    return std::min(std::max<index_t>(8, fits), X.cols);
  }
  template <class Body>
  static void each_panel(matrix_view<T const> X, Body const& body) {
    index_t const w = std::max<index_t>(1, width(X));
    for (index_t j = 0; j < X.cols; j += w) body(j, std::min(w, X.cols - j));
  }

  matrix<T> U_;
  vector<T> norms_;
};

}  // namespace bench::methods
