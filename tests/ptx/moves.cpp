// SPDX-License-Identifier: BSD-3-Clause
// Moves: of registers and their parts, of special registers, and between the windows of generic addresses.
#include "handlers.hpp"

#include <chrono>

namespace emu {
namespace {

/// mov of several parts: {a, b} to one register or back.
template <class Whole, class Part>
void pack(warp& w, instruction const& i, u32 mask) {
  Whole* const d = w.at<Whole>(i.o[0]);
  each_lane_in_order(mask, [&](int l) {
    Whole value = 0;
    for (std::size_t n = 0; n < sizeof(Whole) / sizeof(Part); ++n)
      value |= Whole(w.at<Part>(i.o[1 + n])[l]) << (n * sizeof(Part) * 8);
    d[l] = value;
  });
}
template <class Whole, class Part>
void unpack(warp& w, instruction const& i, u32 mask) {
  constexpr std::size_t parts = sizeof(Whole) / sizeof(Part);
  Whole const* const a = w.at<Whole>(i.o[parts]);
  each_lane_in_order(mask, [&](int l) {
    Whole const value = a[l];
    for (std::size_t n = 0; n < parts; ++n)
      if (i.o[n] != no_operand) w.at<Part>(i.o[n])[l] = Part(value >> (n * sizeof(Part) * 8));
  });
}

enum class special : u8 {
  tid,
  ntid,
  ctaid,
  nctaid,
  laneid,
  warpid,
  nwarpid,
  cluster_ctarank,
  cluster_nctarank,
  cluster_ctaid,
  cluster_nctaid,
  clusterid,
  nclusterid,
  lanemask_lt,
  lanemask_le,
  lanemask_eq,
  lanemask_ge,
  lanemask_gt,
  dynamic_smem,
  total_smem,
  zero,
  clock
};
template <class T>
void read_special(warp& w, instruction const& i, u32 mask) {
  T* const d = w.at<T>(i.o[0]);
  block const& b = *w.in;
  launch const& l = *b.of->of;
  int const axis = i.count;
  auto const along = [axis](u32 x, u32 y, u32 z) { return axis == 0 ? x : axis == 1 ? y : z; };
  auto const uniform = [&](u64 value) { assign(d, mask, [&](int) { return T(value); }); };
  auto const by_lane = [&](auto const& f) { assign(d, mask, [&](int lane) { return T(f(u32(lane))); }); };
  switch (special(i.flags)) {
    case special::tid:
      return by_lane([&](u32 lane) {
        u32 const t = w.index * 32 + lane;
        return along(t % l.threads.x, t / l.threads.x % l.threads.y, t / (l.threads.x * l.threads.y));
      });
    case special::ntid:
      return uniform(along(l.threads.x, l.threads.y, l.threads.z));
    case special::ctaid:
      return uniform(along(b.x, b.y, b.z));
    case special::nctaid:
      return uniform(along(l.grid.x, l.grid.y, l.grid.z));
    case special::laneid:
      return by_lane([](u32 lane) { return lane; });
    case special::warpid:
      return uniform(w.index);
    case special::nwarpid:
      return uniform(b.warps.size());
    case special::cluster_ctarank:
      return uniform(b.rank);
    case special::cluster_nctarank:
      return uniform(l.cluster);
    case special::cluster_ctaid:
      return uniform(along(b.rank, 0, 0));
    case special::cluster_nctaid:
      return uniform(along(l.cluster, 1, 1));
    case special::clusterid:
      return uniform(along(b.x / l.cluster, b.y, b.z));
    case special::nclusterid:
      return uniform(along(l.grid.x / l.cluster, l.grid.y, l.grid.z));
    case special::lanemask_lt:
      return by_lane([](u32 lane) { return (1u << lane) - 1; });
    case special::lanemask_le:
      return by_lane([](u32 lane) { return (2u << lane) - 1; });
    case special::lanemask_eq:
      return by_lane([](u32 lane) { return 1u << lane; });
    case special::lanemask_ge:
      return by_lane([](u32 lane) { return ~((1u << lane) - 1); });
    case special::lanemask_gt:
      return by_lane([](u32 lane) { return ~((2u << lane) - 1); });
    case special::dynamic_smem:
      return uniform(l.dynamic_shared);
    case special::total_smem:
      return uniform(b.shared_end);
    case special::zero:
      return uniform(0);
    case special::clock:
      return uniform(u64(std::chrono::steady_clock::now().time_since_epoch().count()));
  }
}
bool is_special(std::string const& name, special& which, int& axis) {
  static std::unordered_map<std::string, special> const names = {{"%tid", special::tid},
                                                                 {"%ntid", special::ntid},
                                                                 {"%ctaid", special::ctaid},
                                                                 {"%nctaid", special::nctaid},
                                                                 {"%laneid", special::laneid},
                                                                 {"%warpid", special::warpid},
                                                                 {"%nwarpid", special::nwarpid},
                                                                 {"%cluster_ctarank", special::cluster_ctarank},
                                                                 {"%cluster_nctarank", special::cluster_nctarank},
                                                                 {"%cluster_ctaid", special::cluster_ctaid},
                                                                 {"%cluster_nctaid", special::cluster_nctaid},
                                                                 {"%clusterid", special::clusterid},
                                                                 {"%nclusterid", special::nclusterid},
                                                                 {"%lanemask_lt", special::lanemask_lt},
                                                                 {"%lanemask_le", special::lanemask_le},
                                                                 {"%lanemask_eq", special::lanemask_eq},
                                                                 {"%lanemask_ge", special::lanemask_ge},
                                                                 {"%lanemask_gt", special::lanemask_gt},
                                                                 {"%dynamic_smem_size", special::dynamic_smem},
                                                                 {"%total_smem_size", special::total_smem},
                                                                 {"%smid", special::zero},
                                                                 {"%clock", special::clock},
                                                                 {"%clock64", special::clock},
                                                                 {"%globaltimer", special::clock}};
  std::string base = name;
  axis = 0;
  if (auto const dot = name.find('.'); dot != std::string::npos) {
    base = name.substr(0, dot);
    axis = name[dot + 1] - 'x';
  }
  auto const at = names.find(base);
  if (at == names.end()) return false;
  which = at->second;
  return true;
}

// --- choosing -----------------------------------------------------------------------------------------------------

void lower_pack(lowering& in, u32 width) {
  operand const &d = in.op(0), &a = in.op(1);
  u32 const part = width / u32(a.of.size());
  in.define(d, width);
  for (auto const& o : a.of) in.use(o, part);
  if (width == 8 && part == 4) in.now.run = pack<u64, u32>;
  else if (width == 4 && part == 2) in.now.run = pack<u32, u16>;
  else if (width == 8 && part == 2) in.now.run = pack<u64, u16>;
  else in.refuse("packing");
}
void lower_unpack(lowering& in, u32 width) {
  operand const &d = in.op(0), &a = in.op(1);
  u32 const part = width / u32(d.of.size());
  for (auto const& o : d.of) {
    if (o.name == "_") in.use_nothing();
    else in.define(o, part);
  }
  in.use(a, width);
  if (width == 8 && part == 4) in.now.run = unpack<u64, u32>;
  else if (width == 4 && part == 2) in.now.run = unpack<u32, u16>;
  else if (width == 8 && part == 2) in.now.run = unpack<u64, u16>;
  else in.refuse("unpacking");
}
void lower_special(lowering& in, u32 width) {
  special which{};
  int axis = 0;
  if (!is_special(in.op(1).name, which, axis)) in.refuse("special register " + in.op(1).name);
  in.define(in.op(0), width);
  in.now.kind = kind_of::special;
  in.now.flags = u8(which), in.now.count = u8(axis);
  of_width(in, width, [&]<class T>(T) { in.now.run = read_special<T>; });
}

/// Windows of generic addresses: shared and local addresses are offsets in theirs.
void lower_cvta(lowering& in) {
  bool const to = in.part(1) == "to";
  std::string const& space = in.part(to ? 2 : 1);
  operands(in, 8, {8});
  in.now.kind = kind_of::integer;
  auto& run = in.now.run;
  if (space == "global" || space == "const" || space == "param") run = unary<[](u64 a) { return a; }, u64, u64>;
  else if (to && (space.starts_with("shared") || space == "local"))
    run = unary<[](u64 a) { return a & 0xFFFFFFFFu; }, u64, u64>;
  else if (space.starts_with("shared")) run = unary<[](u64 a) { return a | shared_window; }, u64, u64>;
  else if (space == "local") run = unary<[](u64 a) { return a | local_window; }, u64, u64>;
  else in.refuse("space");
}
void lower_mapa(lowering& in) {
  bool const generic = in.part(1) != "shared::cluster";
  u32 const width = size_of_type(in.last_part());
  operands(in, width, {width, 4});
  in.now.kind = kind_of::integer;
  if (generic && width == 8)
    in.now.run = binary<[](u64 a, u32 rank) { return (a & ~u64{0xFF000000u}) | u64(rank + 1) << 24; }, u64, u64, u32>;
  else if (!generic && width == 4)
    in.now.run = binary<[](u32 a, u32 rank) { return (a & 0x00FFFFFFu) | (rank + 1) << 24; }, u32, u32, u32>;
  else in.refuse("form");
}

}  // namespace

bool lower_move(lowering& in) {
  std::string const& name = in.part(0);
  if (name == "cvta") return lower_cvta(in), true;
  if (name == "mapa") return lower_mapa(in), true;
  if (name != "mov" || in.last_part() == "pred") return false;
  operand const &d = in.op(0), &a = in.op(1);
  u32 const width = size_of_type(in.last_part());
  in.now.kind = kind_of::move;
  if (a.is == operand::kind::list) return lower_pack(in, width), true;
  if (d.is == operand::kind::list) return lower_unpack(in, width), true;
  if (a.is == operand::kind::reg && !in.f.reg_by_name.contains(a.name)) return lower_special(in, width), true;
  in.define(d, width);
  in.use(a, width);
  of_width(in, width, [&]<class T>(T) { in.now.run = unary<[](T x) { return x; }, T, T>; });
  return true;
}

}  // namespace emu
