// SPDX-License-Identifier: BSD-3-Clause
// block_rotations.hpp: Q = Q_k ⋯ Q₁, each factor made of rotations of b rows by Cayley's map of skew matrices. Factor j
// (from 0 on) couples groups of b/2 rows whose numbers differ in bit j, so that the first one is block-diagonal.
#pragma once
#include "method.hpp"

#include <Eigen/LU>

namespace bench::methods {

enum class cayley {
  exact,   ///< (I − K)(I + K)⁻¹
  neumann  ///< (I − K) Σ_{i<5} (−K)^i: no inverse, and only nearly a rotation
};

/// Trained are the upper triangles of the skew matrices, [b (b − 1) / 2, m / b] for each factor.
template <class T>
class block_rotations : public method<T> {
 public:
  block_rotations(char const* name, index_t m, index_t b, index_t k, cayley kind)
      : m_(m), b_(b), h_(b / 2), blocks_(b > 0 ? m / b : 0), kind_(kind) {
    std::string const who = std::string(name) + ": ";
    require(b >= 2 && b % 2 == 0, who + "b is " + std::to_string(b) + ", expected an even number >= 2");
    require(k >= 1 && k < 60 && m % (h_ << k) == 0,
            who + "m is " + std::to_string(m) +
                ", expected a multiple of b/2 2^k = " + std::to_string(h_ << std::min<index_t>(k, 60)));
    for (index_t j = 0; j < k; ++j) this->make(b * (b - 1) / 2, blocks_);
  }

  void merge(matrix_view<T const> M, matrix_view<T> Mhat) override {
    z_.resize(0, 0);
    form();
    as_eigen(Mhat) = as_eigen(M);
    apply(Mhat);
  }
  void merge_backward(matrix_view<T const> M, matrix_view<T const> Mhat, matrix_view<T> dMhat) override {
    turn_back(kind_ == cayley::exact ? Mhat : M, dMhat);
  }
  void forward(matrix_view<T const> M, matrix_view<T const> x, matrix_view<T> y) override {
    form();
    multiply(M, x, y);
    if (kind_ != cayley::exact) z_ = as_eigen(y);
    apply(y);
  }
  void backward(matrix_view<T const> M, matrix_view<T const>, matrix_view<T const> y, matrix_view<T> dy,
                matrix_view<T> dx) override {
    turn_back(kind_ == cayley::exact ? y : as_view(std::as_const(z_)), dy);
    multiply_tn(M, dy, dx);
  }

 private:
  /// The rotations anew from the parameters.
  void form() {
    rotations_.resize(b_, m_ * count());
    series_.resize(kind_ == cayley::neumann ? b_ : 0, kind_ == cayley::neumann ? (terms - 1) * m_ * count() : 0);
    for (index_t j = 0; j < count(); ++j)
      for (index_t i = 0; i < blocks_; ++i) form_rotation(j, i);
  }

  /// X := Q X.
  void apply(matrix_view<T> X) const {
    scratch work(*this, X.cols);
    each_panel(X.cols, [&](index_t c, index_t w) {
      for (index_t j = 0; j < count(); ++j)
        for (index_t i = 0; i < blocks_; ++i) rotate(false, j, i, X.columns(c, w), work);
    });
  }

  /// G := QᵀG, and the gradients of the parameters, from G = ∂L/∂(Q X) and what is known: Q X where Q is a rotation, X
  /// where it is not (then k = 1).
  void turn_back(matrix_view<T const> known, matrix_view<T> G) {
    require(count() == 1 || kind_ == cayley::exact, "block_rotations: one factor only where the map is no rotation");
    bool const from_output = kind_ == cayley::exact;
    scratch work(*this, G.cols);
    matrix<T> state(m_, work.width), dQ = matrix<T>::Constant(b_, m_ * count(), T(0));
    each_panel(G.cols, [&](index_t c, index_t w) {
      matrix_view<T> const x = as_view(state).columns(0, w), g = G.columns(c, w);
      as_eigen(x) = as_eigen(known.columns(c, w));
      for (index_t j = count(); j-- > 0;)
        for (index_t i = 0; i < blocks_; ++i) {
          if (from_output) rotate(true, j, i, x, work);
          add_outer(j, i, x, g, as_view(dQ).columns((j * blocks_ + i) * b_, b_), work);
          rotate(true, j, i, g, work);
        }
    });
    for (index_t j = 0; j < count(); ++j)
      for (index_t i = 0; i < blocks_; ++i) form_backward(j, i, as_view(dQ).columns((j * blocks_ + i) * b_, b_));
  }

  static constexpr index_t terms = 5;

  struct scratch {
    index_t width;
    matrix<T> memory;
    scratch(block_rotations const& q, index_t columns)
        : width(std::min(panel(q.m_), columns)), memory(2 * q.b_, width) {}
    matrix_view<T> in(index_t w) { return {memory.data(), memory.rows() / 2, w}; }
    matrix_view<T> out(index_t w) { return {memory.data() + memory.rows() / 2 * width, memory.rows() / 2, w}; }
  };
  static index_t panel(index_t m) {
    return std::max<index_t>(32, (index_t{1} << 18) / (std::max<index_t>(m, 1) * index_t(sizeof(T))));
  }
  template <class Body>
  void each_panel(index_t columns, Body const& body) const {
    index_t const w = panel(m_);
    for (index_t c = 0; c < columns; c += w) body(c, std::min(w, columns - c));
  }

  index_t count() const { return index_t(this->parameters().size()); }
  matrix_view<T> rotation(index_t j, index_t i) { return as_view(rotations_).columns((j * blocks_ + i) * b_, b_); }
  matrix_view<T const> rotation(index_t j, index_t i) const {
    return as_view(rotations_).columns((j * blocks_ + i) * b_, b_);
  }
  /// The first rows of the two groups that block i of factor j couples.
  std::pair<index_t, index_t> groups(index_t j, index_t i) const {
    index_t const low = i & ((index_t{1} << j) - 1), first = ((i >> j) << (j + 1)) | low;
    return {first * h_, (first | (index_t{1} << j)) * h_};
  }
  void gather(index_t j, index_t i, matrix_view<T const> X, matrix_view<T> rows) const {
    auto const [first, second] = groups(j, i);
    as_eigen(rows).topRows(h_) = as_eigen(X).middleRows(first, h_);
    as_eigen(rows).bottomRows(h_) = as_eigen(X).middleRows(second, h_);
  }
  void rotate(bool transpose, index_t j, index_t i, matrix_view<T> X, scratch& work) const {
    if (with_small_block([&](auto b) { rotate_small<b>(transpose, j, i, X); })) return;
    auto const [first, second] = groups(j, i);
    auto const in = work.in(X.cols), out = work.out(X.cols);
    gather(j, i, X, in);
    if (transpose) multiply_tn(rotation(j, i), in, out);
    else multiply(rotation(j, i), in, out);
    as_eigen(X).middleRows(first, h_) = as_eigen(out).topRows(h_);
    as_eigen(X).middleRows(second, h_) = as_eigen(out).bottomRows(h_);
  }
  /// dQ += G Xᵀ over the rows of the block.
  void add_outer(index_t j, index_t i, matrix_view<T const> X, matrix_view<T const> G, matrix_view<T> dQ,
                 scratch& work) const {
    if (with_small_block([&](auto b) {
          block<b> sum = Eigen::Map<block<b>>(dQ.data);
          for (index_t c = 0; c < X.cols; ++c)
            sum.noalias() += rows_of<b>(j, i, G, c) * rows_of<b>(j, i, X, c).transpose();
          Eigen::Map<block<b>>(dQ.data) = sum;
        }))
      return;
    gather(j, i, X, work.in(X.cols));
    gather(j, i, G, work.out(X.cols));
    multiply_nt<T>(work.out(X.cols), work.in(X.cols), dQ, 1, 1);
  }

  // Blocks too small for a product with packed operands are matrices of fixed size, column by column.
  template <int B>
  using block = Eigen::Matrix<T, B, B>;

  template <class Body>
  bool with_small_block(Body const& body) const {
    switch (b_) {
      case 2:
        return body(std::integral_constant<int, 2>{}), true;
      case 4:
        return body(std::integral_constant<int, 4>{}), true;
      case 8:
        return body(std::integral_constant<int, 8>{}), true;
      case 16:
        return body(std::integral_constant<int, 16>{}), true;
      default:
        return false;
    }
  }
  template <int B>
  Eigen::Matrix<T, B, 1> rows_of(index_t j, index_t i, matrix_view<T const> X, index_t c) const {
    auto const [first, second] = groups(j, i);
    Eigen::Matrix<T, B, 1> rows;
    rows.template head<B / 2>() = as_eigen(X).col(c).template segment<B / 2>(first);
    rows.template tail<B / 2>() = as_eigen(X).col(c).template segment<B / 2>(second);
    return rows;
  }
  template <int B>
  void rotate_small(bool transpose, index_t j, index_t i, matrix_view<T> X) const {
    auto const [first, second] = groups(j, i);
    block<B> Q = Eigen::Map<block<B> const>(rotation(j, i).data);
    if (transpose) Q.transposeInPlace();
    for (index_t c = 0; c < X.cols; ++c) {
      Eigen::Matrix<T, B, 1> const turned = Q.lazyProduct(rows_of<B>(j, i, X, c));
      as_eigen(X).col(c).template segment<B / 2>(first) = turned.template head<B / 2>();
      as_eigen(X).col(c).template segment<B / 2>(second) = turned.template tail<B / 2>();
    }
  }

  /// s K, K skew with the parameters above its diagonal.
  matrix<T> skew(index_t j, index_t i, T s) {
    matrix<T> K = matrix<T>::Constant(b_, b_, T(0));
    auto const values = this->parameters()[std::size_t(j)].value.col(i);
    for (index_t col = 1, at = 0; col < b_; ++col)
      for (index_t row = 0; row < col; ++row, ++at) {
        K(row, col) = s * values(at);
        K(col, row) = -K(row, col);
      }
    return K;
  }
  matrix_view<T> partial_sum(index_t j, index_t i, index_t term) {
    return as_view(series_).columns(((j * blocks_ + i) * (terms - 1) + term) * b_, b_);
  }
  void form_rotation(index_t j, index_t i) {
    auto Q = as_eigen(rotation(j, i));
    if (kind_ == cayley::exact) {  // (I − K)(I + K)⁻¹ = 2 (I + K)⁻¹ − I
      matrix<T> S = skew(j, i, T(1));
      for (index_t d = 0; d < b_; ++d) S(d, d) = T(1);
      Q = T(2) * Eigen::PartialPivLU<matrix<T>>(S).inverse();
      for (index_t d = 0; d < b_; ++d) Q(d, d) -= T(1);
      return;
    }
    matrix<T> const L = skew(j, i, T(-1));  // P₁ = I, P_{s+1} = I + L P_s, Q = (I + L) P₅
    auto const plus_identity = [&](auto&& P) {
      for (index_t d = 0; d < b_; ++d) P(d, d) += T(1);
    };
    for (index_t term = 0; term + 1 < terms; ++term) {
      auto P = as_eigen(partial_sum(j, i, term));
      if (term == 0) P = L;
      else multiply(as_view(L), partial_sum(j, i, term - 1), partial_sum(j, i, term));
      plus_identity(P);
    }
    auto const last = partial_sum(j, i, terms - 2);
    Q = as_eigen(last);
    multiply(as_view(L), last, rotation(j, i), 1, 1);
  }

  void form_backward(index_t j, index_t i, matrix_view<T const> dQ) {
    matrix<T> dK(b_, b_), A(b_, b_);
    if (kind_ == cayley::exact) {  // Q = 2 N − I: dK = −Nᵀ(2 dQ) Nᵀ
      matrix<T> N = as_eigen(rotation(j, i));
      for (index_t d = 0; d < b_; ++d) N(d, d) += T(1);
      N *= T(0.5);
      multiply_tn(as_view(N), dQ, as_view(A), -2);
      multiply_nt(as_view(A), as_view(N), as_view(dK));
    } else {
      matrix<T> const L = skew(j, i, T(-1));
      matrix<T> dP = as_eigen(dQ), dL(b_, b_);
      multiply_nt(dQ, partial_sum(j, i, terms - 2), as_view(dL));
      multiply_tn(as_view(L), dQ, as_view(dP), 1, 1);
      for (index_t term = terms - 2; term-- > 0;) {
        multiply_nt(as_view(dP), partial_sum(j, i, term), as_view(dL), 1, 1);
        multiply_tn(as_view(L), as_view(dP), as_view(A));
        dP.swap(A);
      }
      dL += dP;  // of the first, P₂ = I + L
      dK = -dL;
    }
    auto gradient = this->parameters()[std::size_t(j)].gradient.col(i);
    for (index_t col = 1, at = 0; col < b_; ++col)
      for (index_t row = 0; row < col; ++row, ++at) gradient(at) = dK(row, col) - dK(col, row);
  }

  index_t m_, b_, h_, blocks_;
  cayley kind_;
  matrix<T> rotations_, series_;  ///< [b, m k]: the blocks side by side; the partial sums of each
  matrix<T> z_;                   ///< M x, for what is only nearly a rotation: y does not give it back
};

}  // namespace bench::methods
