// SPDX-License-Identifier: BSD-3-Clause
// compact_wy.cu: accumulate, apply and apply_backward on a GPU beside cuBLAS and cuSOLVER. Prints a table and writes
// every sample as JSON.
//   hoft_gpu_bench <file> [repetitions]            25 of each
//   hoft_gpu_bench <file> [repetitions] --small    sizes that say nothing of times: that everything runs
#include "emulated.hpp"
#include "ormqr.hpp"
#include <hoft/cuda.hpp>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace bench::gpu {
namespace {

using hoft::index_t;
using hoft::matrix_view;
using hoft::cuda::detail::require;

/// What is timed.
struct sizes {
  index_t features, tokens;  ///< of apply and apply_backward
  index_t matrices;          ///< of a batch of accumulate
  index_t product;           ///< rows, columns and depth of cuBLAS's product
  int calls;                 ///< in a row, so that the host's time for submitting them does not show
  int warm;                  ///< rounds before those that count
};
constexpr sizes full{4096, 8192, 224, 8192, 10, 2};
constexpr sizes small{4096, 64, 2, 64, 1, 1};  // as many features, so that the kernels have the same shapes

struct settings {
  std::string file;
  int repetitions = 25;
  bool is_small = false;
  sizes of() const { return is_small ? small : full; }
};

/// Memory of the device, filled with Gaussian numbers of type T.
template <class T>
class numbers {
 public:
  explicit numbers(index_t count, float scale = 1, unsigned seed = 1) : count_(count) {
    require(cudaMalloc(&data_, std::size_t(count) * sizeof(T)), "cudaMalloc");
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    constexpr index_t period = index_t{1} << 20;  // enough that no cache line is like its neighbours
    std::vector<T> part(static_cast<std::size_t>(std::min(count, period)));
    for (T& x : part) x = T(scale * normal(engine));
    for (index_t at = 0; at < count; at += period)
      require(cudaMemcpy(data_ + at, part.data(), std::size_t(std::min(period, count - at)) * sizeof(T),
                         cudaMemcpyHostToDevice),
              "cudaMemcpy");
  }
  numbers(numbers const&) = delete;
  numbers& operator=(numbers const&) = delete;
  ~numbers() { cudaFree(data_); }
  T* data() const { return data_; }
  index_t bytes() const { return count_ * index_t(sizeof(T)); }
  matrix_view<T> matrix(index_t m, index_t n) const { return {data_, m, n}; }

 private:
  T* data_ = nullptr;
  index_t count_;
};
/// Memory of the device.
class scratch {
 public:
  explicit scratch(index_t bytes) : bytes_(bytes) { require(cudaMalloc(&data_, std::size_t(bytes) + 1), "cudaMalloc"); }
  scratch(scratch const&) = delete;
  scratch& operator=(scratch const&) = delete;
  ~scratch() { cudaFree(data_); }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  hoft::workspace work() const { return {as<std::byte>(), bytes_}; }

 private:
  void* data_ = nullptr;
  index_t bytes_;
};

struct contestant {
  std::string name;
  double bytes;  ///< that must move
  std::function<void()> run;
  std::vector<float> microseconds = {};
  double median() const {
    auto sorted = microseconds;
    std::sort(sorted.begin(), sorted.end());
    return sorted.empty() ? 0 : sorted[sorted.size() / 2];
  }
};

struct contest {
  std::string name;
  std::vector<contestant> contestants;  ///< hoft's first, if it takes part
};

class measurement {
 public:
  explicit measurement(settings const& what) : size(what.of()), settings_(what) {
    int current = 0;
    require(cudaGetDevice(&current), "cudaGetDevice");
    require(cudaGetDeviceProperties(&device, current), "cudaGetDeviceProperties");
    require(cudaStreamCreate(&stream), "cudaStreamCreate");
    require(cublasCreate(&blas), "cublasCreate");
    require(cublasSetStream(blas, stream), "cublasSetStream");
    require(cudaEventCreate(&begin_), "cudaEventCreate");
    require(cudaEventCreate(&end_), "cudaEventCreate");
    on_ = hoft::cuda::on(stream, blas);
  }
  measurement(measurement const&) = delete;
  measurement& operator=(measurement const&) = delete;
  ~measurement() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
    cublasDestroy(blas);
    cudaStreamDestroy(stream);
  }

  /// All contestants in turn, again and again.
  void time(contest c) {
    for (int round = -size.warm; round < settings_.repetitions; ++round)
      for (contestant& one : c.contestants) {
        require(cudaEventRecord(begin_, stream), "cudaEventRecord");
        for (int call = 0; call < size.calls; ++call) one.run();
        require(cudaEventRecord(end_, stream), "cudaEventRecord");
        require(cudaEventSynchronize(end_), "cudaEventSynchronize");
        float milliseconds = 0;
        require(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
        if (round >= 0) one.microseconds.push_back(1000 * milliseconds / float(size.calls));
      }
    for (contestant const& one : c.contestants)
      std::printf("%-44s %-26s %10.1f us  x %6.2f  %7.1f GB/s\n", c.name.c_str(), one.name.c_str(), one.median(),
                  one.median() / c.contestants[0].median(), one.bytes / one.median() / 1000);
    std::fflush(stdout);
    for (contestant& one : c.contestants) one.run = {};  // what it works on ends with its case
    contests.push_back(std::move(c));
  }

  void write() const {
    int driver = 0, runtime = 0;
    require(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    require(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    auto const yes_or_no = [](bool yes) { return yes ? "true" : "false"; };
    std::ofstream out(settings_.file);
    out << "{\n  \"device\": \"" << device.name << "\",\n  \"emulated\": " << yes_or_no(emulated())
        << ",\n  \"small\": " << yes_or_no(settings_.is_small) << ",\n  \"driver\": " << driver
        << ",\n  \"runtime\": " << runtime << ",\n  \"sizes\": {\"features\": " << size.features
        << ", \"tokens\": " << size.tokens << ", \"matrices\": " << size.matrices << ", \"product\": " << size.product
        << "},\n  \"left_out\": [";
    for (std::size_t i = 0; i < left_out.size(); ++i) out << (i ? ", \"" : "\"") << left_out[i] << '"';
    out << "],\n  \"cases\": {";
    for (std::size_t i = 0; i < contests.size(); ++i) {
      out << (i ? "," : "") << "\n    \"" << contests[i].name << "\": {";
      write_contestants(out, contests[i]);
      out << "\n    }";
    }
    out << "\n  }\n}\n";
    if (!out.flush()) throw std::runtime_error("cannot write " + settings_.file);
  }

  hoft::cuda::device const& on() const { return on_; }
  bool emulated() const { return is_emulated(device); }

  cudaStream_t stream{};
  cublasHandle_t blas{};
  sizes const size;
  cudaDeviceProp device{};
  std::vector<contest> contests;
  std::vector<std::string> left_out;  ///< contestants that this program has no library for

 private:
  static void write_contestants(std::ostream& out, contest const& c) {
    for (std::size_t j = 0; j < c.contestants.size(); ++j) {
      auto const& one = c.contestants[j];
      out << (j ? "," : "") << "\n      \"" << one.name << "\": {\"bytes\": " << one.bytes
          << ", \"median_us\": " << one.median() << ", \"us\": [";
      for (std::size_t k = 0; k < one.microseconds.size(); ++k) out << (k ? ", " : "") << one.microseconds[k];
      out << "]}";
    }
  }

  settings settings_;
  cudaEvent_t begin_{}, end_{};
  hoft::cuda::device on_{};
};

template <class T>
inline constexpr cudaDataType_t blas_name = std::is_same_v<T, float> ? CUDA_R_32F : CUDA_R_16BF;

/// C := alpha op(A) B + beta C by cuBLAS, computed in float.
template <class T>
void gemm(measurement& b, bool transposed, float alpha, matrix_view<T> A, matrix_view<T> B, float beta,
          matrix_view<T> C) {
  require(cublasGemmEx(b.blas, transposed ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, int(C.rows), int(C.cols),
                       int(B.rows), &alpha, A.data, blas_name<T>, int(A.ld), B.data, blas_name<T>, int(B.ld), &beta,
                       C.data, blas_name<T>, int(C.ld), CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
}

/// C := A Bᵀ + beta C.
template <class T>
void gemm_transposed(measurement& b, matrix_view<T> A, matrix_view<T> B, float beta, matrix_view<T> C) {
  float const one = 1;
  require(cublasGemmEx(b.blas, CUBLAS_OP_N, CUBLAS_OP_T, int(C.rows), int(C.cols), int(A.cols), &one, A.data,
                       blas_name<T>, int(A.ld), B.data, blas_name<T>, int(B.ld), &beta, C.data, blas_name<T>, int(C.ld),
                       CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "cublasGemmEx");
}

/// ormqr with X := Q X in place among the contestants, where there is a library for it.
void add_ormqr(measurement& b, contest& applies, matrix_view<float> V, float const* tau, matrix_view<float> X) {
  std::string const name = "cusolver_ormqr";
  auto ormqr = make_ormqr(b.stream, V.data, tau, X.data, int(X.rows), int(X.cols), int(V.cols));
  double const bytes = 2.0 * double(X.rows * X.cols) * sizeof(float);
  if (ormqr) applies.contestants.push_back({name, bytes, std::move(ormqr)});
  else b.left_out.push_back(name);
}

/// X [m, t] by columns: t tokens of m features, which is tokens x features in row-major order.
template <class T>
void apply_case(measurement& b, index_t m, index_t t, index_t r, char const* type) {
  numbers<float> const U(m * r, 1, 2);
  // F is small, so that the peers' I - U F Uᵀ, applied in place hundreds of times, lets nothing grow.
  numbers<T> const U_stored(m * r, 0.01f, 3), F(r * r, 0.001f, 4), X(m * t, 1, 5), Y(m * t, 1, 6), W(r * t), P(r * t),
      Z(r * t), dW(r * t), G(m * t, 1, 7), dX(m * t), dU_stored(m * r);
  hoft::arena count;
  hoft::carve_compact_wy<float>(count, m, r, r);
  scratch const form(count.size()), dU(m * r * 4);
  hoft::arena memory(form.work());
  auto Q = hoft::carve_compact_wy<float>(memory, m, r, r);
  auto const x = X.matrix(m, t), y = Y.matrix(m, t), g = G.matrix(m, t), dx = dX.matrix(m, t);
  scratch const work(std::max({hoft::accumulate_workspace<float>(b.on(), r, r), hoft::apply_workspace(b.on(), Q, x),
                               hoft::apply_backward_workspace(b.on(), Q, x), index_t{1}}));
  hoft::accumulate(b.on(), matrix_view<float const>(U.matrix(m, r)), Q, hoft::exact{}, work.work());
  auto const left = hoft::side::left;
  auto const plain = hoft::op::plain;
  double const once = double(m) * double(t) * sizeof(T);
  std::string const shape =
      std::string(type) + " " + std::to_string(m) + " x " + std::to_string(t) + ", r = " + std::to_string(r);
  contestant const copy{
      "copy", 2 * once, [&] {
        require(cudaMemcpyAsync(Y.data(), X.data(), std::size_t(X.bytes()), cudaMemcpyDeviceToDevice, b.stream),
                "cudaMemcpyAsync");
      }};
  auto const products = [&](matrix_view<T> to) {
    gemm<T>(b, true, 1, U_stored.matrix(m, r), x, 0, W.matrix(r, t));
    gemm<T>(b, false, -1, F.matrix(r, r), W.matrix(r, t), 0, Z.matrix(r, t));
    gemm<T>(b, false, 1, U_stored.matrix(m, r), Z.matrix(r, t), 1, to);
  };
  contest applies{
      "apply " + shape,
      {{"hoft", 2 * once, [&] { hoft::apply(b.on(), Q, x, x, left, plain, work.work()); }},
       {"hoft_out", 2 * once, [&] { hoft::apply(b.on(), Q, matrix_view<T const>(x), y, left, plain, work.work()); }},
       copy,
       {"cublas_products", 2 * once, [&] { products(x); }}}};
  numbers<float> const tau(r, 0.1f);
  if constexpr (std::is_same_v<T, float>) add_ormqr(b, applies, U_stored.matrix(m, r), tau.data(), x);
  b.time(std::move(applies));
  b.time({"apply_backward " + shape,
          {{"hoft", 3 * once,
            [&] {
              hoft::apply_backward(b.on(), Q, matrix_view<T const>(x), matrix_view<T const>(g), dx,
                                   matrix_view<float>(dU.as<float>(), m, r), hoft::vector_view<float>{}, left, plain,
                                   work.work());
            }},
           copy,
           {"cublas_products", 3 * once, [&] {
              gemm<T>(b, true, 1, U_stored.matrix(m, r), x, 0, W.matrix(r, t));
              gemm<T>(b, true, 1, U_stored.matrix(m, r), g, 0, P.matrix(r, t));
              gemm<T>(b, false, -1, F.matrix(r, r), W.matrix(r, t), 0, Z.matrix(r, t));
              gemm<T>(b, true, -1, F.matrix(r, r), P.matrix(r, t), 0, dW.matrix(r, t));
              require(cudaMemcpyAsync(dX.data(), G.data(), std::size_t(G.bytes()), cudaMemcpyDeviceToDevice, b.stream),
                      "cudaMemcpyAsync");
              gemm<T>(b, false, 1, U_stored.matrix(m, r), dW.matrix(r, t), 1, dx);
              gemm_transposed<T>(b, g, Z.matrix(r, t), 0, dU_stored.matrix(m, r));
              gemm_transposed<T>(b, x, dW.matrix(r, t), 1, dU_stored.matrix(m, r));
            }}}});
}

void accumulate_case(measurement& b, index_t m, index_t r, int count) {
  numbers<float> const U(m * r * count);
  std::vector<matrix_view<float const>> us;
  std::vector<hoft::compact_wy_view<float>> forms;
  hoft::arena counter;
  for (int i = 0; i < count; ++i) hoft::carve_compact_wy<float>(counter, m, r, r);
  scratch const memory(counter.size());
  hoft::arena arena(memory.work());
  for (int i = 0; i < count; ++i) {
    us.emplace_back(U.data() + i * m * r, m, r);
    forms.push_back(hoft::carve_compact_wy<float>(arena, m, r, r));
  }
  std::span<matrix_view<float const> const> const all(us);
  std::span<hoft::compact_wy_view<float>> const Q(forms);
  scratch const work(std::max<index_t>(1, hoft::accumulate_workspace(b.on(), Q)));
  double const bytes = 8.0 * double(m * r) * count;
  b.time({"accumulate " + std::to_string(count) + " of " + std::to_string(m) + " x " + std::to_string(r),
          {{"hoft", bytes, [&] { hoft::accumulate(b.on(), all, Q, hoft::exact{}, work.work()); }},
           {"hoft_one_by_one", bytes, [&] {
              for (int i = 0; i < count; ++i)
                hoft::accumulate(b.on(), us[std::size_t(i)], forms[std::size_t(i)], hoft::exact{}, work.work());
            }}}});
}

/// The most that a product of stored numbers reaches here: the other ceiling, beside the copy.
void product_case(measurement& b, index_t n) {
  using T = __nv_bfloat16;
  numbers<T> const A(n * n, 1, 1), B(n * n, 1, 2), C(n * n);
  std::string const size = std::to_string(n);
  auto const multiply = [&] { gemm<T>(b, false, 1, A.matrix(n, n), B.matrix(n, n), 0, C.matrix(n, n)); };
  b.time({"product bfloat16 " + size + " x " + size + " x " + size, {{"cublas", 6.0 * double(n * n), multiply}}});
}

struct usage_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

settings parse(int count, char** arguments) {
  settings found;
  int places = 0;
  for (int i = 1; i < count; ++i) {
    std::string_view const word = arguments[i];
    if (word == "--small") {
      found.is_small = true;
    } else if (word.starts_with("-") || ++places > 2) {
      throw usage_error("what is '" + std::string(word) + "'?");
    } else if (places == 1) {
      found.file = word;
    } else {
      auto const [end, error] = std::from_chars(word.data(), word.data() + word.size(), found.repetitions);
      if (error != std::errc{} || end != word.data() + word.size() || found.repetitions < 1)
        throw usage_error("repetitions must be a positive number, not '" + std::string(word) + "'");
    }
  }
  if (found.file.empty()) throw usage_error("no file to write to is named");
  return found;
}

}  // namespace
}  // namespace bench::gpu

int main(int count, char** arguments) try {
  using namespace bench::gpu;
  using hoft::index_t;
  measurement b(parse(count, arguments));
  if (b.emulated()) std::printf("%s: no times, they are the emulator's own\n", b.device.name);
  index_t const m = b.size.features, t = b.size.tokens;
  product_case(b, b.size.product);
  apply_case<__nv_bfloat16>(b, m, t, 16, "bfloat16");
  apply_case<float>(b, m, t, 16, "float");
  apply_case<__nv_bfloat16>(b, m, t, 64, "bfloat16");
  accumulate_case(b, m, 16, int(b.size.matrices));
  for (std::string const& name : b.left_out)
    std::printf("left out: %s, which this program was built without\n", name.c_str());
  b.write();
  return 0;
} catch (bench::gpu::usage_error const& error) {
  std::cerr << "hoft_gpu_bench: " << error.what() << "\nusage: hoft_gpu_bench <file> [repetitions] [--small]\n";
  return 2;
} catch (std::exception const& error) {
  std::cerr << "hoft_gpu_bench: " << error.what() << '\n';
  return 1;
}
