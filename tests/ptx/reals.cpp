// SPDX-License-Identifier: BSD-3-Clause
// Floating point: each operation rounded once, and nothing contracted.
#include "reals.hpp"

#include "handlers.hpp"

#include <cmath>

namespace emu {
namespace {

template <class T>
T smaller(T a, T b) {
  if (a != a && b != b) return canonical(a);
  if (a != a) return b;
  if (b != b) return a;
  if (a == T(0) && b == T(0)) return std::signbit(a) ? a : b;  // -0 < +0
  return a < b ? a : b;
}
template <class T>
T greater(T a, T b) {
  if (a != a && b != b) return canonical(a);
  if (a != a) return b;
  if (b != b) return a;
  if (a == T(0) && b == T(0)) return std::signbit(a) ? b : a;
  return a > b ? a : b;
}

/// The sign bit of a number of U's width, away or turned.
template <class U>
void lower_sign(lowering& in, bool away) {
  constexpr U sign = U(U(1) << (sizeof(U) * 8 - 1));
  if (away) in.now.run = unary<[](U a) { return U(a & U(~sign)); }, U, U>;
  else in.now.run = unary<[](U a) { return U(a ^ sign); }, U, U>;
}
template <class U>
void lower_copysign(lowering& in) {
  constexpr U sign = U(U(1) << (sizeof(U) * 8 - 1));
  in.now.run = binary<[](U a, U b) { return U((a & sign) | (b & U(~sign))); }, U, U>;
}

/// Approximations on a device: here the nearest number, which is within their errors.
void lower_approximation(lowering& in, std::string const& name, std::string const& type) {
  if (type != "f32" && !(name == "rsqrt" && type == "f64")) in.refuse("type");
  no_modifiers(in, {"approx"});
  if (name == "ex2") in.now.run = unary<[](float a) { return canonical(std::exp2(a)); }, float, float>;
  else if (name == "lg2") in.now.run = unary<[](float a) { return canonical(std::log2(a)); }, float, float>;
  else if (name == "sin") in.now.run = unary<[](float a) { return canonical(std::sin(a)); }, float, float>;
  else if (name == "cos") in.now.run = unary<[](float a) { return canonical(std::cos(a)); }, float, float>;
  else if (name == "tanh") in.now.run = unary<[](float a) { return canonical(std::tanh(a)); }, float, float>;
  else if (type == "f32")
    in.now.run = unary<[](float a) { return canonical(float(1 / std::sqrt(double(a)))); }, float, float>;
  else in.now.run = unary<[](double a) { return 1 / std::sqrt(a); }, double, double>;
}

}  // namespace

bool lower_real(lowering& in) {
  std::string const& name = in.part(0);
  std::string const& type = in.last_part();
  bool const changes_sign = name == "abs" || name == "neg";
  if (!is_real(type) && !(changes_sign && (type == "f16" || type == "bf16"))) return false;
  u32 const width = size_of_type(type);
  in.now.kind = type == "f64" ? kind_of::real64 : type == "f32" ? kind_of::real32 : kind_of::integer;

  if (changes_sign) {
    no_modifiers(in, {});
    operands(in, width, {width});
    of_width(in, width, [&]<class U>(U) { lower_sign<U>(in, name == "abs"); });
    return true;
  }
  if (name == "copysign") {
    operands(in, width, {width, width});
    of_width(in, width, [&]<class U>(U) { lower_copysign<U>(in); });
    return true;
  }
  if (name == "add" || name == "sub" || name == "mul" || name == "div" || name == "min" || name == "max") {
    no_modifiers(in, {"rn"});
    operands(in, width, {width, width});
    of_real_type(in, type, [&]<class T>(T) {
      if (name == "add") in.now.run = binary<[](T a, T b) { return canonical(a + b); }, T, T>;
      else if (name == "sub") in.now.run = binary<[](T a, T b) { return canonical(a - b); }, T, T>;
      else if (name == "mul") in.now.run = binary<[](T a, T b) { return canonical(a * b); }, T, T>;
      else if (name == "div") in.now.run = binary<[](T a, T b) { return canonical(a / b); }, T, T>;
      else if (name == "min") in.now.run = binary<smaller<T>, T, T>;
      else in.now.run = binary<greater<T>, T, T>;
    });
    return true;
  }
  if (name == "fma" || name == "mad") {
    no_modifiers(in, {"rn"});
    operands(in, width, {width, width, width});
    of_real_type(in, type, [&]<class T>(T) {
      in.now.run = ternary<[](T a, T b, T c) { return canonical(std::fma(a, b, c)); }, T, T>;
    });
    return true;
  }
  if (name == "rcp" || name == "sqrt") {
    no_modifiers(in, {"rn"});
    if (in.raw->parts.size() != 3) in.refuse("rounding");
    operands(in, width, {width});
    of_real_type(in, type, [&]<class T>(T) {
      if (name == "rcp") in.now.run = unary<[](T a) { return canonical(T(1) / a); }, T, T>;
      else in.now.run = unary<[](T a) { return canonical(std::sqrt(a)); }, T, T>;
    });
    return true;
  }
  if (name == "ex2" || name == "lg2" || name == "sin" || name == "cos" || name == "rsqrt" || name == "tanh") {
    operands(in, width, {width});
    lower_approximation(in, name, type);
    return true;
  }
  return false;
}

}  // namespace emu
