// SPDX-License-Identifier: BSD-3-Clause
// cuda_on_host/host.hpp: the kernels of this backend, run by the host. Slow; it shows that their bodies are right where
// there is no GPU.
#pragma once
#include <hoft/cuda/backend.hpp>

#include <barrier>
#include <bit>
#include <cstddef>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

namespace HOFT_CUDA_NAMESPACE {

/// Every block or cluster in turn. With one worker a step is a loop, backwards if `reversed`. With more, that many
/// threads run the whole body as the threads of a GPU do, each with variables of its own, and meet behind every step: a
/// missing barrier or a step whose parts depend on each other is a data race, which ThreadSanitizer sees.
struct host {
  using backend = operations;
  using cuda_device_tag = void;
  bool reversed = false;
  index_t shared_limit = 227 * 1024;  ///< bytes that a block may share
  index_t most_blocks = 25;           ///< of a launch whose blocks take more than one task each
  index_t workers = 1;                ///< threads of a block
  index_t most_cluster = 8;           ///< blocks of a cluster; 0: apply and its gradients have none
  tuning tuned{};
  index_t processors() const { return (most_blocks + 7) / 8; }
  index_t clusters(index_t size) const { return processors() / size; }
};

/// The lanes of a warp, one after another.
struct host_warp {
  template <class T>
  struct held {
    using tile = T;
    T of[lanes];
    T& operator[](int lane) { return of[lane]; }
    T const& operator[](int lane) const { return of[lane]; }
  };
  template <class F>
  void each_lane(F const& f) const {
    for (int lane = 0; lane < lanes; ++lane) f(lane);
  }
  void barrier() const {}
  void fence_copies() const {}
  void multiply_add(held<left_tile> const& a, held<right_tile> const& b, held<sum_tile>& c) const {
    float A[16][16], B[16][16];
    auto const number = [](bfloat16_pair two, int half) {
      return std::bit_cast<float>(half == 0 ? two << 16 : two & 0xFFFF0000u);
    };
    each_lane([&](int lane) {
      for (int half = 0; half < 2; ++half)
        for (int e = 0; e < 4; ++e) {
          place const left = place_in(left_tile{}, lane, e), right = place_in(right_tile{}, lane, e);
          A[left.row][left.column + half] = number(a[lane].pair[e], half);
          B[right.row + half][right.column] = number(b[lane].pair[e], half);
        }
    });
    each_lane([&](int lane) {
      for (int e = 0; e < 4; ++e) {
        place const at = place_in(left_tile{}, lane, e);
        for (int k = 0; k < 16; ++k)
          for (int half = 0; half < 2; ++half) c[lane].element[2 * e + half] += A[at.row][k] * B[k][at.column + half];
      }
    });
  }
  struct matrices {
    bfloat16_bits const* line[4][8];
  };
  template <class F>
  matrices matrices_at(F const& line) const {
    matrices at;
    for (int j = 0; j < 4; ++j)
      for (int l = 0; l < 8; ++l) at.line[j][l] = line(j, l);
    return at;
  }
  template <bool Turned, int Further = 0, class Tile>
  void load_matrices(held<Tile>& to, matrices const& from, int offset) const {
    for (int j = 0; j < 4; ++j) {
      bfloat16_bits elements[8][8];
      for (int l = 0; l < 8; ++l) {
        bfloat16_bits const* const at = from.line[j][l] + offset + Further;
        if (reinterpret_cast<std::uintptr_t>(at) % 16 != 0)
          throw std::logic_error("hoft::cuda: a matrix at no multiple of 16 bytes, which a GPU refuses");
        std::memcpy(elements[l], at, sizeof(elements[l]));
      }
      each_lane([&](int lane) {
        int const a = lane / 4, b = lane % 4 * 2;
        bfloat16_pair const first = Turned ? elements[b][a] : elements[a][b],
                            second = Turned ? elements[b + 1][a] : elements[a][b + 1];
        to[lane].pair[j] = first | second << 16;
      });
    }
  }
};

/// One block, as one of several threads sees it, or as the only one does. Parts of a step go backwards if `reversed`;
/// what is fetched arrives when somebody waits for it and not before.
struct host_block {
  using warp_type = host_warp;
  index_t x, blocks;  ///< which one of how many
  std::byte* memory;  ///< shared by the block
  bool reversed;
  int size;  ///< threads that a GPU would have
  index_t worker, workers;
  std::barrier<>* meeting;  ///< of the workers; none if there is one
  std::vector<chunk_copy>* fetching;

  int warps() const { return size / lanes; }
  host_block share(index_t x_, index_t blocks_) const {
    host_block mine = *this;
    mine.x = x_, mine.blocks = blocks_;
    return mine;
  }
  template <class N, class F>
  void each(N n, F const& f) const {
    start_each(n, f);
    barrier();
  }
  template <class F>
  void each_line(index_t lines, index_t n, F const& f) const {
    each(lines * n, [&](index_t e) { f(int(e / n), int(e % n)); });
  }
  template <class F>
  void each_warp(index_t n, F const& f) const {
    each(n, [&](index_t i) { f(host_warp{}, int(i)); });
  }
  template <class F>
  void start_each_warp(index_t n, F const& f) const {
    start_each(n, [&](index_t i) { f(host_warp{}, int(i)); });
  }
  template <class F, class G>
  void each_warp_twice(index_t n, F const& f, G const& g) const {
    if (n > warps())
      throw std::logic_error("hoft::cuda: a step for more warps than a block has, which a GPU leaves out");
    std::vector<decltype(f(host_warp{}, 0))> kept;  // of this worker
    each_warp(n, [&](host_warp const& warp, int i) { kept.push_back(f(warp, i)); });
    auto next = kept.begin();
    each_warp(n, [&](host_warp const& warp, int i) { g(warp, i, *next++); });
  }
  template <class F>
  void start_copy(index_t lines, index_t n, F const& f) const {
    start_each(lines * n, [&](index_t e) {
      chunk_copy const c = chunk_of_line(f(int(e / n)), e % n);
      std::memcpy(c.to, c.from, sizeof(chunk));
    });
  }
  template <class F>
  void fetch(index_t lines, index_t n, F const& f) const {
    for (index_t e = worker; e < lines * n; e += workers) fetching->push_back(chunk_of_line(f(int(e / n)), e % n));
  }
  void stored() const { barrier(); }
  void fetched() const {
    for (chunk_copy const& c : *fetching) std::memcpy(c.to, c.from, sizeof(chunk));
    fetching->clear();
    barrier();
  }
  template <class T, class F, class Combine>
  T combined(T* partial, F const& f, Combine const& combine) const {
    each(threads, [&](index_t t) { partial[t] = f(t); });
    for (index_t half = threads / 2; half > 0; half /= 2)
      each(half, [&](index_t t) { partial[t] = combine(partial[t], partial[t + half]); });
    T const total = partial[0];
    barrier();  // before somebody writes to `partial` again
    return total;
  }
  void barrier() const {
    if (meeting != nullptr) meeting->arrive_and_wait();
  }

  template <class N, class F>
  void start_each(N n, F const& f) const {
    for (N i = N(worker); i < n; i += N(workers)) f(reversed ? n - 1 - i : i);
  }

 private:
  static chunk_copy chunk_of_line(chunk_copy line, index_t i) {
    chunk_copy const c{static_cast<chunk*>(line.to) + i, static_cast<chunk const*>(line.from) + i};
    for (void const* end : {static_cast<void const*>(c.to), c.from})
      if (reinterpret_cast<std::uintptr_t>(end) % sizeof(chunk) != 0)
        throw std::logic_error("hoft::cuda: a copy from or to no multiple of 16 bytes, which a GPU refuses");
    return c;
  }
};

/// A cluster, as one thread sees it: one of each block's, or the only one for all.
struct host_cluster {
  index_t x, clusters, size;
  std::vector<host_block> const& blocks;  ///< all of them, or the thread's own
  std::byte* const* memory;               ///< of each block
  std::barrier<>* meeting;                ///< of all threads of the cluster; none if there is one

  host_cluster share(index_t x_, index_t clusters_) const { return {x_, clusters_, size, blocks, memory, meeting}; }
  template <class F>
  void members(F const& f) const {
    for (host_block const& block : blocks) f(block, block.x);
  }
  template <class F>
  auto hold(F const& f) const {
    std::vector<decltype(f(blocks.front(), index_t{}))> held;
    for (host_block const& block : blocks) held.push_back(f(block, block.x));
    return held;
  }
  template <class Held, class F>
  void members(Held const& held, F const& f) const {
    for (std::size_t i = 0; i < blocks.size(); ++i) f(blocks[i], held[i]);
  }
  void barrier() const {
    if (meeting != nullptr) meeting->arrive_and_wait();
  }
  template <class T>
  T* of_member(index_t member, host_block const& block, T* mine) const {
    return reinterpret_cast<T*>(memory[member] + (reinterpret_cast<std::byte*>(mine) - block.memory));
  }
};

/// Calls body(worker) by so many threads, this one among them.
template <class Body>
void run_workers(index_t workers, Body const& body) {
  std::vector<std::jthread> others;
  for (index_t worker = 1; worker < workers; ++worker) others.emplace_back(body, worker);
  body(index_t{0});
}

/// Shared memory. What is not written yet is NaN, and the length exact, so that reading it shows.
template <class Kernel>
std::vector<std::byte> shared_memory(host const& device, Kernel const& kernel) {
  hoft::detail::require_at_most<workspace_error>("cuda::launch", "the memory that a block shares",
                                                 kernel.shared_bytes(), device.shared_limit);
  return std::vector<std::byte>(std::size_t(kernel.shared_bytes()), std::byte(0xFF));
}

/// A GPU launches something.
inline void require_blocks(index_t blocks) {
  if (blocks <= 0) throw std::logic_error("hoft::cuda: a launch of no blocks, which a GPU refuses");
}

/// kernel(block) by so many blocks.
template <class Kernel>
void launch_blocks(host const& device, index_t blocks, Kernel const& kernel) {
  require_blocks(blocks);
  for (index_t b = 0; b < blocks; ++b) {
    index_t const x = device.reversed ? blocks - 1 - b : b;
    std::vector<std::byte> shared = shared_memory(device, kernel);
    std::barrier<> meeting(device.workers);
    run_workers(device.workers, [&](index_t worker) {
      std::vector<chunk_copy> fetching;
      kernel(host_block{x, blocks, shared.data(), device.reversed, threads, worker, device.workers,
                        device.workers > 1 ? &meeting : nullptr, &fetching});
    });
  }
}

/// kernel(cluster) by so many clusters.
template <class Kernel>
void launch_clusters(host const& device, index_t clusters, cluster_size of, Kernel const& kernel) {
  index_t const size = of.blocks;
  require_blocks(clusters * size);
  for (index_t b = 0; b < clusters; ++b) {
    index_t const x = device.reversed ? clusters - 1 - b : b;
    std::vector<std::vector<std::byte>> shared(std::size_t(size), shared_memory(device, kernel));
    std::vector<std::byte*> memory;
    for (auto& s : shared) memory.push_back(s.data());
    auto const block = [&](index_t member, index_t worker, std::barrier<>* meeting, std::vector<chunk_copy>& fetching) {
      return host_block{
          member,  size,     memory[std::size_t(member)], device.reversed, int(of.threads), worker, device.workers,
          meeting, &fetching};
    };
    if (device.workers <= 1) {
      std::vector<std::vector<chunk_copy>> fetching{std::size_t(size)};
      std::vector<host_block> all;
      for (index_t m = 0; m < size; ++m) {
        index_t const member = device.reversed ? size - 1 - m : m;
        all.push_back(block(member, 0, nullptr, fetching[std::size_t(member)]));
      }
      kernel(host_cluster{x, clusters, size, all, memory.data(), nullptr});
      continue;
    }
    std::vector<std::unique_ptr<std::barrier<>>> meetings;
    for (index_t member = 0; member < size; ++member)
      meetings.push_back(std::make_unique<std::barrier<>>(device.workers));
    std::barrier<> all_meet(size * device.workers);
    run_workers(size * device.workers, [&](index_t thread) {
      index_t const member = thread / device.workers;
      std::vector<chunk_copy> fetching;
      std::vector<host_block> const own{
          block(member, thread % device.workers, meetings[std::size_t(member)].get(), fetching)};
      kernel(host_cluster{x, clusters, size, own, memory.data(), &all_meet});
      // A block's memory ends with the block.
      own[0].barrier();
      if (own[0].worker == 0) std::memset(own[0].memory, 0xFF, shared[std::size_t(member)].size());
    });
  }
}

/// There is no cuBLAS here: every product is a kernel.
template <class A, class B, class C>
bool multiplies(host const&, A const&, bool, B const&, bool, C const&) {
  return false;
}
template <class T, class LA, class LB, class LC>
bool multiply_matrices(host const&, T, matrix_view<T const, LA>, bool, matrix_view<T const, LB>, bool,
                       matrix_view<T const, LC>, matrix_view<T, LC>) {
  return false;
}

/// C [m, n] := A B for 16-bit storage, with sums in float.
template <class T, class LA, class LB>
void multiply_stored(host const& device, matrix_view<T const, LA> A, matrix_view<T const, LB> B, matrix_view<T> C) {
  ops<host>::for_each_element(device, C, [=] HOFT_KERNEL_LAMBDA(index_t i, index_t j) {
    float total(0);
    for (index_t l = 0; l < A.cols; ++l) total += static_cast<float>(A(i, l)) * static_cast<float>(B(l, j));
    C(i, j) = static_cast<T>(total);
  });
}

}  // namespace HOFT_CUDA_NAMESPACE
