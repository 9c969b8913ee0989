// SPDX-License-Identifier: BSD-3-Clause
// What only a GPU can show: graphs, streams, allocations, sizes.
#include "device.hpp"

#include <hoft/cuda.hpp>

#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <vector>

namespace hoft_test {
namespace {

using hoft::index_t;
using hoft::cuda::detail::require;

// How often something is done again. On an emulator an order of all threads is what it was asked for.
#if defined(HOFT_TEST_EMULATED)
constexpr unsigned repetitions = 2;
#else
constexpr unsigned repetitions = 10;
#endif

/// Memory of the device; its bytes can be read and written from the host.
class device_bytes {
 public:
  explicit device_bytes(index_t bytes) : size_(bytes) {
    require(cudaMalloc(&memory_, std::size_t(bytes) + 1), "cudaMalloc");
  }
  device_bytes(device_bytes const&) = delete;
  device_bytes& operator=(device_bytes const&) = delete;
  ~device_bytes() { cudaFree(memory_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(memory_);
  }
  hoft::workspace work() const { return {as<std::byte>(), size_}; }
  void write(void const* from) const {  // and wait: other streams do not
    require(cudaMemcpy(memory_, from, std::size_t(size_), cudaMemcpyHostToDevice), "cudaMemcpy");
    require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
  std::vector<std::byte> read() const {
    std::vector<std::byte> to(static_cast<std::size_t>(size_));
    require(cudaMemcpy(to.data(), memory_, to.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return to;
  }

 private:
  void* memory_ = nullptr;
  index_t size_;
};

std::vector<float> random(index_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (float& x : numbers) x = normal(engine);
  return numbers;
}

/// A stream, a handle with a workspace of its own, and a job: Q from U, Y := Q X, and the gradients for dY = X. With
/// blocks of 16 it goes through primitives and cuBLAS, with one block through the kernels of one pass.
struct job {
  static constexpr index_t m = 520, n = 300, r = 20, blas_bytes = index_t{1} << 25;
  index_t block;
  cudaStream_t stream{};
  cublasHandle_t blas{};
  device_bytes blas_memory{blas_bytes}, U{m * r * 4}, X{m * n * 4}, Y{m * n * 4}, dX{m * n * 4}, dU{m * r * 4};
  hoft::compact_wy_view<float> Q;
  device_bytes form{index_t{1} << 20}, scratch{index_t{1} << 27};

  explicit job(index_t block_size) : block(block_size) {
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    require(cublasCreate(&blas), "cublasCreate");
    require(cublasSetStream(blas, stream), "cublasSetStream");
    require(cublasSetWorkspace(blas, blas_memory.as<void>(), std::size_t(blas_bytes)), "cublasSetWorkspace");
    hoft::arena memory(form.work());
    Q = hoft::carve_compact_wy<float>(memory, m, r, block);
  }
  job(job const&) = delete;
  job& operator=(job const&) = delete;
  ~job() {
    cublasDestroy(blas);
    cudaStreamDestroy(stream);
  }
  void set(unsigned seed) const {
    U.write(random(m * r, seed).data());
    X.write(random(m * n, seed + 1).data());
  }
  void run() {
    auto const on = hoft::cuda::on(stream, blas);
    using hoft::matrix_view;
    matrix_view<float const> const x(X.as<float const>(), m, n);
    hoft::accumulate(on, matrix_view<float const>(U.as<float const>(), m, r), Q, hoft::exact{}, scratch.work());
    hoft::apply(on, Q, x, matrix_view<float>(Y.as<float>(), m, n), hoft::side::left, hoft::op::plain, scratch.work());
    hoft::apply_backward(on, Q, x, x, matrix_view<float>(dX.as<float>(), m, n),
                         matrix_view<float>(dU.as<float>(), m, r), hoft::vector_view<float>{}, hoft::side::left,
                         hoft::op::plain, scratch.work());
  }
  void finish() const { require(cudaStreamSynchronize(stream), "a kernel"); }
  std::vector<std::byte> results() const {
    std::vector<std::byte> all;
    for (device_bytes const* part : {&Y, &dX, &dU}) {
      auto const bytes = part->read();
      all.insert(all.end(), bytes.begin(), bytes.end());
    }
    return all;
  }
};

}  // namespace

namespace {

std::string check_graph(index_t block) {
  job direct(block), captured(block);
  captured.set(1);
  cudaGraph_t graph{};
  cudaGraphExec_t executable{};
  require(cudaStreamBeginCapture(captured.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  captured.run();
  require(cudaStreamEndCapture(captured.stream, &graph), "cudaStreamEndCapture");
  require(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  std::string wrong;
  for (unsigned seed : {1u, 7u, 9u}) {
    direct.set(seed);
    direct.run();
    direct.finish();
    captured.set(seed);
    require(cudaGraphLaunch(executable, captured.stream), "cudaGraphLaunch");
    captured.finish();
    if (direct.results() != captured.results()) wrong += "other bits for seed " + std::to_string(seed) + "; ";
  }
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  return wrong;
}

std::string check_streams(index_t block) {
  job alone(block), a(block), b(block);
  std::string wrong;
  for (unsigned seed = 1; seed <= repetitions; ++seed) {
    alone.set(seed);
    alone.run();
    alone.finish();
    a.set(seed);
    b.set(seed + 50);
    a.run();
    b.run();
    a.finish();
    b.finish();
    if (a.results() != alone.results()) wrong += "other bits in the first stream; ";
    alone.set(seed + 50);
    alone.run();
    alone.finish();
    if (b.results() != alone.results()) wrong += "other bits in the second stream; ";
  }
  return wrong;
}

std::string check_allocations(index_t block) {
  job j(block);
  j.set(1);
  j.run();  // kernels are loaded on their first launch
  j.finish();
  std::size_t before = 0, after = 0, total = 0;
  require(cudaMemGetInfo(&before, &total), "cudaMemGetInfo");
  for (unsigned again = 0; again < 2 * repetitions; ++again) j.run();
  require(cudaMemGetInfo(&after, &total), "cudaMemGetInfo");
  j.finish();
  return before == after ? "" : "free memory went from " + std::to_string(before) + " to " + std::to_string(after);
}

/// Whether all of X, a copy of which `memory` holds from `first` on, is a number.
bool has_numbers(hoft::matrix_view<float const> X, std::byte const* first, std::vector<std::byte> const& memory) {
  std::size_t const begin = std::size_t(reinterpret_cast<std::byte const*>(X.data) - first);
  for (index_t j = 0; j < X.cols; ++j)
    for (index_t i = 0; i < X.rows; ++i) {
      float x = 0;
      std::memcpy(&x, memory.data() + begin + std::size_t(i + j * X.ld) * sizeof x, sizeof x);
      if (std::isnan(x)) return false;
    }
  return true;
}

/// `count` problems together, against single calls. Triangles are whole, those of a shorter last block as well.
std::string check_batch(index_t m, index_t r, index_t block, index_t count) {
  job j(16);
  device_bytes U{m * r * count * 4}, together{index_t{1} << 24}, alone{index_t{1} << 24};
  U.write(random(m * r * count, 5).data());
  auto const on = hoft::cuda::on(j.stream, j.blas);
  std::vector<hoft::matrix_view<float const>> us;
  std::vector<hoft::compact_wy_view<float>> Q;
  hoft::arena a(together.work()), b(alone.work());
  require(cudaMemset(together.as<void>(), 0xFF, std::size_t{1} << 24), "cudaMemset");  // NaN
  require(cudaMemset(alone.as<void>(), 0xFF, std::size_t{1} << 24), "cudaMemset");
  require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  for (index_t i = 0; i < count; ++i) {
    us.emplace_back(U.as<float const>() + i * m * r, m, r);
    Q.push_back(hoft::carve_compact_wy<float>(a, m, r, block));
    auto q = hoft::carve_compact_wy<float>(b, m, r, block);
    hoft::accumulate(on, us.back(), q, hoft::exact{}, j.scratch.work());
  }
  hoft::accumulate(on, std::span<hoft::matrix_view<float const> const>(us), std::span(Q), hoft::exact{},
                   j.scratch.work());
  j.finish();
  auto const all = together.read();
  if (all != alone.read()) return "a batch has other bits than single calls; ";
  for (auto const& q : Q)
    if (!has_numbers(q.factor, together.work().data, all) || !has_numbers(q.gram, together.work().data, all))
      return "a triangle is not written as a whole; ";
  return "";
}

enum class manner { alone, together, captured };  ///< for each problem, for all of them, and the latter by a graph

/// Adapters of neighbours that share their x, more of them than are taken at a time: all calls, and at the end the
/// tokens of several adapters behind one call of their base.
void run_adapters(job const& j, device_bytes const& memory, manner how) {
  using matrix = hoft::matrix_view<float>;
  using constant = hoft::matrix_view<float const>;
  using vector = hoft::vector_view<float>;
  constexpr index_t n = 130, t = 50, ru = 16, rv = 8, count = 10;
  auto const on = hoft::cuda::on(j.stream, j.blas);
  auto const work = j.scratch.work();
  hoft::arena at(memory.work());
  std::vector<hoft::adapter_view<float const>> a;
  std::vector<constant> M, x;
  std::vector<matrix> Mhat, y, dy, dx, wU, wV, dU, dV;
  std::vector<vector> ws, ds;
  std::vector<hoft::bound_layer_view<float>> layer;
  std::vector<hoft::layer_state<float, float, hoft::col_major>> state;
  std::vector<hoft::layer_gradient_view<float>> sums;
  std::vector<decltype(dense(on, constant()))> base;
  for (index_t i = 0; i < count; ++i) {
    index_t const m = i % 3 == 0 ? 300 : 70, scales = i % 2 * m;
    auto const form = [&](index_t rows, index_t r) {
      matrix const U = at.matrix<float>(rows, r);
      auto q = hoft::carve_compact_wy<float>(at, rows, r, r);
      hoft::accumulate(on, constant(U), q, hoft::exact{}, work);
      return hoft::compact_wy_view<float const>(q);
    };
    auto const left = form(m, ru), right = form(n, rv);
    a.emplace_back(left, right, hoft::vector_view<float const>(at.vector<float>(scales)));
    M.push_back(at.matrix<float>(m, n));
    Mhat.push_back(at.matrix<float>(m, n));
    x.push_back(i % 3 == 0 ? constant(at.matrix<float>(n, t)) : x.back());
    y.push_back(at.matrix<float>(m, t)), dy.push_back(at.matrix<float>(m, t)), dx.push_back(at.matrix<float>(n, t));
    for (auto* to : {&wU, &dU}) to->push_back(at.matrix<float>(m, ru));
    for (auto* to : {&wV, &dV}) to->push_back(at.matrix<float>(n, rv));
    for (auto* to : {&ws, &ds}) to->push_back(at.vector<float>(scales));
    layer.push_back(hoft::carve_layer(at, a.back()));
    state.push_back(hoft::carve_layer_state<float, hoft::col_major>(at, a.back(), t));
    sums.push_back(hoft::carve_layer_gradient(at, a.back()));
    base.push_back(dense(on, M.back()));
  }
  auto const all = [](auto& v) {
    return std::span<typename std::remove_reference_t<decltype(v)>::value_type const>(v);
  };
  std::vector<constant> const gradients(Mhat.begin(), Mhat.end());
  // Layers 1 and 2, and 1 again, behind one base.
  matrix const shared = at.matrix<float>(70, t);
  device_bytes const projected(rv * t * 4);
  index_t const offsets[] = {0, 20, 21, t};
  cudaGraph_t graph{};
  cudaGraphExec_t executable{};
  if (how == manner::captured)
    require(cudaStreamBeginCapture(j.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  if (how != manner::alone) {
    hoft::merge(on, all(a), all(M), all(Mhat), work);
    hoft::merge_backward(on, all(a), all(M), all(gradients), all(wU), all(wV), all(ws), work);
    hoft::unmerge(on, all(a), all(Mhat), work);
    hoft::bind_layer<float>(on, a, base, layer, work);
    hoft::set_zero(on, sums);
    hoft::forward(on, layer, base, x, y, state, work);
    for (int micro_batch = 0; micro_batch < 2; ++micro_batch)  // of the same tokens, the second with ∂L/∂(M x) as dy
      hoft::backward(on, layer, base, x, y, state, dy, dy, dx, sums, work);
    hoft::finish<float>(on, layer, base, sums, dU, dV, ds, work);
    std::vector const some{layer[1], layer[2], layer[1]};
    hoft::forward_shared(on, some, offsets, base[1], x[1], shared, work);
  } else {
    for (std::size_t i = 0; i < a.size(); ++i) {
      hoft::merge(on, a[i], M[i], Mhat[i], work);
      hoft::merge_backward(on, a[i], M[i], gradients[i], wU[i], wV[i], ws[i], work);
      hoft::unmerge(on, a[i], Mhat[i], work);
      hoft::bind_layer<float>(on, a[i], base[i], layer[i], work);
      hoft::set_zero(on, sums[i]);
      hoft::forward(on, layer[i], base[i], x[i], y[i], state[i], work);
      for (int micro_batch = 0; micro_batch < 2; ++micro_batch)
        hoft::backward(on, layer[i], base[i], x[i], y[i], state[i], dy[i], dy[i], dx[i], sums[i], work);
      hoft::finish<float>(on, layer[i], base[i], sums[i], dU[i], dV[i], ds[i], work);
    }
    base[1].apply(x[1], shared);  // as for all tokens: cuBLAS may choose another kernel for fewer
    for (std::size_t i = 0; i < 3; ++i) {
      constant const tokens = x[1].columns(offsets[i], offsets[i + 1] - offsets[i]);
      matrix const to = shared.columns(offsets[i], tokens.cols);
      hoft::layer_state<float, float, hoft::col_major> const one{{projected.as<float>(), rv, tokens.cols}, {}, {}};
      hoft::project(on, layer[1 + i % 2], tokens, one.v, work);
      hoft::adapt(on, layer[1 + i % 2], to, to, one, work);
    }
  }
  if (how == manner::captured) {
    require(cudaStreamEndCapture(j.stream, &graph), "cudaStreamEndCapture");
    require(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
    require(cudaGraphLaunch(executable, j.stream), "cudaGraphLaunch");
  }
  j.finish();
  if (how == manner::captured) {
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }
}
std::string check_adapters() {
  job const j(16);
  index_t const bytes = index_t{1} << 23;
  auto const numbers = random(bytes / 4, 7);
  auto const results = [&](manner how) {
    device_bytes const memory(bytes);
    memory.write(numbers.data());
    run_adapters(j, memory, how);
    return memory.read();
  };
  auto const alone = results(manner::alone);
  std::string wrong;
  if (results(manner::together) != alone) wrong += "a batch of adapters has other bits than single calls; ";
  if (results(manner::captured) != alone) wrong += "a graph of a batch has other bits than single calls; ";
  return wrong;
}

}  // namespace

std::string check_graphs() { return check_graph(16) + check_graph(32); }
std::string check_streams() { return check_streams(16) + check_streams(32); }
std::string check_allocations() { return check_allocations(16) + check_allocations(32); }
/// More problems than one launch takes, and problems for whole clusters, of which 8 processors have fewer.
std::string check_batches() { return check_batch(50, 6, 4, 700) + check_batch(4500, 16, 16, 6) + check_adapters(); }

std::string check_large() {
  constexpr index_t m = 4096, n = 530000, r = 16, last = 48;  // 2.17e9 elements of 2 bytes
  std::size_t available = 0, total = 0;
  require(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
  if (available < std::size_t(m * n * 2) + (std::size_t{1} << 30)) return "skipped: too little memory";
  job j(16);  // for its stream and handle
  using T = __nv_bfloat16;
  device_bytes U{m * r * 4}, X{m * n * 2}, few{m * last * 2}, scratch{index_t{1} << 26};
  U.write(random(m * r, 3).data());
  require(cudaMemset(X.as<void>(), 0, std::size_t(m * n * 2)), "cudaMemset");
  std::vector<T> columns;
  for (float x : random(m * last, 4)) columns.push_back(__float2bfloat16(x));
  few.write(columns.data());
  require(cudaMemcpy(X.as<T>() + m * (n - last), columns.data(), columns.size() * 2, cudaMemcpyHostToDevice),
          "cudaMemcpy");
  require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  hoft::arena count;
  hoft::carve_compact_wy<float>(count, m, r, r);
  device_bytes form{count.size()};
  hoft::arena memory(form.work());
  auto Q = hoft::carve_compact_wy<float>(memory, m, r, r);
  auto const on = hoft::cuda::on(j.stream, j.blas);
  hoft::accumulate(on, hoft::matrix_view<float const>(U.as<float const>(), m, r), Q, hoft::exact{}, scratch.work());
  hoft::matrix_view<T> const all(X.as<T>(), m, n), some(few.as<T>(), m, last);
  for (auto const x : {all, some}) hoft::apply(on, Q, x, x, hoft::side::left, hoft::op::plain, scratch.work());
  j.finish();
  std::vector<std::byte> got(columns.size() * 2);
  require(cudaMemcpy(got.data(), X.as<T>() + m * (n - last), got.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  return got == few.read() ? "" : "the last columns differ from those of a small matrix";
}

}  // namespace hoft_test
