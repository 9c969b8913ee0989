// SPDX-License-Identifier: BSD-3-Clause
// Predicates, one bit a lane: comparisons, what is computed of them, and selections by them.
#include "handlers.hpp"

#include <cmath>

namespace emu {
namespace {

template <auto F>
void of_predicates(warp& w, instruction const& i, u32 mask) {
  u32& d = *w.at<u32>(i.o[0]);
  u32 const a = *w.at<u32>(i.o[1]) ^ ((i.flags & 1) != 0 ? full_warp : 0);
  u32 const b = i.o[2] == no_operand ? 0 : *w.at<u32>(i.o[2]) ^ ((i.flags & 2) != 0 ? full_warp : 0);
  d = (d & ~mask) | (F(a, b) & mask);
}
template <class T>
void select(warp& w, instruction const& i, u32 mask) {
  T* const d = w.at<T>(i.o[0]);
  T const* const a = w.at<T>(i.o[1]);
  T const* const b = w.at<T>(i.o[2]);
  u32 const p = *w.at<u32>(i.o[3]) ^ ((i.flags & 1) != 0 ? full_warp : 0);
  assign(d, mask, [&](int l) { return (p >> l & 1) != 0 ? a[l] : b[l]; });
}

/// What is done with the outcome of a comparison: `count` of its instruction.
enum outcome : u8 { as_it_is, and_third, or_third, xor_third, as_ones, as_one };

/// p := holds op c, q := !holds op c; or a number instead.
void take_outcome(warp& w, instruction const& i, u32 mask, u32 holds) {
  if ((i.flags & 2) != 0) holds = ~holds;
  u32 yes = holds, no = ~holds;
  if (i.count == as_ones) {
    u32* const d = w.at<u32>(i.o[0]);
    return assign(d, mask, [&](int l) { return (holds >> l & 1) != 0 ? ~0u : 0u; });
  }
  if (i.count == as_one) {
    float* const d = w.at<float>(i.o[0]);
    return assign(d, mask, [&](int l) { return (holds >> l & 1) != 0 ? 1.0f : 0.0f; });
  }
  if (i.count != as_it_is) {
    u32 const c = *w.at<u32>(i.o[4]) ^ ((i.flags & 1) != 0 ? full_warp : 0);
    if (i.count == and_third) yes &= c, no &= c;
    else if (i.count == or_third) yes |= c, no |= c;
    else yes ^= c, no ^= c;
  }
  if (i.o[0] != no_operand) {
    u32& p = *w.at<u32>(i.o[0]);
    p = (p & ~mask) | (yes & mask);
  }
  if (i.o[1] != no_operand) {
    u32& q = *w.at<u32>(i.o[1]);
    q = (q & ~mask) | (no & mask);
  }
}
/// o: p, q, the numbers, c.
template <auto F, class T>
void compare(warp& w, instruction const& i, u32 mask) {
  T const* const a = w.at<T>(i.o[2]);
  T const* const b = w.at<T>(i.o[3]);
  take_outcome(w, i, mask, bits_of([&](int l) { return F(a[l], b[l]); }));
}

/// A comparison by one of five functions, of exchanged numbers or with its outcome turned.
struct comparison {
  enum { equal, less, at_most, differ, ordered } by;
  bool exchanged = false, turned = false;
};
comparison comparison_of(lowering const& in, std::string_view name, bool real) {
  using c = comparison;
  if (name == "eq") return {c::equal};
  if (name == "ne") return real ? comparison{c::differ} : comparison{c::equal, false, true};
  if (name == "lt" || name == "lo") return {c::less};
  if (name == "le" || name == "ls") return {c::at_most};
  if (name == "gt" || name == "hi") return {c::less, true};
  if (name == "ge" || name == "hs") return {c::at_most, true};
  if (!real) in.refuse("comparison");
  if (name == "equ") return {c::differ, false, true};
  if (name == "neu") return {c::equal, false, true};
  if (name == "ltu") return {c::at_most, true, true};
  if (name == "leu") return {c::less, true, true};
  if (name == "gtu") return {c::at_most, false, true};
  if (name == "geu") return {c::less, false, true};
  if (name == "num") return {c::ordered};
  if (name == "nan") return {c::ordered, false, true};
  in.refuse("comparison");
}

/// The numbers that are compared, and the handler.
void lower_comparison(lowering& in, std::string_view name, std::string const& type) {
  u32 const width = size_of_type(type);
  comparison const c = comparison_of(in, name, is_real(type));
  in.use(in.op(c.exchanged ? 2 : 1), width), in.use(in.op(c.exchanged ? 1 : 2), width);
  if (c.turned) in.now.flags |= 2;
  if (is_real(type)) {
    of_real_type(in, type, [&]<class T>(T) {
      if (c.by == comparison::equal) in.now.run = compare<[](T a, T b) { return a == b; }, T>;
      else if (c.by == comparison::less) in.now.run = compare<[](T a, T b) { return a < b; }, T>;
      else if (c.by == comparison::at_most) in.now.run = compare<[](T a, T b) { return a <= b; }, T>;
      else if (c.by == comparison::differ) in.now.run = compare<[](T a, T b) { return a < b || b < a; }, T>;
      else in.now.run = compare<[](T a, T b) { return a == a && b == b; }, T>;
    });
  } else if (c.by == comparison::equal) {
    of_width(in, width, [&]<class T>(T) { in.now.run = compare<[](T a, T b) { return a == b; }, T>; });
  } else {
    of_integer_type(in, type, [&]<class T>(T) {
      if (c.by == comparison::less) in.now.run = compare<[](T a, T b) { return a < b; }, T>;
      else in.now.run = compare<[](T a, T b) { return a <= b; }, T>;
    });
  }
}

void lower_setp(lowering& in) {
  operand const& d = in.op(0);
  auto const target = [&](operand const& o) {
    if (o.name == "_") in.use_nothing();
    else in.define_predicate(o);
  };
  if (d.is == operand::kind::list) target(d.of[0]), target(d.of[1]);
  else target(d), in.use_nothing();
  std::size_t middle = 2;
  bool const third = in.raw->parts.size() > 3 && (in.part(2) == "and" || in.part(2) == "or" || in.part(2) == "xor");
  if (third) middle = 3;
  if (in.raw->parts.size() != middle + 1) in.refuse("a modifier");
  lower_comparison(in, in.part(1), in.last_part());
  if (third) {
    in.now.count = in.part(2) == "and" ? and_third : in.part(2) == "or" ? or_third : xor_third;
    in.use_predicate(in.op(3));
    if (in.op(3).negated) in.now.flags |= 1;
  } else {
    in.use_nothing();
  }
}

void lower_set(lowering& in) {
  if (in.raw->parts.size() != 4) in.refuse("a modifier");
  std::string const& to = in.part(2);
  in.define(in.op(0), 4);
  in.use_nothing();
  lower_comparison(in, in.part(1), in.last_part());
  in.now.count = to == "f32" ? as_one : as_ones;
}

/// A question about one number.
template <auto F, class T>
void ask(lowering& in) {
  in.define_predicate(in.op(0));
  in.use_nothing();
  in.use(in.op(1), sizeof(T)), in.use(in.op(1), sizeof(T));
  in.use_nothing();
  in.now.run = compare<[](T a, T) { return F(a); }, T>;
}
void lower_testp(lowering& in) {
  std::string const& what = in.part(1);
  of_real_type(in, in.last_part(), [&]<class T>(T) {
    if (what == "finite") ask<[](T a) { return std::isfinite(a); }, T>(in);
    else if (what == "infinite") ask<[](T a) { return std::isinf(a); }, T>(in);
    else if (what == "notanumber") ask<[](T a) { return a != a; }, T>(in);
    else if (what == "number") ask<[](T a) { return a == a; }, T>(in);
    else in.refuse("test");
  });
}
void lower_isspacep(lowering& in) {
  std::string const& space = in.part(1);
  if (space == "global") ask<[](u64 a) { return (a >> space_shift) <= 1; }, u64>(in);
  else if (space.starts_with("shared")) ask<[](u64 a) { return (a >> space_shift) == 4; }, u64>(in);
  else if (space == "local") ask<[](u64 a) { return (a >> space_shift) == 5; }, u64>(in);
  else in.refuse("space");
}

/// mov, and, or, xor and not of predicates.
bool lower_logic(lowering& in, std::string const& name) {
  bool const one = name == "mov" || name == "not";
  if (!one && name != "and" && name != "or" && name != "xor") return false;
  in.define_predicate(in.op(0));
  in.use_predicate(in.op(1));
  in.now.flags = in.op(1).negated ? 1 : 0;
  if (one) {
    in.use_nothing();
  } else {
    in.use_predicate(in.op(2));
    if (in.op(2).negated) in.now.flags |= 2;
  }
  in.now.run = name == "mov"   ? of_predicates<[](u32 a, u32) { return a; }>
               : name == "not" ? of_predicates<[](u32 a, u32) { return ~a; }>
               : name == "and" ? of_predicates<[](u32 a, u32 b) { return a & b; }>
               : name == "or"  ? of_predicates<[](u32 a, u32 b) { return a | b; }>
                               : of_predicates<[](u32 a, u32 b) { return a ^ b; }>;
  return true;
}

}  // namespace

bool lower_predicate(lowering& in) {
  std::string const& name = in.part(0);
  in.now.kind = kind_of::predicate;
  if (name == "setp") lower_setp(in);
  else if (name == "set") lower_set(in);
  else if (name == "testp") lower_testp(in);
  else if (name == "isspacep") lower_isspacep(in);
  else if (name == "selp") {
    u32 const width = size_of_type(in.last_part());
    in.define(in.op(0), width);
    in.use(in.op(1), width), in.use(in.op(2), width);
    in.use_predicate(in.op(3));
    in.now.flags = in.op(3).negated ? 1 : 0;
    in.now.kind = kind_of::integer;
    of_width(in, width, [&]<class T>(T) { in.now.run = select<T>; });
  } else if (in.last_part() == "pred") {
    if (name == "mov") in.now.kind = kind_of::move;
    return lower_logic(in, name);
  } else {
    return false;
  }
  return true;
}

}  // namespace emu
