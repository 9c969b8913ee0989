// SPDX-License-Identifier: BSD-3-Clause
// What nvcc put into a program: modules of PTX, kernels and variables.
#include "runtime.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace emu {
namespace {

/// An entry of a "fat binary": code of one kind for one architecture. These are the fields that matter here.
struct entry {
  u16 kind;  ///< 1: PTX
  u32 architecture;
  bool compressed;
  std::string_view text;
  u64 size;  ///< with its header
};
entry entry_at(u8 const* at) {
  auto const field = [at]<class T>(T value, int offset) {
    std::memcpy(&value, at + offset, sizeof(T));
    return value;
  };
  u32 const header = field(u32{}, 4), compressed = field(u32{}, 16);
  u64 const size = field(u64{}, 8), flags = field(u64{}, 40);
  entry e{field(u16{}, 0), field(u32{}, 28), compressed != 0 || (flags & 0xF000) != 0, {}, header + size};
  e.text = {reinterpret_cast<char const*>(at + header), std::size_t(size)};
  return e;
}

/// Of the PTX for what this device is, sm_90, or less, that for the most.
std::unique_ptr<loaded_module> load(u8 const* data) {
  auto m = std::make_unique<loaded_module>();
  m->missing = "it holds no PTX for sm_90 or less: compile for compute_90 (CMAKE_CUDA_ARCHITECTURES=90-virtual)";
  u16 header;
  u64 size;
  std::memcpy(&header, data + 6, 2), std::memcpy(&size, data + 8, 8);
  u32 best = 0;
  for (u64 at = header; at < header + size;) {
    entry const e = entry_at(data + at);
    at += e.size;
    if (e.kind != 1 || e.architecture > 90 || e.architecture < best) continue;
    best = e.architecture;
    if (e.compressed) {
      m->text.clear();
      m->missing = "its PTX is compressed: compile with nvcc --no-compress";
    } else {
      m->text = e.text.substr(0, e.text.find('\0'));
      m->missing.clear();
    }
  }
  return m;
}

}  // namespace

module& loaded_module::get() {
  if (!missing.empty()) {
    std::fprintf(stderr, "ptxemu: this program cannot be run: %s\n", missing.c_str());
    std::fflush(nullptr);
    _exit(2);
  }
  if (parsed == nullptr) parsed = parse_module(std::move(text));
  return *parsed;
}

kernel* kernel_of(void const* function) {
  state& a = all();
  auto const at = a.kernels.find(function);
  kernel* k = nullptr;
  if (at != a.kernels.end()) k = at->second.get();
  else if (a.handles.contains(static_cast<kernel const*>(function)))
    k = static_cast<kernel*>(const_cast<void*>(function));
  if (k == nullptr) return nullptr;
  if (k->source == nullptr) {
    auto& m = k->of->get();
    auto const f = m.functions.find(k->name);
    if (f == m.functions.end()) return nullptr;
    k->source = f->second.get();
  }
  return k;
}

u64 address_of_variable(module const& m, std::string const& name) {
  static std::unordered_map<module const*, std::unordered_map<std::string, u64>> known;
  auto& slot = known[&m][name];
  if (slot != 0) return slot;
  for (auto const& v : m.variables)
    if (v.name == name) {
      void* const at = memory_space::get().allocate(std::max<std::size_t>(v.size, 1), memory_kind::module);
      if (!v.bytes.empty()) std::memcpy(at, v.bytes.data(), v.bytes.size());
      memory_space::get().mark_written(at, std::size_t(v.size));
      slot = u64(at);
      for (auto const& [offset, symbol] : v.addresses) {
        u64 const value = address_of_variable(m, symbol);
        std::memcpy(static_cast<u8*>(at) + offset, &value, 8);
      }
      return known[&m][name];
    }
  return 0;
}

}  // namespace emu

using namespace emu;

extern "C" {

void** __cudaRegisterFatBinary(void* wrapper) {
  struct wrapper_type {
    int magic, version;
    u8 const* data;
    void* rest;
  };
  state& a = all();
  std::lock_guard const lock(a.mutex);
  a.modules.push_back(load(static_cast<wrapper_type const*>(wrapper)->data));
  return reinterpret_cast<void**>(a.modules.back().get());
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 1; }
void __cudaRegisterFunction(void** handle, char const* host, char*, char const* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  state& a = all();
  std::lock_guard const lock(a.mutex);
  auto k = std::make_unique<kernel>();
  k->of = reinterpret_cast<loaded_module*>(handle);
  k->name = name;
  a.handles.insert(k.get());
  a.kernels[host] = std::move(k);
}
void __cudaRegisterVar(void** handle, char* host, char*, char const* name, int, size_t, int, int) {
  all().variables[host] = {reinterpret_cast<loaded_module*>(handle), name};
}
void __cudaRegisterManagedVar(void**, void**, char*, char const* name, int, size_t, int, int) {
  std::fprintf(stderr, "ptxemu: managed variable %s is not supported\n", name);
}
cudaError_t cudaGetSymbolAddress(void** to, void const* symbol) {
  auto const at = all().variables.find(symbol);
  if (at == all().variables.end()) return answer(cudaErrorInvalidSymbol);
  u64 const address = address_of_variable(at->second.first->get(), at->second.second);
  if (address == 0) return answer(cudaErrorInvalidSymbol);
  *to = reinterpret_cast<void*>(address);
  return cudaSuccess;
}
cudaError_t cudaMemcpyToSymbol(void const* symbol, void const* from, size_t bytes, size_t offset, cudaMemcpyKind kind) {
  void* at = nullptr;
  if (cudaError_t const e = cudaGetSymbolAddress(&at, symbol); e != cudaSuccess) return e;
  return cudaMemcpy(static_cast<char*>(at) + offset, from, bytes, kind);
}
cudaError_t cudaMemcpyFromSymbol(void* to, void const* symbol, size_t bytes, size_t offset, cudaMemcpyKind kind) {
  void* at = nullptr;
  if (cudaError_t const e = cudaGetSymbolAddress(&at, symbol); e != cudaSuccess) return e;
  return cudaMemcpy(to, static_cast<char*>(at) + offset, bytes, kind);
}

}  // extern "C"
