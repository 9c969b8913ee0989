// SPDX-License-Identifier: BSD-3-Clause
// Every documented error, its message, and that nothing was written before it. (What must not compile is in refusals/.)
#include "support.hpp"

#include <hoft/hoft.hpp>

#include <functional>
#include <string>
#include <tuple>

using namespace hoft_test;
using namespace hoft;

namespace {

using Matrix = Eigen::MatrixXd;
using Vector = Eigen::VectorXd;

/// f must throw Error with exactly this message.
template <class Error, class F>
void refuses(std::string const& message, F const& f) {
  bool thrown = false;
  try {
    f();
  } catch (Error const& error) {
    thrown = true;
    CHECK(std::string(error.what()) == message);
  }
  CHECK_MESSAGE(thrown, "no error: ", message);
}

struct problem {
  static constexpr index_t m = 7, n = 5, r = 3, t = 4, rv = 2;
  Matrix U = gaussian<double>(m, r, 1), V = gaussian<double>(n, rv, 2), X = gaussian<double>(m, n, 3), X0 = X,
         dY = gaussian<double>(m, n, 4), dX = gaussian<double>(m, n, 5), dX0 = dX, dU = gaussian<double>(m, r, 6),
         dU0 = dU, dV = gaussian<double>(n, rv, 7), dV0 = dV;
  Vector s = gaussian<double>(m, 1, 8), tau = gaussian<double>(r, 1, 9), none = Vector(0);
  compact_wy<double> Q = accumulate(U), Qt = accumulate(U, tau), Qn = accumulate(U, neumann{2});
  adapter<double> a{U, V, s};
  std::vector<std::byte> memory = std::vector<std::byte>(100000);
  workspace work() { return {memory.data(), index_t(memory.size())}; }
  cpu policy;

  ~problem() {
    CHECK(same_bits(X, X0));
    CHECK(same_bits(dX, dX0));
    CHECK(same_bits(dU, dU0));
    CHECK(same_bits(dV, dV0));
  }
};

auto const left = side::left, right = side::right;
auto const plain = op::plain;

struct compact_wy_pieces {
  compact_wy_view<double> Q;
  explicit compact_wy_pieces(arena& memory) : Q(carve_compact_wy<double>(memory, 9, 4, 4)) {}
};
struct long_piece {
  double* data;
  explicit long_piece(arena& memory) : data(memory.array<double>(40)) {}
};
struct no_piece {
  double* data;
  explicit no_piece(arena& memory) : data(memory.array<double>(0)) {}
};
/// The memory may end in either of two that share it, in what lies inside of one, or behind.
struct nested_pieces {
  hoft::detail::overlaid<long_piece, hoft::detail::overlaid<long_piece, compact_wy_pieces>> shared;
  double* behind;
  explicit nested_pieces(arena& memory) : shared(memory), behind(memory.array<double>(3)) {}
};

}  // namespace

TEST_CASE("an arena refuses memory that is smaller than what was counted") {
  arena count;
  carve_compact_wy<double>(count, 9, 4, 4);
  std::vector<std::byte> memory(std::size_t(count.size()));
  arena enough({memory.data(), count.size()});
  carve_compact_wy<double>(enough, 9, 4, 4);
  CHECK_THROWS_AS(enough.array<double>(64), workspace_error);
  arena little({memory.data(), 100});
  index_t const padding = index_t(-reinterpret_cast<std::uintptr_t>(memory.data()) % 64);
  refuses<workspace_error>("hoft::arena: memory.size is 100, must be >= " + std::to_string(padding + 192) + " bytes",
                           [&] { return little.array<double>(20); });
  alignas(64) std::byte line[65];
  arena whole({line, 64}), shifted({line + 1, 64});
  CHECK(static_cast<void*>(whole.array<double>(8)) == line);
  CHECK_THROWS_AS(shifted.array<double>(8), workspace_error);
}

TEST_CASE("the error tells the whole size wherever the memory ends") {
  index_t const needed = hoft::detail::workspace_size<nested_pieces>();
  for (index_t const offset : {0, 1, 63})
    for (index_t size = -1; size <= needed; ++size) {
      std::vector<std::byte> memory(std::size_t(offset + needed));
      auto const carved = [&] { return hoft::detail::carve<nested_pieces>("f", {memory.data() + offset, size}); };
      if (size < needed) {
        refuses<workspace_error>(
            "hoft::f: work.size is " + std::to_string(size) + ", must be >= " + std::to_string(needed) + " bytes",
            carved);
      } else {
        auto const pieces = carved();
        CHECK(pieces.shared.first.data == pieces.shared.second.first.data);
        CHECK(pieces.shared.second.second.Q.vectors.data == pieces.shared.first.data);
        double const* const end = pieces.behind + 3;
        CHECK(reinterpret_cast<std::byte const*>(end) <= memory.data() + memory.size());
        CHECK(pieces.behind >= pieces.shared.first.data + 40);
      }
    }
  CHECK_NOTHROW(hoft::detail::carve<no_piece>("f", workspace{}));
  CHECK_THROWS_AS(hoft::detail::carve<no_piece>("f", {nullptr, -1}), workspace_error);
}

TEST_CASE("a form that nobody accumulated is what the error is about, and not what it meets") {
  compact_wy<double> const empty;
  Matrix X = gaussian<double>(7, 4, 1);
  std::string const words =
      ": Q is empty (it has 0 rows and has not been accumulated), must be what accumulate made of U ";
  refuses<shape_error>("hoft::apply" + words + "with 7 rows", [&] { return apply(empty, X); });
  refuses<shape_error>("hoft::apply" + words + "with 4 rows", [&] { return apply(X, empty); });
  refuses<shape_error>("hoft::apply_backward" + words + "with 7 rows", [&] { return apply_backward(empty, X, X); });
  refuses<shape_error>(
      "hoft::merge: a.left is empty (it has 0 rows and has not been accumulated), must be what "
      "accumulate made of U with 7 rows",
      [&] {
        return merge(cpu{}, adapter_view<double const>{empty.view(), empty.view()}, as_view(X), as_view(X), {});
      });
  Matrix none(0, 4);
  apply(empty, none);
  CHECK(materialize(empty, 0).size() == 0);
}

TEST_CASE("accumulate refuses") {
  problem p;
  refuses<argument_error>("hoft::accumulate: neumann.terms is 0, must be >= 1",
                          [&] { return accumulate(p.U, neumann{0}); });
  refuses<argument_error>("hoft::accumulate: block is 0, must be >= 1", [&] { return accumulate(p.U, exact{}, 0); });
  refuses<argument_error>("hoft::accumulate: block is -1, must be >= 1", [&] { return accumulate(p.U, p.tau, -1); });
  Matrix const wide = gaussian<double>(2, 3, 1);
  refuses<shape_error>("hoft::accumulate: V.cols is 3, must be <= 2", [&] { return accumulate(wide, p.tau); });
  Vector const short_tau = p.tau.head(2).eval();
  refuses<shape_error>("hoft::accumulate: tau.size is 2, must be == 3", [&] { return accumulate(p.U, short_tau); });

  form_memory memory;
  auto q = memory.cut<double>(p.m, p.r, 2);
  Matrix const before = as_eigen(q.vectors);
  Matrix const other = gaussian<double>(p.m, p.r + 1, 1);
  refuses<shape_error>("hoft::accumulate: Q.vectors.cols is 3, must be == 4",
                       [&] { return accumulate(p.policy, as_view(other), q, exact{}, p.work()); });
  refuses<shape_error>("hoft::accumulate: Q.block is 2, must be >= 3",
                       [&] { return accumulate(p.policy, as_view(p.U), q, neumann{2}, p.work()); });
  refuses<shape_error>("hoft::accumulate: U.ld is 6, must be >= 7", [&] {
    accumulate(p.policy, matrix_view<double const>(p.U.data(), 7, 3, 6), q, exact{}, p.work());
  });
  index_t const needed = accumulate_workspace<double>(p.policy, p.r, 2);
  refuses<workspace_error>("hoft::accumulate: work.size is " + std::to_string(needed - 1) +
                               ", must be >= " + std::to_string(needed) + " bytes",
                           [&] {
                             accumulate(p.policy, as_view(p.U), q, exact{}, {p.memory.data(), needed - 1});
                           });
  for (auto const& [name, spoil] : {std::pair<char const*, void (*)(compact_wy_view<double>&)>{
                                        "Q.factor.rows is 1, must be == 2", [](auto& v) { v.factor.rows = 1; }},
                                    {"Q.gram.cols is 2, must be == 3", [](auto& v) { v.gram.cols = 2; }},
                                    {"Q.tau.size is 1, must be == 3", [](auto& v) { v.tau.size = 1; }},
                                    {"Q.scales.rows is 1, must be == 2", [](auto& v) { v.scales.rows = 1; }},
                                    {"Q.block is 0, must be >= 1", [](auto& v) { v.block = 0; }}}) {
    auto spoilt = q;
    spoil(spoilt);
    refuses<shape_error>(std::string("hoft::accumulate: ") + name,
                         [&] { return accumulate(p.policy, as_view(p.U), spoilt, exact{}, p.work()); });
  }
  CHECK(same_bits(as_eigen(q.vectors), before));
}

TEST_CASE("apply and materialize refuse") {
  problem p;
  Matrix wrong = gaussian<double>(p.m + 1, p.n, 1);
  Matrix const wrong0 = wrong;
  refuses<shape_error>("hoft::apply: X.rows is 8, must be == 7", [&] { return apply(p.Q, wrong); });
  refuses<shape_error>("hoft::apply: X.cols is 5, must be == 7", [&] { return apply(p.Q, wrong, right); });
  refuses<shape_error>("hoft::apply: Y.rows is 8, must be == 7", [&] { return apply(p.Q, p.X, wrong); });
  refuses<shape_error>("hoft::apply: X.rows is 8, must be == 7", [&] { return apply_and_save(p.Q, wrong); });
  CHECK(same_bits(wrong, wrong0));
  Matrix W(p.r, p.n - 1);
  auto const q = p.Q.view();
  refuses<shape_error>("hoft::apply: W.cols is 4, must be == 5", [&] {
    return apply(p.policy, q, as_view(p.X), as_view(p.X), left, plain, p.work(), as_view(W));
  });
  index_t const needed = apply_workspace(p.policy, q, as_view(p.X));
  refuses<workspace_error>("hoft::apply: work.size is 0, must be >= " + std::to_string(needed) + " bytes",
                           [&] { apply(p.policy, q, as_view(p.X), as_view(p.X), left, plain, workspace{}); });
  refuses<shape_error>("hoft::materialize: k is 8, must be <= 7", [&] { return materialize(p.Q, 8); });
  refuses<shape_error>("hoft::materialize: k is -1, must be >= 0", [&] { return materialize(p.Q, -1); });
  refuses<shape_error>("hoft::materialize: E.rows is 5, must be == 7", [&] {
    Matrix E(5, 2);
    materialize(p.policy, q, as_view(E), p.work());
  });
  Matrix const X0 = p.X;
  refuses<workspace_error>("hoft::materialize: work.size is 0, must be >= " + std::to_string(needed) + " bytes",
                           [&] { materialize(p.policy, q, as_view(p.X), workspace{}); });
  CHECK(same_bits(p.X, X0));
}

TEST_CASE("apply_backward refuses") {
  problem p;
  auto const call = [&](auto const& Q, auto const& X, auto const& dY, auto& dX, auto& dU, Vector& dtau,
                        workspace work) {
    apply_backward(p.policy, Q.view(), as_view(X), as_view(dY), as_view(dX), as_view(dU), as_vector_view(dtau), left,
                   plain, work);
  };
  Matrix small = gaussian<double>(p.m, p.n - 1, 1);
  Vector dtau = p.tau;
  refuses<shape_error>("hoft::apply_backward: X.rows is 5, must be == 7",
                       [&] { return apply_backward(p.Q, Matrix(p.X.transpose()), p.dY); });
  refuses<shape_error>("hoft::apply_backward: dY.cols is 4, must be == 5",
                       [&] { return call(p.Q, p.X, small, p.dX, p.dU, p.none, p.work()); });
  refuses<shape_error>("hoft::apply_backward: dX.cols is 4, must be == 5",
                       [&] { return call(p.Q, p.X, p.dY, small, p.dU, p.none, p.work()); });
  refuses<shape_error>("hoft::apply_backward: dU.cols is 4, must be == 3",
                       [&] { return call(p.Q, p.X, p.dY, p.dX, small, p.none, p.work()); });
  refuses<shape_error>("hoft::apply_backward: dtau.size is 3, must be == 0",
                       [&] { return call(p.Q, p.X, p.dY, p.dX, p.dU, dtau, p.work()); });
  refuses<shape_error>("hoft::apply_backward: dtau.size is 0, must be == 3",
                       [&] { return call(p.Qt, p.X, p.dY, p.dX, p.dU, p.none, p.work()); });
  index_t const needed = apply_backward_workspace(p.policy, p.Q.view(), as_view(p.X));
  refuses<workspace_error>("hoft::apply_backward: work.size is 1, must be >= " + std::to_string(needed) + " bytes",
                           [&] {
                             call(p.Q, p.X, p.dY, p.dX, p.dU, p.none, {p.memory.data(), 1});
                           });
  std::string const expectation = ", must be built with exact{}, or W given, to recover the input from the output";
  refuses<argument_error>("hoft::apply_backward_from_output: Q is built with neumann{k}" + expectation,
                          [&] { return apply_backward_from_output(p.Qn, p.X, p.dY); });
  refuses<argument_error>("hoft::apply_backward_from_output: Q is built with explicit tau" + expectation,
                          [&] { return apply_backward_from_output(p.Qt, p.X, p.dY); });
  refuses<shape_error>("hoft::apply_backward_from_output: Y.rows is 5, must be == 7",
                       [&] { return apply_backward_from_output(p.Q, Matrix(p.X.transpose()), p.dY); });
  refuses<shape_error>("hoft::apply_backward_from_output: W.rows is 7, must be == 3",
                       [&] { return apply_backward_from_output(p.Qn, p.X, p.X, p.dY); });
}

TEST_CASE("negative extents are refused") {
  problem p;
  auto const q = p.Q.view();
  matrix_view<double> const negative(p.X.data(), p.m, -5, p.m);
  refuses<shape_error>("hoft::apply: X.cols is -5, must be >= 0",
                       [&] { return apply(p.policy, q, negative, negative, left, plain, p.work()); });
  refuses<shape_error>("hoft::accumulate: U.rows is -1, must be >= 0", [&] {
    form_memory memory;
    auto v = memory.cut<double>(1, 1, 1);
    accumulate(p.policy, matrix_view<double const>(p.U.data(), -1, 1, 1), v, exact{}, p.work());
  });
}

TEST_CASE("adapters refuse") {
  problem p;
  auto const a = p.a.view();
  auto const with = [&](auto change) {
    auto b = a;
    change(b);
    return b;
  };
  auto const merges = [&](adapter_view<double const> b) { merge(p.policy, b, as_view(p.X), as_view(p.X), p.work()); };
  auto const unmerges = [&](adapter_view<double const> b) { unmerge(p.policy, b, as_view(p.X), p.work()); };
  refuses<shape_error>("hoft::merge: a.left.factor.rows is 2, must be == 3",
                       [&] { merges(with([](auto& b) { b.left.factor.rows = 2; })); });
  refuses<shape_error>("hoft::merge: a.left.block is 0, must be >= 1",
                       [&] { merges(with([](auto& b) { b.left.block = 0; })); });
  refuses<shape_error>("hoft::unmerge: a.right.tau.size is 3, must be == 2",
                       [&] { unmerges(with([](auto& b) { b.right.tau.size = 3; })); });
  refuses<shape_error>("hoft::unmerge: a.right.gram.cols is 1, must be == 2",
                       [&] { unmerges(with([](auto& b) { b.right.gram.cols = 1; })); });
  refuses<argument_error>("hoft::unmerge: a.right is built with explicit tau, must be built from reflectors alone",
                          [&] { unmerges(with([](auto& b) { b.right.explicit_tau = true; })); });
  refuses<argument_error>("hoft::merge: a.left is built with explicit tau, must be built from reflectors alone",
                          [&] { merges(with([](auto& b) { b.left.explicit_tau = true; })); });
  refuses<shape_error>("hoft::adapter: s.size() is 3, must be == 7", [&] { adapter<double>{p.U, p.V, p.tau}; });
  refuses<argument_error>("hoft::accumulate: neumann.terms is -2, must be >= 1", [&] {
    adapter<double>{p.U, p.V, neumann{-2}};
  });
  refuses<shape_error>("hoft::paired_gaussian: m is -1, must be >= 0",
                       [&] { return paired_gaussian<double>(-1, 2, 1); });
  refuses<shape_error>("hoft::paired_gaussian: r is -1, must be >= 0",
                       [&] { return paired_gaussian<double>(3, -1, 1); });
}

TEST_CASE("merge, unmerge, merge_backward, low_rank and scaled_low_rank refuse") {
  problem p;
  Matrix tall = gaussian<double>(p.m + 1, p.n, 1);
  Matrix const tall0 = tall;
  refuses<shape_error>("hoft::merge: M.rows is 8, must be == 7, the rows of U", [&] { return merge(p.a, tall); });
  refuses<shape_error>("hoft::unmerge: M.rows is 8, must be == 7, the rows of U", [&] { return unmerge(p.a, tall); });
  CHECK(same_bits(tall, tall0));
  // As many reflectors as they are long may be meant; more may too, of a weight that they fit.
  adapter<double> const rows_left{p.U.transpose().eval(), p.V}, rows_right{p.U, p.V.transpose().eval()};
  std::string const transposed = "); it looks transposed: reflectors are columns",
                    of_U = "U is [3, 7], must be of 7 rows (M.rows" + transposed,
                    of_V = "V is [2, 5], must be of 5 rows (M.cols" + transposed;
  Matrix X = p.X;
  refuses<shape_error>("hoft::merge: " + of_U, [&] { return merge(rows_left, X); });
  refuses<shape_error>("hoft::merge: " + of_V, [&] { return merge(rows_right, X); });
  refuses<shape_error>("hoft::unmerge: " + of_U, [&] { return unmerge(rows_left, X); });
  refuses<shape_error>("hoft::merge_backward: " + of_V, [&] { return merge_backward(rows_right, X, p.dY); });
  refuses<shape_error>("hoft::low_rank: " + of_U, [&] { return low_rank(rows_left, X); });
  CHECK(same_bits(X, p.X));
  adapter<double> const square{p.U.topRows(3).eval(), p.V}, many{p.U.transpose().eval(), p.V};
  refuses<shape_error>("hoft::merge: M.rows is 7, must be == 3, the rows of U", [&] { return merge(square, X); });
  // Transposed, U [3, 7] would not fit eight rows either.
  refuses<shape_error>("hoft::merge: M.rows is 8, must be == 3, the rows of U", [&] { return merge(many, tall); });
  CHECK_NOTHROW(merge(many, X = p.X.topRows(3)));
  refuses<shape_error>("hoft::merge: Mhat.rows is 8, must be == 7",
                       [&] { return merge(p.policy, p.a.view(), as_view(p.X), as_view(tall), p.work()); });
  refuses<shape_error>("hoft::merge_backward: M.rows is 8, must be == 7, the rows of U",
                       [&] { return merge_backward(p.a, tall, p.dY); });
  refuses<shape_error>("hoft::merge_backward: dMhat.rows is 8, must be == 7",
                       [&] { return merge_backward(p.a, p.X, tall); });
  refuses<shape_error>("hoft::low_rank: M.rows is 8, must be == 7, the rows of U", [&] { return low_rank(p.a, tall); });
  auto const a = p.a.view();
  Vector ds = Vector::Zero(p.m);
  refuses<shape_error>("hoft::merge_backward: dU.cols is 5, must be == 3", [&] {
    merge_backward(p.policy, a, as_view(p.X), as_view(p.dY), as_view(p.dX), as_view(p.dV), as_vector_view(ds),
                   p.work());
  });
  refuses<shape_error>("hoft::merge_backward: dV.rows is 7, must be == 5", [&] {
    merge_backward(p.policy, a, as_view(p.X), as_view(p.dY), as_view(p.dU), as_view(p.dX), as_vector_view(ds),
                   p.work());
  });
  refuses<shape_error>("hoft::merge_backward: ds.size is 0, must be == 7", [&] {
    merge_backward(p.policy, a, as_view(p.X), as_view(p.dY), as_view(p.dU), as_view(p.dV), as_vector_view(p.none),
                   p.work());
  });
  Matrix L(p.m, p.r), R(p.r + p.rv, p.n);
  refuses<shape_error>("hoft::low_rank: left.cols is 3, must be == 5",
                       [&] { return low_rank(p.policy, a, as_view(p.X), as_view(L), as_view(R), p.work()); });
  Matrix L5(p.m, p.r + p.rv);
  refuses<shape_error>("hoft::low_rank: right.rows is 7, must be == 5",
                       [&] { return low_rank(p.policy, a, as_view(p.X), as_view(L5), as_view(L), p.work()); });
  Vector magnitude(p.m);
  refuses<shape_error>("hoft::scaled_low_rank: right.rows is 7, must be == 5", [&] {
    scaled_low_rank(p.policy, a, as_view(p.X), as_view(L5), as_view(L), as_vector_view(magnitude), p.work());
  });
  refuses<shape_error>("hoft::scaled_low_rank: magnitude.size is 0, must be == 7", [&] {
    scaled_low_rank(p.policy, a, as_view(p.X), as_view(L5), as_view(R), as_vector_view(p.none), p.work());
  });
  for (auto const& [function, needed, call] : {std::tuple<std::string, index_t, std::function<void(workspace)>>{
                                                   "merge", merge_workspace(p.policy, a, as_view(p.X)),
                                                   [&](workspace w) {
                                                     merge(p.policy, a, as_view(p.X), as_view(p.X), w);
                                                   }},
                                               {"unmerge", unmerge_workspace(p.policy, a, as_view(p.X)),
                                                [&](workspace w) { unmerge(p.policy, a, as_view(p.X), w); }},
                                               {"merge_backward", merge_backward_workspace(p.policy, a, as_view(p.X)),
                                                [&](workspace w) {
                                                  merge_backward(p.policy, a, as_view(p.X), as_view(p.dY),
                                                                 as_view(p.dU), as_view(p.dV), as_vector_view(ds), w);
                                                }},
                                               {"low_rank", low_rank_workspace(p.policy, a, as_view(p.X)),
                                                [&](workspace w) {
                                                  low_rank(p.policy, a, as_view(p.X), as_view(L5), as_view(R), w);
                                                }},
                                               {"scaled_low_rank", scaled_low_rank_workspace(p.policy, a, as_view(p.X)),
                                                [&](workspace w) {
                                                  scaled_low_rank(p.policy, a, as_view(p.X), as_view(L5), as_view(R),
                                                                  as_vector_view(magnitude), w);
                                                }}})
    refuses<workspace_error>("hoft::" + function + ": work.size is " + std::to_string(needed - 1) +
                                 ", must be >= " + std::to_string(needed) + " bytes",
                             [&, &call = call, needed = needed] {
                               call({p.memory.data(), needed - 1});
                             });

  adapter<double> const truncated_left{p.U, p.V, neumann{2}};
  refuses<argument_error>("hoft::unmerge: a.left is built with neumann{k}, must be built with exact{}",
                          [&] { return unmerge(truncated_left, p.X); });
  auto mixed = a;
  mixed.right.kind = neumann{2};
  refuses<argument_error>("hoft::unmerge: a.right is built with neumann{k}, must be built with exact{}",
                          [&] { return unmerge(p.policy, mixed, as_view(p.X), p.work()); });
  Vector zero = p.s;
  zero[4] = 0;
  adapter<double> const singular{p.U, p.V, zero};
  refuses<argument_error>("hoft::unmerge: a.scale[4] is 0, must be != 0", [&] { return unmerge(singular, p.X); });
  refuses<argument_error>("hoft::scaled_low_rank: a.scale[4] is 0, must be != 0",
                          [&] { return scaled_low_rank(singular, p.X); });
  auto blocked = a;
  blocked.right.block = 1;
  refuses<shape_error>("hoft::merge: a.right.block is 1, must be >= 2",
                       [&] { return merge(p.policy, blocked, as_view(p.X), as_view(p.X), p.work()); });
}

TEST_CASE("forward, backward and dense refuse") {  // the calls with views: layer_refusals_test
  problem p;
  Matrix const M = p.X;
  auto const base = dense(M);
  Matrix const x = gaussian<double>(p.n, p.t, 1), wrong = gaussian<double>(p.n + 1, p.t, 1),
               dy = gaussian<double>(p.m, p.t, 2);
  refuses<shape_error>("hoft::forward: x.rows is 6, must be == 5", [&] { return forward(p.a, base, wrong); });
  auto const f = forward(p.a, base, x);
  refuses<shape_error>("hoft::backward: x.rows is 6, must be == 5", [&] { return backward(p.a, base, wrong, f, dy); });
  refuses<shape_error>("hoft::backward: dy.rows is 6, must be == 7", [&] { return backward(p.a, base, x, f, wrong); });
  Matrix const fewer = dy.leftCols(3);
  refuses<shape_error>("hoft::backward: dy.cols is 3, must be == 4", [&] { return backward(p.a, base, x, f, fewer); });
  Matrix const fewer_x = x.leftCols(3);
  refuses<shape_error>("hoft::backward: f is of 4 tokens, must be of 3",
                       [&] { return backward(p.a, base, fewer_x, f, fewer); });

  Matrix const narrow = M.leftCols(4);
  auto const other = dense(narrow);
  refuses<shape_error>("hoft::forward: base.cols is 4, must be == 5, the rows of V",
                       [&] { return forward(p.a, other, x); });
  refuses<shape_error>("hoft::backward: base.cols is 4, must be == 5, the rows of V",
                       [&] { return backward(p.a, other, x, f, dy); });

  Matrix out = gaussian<double>(p.m, p.t, 5);
  Matrix const out0 = out;
  refuses<shape_error>("hoft::dense_operator::apply: X.rows is 6, must be == 5",
                       [&] { base.apply(as_view(wrong), as_view(out)); });
  refuses<shape_error>("hoft::dense_operator::apply: Y.rows is 5, must be == 7", [&] {
    Matrix y5(5, p.t);
    base.apply(as_view(x), as_view(y5));
  });
  refuses<shape_error>("hoft::dense_operator::apply_adjoint: X.rows is 5, must be == 7",
                       [&] { base.apply_adjoint(as_view(x), as_view(out)); });
  refuses<shape_error>("hoft::dense_operator::apply_adjoint: Y.rows is 7, must be == 5",
                       [&] { base.apply_adjoint(as_view(dy), as_view(out)); });
  CHECK(same_bits(out, out0));
}
