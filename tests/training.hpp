// SPDX-License-Identifier: BSD-3-Clause
// Two layers, HOFT and then SHOFT, fitted to a target by gradient descent: one body for the CPU, for the kernels run by
// the host, and for a GPU that replays a step captured in a graph.
#pragma once
#include <hoft/cuda/dense.hpp>
#include <hoft/adapter/batch.hpp>
#include <hoft/adapter/layer_batch.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace hoft_test {

inline constexpr int training_steps = 100;

/// y = Q_U diag(s) M Q_V x, M [m, n].
struct layer_shape {
  hoft::index_t m, n, ru, rv;
  bool scaled;
};
inline constexpr hoft::index_t training_tokens = 40;
inline constexpr layer_shape training_layers[] = {{28, 20, 6, 4, false}, {24, 28, 4, 6, true}};
inline constexpr float training_rate = 0.3f;

/// Where training starts and what it is to reach; matrices by columns.
struct training_data {
  struct layer {
    std::vector<float> M, U, V, s;
  };
  std::vector<float> x, target;
  std::array<layer, 2> layers;
};

/// What training leaves behind.
struct training_result {
  struct form {
    hoft::index_t m, r;
    std::vector<double> vectors, factor;  ///< Û [m, r] and T [r, r] of Q = I − Û T Ûᵀ
  };
  /// One layer after training: parameters, merged weight, unmerged weight, and the gradients for ∂L/∂M̂ = M.
  struct layer {
    std::vector<double> U, V, s, Mhat, M, dU, dV, ds;
  };
  std::vector<double> curve;  ///< the loss before each step
  std::vector<form> forms;    ///< of the trained U and V
  std::vector<layer> layers;
};

template <class Policy, class T, class A>
void subtract(Policy const& policy, hoft::matrix_view<T> y, hoft::matrix_view<A> target, A weight,
              hoft::matrix_view<A> error, hoft::matrix_view<T> dy) {
  hoft::ops<Policy>::for_each_element(policy, error, [=] HOFT_KERNEL_LAMBDA(hoft::index_t i, hoft::index_t j) {
    error(i, j) = static_cast<A>(y(i, j)) - target(i, j);
    dy(i, j) = static_cast<T>(weight * error(i, j));
  });
}
template <class Policy, class A>
void descend(Policy const& policy, A rate, hoft::matrix_view<A> gradient, hoft::matrix_view<A> parameters) {
  hoft::ops<Policy>::for_each_element(policy, parameters, [=] HOFT_KERNEL_LAMBDA(hoft::index_t i, hoft::index_t j) {
    parameters(i, j) -= rate * gradient(i, j);
  });
}

/// The weight of a layer on the CPU: sums in the order of the columns.
template <class T>
struct plain_base {
  using A = hoft::accumulator_t<T>;
  hoft::matrix_view<T const> M;
  void apply(hoft::matrix_view<T const> X, hoft::matrix_view<T> Y) const {
    for (hoft::index_t j = 0; j < Y.cols; ++j)
      for (hoft::index_t i = 0; i < Y.rows; ++i) {
        A sum(0);
        for (hoft::index_t l = 0; l < M.cols; ++l) sum += static_cast<A>(M(i, l)) * static_cast<A>(X(l, j));
        Y(i, j) = static_cast<T>(sum);
      }
  }
  void apply_adjoint(hoft::matrix_view<T const> X, hoft::matrix_view<T> Y) const {
    for (hoft::index_t j = 0; j < Y.cols; ++j)
      for (hoft::index_t i = 0; i < Y.rows; ++i) {
        A sum(0);
        for (hoft::index_t l = 0; l < M.rows; ++l) sum += static_cast<A>(M(l, i)) * static_cast<A>(X(l, j));
        Y(i, j) = static_cast<T>(sum);
      }
  }
};

/// Nothing is added to what the calls return.
struct undisturbed {
  template <class Layer, class T>
  void after_forward(Layer const&, hoft::matrix_view<T>, hoft::matrix_view<T>) const {}
  template <class T>
  double size_of(hoft::matrix_view<T>) const {
    return 0;
  }
  template <class Layer, class T>
  void after_backward(Layer const&, hoft::matrix_view<T>, double, hoft::matrix_view<T>) const {}
  template <class Layer>
  void after_descent(Layer const&) const {}
};

/// Activations and weights in T, parameters in its accumulator type. All memory is taken when it is built.
template <class T, class Policy, template <class> class Memory = std::allocator>
class training {
 public:
  using A = hoft::accumulator_t<T>;
  using index_t = hoft::index_t;
  template <class S>
  using memory = std::vector<S, Memory<S>>;

  static constexpr index_t tokens = training_tokens;
  static constexpr std::size_t micro_batches = 2;
  static constexpr index_t tokens_each = tokens / index_t(micro_batches);
  static_assert(tokens_each * index_t(micro_batches) == tokens);

  struct layer {
    layer_shape shape;
    memory<T> weight, merged_weight, unmerged_weight;
    memory<A> left, right, scale, left_gradient, right_gradient, scale_gradient;
    memory<std::byte> form, kept;
    hoft::matrix_view<T const> M;
    hoft::matrix_view<T> Mhat, Mback;
    hoft::matrix_view<A> U, V, s, dU, dV, ds;
    hoft::adapter_view<A> a;
    hoft::bound_layer_view<A> bound;
    std::array<hoft::layer_state<A, T, hoft::col_major>, micro_batches> state;
    hoft::layer_gradient_view<A> sums;

    layer(layer_shape of, training_data::layer const& from)
        : shape(of),
          weight(converted<T>(from.M)),
          merged_weight(weight.size()),
          unmerged_weight(weight.size()),
          left(converted<A>(from.U)),
          right(converted<A>(from.V)),
          scale(converted<A>(from.s)),
          left_gradient(left.size()),
          right_gradient(right.size()),
          scale_gradient(scale.size()),
          M(weight.data(), of.m, of.n),
          Mhat(merged_weight.data(), of.m, of.n),
          Mback(unmerged_weight.data(), of.m, of.n),
          U(left.data(), of.m, of.ru),
          V(right.data(), of.n, of.rv),
          s(scale.data(), index_t(scale.size()), 1),
          dU(left_gradient.data(), of.m, of.ru),
          dV(right_gradient.data(), of.n, of.rv),
          ds(scale_gradient.data(), index_t(scale.size()), 1) {
      auto const carve = [&](memory<std::byte>& bytes, auto const& cut) {
        hoft::arena count;
        cut(count);
        bytes.resize(std::size_t(count.size()), std::byte(0xFF));
        hoft::arena arena(hoft::workspace{bytes.data(), index_t(bytes.size())});
        cut(arena);
      };
      carve(form, [&](hoft::arena& from_bytes) {
        a.left = hoft::carve_compact_wy<A>(from_bytes, of.m, of.ru, of.ru);
        a.right = hoft::carve_compact_wy<A>(from_bytes, of.n, of.rv, of.rv);
      });
      a.scale = {s.data, s.rows};
      carve(kept, [&](hoft::arena& from_bytes) {
        bound = hoft::carve_layer(from_bytes, a);
        for (auto& one : state) one = hoft::carve_layer_state<T, hoft::col_major>(from_bytes, a, tokens_each);
        sums = hoft::carve_layer_gradient(from_bytes, a);
      });
    }
    layer(layer const&) = delete;
  };

  training(Policy const& policy, training_data const& data)
      : layers_{layer(training_layers[0], data.layers[0]), layer(training_layers[1], data.layers[1])},
        target_(converted<A>(data.target)),
        error_(target_.size()),
        loss_(1) {
    for (std::size_t i = 0; i < 3; ++i) {
      index_t const features = i < 2 ? layers_[i].shape.n : layers_[1].shape.m;
      for (auto* all : {&activations_[i], &gradients_[i]}) all->resize(std::size_t(features * tokens));
    }
    std::copy_n(converted<T>(data.x).begin(), data.x.size(), activations_[0].begin());
    auto all_forms = forms();
    index_t bytes = hoft::accumulate_workspace(policy, std::span(all_forms));
    for (std::size_t i = 0; i < 2; ++i) {
      layer& l = layers_[i];
      for (std::size_t part = 0; part < micro_batches; ++part)
        bytes = std::max({bytes, hoft::forward_workspace(policy, l.bound, at(activations_, i, part)),
                          hoft::backward_workspace(policy, l.bound, l.state[part])});
    }
    weights const all(layers_);
    bytes = std::max({bytes, hoft::bind_workspace<T>(policy, all.a), hoft::finish_workspace<T>(policy, all.bound),
                      hoft::merge_workspace(policy, all.a.span(), all.M.span()),
                      hoft::unmerge_workspace(policy, all.a.span(), all.Mback.span()),
                      hoft::merge_backward_workspace(policy, all.a.span(), all.M.span())});
    work_.resize(std::size_t(bytes));
  }

  /// The compact WY forms of all parameters.
  void accumulate(Policy const& policy) {
    auto all = forms();
    std::vector<hoft::matrix_view<A const>> const U{layers_[0].U, layers_[0].V, layers_[1].U, layers_[1].V};
    hoft::accumulate(policy, std::span<hoft::matrix_view<A const> const>(U), std::span(all), hoft::exact{}, work());
    for (std::size_t i = 0; i < 2; ++i) layers_[i].a.left = all[2 * i], layers_[i].a.right = all[2 * i + 1];
  }
  /// And the layers of both, in one call.
  void bind(Policy const& policy) {
    accumulate(policy);
    weights all(layers_);
    auto bases = std::array{base_of(policy, layers_[0]), base_of(policy, layers_[1])};
    hoft::bind_layer<T>(policy, all.a, bases, all.bound, work());
    for (std::size_t i = 0; i < 2; ++i) layers_[i].bound = all.bound[i];
  }
  /// What one step submits: the same calls every time, on memory of its own; tokens in micro-batches. Leaves the loss
  /// ½ ‖y − target‖² / t of the parameters that it found.
  template <class Disturbance = undisturbed>
  void step(Policy const& policy, Disturbance const& disturbance = {}) {
    bind(policy);
    for (std::size_t i = 0; i < 2; ++i) {
      layer& l = layers_[i];
      auto const base = base_of(policy, l);
      for (std::size_t part = 0; part < micro_batches; ++part) {
        hoft::matrix_view<T const> const x = at(activations_, i, part);
        hoft::forward(policy, l.bound, base, x, at(activations_, i + 1, part), l.state[part], work());
      }
      disturbance.after_forward(l, at(activations_, i), at(activations_, i + 1));
    }
    auto const y = at(activations_, 2), dy = at(gradients_, 2);
    hoft::matrix_view<A> const error(error_.data(), y.rows, tokens), in_one(error_.data(), index_t(error_.size()), 1);
    subtract(policy, y, hoft::matrix_view<A>(target_.data(), y.rows, tokens), A(1) / A(tokens), error, dy);
    hoft::ops<Policy>::column_dots(policy, in_one, in_one, hoft::vector_view<A>(loss_.data(), 1));
    for (std::size_t i = 2; i-- > 0;) {
      layer& l = layers_[i];
      auto const base = base_of(policy, l);
      double const size = disturbance.size_of(at(gradients_, i + 1));
      hoft::set_zero(policy, l.sums);
      for (std::size_t part = 0; part < micro_batches; ++part) {
        hoft::matrix_view<T const> const input = at(activations_, i, part), output = at(activations_, i + 1, part);
        auto const gradient = at(gradients_, i + 1, part);  // ∂L/∂(M x) takes its place
        hoft::backward(policy, l.bound, base, input, output, l.state[part], gradient, gradient, at(gradients_, i, part),
                       l.sums, work());
      }
      hoft::finish<T>(policy, l.bound, base, l.sums, l.dU, l.dV, hoft::vector_view<A>(l.ds.data, l.ds.rows), work());
      disturbance.after_backward(l, at(activations_, i), size, at(gradients_, i));
    }
    for (layer& l : layers_) {
      descend(policy, A(training_rate), l.dU, l.U);
      descend(policy, A(training_rate), l.dV, l.V);
      descend(policy, A(training_rate), l.ds, l.s);
      disturbance.after_descent(l);
    }
  }
  /// What is done with trained layers, all of them in one call each: merge, unmerge, and the gradients of merge.
  void merge(Policy const& policy) {
    accumulate(policy);
    weights const all(layers_);
    hoft::merge(policy, all.a.span(), all.M.span(), all.Mhat.span(), work());
    for (layer& l : layers_) hoft::ops<Policy>::copy(policy, l.Mhat, l.Mback);
    hoft::unmerge(policy, all.a.span(), all.Mback.span(), work());
    hoft::merge_backward(policy, all.a.span(), all.M.span(), all.M.span(), all.dU.span(), all.dV.span(), all.ds.span(),
                         work());
  }
  /// To be read when the machine has finished.
  double loss() const { return double(loss_[0]) / (2 * double(tokens)); }
  training_result result() {
    training_result all;
    for (auto const& q : forms()) {
      auto const copied = [](auto const& view) {
        return std::vector<double>(view.data, view.data + view.rows * view.cols);
      };
      all.forms.push_back({q.rows(), q.rank(), copied(q.vectors), copied(q.factor)});
    }
    auto const numbers = [](auto const& from) {
      std::vector<double> to;
      for (auto const& x : from) to.push_back(static_cast<double>(static_cast<A>(x)));
      return to;
    };
    for (layer const& l : layers_)
      all.layers.push_back({numbers(l.left), numbers(l.right), numbers(l.scale), numbers(l.merged_weight),
                            numbers(l.unmerged_weight), numbers(l.left_gradient), numbers(l.right_gradient),
                            numbers(l.scale_gradient)});
    return all;
  }

 private:
  /// The operands of all layers, for calls that take all of them.
  struct weights {
    template <class View>
    struct views : std::vector<View> {
      std::span<View const> span() const { return *this; }
    };
    views<hoft::adapter_view<A>> a;
    views<hoft::bound_layer_view<A>> bound;
    views<hoft::matrix_view<T const>> M;
    views<hoft::matrix_view<T>> Mhat, Mback;
    views<hoft::matrix_view<A>> dU, dV;
    views<hoft::vector_view<A>> ds;
    explicit weights(std::array<layer, 2> const& layers) {
      for (layer const& l : layers) {
        a.push_back(l.a), bound.push_back(l.bound), M.push_back(l.M), Mhat.push_back(l.Mhat), Mback.push_back(l.Mback);
        dU.push_back(l.dU), dV.push_back(l.dV), ds.emplace_back(l.ds.data, l.ds.rows);
      }
    }
  };
  template <class S>
  static memory<S> converted(std::vector<float> const& from) {
    memory<S> to;
    for (float x : from) to.push_back(static_cast<S>(x));
    return to;
  }
  std::vector<hoft::compact_wy_view<A>> forms() {
    return {layers_[0].a.left, layers_[0].a.right, layers_[1].a.left, layers_[1].a.right};
  }
  /// Before layer i, or behind the last: all tokens, or those of one micro-batch.
  hoft::matrix_view<T> at(std::array<memory<T>, 3>& all, std::size_t i) {
    return {all[i].data(), i < 2 ? layers_[i].shape.n : layers_[1].shape.m, tokens};
  }
  hoft::matrix_view<T> at(std::array<memory<T>, 3>& all, std::size_t i, std::size_t part) {
    return at(all, i).columns(index_t(part) * tokens_each, tokens_each);
  }
  static auto base_of(Policy const& policy, layer const& l) {
    if constexpr (requires { typename Policy::cuda_device_tag; }) return dense(policy, l.M);
    else return plain_base<T>{l.M};
  }
  hoft::workspace work() { return {work_.data(), index_t(work_.size())}; }

  std::array<layer, 2> layers_;
  std::array<memory<T>, 3> activations_, gradients_;
  memory<A> target_, error_, loss_;
  memory<std::byte> work_;
};

}  // namespace hoft_test
