// SPDX-License-Identifier: BSD-3-Clause
// Calls that refill results: the bits of the values, in memory that is kept, with a workspace that is kept.
#define EIGEN_RUNTIME_NO_MALLOC  // Eigen's own memory is not taken by operator new
#include <stdexcept>
#define eigen_assert(x)                   \
  do {                                    \
    if (!(x)) throw std::logic_error(#x); \
  } while (false)
#include <hoft/hoft.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <complex>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

std::atomic<int> allocations{0};
std::atomic<int> left{-1};  // allocations until memory ends; below 0: it does not

void* allocated(std::size_t bytes) noexcept {
  ++allocations;
  if (left == 0 || (left > 0 && left-- == 0)) return nullptr;
  return std::malloc(bytes == 0 ? 1 : bytes);
}
void* allocated_or_thrown(std::size_t bytes) {
  if (void* const memory = allocated(bytes)) return memory;
  throw std::bad_alloc();
}

}  // namespace

void* operator new(std::size_t bytes) { return allocated_or_thrown(bytes); }
void* operator new[](std::size_t bytes) { return allocated_or_thrown(bytes); }
void* operator new(std::size_t bytes, std::nothrow_t const&) noexcept { return allocated(bytes); }
void* operator new[](std::size_t bytes, std::nothrow_t const&) noexcept { return allocated(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace {

using hoft::cpu;
using hoft::index_t;

/// How often memory was asked for during `call`.
template <class Call>
int allocations_during(Call const& call) {
  Eigen::internal::set_is_malloc_allowed(false);
  int const before = allocations;
  call();
  int const after = allocations;
  Eigen::internal::set_is_malloc_allowed(true);
  return after - before;
}

struct shape {
  index_t m, n, ru, rv, t;
};

template <class T>
struct inputs {
  using A = hoft::accumulator_t<T>;
  hoft::dense_matrix<T> U, V, X, dY, M, dMhat, x, dy;
  hoft::dense_vector<A> tau, s;

  explicit inputs(shape p)
      : U(p.m, p.ru),
        V(p.n, p.rv),
        X(p.m, p.n),
        dY(p.m, p.n),
        M(p.m, p.n),
        dMhat(p.m, p.n),
        x(p.n, p.t),
        dy(p.m, p.t),
        tau(p.ru),
        s(p.m) {
    fill();
  }
  /// Other numbers, where the old ones were.
  void fill() {
    for (auto* a : {&U, &V, &X, &dY, &M, &dMhat, &x, &dy}) a->setRandom();
    tau.setRandom();
    s.setRandom();
    s.array() += A(2);  // far from 0, by which scaled_low_rank divides
  }
};

/// What every call gives. A layer refers to the weight that it was bound to.
template <class T>
struct results {
  using A = hoft::accumulator_t<T>;
  using base = decltype(hoft::dense(std::declval<hoft::dense_matrix<T> const&>()));
  using layer_type = decltype(hoft::bind_layer(std::declval<hoft::adapter<A>>(), std::declval<base>()));

  hoft::compact_wy<A> Q, Q_tau;
  hoft::adapter<A> a, b;
  hoft::dense_matrix<T> Y, Mhat, dx;
  hoft::dense_matrix<A> W, E;
  hoft::apply_gradient<A, T, hoft::col_major> from_input, from_output, with_W;
  hoft::adapter_gradient<A> of_merge, of_layer;
  hoft::low_rank_update<T> lora;
  hoft::scaled_low_rank_update<T> dora;
  layer_type layer;
  hoft::layer_gradient<A> sums;
  hoft::forward_result<A, T, hoft::col_major> f;
  hoft::one_call_result<A, T, hoft::col_major> g;
  hoft::backward_result<A, T, hoft::col_major> of_one_call;

  explicit results(inputs<T> const& p)
      : a{p.U, p.V}, b{p.U, p.V, p.s}, layer(hoft::bind_layer(b, hoft::dense(p.M))), sums(layer) {}

  std::reference_wrapper<hoft::adapter_gradient<A> const> one_call() const { return of_one_call; }
  /// body(what, matrix) for everything that holds numbers.
  template <class Body>
  void each(Body const& body) const {
    body("Q", Q.vectors()), body("Q", Q.factor()), body("Q", Q.tau());
    body("Q of tau", Q_tau.vectors()), body("Q of tau", Q_tau.factor());
    body("a", a.left().factor()), body("a", a.right().factor()), body("b", b.scale());
    body("Y", Y), body("Mhat", Mhat), body("W", W), body("E", E), body("dx", dx);
    for (auto const* g_ : {&from_input, &from_output, &with_W})
      body("dX", g_->dX), body("dU", g_->dU), body("dtau", g_->dtau);
    for (hoft::adapter_gradient<A> const& d : {std::cref(of_merge), std::cref(of_layer), one_call()})
      body("dU", d.dU), body("dV", d.dV), body("ds", d.ds);
    body("lora", lora.L), body("lora", lora.R);
    body("dora", dora.L), body("dora", dora.R), body("dora", dora.magnitude);
    body("f", f.y), body("f", f.state.v), body("f", f.state.w), body("f", f.state.q);
    body("g", g.y), body("one call", of_one_call.dx);
  }
};

template <class T>
void refill(cpu const& policy, inputs<T> const& p, results<T>& r) {
  hoft::accumulate(policy, p.U, r.Q);
  hoft::accumulate(policy, p.U, p.tau, r.Q_tau);
  r.a.assign(policy, p.U, p.V);
  r.b.assign(policy, p.U, p.V, p.s);
  hoft::apply(policy, r.Q_tau, p.X, r.Y);
  hoft::apply(policy, r.Y, r.a.right());  // in place
  hoft::apply_and_save(policy, r.Q_tau, r.Y, r.W);
  hoft::materialize(policy, r.Q, p.U.cols(), r.E);
  hoft::apply_backward(policy, r.Q, p.X, p.dY, r.from_input);
  hoft::apply_backward_from_output(policy, r.Q, p.X, p.dY, r.from_output);
  hoft::apply_backward_from_output(policy, r.Q_tau, r.Y, r.W, p.dY, r.with_W);
  hoft::merge(policy, r.b, p.M, r.Mhat);
  hoft::merge(policy, r.a, r.Mhat);
  hoft::unmerge(policy, r.a, r.Mhat);
  hoft::merge_backward(policy, r.a, p.M, p.dMhat, r.of_merge);
  hoft::low_rank(policy, r.a, p.M, r.lora);
  hoft::scaled_low_rank(policy, r.b, p.M, r.dora);
  hoft::bind_layer(policy, r.b, r.layer);
  hoft::forward(policy, r.layer, p.x, r.f);
  r.sums.set_zero();
  hoft::backward(policy, r.layer, p.x, r.f, p.dy, r.sums, r.dx);
  hoft::finish(policy, r.layer, r.sums, r.of_layer);
  hoft::forward(policy, r.a, hoft::dense(p.M), p.x, r.g);
  hoft::backward(policy, r.a, hoft::dense(p.M), p.x, r.g, p.dy, r.of_one_call);
}

/// The same by the calls that return values.
template <class T>
results<T> values(inputs<T> const& p) {
  results<T> r(p);
  r.Q = hoft::accumulate(p.U);
  r.Q_tau = hoft::accumulate(p.U, p.tau);
  r.Y = p.X;
  hoft::apply(r.Q_tau, r.Y);
  hoft::apply(r.Y, r.a.right());
  r.W = hoft::apply_and_save(r.Q_tau, r.Y);
  r.E = hoft::materialize(r.Q, p.U.cols());
  r.from_input = hoft::apply_backward(r.Q, p.X, p.dY);
  r.from_output = hoft::apply_backward_from_output(r.Q, p.X, p.dY);
  r.with_W = hoft::apply_backward_from_output(r.Q_tau, r.Y, r.W, p.dY);
  r.Mhat = p.M;
  hoft::merge(r.b, r.Mhat);
  hoft::merge(r.a, r.Mhat);
  hoft::unmerge(r.a, r.Mhat);
  r.of_merge = hoft::merge_backward(r.a, p.M, p.dMhat);
  r.lora = hoft::low_rank(r.a, p.M);
  r.dora = hoft::scaled_low_rank(r.b, p.M);
  r.f = hoft::forward(r.layer, p.x);
  r.dx = hoft::backward(r.layer, p.x, r.f, p.dy, r.sums);
  r.of_layer = hoft::finish(r.layer, r.sums);
  r.g = hoft::forward(r.a, hoft::dense(p.M), p.x);
  r.of_one_call = hoft::backward(r.a, hoft::dense(p.M), p.x, r.g, p.dy);
  return r;
}

/// Shapes, bits and, of the second, addresses.
struct snapshot {
  std::vector<std::string> names, contents;
  std::vector<void const*> addresses;

  template <class R>
  explicit snapshot(R const& r) {
    r.each([&](char const* name, auto const& a) {
      names.emplace_back(name);
      std::string text = std::to_string(a.rows()) + " x " + std::to_string(a.cols()) + ": ";
      text.append(reinterpret_cast<char const*>(a.data()), std::size_t(a.size()) * sizeof(*a.data()));
      contents.push_back(text);
      addresses.push_back(a.data());
    });
  }
};
void check_same_bits(snapshot const& got, snapshot const& expected) {
  REQUIRE(got.names == expected.names);
  for (std::size_t i = 0; i < got.names.size(); ++i) {
    INFO(got.names[i], ", number ", i);
    CHECK((got.contents[i] == expected.contents[i]));
  }
}

constexpr shape medium{70, 50, 5, 3, 40};

}  // namespace

TEST_CASE_TEMPLATE("a refilled result has the bits of the value, whatever it held before", T, float,
                   std::complex<double>, Eigen::bfloat16) {
  hoft::scratch scratch;
  hoft::thread_pool pool(3);
  inputs<T> p(medium);
  results<T> r(p);
  for (cpu const& policy :
       {cpu{}, cpu{.scratch = &scratch}, cpu{.threads = 3, .executor = &pool, .scratch = &scratch}}) {
    p.fill();
    refill(policy, p, r);
    check_same_bits(snapshot(r), snapshot(values(p)));
  }
}

TEST_CASE_TEMPLATE("a loop allocates nothing after its first round", T, float, std::complex<double>) {
  hoft::scratch scratch, of_threads;
  hoft::thread_pool pool(3);
  inputs<T> p(medium);
  for (cpu const& policy : {cpu{.scratch = &scratch}, cpu{.threads = 3, .executor = &pool, .scratch = &of_threads}}) {
    results<T> r(p);
    refill(policy, p, r);
    snapshot const first(r);
    p.fill();
    CHECK(allocations_during([&] { refill(policy, p, r); }) == 0);
    snapshot const second(r);
    CHECK((second.addresses == first.addresses));
    CHECK((second.contents != first.contents));
    // Calls in place as well.
    CHECK(allocations_during([&] {
            hoft::apply(policy, r.Q, p.X);
            hoft::merge(policy, r.b, p.M);
            hoft::unmerge(policy, r.b, p.M);
          }) == 0);
  }
  // Without memory of the policy's, workspace is allocated.
  results<T> r(p);
  CHECK(allocations_during([&] { hoft::apply_backward(cpu{}, r.a.left(), p.X, p.dY, r.from_input); }) > 0);
}

TEST_CASE("memory that holds another shape is kept, else there is new memory") {
  hoft::scratch scratch;
  cpu const policy{.scratch = &scratch};
  inputs<double> const p(medium);
  auto const Q = hoft::accumulate(p.U);
  hoft::adapter const a{p.U, p.V, p.s};
  auto const layer = hoft::bind_layer(a, hoft::dense(p.M));
  hoft::apply_gradient<double, double, hoft::col_major> g;
  hoft::forward_result<double, double, hoft::col_major> f;
  hoft::dense_matrix<double> dx;
  hoft::layer_gradient sums(layer);
  void const *of_g = nullptr, *of_f = nullptr, *of_dx = nullptr;
  for (index_t t : {20, 7, 0, 20, 1, 31, 20}) {
    bool const grows = f.y.capacity() < medium.m * t;
    auto const X = p.X.leftCols(t), dY = p.dY.leftCols(t), x = p.x.leftCols(t), dy = p.dy.leftCols(t);
    int const count = allocations_during([&] {
      hoft::apply_backward(policy, Q, X, dY, g);
      hoft::forward(policy, layer, x, f);
      hoft::backward(policy, layer, x, f, dy, sums, dx);
    });
    CHECK((grows ? count > 0 : count == 0));
    bool const kept = g.dX.data() == of_g && f.y.data() == of_f && dx.data() == of_dx;
    CHECK(kept == !grows);
    of_g = g.dX.data(), of_f = f.y.data(), of_dx = dx.data();
    auto const expected = hoft::apply_backward(Q, X, dY);
    CHECK((g.dX == expected.dX && g.dU == expected.dU));
    auto const expected_f = hoft::forward(layer, x);
    hoft::layer_gradient of_these(layer);
    CHECK((f.y == expected_f.y && f.state.v == expected_f.state.v && f.state.q == expected_f.state.q));
    CHECK(dx == hoft::backward(layer, x, expected_f, dy, of_these));
  }

  // Forms and adapters of other extents, and from HOFT to SHOFT.
  hoft::compact_wy<double> other;
  hoft::accumulate(p.V, other);
  CHECK(other.factor() == hoft::accumulate(p.V).factor());
  hoft::accumulate(p.U, other, hoft::neumann{2});
  CHECK(other.kind().truncated);
  CHECK(other.factor() == hoft::accumulate(p.U, hoft::neumann{2}).factor());
  hoft::accumulate(p.U, other, {}, 2);
  CHECK(other.block() == 2);
  CHECK(other.factor() == hoft::accumulate(p.U, {}, 2).factor());
  hoft::adapter b{p.V, p.U};
  b.assign(p.U, p.V);
  CHECK((b.rows() == medium.m && b.cols() == medium.n && b.scale().size() == 0));
  auto again = hoft::bind_layer(b, hoft::dense(p.M));
  b.assign(p.U, p.V, p.s);
  hoft::bind_layer(b, again);
  CHECK(hoft::forward(again, p.x).y == hoft::forward(layer, p.x).y);
  b.assign(p.U, p.V, b.scale());
  CHECK(b.scale() == p.s);
  hoft::bind_layer(again.bound_adapter(), again);
  CHECK(hoft::forward(again, p.x).y == hoft::forward(layer, p.x).y);
}

namespace {

/// What a call refuses leaves all results as they are: their elements, their shapes and where they lie.
template <class Error, class Call>
void refuses(results<double> const& r, std::string const& message, Call const& call) {
  snapshot const before(r);
  CHECK_THROWS_WITH_AS(call(), ("hoft::" + message).c_str(), Error);
  snapshot const after(r);
  check_same_bits(after, before);
  CHECK((after.addresses == before.addresses));
}

}  // namespace

TEST_CASE("what is refused is neither written nor resized") {
  inputs<double> p(medium);
  results<double> r(p);
  hoft::scratch scratch;
  cpu const policy{.scratch = &scratch};
  refill(policy, p, r);
  hoft::compact_wy<double> const empty(medium.m, 2, {}, 2);
  using hoft::argument_error, hoft::shape_error;
  // Results keep the shapes of `medium`, and these calls would need others: smaller ones and larger ones.
  for (shape const& other : {shape{60, 44, 4, 2, 7}, shape{90, 64, 7, 6, 80}}) {
    inputs<double> const o(other);
    std::string const m = std::to_string(other.m), n = std::to_string(other.n), t = std::to_string(other.t);
    std::string const columns = std::to_string(other.n - 1);
    auto const Q = hoft::accumulate(o.U);
    auto const narrow = o.dY.leftCols(other.n - 1);
    refuses<shape_error>(r, "apply_backward: dY.cols is " + columns + ", must be == " + n,
                         [&] { hoft::apply_backward(policy, Q, o.X, narrow, r.from_input); });
    refuses<shape_error>(r, "apply_backward_from_output: dY.cols is " + columns + ", must be == " + n,
                         [&] { hoft::apply_backward_from_output(policy, Q, o.X, narrow, r.from_output); });
    refuses<argument_error>(
        r, "materialize: Q is memory that has not been accumulated, must be filled by accumulate first",
        [&] { hoft::materialize(policy, empty, 60, r.E); });
    refuses<shape_error>(r, "materialize: k is 71, must be <= 70",
                         [&] { hoft::materialize(policy, r.Q, medium.m + 1, r.E); });
    refuses<shape_error>(r, "apply: X.rows is " + m + ", must be == 70", [&] { hoft::apply(policy, r.Q, o.X, r.Y); });
    hoft::dense_matrix<double> X = o.X;
    refuses<shape_error>(r, "apply: X.rows is " + m + ", must be == 70",
                         [&] { hoft::apply_and_save(policy, r.Q, X, r.W); });
    refuses<argument_error>(r, "accumulate: neumann.terms is 0, must be >= 1",
                            [&] { hoft::accumulate(policy, o.U, r.Q, hoft::neumann{0}); });
    refuses<shape_error>(r, "accumulate: tau.size is 1, must be == " + std::to_string(other.ru),
                         [&] { hoft::accumulate(policy, o.U, o.tau.head(1), r.Q_tau); });
    hoft::matrix_view<double const> const bad(o.V.data(), other.n, other.rv, 1);
    refuses<shape_error>(r, "adapter: V.ld is 1, must be >= " + n, [&] { r.a.assign(policy, o.U, bad); });
    refuses<shape_error>(r, "adapter: s.size() is 1, must be == " + m,
                         [&] { r.b.assign(policy, o.U, o.V, o.s.head(1)); });
    hoft::adapter const a{o.U, o.V};
    refuses<shape_error>(r, "merge: M.cols is " + columns + ", must be == " + n + ", the rows of V",
                         [&] { hoft::merge(policy, a, narrow, r.Mhat); });
    refuses<shape_error>(r, "merge_backward: dMhat.cols is " + columns + ", must be == " + n,
                         [&] { hoft::merge_backward(policy, a, o.M, narrow, r.of_merge); });
    refuses<shape_error>(r, "low_rank: M.cols is " + columns + ", must be == " + n + ", the rows of V",
                         [&] { hoft::low_rank(policy, a, narrow, r.lora); });
    refuses<argument_error>(r, "scaled_low_rank: a.scale[0] is 0, must be != 0", [&] {
      hoft::dense_vector<double> s = o.s;
      s(0) = 0;
      hoft::scaled_low_rank(policy, hoft::adapter{o.U, o.V, s}, o.M, r.dora);
    });
    refuses<shape_error>(r, "bind_layer: base.rows is 70, must be == " + m + ", the rows of U",
                         [&] { hoft::bind_layer(policy, a, r.layer); });
    refuses<shape_error>(r, "forward: x.rows is " + n + ", must be == 50",
                         [&] { hoft::forward(policy, r.layer, o.x, r.f); });
    refuses<shape_error>(r, "forward: x.rows is " + m + ", must be == " + n,
                         [&] { hoft::forward(policy, a, hoft::dense(o.M), o.dy, r.g); });
    auto const layer = hoft::bind_layer(a, hoft::dense(o.M));
    auto const f = hoft::forward(layer, o.x);
    hoft::layer_gradient sums(layer);
    auto const few = o.dy.leftCols(other.t - 1);
    std::string const less = std::to_string(other.t - 1);
    refuses<shape_error>(r, "backward: dy.cols is " + less + ", must be == " + t,
                         [&] { hoft::backward(policy, layer, o.x, f, few, sums, r.dx); });
    refuses<shape_error>(r, "finish: g is of 70 outputs (g.D_U.rows), must be of " + m,
                         [&] { hoft::finish(policy, layer, r.sums, r.of_layer); });
    auto const one = hoft::forward(a, hoft::dense(o.M), o.x);
    refuses<shape_error>(r, "backward: dy.cols is " + less + ", must be == " + t,
                         [&] { hoft::backward(policy, a, hoft::dense(o.M), o.x, one, few, r.of_one_call); });
  }
}

TEST_CASE("inputs in the memory of a result are refused, but for those that may be the result itself") {
  inputs<double> p(medium);
  results<double> r(p);
  cpu const policy;
  refill(policy, p, r);
  auto const apart = [&](std::string const& start, auto const& call) {
    refuses<hoft::argument_error>(r, start + ", must be in memory of its own", call);
  };
  auto& g = r.from_input;
  apart("apply_backward: X is in the memory of g.dX", [&] { hoft::apply_backward(r.Q, g.dX, p.dY, g); });
  apart("apply_backward: dY is in the memory of g.dX",
        [&] { hoft::apply_backward(r.Q, p.X.leftCols(9), g.dX.leftCols(9), g); });
  apart("apply_backward: dY is in the memory of g.dU", [&] { hoft::apply_backward(r.Q, p.X.leftCols(5), g.dU, g); });
  auto& k = r.with_W;
  apart("apply_backward_from_output: Y is in the memory of g.dX",
        [&] { hoft::apply_backward_from_output(r.Q, k.dX, p.dY, k); });
  apart("apply_backward_from_output: W is in the memory of g.dU",
        [&] { hoft::apply_backward_from_output(r.Q_tau, r.Y, k.dU, p.dY, k); });
  apart("apply: X is in the memory of Y", [&] { hoft::apply(r.Q, r.Y.leftCols(3), r.Y); });
  apart("apply_and_save: X is in the memory of W", [&] { hoft::apply_and_save(r.W, r.a.left(), r.W); });
  apart("accumulate: U is in the memory of Q", [&] { hoft::accumulate(r.Q.vectors(), r.Q); });
  apart("accumulate: tau is in the memory of Q", [&] { hoft::accumulate(p.U, r.Q_tau.tau(), r.Q_tau); });
  apart("adapter: U is in the memory of the adapter", [&] { r.a.assign(r.a.left().vectors(), p.V); });
  apart("adapter: V is in the memory of the adapter", [&] { r.a.assign(p.U, r.a.right().vectors()); });
  apart("adapter: s is in the memory of the adapter", [&] { r.b.assign(p.U, p.V, r.b.left().vectors().col(1)); });
  apart("merge: M is in the memory of Mhat", [&] {
    hoft::merge(hoft::adapter{p.U, p.V.topRows(9)}, r.Mhat.leftCols(9), r.Mhat);
  });
  apart("merge_backward: M is in the memory of dU",
        [&] { hoft::merge_backward(r.a, r.of_merge.dU, p.dMhat, r.of_merge); });
  apart("merge_backward: dMhat is in the memory of dV",
        [&] { hoft::merge_backward(r.a, p.M, r.of_merge.dV, r.of_merge); });
  apart("low_rank: M is in the memory of R", [&] { hoft::low_rank(r.a, r.lora.R, r.lora); });
  apart("scaled_low_rank: M is in the memory of L", [&] { hoft::scaled_low_rank(r.b, r.dora.L, r.dora); });
  apart("backward: x is in the memory of dx", [&] { hoft::backward(r.layer, r.dx, r.f, p.dy, r.sums, r.dx); });
  apart("backward: f.y is in the memory of dx", [&] { hoft::backward(r.layer, p.x, r.f, p.dy, r.sums, r.f.y); });
  apart("backward: dy is in the memory of dx", [&] { hoft::backward(r.layer, p.x, r.f, r.dx, r.sums, r.dx); });
  apart("backward: x is in the memory of dx",
        [&] { hoft::backward(r.a, hoft::dense(p.M), r.of_one_call.dx, r.g, p.dy, r.of_one_call); });

  // In place.
  auto const expected = hoft::apply_backward(r.Q, p.X, p.dY);
  g.dX = p.dY;
  hoft::apply_backward(r.Q, p.X, g.dX, g);
  CHECK((g.dX == expected.dX && g.dU == expected.dU));
  hoft::dense_matrix<double> Y = p.X, X = p.X;
  hoft::apply(r.Q, Y, Y);
  hoft::apply(r.Q, X);
  CHECK(X == Y);
  X = Y = p.M;
  hoft::merge(r.b, Y, Y);
  hoft::merge(r.b, X);
  CHECK(X == Y);
  // Into memory of the caller's, whose shape must fit.
  Eigen::MatrixXd dx(medium.n, medium.t), Mhat(medium.m, medium.n);
  r.sums.set_zero();
  hoft::backward(r.layer, p.x, r.f, p.dy, r.sums, dx);
  CHECK(dx == r.dx);
  hoft::merge(r.b, p.M, Mhat);
  CHECK(Mhat == X);
  CHECK_THROWS_WITH_AS(hoft::merge(r.b, p.M, Mhat.leftCols(2)), "hoft::merge: Mhat.cols is 2, must be == 50",
                       hoft::shape_error);
}

TEST_CASE("a weight in the memory of a result is refused where the base operator says what it reads") {
  inputs<double> p(medium);
  results<double> r(p);
  auto const apart = [&](std::string const& start, auto const& call) {
    refuses<hoft::argument_error>(r, start + ", must be in memory of its own", call);
  };
  std::string const weight = ": the weight of the base is in the memory of ";
  r.dx = r.f.y = r.g.y = r.of_layer.dU = r.of_one_call.dV = p.M;
  auto const bound_to = [&](auto const& M) { return hoft::bind_layer(r.b, hoft::dense(M)); };
  auto const f = hoft::forward(r.layer, p.x);
  apart("forward" + weight + "f.y", [&] { hoft::forward(bound_to(r.f.y), p.x, r.f); });
  apart("forward" + weight + "f.y", [&] { hoft::forward(r.b, hoft::dense(r.g.y), p.x, r.g); });
  apart("backward" + weight + "dx", [&] { hoft::backward(bound_to(r.dx), p.x, f, p.dy, r.sums, r.dx); });
  apart("finish" + weight + "dU", [&] { hoft::finish(bound_to(r.of_layer.dU), r.sums, r.of_layer); });
  auto const one = hoft::forward(r.a, hoft::dense(p.M), p.x);
  auto& d = r.of_one_call;
  apart("backward" + weight + "dV", [&] { hoft::backward(r.a, hoft::dense(d.dV), p.x, one, p.dy, d); });
  d.dx = p.M;
  apart("backward" + weight + "dx", [&] { hoft::backward(r.a, hoft::dense(d.dx), p.x, one, p.dy, d); });
}

TEST_CASE("a call that finds the scratch memory in use has its own, and gives the same bits") {
  inputs<double> const p(medium);
  hoft::scratch scratch;
  cpu const policy{.scratch = &scratch};
  auto const Q = hoft::accumulate(p.U);
  // From within a base operator, which is given the policy.
  struct turned {
    hoft::dense_matrix<double> const& M;
    hoft::compact_wy<double> const& Q;
    index_t rows() const { return M.rows(); }
    index_t cols() const { return M.cols(); }
    void apply(cpu const& caller, hoft::matrix_view<double const> X, hoft::matrix_view<double> Y) const {
      hoft::as_eigen(Y) = M * hoft::as_eigen(X);
      hoft::apply(caller, Q, Y);
    }
    void apply_adjoint(cpu const& caller, hoft::matrix_view<double const> X, hoft::matrix_view<double> Y) const {
      hoft::dense_matrix<double> Z;
      hoft::apply(caller, adjoint(Q), X, Z);
      hoft::as_eigen(Y) = M.transpose() * Z;
    }
    void apply(hoft::matrix_view<double const> X, hoft::matrix_view<double> Y) const { apply(cpu{}, X, Y); }
    void apply_adjoint(hoft::matrix_view<double const> X, hoft::matrix_view<double> Y) const {
      apply_adjoint(cpu{}, X, Y);
    }
  } base{p.M, Q};
  hoft::adapter const a{p.U, p.V};
  auto const f = hoft::forward(policy, a, base, p.x);
  auto const expected = hoft::forward(a, base, p.x);
  CHECK(f.y == expected.y);
  CHECK(hoft::backward(policy, a, base, p.x, f, p.dy).dV == hoft::backward(a, base, p.x, expected, p.dy).dV);

  // From two threads.
  auto const of_one = hoft::apply_backward(Q, p.X, p.dY);
  std::array<bool, 2> same{true, true};
  std::array<std::thread, 2> threads;
  for (std::size_t i = 0; i < 2; ++i)
    threads[i] = std::thread([&, i] {
      hoft::apply_gradient<double, double, hoft::col_major> g;
      for (int round = 0; round < 50; ++round) {
        hoft::apply_backward(policy, Q, p.X, p.dY, g);
        same[i] = same[i] && g.dX == of_one.dX && g.dU == of_one.dU;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK((same[0] && same[1]));
  // It is free again, also behind an error.
  CHECK_THROWS_AS(static_cast<void>(hoft::apply_backward(policy, Q, p.X, p.dY.leftCols(2))), hoft::shape_error);
  hoft::apply_gradient<double, double, hoft::col_major> g;
  hoft::apply_backward(policy, Q, p.X, p.dY, g);
  CHECK(allocations_during([&] { hoft::apply_backward(policy, Q, p.X, p.dY, g); }) == 0);
}

namespace {

hoft::dense_matrix<float> drawn(index_t rows, index_t cols, unsigned seed) {
  std::srand(seed);
  hoft::dense_matrix<float> a(rows, cols);
  a.setRandom();
  return a;
}

}  // namespace

TEST_CASE("where memory ends, nothing is a mixture of two") {
  hoft::dense_matrix<float> const U = drawn(40, 6, 1), V = drawn(30, 6, 2), U2 = drawn(40, 6, 3), V2 = drawn(30, 6, 4),
                                  M = drawn(40, 30, 5), x = drawn(30, 7, 6);
  auto const ends_after = [](int count, auto const& call) {
    left = count;
    bool ended = false;
    try {
      call();
    } catch (std::bad_alloc const&) {
      ended = true;
    }
    left = -1;
    return ended;
  };
  hoft::adapter<float> const b(U2, V2);
  auto const of_b = hoft::forward(hoft::bind_layer(b, hoft::dense(M)), x).y;
  int unbound = 0, unchanged = 0, empty = 0, kept = 0;
  for (int count = 0; count < 20; ++count) {
    hoft::adapter<float> a(U, V), other(drawn(20, 4, 7), drawn(10, 2, 8));
    auto layer = hoft::bind_layer(a, hoft::dense(M));
    if (ends_after(count, [&] { hoft::bind_layer(b, layer); })) {
      ++unbound;
      CHECK_THROWS_AS((void)hoft::forward(layer, x), hoft::argument_error);
    } else {
      CHECK(hoft::forward(layer, x).y == of_b);
    }
    auto const before = a;
    if (ends_after(count, [&] { a.assign(U2, V2); })) {
      bool const same = a.rows() == 40;
      ++(same ? unchanged : empty);
      if (same)
        CHECK((a.left().vectors() == before.left().vectors() && a.right().vectors() == before.right().vectors()));
      else CHECK((a.rows() == 0 && a.cols() == 0));
    } else {
      CHECK((a.left().vectors() == b.left().vectors() && a.right().vectors() == b.right().vectors()));
    }
    // Of other extents, which takes memory for a copy.
    if (ends_after(count, [&] { other = b; })) {
      ++kept;
      CHECK((other.rows() == 20 && other.cols() == 10));
    } else {
      CHECK((other.rows() == 40 && other.cols() == 30));
    }
  }
  CHECK(unbound >= 1);
  CHECK(unchanged >= 1);  // the first side
  CHECK(empty >= 1);
  CHECK(kept >= 2);
}

TEST_CASE("a base that throws leaves a result that no backward pass takes") {
  struct base {
    bool throws = false;
    void apply(hoft::matrix_view<float const> X, hoft::matrix_view<float> Y) {
      if (throws && X.cols == 7) throw std::runtime_error("base");
      hoft::as_eigen(Y).setZero();
    }
    void apply_adjoint(hoft::matrix_view<float const>, hoft::matrix_view<float> Y) { hoft::as_eigen(Y).setZero(); }
  } base;
  hoft::dense_matrix<float> const U = drawn(40, 6, 1), V = drawn(30, 4, 2), x = drawn(30, 7, 6);
  hoft::adapter<float> const a(U, V);
  auto f = hoft::forward(a, base, x);
  base.throws = true;
  CHECK_THROWS_AS(hoft::forward(a, base, x, f), std::runtime_error);
  CHECK_THROWS_AS(hoft::backward(a, base, x, f, f.y), hoft::argument_error);

  base.throws = false;
  auto const layer = hoft::bind_layer(a, base);
  hoft::layer_gradient<float> g(layer);
  auto of_layer = hoft::forward(layer, x);
  auto const dy = of_layer.y;
  base.throws = true;
  CHECK_THROWS_AS(hoft::forward(layer, x, of_layer), std::runtime_error);
  CHECK(of_layer.y.size() == 0);
  CHECK_THROWS_AS((void)hoft::backward(layer, x, of_layer, dy, g), hoft::shape_error);
}

TEST_CASE("a view that begins and ends with a result, and skips part of it, is not the result") {
  hoft::dense_matrix<double> Y(8000, 2);
  Y.setRandom();
  auto const Q = hoft::accumulate(Eigen::MatrixXd(Eigen::MatrixXd::Random(3, 2)));
  Eigen::Map<Eigen::MatrixXd, 0, Eigen::OuterStride<>> const X(Y.data(), 4000, 3, Eigen::OuterStride<>(6000));
  CHECK_THROWS_AS(hoft::apply(X, Q, Y), hoft::argument_error);
}

namespace {

/// The same by each element's address.
template <class D, class E>
bool share_an_element(D const& a, E const& b) {
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i)
      for (index_t l = 0; l < b.cols(); ++l)
        for (index_t k = 0; k < b.rows(); ++k)
          if (&a.coeffRef(i, j) == &b.coeffRef(k, l)) return true;
  return false;
}

}  // namespace

TEST_CASE("two views share an element if two of their addresses are the same") {
  using map = Eigen::Map<Eigen::MatrixXd, 0, Eigen::OuterStride<>>;
  using row_map =
      Eigen::Map<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0, Eigen::OuterStride<>>;
  std::vector<double> memory(200);
  std::srand(1);
  auto const drawn = [](index_t from, index_t to) { return from + std::rand() % (to - from + 1); };
  int shared = 0, interleaved = 0;
  for (int round = 0; round < 4000; ++round) {
    index_t const r = drawn(0, 3), c = drawn(0, 4), k = drawn(0, 3), l = drawn(0, 4);
    map a(memory.data() + drawn(0, 12), r, c, Eigen::OuterStride<>((std::max)(r, index_t(1)) + drawn(0, 6)));
    map b(memory.data() + drawn(0, 12), k, l, Eigen::OuterStride<>((std::max)(k, index_t(1)) + drawn(0, 6)));
    row_map const rows(b.data(), l, k, Eigen::OuterStride<>(b.outerStride()));
    bool const expected = share_an_element(a, b);
    auto const of_a = hoft::as_view(a);
    CHECK(hoft::detail::share_elements(of_a, hoft::as_view(b)) == expected);
    CHECK(hoft::detail::share_elements(of_a, hoft::as_view(rows)) == expected);
    shared += expected;
    interleaved += !expected && hoft::detail::overlap(hoft::detail::memory_range(of_a),
                                                      hoft::detail::memory_range(hoft::as_view(b)));
  }
  CHECK(shared > 200);
  CHECK(interleaved > 200);
}

TEST_CASE("inputs that share elements with memory of the caller's are refused, those beside it are not") {
  inputs<double> p(medium);
  results<double> r(p);
  refill(cpu{}, p, r);
  auto const apart = [](std::string const& start, Eigen::MatrixXd const& memory, auto const& call) {
    Eigen::MatrixXd const before = memory;
    CHECK_THROWS_WITH_AS(call(), ("hoft::" + start + ", must be in memory of its own").c_str(), hoft::argument_error);
    CHECK(memory == before);
  };
  // Columns of one matrix, and rows.
  Eigen::MatrixXd wide = Eigen::MatrixXd::Random(medium.m, 2 * medium.n + 3), tall(2 * medium.m + 3, medium.n);
  tall.setRandom();
  apart("apply: X is in the memory of Y", wide, [&] { hoft::apply(r.Q, wide.leftCols(5), wide.middleCols(2, 5)); });
  apart("apply: X is in the memory of Y", tall,
        [&] { hoft::apply(r.Q, tall.topRows(medium.m), tall.middleRows(medium.m - 1, medium.m)); });
  apart("merge: M is in the memory of Mhat", wide,
        [&] { hoft::merge(r.b, wide.leftCols(medium.n), wide.middleCols(medium.n - 1, medium.n)); });
  Eigen::MatrixXd tokens = Eigen::MatrixXd::Random(medium.n, medium.t + 1);
  auto const f = hoft::forward(r.layer, p.x);
  apart("backward: x is in the memory of dx", tokens,
        [&] { hoft::backward(r.layer, tokens.leftCols(medium.t), f, p.dy, r.sums, tokens.rightCols(medium.t)); });
  apart("backward: x is in the memory of dx", tokens,
        [&] { hoft::backward(r.layer, tokens.leftCols(medium.t), f, p.dy, r.sums, tokens.leftCols(medium.t)); });
  Eigen::MatrixXd both = Eigen::MatrixXd::Random(medium.m, medium.t);
  apart("backward: dy is in the memory of dx", both,
        [&] { hoft::backward(r.layer, p.x, f, both, r.sums, both.topRows(medium.n)); });
  Eigen::MatrixXd weights(medium.m, medium.n + medium.t);
  weights << p.M, Eigen::MatrixXd::Zero(medium.m, medium.t);
  auto const layer = hoft::bind_layer(r.b, hoft::dense(weights.leftCols(medium.n)));
  apart("backward: the weight of the base is in the memory of dx", weights,
        [&] { hoft::backward(layer, p.x, f, p.dy, r.sums, weights.block(0, medium.n - 1, medium.n, medium.t)); });

  // Beside each other.
  auto const beside = weights.block(0, medium.n, medium.n, medium.t);
  hoft::backward(layer, p.x, f, p.dy, r.sums, weights.block(0, medium.n, medium.n, medium.t));
  CHECK(beside == hoft::backward(r.layer, p.x, f, p.dy, r.sums));
  hoft::dense_matrix<double> expected;
  hoft::apply(r.Q, wide.leftCols(5), expected);
  hoft::apply(r.Q, wide.leftCols(5), wide.middleCols(5, 5));
  CHECK(wide.middleCols(5, 5) == expected);
  hoft::merge(r.b, tall.topRows(medium.m), expected);
  hoft::merge(r.b, tall.topRows(medium.m), tall.bottomRows(medium.m));
  CHECK(tall.bottomRows(medium.m) == expected);
  // In place.
  hoft::apply(r.Q, wide.leftCols(5), expected);
  hoft::apply(r.Q, wide.leftCols(5), wide.leftCols(5));
  CHECK(wide.leftCols(5) == expected);
  hoft::merge(r.b, wide.rightCols(medium.n), expected);
  hoft::merge(r.b, wide.rightCols(medium.n), wide.rightCols(medium.n));
  CHECK(wide.rightCols(medium.n) == expected);
}
