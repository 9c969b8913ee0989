// SPDX-License-Identifier: BSD-3-Clause
// cvt.
#include "handlers.hpp"
#include "reals.hpp"

#include <cmath>

namespace emu {
namespace {

/// What `instruction::immediate` holds of conversions that go lane by lane: bytes of the types and of the registers
/// that hold them.
struct sizes {
  u8 to = 0, from = 0, to_register = 0, from_register = 0;
  bool to_signed = false, from_signed = false;
  u8 rounding = 0;  ///< 0 to nearest, 1 to zero, 2 down, 3 up
  bool from_real = false;
};
static_assert(sizeof(sizes) == 8);

template <class T>
T rounded(T x, int rounding) {
  return rounding == 0   ? std::nearbyint(x)
         : rounding == 1 ? std::trunc(x)
         : rounding == 2 ? std::floor(x)
                         : std::ceil(x);
}

/// The lower bits of a register as an N, extended by its sign to another register.
template <class N, class S, class R>
void extend(warp& w, instruction const& i, u32 mask) {
  R* const d = w.at<R>(i.o[0]);
  S const* const a = w.at<S>(i.o[1]);
  assign(d, mask, [&](int l) { return R(N(a[l])); });
}
template <class T>
void round_to_integral(warp& w, instruction const& i, u32 mask) {
  T* const d = w.at<T>(i.o[0]);
  T const* const a = w.at<T>(i.o[1]);
  assign(d, mask, [&](int l) { return rounded(a[l], i.count); });
}
template <bool Zero, bool Bf16>
u32 shorten(float x) {
  return Bf16 ? to_bf16(x, Zero) : to_f16(x, Zero);
}
template <bool Zero, bool Bf16>
u32 shorten_two(float a, float b) {
  return shorten<Zero, Bf16>(a) << 16 | shorten<Zero, Bf16>(b);
}

/// To integers with the nearest that the type has for numbers beyond it: of integers (.sat) and of reals.
void saturate(warp& w, instruction const& i, u32 mask) {
  auto const s = std::bit_cast<sizes>(i.immediate);
  u8* const to = w.at<u8>(i.o[0]);
  u8 const* const from = w.at<u8>(i.o[1]);
  int const bits = s.to * 8;
  s128 const high = (s128(1) << (s.to_signed ? bits - 1 : bits)) - 1, low = s.to_signed ? -high - 1 : 0;
  each_lane_in_order(mask, [&](int l) {
    u8 const* const at = from + l * s.from_register;
    s128 value = 0;
    if (s.from_real) {
      double x = 0;
      if (s.from == 4) {
        float narrow;
        std::memcpy(&narrow, at, 4);
        x = double(narrow);
      } else {
        std::memcpy(&x, at, 8);
      }
      x = rounded(x, s.rounding);
      if (x != x) value = s.to == 8 ? s128(1) << 63 : 0;
      else value = x <= double(low) ? low : x >= double(high) ? high : s128(x);
    } else {
      u64 number = 0;
      std::memcpy(&number, at, s.from);
      int const unused = 64 - s.from * 8;
      value = s.from_signed ? s128(s64(number << unused) >> unused) : s128(number);
      value = value < low ? low : value > high ? high : value;
    }
    u64 const out = u64(value);  // the register's upper bits are those of the number
    std::memcpy(to + l * s.to_register, &out, s.to_register);
  });
}

// --- choosing -----------------------------------------------------------------------------------------------------

struct request {
  std::string to, from, rounding;
  bool saturated = false;
};
bool real_of_any_width(std::string_view type) { return type.starts_with('f') || type.starts_with("bf"); }

request request_of(lowering const& in) {
  request r;
  std::vector<std::string> types;
  for (std::size_t n = 1; n < in.raw->parts.size(); ++n) {
    std::string const& part = in.part(n);
    if (part == "rn" || part == "rz" || part == "rm" || part == "rp" || part == "rni" || part == "rzi" ||
        part == "rmi" || part == "rpi")
      r.rounding = part;
    else if (part == "sat") r.saturated = true;
    else if (part == "ftz" || part == "relu" || part == "satfinite") in.refuse("." + part);
    else types.push_back(part);
  }
  if (types.size() != 2) in.refuse("types");
  r.to = types[0], r.from = types[1];
  return r;
}
u8 rounding_of(std::string_view name) {
  return name.starts_with("rn") ? 0 : name.starts_with("rz") ? 1 : name.starts_with("rm") ? 2 : 3;
}

/// f(T{}) for the integer of so many bytes.
template <class F>
void of_size(lowering const& in, u32 bytes, bool sign, F const& f) {
  if (bytes == 1) sign ? f(s8{}) : f(u8{});
  else if (bytes == 2) sign ? f(s16{}) : f(u16{});
  else if (bytes == 4) sign ? f(s32{}) : f(u32{});
  else if (bytes == 8) f(u64{});
  else in.refuse("width");
}

void lower_saturation(lowering& in, request const& r, bool from_real) {
  sizes s;
  s.to = u8(size_of_type(r.to)), s.from = u8(size_of_type(r.from));
  s.to_signed = is_signed(r.to), s.from_signed = is_signed(r.from), s.from_real = from_real;
  s.rounding = rounding_of(r.rounding);
  in.define_wide(in.op(0), s.to);
  bool const is_register = in.op(1).is == operand::kind::reg;
  s.to_register = u8(in.width_of(in.op(0))), s.from_register = is_register ? u8(in.width_of(in.op(1))) : s.from;
  if (s.from_register < s.from || (from_real && s.from_register != s.from)) in.refuse("width of source");
  in.use(in.op(1), s.from_register);
  in.now.immediate = std::bit_cast<s64>(s);
  in.now.run = saturate;
}

void lower_integer_to_integer(lowering& in, request const& r) {
  u32 const to = size_of_type(r.to), from = size_of_type(r.from);
  in.define_wide(in.op(0), to);
  u32 const holder = in.width_of(in.op(0));
  // A register wider than its type is read by its lower bits.
  u32 const source = in.op(1).is == operand::kind::reg ? in.width_of(in.op(1)) : from;
  if (source < from) in.refuse("width of source");
  in.use(in.op(1), source);
  // Cut to the narrower type, then extended: by the sign of what was cut to, or of what there was.
  bool const widens = to > from, sign = is_signed(widens ? r.from : r.to);
  if (widens && sign && !is_signed(r.to) && holder > to) in.refuse("a register wider than the type");
  u32 const kept = std::min({to, from, holder});
  of_width(in, source, [&]<class S>(S) {
    of_width(in, holder, [&]<class R>(R) {
      of_size(in, kept, sign && kept < holder, [&]<class N>(N) {
        if constexpr (sizeof(N) <= sizeof(S) && sizeof(N) <= sizeof(R)) in.now.run = extend<N, S, R>;
        else in.refuse("width");
      });
    });
  });
}

void lower_integer_to_real(lowering& in, request const& r) {
  u32 const to = size_of_type(r.to), from = size_of_type(r.from);
  if (r.rounding != "rn") in.refuse("rounding");
  operands(in, to, {from});
  of_integer_type(in, r.from, [&]<class A>(A) {
    if (r.to == "f32") in.now.run = unary<[](A a) { return float(a); }, float, A>;
    else if (r.to == "f64") in.now.run = unary<[](A a) { return double(a); }, double, A>;
    else if constexpr (sizeof(A) > 2) in.refuse("double rounding");
    else if (r.to == "f16") in.now.run = unary<[](A a) { return to_f16(float(a), false); }, u16, A>;
    else in.now.run = unary<[](A a) { return to_bf16(float(a), false); }, u16, A>;
  });
}

void lower_real_to_real(lowering& in, request const& r) {
  operands(in, size_of_type(r.to), {size_of_type(r.from)});
  auto const is = [&](char const* to, char const* from) { return r.to == to && r.from == from; };
  bool const nearest = r.rounding == "rn", zero = r.rounding == "rz";
  auto& run = in.now.run;
  if (r.to == r.from && r.rounding.ends_with("i")) {
    of_real_type(in, r.to, [&]<class T>(T) { run = round_to_integral<T>; });
    return;
  }
  if (is("f64", "f32")) run = unary<[](float a) { return double(a); }, double, float>;
  else if (is("f32", "f64") && nearest) run = unary<[](double a) { return canonical(float(a)); }, float, double>;
  else if (is("f32", "f16")) run = unary<[](u16 a) { return from_f16(a); }, float, u16>;
  else if (is("f32", "bf16")) run = unary<[](u16 a) { return from_bf16(a); }, float, u16>;
  else if (is("f16", "f32") && nearest) run = unary<shorten<false, false>, u16, float>;
  else if (is("f16", "f32") && zero) run = unary<shorten<true, false>, u16, float>;
  else if (is("bf16", "f32") && nearest) run = unary<shorten<false, true>, u16, float>;
  else if (is("bf16", "f32") && zero) run = unary<shorten<true, true>, u16, float>;
  else if (is("f64", "f16")) run = unary<[](u16 a) { return double(from_f16(a)); }, double, u16>;
  else if (is("f64", "bf16")) run = unary<[](u16 a) { return double(from_bf16(a)); }, double, u16>;
  else in.refuse("conversion");
}

void lower_pair(lowering& in, request const& r) {
  bool const zero = r.rounding == "rz";
  if (r.from != "f32" || (r.rounding != "rn" && !zero) || r.saturated) in.refuse("conversion");
  operands(in, 4, {4, 4});
  auto& run = in.now.run;
  if (r.to == "bf16x2")
    run = zero ? binary<shorten_two<true, true>, u32, float> : binary<shorten_two<false, true>, u32, float>;
  else run = zero ? binary<shorten_two<true, false>, u32, float> : binary<shorten_two<false, false>, u32, float>;
}

}  // namespace

bool lower_conversion(lowering& in) {
  if (in.part(0) != "cvt") return false;
  request const r = request_of(in);
  in.now.kind = kind_of::conversion;
  in.now.count = rounding_of(r.rounding);
  if (r.to == "bf16x2" || r.to == "f16x2") {
    lower_pair(in, r);
    return true;
  }
  bool const real_to = real_of_any_width(r.to), real_from = real_of_any_width(r.from);
  if (real_to && r.saturated) in.refuse(".sat");
  if (real_from && !real_to) {
    if (!is_real(r.from)) in.refuse("source");
    lower_saturation(in, r, true);
  } else if (real_to) {
    if (real_from) lower_real_to_real(in, r);
    else lower_integer_to_real(in, r);
  } else if (r.saturated) {
    lower_saturation(in, r, false);
  } else {
    lower_integer_to_integer(in, r);
  }
  return true;
}

}  // namespace emu
