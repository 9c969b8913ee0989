// SPDX-License-Identifier: BSD-3-Clause
// two_forms.cpp: operations once for people, once for loops and once for frameworks. docs/guide/forms.md quotes it.
#include <hoft/hoft.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cstddef>
#include <iostream>
#include <utility>
#include <vector>

using Matrix = Eigen::MatrixXf;

// For people: values in, values out.
Matrix gradient_for_people(Matrix const& U, Matrix const& X, Matrix const& dY) {
  auto const Q = hoft::accumulate(U);
  Matrix Y = X;
  hoft::apply(Q, Y);
  auto const g = hoft::apply_backward_from_output(Q, Y, dY);
  return g.dU;
}

// For loops: results are refilled, and the policy keeps the workspace. After the first round nothing is allocated.
float norm_of_gradients(Matrix const& U, std::vector<Matrix> const& X, std::vector<Matrix> const& dY) {
  hoft::scratch scratch;
  hoft::cpu const policy{.scratch = &scratch};
  auto const Q = hoft::accumulate(policy, U);
  float sum = 0;
  auto g = hoft::apply_backward(policy, Q, X[0], dY[0]);
  for (std::size_t i = 0; i < X.size(); ++i) {
    hoft::apply_backward(policy, Q, X[i], dY[i], g);
    sum += g.dU.norm();
  }
  return sum;
}

// For frameworks: memory is asked for once and lent to every call.
class reflector_layer {
 public:
  reflector_layer(hoft::index_t m, hoft::index_t r, hoft::index_t n, hoft::cpu policy) : policy_(policy) {
    hoft::index_t const block = hoft::block_for(r, hoft::exact{});
    hoft::arena count;
    hoft::carve_compact_wy<float>(count, m, r, block);
    form_.resize(std::size_t(count.size()));
    hoft::arena memory({form_.data(), count.size()});
    Q_ = hoft::carve_compact_wy<float>(memory, m, r, block);
    hoft::matrix_view<float> const X(nullptr, m, n);
    hoft::index_t const bytes =
        std::max({hoft::accumulate_workspace<float>(policy_, r, block), hoft::apply_workspace(policy_, Q_, X),
                  hoft::apply_backward_workspace(policy_, Q_, X)});
    work_.resize(std::size_t(bytes));
  }

  // X := Q X
  void forward(hoft::matrix_view<float const> U, hoft::matrix_view<float> X) {
    hoft::accumulate(policy_, U, Q_, hoft::exact{}, work());
    hoft::apply(policy_, Q_, X, X, hoft::side::left, hoft::op::plain, work());
  }

  // dY := ∂L/∂X, dU := ∂L/∂U
  void backward(hoft::matrix_view<float const> Y, hoft::matrix_view<float> dY, hoft::matrix_view<float> dU) {
    hoft::apply_backward_from_output(policy_, Q_, Y, dY, dY, dU, hoft::vector_view<float>{}, hoft::side::left,
                                     hoft::op::plain, work());
  }

 private:
  hoft::workspace work() { return {work_.data(), hoft::index_t(work_.size())}; }

  hoft::cpu policy_;
  std::vector<std::byte> form_, work_;
  hoft::compact_wy_view<float> Q_;
};

// SHOFT on a linear layer with weight M [m, n]. Tokens x features in row-major order are the column-major [features,
// tokens].
class shoft_layer {
 public:
  shoft_layer(hoft::matrix_view<float const> M, hoft::index_t rank, hoft::index_t tokens, hoft::cpu policy)
      : policy_(policy), base_(policy, M) {
    hoft::index_t const left = hoft::block_for(rank, hoft::exact{}), right = std::max<hoft::index_t>(1, rank);
    auto const carve = [&](hoft::arena& memory) {
      a_ = {hoft::carve_compact_wy<float>(memory, M.rows, rank, left),
            hoft::carve_compact_wy<float>(memory, M.cols, rank, right), memory.vector<float>(M.rows)};
      layer_ = hoft::carve_layer(memory, a_);
      sums_ = hoft::carve_layer_gradient(memory, a_);
      state_ = hoft::carve_layer_state<float, hoft::col_major>(memory, a_, tokens);
    };
    hoft::arena count;
    carve(count);
    memory_.resize(std::size_t(count.size()));
    hoft::arena memory({memory_.data(), count.size()});
    carve(memory);
    hoft::matrix_view<float> const x(nullptr, M.cols, tokens);
    hoft::index_t const bytes =
        std::max({hoft::accumulate_workspace<float>(policy_, rank, left),
                  hoft::accumulate_workspace<float>(policy_, rank, right), hoft::bind_workspace<float>(policy_, a_),
                  hoft::forward_workspace(policy_, layer_, x), hoft::backward_workspace(policy_, layer_, state_),
                  hoft::finish_workspace<float>(policy_, layer_)});
    work_.resize(std::size_t(bytes));
  }

  // Once in an optimiser step, before the first tokens.
  void begin(hoft::matrix_view<float const> U, hoft::matrix_view<float const> V, hoft::vector_view<float const> s) {
    hoft::accumulate(policy_, U, a_.left, hoft::exact{}, work());
    hoft::accumulate(policy_, V, a_.right, hoft::exact{}, work());
    std::copy_n(s.data, s.size, a_.scale.data);
    hoft::bind_layer<float>(policy_, hoft::adapter_view<float const>(a_), base_, layer_, work());
    hoft::set_zero(policy_, sums_);
  }

  // y := Q_U diag(s) M Q_V x
  void forward(hoft::matrix_view<float const> x, hoft::matrix_view<float> y) {
    hoft::forward(policy_, layer_, base_, x, y, state_, work());
  }

  // dx := ∂L/∂x for the tokens of the last forward; dy becomes ∂L/∂(M x). Any number of micro-batches.
  void backward(hoft::matrix_view<float const> x, hoft::matrix_view<float const> y, hoft::matrix_view<float> dy,
                hoft::matrix_view<float> dx) {
    hoft::backward(policy_, layer_, base_, x, y, state_, dy, dy, dx, sums_, work());
  }

  // Once in an optimiser step, behind the last tokens.
  void finish(hoft::matrix_view<float> dU, hoft::matrix_view<float> dV, hoft::vector_view<float> ds) {
    hoft::finish<float>(policy_, layer_, base_, sums_, dU, dV, ds, work());
  }

 private:
  hoft::workspace work() { return {work_.data(), hoft::index_t(work_.size())}; }

  hoft::cpu policy_;
  hoft::dense_operator<float, hoft::col_major> base_;
  std::vector<std::byte> memory_, work_;
  hoft::adapter_view<float> a_;
  hoft::bound_layer_view<float> layer_;
  hoft::layer_gradient_view<float> sums_;
  hoft::layer_state<float, float, hoft::col_major> state_;
};

// Many small problems in one call, threads over problems: X[i] := Q(U[i]) X[i].
void apply_to_each(std::vector<Matrix> const& U, std::vector<Matrix>& X, hoft::cpu policy) {
  std::vector<hoft::matrix_view<float const>> us;
  std::vector<hoft::matrix_view<float>> xs;
  std::vector<hoft::compact_wy_view<float>> Q;
  for (std::size_t i = 0; i < U.size(); ++i) {
    us.push_back(hoft::as_view(U[i]));
    xs.push_back(hoft::as_view(X[i]));
  }
  auto const carve = [&](hoft::arena& memory) {
    Q.clear();
    for (Matrix const& u : U)
      Q.push_back(hoft::carve_compact_wy<float>(memory, u.rows(), u.cols(), hoft::block_for(u.cols(), hoft::exact{})));
  };
  hoft::arena count;
  carve(count);
  std::vector<std::byte> forms(static_cast<std::size_t>(count.size()));
  hoft::arena memory({forms.data(), count.size()});
  carve(memory);
  hoft::index_t const bytes = std::max(hoft::accumulate_workspace(policy, Q), hoft::apply_workspace(policy, Q, xs));
  std::vector<std::byte> work(static_cast<std::size_t>(bytes));
  hoft::accumulate(policy, us, Q, hoft::exact{}, {work.data(), bytes});
  hoft::apply(policy, Q, xs, xs, hoft::side::left, hoft::op::plain, {work.data(), bytes});
}

int main() {
  Matrix const U = Matrix::Random(96, 8), X = Matrix::Random(96, 40), dY = Matrix::Random(96, 40);
  Matrix const expected = gradient_for_people(U, X, dY);

  // Threads that sleep between calls: no call starts one.
  hoft::thread_pool pool(2);
  hoft::cpu const policy{.threads = pool.threads(), .executor = &pool};

  Matrix Y = X, g = dY, dU(96, 8);
  reflector_layer layer(96, 8, 40, policy);
  layer.forward(hoft::as_view(U), hoft::as_view(Y));
  layer.backward(hoft::as_view(Y), hoft::as_view(g), hoft::as_view(dU));
  bool same = dU == expected;

  Matrix const M = Matrix::Random(96, 64), V = Matrix::Random(64, 8), x = Matrix::Random(64, 40);
  Eigen::VectorXf const s = Eigen::VectorXf::Random(96);
  auto const bound = hoft::bind_layer(hoft::adapter{U, V, s}, hoft::dense(M));
  auto const f = hoft::forward(bound, x);
  hoft::layer_gradient sums(bound);
  Matrix const dx = hoft::backward(bound, x, f, dY, sums);
  auto const d = hoft::finish(bound, sums);

  Matrix y(96, 40), dy = dY, dx2(64, 40), dV(64, 8);
  Eigen::VectorXf ds(96);
  shoft_layer shoft(hoft::as_view(M), 8, 40, policy);
  shoft.begin(hoft::as_view(U), hoft::as_view(V), hoft::as_vector_view(s));
  shoft.forward(hoft::as_view(x), hoft::as_view(y));
  shoft.backward(hoft::as_view(x), hoft::as_view(std::as_const(y)), hoft::as_view(dy), hoft::as_view(dx2));
  shoft.finish(hoft::as_view(dU), hoft::as_view(dV), hoft::as_vector_view(ds));
  same = same && y == f.y && dx2 == dx && dU == d.dU && dV == d.dV && ds == d.ds;

  std::vector<Matrix> const many_U{Matrix::Random(96, 8), Matrix::Random(64, 4)};
  std::vector<Matrix> many_X{Matrix::Random(96, 40), Matrix::Random(64, 50)};
  std::vector<Matrix> one_by_one = many_X;
  apply_to_each(many_U, many_X, policy);
  for (std::size_t i = 0; i < many_U.size(); ++i) {
    hoft::apply(hoft::accumulate(many_U[i]), one_by_one[i]);
    same = same && one_by_one[i] == many_X[i];
  }

  std::vector<Matrix> const inputs{X, X.leftCols(7)}, gradients{dY, dY.leftCols(7)};
  auto const Q = hoft::accumulate(U);
  float sum = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) sum += hoft::apply_backward(Q, inputs[i], gradients[i]).dU.norm();
  same = same && sum == norm_of_gradients(U, inputs, gradients);

  std::cout << "all forms give the same bits: " << (same ? "yes" : "no") << '\n';
  return same ? 0 : 1;
}
