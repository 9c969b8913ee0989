// SPDX-License-Identifier: BSD-3-Clause
// hoft/memory/arena.hpp: one function both sizes and cuts a workspace, so that the two cannot disagree.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/memory/workspace.hpp>
#include <hoft/view/matrix_view.hpp>
#include <hoft/view/vector_view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace HOFT_TARGET_NAMESPACE {

/// Cuts a workspace into pieces. An arena without memory only counts, so the code that cuts a workspace also gives its
/// size.
class arena {
 public:
  /// Counts only.
  arena() = default;
  /// Cuts pieces from `memory`, which must have the size that an arena without memory counted for the same pieces.
  explicit arena(workspace memory)
      : begin_(memory.data), next_(begin_), end_(begin_ + (std::max)(index_t{0}, memory.size)), carving_(true) {}
  /// Cuts the pieces that fit into `memory`, and counts all of them: compare size() with the memory before using them.
  struct counting {};
  arena(workspace memory, counting) : arena(memory) { counts_when_used_up_ = true; }

  /// @throws hoft::shape_error if count is negative; hoft::workspace_error if the memory is used up
  template <class T>
  T* array(index_t count) {
    static_assert(alignof(T) <= alignment);
    detail::require_at_least("arena::array", "count", count, 0);
    return reinterpret_cast<T*>(take(count * index_t(sizeof(T))));
  }
  template <class T>
  vector_view<T> vector(index_t n) {
    return {array<T>(n), n};
  }
  template <class T, class Layout = col_major>
  matrix_view<T, Layout> matrix(index_t rows, index_t cols) {
    detail::require_at_least("arena::matrix", "rows", rows, 0);
    detail::require_at_least("arena::matrix", "cols", cols, 0);
    return {array<T>(rows * cols), rows, cols};
  }
  /// Bytes asked for so far, with room to align the first piece.
  [[nodiscard]] index_t size() const noexcept { return size_ == 0 ? 0 : size_ + alignment; }

  static constexpr index_t alignment = 64;  ///< one cache line: neighbouring pieces never share one between threads

  /// Two pieces that are not used at the same time may share memory: after the first, return to its start, cut the
  /// second, and continue after the longer one.
  struct position {
    std::byte* next = nullptr;
    index_t size = 0;
  };
  position here() const { return {next_, size_}; }
  /// Returns to `to`, and gives the place where the arena was.
  position back_to(position const& to) {
    position const from = here();
    next_ = to.next, size_ = to.size;
    return from;
  }
  /// Continues at `other` if that is further.
  void on_behind(position const& other) {
    if (other.size > size_) next_ = other.next, size_ = other.size;
  }

 private:
  [[gnu::noinline]] std::byte* take(index_t length) {
    index_t const bytes = (length + alignment - 1) / alignment * alignment;
    size_ += bytes;
    if (!carving_) return nullptr;
    auto const address = reinterpret_cast<std::uintptr_t>(next_);
    index_t const padding = index_t((alignment - address % alignment) % alignment);
    if (bytes > 0 && padding + bytes > end_ - next_) {
      if (!counts_when_used_up_)
        detail::require_bytes("arena", "memory.size", end_ - begin_, next_ - begin_ + padding + bytes);
      return nullptr;
    }
    std::byte* const aligned = next_ + padding;
    next_ = aligned + bytes;
    return aligned;
  }

  std::byte* begin_ = nullptr;
  std::byte* next_ = nullptr;
  std::byte* end_ = nullptr;
  index_t size_ = 0;
  bool carving_ = false, counts_when_used_up_ = false;
};

namespace detail {

/// One matrix [rows, cols] of scratch for each worker.
template <class T, class Layout = col_major>
class per_worker {
 public:
  per_worker(arena& memory, index_t workers, index_t rows, index_t cols)
      : rows_(rows), cols_(cols), data_(memory.array<T>(workers * rows * cols)) {}
  matrix_view<T, Layout> operator()(index_t worker) const { return {data_ + worker * rows_ * cols_, rows_, cols_}; }

 private:
  index_t rows_, cols_;
  T* data_;
};

/// Two sets of pieces that share the same memory: `second` overwrites `first`.
template <class First, class Second>
struct overlaid {
  First first;
  Second second;
  template <class... Args>
  explicit overlaid(arena& memory, Args const&... args) : overlaid(memory, memory.here(), arena::position{}, args...) {}

 private:
  template <class... Args>
  overlaid(arena& memory, arena::position const& start, arena::position&& end, Args const&... args)
      : first(memory, args...), second((end = memory.back_to(start), memory), args...) {
    memory.on_behind(end);
  }
};

/// Bytes that `Pieces(arena&, args...)` cuts.
template <class Pieces, class... Args>
index_t workspace_size(Args const&... args) {
  arena count;
  Pieces pieces(count, args...);
  static_cast<void>(pieces);
  return count.size();
}

/// The pieces, cut from the caller's workspace. @throws hoft::workspace_error if it is too small.
template <class Pieces, class... Args>
Pieces carve(char const* function, workspace work, Args const&... args) {
  arena memory(work, arena::counting{});
  Pieces pieces(memory, args...);
  require_bytes(function, "work.size", work.size, memory.size());
  return pieces;
}

}  // namespace detail
}  // namespace HOFT_TARGET_NAMESPACE
