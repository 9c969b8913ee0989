// SPDX-License-Identifier: BSD-3-Clause
// What the lanes of a warp do together: matrix instructions, shuffles, votes. The machine calls a handler when all
// lanes that take part stand at the instruction; it gets these lanes.
//
// Layouts of fragments are those of the PTX ISA, "Matrix fragments for mma.m16n8k16 with floating point type" and
// ldmatrix, and of nothing else.
#include "lanes.hpp"
#include "lower.hpp"
#include "reals.hpp"

#include <algorithm>
#include <cmath>

namespace emu {

void read_lines(warp& w, u32 const* addresses, u32 offset, u32 mask, u8 (&lines)[32][16]);

namespace {

void require_whole(warp const& w, u32 mask) {
  if (mask != full_warp) raise(w, illegal_instruction, format("a matrix instruction by lanes %08x only", mask));
}

// --- mma --------------------------------------------------------------------------------------------------------

/// Sum of products and c as a tensor core makes it: all addends are cut below 2^-24 of the largest, as integers, and
/// the sum is cut to a float.
float truncated_sum(double const* products, int count, float c) {
  auto const exponent = [](double x) { return int(std::bit_cast<u64>(x) >> 52 & 0x7FF); };  // 0: zero; none is smaller
  auto const power = [](int e) { return std::bit_cast<double>(u64(e + 1023) << 52); };
  int largest = exponent(double(c));
  for (int k = 0; k < count; ++k) largest = std::max(largest, exponent(products[k]));
  if (largest == 0) return 0.0f;
  int const last = std::max(largest - 1023 - 24, -149);
  double const scale = power(-last);
  s64 total = s64(double(c) * scale);
  for (int k = 0; k < count; ++k) total += s64(products[k] * scale);
  double const sum = double(total) * power(last);
  float const result = float(sum);
  return std::abs(double(result)) > std::abs(sum) ? std::nextafter(result, 0.0f) : result;
}

/// m16n8k(8 or 16), A by rows and B by columns of bf16 or f16, C and D of f32.
template <int K, bool Bf16>
void mma_f32(warp& w, instruction const& i, u32 mask) {
  require_whole(w, mask);
  auto const& o = w.code->wide[std::size_t(i.immediate)];
  constexpr int a_registers = K / 4, b_registers = K / 8;
  auto const number = [](u32 bits) { return Bf16 ? from_bf16(bits & 0xFFFF) : from_f16(bits & 0xFFFF); };
  float A[16][K];
  alignas(64) double B[K][8];
  for (int lane = 0; lane < 32; ++lane) {
    int const group = lane >> 2, in_group = lane % 4;
    for (int e = 0; e < 2 * a_registers; ++e) {  // a0 ... a7
      u32 const bits = w.at<u32>(o[std::size_t(4 + e / 2)])[lane] >> (e % 2 * 16);
      int const row = (e >= 2 && e < 4) || e >= 6 ? group + 8 : group;
      int const column = in_group * 2 + (e & 1) + (e >= 4 ? 8 : 0);
      A[row][column] = number(bits);
    }
    for (int e = 0; e < 2 * b_registers; ++e) {  // b0 ... b3
      u32 const bits = w.at<u32>(o[std::size_t(4 + a_registers + e / 2)])[lane] >> (e % 2 * 16);
      int const row = in_group * 2 + (e & 1) + (e >= 2 ? 8 : 0);
      B[row][group] = double(number(bits));
    }
  }
  alignas(64) double C[16][8];
  for (int lane = 0; lane < 32; ++lane)
    for (int e = 0; e < 4; ++e)
      C[(lane >> 2) + (e >= 2 ? 8 : 0)][lane % 4 * 2 + (e & 1)] =
          double(w.at<float>(o[std::size_t(4 + a_registers + b_registers + e)])[lane]);
  bool const truncates = options::get().truncate_mma;
  float D[16][8];
  for (int row = 0; row < 16; ++row) {
    alignas(64) double sums[8];
    for (int n = 0; n < 8; ++n) sums[n] = 0;
    for (int k = 0; k < K; ++k) {
      double const a = double(A[row][k]);
      for (int n = 0; n < 8; ++n) sums[n] += a * B[k][n];
    }
    for (int n = 0; n < 8; ++n) {
      double const total = sums[n] + C[row][n];
      D[row][n] = canonical(float(total));
      if (truncates && std::isfinite(total)) {
        double products[K];
        for (int k = 0; k < K; ++k) products[k] = double(A[row][k]) * B[k][n];
        D[row][n] = truncated_sum(products, K, float(C[row][n]));
      }
    }
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int e = 0; e < 4; ++e)
      w.at<float>(o[std::size_t(e)])[lane] = D[(lane >> 2) + (e >= 2 ? 8 : 0)][lane % 4 * 2 + (e & 1)];
}

// --- ldmatrix ---------------------------------------------------------------------------------------------------

/// count: matrices; flags 1: transposed. Lanes 8 j ... 8 j + 7 give the lines of matrix j; lane l gets of line l / 4
/// the elements 2 (l mod 4) and the next, or of the transpose.
void ldmatrix(warp& w, instruction const& i, u32 mask) {
  require_whole(w, mask);
  int const count = i.count;
  u8 lines[32][16];
  u32 const givers = count == 4 ? full_warp : (1u << (8 * count)) - 1;
  read_lines(w, w.at<u32>(i.o[count]), u32(i.immediate), givers, lines);
  for (int j = 0; j < count; ++j) {
    u32* const d = w.at<u32>(i.o[j]);
    auto const element = [&](int line, int n) {
      u16 value;
      std::memcpy(&value, &lines[8 * j + line][2 * n], 2);
      return u32(value);
    };
    for (int lane = 0; lane < 32; ++lane) {
      int const row = lane / 4, column = lane % 4 * 2;
      d[lane] = (i.flags & 1) != 0 ? element(column, row) | element(column + 1, row) << 16
                                   : element(row, column) | element(row, column + 1) << 16;
    }
  }
}

// --- shuffles, votes, barriers of a warp ------------------------------------------------------------------------

enum class shuffle_mode : u8 { up, down, butterfly, index };
void shuffle(warp& w, instruction const& i, u32 mask) {
  u32* const d = w.at<u32>(i.o[0]);
  u32 const *a = w.at<u32>(i.o[2]), *b = w.at<u32>(i.o[3]), *c = w.at<u32>(i.o[4]);
  u32 value[32], holds = 0;
  for (u32 left = mask; left != 0; left &= left - 1) {
    u32 const lane = u32(std::countr_zero(left));
    u32 const bound = c[lane] & 31, segment = c[lane] >> 8 & 31, by = b[lane] & 31;
    u32 const highest = (lane & segment) | (bound & ~segment), lowest = lane & segment;
    u32 j = 0;
    bool p = false;
    switch (shuffle_mode(i.flags)) {
      case shuffle_mode::up:
        j = lane - by, p = s32(j) >= s32(highest);
        break;
      case shuffle_mode::down:
        j = lane + by, p = j <= highest;
        break;
      case shuffle_mode::butterfly:
        j = lane ^ by, p = j <= highest;
        break;
      case shuffle_mode::index:
        j = lowest | (by & ~segment), p = j <= highest;
        break;
    }
    if (!p) j = lane;
    if ((mask >> (j & 31) & 1) == 0)
      note(w, "a shuffle reads from a lane that takes no part", format("lane %u from lane %u", lane, j));
    value[lane] = a[j & 31];
    holds |= u32(p) << lane;
  }
  for (u32 left = mask; left != 0; left &= left - 1) {
    int const lane = std::countr_zero(left);
    d[lane] = value[lane];
  }
  if (i.o[1] != no_operand) {
    u32& p = *w.at<u32>(i.o[1]);
    p = (p & ~mask) | (holds & mask);
  }
}

/// count: 0 ballot, 1 any, 2 all, 3 uniform.
void vote(warp& w, instruction const& i, u32 mask) {
  u32 const p = (*w.at<u32>(i.o[1]) ^ (i.flags != 0 ? full_warp : 0)) & mask;
  if (i.count == 0) {
    u32* const d = w.at<u32>(i.o[0]);
    each_lane(mask, [&](int l) { d[l] = p; });
    return;
  }
  bool const holds = i.count == 1 ? p != 0 : i.count == 2 ? p == mask : p == 0 || p == mask;
  u32& d = *w.at<u32>(i.o[0]);
  d = (d & ~mask) | (holds ? mask : 0);
}

void warp_barrier(warp& w, instruction const&, u32) {
  ++w.epoch;
  w.refresh_stamp();
}

template <class T, auto F>
void reduce(warp& w, instruction const& i, u32 mask) {
  T const* const a = w.at<T>(i.o[1]);
  T total = a[std::countr_zero(mask)];
  for (u32 left = mask & (mask - 1); left != 0; left &= left - 1) total = F(total, a[std::countr_zero(left)]);
  T* const d = w.at<T>(i.o[0]);
  each_lane(mask, [&](int l) { d[l] = total; });
}

void match_any(warp& w, instruction const& i, u32 mask) {
  u32* const d = w.at<u32>(i.o[0]);
  u32 const* const a = w.at<u32>(i.o[1]);
  for (u32 left = mask; left != 0; left &= left - 1) {
    int const l = std::countr_zero(left);
    u32 same = 0;
    for (u32 others = mask; others != 0; others &= others - 1)
      if (int const n = std::countr_zero(others); a[n] == a[l]) same |= 1u << n;
    d[l] = same;
  }
}
void elect(warp& w, instruction const& i, u32 mask) {
  u32 const leader = u32(std::countr_zero(mask));
  if (i.o[0] != no_operand) {
    u32* const d = w.at<u32>(i.o[0]);
    each_lane(mask, [&](int l) { d[l] = leader; });
  }
  u32& p = *w.at<u32>(i.o[1]);
  p = (p & ~mask) | (1u << leader);
}
void active_mask(warp& w, instruction const& i, u32 mask) {
  u32* const d = w.at<u32>(i.o[0]);
  each_lane(mask, [&](int l) { d[l] = mask; });
}

}  // namespace

/// The last operand of a collective of fewer lanes is its mask; instruction::target tells which operand that is, or
/// no_operand if the whole warp takes part.
bool lower_collective(lowering& in) {
  std::string const& name = in.part(0);
  auto const with_mask = [&](operand const& o) {
    in.now.target = u32(in.refs.size());
    in.use(o, 4);
    in.now.what = control::collective;
  };
  auto const whole_warp = [&] {
    in.now.target = no_operand;
    in.now.what = control::collective;
  };
  if (name == "mma") {
    whole_warp();
    in.now.kind = kind_of::matrix;
    std::string const& shape = in.part(3);
    if (!in.raw->has("row") || !in.raw->has("col") || in.raw->parts.size() != 10) in.refuse("form");
    if (in.part(6) != "f32" || in.part(9) != "f32" || in.part(7) != in.part(8)) in.refuse("types");
    bool const bf16 = in.part(7) == "bf16";
    if (!bf16 && in.part(7) != "f16") in.refuse("types");
    auto const& d = in.op(0).of;
    auto const& a = in.op(1).of;
    auto const& b = in.op(2).of;
    auto const& c = in.op(3).of;
    bool const deep = shape == "m16n8k16";
    if ((!deep && shape != "m16n8k8") || d.size() != 4 || a.size() != (deep ? 4u : 2u) ||
        b.size() != (deep ? 2u : 1u) || c.size() != 4)
      in.refuse("shape");
    for (auto const& o : d) in.define(o, 4);
    for (auto const& o : a) in.use(o, 4);
    for (auto const& o : b) in.use(o, 4);
    for (auto const& o : c) in.use(o, 4);
    in.now.run = deep ? (bf16 ? mma_f32<16, true> : mma_f32<16, false>) : (bf16 ? mma_f32<8, true> : mma_f32<8, false>);
    return true;
  }
  if (name == "ldmatrix") {
    whole_warp();
    in.now.kind = kind_of::ldmatrix;
    if (!in.raw->has("m8n8") || !in.raw->has("b16")) in.refuse("form");
    std::vector<operand> const d = in.op(0).is == operand::kind::list ? in.op(0).of : std::vector<operand>{in.op(0)};
    in.now.count = u8(d.size());
    if (!in.raw->has(format("x%zu", d.size()))) in.refuse("number of matrices");
    in.now.flags = in.raw->has("trans") ? 1 : 0;
    for (auto const& o : d) in.define(o, 4);
    operand base = in.op(1);
    in.now.immediate = s64(base.bits);
    base.is = operand::kind::reg;
    if (in.width_of(base) != 4) in.refuse("an address of 64 bits");
    in.use(base, 4);
    in.now.run = ldmatrix;
    return true;
  }
  if (name == "shfl") {
    if (!in.raw->has("sync")) in.refuse("without .sync");
    in.now.kind = kind_of::shuffle;
    std::string const& mode = in.part(2);
    in.now.flags = u8(mode == "up"     ? shuffle_mode::up
                      : mode == "down" ? shuffle_mode::down
                      : mode == "bfly" ? shuffle_mode::butterfly
                                       : shuffle_mode::index);
    operand const& d = in.op(0);
    if (d.is == operand::kind::list) {
      in.define(d.of[0], 4);
      in.define_predicate(d.of[1]);
    } else {
      in.define(d, 4);
      in.use_nothing();
    }
    in.use(in.op(1), 4), in.use(in.op(2), 4), in.use(in.op(3), 4);
    with_mask(in.op(4));
    in.now.run = shuffle;
    return true;
  }
  if (name == "vote") {
    in.now.kind = kind_of::shuffle;
    std::string const& mode = in.part(2);
    in.now.count = mode == "ballot" ? 0 : mode == "any" ? 1 : mode == "all" ? 2 : 3;
    if (in.now.count == 0) in.define(in.op(0), 4);
    else in.define_predicate(in.op(0));
    if (in.op(1).is == operand::kind::integer) in.use_literal(in.op(1).bits != 0 ? full_warp : 0, 4);
    else in.use_predicate(in.op(1));
    in.now.flags = in.op(1).negated ? 1 : 0;
    with_mask(in.op(2));
    in.now.run = vote;
    return true;
  }
  if (name == "redux") {
    in.now.kind = kind_of::shuffle;
    std::string const& what = in.part(2);
    std::string const& type = in.last_part();
    in.define(in.op(0), 4);
    in.use(in.op(1), 4);
    with_mask(in.op(2));
    auto const take = [&]<class T>(T) {
      if (what == "add") in.now.run = reduce<T, [](T a, T b) { return T(a + b); }>;
      else if (what == "min") in.now.run = reduce<T, [](T a, T b) { return std::min(a, b); }>;
      else if (what == "max") in.now.run = reduce<T, [](T a, T b) { return std::max(a, b); }>;
      else if (what == "and") in.now.run = reduce<T, [](T a, T b) { return T(a & b); }>;
      else if (what == "or") in.now.run = reduce<T, [](T a, T b) { return T(a | b); }>;
      else in.refuse("operation");
    };
    if (type == "s32") take(s32{});
    else take(u32{});
    return true;
  }
  if (name == "match") {
    if (in.part(1) != "any" || in.last_part() != "b32") in.refuse("form");
    in.now.kind = kind_of::shuffle;
    in.define(in.op(0), 4);
    in.use(in.op(1), 4);
    with_mask(in.op(2));
    in.now.run = match_any;
    return true;
  }
  if (name == "elect") {
    in.now.kind = kind_of::shuffle;
    operand const& d = in.op(0);
    if (d.is != operand::kind::list) in.refuse("form");
    if (d.of[0].name == "_") in.use_nothing();
    else in.define(d.of[0], 4);
    in.define_predicate(d.of[1]);
    with_mask(in.op(1));
    in.now.run = elect;
    return true;
  }
  if (name == "activemask") {
    in.now.kind = kind_of::shuffle;
    in.define(in.op(0), 4);
    in.now.run = active_mask;
    return true;
  }
  if (name == "bar" && in.part(1) == "warp") {
    in.now.kind = kind_of::barrier;
    with_mask(in.op(0));
    in.now.run = warp_barrier;
    return true;
  }
  return false;
}

}  // namespace emu
