// SPDX-License-Identifier: BSD-3-Clause
// counted.hpp: a number that counts what is done with it. Sums, differences, products and quotients count one each, as
// in hoft/core/cost.hpp; signs, comparisons and square roots count nothing. To be included before hoft and Eigen.
#pragma once
#include <cmath>
#include <compare>
#include <complex>
#include <limits>
#include <type_traits>

namespace bench {

struct counted {
  double value = 0;
  static inline long long flops = 0;

  counted() = default;
  constexpr explicit counted(double a) : value(a) {}
  constexpr counted& operator=(double a) { return value = a, *this; }
  constexpr explicit operator double() const { return value; }  // explicit: 2 * a would not count

  constexpr counted& operator+=(counted a) { return count(), value += a.value, *this; }
  constexpr counted& operator-=(counted a) { return count(), value -= a.value, *this; }
  constexpr counted& operator*=(counted a) { return count(), value *= a.value, *this; }
  constexpr counted& operator/=(counted a) { return count(), value /= a.value, *this; }
  friend constexpr counted operator+(counted a, counted b) { return a += b; }
  friend constexpr counted operator-(counted a, counted b) { return a -= b; }
  friend constexpr counted operator*(counted a, counted b) { return a *= b; }
  friend constexpr counted operator/(counted a, counted b) { return a /= b; }
  friend constexpr counted operator-(counted a) { return counted(-a.value); }
  friend constexpr bool operator==(counted a, counted b) { return a.value == b.value; }
  friend constexpr auto operator<=>(counted a, counted b) { return a.value <=> b.value; }
  friend counted abs(counted a) { return counted(std::abs(a.value)); }

 private:
  static constexpr void count() {
    if (!std::is_constant_evaluated()) ++flops;
  }
};

}  // namespace bench

// Named with std:: where hoft computes with reals, so nothing else would be found.
namespace std {
constexpr bench::counted real(bench::counted a) { return a; }
inline bool isfinite(bench::counted a) { return isfinite(double(a)); }
inline int ilogb(bench::counted a) { return ilogb(double(a)); }
inline bench::counted scalbn(bench::counted a, int n) { return bench::counted(scalbn(double(a), n)); }
inline bench::counted sqrt(bench::counted a) { return bench::counted(sqrt(double(a))); }
template <>
struct numeric_limits<bench::counted> : numeric_limits<double> {
  static constexpr bench::counted min() { return bench::counted(numeric_limits<double>::min()); }
  static constexpr bench::counted max() { return bench::counted(numeric_limits<double>::max()); }
  static constexpr bench::counted lowest() { return bench::counted(numeric_limits<double>::lowest()); }
  static constexpr bench::counted epsilon() { return bench::counted(numeric_limits<double>::epsilon()); }
  static constexpr bench::counted quiet_NaN() { return bench::counted(numeric_limits<double>::quiet_NaN()); }
};
}  // namespace std

#include <hoft/core/scalar.hpp>

#include <Eigen/Core>

template <>
struct hoft::scalar_traits<bench::counted> {
  using accumulator = bench::counted;
  using real = bench::counted;
};

template <>
struct Eigen::NumTraits<bench::counted> : Eigen::GenericNumTraits<bench::counted> {
  enum {
    IsComplex = 0,
    IsInteger = 0,
    IsSigned = 1,
    RequireInitialization = 1,
    ReadCost = 1,
    AddCost = 1,
    MulCost = 1
  };
};
