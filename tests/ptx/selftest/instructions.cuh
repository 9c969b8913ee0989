// SPDX-License-Identifier: BSD-3-Clause
// Single instructions against C++, on numbers that are usual and on those at the ends of their types.
#pragma once
#include "check.cuh"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace instructions {

using u16 = std::uint16_t;
using s16 = std::int16_t;
using u32 = std::uint32_t;
using s32 = std::int32_t;
using u64 = unsigned long long;
using s64 = long long;

constexpr int count = 512;

template <class T>
std::vector<T> numbers(unsigned seed) {
  std::mt19937_64 engine(seed);
  std::vector<T> ends, all;
  if constexpr (std::is_floating_point_v<T>) {
    using limits = std::numeric_limits<T>;
    ends = {T(0),
            T(-0.0),
            T(1),
            T(-1),
            T(0.5),
            T(1.5),
            T(2.5),
            T(-2.5),
            limits::infinity(),
            -limits::infinity(),
            limits::quiet_NaN(),
            limits::max(),
            limits::denorm_min(),
            T(2147483648.0),
            T(-2147483648.0),
            T(4294967296.0),
            T(-9.3e18),
            T(9.3e18),
            T(1.9e19),
            T(65535.4),
            T(65504),
            T(70000),
            T(-127.5),
            T(3e-6),
            T(6e-8)};
  } else {
    using limits = std::numeric_limits<T>;
    ends = {T(0),
            T(1),
            T(2),
            T(3),
            T(31),
            T(32),
            T(33),
            T(64),
            T(-1),
            T(-2),
            limits::min(),
            limits::max(),
            T(limits::max() / 2)};
  }
  for (int i = 0; i < count; ++i) {
    if (engine() % 2 == 0) all.push_back(ends[engine() % ends.size()]);
    else if constexpr (std::is_floating_point_v<T>)
      all.push_back(T(s64(engine()) >> engine() % 60) / T(1 + engine() % 7));
    else all.push_back(T(engine() >> engine() % 60));
  }
  return all;
}

template <class D, class A, class B, class F>
__global__ void run(D* d, A const* a, B const* b, F f) {
  d[threadIdx.x] = f(a[threadIdx.x], b[threadIdx.x]);
}

template <class D, class A, class B, class F, class G>
void same(char const* text, F instruction, G expected) {
  auto const a = numbers<A>(1);
  auto const b = numbers<B>(2);
  D* const d = device_copy(std::vector<D>(count));
  run<<<1, count>>>(d, device_copy(a), device_copy(b), instruction);
  auto const got = host_copy(d, count);
  for (int i = 0; i < count; ++i) {
    D const want = expected(a[i], b[i]);
    if (std::memcmp(&want, &got[i], sizeof(D)) == 0) continue;
    std::printf("%s of %.17g and %.17g: %.17g, not %.17g\n", text, double(a[i]), double(b[i]), double(got[i]),
                double(want));
    std::exit(1);
  }
}

// a, b: what the instruction reads as %1 and %2; each type with the letter of its registers.
#define INSTRUCTION(D, d, A, x, B, y, text, ...) \
  same<D, A, B>(                                 \
      text,                                      \
      [] __device__(A a, B b) {                  \
        D r;                                     \
        asm(text : "=" d(r) : x(a), y(b));       \
        return r;                                \
      },                                         \
      [](A a, B b) -> D { return __VA_ARGS__; })

#define COMPARISON(name, type, T, t, ...)                                                                        \
  INSTRUCTION(u32, "r", T, t, T, t, "{ .reg .pred p; setp." name "." type " p, %1, %2; selp.u32 %0, 1, 0, p; }", \
              (__VA_ARGS__) ? 1 : 0)

template <class T>
bool unordered(T a, T b) {
  return std::isnan(a) || std::isnan(b);
}
#define COMPARISONS_OF_INTEGERS(type, T, t, less, at_most, more, at_least) \
  COMPARISON("eq", type, T, t, a == b);                                    \
  COMPARISON("ne", type, T, t, a != b);                                    \
  COMPARISON(less, type, T, t, a < b);                                     \
  COMPARISON(at_most, type, T, t, a <= b);                                 \
  COMPARISON(more, type, T, t, a > b);                                     \
  COMPARISON(at_least, type, T, t, a >= b)
#define COMPARISONS_OF_REALS(type, T, t)                    \
  COMPARISON("eq", type, T, t, a == b);                     \
  COMPARISON("ne", type, T, t, a != b && !unordered(a, b)); \
  COMPARISON("lt", type, T, t, a < b);                      \
  COMPARISON("le", type, T, t, a <= b);                     \
  COMPARISON("gt", type, T, t, a > b);                      \
  COMPARISON("ge", type, T, t, a >= b);                     \
  COMPARISON("equ", type, T, t, a == b || unordered(a, b)); \
  COMPARISON("neu", type, T, t, a != b);                    \
  COMPARISON("ltu", type, T, t, a < b || unordered(a, b));  \
  COMPARISON("leu", type, T, t, a <= b || unordered(a, b)); \
  COMPARISON("gtu", type, T, t, a > b || unordered(a, b));  \
  COMPARISON("geu", type, T, t, a >= b || unordered(a, b)); \
  COMPARISON("num", type, T, t, !unordered(a, b));          \
  COMPARISON("nan", type, T, t, unordered(a, b))

inline void test_comparisons() {
  COMPARISONS_OF_REALS("f32", float, "f");
  COMPARISONS_OF_REALS("f64", double, "d");
  COMPARISONS_OF_INTEGERS("s32", s32, "r", "lt", "le", "gt", "ge");
  COMPARISONS_OF_INTEGERS("u32", u32, "r", "lo", "ls", "hi", "hs");
  COMPARISONS_OF_INTEGERS("s64", s64, "l", "lt", "le", "gt", "ge");
  COMPARISONS_OF_INTEGERS("u64", u64, "l", "lt", "le", "gt", "ge");
  COMPARISONS_OF_INTEGERS("s16", s16, "h", "lt", "le", "gt", "ge");
  COMPARISON("lt", "u16", u16, "h", a < b);
}

/// Bits from `at` on, one by one as PTX defines bfe: beyond the number and the field lies the sign.
template <class T>
T field_of(T x, u32 at, u32 bits) {
  at &= 255, bits &= 255;
  u32 const last = u32(sizeof(T) * 8) - 1;
  bool const sign = std::is_signed_v<T> && bits > 0 && (u64(x) >> std::min(at + bits - 1, last) & 1) != 0;
  u64 value = 0;
  for (u32 n = 0; n <= last; ++n)
    if (n < bits && at + n <= last ? (u64(x) >> (at + n) & 1) != 0 : sign) value |= u64{1} << n;
  return T(value);
}
template <class T>
T with_field(T field, T in, u32 at, u32 bits) {
  at &= 255, bits &= 255;
  for (u32 n = 0; n < bits && at + n < sizeof(T) * 8; ++n)
    in = T((u64(in) & ~(u64{1} << (at + n))) | (u64(field) >> n & 1) << (at + n));
  return in;
}
inline u32 by_table(u32 a, u32 b, u32 c, u32 table) {
  u32 d = 0;
  for (int n = 0; n < 32; ++n) d |= (table >> ((a >> n & 1) * 4 + (b >> n & 1) * 2 + (c >> n & 1)) & 1) << n;
  return d;
}

inline void test_bits() {
  INSTRUCTION(s32, "r", s32, "r", u32, "r", "bfe.s32 %0, %1, %2, 7;", field_of(a, b, 7));
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "bfe.u32 %0, %1, %2, 12;", field_of(a, b, 12));
  INSTRUCTION(s64, "l", s64, "l", u32, "r", "bfe.s64 %0, %1, 5, %2;", field_of(a, 5, b));
  INSTRUCTION(u64, "l", u64, "l", u32, "r", "bfe.u64 %0, %1, 60, %2;", field_of(a, 60, b));
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "bfi.b32 %0, %1, %2, 20, %2;", with_field(a, b, 20, b));
  INSTRUCTION(u64, "l", u64, "l", u32, "r", "bfi.b64 %0, %1, 1234567, %2, 9;", with_field<u64>(a, 1234567, b, 9));
#define TABLE(t) \
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "lop3.b32 %0, %1, %2, 0x1234ABCD, " #t ";", by_table(a, b, 0x1234ABCD, t))
  TABLE(0x01);
  TABLE(0x02);
  TABLE(0x04);
  TABLE(0x08);
  TABLE(0x10);
  TABLE(0x20);
  TABLE(0x40);
  TABLE(0x80);
  TABLE(0x96);
  TABLE(0xE8);
  TABLE(0x1B);
  TABLE(0xFE);
#undef TABLE
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "shl.b32 %0, %1, %2;", b > 31 ? 0 : a << b);
  INSTRUCTION(s32, "r", s32, "r", u32, "r", "shr.s32 %0, %1, %2;", a >> std::min(b, 31u));
  INSTRUCTION(u64, "l", u64, "l", u32, "r", "shr.u64 %0, %1, %2;", b > 63 ? 0 : a >> b);
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "shf.l.wrap.b32 %0, 77, %1, %2;",
              u32(((u64(a) << 32 | 77) << (b & 31)) >> 32));
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "shf.r.clamp.b32 %0, 77, %1, %2;",
              u32((u64(a) << 32 | 77) >> std::min(b, 32u)));
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "prmt.b32 %0, %1, %2, 0x3715;",
              (a >> 24) << 24 | (b >> 24) << 16 | (a >> 8 & 255) << 8 | (b >> 8 & 255));
  INSTRUCTION(u32, "r", u64, "l", u32, "r", "popc.b64 %0, %1;", u32(__builtin_popcountll(a)));
}

inline void test_products() {
  INSTRUCTION(s32, "r", s32, "r", s32, "r", "mul.hi.s32 %0, %1, %2;", s32((s64(a) * b) >> 32));
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "mul.lo.u32 %0, %1, %2;", a * b);
  INSTRUCTION(s64, "l", s32, "r", s32, "r", "mul.wide.s32 %0, %1, %2;", s64(a) * b);
  INSTRUCTION(u64, "l", u32, "r", u32, "r", "mad.wide.u32 %0, %1, %2, 99;", u64(a) * b + 99);
  INSTRUCTION(u32, "r", u16, "h", u16, "h", "mul.wide.u16 %0, %1, %2;", u32(a) * b);
  INSTRUCTION(u16, "h", u16, "h", u16, "h", "mad.lo.u16 %0, %1, %2, 3;", u16(u32(a) * b + 3));
  INSTRUCTION(s32, "r", s32, "r", s32, "r", "min.s32 %0, %1, %2;", std::min(a, b));
  INSTRUCTION(u64, "l", u64, "l", u64, "l", "max.u64 %0, %1, %2;", std::max(a, b));
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "div.u32 %0, %1, %2;", b == 0 ? ~0u : a / b);
  INSTRUCTION(s32, "r", s32, "r", s32, "r", "neg.s32 %0, %1;", s32(0u - u32(a)));
  INSTRUCTION(s64, "l", s64, "l", s64, "l", "abs.s64 %0, %1;", a < 0 ? s64(0ull - u64(a)) : a);
}

/// The nearest integer that the type has; 0 for NaN, or for 64 bits the number whose uppermost bit alone is set.
template <class D>
D nearest_in(double x) {
  if (std::isnan(x)) return sizeof(D) == 8 ? D(u64{1} << 63) : D(0);
  if (x <= double(std::numeric_limits<D>::min())) return std::numeric_limits<D>::min();
  return x >= double(std::numeric_limits<D>::max()) ? std::numeric_limits<D>::max() : D(x);
}

inline void test_conversions() {
  INSTRUCTION(u32, "r", u32, "r", u32, "r", "cvt.u32.u8 %0, %1;", a & 255);
  INSTRUCTION(s32, "r", s32, "r", s32, "r", "cvt.s32.s8 %0, %1;", s32(std::int8_t(a)));
  INSTRUCTION(s32, "r", s16, "h", s16, "h", "cvt.s32.s16 %0, %1;", s32(a));
  INSTRUCTION(u32, "r", u16, "h", u16, "h", "cvt.u32.u16 %0, %1;", u32(a));
  INSTRUCTION(s64, "l", s32, "r", s32, "r", "cvt.s64.s32 %0, %1;", s64(a));
  INSTRUCTION(u64, "l", u32, "r", u32, "r", "cvt.u64.u32 %0, %1;", u64(a));
  INSTRUCTION(u64, "l", s32, "r", s32, "r", "cvt.u64.s32 %0, %1;", u64(s64(a)));
  INSTRUCTION(u32, "r", u64, "l", u64, "l", "cvt.u32.u64 %0, %1;", u32(a));
  INSTRUCTION(s32, "r", u64, "l", u64, "l", "cvt.s32.s16 %0, %2; cvt.u32.u64 %0, %1;", s32(u32(a)));
  INSTRUCTION(u16, "h", s64, "l", s64, "l", "cvt.u16.s64 %0, %1;", u16(a));
  INSTRUCTION(u32, "r", s32, "r", s32, "r", "cvt.sat.u8.s32 %0, %1;", u32(std::clamp(a, 0, 255)));
  INSTRUCTION(s32, "r", s32, "r", s32, "r", "cvt.sat.s16.s32 %0, %1;", std::clamp(a, -32768, 32767));
  INSTRUCTION(s32, "r", float, "f", float, "f", "cvt.rni.s32.f32 %0, %1;", nearest_in<s32>(std::nearbyint(double(a))));
  INSTRUCTION(u32, "r", float, "f", float, "f", "cvt.rzi.u32.f32 %0, %1;", nearest_in<u32>(std::trunc(double(a))));
  INSTRUCTION(s64, "l", float, "f", float, "f", "cvt.rmi.s64.f32 %0, %1;", nearest_in<s64>(std::floor(double(a))));
  INSTRUCTION(s32, "r", double, "d", double, "d", "cvt.rpi.s32.f64 %0, %1;", nearest_in<s32>(std::ceil(a)));
  INSTRUCTION(u64, "l", double, "d", double, "d", "cvt.rzi.u64.f64 %0, %1;", nearest_in<u64>(std::trunc(a)));
  INSTRUCTION(float, "f", s64, "l", s64, "l", "cvt.rn.f32.s64 %0, %1;", float(a));
  INSTRUCTION(float, "f", u64, "l", u64, "l", "cvt.rn.f32.u64 %0, %1;", float(a));
  INSTRUCTION(double, "d", u32, "r", u32, "r", "cvt.rn.f64.u32 %0, %1;", double(a));
  INSTRUCTION(float, "f", s16, "h", s16, "h", "cvt.rn.f32.s16 %0, %1;", float(a));
}
#undef INSTRUCTION

/// Every half as a float, and from each such float, from the middle to the next and from its neighbours the half again.
__global__ void halves(float* to, std::uint16_t* nearest, std::uint16_t* cut, float const* from, int n) {
  for (int i = threadIdx.x; i < n; i += blockDim.x) {
    if (i < 65536) {
      float x;
      asm("{ .reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h; }" : "=f"(x) : "r"(i));
      to[i] = x;
    }
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(nearest[i]) : "f"(from[i]));
    asm("cvt.rz.f16.f32 %0, %1;" : "=h"(cut[i]) : "f"(from[i]));
  }
}
inline void test_halves() {
  auto const value = [](int bits) {
    int const exponent = bits >> 10 & 31, fraction = bits & 1023;
    double const size = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                        : exponent == 0 ? std::ldexp(fraction, -24)
                                        : std::ldexp(1024 + fraction, exponent - 25);
    return (bits & 0x8000) != 0 ? -size : size;
  };
  std::vector<float> from;
  for (int i = 0; i < 65536; ++i) from.push_back(float(value(i)));
  for (int i = 0; i < 0x7C00; ++i) {
    double const next = i == 0x7BFF ? 65536 : value(i + 1);
    float const middle = float((value(i) + next) / 2);
    from.insert(from.end(), {middle, -middle, std::nextafter(middle, 0.0f), std::nextafter(middle, 1e9f)});
  }
  int const n = int(from.size());
  float* const to = device_copy(std::vector<float>(65536));
  auto *const nearest = device_copy(std::vector<std::uint16_t>(from.size())), *const cut = device_copy(
                                                                                  std::vector<std::uint16_t>(
                                                                                      from.size()));
  halves<<<1, 1024>>>(to, nearest, cut, device_copy(from), n);
  auto const floats = host_copy(to, 65536);
  auto const rn = host_copy(nearest, from.size()), rz = host_copy(cut, from.size());
  for (int i = 0; i < n; ++i) {
    double const x = from[i];
    if (i < 65536)
      CHECK_TRUE(std::isnan(x) ? std::isnan(floats[i])
                               : floats[i] == from[i] && std::signbit(x) == std::signbit(floats[i]));
    if (std::isnan(x)) {
      CHECK_TRUE(rn[i] == 0x7FFF && rz[i] == 0x7FFF);
      continue;
    }
    // The largest half of no larger size, by bisection: sizes are in the order of their bits.
    int low = 0, high = 0x7C00;
    while (low < high) {
      int const middle = (low + high + 1) / 2;
      if (value(middle) <= std::abs(x)) low = middle;
      else high = middle - 1;
    }
    int const sign = std::signbit(x) ? 0x8000 : 0;
    bool const infinite = std::isinf(x);
    CHECK_TRUE(rz[i] == (sign | low));
    double const below = infinite ? 0 : std::abs(x) - value(low),
                 above = infinite ? 1 : (low == 0x7BFF ? 65536 : value(low + 1)) - std::abs(x);
    int const expected = below > above || (below == above && low % 2 != 0) ? low + 1 : low;
    CHECK_TRUE(rn[i] == (sign | expected));
  }
}

inline void test() {
  test_comparisons();
  test_bits();
  test_products();
  test_conversions();
  test_halves();
}

}  // namespace instructions
