// SPDX-License-Identifier: BSD-3-Clause
// reflectors.cpp: reflectors and the peers that take them one by one, instantiated here only.
#include "reflectors.hpp"

#include "lapack.hpp"

#include <Eigen/QR>

#include <random>
#include <vector>

namespace bench {

using hoft::as_eigen;
using hoft::as_view;

template <class T>
reflectors<T>::reflectors(index_t m, index_t r, unsigned seed)
    : start(m, r), tau(r), F(hoft::dense_matrix<T>::Zero(r, r)) {
  std::mt19937 rng(seed);
  std::normal_distribution<T> normal;
  for (index_t j = 0; j < r; ++j)
    for (index_t i = 0; i < m; ++i) start(i, j) = normal(rng);
  packed = start;
  std::vector<T> work(std::size_t(64 * r));
  lapack::geqrf(as_view(packed), tau.data(), work.data(), index_t(work.size()));
  U = packed.template triangularView<Eigen::UnitLower>();
  lapack::larft(as_view(std::as_const(U)), tau.data(), as_view(F));
  form = hoft::accumulate(U);
}

template <class T>
void reflect_left(reflectors<T> const& Q, matrix_view<T> X, hoft::dense_vector<T>& scratch) {
  index_t const m = X.rows, width = std::max<index_t>(8, (index_t{1} << 19) / (m * index_t(sizeof(T))));
  for (index_t j = 0; j < X.cols; j += width) {
    index_t const w = std::min(width, X.cols - j);
    auto panel = as_eigen(X.columns(j, w));
    auto dots = scratch.head(w);
    for (index_t k = Q.U.cols(); k-- > 0;) {
      auto const v = Q.U.col(k).tail(m - k);
      auto rows = panel.bottomRows(m - k);
      dots.noalias() = rows.transpose() * v;
      dots *= -Q.tau(k);
      rows.noalias() += v * dots.transpose();
    }
  }
}

template <class T>
void reflect_right(reflectors<T> const& Q, matrix_view<T> X, hoft::dense_vector<T>& scratch) {
  index_t const n = X.cols, height = std::max<index_t>(64, (index_t{1} << 19) / (n * index_t(sizeof(T))));
  for (index_t i = 0; i < X.rows; i += height) {
    index_t const h = std::min(height, X.rows - i);
    auto panel = as_eigen(X.block(i, 0, h, n));
    auto dots = scratch.head(h);
    for (index_t k = 0; k < Q.U.cols(); ++k) {
      auto const v = Q.U.col(k).tail(n - k);
      auto cols = panel.rightCols(n - k);
      dots.noalias() = cols * v;
      dots *= -Q.tau(k);
      cols.noalias() += dots * v.transpose();
    }
  }
}

template <class T>
void eigen_sequence_left(reflectors<T> const& Q, matrix_view<T> X) {
  as_eigen(X).applyOnTheLeft(Eigen::householderSequence(Q.packed, Q.tau));
}
template <class T>
void eigen_sequence_right(reflectors<T> const& Q, matrix_view<T> X) {
  as_eigen(X).applyOnTheRight(Eigen::householderSequence(Q.packed, Q.tau));
}
template <class T>
void eigen_qr_left(reflectors<T> const& Q, matrix_view<T> X) {
  Eigen::HouseholderQR<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>> const qr(Q.start);
  as_eigen(X).applyOnTheLeft(qr.householderQ());
}

#define BENCH_INSTANTIATE(T)                                                                 \
  template struct reflectors<T>;                                                             \
  template void reflect_left(reflectors<T> const&, matrix_view<T>, hoft::dense_vector<T>&);  \
  template void reflect_right(reflectors<T> const&, matrix_view<T>, hoft::dense_vector<T>&); \
  template void eigen_sequence_left(reflectors<T> const&, matrix_view<T>);                   \
  template void eigen_sequence_right(reflectors<T> const&, matrix_view<T>);                  \
  template void eigen_qr_left(reflectors<T> const&, matrix_view<T>);
BENCH_INSTANTIATE(float)
BENCH_INSTANTIATE(double)
#undef BENCH_INSTANTIATE

}  // namespace bench
