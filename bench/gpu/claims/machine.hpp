// SPDX-License-Identifier: BSD-3-Clause
// machine.hpp: where the methods compute: a GPU, or the host in its place. Nothing of CUDA's headers.
#pragma once
#include <hoft/view/matrix_view.hpp>
#include <hoft/memory/arena.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace bench::gpu {

using hoft::index_t;
using hoft::matrix_view;

class machine {
 public:
  machine() = default;
  machine(machine const&) = delete;
  machine& operator=(machine const&) = delete;
  virtual ~machine() = default;

  virtual std::string name() const = 0;
  /// Whether it stands in a GPU's place: then no time is one.
  virtual bool emulated() const = 0;
  /// Between the machine and the host, or within one of them; when it returns, it has been done.
  virtual void copy(void* to, void const* from, index_t bytes) = 0;
  /// What the machine needs for a pass, not the host for submitting it.
  virtual double seconds(std::function<void()> const& pass) = 0;

  /// Memory that was given back is lent again to the next who wants as much: a pass that runs a second time asks the
  /// device for none, and all work is in one stream, so that nobody still uses it.
  void* take(index_t bytes) {
    in_use_ += bytes;
    peak_ = std::max(peak_, in_use_);
    if (auto const found = free_.find(bytes); found != free_.end()) {
      void* const memory = found->second;
      free_.erase(found);
      return memory;
    }
    return allocate(bytes);
  }
  void give_back(void* memory, index_t bytes) {
    in_use_ -= bytes;
    free_.emplace(bytes, memory);
  }
  index_t in_use() const { return in_use_; }
  /// The most in use since the last call of forget_peak.
  index_t peak() const { return peak_; }
  void forget_peak() { peak_ = in_use_; }
  /// Releases what was given back.
  void release_free() {
    for (auto const& [bytes, memory] : free_) release(memory);
    free_.clear();
  }

 protected:
  virtual void* allocate(index_t bytes) = 0;
  virtual void release(void* memory) = 0;

 private:
  std::multimap<index_t, void*> free_;
  index_t in_use_ = 0, peak_ = 0;
};

/// The machine of this program; `missing` says why there is none.
std::unique_ptr<machine> make_machine();
std::string missing();

/// Memory of a machine.
class memory {
 public:
  memory() = default;
  memory(machine& owner, index_t bytes) : owner_(&owner), bytes_(bytes), data_(owner.take(bytes)) {}
  memory(memory&& other) noexcept { swap(other); }
  memory& operator=(memory&& other) noexcept {
    memory(std::move(other)).swap(*this);
    return *this;
  }
  ~memory() {
    if (owner_ != nullptr) owner_->give_back(data_, bytes_);
  }
  void swap(memory& other) noexcept {
    std::swap(owner_, other.owner_);
    std::swap(bytes_, other.bytes_);
    std::swap(data_, other.data_);
  }
  hoft::workspace work() const { return {static_cast<std::byte*>(data_), bytes_}; }
  float* numbers() const { return static_cast<float*>(data_); }

 private:
  machine* owner_ = nullptr;
  index_t bytes_ = 0;
  void* data_ = nullptr;
};

/// A matrix in memory of a machine.
class matrix {
 public:
  matrix() = default;
  matrix(machine& owner, index_t rows, index_t cols)
      : memory_(owner, rows * cols * index_t(sizeof(float))), rows_(rows), cols_(cols) {}
  matrix_view<float> view() const { return {memory_.numbers(), rows_, cols_}; }
  matrix_view<float const> fixed() const { return view(); }

 private:
  memory memory_;
  index_t rows_ = 0, cols_ = 0;
};

}  // namespace bench::gpu
