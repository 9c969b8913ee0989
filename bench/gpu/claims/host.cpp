// SPDX-License-Identifier: BSD-3-Clause
// host.cpp: the host in a GPU's place. The methods and their memory are the same; times are the host's and say nothing.
#include "methods.hpp"

#include "cuda_on_host/host.hpp"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>

namespace bench::gpu {
namespace {

class host_machine final : public machine {
 public:
  ~host_machine() override { release_free(); }
  std::string name() const override { return "the host in a GPU's place"; }
  bool emulated() const override { return true; }
  void copy(void* to, void const* from, index_t bytes) override { std::memcpy(to, from, std::size_t(bytes)); }
  double seconds(std::function<void()> const& pass) override {
    auto const start = std::chrono::steady_clock::now();
    pass();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  void* allocate(index_t bytes) override {
    void* const memory = std::malloc(std::size_t(bytes) + 1);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
  }
  void release(void* memory) override { std::free(memory); }
};

}  // namespace

std::string missing() { return ""; }
std::unique_ptr<machine> make_machine() { return std::make_unique<host_machine>(); }
std::vector<entry> const& list() {
  static std::vector<entry> const all = make_list([](machine&) { return hoft::cuda::host{}; });
  return all;
}

}  // namespace bench::gpu
