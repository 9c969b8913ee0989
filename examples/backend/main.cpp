// SPDX-License-Identifier: BSD-3-Clause
// A layer y = Q_U M Q_V x on the backend of naive.hpp: the calls of hoft do not change, only the policy does.
//
// All of it goes through views of memory that the program owns. Neither Eigen nor the CPU backend is included.
#include "naive.hpp"

#include <hoft/adapter/bind.hpp>
#include <hoft/adapter/forward.hpp>
#include <hoft/adapter/merge.hpp>
#include <hoft/householder/accumulate.hpp>
#include <hoft/householder/apply.hpp>
#include <hoft/householder/apply_backward.hpp>

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <random>
#include <vector>

namespace {

using hoft::index_t;
using hoft::op;
using hoft::side;
using naive_backend::naive;

/// A matrix that owns its memory.
struct matrix {
  index_t rows, cols;
  std::vector<double> elements;
  matrix(index_t m, index_t n) : rows(m), cols(n), elements(std::size_t(m * n)) {}
  hoft::matrix_view<double> view() { return {elements.data(), rows, cols}; }
  double& operator()(index_t i, index_t j) { return view()(i, j); }
};

matrix gaussian(index_t m, index_t n, unsigned seed) {
  matrix A(m, n);
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  for (double& a : A.elements) a = normal(generator);
  return A;
}

/// Scratch memory for one call.
struct scratch {
  std::vector<std::byte> bytes;
  explicit scratch(index_t size) : bytes(std::size_t(size)) {}
  operator hoft::workspace() { return {bytes.data(), index_t(bytes.size())}; }
};

/// Q = H(u₁) ⋯ H(u_r) in compact WY form, and its memory. An arena without memory counts what is needed.
struct form {
  std::vector<std::byte> memory;
  hoft::compact_wy_view<double> view;
  form(naive const& policy, matrix U) {
    index_t const block = hoft::block_for(U.cols, hoft::exact{});
    hoft::arena count;
    hoft::carve_compact_wy<double>(count, U.rows, U.cols, block);
    memory.resize(std::size_t(count.size()));
    hoft::arena carve(hoft::workspace{memory.data(), count.size()});
    view = hoft::carve_compact_wy<double>(carve, U.rows, U.cols, block);
    scratch work(hoft::accumulate_workspace<double>(policy, U.cols, block));
    hoft::accumulate(policy, U.view(), view, hoft::exact{}, work);
  }
  form(form const&) = delete;
  form& operator=(form const&) = delete;
};

/// ‖A − B‖_F, the norm alone where B is zero.
double distance(matrix const& A, matrix const& B) {
  double sum = 0;
  for (std::size_t e = 0; e < A.elements.size(); ++e) sum += std::pow(A.elements[e] - B.elements[e], 2);
  return std::sqrt(sum);
}
double product(matrix const& A, matrix const& B) {
  double sum = 0;
  for (std::size_t e = 0; e < A.elements.size(); ++e) sum += A.elements[e] * B.elements[e];
  return sum;
}

/// ‖I − QᵀQ‖_F/√m.
double orthogonality_error(naive const& policy, form const& Q) {
  index_t const m = Q.view.rows();
  matrix E(m, m), QtQ(m, m), identity(m, m);
  scratch work(hoft::materialize_workspace(policy, Q.view, E.view()));
  hoft::materialize(policy, Q.view, E.view(), work);
  naive_backend::naive_operations::project(policy, E.view(), E.view(), QtQ.view());
  for (index_t i = 0; i < m; ++i) identity(i, i) = 1;
  return distance(QtQ, identity) / std::sqrt(double(m));
}

matrix applied(naive const& policy, form const& Q, matrix X, op o) {
  matrix Y(X.rows, X.cols);
  scratch work(hoft::apply_workspace(policy, Q.view, X.view()));
  hoft::apply(policy, Q.view, X.view(), Y.view(), side::left, o, work);
  return Y;
}

/// The weight as a base operator: hoft sees nothing of it but its products.
struct dense_base {
  naive const& policy;
  hoft::matrix_view<double> M;
  void apply(hoft::matrix_view<double const> X, hoft::matrix_view<double> Y) const {
    naive_backend::naive_operations::update(policy, 1, M, X, {}, Y);
  }
  void apply_adjoint(hoft::matrix_view<double const> X, hoft::matrix_view<double> Y) const {
    naive_backend::naive_operations::project(policy, M, X, Y);
  }
};

/// Q_U M Q_V x, the product of the three never formed.
matrix adapted(naive const& policy, hoft::adapter_view<double const> const& a, matrix M, matrix x) {
  hoft::arena count;
  hoft::carve_layer(count, a);
  std::vector<std::byte> bytes(std::size_t(count.size()));
  hoft::arena memory(hoft::workspace{bytes.data(), count.size()});
  hoft::bound_layer_view<double> layer = hoft::carve_layer(memory, a);
  dense_base base{policy, M.view()};
  scratch binding(hoft::bind_workspace<double>(policy, a));
  hoft::bind_layer<double>(policy, a, base, layer, binding);
  matrix y(M.rows, x.cols);
  scratch work(hoft::forward_workspace(policy, layer, x.view(), false));
  hoft::forward(policy, layer, base, x.view(), y.view(), work);
  return y;
}

bool passes(char const* what, double error, double allowed) {
  std::printf("%-58s %.1e\n", what, error);
  return error <= allowed;
}

}  // namespace

int main() {
  naive const policy;
  index_t const m = 40, n = 30, r = 6, tokens = 9;
  matrix U = gaussian(m, r, 1);
  form const left(policy, U), right(policy, gaussian(n, r, 2));
  double const eps = 2.2e-16;
  bool passed = passes("orthogonality error of Q_U", orthogonality_error(policy, left), 100 * eps);

  matrix const X = gaussian(m, tokens, 3);
  matrix const back = applied(policy, left, applied(policy, left, X, op::plain), op::adjoint);
  passed = passes("Q_U^T Q_U X - X", distance(back, X), 1000 * eps) && passed;

  // The gradient of f = <G, Q X> against a difference quotient along a direction.
  matrix G = gaussian(m, tokens, 4), x = X, dX(m, tokens), dU(m, r), along = gaussian(m, r, 5), moved = U;
  scratch work(hoft::apply_backward_workspace(policy, left.view, x.view()));
  hoft::apply_backward(policy, left.view, x.view(), G.view(), dX.view(), dU.view(), hoft::vector_view<double>{},
                       side::left, op::plain, work);
  double f[2] = {};
  double const h = 1e-6;
  for (int i = 0; i < 2; ++i) {
    for (std::size_t e = 0; e < U.elements.size(); ++e)
      moved.elements[e] = U.elements[e] + (i == 0 ? h : -h) * along.elements[e];
    f[i] = product(G, applied(policy, form(policy, moved), X, op::plain));
  }
  double const slope = (f[0] - f[1]) / (2 * h);
  passed = passes("gradient of U against a difference quotient", std::abs(product(dU, along) - slope), 1e-7) && passed;

  // M' := Q_U M Q_V keeps the norm of the weight M.
  matrix M = gaussian(m, n, 6), merged(m, n), zero(m, n);
  hoft::adapter_view<double const> const adapter{left.view, right.view, {}};
  scratch merging(hoft::merge_workspace(policy, adapter, M.view()));
  hoft::merge(policy, adapter, M.view(), merged.view(), merging);
  passed = passes("relative change of the norm of a weight by merge",
                  std::abs(distance(merged, zero) / distance(M, zero) - 1), 1000 * eps) &&
           passed;

  // The same layer on activations.
  matrix const tokens_in = gaussian(n, tokens, 7);
  matrix const y = adapted(policy, adapter, M, tokens_in);
  matrix expected(m, tokens);
  naive_backend::naive_operations::update(policy, 1, merged.view(), matrix(tokens_in).view(), {}, expected.view());
  passed = passes("relative error of the layer against the merged weight",
                  distance(y, expected) / distance(expected, matrix(m, tokens)), 1000 * eps) &&
           passed;
  return passed ? 0 : 1;
}
