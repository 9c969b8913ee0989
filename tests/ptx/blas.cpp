// SPDX-License-Identifier: BSD-3-Clause
// cuBLAS: handles and products, on the host, in a wider type and rounded once.
#include "memory.hpp"
#include "streams.hpp"

#include "reals.hpp"

#include <cublas_v2.h>

#include <complex>
#include <vector>

using namespace emu;

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
};

namespace {

struct matrix_argument {
  void* data;
  cudaDataType type;
  s64 ld, rows, cols;  ///< as stored
  std::size_t element() const {
    switch (type) {
      case CUDA_R_16F:
      case CUDA_R_16BF:
        return 2;
      case CUDA_R_32F:
        return 4;
      case CUDA_R_64F:
      case CUDA_C_32F:
        return 8;
      case CUDA_C_64F:
        return 16;
      default:
        return 0;
    }
  }
  std::size_t extent() const { return rows == 0 || cols == 0 ? 0 : std::size_t((cols - 1) * ld + rows) * element(); }
  u8* at(s64 i, s64 j) const { return static_cast<u8*>(data) + std::size_t(i + j * ld) * element(); }
};

template <class T>
T read_as(void const* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}
template <class W>
W read_real(matrix_argument const& A, s64 i, s64 j) {
  u8 const* const at = A.at(i, j);
  switch (A.type) {
    case CUDA_R_16F:
      return W(from_f16(read_as<u16>(at)));
    case CUDA_R_16BF:
      return W(from_bf16(read_as<u16>(at)));
    case CUDA_R_32F:
      return W(read_as<float>(at));
    default:
      return W(read_as<double>(at));
  }
}
template <class W>
void write_real(matrix_argument const& C, s64 i, s64 j, W value) {
  u8* const at = C.at(i, j);
  auto const put = [&](auto v) { std::memcpy(at, &v, sizeof(v)); };
  switch (C.type) {
    case CUDA_R_16F:
      return put(u16(to_f16(float(value), false)));
    case CUDA_R_16BF:
      return put(u16(to_bf16(float(value), false)));
    case CUDA_R_32F:
      return put(float(value));
    default:
      return put(double(value));
  }
}

bool is_complex(cudaDataType t) { return t == CUDA_C_32F || t == CUDA_C_64F; }

struct product_arguments {
  cublasOperation_t a, b;
  s64 m, n, k;
  matrix_argument A, B, C;
  double alpha[2], beta[2];
  void const *alpha_at, *beta_at;  ///< on the device, or none
  bool scalars_of_64;
};

/// Elements nobody wrote: reading them is reported, once a matrix.
void check_written(matrix_argument const& X, char const* name) {
  if (!options::get().global_uninitialised || X.extent() == 0) return;
  auto const* const a = memory_space::get().find(u64(X.data));
  if (a == nullptr || a->kind != memory_kind::device) return;
  for (s64 j = 0; j < X.cols; ++j)
    for (u64 at = u64(X.at(0, j)); at < u64(X.at(0, j)) + u64(X.rows) * X.element(); at += 2)
      if (shadow_of(at)->written == 0) {
        findings::get().add("uninitialised device memory is read", std::string("cublas gemm, ") + name,
                            memory_space::get().describe(at));
        return;
      }
}

template <class W>
void multiply_real(product_arguments const& p) {
  std::vector<W> a(std::size_t(p.m * p.k)), b(std::size_t(p.k * p.n));
  for (s64 i = 0; i < p.m; ++i)
    for (s64 l = 0; l < p.k; ++l)
      a[std::size_t(i * p.k + l)] = p.a == CUBLAS_OP_N ? read_real<W>(p.A, i, l) : read_real<W>(p.A, l, i);
  for (s64 j = 0; j < p.n; ++j)
    for (s64 l = 0; l < p.k; ++l)
      b[std::size_t(j * p.k + l)] = p.b == CUBLAS_OP_N ? read_real<W>(p.B, l, j) : read_real<W>(p.B, j, l);
  W const alpha = W(p.alpha[0]), beta = W(p.beta[0]);
  for (s64 j = 0; j < p.n; ++j)
    for (s64 i = 0; i < p.m; ++i) {
      W total = 0;
      W const* const x = &a[std::size_t(i * p.k)];
      W const* const y = &b[std::size_t(j * p.k)];
      for (s64 l = 0; l < p.k; ++l) total += x[l] * y[l];
      total *= alpha;
      if (beta != 0) total += beta * read_real<W>(p.C, i, j);
      write_real(p.C, i, j, total);
    }
}
template <class W, class S>
void multiply_complex(product_arguments const& p) {
  using wide = std::complex<W>;
  using stored = std::complex<S>;
  auto const read = [](matrix_argument const& X, s64 i, s64 j) {
    auto const x = read_as<stored>(X.at(i, j));
    return wide(W(x.real()), W(x.imag()));
  };
  auto const element = [&](matrix_argument const& X, cublasOperation_t o, s64 i, s64 l) {
    return o == CUBLAS_OP_N ? read(X, i, l) : o == CUBLAS_OP_T ? read(X, l, i) : std::conj(read(X, l, i));
  };
  wide const alpha(W(p.alpha[0]), W(p.alpha[1])), beta(W(p.beta[0]), W(p.beta[1]));
  for (s64 j = 0; j < p.n; ++j)
    for (s64 i = 0; i < p.m; ++i) {
      W re = 0, im = 0;
      for (s64 l = 0; l < p.k; ++l) {
        wide const x = element(p.A, p.a, i, l), y = element(p.B, p.b, l, j);
        re += x.real() * y.real() - x.imag() * y.imag();
        im += x.real() * y.imag() + x.imag() * y.real();
      }
      wide total(alpha.real() * re - alpha.imag() * im, alpha.real() * im + alpha.imag() * re);
      if (beta != wide(0)) {
        wide const c = read(p.C, i, j);
        total += wide(beta.real() * c.real() - beta.imag() * c.imag(), beta.real() * c.imag() + beta.imag() * c.real());
      }
      stored const out(S(total.real()), S(total.imag()));
      std::memcpy(p.C.at(i, j), &out, sizeof(out));
    }
}

void read_scalar(product_arguments& p, void const* at, double (&to)[2]) {
  bool const two = is_complex(p.C.type);
  for (int n = 0; n < (two ? 2 : 1); ++n)
    to[n] = p.scalars_of_64 ? static_cast<double const*>(at)[n] : double(static_cast<float const*>(at)[n]);
}

void run_product(product_arguments p) {
  if (!usable(p.A.data, p.A.extent(), "cublas gemm reads A") ||
      !usable(p.B.data, p.B.extent(), "cublas gemm reads B") || !usable(p.C.data, p.C.extent(), "cublas gemm writes C"))
    return;
  if (p.alpha_at != nullptr) read_scalar(p, p.alpha_at, p.alpha), read_scalar(p, p.beta_at, p.beta);
  check_written(p.A, "A"), check_written(p.B, "B");
  if (p.beta[0] != 0 || p.beta[1] != 0) check_written(p.C, "C");
  auto const overlaps = [&](matrix_argument const& X) {
    if (X.extent() == 0 || p.C.extent() == 0) return false;
    if (u64(X.data) + X.extent() <= u64(p.C.data) || u64(p.C.data) + p.C.extent() <= u64(X.data)) return false;
    if (X.ld != p.C.ld || X.type != p.C.type) return true;
    s64 const d = (static_cast<u8*>(p.C.data) - static_cast<u8*>(X.data)) / s64(X.element());
    s64 j = d / X.ld, i = d % X.ld;
    if (i < 0) i += X.ld, --j;
    auto const meets = [&](s64 di, s64 dj) {
      return di < X.rows && di + p.C.rows > 0 && dj < X.cols && dj + p.C.cols > 0;
    };
    return meets(i, j) || meets(i - X.ld, j + 1);
  };
  if (overlaps(p.A) || overlaps(p.B))
    findings::get().add("cublas gemm overwrites what it reads", "", format("m %ld n %ld k %ld", p.m, p.n, p.k));
  if (p.C.type == CUDA_C_32F) multiply_complex<double, float>(p);
  else if (p.C.type == CUDA_C_64F) multiply_complex<long double, double>(p);
  else if (p.C.type == CUDA_R_64F) multiply_real<long double>(p);
  else multiply_real<double>(p);
  for (s64 j = 0; j < p.n; ++j)
    if (p.m > 0) memory_space::get().mark_written(p.C.at(0, j), std::size_t(p.m) * p.C.element());
}

cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t a, cublasOperation_t b, s64 m, s64 n, s64 k,
                    void const* alpha, void const* A, cudaDataType A_type, s64 lda, void const* B, cudaDataType B_type,
                    s64 ldb, void const* beta, void* C, cudaDataType C_type, s64 ldc, cublasComputeType_t compute) {
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  auto const is_op = [](cublasOperation_t o) { return o == CUBLAS_OP_N || o == CUBLAS_OP_T || o == CUBLAS_OP_C; };
  if (!is_op(a) || !is_op(b) || m < 0 || n < 0 || k < 0 || alpha == nullptr || beta == nullptr)
    return CUBLAS_STATUS_INVALID_VALUE;
  s64 const rows_a = a == CUBLAS_OP_N ? m : k, cols_a = a == CUBLAS_OP_N ? k : m;
  s64 const rows_b = b == CUBLAS_OP_N ? k : n, cols_b = b == CUBLAS_OP_N ? n : k;
  if (lda < std::max<s64>(1, rows_a) || ldb < std::max<s64>(1, rows_b) || ldc < std::max<s64>(1, m))
    return CUBLAS_STATUS_INVALID_VALUE;
  bool const in_64 = compute == CUBLAS_COMPUTE_64F || compute == CUBLAS_COMPUTE_64F_PEDANTIC;
  bool const in_32 = compute == CUBLAS_COMPUTE_32F || compute == CUBLAS_COMPUTE_32F_PEDANTIC;
  if (!in_64 && !in_32) return CUBLAS_STATUS_NOT_SUPPORTED;
  bool known = A_type == B_type;
  if (in_64) known = known && A_type == C_type && (C_type == CUDA_R_64F || C_type == CUDA_C_64F);
  else
    known =
        known && ((A_type == CUDA_R_32F && C_type == CUDA_R_32F) || (A_type == CUDA_C_32F && C_type == CUDA_C_32F) ||
                  ((A_type == CUDA_R_16F || A_type == CUDA_R_16BF) && (C_type == A_type || C_type == CUDA_R_32F)));
  if (!known) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  product_arguments p{a,
                      b,
                      m,
                      n,
                      k,
                      {const_cast<void*>(A), A_type, lda, rows_a, cols_a},
                      {const_cast<void*>(B), B_type, ldb, rows_b, cols_b},
                      {C, C_type, ldc, m, n},
                      {},
                      {},
                      nullptr,
                      nullptr,
                      in_64};
  for (matrix_argument const* X : {&p.A, &p.B, &p.C})
    if (X->extent() > 0 && u64(X->data) % std::min<std::size_t>(X->element(), 16) != 0)
      return CUBLAS_STATUS_INVALID_VALUE;
  if (handle->pointers == CUBLAS_POINTER_MODE_HOST) read_scalar(p, alpha, p.alpha), read_scalar(p, beta, p.beta);
  else p.alpha_at = alpha, p.beta_at = beta;
  return submit(
             handle->stream, [p] { run_product(p); }, "gemm") == cudaSuccess
             ? CUBLAS_STATUS_SUCCESS
             : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* h) {
  *h = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t h) {
  if (h == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  finish_everything();
  delete h;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* v) {
  *v = CUBLAS_VERSION;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t h, cudaStream_t s) {
  if (h == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (!is_stream(s)) return CUBLAS_STATUS_INVALID_VALUE;
  h->stream = s, h->workspace = nullptr, h->workspace_bytes = 0;  // back to the pool of the library's own
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream_v2(cublasHandle_t h, cudaStream_t* s) {
  if (h == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  *s = h->stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t h, void* at, size_t bytes) {
  if (h == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (u64(at) % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  h->workspace = at, h->workspace_bytes = bytes;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t* mode) {
  if (h == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  *mode = h->pointers;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t h, cublasPointerMode_t mode) {
  if (h == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  h->pointers = mode;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetMathMode(cublasHandle_t h, cublasMath_t* mode) {
  if (h == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  *mode = h->math;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t h, cublasMath_t mode) {
  if (h == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  h->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}
char const* cublasGetStatusString(cublasStatus_t s) {
  switch (s) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the functionality requested is not supported";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "the function failed to launch on the GPU";
    default:
      return "unknown status";
  }
}
char const* cublasGetStatusName(cublasStatus_t s) { return cublasGetStatusString(s); }

cublasStatus_t cublasGemmEx_64(cublasHandle_t h, cublasOperation_t a, cublasOperation_t b, int64_t m, int64_t n,
                               int64_t k, void const* alpha, void const* A, cudaDataType A_type, int64_t lda,
                               void const* B, cudaDataType B_type, int64_t ldb, void const* beta, void* C,
                               cudaDataType C_type, int64_t ldc, cublasComputeType_t compute, cublasGemmAlgo_t) {
  return gemm(h, a, b, m, n, k, alpha, A, A_type, lda, B, B_type, ldb, beta, C, C_type, ldc, compute);
}
cublasStatus_t cublasGemmEx(cublasHandle_t h, cublasOperation_t a, cublasOperation_t b, int m, int n, int k,
                            void const* alpha, void const* A, cudaDataType A_type, int lda, void const* B,
                            cudaDataType B_type, int ldb, void const* beta, void* C, cudaDataType C_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
  return gemm(h, a, b, m, n, k, alpha, A, A_type, lda, B, B_type, ldb, beta, C, C_type, ldc, compute);
}
#define EMU_GEMM(name, T, index, type, compute)                                                                       \
  cublasStatus_t name(cublasHandle_t h, cublasOperation_t a, cublasOperation_t b, index m, index n, index k,          \
                      T const* alpha, T const* A, index lda, T const* B, index ldb, T const* beta, T* C, index ldc) { \
    return gemm(h, a, b, m, n, k, alpha, A, type, lda, B, type, ldb, beta, C, type, ldc, compute);                    \
  }
EMU_GEMM(cublasSgemm_v2, float, int, CUDA_R_32F, CUBLAS_COMPUTE_32F)
EMU_GEMM(cublasDgemm_v2, double, int, CUDA_R_64F, CUBLAS_COMPUTE_64F)
EMU_GEMM(cublasCgemm_v2, cuComplex, int, CUDA_C_32F, CUBLAS_COMPUTE_32F)
EMU_GEMM(cublasZgemm_v2, cuDoubleComplex, int, CUDA_C_64F, CUBLAS_COMPUTE_64F)
EMU_GEMM(cublasSgemm_v2_64, float, int64_t, CUDA_R_32F, CUBLAS_COMPUTE_32F)
EMU_GEMM(cublasDgemm_v2_64, double, int64_t, CUDA_R_64F, CUBLAS_COMPUTE_64F)
cublasStatus_t cublasGemmStridedBatchedEx(cublasHandle_t h, cublasOperation_t a, cublasOperation_t b, int m, int n,
                                          int k, void const* alpha, void const* A, cudaDataType A_type, int lda,
                                          long long stride_a, void const* B, cudaDataType B_type, int ldb,
                                          long long stride_b, void const* beta, void* C, cudaDataType C_type, int ldc,
                                          long long stride_c, int count, cublasComputeType_t compute,
                                          cublasGemmAlgo_t) {
  std::size_t const ea = matrix_argument{nullptr, A_type, 0, 0, 0}.element(),
                    eb = matrix_argument{nullptr, B_type, 0, 0, 0}.element(),
                    ec = matrix_argument{nullptr, C_type, 0, 0, 0}.element();
  for (int i = 0; i < count; ++i)
    if (auto const s = gemm(h, a, b, m, n, k, alpha, static_cast<u8 const*>(A) + i * stride_a * s64(ea), A_type, lda,
                            static_cast<u8 const*>(B) + i * stride_b * s64(eb), B_type, ldb, beta,
                            static_cast<u8*>(C) + i * stride_c * s64(ec), C_type, ldc, compute);
        s != CUBLAS_STATUS_SUCCESS)
      return s;
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
