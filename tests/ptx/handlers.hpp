// SPDX-License-Identifier: BSD-3-Clause
// What the handlers of single lanes are made of, and how an opcode's type chooses one of them.
//
// A handler is a template over the function of one lane and the types of its registers; each becomes vector loops, so
// few types are asked for: of a width where the sign does not matter, never of what PTX has no registers for.
#pragma once
#include "lanes.hpp"
#include "lower.hpp"

#include <initializer_list>
#include <type_traits>

namespace emu {

template <auto F, class D, class A>
void unary(warp& w, instruction const& i, u32 mask) {
  D* const d = w.at<D>(i.o[0]);
  A const* const a = w.at<A>(i.o[1]);
  assign(d, mask, [&](int l) { return D(F(a[l])); });
}
template <auto F, class D, class A, class B = A>
void binary(warp& w, instruction const& i, u32 mask) {
  D* const d = w.at<D>(i.o[0]);
  A const* const a = w.at<A>(i.o[1]);
  B const* const b = w.at<B>(i.o[2]);
  assign(d, mask, [&](int l) { return D(F(a[l], b[l])); });
}
template <auto F, class D, class A, class B = A, class C = D>
void ternary(warp& w, instruction const& i, u32 mask) {
  D* const d = w.at<D>(i.o[0]);
  A const* const a = w.at<A>(i.o[1]);
  B const* const b = w.at<B>(i.o[2]);
  C const* const c = w.at<C>(i.o[3]);
  assign(d, mask, [&](int l) { return D(F(a[l], b[l], c[l])); });
}

/// f(T{}) for the unsigned T of that many bytes.
template <class F>
void of_width(lowering const& in, u32 width, F const& f) {
  if (width == 2) f(u16{});
  else if (width == 4) f(u32{});
  else if (width == 8) f(u64{});
  else in.refuse("width");
}
/// f(T{}) for the T that a type names.
template <class F>
void of_integer_type(lowering const& in, std::string_view type, F const& f) {
  if (type == "u16" || type == "b16") f(u16{});
  else if (type == "s16") f(s16{});
  else if (type == "u32" || type == "b32") f(u32{});
  else if (type == "s32") f(s32{});
  else if (type == "u64" || type == "b64") f(u64{});
  else if (type == "s64") f(s64{});
  else in.refuse("type");
}
template <class F>
void of_real_type(lowering const& in, std::string_view type, F const& f) {
  if (type == "f32") f(float{});
  else if (type == "f64") f(double{});
  else in.refuse("type");
}
inline bool is_real(std::string_view type) { return type == "f32" || type == "f64"; }
inline bool is_signed(std::string_view type) { return type.starts_with('s'); }

/// A destination and sources of these widths.
inline void operands(lowering& in, u32 width_d, std::initializer_list<u32> widths) {
  in.define(in.op(0), width_d);
  std::size_t n = 1;
  for (u32 width : widths) in.use(in.op(n++), width);
}
/// Refuses parts of an opcode that change what it means, but for those that are allowed.
inline void no_modifiers(lowering& in, std::initializer_list<char const*> allowed) {
  for (std::size_t n = 1; n + 1 < in.raw->parts.size(); ++n) {
    bool known = false;
    for (char const* a : allowed) known = known || in.part(n) == a;
    if (!known) in.refuse("." + in.part(n));
  }
}

bool lower_integer(lowering& in);
bool lower_real(lowering& in);
bool lower_predicate(lowering& in);
bool lower_conversion(lowering& in);
bool lower_move(lowering& in);

}  // namespace emu
