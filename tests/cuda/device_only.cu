// What only a GPU can show: graphs, streams, allocations, sizes.
#include "device.hpp"

#include <hoft/cuda.hpp>

#include <cstring>
#include <random>
#include <vector>

namespace hoft_test {
namespace {

using hoft::index_t;
using hoft::cuda::detail::require;

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
  void write(void const* from) const {
    require(cudaMemcpy(memory_, from, std::size_t(size_), cudaMemcpyHostToDevice), "cudaMemcpy");
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

/// A stream, a handle with a workspace of its own, and a job: Q from U, Y := Q X, and the gradients for dY = X.
struct job {
  static constexpr index_t m = 520, n = 300, r = 20, block = 16, blas_bytes = index_t{1} << 25;
  cudaStream_t stream{};
  cublasHandle_t blas{};
  device_bytes blas_memory{blas_bytes}, U{m * r * 4}, X{m * n * 4}, Y{m * n * 4}, dX{m * n * 4}, dU{m * r * 4};
  hoft::compact_wy_view<float> Q;
  device_bytes form{form_size()}, scratch{index_t{1} << 24};

  static index_t form_size() {
    hoft::carver count;
    hoft::carve_compact_wy<float>(count, m, r, block);
    return count.size();
  }
  job() {
    require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    require(cublasCreate(&blas), "cublasCreate");
    require(cublasSetStream(blas, stream), "cublasSetStream");
    require(cublasSetWorkspace(blas, blas_memory.as<void>(), std::size_t(blas_bytes)), "cublasSetWorkspace");
    hoft::carver memory(form.work());
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

std::string check_graph() {
  job direct, captured;
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

std::string check_streams() {
  job alone, a, b;
  std::string wrong;
  for (unsigned seed = 1; seed <= 10; ++seed) {
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

std::string check_allocations() {
  job j;
  j.set(1);
  j.run();  // kernels are loaded on their first launch
  j.finish();
  std::size_t before = 0, after = 0, total = 0;
  require(cudaMemGetInfo(&before, &total), "cudaMemGetInfo");
  for (int again = 0; again < 20; ++again) j.run();
  require(cudaMemGetInfo(&after, &total), "cudaMemGetInfo");
  j.finish();
  return before == after ? "" : "free memory went from " + std::to_string(before) + " to " + std::to_string(after);
}

std::string check_large() {
  constexpr index_t m = 4096, n = 530000, r = 16, last = 48;  // 2.17e9 elements of 2 bytes
  std::size_t available = 0, total = 0;
  require(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
  if (available < std::size_t(m * n * 2) + (std::size_t{1} << 30)) return "skipped: too little memory";
  job j;  // for its stream and handle
  using T = __nv_bfloat16;
  device_bytes U{m * r * 4}, X{m * n * 2}, few{m * last * 2}, scratch{index_t{1} << 26};
  U.write(random(m * r, 3).data());
  require(cudaMemset(X.as<void>(), 0, std::size_t(m * n * 2)), "cudaMemset");
  std::vector<T> columns;
  for (float x : random(m * last, 4)) columns.push_back(__float2bfloat16(x));
  few.write(columns.data());
  require(cudaMemcpy(X.as<T>() + m * (n - last), columns.data(), columns.size() * 2, cudaMemcpyHostToDevice),
          "cudaMemcpy");
  hoft::carver count;
  hoft::carve_compact_wy<float>(count, m, r, r);
  device_bytes form{count.size()};
  hoft::carver memory(form.work());
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
