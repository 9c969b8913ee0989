// SPDX-License-Identifier: BSD-3-Clause
// counts.cu: the kernels of docs/internals/gpu-notes.md at its shapes, once each, for what counts their instructions
// (count.sh). Prints a line of JSON for each case. The launches of a case stand between two of `mark`.
//   hoft_gpu_counts <columns> <columns of a weight, or 0> [<part of the names of the cases wanted>]
#include <hoft/cuda.hpp>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

__global__ void mark() {}

/// A weight of zeros: no product, which is not counted here. In no unnamed namespace: not every case calls all of it.
struct no_weight {
  cudaStream_t stream;
  hoft::index_t m, n;
  hoft::index_t rows() const { return m; }
  hoft::index_t cols() const { return n; }
  template <class X, class Y>
  void apply(X, Y y) const {
    hoft::cuda::detail::require(cudaMemsetAsync(y.data, 0, std::size_t(y.ld * y.cols) * sizeof(*y.data), stream),
                                "cudaMemsetAsync");
  }
  template <class X, class Y>
  void apply_adjoint(X x, Y y) const {
    apply(x, y);
  }
};

namespace {

using hoft::index_t, hoft::matrix_view, hoft::vector_view;
using hoft::cuda::detail::require;
using bfloat16 = __nv_bfloat16;

constexpr index_t features = 4096, reflectors = 16, all_columns = 8192, all_matrices = 224;

/// Memory of the device for one case.
class device_memory {
 public:
  device_memory() = default;
  device_memory(device_memory const&) = delete;
  device_memory& operator=(device_memory const&) = delete;
  ~device_memory() {
    for (void* one : taken_) cudaFree(one);
  }
  void* bytes(index_t count) {
    void* at = nullptr;
    require(cudaMalloc(&at, std::size_t(count) + 1), "cudaMalloc");
    taken_.push_back(at);
    return at;
  }
  hoft::workspace work(index_t count) { return {static_cast<std::byte*>(bytes(count)), count}; }
  /// Numbers in [low, low + 2), the same at every run.
  template <class T>
  T* numbers(index_t count, float low = -1) {
    std::vector<T> values(static_cast<std::size_t>(count));
    std::uint32_t state = std::uint32_t(taken_.size()) + 1;
    for (T& value : values) {
      state = state * 1664525u + 1013904223u;
      value = T(low + float(state >> 8) / float(1 << 23));
    }
    void* const at = bytes(count * index_t(sizeof(T)));
    require(cudaMemcpy(at, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
    return static_cast<T*>(at);
  }
  template <class T>
  matrix_view<T> matrix(index_t rows, index_t columns) {
    return {numbers<T>(rows * columns), rows, columns};
  }

 private:
  std::vector<void*> taken_;
};

class counter {
 public:
  counter(index_t columns, index_t weight_columns, std::string_view wanted)
      : columns_(columns), weight_columns_(weight_columns), wanted_(wanted) {
    require(cudaStreamCreate(&stream_), "cudaStreamCreate");
    require(cublasCreate(&blas_), "cublasCreate");
    on_ = hoft::cuda::on(stream_, blas_);
  }
  counter(counter const&) = delete;
  counter& operator=(counter const&) = delete;
  ~counter() {
    cublasDestroy(blas_);
    cudaStreamDestroy(stream_);
  }

  template <class T>
  void transforms(std::string const& type) const {
    index_t const m = features, t = columns_;
    if (wants("apply" + type)) {
      device_memory memory;
      auto const Q = form(memory, m);
      auto const x = memory.matrix<T>(m, t), y = memory.matrix<T>(m, t);
      auto const work = memory.work(hoft::apply_workspace(on_, Q, x));
      count("apply" + type, t, all_columns, m, 2 * sizeof(T) * m,
            [&] { hoft::apply(on_, Q, matrix_view<T const>(x), y, hoft::side::left, hoft::op::plain, work); });
    }
    if constexpr (sizeof(T) == 2) {
      if (!wants("apply_backward")) return;
      device_memory memory;
      auto const Q = form(memory, m);
      auto const x = memory.matrix<T>(m, t), g = memory.matrix<T>(m, t), dx = memory.matrix<T>(m, t);
      auto const dU = memory.matrix<float>(m, reflectors);
      auto const work = memory.work(hoft::apply_backward_workspace(on_, Q, x));
      count("apply_backward", t, all_columns, m, 3 * sizeof(T) * m, [&] {
        hoft::apply_backward(on_, Q, matrix_view<T const>(x), matrix_view<T const>(g), dx, dU, vector_view<float>{},
                             hoft::side::left, hoft::op::plain, work);
      });
    }
  }

  /// Of a layer, beside the products with its base; SHOFT keeps q.
  void layer(bool scaled) const {
    using T = bfloat16;
    std::string const kind = scaled ? "SHOFT" : "HOFT";
    if (!wants("forward " + kind) && !wants("backward " + kind) && (scaled || !wants("far side"))) return;
    index_t const m = features, t = columns_;
    device_memory memory;
    auto const a = adapter(memory, m, m, scaled);
    hoft::arena count_bytes;
    auto const cut = [&](hoft::arena& from) {
      auto bound = hoft::carve_layer(from, a);
      auto state = hoft::carve_layer_state<T, hoft::col_major>(from, a, t);
      return std::make_tuple(bound, state, hoft::carve_layer_gradient(from, a));
    };
    cut(count_bytes);
    hoft::arena from(memory.work(count_bytes.size()));
    auto [layer, state, sums] = cut(from);
    hoft::set_zero(on_, sums);
    hoft::bind_layer<T>(on_, a, no_weight{stream_, m, m}, layer, memory.work(hoft::bind_workspace<T>(on_, a)));
    auto const x = memory.matrix<T>(m, t), base = memory.matrix<T>(m, t), y = memory.matrix<T>(m, t),
               dy = memory.matrix<T>(m, t), dbase = memory.matrix<T>(m, t), dx = memory.matrix<T>(m, t);
    auto const dv = memory.matrix<float>(reflectors, t);
    matrix_view<T const> const tokens = x;
    auto const project_work = memory.work(hoft::project_workspace(on_, layer, x));
    auto const adapt_work = memory.work(hoft::adapt_workspace(on_, layer, base));
    count("forward " + kind, t, all_columns, m, (scaled ? 4 : 3) * sizeof(T) * m, [&] {
      hoft::project(on_, layer, tokens, state.v, project_work);
      hoft::adapt(on_, layer, base, y, state, adapt_work);
    });
    auto const backward_work = memory.work(hoft::adapt_backward_workspace(on_, layer, state));
    count("backward " + kind, t, all_columns, m, 3 * sizeof(T) * m, [&] {
      hoft::adapt_backward(on_, layer, matrix_view<T const>(y), state, matrix_view<T const>(dy), dbase, dv, sums,
                           backward_work);
    });
    if (scaled) return;
    auto const far_work = memory.work(hoft::project_backward_workspace(on_, layer, x));
    count("far side", t, all_columns, m, 3 * sizeof(T) * m,
          [&] { hoft::project_backward(on_, layer, tokens, matrix_view<float const>(dv), dx, sums, far_work); });
  }

  /// Of a weight with so many columns.
  void weight() const {
    using T = bfloat16;
    index_t const m = features, n = weight_columns_;
    if (n == 0 || (!wants("merge") && !wants("merge_backward"))) return;
    device_memory memory;
    auto const a = adapter(memory, m, n, false);
    auto const M = memory.matrix<T>(m, n), G = memory.matrix<T>(m, n), merged = memory.matrix<T>(m, n);
    auto const dU = memory.matrix<float>(m, reflectors), dV = memory.matrix<float>(n, reflectors);
    auto const merge_work = memory.work(hoft::merge_workspace(on_, a, M));
    count("merge", n, n, m, 3 * sizeof(T) * m,
          [&] { hoft::merge(on_, a, matrix_view<T const>(M), merged, merge_work); });
    auto const backward_work = memory.work(hoft::merge_backward_workspace(on_, a, M));
    count("merge_backward", n, n, m, 4 * sizeof(T) * m, [&] {
      hoft::merge_backward(on_, a, matrix_view<T const>(M), matrix_view<T const>(G), dU, dV, vector_view<float>{},
                           backward_work);
    });
  }

  void many_forms() const {
    if (!wants("accumulate")) return;
    index_t const m = features, r = reflectors, many = columns_ * all_matrices / all_columns;
    device_memory memory;
    hoft::arena count_bytes;
    for (index_t i = 0; i < many; ++i) hoft::carve_compact_wy<float>(count_bytes, m, r, r);
    hoft::arena from(memory.work(count_bytes.size()));
    std::vector<matrix_view<float const>> U;
    std::vector<hoft::compact_wy_view<float>> Q;
    auto const all = memory.matrix<float>(m, r * many);
    for (index_t i = 0; i < many; ++i) {
      U.emplace_back(all.columns(i * r, r));
      Q.push_back(hoft::carve_compact_wy<float>(from, m, r, r));
    }
    auto const work = memory.work(hoft::accumulate_workspace(on_, std::span(Q)));
    count("accumulate", many, all_matrices, m * r, 2 * sizeof(float) * m * r, [&] {
      hoft::accumulate(on_, std::span<matrix_view<float const> const>(U), std::span(Q), hoft::exact{}, work);
    });
  }

 private:
  bool wants(std::string_view name) const { return name.find(wanted_) != name.npos; }

  hoft::compact_wy_view<float> form(device_memory& memory, index_t m) const {
    index_t const r = reflectors;
    hoft::arena count_bytes;
    hoft::carve_compact_wy<float>(count_bytes, m, r, r);
    hoft::arena from(memory.work(count_bytes.size()));
    auto Q = hoft::carve_compact_wy<float>(from, m, r, r);
    hoft::accumulate(on_, matrix_view<float const>(memory.matrix<float>(m, r)), Q, hoft::exact{},
                     memory.work(hoft::accumulate_workspace<float>(on_, r, r)));
    return Q;
  }
  hoft::adapter_view<float const> adapter(device_memory& memory, index_t m, index_t n, bool scaled) const {
    vector_view<float const> const scale(scaled ? memory.numbers<float>(m, 1) : nullptr, scaled ? m : 0);
    return {hoft::compact_wy_view<float const>(form(memory, m)), hoft::compact_wy_view<float const>(form(memory, n)),
            scale};
  }

  /// The launches of `calls` at `size` of what there are `full` in the end; each has so many elements, and `bytes` that
  /// must move for it.
  template <class Calls>
  void count(std::string const& name, index_t size, index_t full, index_t elements, index_t bytes,
             Calls const& calls) const {
    if (!wants(name)) return calls();  // what comes behind it may need it
    mark<<<1, 1, 0, stream_>>>();
    calls();
    mark<<<1, 1, 0, stream_>>>();
    require(cudaStreamSynchronize(stream_), name.c_str());
    std::printf("{\"case\": \"%s\", \"size\": %td, \"full\": %td, \"bytes\": %td, \"elements\": %td}\n", name.c_str(),
                size, full, bytes * full, elements * full);
  }

  index_t columns_, weight_columns_;
  std::string_view wanted_;
  cudaStream_t stream_{};
  cublasHandle_t blas_{};
  hoft::cuda::device on_{};
};

}  // namespace

int main(int arguments, char** argument) try {
  if (arguments < 3) {
    std::fprintf(stderr, "usage: hoft_gpu_counts <columns> <columns of a weight> [<part of the names of the cases>]\n");
    return 2;
  }
  counter const all(std::stol(argument[1]), std::stol(argument[2]), arguments > 3 ? argument[3] : "");
  all.transforms<bfloat16>("");
  all.transforms<float>(", float");
  all.layer(false);
  all.layer(true);
  all.weight();
  all.many_forms();
  return 0;
} catch (std::exception const& error) {
  std::fprintf(stderr, "hoft_gpu_counts: %s\n", error.what());
  return 1;
}
