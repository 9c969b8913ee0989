// SPDX-License-Identifier: BSD-3-Clause
// tensors_of_others.cpp: a HOFT layer around memory and a kernel of somebody else, by raw pointers, Eigen's maps and
// DLPack tensors, with gaps between rows or without. No tensor is copied. Fails if the ways give different numbers.
#include <hoft/hoft.hpp>
#include <hoft/view/dlpack.hpp>

#include <Eigen/Core>

#include <cstddef>
#include <cstdint>
#include <iostream>
#include <utility>
#include <vector>

// --- somebody else's library: tokens are rows, weights are 8-bit integers, with one scale for each output ----------

struct their_weight {
  std::int64_t out, in;
  std::vector<std::int8_t> codes;  // [out, in], row-major
  std::vector<float> scale;        // [out]
};

// y [tokens, out] := x Wᵀ; a step is the distance from one row to the next.
void their_linear(their_weight const& W, float const* x, std::int64_t x_step, float* y, std::int64_t y_step,
                  std::int64_t tokens) {
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t i = 0; i < W.out; ++i) {
      float sum = 0;
      for (std::int64_t j = 0; j < W.in; ++j) sum += float(W.codes[std::size_t(i * W.in + j)]) * x[t * x_step + j];
      y[t * y_step + i] = W.scale[std::size_t(i)] * sum;
    }
}
// dx [tokens, in] := dy W
void their_linear_backward(their_weight const& W, float const* dy, std::int64_t dy_step, float* dx,
                           std::int64_t dx_step, std::int64_t tokens) {
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t j = 0; j < W.in; ++j) {
      float sum = 0;
      for (std::int64_t i = 0; i < W.out; ++i)
        sum += dy[t * dy_step + i] * W.scale[std::size_t(i)] * float(W.codes[std::size_t(i * W.in + j)]);
      dx[t * dx_step + j] = sum;
    }
}

// --- hoft around it -----------------------------------------------------------------------------------------------

// Their kernel as a base operator. Rows of tokens are hoft's columns, and `ld` is the step between them: hoft hands on
// the tensors of its caller as they are.
struct their_base {
  their_weight const& W;
  hoft::index_t rows() const { return W.out; }
  hoft::index_t cols() const { return W.in; }
  void apply(hoft::matrix_view<float const> X, hoft::matrix_view<float> Y) const {
    their_linear(W, X.data, X.ld, Y.data, Y.ld, X.cols);
  }
  void apply_adjoint(hoft::matrix_view<float const> X, hoft::matrix_view<float> Y) const {
    their_linear_backward(W, X.data, X.ld, Y.data, Y.ld, X.cols);
  }
};

using Rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// What a step gives, in memory of the caller: y [tokens, out], dx [tokens, in], and what it overwrites, dbase like y.
struct result {
  Rows y, dx, dbase;
  hoft::adapter_gradient<float> d{};
};

// Memory that is lent to a step: what a forward pass leaves for its backward pass, and scratch.
struct lent_memory {
  std::vector<std::byte> kept, work;
  hoft::layer_state<float, float, hoft::col_major> state;

  lent_memory(hoft::adapter_view<float const> const& a, std::int64_t tokens) {
    hoft::arena count;
    hoft::carve_layer_state<float, hoft::col_major>(count, a, tokens);
    kept.resize(std::size_t(count.size()));
    hoft::arena memory({kept.data(), count.size()});
    state = hoft::carve_layer_state<float, hoft::col_major>(memory, a, tokens);
  }
  hoft::workspace scratch(hoft::index_t bytes) {
    work.resize(std::size_t(bytes));
    return {work.data(), bytes};
  }
};

// hoft calls their kernel. x [in, tokens], dy, y, dbase and dx are views of tensors that stay where they are.
template <class Layer>
void step(Layer const& layer, hoft::matrix_view<float const> x, hoft::matrix_view<float const> dy,
          hoft::matrix_view<float> y, hoft::matrix_view<float> dbase, hoft::matrix_view<float> dx, result& r) {
  hoft::cpu const policy;
  auto const bound = layer.view();
  lent_memory lent(bound.adapter, x.cols);
  hoft::layer_gradient sums(layer);
  hoft::forward(policy, bound, layer.base(), x, y, lent.state, lent.scratch(hoft::forward_workspace(policy, bound, x)));
  hoft::backward(policy, bound, layer.base(), x, y, lent.state, dy, dbase, dx, sums.view(),
                 lent.scratch(hoft::backward_workspace(policy, bound, lent.state)));
  r.d = hoft::finish(layer, sums);
}
template <class Layer>
void step(Layer const& layer, hoft::matrix_view<float const> x, hoft::matrix_view<float const> dy, result& r) {
  step(layer, x, dy, hoft::as_view(r.y).transposed(), hoft::as_view(r.dbase).transposed(),
       hoft::as_view(r.dx).transposed(), r);
}

// They call their kernel, somewhere, and hoft only adapts what came out, in place.
template <class Layer>
void step_around(Layer const& layer, their_weight const& W, float const* x, float const* dy, std::int64_t tokens,
                 result& r) {
  hoft::cpu const policy;
  auto const bound = layer.view();
  lent_memory lent(bound.adapter, tokens);
  auto const& state = lent.state;
  hoft::layer_gradient sums(layer);

  hoft::matrix_view<float const> const X(x, W.in, tokens), dY(dy, W.out, tokens);
  hoft::matrix_view<float> const Y(r.y.data(), W.out, tokens), dX(r.dx.data(), W.in, tokens);
  their_linear(W, x, W.in, r.y.data(), W.out, tokens);
  hoft::project(policy, bound, X, state.v, lent.scratch(hoft::project_workspace(policy, bound, X)));
  hoft::adapt(policy, bound, Y, Y, state, lent.scratch(hoft::adapt_workspace(policy, bound, Y)));

  Eigen::MatrixXf dv(state.v.rows, tokens);
  hoft::adapt_backward(policy, bound, hoft::matrix_view<float const>(Y), state, dY, hoft::as_view(r.dbase).transposed(),
                       hoft::as_view(dv), sums.view(),
                       lent.scratch(hoft::adapt_backward_workspace(policy, bound, state)));
  their_linear_backward(W, r.dbase.data(), W.out, r.dx.data(), W.in, tokens);
  hoft::project_backward(policy, bound, X, hoft::as_view(std::as_const(dv)), dX, sums.view(),
                         lent.scratch(hoft::project_backward_workspace(policy, bound, X)));
  r.d = hoft::finish(layer, sums);
}

bool same(result const& a, result const& b) {
  return a.y == b.y && a.dx == b.dx && a.d.dU == b.d.dU && a.d.dV == b.d.dV;
}

int main() {
  constexpr std::int64_t out = 24, in = 40, tokens = 7;
  their_weight W{out, in, std::vector<std::int8_t>(out * in), std::vector<float>(out, 0.01f)};
  for (std::size_t i = 0; i < W.codes.size(); ++i) W.codes[i] = std::int8_t(i * 37 % 251);
  std::vector<float> x(tokens * in), dy(tokens * out);  // of their tensors, only addresses are taken
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = float(i % 13) - 6;
  for (std::size_t i = 0; i < dy.size(); ++i) dy[i] = float(i % 7) - 3;
  std::vector<float> const before = x;

  Eigen::MatrixXf const U = Eigen::MatrixXf::Random(out, 4), V = Eigen::MatrixXf::Random(in, 4);
  their_base base{W};
  auto const layer = hoft::bind_layer(hoft::adapter{U, V}, base);
  auto const empty = [&] { return result{Rows(tokens, out), Rows(tokens, in), Rows(tokens, out)}; };

  // Raw pointers: rows of tokens are the columns of a column-major view.
  result by_pointer = empty();
  step(layer, {x.data(), in, tokens}, {dy.data(), out, tokens}, by_pointer);

  // Eigen's maps of the same memory.
  Eigen::Map<Rows const> const x_map(x.data(), tokens, in), dy_map(dy.data(), tokens, out);
  result by_map = empty();
  step(layer, hoft::as_view(x_map).transposed(), hoft::as_view(dy_map).transposed(), by_map);

  // DLPack tensors, as PyTorch, JAX, CuPy and NumPy exchange them.
  std::int64_t x_shape[] = {tokens, in}, dy_shape[] = {tokens, out};
  DLTensor const x_tensor{x.data(), {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, x_shape, nullptr, 0};
  DLTensor const dy_tensor{dy.data(), {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, dy_shape, nullptr, 0};
  result by_dlpack = empty();
  step(layer, hoft::dlpack::as_matrix<float const, hoft::row_major>(x_tensor).transposed(),
       hoft::dlpack::as_matrix<float const, hoft::row_major>(dy_tensor).transposed(), by_dlpack);

  // Rows with gaps between them, which stay as they are.
  Rows x_wide = Rows::Constant(tokens, in + 5, 9), y_wide = Rows::Constant(tokens, out + 3, 9), dbase_wide = y_wide,
       dx_wide = x_wide;
  x_wide.leftCols(in) = x_map;
  result by_steps;
  step(layer, hoft::as_view(std::as_const(x_wide)).columns(0, in).transposed(), hoft::as_view(dy_map).transposed(),
       hoft::as_view(y_wide).columns(0, out).transposed(), hoft::as_view(dbase_wide).columns(0, out).transposed(),
       hoft::as_view(dx_wide).columns(0, in).transposed(), by_steps);
  by_steps.y = y_wide.leftCols(out), by_steps.dx = dx_wide.leftCols(in);
  bool const gaps = (y_wide.rightCols(3).array() == 9).all() && (dx_wide.rightCols(5).array() == 9).all();

  // Their kernel called by themselves.
  result around = empty();
  step_around(layer, W, x.data(), dy.data(), tokens, around);

  bool const good = same(by_map, by_pointer) && same(by_dlpack, by_pointer) && same(by_steps, by_pointer) && gaps &&
                    same(around, by_pointer) && x == before;
  std::cout << "the ways around somebody else's tensors give the same bits: " << (good ? "yes" : "no") << '\n';
  return good ? 0 : 1;
}
