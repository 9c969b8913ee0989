// SPDX-License-Identifier: BSD-3-Clause
// Loads, stores and atomics.
#include "access.hpp"
#include "lower.hpp"

#include <algorithm>
#include <type_traits>

namespace emu {
namespace {

/// M: in memory, R: the register. Lanes whose generic addresses are of several spaces are done space by space.
template <int N, bool Write, class Access>
void in_spaces(warp& w, instruction const& i, u32 mask, u32 bytes, Access const& access) {
  places p;
  set_addresses<N>(w, i, p);
  check_alignment(w, p.address, mask, bytes);
  auto const space = where_to(i.flags & 15);
  while (mask != 0) {
    u32 now = mask;
    if (space == where_to::generic) {
      u64 const window = p.address[std::countr_zero(mask)] >> space_shift;
      for (u32 left = mask; left != 0; left &= left - 1)
        if (int const l = std::countr_zero(left); p.address[l] >> space_shift != window) now &= ~(1u << l);
    }
    find<Write>(w, p, now, bytes, space);
    access(p, now);
    mask &= ~now;
  }
}

template <class M, class R, int N>
void load(warp& w, instruction const& i, u32 mask) {
  in_spaces<N, false>(w, i, mask, sizeof(M) * N, [&](places const& p, u32 now) {
    for (int n = 0; n < N; ++n) {
      if (i.o[n] == no_operand) continue;
      R* const d = w.at<R>(i.o[n]);
      each_lane(now, [&](int l) {
        M value;
        std::memcpy(&value, p.at[l] + n * sizeof(M), sizeof(M));
        d[l] = R(value);
      });
    }
  });
}
template <class M, class R, int N>
void store(warp& w, instruction const& i, u32 mask) {
  in_spaces<N, true>(w, i, mask, sizeof(M) * N, [&](places const& p, u32 now) {
    for (int n = 0; n < N; ++n) {
      R const* const a = w.at<R>(i.o[n]);
      for (u32 left = now; left != 0; left &= left - 1) {  // in order: lanes may store to one place
        int const l = std::countr_zero(left);
        M const value = M(a[l]);
        std::memcpy(p.at[l] + n * sizeof(M), &value, sizeof(M));
      }
    }
  });
}

/// d := memory, memory := f(memory, a). Atomics do not race with each other; plain accesses beside them are not
/// checked.
template <class T, class F>
void atomic(warp& w, instruction const& i, u32 mask, F const& f) {
  places p;
  set_addresses<1>(w, i, p);
  check_alignment(w, p.address, mask, sizeof(T));
  auto space = where_to(i.flags & 15);
  if (space == where_to::generic) {
    space = p.address[std::countr_zero(mask)] >> space_shift == 4 ? where_to::shared : where_to::global;
    if (space == where_to::shared)
      for (auto& a : p.address) a &= ~shared_window;
  }
  if (space == where_to::global) find_global(w, p, mask, sizeof(T), "an atomic operation");
  else find_shared(w, p, mask, sizeof(T), "an atomic operation");
  static std::mutex mutex;
  std::lock_guard const lock(mutex);
  T const* const a = w.at<T>(i.o[2]);
  for (u32 left = mask; left != 0; left &= left - 1) {
    int const l = std::countr_zero(left);
    T old;
    std::memcpy(&old, p.at[l], sizeof(T));
    T const value = f(old, a[l]);
    std::memcpy(p.at[l], &value, sizeof(T));
    for (u32 e = 0; e < sizeof(T) / 2; ++e)
      if (p.shade[l][e].written == 0) p.shade[l][e].written = written_by_host;
    if (i.o[0] != no_operand) w.at<T>(i.o[0])[l] = old;
  }
}
template <auto F, class T>
void atomic_of(warp& w, instruction const& i, u32 mask) {
  atomic<T>(w, i, mask, [](T a, T b) { return T(F(a, b)); });
}

// --- choosing ---------------------------------------------------------------------------------------------------

template <class M, int N, bool Write>
void choose_register(lowering& in, u32 width) {
  auto const take = [&]<class R>(R) {
    if constexpr (sizeof(R) >= sizeof(M)) {
      if constexpr (Write) in.now.run = store<M, R, N>;
      else if constexpr (std::is_signed_v<M>) in.now.run = load<M, std::make_signed_t<R>, N>;
      else in.now.run = load<M, R, N>;
    } else {
      in.refuse("a register that is too narrow");
    }
  };
  if (width == 2) take(u16{});
  else if (width == 4) take(u32{});
  else if (width == 8) take(u64{});
  else in.refuse("a register's width");
}
template <int N, bool Write>
void choose(lowering& in, std::string const& type, u32 width) {
  if (type == "u8" || type == "b8") choose_register<u8, N, Write>(in, width);
  else if (type == "s8") choose_register<s8, N, Write>(in, width);
  else if (type == "u16" || type == "b16" || type == "f16" || type == "bf16") choose_register<u16, N, Write>(in, width);
  else if (type == "s16") choose_register<s16, N, Write>(in, width);
  else if (type == "u32" || type == "b32" || type == "f32") choose_register<u32, N, Write>(in, width);
  else if (type == "s32") choose_register<s32, N, Write>(in, width);
  else if (type == "u64" || type == "b64" || type == "f64" || type == "s64") choose_register<u64, N, Write>(in, width);
  else in.refuse("type");
}

}  // namespace

void lower_address(lowering& in, operand const& o) {
  if (o.is != operand::kind::memory) in.refuse("address");
  in.now.immediate = s64(o.bits);
  operand base = o;
  base.bits = 0;
  if (in.f.reg_by_name.contains(o.name)) {
    base.is = operand::kind::reg;
    u32 const width = in.width_of(base);
    if (width == 4) in.now.flags |= 16;
    else if (width != 8) in.refuse("address");
    in.use(base, width);
    return;
  }
  if (o.name.empty()) {
    in.use_literal(0, 8);
    return;
  }
  base.is = operand::kind::symbol;
  in.use(base, 8);
}

namespace {

/// What the parts between an opcode's name and its type say.
struct access_form {
  where_to space = where_to::generic;
  int count = 1;          ///< registers
  std::string operation;  ///< of an atomic
};
access_form form_of(lowering const& in, bool atomic) {
  // Caches and orders: memory is sequentially consistent here.
  static constexpr std::string_view silent[] = {"nc", "volatile", "relaxed", "weak", "ca",     "cg",
                                                "cs", "cta",      "gpu",     "sys",  "cluster"};
  access_form f;
  for (std::size_t n = 1; n + 1 < in.raw->parts.size(); ++n) {
    std::string const& part = in.part(n);
    if (part == "global" || part == "const") f.space = where_to::global;
    else if (part.starts_with("shared")) f.space = where_to::shared;
    else if (part == "local" && !atomic) f.space = where_to::local;
    else if (part.starts_with("param") && !atomic) f.space = where_to::param;
    else if (part == "v2" && !atomic) f.count = 2;
    else if (part == "v4" && !atomic) f.count = 4;
    else if (std::find(std::begin(silent), std::end(silent), part) != std::end(silent)) continue;
    else if (atomic && f.operation.empty()) f.operation = part;
    else in.refuse("." + part);
  }
  return f;
}

void lower_load_or_store(lowering& in, bool writes) {
  access_form const f = form_of(in, false);
  std::string const& type = in.last_part();
  operand const& value = in.op(writes ? 1 : 0);
  std::vector<operand> const values = value.is == operand::kind::list ? value.of : std::vector<operand>{value};
  if (int(values.size()) != f.count) in.refuse("number of registers");
  u32 width = 0;
  for (auto const& o : values)
    if (o.is == operand::kind::reg && o.name != "_") width = in.width_of(o);
  if (width == 0) width = std::max(2u, size_of_type(type));
  for (auto const& o : values) {
    if (writes) in.use(o, width);
    else if (o.name == "_") in.use_nothing();
    else in.define(o, width);
  }
  in.now.flags = u8(f.space);
  lower_address(in, in.op(writes ? 0 : 1));
  in.now.kind = f.space == where_to::shared  ? (writes ? kind_of::store_shared : kind_of::load_shared)
                : f.space == where_to::param ? kind_of::load_param
                : f.space == where_to::local ? kind_of::load_local
                                             : (writes ? kind_of::store_global : kind_of::load_global);
  if (writes) {
    if (f.count == 1) choose<1, true>(in, type, width);
    else if (f.count == 2) choose<2, true>(in, type, width);
    else choose<4, true>(in, type, width);
  } else {
    if (f.count == 1) choose<1, false>(in, type, width);
    else if (f.count == 2) choose<2, false>(in, type, width);
    else choose<4, false>(in, type, width);
  }
}

void lower_atomic(lowering& in, bool answers) {
  access_form const f = form_of(in, true);
  std::string const &what = f.operation, &type = in.last_part();
  u32 const width = size_of_type(type);
  if (answers) in.define(in.op(0), width);
  else in.use_nothing();
  in.now.flags = u8(f.space);
  lower_address(in, in.op(answers ? 1 : 0));
  in.use(in.op(answers ? 2 : 1), width);
  in.now.kind = kind_of::other;
  auto const take = [&]<class T>(T) {
    if (what == "add") in.now.run = atomic_of<[](T a, T b) { return a + b; }, T>;
    else if (what == "max") in.now.run = atomic_of<[](T a, T b) { return b < a ? a : b; }, T>;
    else if (what == "min") in.now.run = atomic_of<[](T a, T b) { return a < b ? a : b; }, T>;
    else if (what == "exch") in.now.run = atomic_of<[](T, T b) { return b; }, T>;
    else in.refuse("atomic");
  };
  if (type == "u32" || type == "b32") take(u32{});
  else if (type == "s32") take(s32{});
  else if (type == "u64" || type == "b64") take(u64{});
  else if (type == "s64") take(s64{});
  else if (type == "f32") take(float{});
  else if (type == "f64") take(double{});
  else in.refuse("type");
}

}  // namespace

bool lower_memory(lowering& in) {
  std::string const& name = in.part(0);
  if (name == "ld" || name == "ldu" || name == "st") lower_load_or_store(in, name == "st");
  else if (name == "atom" || name == "red") lower_atomic(in, name == "atom");
  else return false;
  return true;
}

}  // namespace emu
