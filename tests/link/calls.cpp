// SPDX-License-Identifier: BSD-3-Clause
// One of two sources of a program, compiled with flags of its own: HOFT_LINK_SELF and HOFT_LINK_OTHER are a and b.
#include "calls.hpp"

#include <hoft/hoft.hpp>

#include <limits>
#include <typeinfo>
#include <vector>

#define HOFT_LINK_JOIN_EXPANDED(a, b) a##b
#define HOFT_LINK_JOIN(a, b) HOFT_LINK_JOIN_EXPANDED(a, b)
#define HOFT_LINK_MINE(name) HOFT_LINK_JOIN(name, HOFT_LINK_SELF)
#define HOFT_LINK_OTHERS(name) HOFT_LINK_JOIN(name, HOFT_LINK_OTHER)
#define HOFT_LINK_TEXT_EXPANDED(a) #a
#define HOFT_LINK_TEXT(a) HOFT_LINK_TEXT_EXPANDED(a)
#if !defined(HOFT_ABI_TARGET)  // hoft before it named instruction sets
#define HOFT_ABI_TARGET unnamed
#endif

namespace hoft_link {

// Defined by one source, called by the other, with hoft's types in their names: these are the same in both.
using form = hoft::compact_wy_view<float const>;
hoft::index_t memory_in_a(form const& Q, hoft::matrix_view<float> X);
hoft::index_t memory_in_b(form const& Q, hoft::matrix_view<float> X);
void apply_in_a(form const& Q, hoft::matrix_view<float> X, hoft::workspace work);
void apply_in_b(form const& Q, hoft::matrix_view<float> X, hoft::workspace work);
void fail_in_a(int which);
void fail_in_b(int which);

hoft::index_t HOFT_LINK_MINE(memory_in_)(form const& Q, hoft::matrix_view<float> X) {
  return apply_workspace(hoft::cpu{}, Q, X, hoft::side::left);
}
void HOFT_LINK_MINE(apply_in_)(form const& Q, hoft::matrix_view<float> X, hoft::workspace work) {
  apply(hoft::cpu{}, Q, X, X, hoft::side::left, hoft::op::plain, work);
}
void HOFT_LINK_MINE(fail_in_)(int which) {
  if (which == 0) throw hoft::shape_error("shape");
  if (which == 1) throw hoft::workspace_error("workspace");
  throw hoft::argument_error("argument");
}

namespace {

using hoft::index_t;

template <class T>
using map = Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic> const>;

template <class T>
std::vector<T> narrowed(std::vector<double> const& a) {
  return std::vector<T>(a.begin(), a.end());
}
template <class T>
std::vector<double> widened(T const* a, index_t count) {
  std::vector<double> b;
  for (index_t i = 0; i < count; ++i) b.push_back(static_cast<double>(a[i]));
  return b;
}
template <class D>
std::vector<double> widened(D const& A) {
  return widened(A.data(), A.size());
}

struct room {
  explicit room(index_t size) : bytes(std::size_t(size)) {}
  operator hoft::workspace() { return {bytes.data(), index_t(bytes.size())}; }
  std::vector<std::byte> bytes;
};

/// A form through views, and the memory that it lies in.
template <class A>
struct viewed_form {
  viewed_form(index_t m, index_t r) : memory(size_of(m, r)) {
    hoft::arena arena{hoft::workspace(memory)};
    Q = hoft::carve_compact_wy<A>(arena, m, r, r);
  }
  static index_t size_of(index_t m, index_t r) {
    hoft::arena count;
    hoft::carve_compact_wy<A>(count, m, r, r);
    return count.size();
  }
  room memory;
  hoft::compact_wy_view<A> Q;
};

template <class T>
auto form_of(std::vector<T> const& U, index_t m, index_t r) {
  using A = hoft::accumulator_t<T>;
  viewed_form<A> form(m, r);
  room work(hoft::accumulate_workspace<A>(hoft::cpu{}, r, r));
  accumulate(hoft::cpu{}, hoft::matrix_view<T const>(U.data(), m, r), form.Q, {}, work);
  return form;
}

/// Through views.
template <class T>
void through_views(input const& in, output& out) {
  using A = hoft::accumulator_t<T>;
  std::vector<T> const U = narrowed<T>(in.U), X = narrowed<T>(in.X), dY = narrowed<T>(in.dY);
  index_t const m = in.m, n = in.n, r = in.r;
  auto const form = form_of(U, m, r);
  hoft::compact_wy_view<A const> const Q = form.Q;

  std::vector<T> Y = X;
  hoft::matrix_view<T> const y(Y.data(), m, n);
  room work(apply_workspace(hoft::cpu{}, Q, y, hoft::side::left));
  apply(hoft::cpu{}, Q, y, y, hoft::side::left, hoft::op::plain, work);
  out.Y = widened(Y.data(), m * n);
#if defined(HOFT_LINK_EVERYTHING)
  std::vector<T> dX(X.size());
  std::vector<A> dU(U.size());
  hoft::matrix_view<T const> const x(X.data(), m, n), dy(dY.data(), m, n);
  room more(apply_backward_workspace(hoft::cpu{}, Q, x, hoft::side::left));
  apply_backward(hoft::cpu{}, Q, x, dy, hoft::matrix_view<T>(dX.data(), m, n), hoft::matrix_view<A>(dU.data(), m, r),
                 hoft::vector_view<A>{}, hoft::side::left, hoft::op::plain, more);
  out.dX = widened(dX.data(), m * n);
  out.dU = widened(dU.data(), m * r);
#endif
}

/// The forms that return their results. They read maps: matrices that Eigen owns are not safe in such a program.
template <class T>
void by_value(input const& in, output& out) {
  std::vector<T> const U = narrowed<T>(in.U), X = narrowed<T>(in.X), dY = narrowed<T>(in.dY);
  auto const Q = hoft::accumulate(map<T>(U.data(), in.m, in.r));
  std::vector<T> Y = X;
  apply(Q, Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>>(Y.data(), in.m, in.n));
  out.value_Y = widened(Y.data(), in.m * in.n);
#if defined(HOFT_LINK_EVERYTHING)
  out.Q = widened(materialize(Q, in.m));
  auto const g = apply_backward(Q, map<T>(X.data(), in.m, in.n), map<T>(dY.data(), in.m, in.n));
  out.value_dX = widened(g.dX);
  out.value_dU = widened(g.dU);
#endif
}

/// What is called in one scalar: the adapter, and what is taken as numerical reference.
template <class T>
void adapted(input const& in, output& out) {
  std::vector<T> const U = narrowed<T>(in.U), V = narrowed<T>(in.V), s = narrowed<T>(in.s), x = narrowed<T>(in.x);
  Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, 1> const> const scale(s.data(), in.m);
  hoft::adapter<T> const a(map<T>(U.data(), in.m, in.r), map<T>(V.data(), in.n, in.rv), scale);
  std::vector<T> M = narrowed<T>(in.X);
  map<T> const weight(M.data(), in.m, in.n);
  map<T> const tokens(x.data(), in.n, in.t);
  auto const layer = hoft::bind_layer(a, hoft::dense(weight));
  auto const f = forward(layer, tokens);
  out.forward = widened(f.y);
  hoft::layer_gradient<T> sums(layer);
  static_cast<void>(backward(layer, tokens, f, f.y, sums));
  auto const d = finish(layer, sums);
  for (index_t i = 0; i < in.m; ++i) out.scale_slope += in.s[std::size_t(i)] * double(d.ds[i]);
  merge(a, Eigen::Map<Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>>(M.data(), in.m, in.n));
  out.merged = widened(M.data(), in.m * in.n);
  out.orthogonality_error = double(hoft::orthogonality_error(map<T>(U.data(), in.m, in.r)));
}

template <class T>
void compute_one(char const* name, input const& in, std::vector<output>& all) {
  output out;
  out.scalar = name;
  out.digits = std::numeric_limits<hoft::accumulator_t<T>>::digits;
  out.storage_digits = hoft::significand_bits<T>;
#if defined(HOFT_LINK_EVERYTHING)
  out.everything = true;
#endif
  through_views<T>(in, out);
  by_value<T>(in, out);
  all.push_back(out);
}

std::vector<output> compute(input const& in) {
  std::vector<output> all;
  compute_one<float>("float", in, all);
#if defined(HOFT_LINK_EVERYTHING)
  adapted<float>(in, all.back());
  compute_one<Eigen::half>("half", in, all);
  compute_one<Eigen::bfloat16>("bfloat16", in, all);
  compute_one<double>("double", in, all);
#endif
  return all;
}

template <class Error>
bool catches(int which) {
  try {
    HOFT_LINK_OTHERS(fail_in_)(which);
  } catch (Error const& error) {
    return typeid(error) == typeid(Error);
  } catch (...) {
  }
  return false;
}

std::string exchange(input const& in, std::vector<double>& Y) {
  auto const U = narrowed<float>(in.U);
  auto X = narrowed<float>(in.X);
  auto const made = form_of(U, in.m, in.r);
  hoft::matrix_view<float> const view(X.data(), in.m, in.n);
  room work(HOFT_LINK_OTHERS(memory_in_)(made.Q, view));
  HOFT_LINK_OTHERS(apply_in_)(made.Q, view, work);
  Y = widened(X.data(), view.rows * view.cols);
  if (!catches<hoft::shape_error>(0) || !catches<hoft::workspace_error>(1) || !catches<hoft::argument_error>(2))
    return "an error of the other source is not caught by its type";
  // An error that the other source's checks throw, not only its throw expressions.
  try {
    HOFT_LINK_OTHERS(apply_in_)(made.Q, view, {});
  } catch (hoft::workspace_error const&) {
    return "";
  }
  return "the other source takes a workspace of no bytes";
}

}  // namespace

source HOFT_LINK_MINE(source_)() { return {HOFT_LINK_TEXT(HOFT_ABI_TARGET), compute, exchange}; }

}  // namespace hoft_link
