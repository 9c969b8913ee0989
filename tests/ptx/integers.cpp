// SPDX-License-Identifier: BSD-3-Clause
// Integers, bits and shifts.
#include "handlers.hpp"

#include <algorithm>

namespace emu {
namespace {

/// For what must not be computed for lanes that are not there.
template <auto F, class T>
void careful_binary(warp& w, instruction const& i, u32 mask) {
  T* const d = w.at<T>(i.o[0]);
  T const* const a = w.at<T>(i.o[1]);
  T const* const b = w.at<T>(i.o[2]);
  each_lane_in_order(mask, [&](int l) { d[l] = F(a[l], b[l]); });
}

template <class T>
T shift_left(T a, u32 n) {
  return n >= sizeof(T) * 8 ? T(0) : T(a << n);
}
template <class T>
T shift_right(T a, u32 n) {
  constexpr u32 bits = sizeof(T) * 8;
  if (n >= bits) return std::is_signed_v<T> ? T(a >> (bits - 1)) : T(0);
  return T(a >> n);
}
template <class T>
T high_product(T a, T b) {
  if constexpr (sizeof(T) == 8) {
    if constexpr (std::is_signed_v<T>) return T((static_cast<s128>(a) * b) >> 64);
    else return T((static_cast<u128>(a) * b) >> 64);
  } else if constexpr (std::is_signed_v<T>) {
    return T((s64(a) * s64(b)) >> (sizeof(T) * 8));
  } else {
    return T((u64(a) * u64(b)) >> (sizeof(T) * 8));
  }
}
/// Division by zero gives all ones on a device, and a remainder the dividend; the least number by -1 wraps.
template <class T>
T quotient(T a, T b) {
  if (b == 0) return T(~T(0));
  if constexpr (std::is_signed_v<T>)
    if (b == -1) return T(0 - std::make_unsigned_t<T>(a));
  return T(a / b);
}
template <class T>
T remainder_of(T a, T b) {
  if (b == 0) return a;
  if constexpr (std::is_signed_v<T>)
    if (b == -1) return 0;
  return T(a % b);
}
/// The lowest n bits.
template <class U>
U low_bits(u32 n) {
  return n >= sizeof(U) * 8 ? U(~U(0)) : U((U(1) << n) - 1);
}
template <class T>
T insert_bits(T a, T b, u32 c, u32 d) {
  constexpr u32 bits = sizeof(T) * 8;
  u32 const at = c & 255, count = d & 255;
  if (at >= bits) return b;
  T const field = T(low_bits<T>(count) << at);
  return T((b & ~field) | ((a << at) & field));
}
/// Bits from `b` on, `c` of them. What lies beyond the last bit is the sign, which is the field's uppermost bit, or the
/// number's where the field goes beyond.
template <class T>
T extract_bits(T a, u32 b, u32 c) {
  using U = std::make_unsigned_t<T>;
  constexpr u32 bits = sizeof(T) * 8;
  u32 const at = b & 255, count = c & 255;
  U const there = low_bits<U>(std::min(count, bits - std::min(at, bits)));
  U const value = at >= bits ? U(0) : U(U(a) >> at);
  bool negative = false;
  if constexpr (std::is_signed_v<T>) negative = count != 0 && (U(a) >> std::min(at + count - 1, bits - 1) & 1) != 0;
  return T((value & there) | (negative ? U(~there) : U(0)));
}
u32 permute(u32 a, u32 b, u32 c) {
  u64 const both = u64(b) << 32 | a;
  u32 d = 0;
  for (int n = 0; n < 4; ++n) {
    u32 const s = c >> (4 * n) & 15;
    u32 byte = u32(both >> ((s & 7) * 8)) & 255;
    if ((s & 8) != 0) byte = (byte & 128) != 0 ? 255 : 0;
    d |= byte << (8 * n);
  }
  return d;
}
template <class T>
T reversed(T a) {
  T r = 0;
  for (std::size_t n = 0; n < sizeof(T) * 8; ++n) r |= T((a >> n & 1) << (sizeof(T) * 8 - 1 - n));
  return r;
}

/// Three inputs, each bit by a table: the exclusive sum of those products of inputs that make it.
void lop3(warp& w, instruction const& i, u32 mask) {
  u32* const d = w.at<u32>(i.o[0]);
  u32 const *a = w.at<u32>(i.o[1]), *b = w.at<u32>(i.o[2]), *c = w.at<u32>(i.o[3]);
  u32 term[8];
  for (u32 n = 0; n < 8; ++n) term[n] = (u32(i.immediate) >> n & 1) != 0 ? full_warp : 0;
  for (u32 bit = 1; bit < 8; bit *= 2)
    for (u32 n = 0; n < 8; ++n)
      if ((n & bit) != 0) term[n] ^= term[n - bit];
  assign(d, mask, [&](int l) {
    u32 const x = a[l], y = b[l], z = c[l];
    return term[0] ^ (z & (term[1] ^ (y & term[3]))) ^ (y & term[2]) ^
           (x & (term[4] ^ (z & (term[5] ^ (y & term[7]))) ^ (y & term[6])));
  });
}
template <class T>
void bfi(warp& w, instruction const& i, u32 mask) {
  T* const d = w.at<T>(i.o[0]);
  T const *a = w.at<T>(i.o[1]), *b = w.at<T>(i.o[2]);
  u32 const *c = w.at<u32>(i.o[3]), *e = w.at<u32>(i.o[4]);
  assign(d, mask, [&](int l) { return insert_bits<T>(a[l], b[l], c[l], e[l]); });
}
/// Funnel shifts: flags 1: to the right, 2: clamp.
void funnel(warp& w, instruction const& i, u32 mask) {
  u32* const d = w.at<u32>(i.o[0]);
  u32 const *a = w.at<u32>(i.o[1]), *b = w.at<u32>(i.o[2]), *c = w.at<u32>(i.o[3]);
  bool const right = (i.flags & 1) != 0, clamp = (i.flags & 2) != 0;
  assign(d, mask, [&](int l) {
    u32 const n = clamp ? std::min(c[l], 32u) : c[l] & 31;
    u64 const both = u64(b[l]) << 32 | a[l];
    return right ? u32(both >> n) : u32((both << n) >> 32);
  });
}

// --- choosing -----------------------------------------------------------------------------------------------------

void lower_sum(lowering& in, std::string const& name, std::string const& type, u32 width) {
  no_modifiers(in, {});
  operands(in, width, {width, width});
  if (name == "add")
    of_width(in, width, [&]<class T>(T) { in.now.run = binary<[](T a, T b) { return T(a + b); }, T, T>; });
  else if (name == "sub")
    of_width(in, width, [&]<class T>(T) { in.now.run = binary<[](T a, T b) { return T(a - b); }, T, T>; });
  else if (name == "min")
    of_integer_type(in, type, [&]<class T>(T) { in.now.run = binary<[](T a, T b) { return a < b ? a : b; }, T, T>; });
  else
    of_integer_type(in, type, [&]<class T>(T) { in.now.run = binary<[](T a, T b) { return b < a ? a : b; }, T, T>; });
}

/// mul and mad: the lower half of a product, the upper one, or all of it.
void lower_product(lowering& in, std::string const& type, u32 width, bool adds) {
  no_modifiers(in, {"lo", "hi", "wide"});
  std::string const& part = in.part(1);
  u32 const to = part == "wide" ? 2 * width : width;
  if (adds) operands(in, to, {width, width, to});
  else operands(in, to, {width, width});
  if (part == "lo") {
    of_width(in, width, [&]<class T>(T) {
      using W = std::conditional_t<sizeof(T) == 8, u64, u32>;  // unsigned where 16 bits would become an int
      if (adds) in.now.run = ternary<[](T a, T b, T c) { return T(W(a) * b + c); }, T, T>;
      else in.now.run = binary<[](T a, T b) { return T(W(a) * b); }, T, T>;
    });
  } else if (part == "hi") {
    of_integer_type(in, type, [&]<class T>(T) {
      using U = std::make_unsigned_t<T>;
      if (adds) in.now.run = ternary<[](T a, T b, T c) { return T(U(high_product(a, b)) + U(c)); }, T, T>;
      else in.now.run = binary<high_product<T>, T, T>;
    });
  } else {
    of_integer_type(in, type, [&]<class T>(T) {
      if constexpr (sizeof(T) == 8) {
        in.refuse("width");
      } else {
        using U = std::conditional_t<sizeof(T) == 4, u64, u32>;
        using W = std::conditional_t<std::is_signed_v<T>, std::make_signed_t<U>, U>;
        if (adds) in.now.run = ternary<[](T a, T b, U c) { return U(W(a) * W(b)) + c; }, U, T>;
        else in.now.run = binary<[](T a, T b) { return U(W(a) * W(b)); }, U, T>;
      }
    });
  }
}

void lower_bits(lowering& in, std::string const& name, u32 width) {
  if (name == "not") operands(in, width, {width});
  else operands(in, width, {width, width});
  of_width(in, width, [&]<class T>(T) {
    if (name == "and") in.now.run = binary<[](T a, T b) { return T(a & b); }, T, T>;
    else if (name == "or") in.now.run = binary<[](T a, T b) { return T(a | b); }, T, T>;
    else if (name == "xor") in.now.run = binary<[](T a, T b) { return T(a ^ b); }, T, T>;
    else in.now.run = unary<[](T a) { return T(~a); }, T, T>;
  });
}

bool lower_field(lowering& in, std::string const& name, std::string const& type, u32 width) {
  if (name == "bfi") {
    operands(in, width, {width, width, 4, 4});
    in.now.run = width == 4 ? bfi<u32> : bfi<u64>;
  } else if (name == "bfe") {
    operands(in, width, {width, 4, 4});
    of_integer_type(in, type, [&]<class T>(T) { in.now.run = ternary<extract_bits<T>, T, T, u32, u32>; });
  } else if (name == "prmt") {
    if (in.raw->parts.size() != 2) in.refuse("mode");
    operands(in, 4, {4, 4, 4});
    in.now.run = ternary<permute, u32, u32>;
  } else if (name == "lop3") {
    if (in.raw->operands.size() != 5 || in.raw->parts.size() != 2) in.refuse("predicate");
    operands(in, 4, {4, 4, 4});
    in.now.immediate = s64(in.op(4).bits);
    in.now.run = lop3;
  } else if (name == "clz" || name == "popc") {
    operands(in, 4, {width});
    bool const zeros = name == "clz";
    if (width == 4)
      in.now.run = zeros ? unary<[](u32 a) { return u32(std::countl_zero(a)); }, u32, u32>
                         : unary<[](u32 a) { return u32(std::popcount(a)); }, u32, u32>;
    else
      in.now.run = zeros ? unary<[](u64 a) { return u32(std::countl_zero(a)); }, u32, u64>
                         : unary<[](u64 a) { return u32(std::popcount(a)); }, u32, u64>;
  } else if (name == "brev") {
    operands(in, width, {width});
    in.now.run = width == 4 ? unary<reversed<u32>, u32, u32> : unary<reversed<u64>, u64, u64>;
  } else {
    return false;
  }
  return true;
}

}  // namespace

bool lower_integer(lowering& in) {
  std::string const& name = in.part(0);
  std::string const& type = in.last_part();
  if (is_real(type) || type == "pred") return false;
  auto const width = [&] { return size_of_type(type); };
  in.now.kind = kind_of::integer;
  if (name == "add" || name == "sub" || name == "min" || name == "max") {
    lower_sum(in, name, type, width());
  } else if (name == "mul" || name == "mad") {
    lower_product(in, type, width(), name == "mad");
  } else if (name == "div" || name == "rem") {
    no_modifiers(in, {});
    operands(in, width(), {width(), width()});
    of_integer_type(in, type, [&]<class T>(T) {
      in.now.run = name == "div" ? careful_binary<quotient<T>, T> : careful_binary<remainder_of<T>, T>;
    });
  } else if (name == "abs" || name == "neg") {
    if (type == "f16" || type == "bf16") return false;
    no_modifiers(in, {});
    operands(in, width(), {width()});
    of_width(in, width(), [&]<class U>(U) {
      using S = std::make_signed_t<U>;
      if (name == "abs") in.now.run = unary<[](U a) { return S(a) < 0 ? U(U(0) - a) : a; }, U, U>;
      else in.now.run = unary<[](U a) { return U(U(0) - a); }, U, U>;
    });
  } else if (name == "and" || name == "or" || name == "xor" || name == "not") {
    lower_bits(in, name, width());
  } else if (name == "shl") {
    operands(in, width(), {width(), 4});
    of_width(in, width(), [&]<class T>(T) { in.now.run = binary<shift_left<T>, T, T, u32>; });
  } else if (name == "shr") {
    operands(in, width(), {width(), 4});
    of_integer_type(in, type, [&]<class T>(T) { in.now.run = binary<shift_right<T>, T, T, u32>; });
  } else if (name == "shf") {
    operands(in, 4, {4, 4, 4});
    in.now.flags = u8((in.part(1) == "r" ? 1 : 0) | (in.part(2) == "clamp" ? 2 : 0));
    in.now.run = funnel;
  } else {
    static constexpr std::string_view fields[] = {"bfi", "bfe", "prmt", "lop3", "clz", "popc", "brev"};
    if (std::find(std::begin(fields), std::end(fields), name) == std::end(fields)) return false;
    return lower_field(in, name, type, name == "prmt" || name == "lop3" ? 4 : width());
  }
  return true;
}

}  // namespace emu
