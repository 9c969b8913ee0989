// SPDX-License-Identifier: BSD-3-Clause
// data.hpp: shapes and matrices that the contestants of a case share.
#pragma once
#include <hoft/householder/compact_wy.hpp>
#include <hoft/memory/arena.hpp>
#include <hoft/view/eigen.hpp>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

namespace bench {

using hoft::as_eigen;
using hoft::as_view;
using hoft::index_t;
using hoft::matrix_view;

/// A weight [m, n], r reflectors on each side and t tokens.
struct shape {
  index_t m, n, r, t;
};
inline constexpr shape shapes[] = {
    {768, 768, 8, 2048}, {1024, 1024, 16, 2048}, {4096, 4096, 16, 512}, {4096, 4096, 64, 512}, {4096, 512, 32, 1024}};
inline constexpr shape smallest = shapes[0], middle = shapes[1], large = shapes[2];
/// The reflectors of `large`, and matrices that stay in the last-level cache: what is left to memory.
inline constexpr shape cached{4096, 256, 16, 512};

namespace detail {

template <class T>
constexpr index_t largest_matrix() {
  index_t most = 0;
  for (shape s : shapes) {
    index_t const side = std::max(s.m, s.n), other = std::max(std::min(s.m, s.n), s.t + s.r);
    most = std::max(most, side * other);
  }
  return most;
}

template <class T>
struct buffer {
  struct release {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, release> data;
  index_t filled = 0;
};

template <class T>
buffer<T>& buffer_named(std::string const& name) {
  static std::map<std::string, buffer<T>> buffers;
  buffer<T>& b = buffers[name];
  if (b.data == nullptr) {
    std::size_t const line = 64, bytes = std::size_t(largest_matrix<T>()) * sizeof(T);
    b.data.reset(static_cast<T*>(std::aligned_alloc(line, (bytes + line - 1) / line * line)));
    if (b.data == nullptr) throw std::bad_alloc();
  }
  return b;
}

}  // namespace detail

/// Memory [m, n] that all cases of a program share by name: only what is touched takes room. Contents are whatever the
/// last user left.
template <class T>
matrix_view<T> room(std::string const& name, index_t m, index_t n) {
  return {detail::buffer_named<T>(name).data.get(), m, n};
}

/// The same, filled with numbers uniform in [−1, 1). Read only: every shape sees the same numbers, rounded to T.
template <class T>
matrix_view<T const> numbers(std::string const& name, index_t m, index_t n) {
  auto& b = detail::buffer_named<T>("numbers/" + name);  // no room has this name
  std::mt19937_64 rng(std::hash<std::string>{}(name));
  rng.discard(static_cast<unsigned long long>(b.filled));
  for (; b.filled < m * n; ++b.filled)
    b.data.get()[b.filled] = static_cast<T>(static_cast<double>(rng() >> 11) * 0x1p-52 - 1.0);
  return {b.data.get(), m, n};
}

template <class T>
void assign(matrix_view<T const> from, matrix_view<T> to) {
  as_eigen(to) = as_eigen(from);
}

/// Scratch memory of one contestant.
class memory {
 public:
  explicit memory(index_t bytes) : bytes_(std::size_t(bytes)) {}
  operator hoft::workspace() { return {bytes_.data(), index_t(bytes_.size())}; }

 private:
  std::vector<std::byte> bytes_;
};

/// What a carve function of hoft cuts, and its memory.
template <class Parts>
class carved {
 public:
  template <class Carve>
  explicit carved(Carve const& carve) : bytes_(size(carve)) {
    hoft::arena arena{hoft::workspace(bytes_)};
    parts = carve(arena);
  }
  Parts parts;

 private:
  template <class Carve>
  static index_t size(Carve const& carve) {
    hoft::arena count;
    carve(count);
    return count.size();
  }
  memory bytes_;
};

/// A compact WY form of the calls with views, and its memory.
template <class T>
class carved_form {
 public:
  carved_form(index_t m, index_t r, index_t block) : bytes_(size(m, r, block)) {
    hoft::arena arena{hoft::workspace(bytes_)};
    view = hoft::carve_compact_wy<T>(arena, m, r, block);
  }
  hoft::compact_wy_view<T> view;

 private:
  static index_t size(index_t m, index_t r, index_t block) {
    hoft::arena count;
    hoft::carve_compact_wy<T>(count, m, r, block);
    return count.size();
  }
  memory bytes_;
};

}  // namespace bench
