// SPDX-License-Identifier: BSD-3-Clause
// machine.cpp: peak and bandwidth, and who is being measured.
#include "machine.hpp"

#include "lapack.hpp"

#include <hoft/cpu/policy.hpp>

#include <Eigen/Core>
#include <benchmark/benchmark.h>

#include <cstring>
#include <sstream>
#include <tuple>
#ifdef __AVX__
#include <immintrin.h>
#endif

namespace bench {
namespace {

/// Twelve chains: more than any processor's latency times its pipelines for whole vectors (8 to 10), fewer than the
/// registers. The values tend to b / (1 − a): nothing overflows, nothing becomes subnormal.
template <class T>
[[gnu::noinline]] T multiply_adds(index_t rounds) {
  using packet = typename Eigen::internal::packet_traits<T>::type;
  constexpr int chains = 12;
  packet x[chains];
  packet const a = Eigen::internal::pset1<packet>(T(0.5)), b = Eigen::internal::pset1<packet>(T(1));
  for (int k = 0; k < chains; ++k) x[k] = Eigen::internal::pset1<packet>(T(k));
  for (index_t i = 0; i < rounds; ++i)
    for (packet& chain : x) chain = Eigen::internal::pmadd(chain, a, b);
  packet sum = x[0];
  for (int k = 1; k < chains; ++k) sum = Eigen::internal::padd(sum, x[k]);
  return Eigen::internal::predux(sum);
}

void copy_past_caches(void const* from, void* to, std::size_t bytes) {
#ifdef __AVX__
  auto const* source = static_cast<__m256i const*>(from);  // both begin a cache line, bytes are whole lines
  auto* target = static_cast<__m256i*>(to);
  for (std::size_t i = 0; i < bytes / sizeof(__m256i); i += 2) {
    _mm256_stream_si256(target + i, _mm256_load_si256(source + i));
    _mm256_stream_si256(target + i + 1, _mm256_load_si256(source + i + 1));
  }
  _mm_sfence();
#else
  std::memcpy(to, from, bytes);
#endif
}

template <class T>
task copy(std::string name, void (*move)(void const*, void*, std::size_t)) {
  shape const s = large;
  auto const from = numbers<T>("start", s.m, s.n);
  auto const to = room<T>("Y", s.m, s.n);
  std::size_t const bytes = std::size_t(s.m * s.n) * sizeof(T);
  return {std::move(name), [=] { move(from.data, to.data, bytes); }, {0, 2 * double(bytes)}};
}

}  // namespace

template <class T>
task fma_peak() {
  constexpr index_t rounds = 1 << 18;
  double const flops = 2.0 * 12 * int(Eigen::internal::packet_traits<T>::size) * double(rounds);
  return {"fma_peak", [] { benchmark::DoNotOptimize(multiply_adds<T>(rounds)); }, {flops, 0}};
}
template <class T>
task copy_memcpy() {
  return copy<T>("copy", [](void const* from, void* to, std::size_t bytes) { std::memcpy(to, from, bytes); });
}
template <class T>
task copy_streaming() {
  return copy<T>("copy_streaming", copy_past_caches);
}

template <class T>
std::vector<task> thread_bounds(std::shared_ptr<hoft::thread_pool> const& pool) {
  constexpr index_t rounds = 1 << 21;  // milliseconds, beside which waking a thread is little
  shape const s = large;
  auto const from = numbers<T>("start", s.m, s.n);
  auto const to = room<T>("Y", s.m, s.n);
  std::size_t const bytes = std::size_t(s.m * s.n) * sizeof(T);
  double const flops = 2.0 * 12 * int(Eigen::internal::packet_traits<T>::size) * double(rounds);
  std::vector<task> tasks;
  for (auto [threads, copy, peak] :
       {std::tuple{1, "copy_1_thread", "peak_1_thread"}, std::tuple{2, "copy_2_threads", "peak_2_threads"}}) {
    hoft::cpu const policy{.threads = threads, .executor = pool.get()};
    tasks.push_back({copy,
                     [=] {  // halves, in whole lines
                       hoft::cpu_backend::parallel_for(policy, 2, [&](index_t, index_t half) {
                         std::size_t const first = std::size_t(half) * (bytes / 2);
                         copy_past_caches(reinterpret_cast<std::byte const*>(from.data) + first,
                                          reinterpret_cast<std::byte*>(to.data) + first, bytes / 2);
                       });
                     },
                     {0, 2 * double(bytes)}});
    tasks.push_back({peak,
                     [=] {
                       hoft::cpu_backend::parallel_for(policy, 2, [&](index_t, index_t) {
                         index_t count = rounds;  // not known to compilers, which would compute the same but once
                         benchmark::DoNotOptimize(count);
                         benchmark::DoNotOptimize(multiply_adds<T>(count));
                       });
                     },
                     {2 * flops, 0}});
  }
  for (task& t : tasks) {
    t.wall = true;
    t.run = [pool, run = t.run] { run(); };  // which lives as long
  }
  return tasks;
}

template std::vector<task> thread_bounds<float>(std::shared_ptr<hoft::thread_pool> const&);
template task fma_peak<float>();
template task fma_peak<double>();
template task copy_memcpy<float>();
template task copy_memcpy<double>();
template task copy_streaming<float>();
template task copy_streaming<double>();

std::map<std::string, std::string> description() {
  std::ostringstream eigen;
  eigen << EIGEN_WORLD_VERSION << '.' << EIGEN_MAJOR_VERSION << '.' << EIGEN_MINOR_VERSION;
  return {{"openblas_core", openblas_get_corename()},     {"openblas", openblas_get_config()}, {"eigen", eigen.str()},
          {"vectors", Eigen::SimdInstructionSetsInUse()}, {"compiler", BENCH_COMPILER},        {"flags", BENCH_FLAGS}};
}

}  // namespace bench
