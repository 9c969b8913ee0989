// SPDX-License-Identifier: BSD-3-Clause
// What a compact WY form knows of itself, and the ways to say which product is meant.
#include "support.hpp"

#include <hoft/hoft.hpp>

#include <concepts>
#include <string>
#include <tuple>
#include <vector>

using namespace hoft_test;
using namespace hoft;

namespace {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

struct problem {
  static constexpr index_t m = 7, n = 5, r = 3, rv = 2;
  Matrix U = gaussian<double>(m, r, 1), V = gaussian<double>(n, rv, 2), X = gaussian<double>(m, n, 3),
         dY = gaussian<double>(m, n, 4);
  Vector tau = gaussian<double>(r, 1, 5), s = gaussian<double>(m, 1, 6);
  std::vector<std::byte> memory = std::vector<std::byte>(100000);
  workspace work() { return {memory.data(), index_t(memory.size())}; }
};

/// Whatever reads a form says that nobody filled this one, and writes nothing.
template <class F>
void says_that_it_is_not_filled(std::string const& function, std::string const& argument, F const& f) {
  CHECK_THROWS_WITH_AS(f(),
                       ("hoft::" + function + ": " + argument +
                        " is memory that has not been accumulated, must be filled by accumulate first")
                           .c_str(),
                       argument_error);
}

}  // namespace

TEST_CASE("a form that owns its memory is filled in place, and knows what it holds") {
  problem p;
  compact_wy<double> Q(p.m, p.r, exact{}, p.r);
  double const* const storage = Q.vectors().data();
  Matrix const& U = p.U;

  accumulate(cpu{}, U, Q, exact{}, p.work());
  CHECK(Q.vectors().data() == storage);
  CHECK(same_bits(Q.factor(), accumulate(U).factor()));
  CHECK(Q.view().orthogonal());

  accumulate(cpu{}, U, p.tau, Q, p.work());
  auto const expected = accumulate(U, p.tau);
  CHECK(same_bits(Q.vectors(), expected.vectors()));
  CHECK(same_bits(Q.factor(), expected.factor()));
  CHECK(Q.view().explicit_tau);
  CHECK_THROWS_WITH_AS(static_cast<void>(apply_backward_from_output(Q, p.X, p.dY)),
                       "hoft::apply_backward_from_output: Q is built with explicit tau, must be built with exact{}, or "
                       "W given, to recover the input from the output",
                       argument_error);

  accumulate(cpu{}, U, Q, neumann{2}, p.work());
  CHECK((Q.kind().truncated && Q.kind().terms == 2));
  CHECK_FALSE(Q.view().explicit_tau);
  CHECK(same_bits(Q.factor(), accumulate(U, neumann{2}).factor()));

  // What is refused changes nothing.
  Matrix const before = Q.factor(), other = gaussian<double>(p.m, p.r + 1, 9);
  CHECK_THROWS_AS(accumulate(cpu{}, other, Q, exact{}, p.work()), shape_error);
  CHECK_THROWS_AS(accumulate(cpu{}, U, Q, exact{}, workspace{}), workspace_error);
  CHECK(Q.kind().truncated);
  CHECK(same_bits(Q.factor(), before));
  apply(Q, p.X);
}

TEST_CASE("what a form says of itself goes where its memory goes") {
  problem p;
  Matrix const &U = p.U, X0 = p.X;
  auto const reflectors = accumulate(U), with_tau = accumulate(U, p.tau);
  auto a = reflectors, b = with_tau;
  a = std::move(b);
  CHECK(a.view().explicit_tau);
  CHECK(same_bits(a.factor(), with_tau.factor()));
  CHECK((b.rows() == 0 && b.rank() == 0 && !b.view().explicit_tau));
  b = reflectors;
  CHECK_FALSE(b.view().explicit_tau);
  CHECK(same_bits(b.factor(), reflectors.factor()));
  auto const c = std::move(b);
  CHECK((c.rank() == p.r && b.rank() == 0));
  apply(c, p.X);
  Matrix expected = X0;
  apply(reflectors, expected);
  CHECK(same_bits(p.X, expected));
  compact_wy<double> empty(p.m, p.r, exact{}, p.r);
  a = empty;
  says_that_it_is_not_filled("apply", "Q", [&] { apply(a, p.X); });
}

TEST_CASE("a form that nobody accumulated is refused by every call that reads it") {
  problem p;
  Matrix const X0 = p.X;
  compact_wy<double> const Q(p.m, p.r, exact{}, p.r);
  says_that_it_is_not_filled("apply", "Q", [&] { apply(Q, p.X); });
  says_that_it_is_not_filled("apply", "Q", [&] { apply(Q, p.dY, p.X); });
  says_that_it_is_not_filled("apply", "Q", [&] { static_cast<void>(apply_and_save(Q, p.X)); });
  says_that_it_is_not_filled("materialize", "Q", [&] { static_cast<void>(materialize(Q, 2)); });
  says_that_it_is_not_filled("materialize", "Q", [&] { materialize(cpu{}, Q.view(), as_view(p.X), p.work()); });
  says_that_it_is_not_filled("materialize", "Q", [&] { static_cast<void>(orthogonality_error(Q)); });
  says_that_it_is_not_filled("apply_backward", "Q", [&] { static_cast<void>(apply_backward(Q, p.X, p.dY)); });
  says_that_it_is_not_filled("apply_backward_from_output", "Q",
                             [&] { static_cast<void>(apply_backward_from_output(Q, p.X, p.dY)); });
  Matrix const W = gaussian<double>(p.r, p.n, 7);
  says_that_it_is_not_filled("apply_backward_from_output", "Q",
                             [&] { static_cast<void>(apply_backward_from_output(Q, p.X, W, p.dY)); });

  // Views too, and adapters made of them.
  form_memory memory;
  auto left = memory.cut<double>(p.m, p.r, p.r), right = memory.cut<double>(p.n, p.rv, p.rv);
  says_that_it_is_not_filled("apply", "Q",
                             [&] { apply(cpu{}, left, as_view(p.X), as_view(p.X), side::left, op::plain, p.work()); });
  for (bool left_is_filled : {false, true}) {
    if (left_is_filled) accumulate(cpu{}, as_view(p.U), left, exact{}, p.work());
    std::string const side_of = left_is_filled ? "a.right" : "a.left";
    adapter_view<double const> const a = adapter_view<double>(left, right);
    auto const x = as_view(p.X);
    says_that_it_is_not_filled("merge", side_of, [&] { merge(cpu{}, a, x, x, p.work()); });
    says_that_it_is_not_filled("unmerge", side_of, [&] { unmerge(cpu{}, a, x, p.work()); });
    Matrix dU(p.m, p.r), dV(p.n, p.rv), L(p.m, p.r + p.rv), R(p.r + p.rv, p.n);
    says_that_it_is_not_filled("merge_backward", side_of, [&] {
      merge_backward(cpu{}, a, x, x, as_view(dU), as_view(dV), vector_view<double>{}, p.work());
    });
    says_that_it_is_not_filled("low_rank", side_of, [&] { low_rank(cpu{}, a, x, as_view(L), as_view(R), p.work()); });
    says_that_it_is_not_filled("scaled_low_rank", side_of, [&] {
      scaled_low_rank(cpu{}, a, x, as_view(L), as_view(R), vector_view<double>(L.data(), p.m), p.work());
    });
    arena kept({p.memory.data(), 50000});
    auto const state = carve_layer_state<double, col_major>(kept, a, 4);
    auto const g = carve_layer_gradient(kept, a);
    auto layer = carve_layer(kept, a);
    workspace const work{p.memory.data() + 50000, 50000};
    Matrix xs(p.n, 4), ys(p.m, 4), dv(p.rv, 4);
    auto const base = dense(X0);
    says_that_it_is_not_filled("bind_layer", side_of, [&] { bind_layer<double>(cpu{}, a, base, layer, work); });
    layer.bound = true;  // the parts put together by hand
    says_that_it_is_not_filled("project", side_of, [&] { project(cpu{}, layer, as_view(xs), state.v, work); });
    says_that_it_is_not_filled("adapt", side_of, [&] { adapt(cpu{}, layer, as_view(ys), as_view(ys), state, work); });
    says_that_it_is_not_filled("forward", side_of,
                               [&] { forward(cpu{}, layer, base, as_view(xs), as_view(ys), state, work); });
    says_that_it_is_not_filled("backward", side_of, [&] {
      backward(cpu{}, layer, base, as_view(xs), as_view(ys), state, as_view(ys), as_view(ys), as_view(xs), g, work);
    });
    says_that_it_is_not_filled("adapt_backward", side_of, [&] {
      adapt_backward(cpu{}, layer, as_view(ys), state, as_view(ys), as_view(ys), as_view(dv), g, work);
    });
    says_that_it_is_not_filled("project_backward", side_of,
                               [&] { project_backward(cpu{}, layer, as_view(xs), as_view(dv), as_view(xs), g, work); });
    says_that_it_is_not_filled("finish", side_of, [&] {
      finish<double>(cpu{}, layer, base, g, as_view(dU), as_view(dV), vector_view<double>{}, work);
    });
  }
  CHECK(same_bits(p.X, X0));
}

TEST_CASE("forms that hold something without accumulate") {
  problem p;
  Matrix const X0 = p.X;
  apply(compact_wy<double>(p.m), p.X);  // the identity
  CHECK(same_bits(p.X, X0));
  CHECK(same_bits(materialize(compact_wy<double>(p.m), p.m), Matrix::Identity(p.m, p.m)));
  form_memory memory;
  auto const none = memory.cut<double>(p.m, 0, 1);
  apply(cpu{}, none, as_view(p.X), as_view(p.X), side::left, op::plain, p.work());
  CHECK(same_bits(p.X, X0));

  // Put together from arrays: the caller says so.
  auto const from = accumulate(p.U);
  auto arrays = memory.cut<double>(p.m, p.r, p.r);
  auto const source = from.view();
  as_eigen(arrays.vectors) = as_eigen(source.vectors);
  as_eigen(arrays.factor) = as_eigen(source.factor);
  arrays.filled = true;
  apply(cpu{}, arrays, as_view(p.X), as_view(p.X), side::left, op::plain, p.work());
  Matrix expected = X0;
  apply(from, expected);
  CHECK(same_bits(p.X, expected));
}

namespace {

/// X := Q X or what else is said, by its longest name.
template <class T>
hoft_test::dense_matrix<T> product(compact_wy<T> const& Q, hoft_test::dense_matrix<T> X, side s, op o) {
  apply(cpu{}, Q, X, s, o);
  return X;
}

}  // namespace

TEST_CASE_TEMPLATE("every way to say which product is meant", T, double, std::complex<float>) {
  using matrix = hoft_test::dense_matrix<T>;
  matrix const U = gaussian<T>(6, 3, 1), X = gaussian<T>(6, 4, 2), R = gaussian<T>(4, 6, 3), dY = gaussian<T>(6, 4, 4);
  Eigen::Matrix<T, Eigen::Dynamic, 1> const tau = gaussian<T>(3, 1, 5);
  for (auto Q : {accumulate(U), accumulate(U, neumann{2}), accumulate(U, tau)}) {
    auto const Qh = adjoint(Q);
    CHECK((Qh.rows() == 6 && Qh.rank() == 3 && &adjoint(Qh) == &Q));
    matrix const left = product(Q, X, side::left, op::plain), left_adjoint = product(Q, X, side::left, op::adjoint),
                 right = product(Q, R, side::right, op::plain), right_adjoint = product(Q, R, side::right, op::adjoint);
    // Q and Qᴴ are told apart.
    CHECK_FALSE(same_bits(right, right_adjoint));

    auto const in_place = [&](matrix from, matrix const& expected, auto const& call) {
      call(from);
      CHECK(same_bits(from, expected));
    };
    in_place(X, left, [&](matrix& x) { apply(Q, x); });
    in_place(X, left_adjoint, [&](matrix& x) { apply(Qh, x); });
    in_place(X, left_adjoint, [&](matrix& x) { apply(Q, x, op::adjoint); });
    in_place(X, left_adjoint, [&](matrix& x) { apply(cpu{}, adjoint(Q), x); });
    in_place(X, left_adjoint, [&](matrix& x) { apply(cpu{}, Q, x, op::adjoint); });
    in_place(X, left_adjoint, [&](matrix& x) { apply(Q, x.leftCols(4), op::adjoint); });
    in_place(X, left, [&](matrix& x) { apply(adjoint(Q), x, op::adjoint); });
    in_place(X, left, [&](matrix& x) { apply(adjoint(adjoint(Q)), x); });
    in_place(R, right, [&](matrix& x) { apply(x, Q); });
    in_place(R, right, [&](matrix& x) { apply(cpu{.threads = 2}, x, Q); });
    in_place(R, right_adjoint, [&](matrix& x) { apply(x, adjoint(Q)); });
    in_place(R, right_adjoint, [&](matrix& x) { apply(cpu{}, x, Qh); });
    in_place(R, right_adjoint, [&](matrix& x) { apply(x, Q, op::adjoint); });
    in_place(R, right_adjoint, [&](matrix& x) { apply(adjoint(Q), x, side::right); });

    matrix Y(6, 4), Z(4, 6);
    apply(Qh, X, Y), CHECK(same_bits(Y, left_adjoint));
    apply(Q, X, Y, op::plain), CHECK(same_bits(Y, left));
    apply(cpu{}, Q, X, Y, op::adjoint), CHECK(same_bits(Y, left_adjoint));
    apply(R, Q, Z), CHECK(same_bits(Z, right));
    apply(cpu{}, R, Qh, Z), CHECK(same_bits(Z, right_adjoint));
    apply(R, Q, Z, op::adjoint), CHECK(same_bits(Z, right_adjoint));

    CHECK(same_bits(materialize(Qh, 2), product<T>(Q, matrix::Identity(6, 2), side::left, op::adjoint)));
    CHECK(same_bits(materialize(cpu{}, Q, 2), product<T>(Q, matrix::Identity(6, 2), side::left, op::plain)));

    matrix x = X, z = R, expected_x = X, expected_z = R;
    auto const W = apply_and_save(Q, expected_x, side::left, op::adjoint);
    auto const V = apply_and_save(Q, expected_z, side::right, op::plain);
    CHECK(same_bits(apply_and_save(Qh, x), W));
    CHECK(same_bits(x, expected_x));
    CHECK(same_bits(apply_and_save(cpu{}, z, Q), V));
    CHECK(same_bits(z, expected_z));
    x = X;
    CHECK(same_bits(apply_and_save(Q, x, op::adjoint), W));

    auto const same_gradients = [](auto const& g, auto const& h) {
      CHECK(same_bits(g.dX, h.dX));
      CHECK(same_bits(g.dU, h.dU));
      CHECK(same_bits(g.dtau, h.dtau));
    };
    auto const g = apply_backward(Q, X, dY, side::left, op::adjoint);
    same_gradients(apply_backward(Qh, X, dY), g);
    same_gradients(apply_backward(cpu{}, Q, X, dY, op::adjoint), g);
    auto const h = apply_backward_from_output(Q, left_adjoint, W, dY, side::left, op::adjoint);
    same_gradients(apply_backward_from_output(Qh, left_adjoint, W, dY), h);
    same_gradients(apply_backward_from_output(Q, left_adjoint, W, dY, op::adjoint), h);
    if (Q.view().orthogonal()) {
      auto const k = apply_backward_from_output(Q, left_adjoint, dY, side::left, op::adjoint);
      same_gradients(apply_backward_from_output(Qh, left_adjoint, dY), k);
      same_gradients(apply_backward_from_output(Q, left_adjoint, dY, op::adjoint), k);
    }

    // With views.
    auto const q = adjoint(Q.view());
    CHECK(adjoint(q).vectors.data == Q.vectors().data());
    guarded_workspace work(apply_workspace(cpu{}, q, as_view(X)));
    apply(cpu{}, q, as_view(X), as_view(Y), side::left, op::plain, work);
    CHECK(same_bits(Y, left_adjoint));
    matrix E(6, 2);
    guarded_workspace for_columns(materialize_workspace(cpu{}, q, as_view(E)));
    materialize(cpu{}, q, as_view(E), for_columns);
    CHECK(same_bits(E, materialize(Qh, 2)));
  }
  auto const empty = compact_wy<T>(6, 3, exact{}, 3);
  matrix E(6, 2);
  says_that_it_is_not_filled("materialize", "Q", [&] { static_cast<void>(materialize(adjoint(empty), 2)); });
}

TEST_CASE("the type of an adapter is deduced") {
  Matrix const U = gaussian<double>(6, 3, 1), V = gaussian<double>(5, 2, 2);
  Vector const s = gaussian<double>(6, 1, 3);
  cpu const two{.threads = 2};
  adapter const a{U, V}, b{U, V, s}, c{U, V, neumann{2}}, d{U, V, s, neumann{2}}, e{two, U, V}, f{two, U, V, s},
      g{two, U, V, neumann{2}}, h{two, U, V, s, neumann{2}};
  for (auto const& [one, scaled, truncated] : {std::tuple<adapter<double> const&, bool, bool>{a, false, false},
                                               {b, true, false},
                                               {c, false, true},
                                               {d, true, true},
                                               {e, false, false},
                                               {f, true, false},
                                               {g, false, true},
                                               {h, true, true}}) {
    CHECK(one.view().scaled() == scaled);
    CHECK(one.left().kind().truncated == truncated);
  }
  adapter const copy = a;
  static_assert(std::same_as<decltype(copy), adapter<double> const>);
  hoft_test::dense_matrix<Eigen::half> const half_U = U.cast<Eigen::half>(), half_V = V.cast<Eigen::half>();
  adapter const sixteen{half_U, half_V};
  static_assert(std::same_as<decltype(sixteen), adapter<float> const>);
  adapter const block{U.leftCols(2), V.topRows(4)};
  static_assert(std::same_as<decltype(block), adapter<double> const>);
}
