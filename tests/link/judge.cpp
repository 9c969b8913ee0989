// SPDX-License-Identifier: BSD-3-Clause
// Judges the numbers of both sources by loops in long double that share nothing with hoft or Eigen.
#include "calls.hpp"

#include <algorithm>
#include <cmath>
#include <iostream>
#include <string>
#include <utility>

namespace hoft_link {
namespace {

using wide = long double;
using columns = std::vector<std::vector<wide>>;

columns columns_of(std::vector<double> const& a, int rows) {
  columns A;
  for (std::size_t i = 0; i < a.size(); i += std::size_t(rows))
    A.emplace_back(a.begin() + std::ptrdiff_t(i), a.begin() + std::ptrdiff_t(i) + rows);
  return A;
}
wide dot(std::vector<wide> const& a, std::vector<wide> const& b) {
  wide sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}
wide norm(std::vector<wide> const& a) { return std::sqrt(dot(a, a)); }
wide norm(columns const& A) {
  wide sum = 0;
  for (auto const& a : A) sum += dot(a, a);
  return std::sqrt(sum);
}
void add(std::vector<wide>& a, wide factor, std::vector<wide> const& b) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += factor * b[i];
}
/// x := x − 2 u (uᵀx) / (uᵀu)
void reflect(std::vector<wide> const& u, std::vector<wide>& x) { add(x, -2 * dot(u, x) / dot(u, u), u); }

/// Q X = H(u₁) ⋯ H(u_r) X
columns apply(columns const& U, columns X) {
  for (auto& x : X)
    for (std::size_t k = U.size(); k-- > 0;) reflect(U[k], x);
  return X;
}
columns apply_adjoint(columns const& U, columns X) {
  for (auto& x : X)
    for (auto const& u : U) reflect(u, x);
  return X;
}
columns transposed(columns const& A) {
  columns B(A[0].size(), std::vector<wide>(A.size()));
  for (std::size_t j = 0; j < A.size(); ++j)
    for (std::size_t i = 0; i < A[j].size(); ++i) B[i][j] = A[j][i];
  return B;
}
columns product(columns const& A, columns const& B) {
  columns C;
  for (auto const& b : B) {
    C.emplace_back(A[0].size(), 0);
    for (std::size_t k = 0; k < A.size(); ++k) add(C.back(), b[k], A[k]);
  }
  return C;
}

/// ∂⟨dY, Q X⟩/∂U, reflector by reflector.
columns gradient(columns const& U, columns const& X, columns const& dY) {
  columns dU(U.size(), std::vector<wide>(U[0].size(), 0));
  for (std::size_t j = 0; j < X.size(); ++j) {
    std::vector<wide> g = dY[j];
    for (std::size_t k = 0; k < U.size(); ++k) {
      std::vector<wide> x = X[j];  // what H(u_k) met
      for (std::size_t l = U.size(); l-- > k + 1;) reflect(U[l], x);
      wide const square = dot(U[k], U[k]), ux = dot(U[k], x), ug = dot(U[k], g);
      add(dU[k], -2 * ux / square, g);
      add(dU[k], -2 * ug / square, x);
      add(dU[k], 4 * ux * ug / (square * square), U[k]);
      reflect(U[k], g);
    }
  }
  return dU;
}

/// ‖T‖_F for Q = I − Û T Ûᵀ: T⁻¹ = ½ I + the strictly upper part of ÛᵀÛ.
wide norm_of_triangle(columns const& U) {
  std::size_t const r = U.size();
  columns T(r, std::vector<wide>(r, 0));
  for (std::size_t j = 0; j < r; ++j)
    for (std::size_t i = j + 1; i-- > 0;) {
      wide sum = i == j;
      for (std::size_t k = i + 1; k <= j; ++k) sum -= dot(U[i], U[k]) / (norm(U[i]) * norm(U[k])) * T[j][k];
      T[j][i] = 2 * sum;
    }
  return norm(T);
}

/// The error of Q x over u ‖x‖: products of length m, r and r and m, each with an error of its length and a rounding
/// for the norm of û, through factors of norm √r, ‖T‖ and √r.
wide growth(columns const& U) {
  auto const m = wide(U[0].size()), r = wide(U.size());
  return 1 + (2 * m + 4 * r + 8) * r * norm_of_triangle(U);
}

class verdicts {
 public:
  explicit verdicts(std::string where) : where_(std::move(where)) {}
  /// Column by column, ‖got − expected‖ <= relative · scale[j] + storage · (‖expected‖ + relative · scale[j]).
  void compare(std::string const& what, std::vector<double> const& got, columns const& expected, wide relative,
               std::vector<wide> const& scale, wide storage = 0) {
    if (got.empty()) return refuse(what + " is missing");
    columns const G = columns_of(got, int(expected[0].size()));
    if (G.size() != expected.size()) return refuse(what + " has another shape");
    for (std::size_t j = 0; j < G.size(); ++j) {
      std::vector<wide> difference = G[j];
      add(difference, -1, expected[j]);
      wide const bound = relative * scale[j], error = norm(difference);
      if (!(error <= bound + storage * (norm(expected[j]) + bound)))
        return refuse(what + ", column " + std::to_string(j) + ": error " + std::to_string(double(error)) + ", bound " +
                      std::to_string(double(bound)) + ", norm " + std::to_string(double(norm(expected[j]))));
    }
  }
  void refuse(std::string const& what) {
    std::cout << "  wrong: " << where_ << ": " << what << '\n';
    ++count_;
  }
  int count() const { return count_; }

 private:
  std::string where_;
  int count_ = 0;
};

std::vector<wide> norms(columns const& A, wide factor = 1) {
  std::vector<wide> all;
  for (auto const& a : A) all.push_back(factor * norm(a));
  return all;
}

void judge(input const& in, output const& out, verdicts& found) {
  columns const U = columns_of(in.U, in.m), V = columns_of(in.V, in.n), X = columns_of(in.X, in.m),
                dY = columns_of(in.dY, in.m), x = columns_of(in.x, in.n);
  wide const u = std::ldexp(1.0L, -out.digits);
  wide const storage = out.storage_digits < out.digits ? std::ldexp(1.0L, -out.storage_digits) : 0;
  wide const c = growth(U) * u;
  auto const of = [&](char const* what) { return out.scalar + ", " + what; };
  columns const Y = apply(U, X), dX = apply_adjoint(U, dY), dU = gradient(U, X, dY);
  found.compare(of("apply through views"), out.Y, Y, c, norms(X), storage);
  found.compare(of("apply by value"), out.value_Y, Y, c, norms(X), storage);
  if (!out.everything) return;

  columns E(U[0].size(), std::vector<wide>(U[0].size(), 0));
  for (std::size_t i = 0; i < E.size(); ++i) E[i][i] = 1;
  found.compare(of("materialize"), out.Q, apply(U, E), c, norms(E));
  found.compare(of("dX through views"), out.dX, dX, c, norms(dY), storage);
  found.compare(of("dX by value"), out.value_dX, dX, c, norms(dY), storage);
  // Three terms of norm at most 4 ‖x‖ ‖g‖ / ‖u‖ and 2 of the half of that, x and g each with the error of apply, and
  // sums over n columns.
  std::vector<wide> scale;
  for (auto const& column : U) scale.push_back(8 * norm(X) * norm(dY) / norm(column));
  wide const summed = 4 * c + wide(in.n) * u;
  found.compare(of("dU through views"), out.dU, dU, summed, scale);
  found.compare(of("dU by value"), out.value_dU, dU, summed, scale);
  if (out.scalar != "float") return;

  // M̂ = Q_U diag(s) M Q_V, (M Q_V)ᵀ = Q_Vᵀ Mᵀ
  columns scaled = transposed(apply_adjoint(V, transposed(X)));
  wide largest = 0;
  for (auto& column : scaled)
    for (std::size_t i = 0; i < column.size(); ++i) column[i] *= wide(in.s[i]);
  for (double s : in.s) largest = std::max(largest, std::abs(wide(s)));
  columns const Mhat = apply(U, scaled);
  wide const both = c + growth(V) * u + 2 * u, size = largest * norm(X);
  found.compare(of("merge"), out.merged, Mhat, both, std::vector<wide>(Mhat.size(), size));
  // M x, and K = M V T beside it, are sums of n terms; K v is no larger than growth(V) allows for.
  found.compare(of("forward"), out.forward, product(Mhat, x), both + 2 * wide(in.n) * u, norms(x, size));
  // y is linear in s, so s · ∂½‖y‖²/∂s = ‖y‖². Each element of ds is a sum over t tokens of numbers, one of each of the
  // two passes, that are both off by what forward is.
  wide const y = norm(product(Mhat, x)), sums = 2 * (both + 2 * wide(in.n + in.t) * u) * norm(X) * norm(x) * y;
  wide allowed = 0;
  for (double s : in.s) allowed += std::abs(wide(s)) * sums;
  if (!(std::abs(out.scale_slope - y * y) <= allowed))
    found.refuse("the slope in s is " + std::to_string(out.scale_slope) + ", expected " +
                 std::to_string(double(y * y)));
  wide squares = 0;
  for (std::size_t i = 0; i < U.size(); ++i)
    for (std::size_t j = 0; j < U.size(); ++j) squares += std::pow(dot(U[i], U[j]) - (i == j), 2);
  wide const expected = std::sqrt(squares / wide(U.size()));
  // Measured in long double, and rounded to float.
  if (!(std::abs(out.orthogonality_error - expected) <= 2 * u * expected))
    found.refuse("orthogonality error " + std::to_string(out.orthogonality_error));
}

/// Multiples of 1/64 in (−2, 2), seven bits.
std::vector<double> numbers(int count, unsigned& state) {
  std::vector<double> all;
  for (int i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    all.push_back((int(state >> 25) * 2 - 127) / 64.0);
  }
  return all;
}

int run() {
  input in;
  in.m = 67, in.n = 45, in.r = 5, in.rv = 3, in.t = 19;
  unsigned state = 7;
  in.U = numbers(in.m * in.r, state), in.V = numbers(in.n * in.rv, state), in.s = numbers(in.m, state);
  in.X = numbers(in.m * in.n, state), in.dY = numbers(in.m * in.n, state), in.x = numbers(in.n * in.t, state);
  int wrong = 0;
  for (source const& s : {source_a(), source_b(), source_a()}) {
    verdicts found(s.target);
    for (output const& out : s.compute(in)) judge(in, out, found);
    std::vector<double> Y;
    std::string const message = s.exchange(in, Y);
    if (!message.empty()) found.refuse(message);
    columns const U = columns_of(in.U, in.m), X = columns_of(in.X, in.m);
    found.compare("the other source's apply", Y, apply(U, X), growth(U) * std::ldexp(1.0L, -24), norms(X));
    wrong += found.count();
  }
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace hoft_link

int main() {
  try {
    return hoft_link::run();
  } catch (std::exception const& error) {
    std::cout << "  wrong: " << error.what() << '\n';
    return 1;
  }
}
