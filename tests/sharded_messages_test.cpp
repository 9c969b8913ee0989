// SPDX-License-Identifier: BSD-3-Clause
// Shards: how many messages travel and how many numbers they hold, what ranks that differ are told, and what is
// refused.
#include "sharded/all_calls.hpp"
#include "sharded/forms.hpp"
#include "sharded/thread_ranks.hpp"

#include <algorithm>
#include <array>
#include <complex>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>

using namespace hoft_test;

namespace {

using hoft::sharded;
using hoft::split;
using rank_policy = sharded<hoft::cpu, thread_communicator>;

constexpr index_t message_bytes = index_t{1} << 20;

/// A layer of a rank, of this rank's policy and communicator that counts, ready to run. HOFT with ranks ru and rv.
class counted_layer {
 public:
  using communicator = hoft::counting_communicator<thread_communicator>;
  using policy_type = sharded<hoft::cpu, communicator>;
  static constexpr index_t m = 12, n = 10, t = 6, ru = 4, rv = 3;

  counted_layer(thread_communicator& carrier, split of, index_t block, bool agrees = true)
      : counting_(carrier),
        policy_(hoft::cpu{}, counting_, of, agrees),
        rows_(of == split::rows ? part_on(m, carrier.rank(), carrier.size()) : part_of_whole{0, m}),
        cols_(of == split::columns ? part_on(n, carrier.rank(), carrier.size()) : part_of_whole{0, n}),
        M_(gaussian<float>(rows_.count, cols_.count, 3)),
        left_(policy_.left(), gaussian<float>(rows_.count, ru, 1), block),
        left_counts_(taken()),
        right_(policy_.right(), gaussian<float>(cols_.count, rv, 2), rv),
        right_counts_(taken()) {}

  /// What each call carried: accumulate U, accumulate V, bind_layer, forward, backward, finish.
  std::vector<hoft::message_counts> run() {
    using namespace hoft;
    using matrix = hoft_test::dense_matrix<float>;
    std::vector<message_counts> all{left_counts_, right_counts_};
    adapter_view<float const> const a{left_.Q, right_.Q};
    dense_operator const base(as_view(std::as_const(M_)));
    matrix const x = gaussian<float>(cols_.count, t, 4), dy = gaussian<float>(rows_.count, t, 5);
    matrix y(rows_.count, t), dbase(rows_.count, t), dx(cols_.count, t), dU(rows_.count, ru), dV(cols_.count, rv);
    arena count;
    auto const carve = [&](arena& from) {
      auto const layer = carve_layer(from, a);
      auto const state = carve_layer_state<float, col_major>(from, a, t);
      return std::make_tuple(layer, state, carve_layer_gradient(from, a));
    };
    carve(count);
    std::vector<std::byte> memory(std::size_t(count.size()));
    arena from({memory.data(), count.size()});
    auto [layer, state, g] = carve(from);
    bind_layer<float>(policy_, a, base, layer, guarded_workspace(bind_workspace<float>(policy_, a)));
    all.push_back(taken());
    forward(policy_, layer, base, as_view(x), as_view(y), state,
            guarded_workspace(forward_workspace(policy_, layer, as_view(x))));
    all.push_back(taken());
    set_zero(policy_, g);
    backward(policy_, layer, base, as_view(x), as_view(y), state, as_view(dy), as_view(dbase), as_view(dx), g,
             guarded_workspace(backward_workspace(policy_, layer, state)));
    all.push_back(taken());
    finish<float>(policy_, layer, base, g, as_view(dU), as_view(dV), vector_view<float>(),
                  guarded_workspace(finish_workspace<float>(policy_, layer)));
    all.push_back(taken());
    return all;
  }

 private:
  hoft::message_counts taken() {
    auto const counts = counting_.counts();
    counting_.reset();
    return counts;
  }

  communicator counting_;
  policy_type policy_;
  part_of_whole rows_, cols_;
  dense_matrix<float> M_;
  form_on_rank<float> left_;
  hoft::message_counts left_counts_;
  form_on_rank<float> right_;
  hoft::message_counts right_counts_;
};

/// The calls of a tall matrix, each by `counted`.
template <class Policy, class Counted>
void count_tall(Policy const& policy, Counted const& counted, index_t t, index_t ru) {
  hoft::compact_wy const Q = hoft::accumulate(policy, gaussian<float>(5, ru, 1));
  dense_matrix<float> const dY = gaussian<float>(5, t, 3);
  dense_matrix<float> X = gaussian<float>(5, t, 2);
  counted([&] { hoft::apply(policy, Q, X); });
  counted([&] { static_cast<void>(hoft::apply_backward(policy, Q, X, dY)); });
  counted([&] { static_cast<void>(hoft::apply_backward_from_output(policy, Q, X, dY)); });
}
/// The calls on a weight [12, 10], and the halves of a layer of it.
template <class Policy, class Counted>
void count_weight(Policy const& policy, Counted const& counted, index_t t, index_t ru, index_t rv) {
  using namespace hoft;
  auto const part = [&](split of, index_t extent) {
    return policy.of == of ? part_on(extent, policy.ranks->rank(), policy.ranks->size()).count : extent;
  };
  index_t const m = part(split::rows, 12), n = part(split::columns, 10);
  hoft::adapter const a(policy, gaussian<float>(m, ru, 1), gaussian<float>(n, rv, 2));
  hoft_test::dense_matrix<float> M = gaussian<float>(m, n, 3);
  hoft_test::dense_matrix<float> const dMhat = gaussian<float>(m, n, 4), x = gaussian<float>(n, t, 5);
  counted([&] { merge(policy, a, M); });
  counted([&] { unmerge(policy, a, M); });
  counted([&] { static_cast<void>(merge_backward(policy, a, M, dMhat)); });
  counted([&] { static_cast<void>(low_rank(policy, a, M)); });
  counted([&] { static_cast<void>(scaled_low_rank(policy, a, M)); });
  auto const bound = bind_layer(policy, a, dense(M));
  auto const layer = bound.view();
  layer_gradient g(bound);
  hoft_test::dense_matrix<float> y = M * x, dy = gaussian<float>(m, t, 6), dx = gaussian<float>(n, t, 7), dv(rv, t);
  state_storage<float, float, col_major> saved(layer.adapter, t);
  auto const state = saved.view();
  auto const as_input = [](auto const& X) { return as_view(X); };
  counted([&] {
    project(policy, layer, as_input(x), state.v, guarded_workspace(project_workspace(policy, layer, as_input(x))));
  });
  counted([&] {
    adapt(policy, layer, as_input(y), as_view(y), state,
          guarded_workspace(adapt_workspace(policy, layer, as_input(y))));
  });
  counted([&] {
    adapt_backward(policy, layer, as_input(y), state, as_input(dy), as_view(dy), as_view(dv), g.view(),
                   guarded_workspace(adapt_backward_workspace(policy, layer, state)));
  });
  counted([&] {
    project_backward(policy, layer, as_input(x), as_input(dv), as_view(dx), g.view(),
                     guarded_workspace(project_backward_workspace(policy, layer, as_input(x))));
  });
}

/// A communicator whose memory for messages ends early.
struct shorter_communicator {
  thread_communicator* carrier;
  index_t missing;

  int rank() const { return carrier->rank(); }
  int size() const { return carrier->size(); }
  hoft::workspace message_memory() const {
    auto const memory = carrier->message_memory();
    return {memory.data, memory.size - missing};
  }
  template <class A>
  void all_reduce(hoft::cpu const& local, A* data, index_t count) {
    carrier->all_reduce(local, data, count);
  }
  void const* all_gather(void const* record, index_t bytes) { return carrier->all_gather(record, bytes); }
};

/// An adapter of views. A side without reflectors is cut, but nobody accumulates it.
struct adapter_on_rank {
  struct options {
    index_t block_of_U = 64;
    hoft::inverse kind_of_V = {};
  };
  form_memory memory;
  hoft::adapter_view<float const> view;

  template <class Policy>
  adapter_on_rank(Policy const& policy, dense_matrix<float> const& U, dense_matrix<float> const& V, options const& o)
      : view(form(policy.left(), U, o.block_of_U, {}), form(policy.right(), V, 64, o.kind_of_V)) {}

 private:
  template <class Policy>
  hoft::compact_wy_view<float const> form(Policy const& policy, dense_matrix<float> const& U, index_t block,
                                          hoft::inverse kind) {
    auto Q = memory.cut<float>(U.rows(), U.cols(), block);
    if (U.cols() == 0) return Q;
    guarded_workspace work(hoft::accumulate_workspace<float>(policy, U.cols(), block, kind));
    hoft::accumulate(policy, hoft::as_view(U), Q, kind, work);
    return Q;
  }
};
/// M := merge and unmerge of a random M [m, n] by such an adapter with ranks ru and rv.
template <class Policy>
dense_matrix<float> merged_and_back(Policy const& policy, index_t m, index_t n, index_t ru, index_t rv,
                                    adapter_on_rank::options const& o = {}) {
  adapter_on_rank const a(policy, gaussian<float>(m, ru, 1), gaussian<float>(n, rv, 2), o);
  dense_matrix<float> storage = gaussian<float>(m, n, 3);
  auto const M = hoft::as_view(storage);
  hoft::merge(policy, a.view, M, M, guarded_workspace(hoft::merge_workspace(policy, a.view, M)));
  hoft::unmerge(policy, a.view, M, guarded_workspace(hoft::unmerge_workspace(policy, a.view, M)));
  return storage;
}

/// What `ranks` ranks throw in body(communicator), which must be the same on all.
template <class Body>
std::string thrown_by_all(int ranks, Body const& body) {
  auto const thrown = on_ranks(ranks, message_bytes, body);
  for (auto const& text : thrown) CHECK(text == thrown[0]);
  return thrown[0];
}
bool contains(std::string const& text, std::string const& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("messages are as promised: one of r t numbers each way by rows, none by columns") {
  using L = counted_layer;
  index_t const m = L::m, n = L::n, t = L::t, ru = L::ru, rv = L::rv;
  struct expectation {
    split of;
    index_t block;
    std::vector<std::pair<index_t, index_t>> messages;  ///< sums and numbers of each call
  };
  // The frozen layer sums dx [n, t] where M is split by rows, and y [m, t] where it is split by columns.
  std::vector<expectation> const all = {
      {split::rows,
       64,
       {{2, 3 * ru + ru * ru}, {0, 0}, {0, 0}, {1, ru * t}, {2, ru * t + (n + rv) * t}, {2, n * rv + rv * rv + ru}}},
      {split::rows,
       2,
       {{3, 3 * ru + 2 * ru}, {0, 0}, {0, 0}, {2, ru * t}, {3, ru * t + (n + rv) * t}, {2, n * rv + rv * rv + ru}}},
      {split::columns, 64, {{0, 0}, {2, 3 * rv + rv * rv}, {1, m * rv}, {1, (m + rv) * t}, {0, 0}, {1, rv}}},
      {split::none, 64, {{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}}}};
  for (auto const& expected : all) {
    auto const thrown = on_ranks(3, message_bytes, [&](thread_communicator& communicator) {
      auto const counts = counted_layer(communicator, expected.of, expected.block).run();
      for (std::size_t call = 0; call < counts.size(); ++call) {
        INFO(call);
        CHECK(counts[call].sums == expected.messages[call].first);
        CHECK(counts[call].numbers == expected.messages[call].second);
        CHECK(counts[call].bytes == 4 * counts[call].numbers);
        bool const begins = call < 2 ? counts[call].sums > 0 : call == 2 && expected.of != split::none;
        CHECK(counts[call].agreements == counts[call].sums + (begins ? 1 : 0));
      }
    });
    for (auto const& text : thrown) CHECK(text == "");
  }
}

TEST_CASE("messages of the calls on weights, of the halves and of gradients") {
  index_t const m = 12, n = 10, t = 6, ru = 4, rv = 3;
  using messages = std::vector<std::array<index_t, 3>>;  ///< sums, their numbers, and records more than sums
  // merge, unmerge, merge_backward, low_rank, scaled_low_rank, project, adapt, adapt_backward, project_backward
  messages const by_rows{{1, ru * n, 1}, {1, ru * n, 3},        {3, 2 * ru * n + n * rv + rv * rv + ru, 1},
                         {1, ru * n, 1}, {1, ru * n, 3},        {0, 0, 0},
                         {1, ru * t, 0}, {2, (ru + rv) * t, 0}, {0, 0, 0}};
  index_t const sums_of_outputs = m * ru + 2 * ru * ru + m * rv;
  messages const by_columns{{1, m * rv, 1},
                            {1, m * rv, 1},
                            {3, m * rv + sums_of_outputs + rv, 1},
                            {1, m * rv, 1},
                            {2, m * rv + 3 * m, 1},
                            {1, rv * t, 0},
                            {0, 0, 0},
                            {0, 0, 0},
                            {0, 0, 0}};
  // apply, apply_backward, apply_backward_from_output
  messages const tall{{1, ru * t, 0}, {2, 2 * ru * t + ru, 0}, {2, 2 * ru * t + ru, 0}};
  for (split of : {split::rows, split::columns, split::tall})
    for (int ranks : {1, 3}) {
      auto const thrown = on_ranks(ranks, message_bytes, [&](thread_communicator& carrier) {
        hoft::counting_communicator counting(carrier);
        sharded const policy(hoft::cpu{}, counting, of);
        messages found;
        auto const counted = [&](auto const& call) {
          counting.reset();
          call();
          auto const& counts = counting.counts();
          found.push_back({counts.sums, counts.numbers, counts.agreements - counts.sums});
        };
        if (of == split::tall) count_tall(policy, counted, t, ru);
        else count_weight(policy, counted, t, ru, rv);
        auto const& expected = of == split::rows ? by_rows : of == split::columns ? by_columns : tall;
        CHECK(found == (ranks == 1 ? messages(expected.size()) : expected));
      });
      for (auto const& text : thrown) CHECK(text == "");
    }
}

TEST_CASE("projections of more columns than a panel are several messages") {
  auto const thrown = on_ranks(3, message_bytes, [](thread_communicator& carrier) {
    index_t const m = 6, r = 2, n = 4096 + 3;
    hoft::counting_communicator counting(carrier);
    sharded const policy(hoft::cpu{}, counting);
    dense_matrix<float> const U = gaussian<float>(m, r, 1), X = gaussian<float>(m, n, 2);
    form_on_rank<float> const form(policy, rows_on(U, carrier), 64);
    counting.reset();
    auto const Y = applied(policy, form.Q, rows_on(X, carrier));
    CHECK(counting.counts().sums == 2);
    CHECK(counting.counts().numbers == r * n);
    auto const expected = reference_apply(U, X);
    bound_matrix const bound = per_line<float>(X, expected, side::left, line_bound<float>(m, r));
    auto const part = part_on(m, carrier.rank(), carrier.size());
    CHECK(within(Y, wide_matrix<float>(expected.middleRows(part.first, part.count)),
                 bound_matrix(bound.middleRows(part.first, part.count))));
  });
  for (auto const& text : thrown) CHECK(text == "");
}

TEST_CASE("without reflectors no rank waits for another, whatever columns each has") {
  auto const thrown = on_ranks(3, message_bytes, [](thread_communicator& carrier) {
    index_t const m = 6, n = carrier.rank() == 0 ? 0 : carrier.rank() == 1 ? 3 : 5000;
    hoft::counting_communicator counting(carrier);
    sharded const policy(hoft::cpu{}, counting);
    hoft::compact_wy const Q = hoft::accumulate(policy, gaussian<float>(m, 0, 1));
    dense_matrix<float> const X = gaussian<float>(m, n, 2), dY = gaussian<float>(m, n, 3);
    counting.reset();
    CHECK(applied(policy, Q.view(), X) == X);
    CHECK(counting.counts().agreements == 0);
    CHECK(hoft::apply_backward(policy, Q, X, dY).dX == dY);
    CHECK(counting.counts().agreements == 1);  // of every rank, before dU
    CHECK(counting.counts().sums == 0);
  });
  for (auto const& text : thrown) CHECK(text == "");
}

TEST_CASE("by rows without reflectors of U no rank waits for another's tokens") {
  auto const thrown = on_ranks(3, message_bytes, [](thread_communicator& carrier) {
    index_t const m = 4, n = 5, t = carrier.rank() == 0 ? 0 : carrier.rank() == 1 ? 3 : 5000;
    hoft::counting_communicator counting(carrier);
    sharded const policy(hoft::cpu{}, counting, split::rows);
    dense_matrix<float> const M = gaussian<float>(m, n, 3), V = gaussian<float>(n, 2, 2), x = gaussian<float>(n, t, 5);
    hoft::adapter const a(policy, gaussian<float>(m, 0, 1), V);
    auto const layer = hoft::bind_layer(policy, a, hoft::dense(M));
    counting.reset();
    auto const f = hoft::forward(policy, layer, x);
    CHECK(counting.counts().agreements == 0);
    dense_matrix<float> const expected = hoft::forward(hoft::bind_layer(a, hoft::dense(M)), x).y;
    CHECK(f.y == expected);
  });
  for (auto const& text : thrown) CHECK(text == "");
}

TEST_CASE("sums have the order of the ranks, in one message or in pieces") {
  for (int ranks : {2, 3, 20})
    for (index_t bytes : {index_t{0}, message_bytes}) {
      auto const thrown = on_ranks(ranks, bytes, [](thread_communicator& c) {
        rank_failures failures(c.rank());
        check_sums<float>(hoft::cpu{}, c, failures), check_sums<std::complex<double>>(hoft::cpu{}, c, failures);
        CHECK(failures.count() == 0);
      });
      for (auto const& text : thrown) CHECK(text == "");
    }
}

TEST_CASE("a matrix is summed wherever its rows and columns lie on the other ranks") {
  auto const sum_of = [](thread_communicator& c, auto layout) {
    using L = decltype(layout);
    index_t const rows = 30, cols = 40, padding = c.rank() == 1 ? 2 : 0;  // without padding it travels as it lies
    index_t const ld = (std::is_same_v<L, col_major> ? rows : cols) + padding;
    std::vector<float> memory(std::size_t(ld * (std::is_same_v<L, col_major> ? cols : rows)), -1.0f);
    hoft::matrix_view<float, L> const W(memory.data(), rows, cols, ld);
    for (index_t j = 0; j < cols; ++j)
      for (index_t i = 0; i < rows; ++i) W(i, j) = float(10 * i + j);
    hoft::sharded_backend::operations::sum_ranks<float>(rank_policy(hoft::cpu{}, c), W);
    for (index_t j = 0; j < cols; ++j)
      for (index_t i = 0; i < rows; ++i) CHECK(W(i, j) == float(c.size()) * float(10 * i + j));
    CHECK(std::count(memory.begin(), memory.end(), -1.0f) == index_t(memory.size()) - rows * cols);
  };
  for (index_t bytes : {index_t{0}, message_bytes}) {
    auto const thrown =
        on_ranks(3, bytes, [&](thread_communicator& c) { sum_of(c, col_major{}), sum_of(c, row_major{}); });
    for (auto const& text : thrown) CHECK(text == "");
  }
}

TEST_CASE("without agreement the same sums travel, and nothing else") {
  auto const thrown = on_ranks(3, message_bytes, [](thread_communicator& communicator) {
    auto const checked = counted_layer(communicator, split::rows, 64).run();
    auto const unchecked = counted_layer(communicator, split::rows, 64, false).run();
    for (std::size_t call = 0; call < checked.size(); ++call) {
      CHECK(unchecked[call].sums == checked[call].sums);
      CHECK(unchecked[call].numbers == checked[call].numbers);
      CHECK(unchecked[call].agreements == 0);
    }
  });
  for (auto const& text : thrown) CHECK(text == "");
}

TEST_CASE("ranks that differ are named on every rank") {
  auto const accumulated = [](thread_communicator& c, index_t r, split of = split::tall, bool left = true) {
    rank_policy const policy(hoft::cpu{}, c, of);
    form_on_rank<float>(of == split::tall ? policy
                        : left            ? policy.left()
                                          : policy.right(),
                        gaussian<float>(5, r, 1), 64);
  };
  auto const odd = [](thread_communicator& c) { return c.rank() == 1; };
  CHECK(contains(thrown_by_all(3, [&](auto& c) { accumulated(c, odd(c) ? 4 : 3); }),
                 "the columns of reflectors to accumulate: 3 on rank 0, 4 on rank 1"));
  CHECK(contains(thrown_by_all(3, [&](auto& c) { accumulated(c, 3, odd(c) ? split::columns : split::rows, !odd(c)); }),
                 "what is split: split::rows on rank 0, split::columns on rank 1"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 rank_policy const policy(hoft::cpu{}, c);
                                 if (odd(c)) form_on_rank<double>(policy, gaussian<double>(5, 3, 1), 64);
                                 else form_on_rank<float>(policy, gaussian<float>(5, 3, 1), 64);
                               }),
                 "the element type: real numbers of 4 bytes on rank 0, real numbers of 8 bytes on rank 1"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 rank_policy const policy(hoft::cpu{}, c);
                                 form_on_rank<float> const form(policy, gaussian<float>(5, 3, 1), 64);
                                 applied(policy, form.Q, gaussian<float>(5, c.rank() == 2 ? 7 : 2, 2));
                               }),
                 "the columns of a sum over ranks: 2 on rank 0, 7 on rank 2"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 dense_matrix<float> y(4, 3), v(odd(c) ? 3 : 2, 3);
                                 hoft::sharded_backend::operations::sum_ranks<float>(
                                     rank_policy(hoft::cpu{}, c), hoft::as_view(y), hoft::as_view(v));
                               }),
                 "the rows of a sum over ranks, part 2: 2 on rank 0, 3 on rank 1"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 rank_policy const policy(hoft::cpu{}, c);
                                 form_on_rank<float> const form(policy, gaussian<float>(5, 3, 1), 64);
                                 applied(policy, form.Q, gaussian<float>(5, odd(c) ? 0 : 2, 2));
                               }),
                 "what is exchanged: a sum over ranks on rank 0, nothing, of no columns on rank 1"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 rank_policy const policy(hoft::cpu{}, c);
                                 form_on_rank<float> const form(policy, gaussian<float>(5, 3, 1), 64);
                                 if (odd(c)) form_on_rank<float>(policy, form.U, 64);
                                 else applied(policy, form.Q, gaussian<float>(5, 2, 2));
                               }),
                 "what is exchanged: a sum over ranks on rank 0, reflectors to accumulate on rank 1"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 hoft::inverse const kind = hoft::neumann{odd(c) ? 2 : 3};
                                 form_on_rank<float>(rank_policy(hoft::cpu{}, c), gaussian<float>(5, 3, 1), 3, kind);
                               }),
                 "the inverse of reflectors to accumulate: neumann{3} on rank 0, neumann{2} on rank 1"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 form_on_rank<float>(rank_policy(hoft::cpu{}, c), gaussian<float>(5, 3, 1),
                                                     odd(c) ? 2 : 3);
                               }),
                 "the block of reflectors to accumulate: 3 on rank 0, 2 on rank 1"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 dense_matrix<Eigen::half> h(4, 3);
                                 dense_matrix<Eigen::bfloat16> b(4, 3);
                                 using operations = hoft::sharded_backend::operations;
                                 rank_policy const policy(hoft::cpu{}, c);
                                 if (odd(c)) operations::sum_ranks<float>(policy, hoft::as_view(b));
                                 else operations::sum_ranks<float>(policy, hoft::as_view(h));
                               }),
                 "the element type of a sum over ranks: half on rank 0, bfloat16 on rank 1"));
}

TEST_CASE("ranks whose messages differ in how they are put together are named on every rank") {
  using operations = hoft::sharded_backend::operations;
  auto const odd = [](auto& c) { return c.rank() == 1; };
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 dense_matrix<float> y(4, 3), v(2, 3);
                                 rank_policy const policy(hoft::cpu{}, c);
                                 if (odd(c)) operations::sum_ranks<float>(policy, hoft::as_view(y));
                                 else operations::sum_ranks<float>(policy, hoft::as_view(y), hoft::as_view(v));
                               }),
                 "the number of parts of a sum over ranks: 2 on rank 0, 1 on rank 1"));
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 std::vector<float> y(9);
                                 rank_policy const policy(hoft::cpu{}, c);
                                 hoft::matrix_view<float, col_major> const by_columns(y.data(), 3, 3);
                                 hoft::matrix_view<float, row_major> const by_rows(y.data(), 3, 3);
                                 if (odd(c)) operations::sum_ranks<float>(policy, by_rows);
                                 else operations::sum_ranks<float>(policy, by_columns);
                               }),
                 "the layout of a sum over ranks: col_major on rank 0, row_major on rank 1"));
  auto const less = thrown_by_all(3, [&](auto& c) {
    shorter_communicator shorter{&c, odd(c) ? 64 : 0};
    dense_matrix<float> y(4, 3);
    operations::sum_ranks<float>(hoft::sharded(hoft::cpu{}, shorter), hoft::as_view(y));
  });
  CHECK(contains(less, "the bytes of message memory: "));
}

TEST_CASE("ranks whose adapters differ are named on every rank") {
  struct extents {
    index_t m = 4, n = 3, ru = 2, rv = 2;
    bool scaled = false;
  };
  auto const bound = [](thread_communicator& c, split of, extents const& e) {
    rank_policy const policy(hoft::cpu{}, c, of);
    dense_matrix<float> const U = gaussian<float>(e.m, e.ru, 1), V = gaussian<float>(e.n, e.rv, 2);
    dense_matrix<float> const s = gaussian<float>(e.m, 1, 3), M = gaussian<float>(e.m, e.n, 4);
    hoft::adapter const a = e.scaled ? hoft::adapter(policy, U, V, s.col(0)) : hoft::adapter(policy, U, V);
    static_cast<void>(hoft::bind_layer(policy, a, hoft::dense(M)));
  };
  auto const with = [](auto change) {
    extents e;
    change(e);
    return e;
  };
  struct {
    split of;
    extents odd;
    char const* expected;
  } const cases[] = {
      {split::columns, with([](extents& e) { e.ru = 1; }), "the columns of U of an adapter: 2 on rank 0, 1 on rank 1"},
      {split::columns, with([](extents& e) { e.m = 5; }),
       "the rows, whole under this split, of U of an adapter: 4 on rank 0, 5 on rank 1"},
      {split::rows, with([](extents& e) { e.rv = 1; }), "the columns of V of an adapter: 2 on rank 0, 1 on rank 1"},
      {split::rows, with([](extents& e) { e.n = 5; }),
       "the rows, whole under this split, of V of an adapter: 3 on rank 0, 5 on rank 1"},
      {split::rows, with([](extents& e) { e.scaled = true; }),
       "the kind of an adapter: HOFT on rank 0, SHOFT on rank 1"},
      {split::columns, with([](extents& e) { e.scaled = true; }),
       "the kind of an adapter: HOFT on rank 0, SHOFT on rank 1"}};
  for (auto const& wrong : cases) {
    INFO(wrong.expected);
    CHECK(contains(thrown_by_all(3, [&](auto& c) { bound(c, wrong.of, c.rank() == 1 ? wrong.odd : extents{}); }),
                   wrong.expected));
  }
  auto const merged = [](thread_communicator& c, split of, adapter_on_rank::options const& o) {
    merged_and_back(rank_policy(hoft::cpu{}, c, of), 4, 3, 2, 2, c.rank() == 1 ? o : adapter_on_rank::options());
  };
  CHECK(contains(thrown_by_all(3, [&](auto& c) { merged(c, split::columns, {.block_of_U = 1}); }),
                 "the block of U of an adapter: 64 on rank 0, 1 on rank 1"));
  CHECK(contains(thrown_by_all(3, [&](auto& c) { merged(c, split::rows, {.kind_of_V = hoft::neumann{2}}); }),
                 "the inverse of V of an adapter: exact on rank 0, neumann{2} on rank 1"));
  // A rank without rows has no scale, and agrees with both.
  extents const none = with([](extents&e) { e.m = 0; }), scaled = with([](extents&e) { e.scaled = true; });
  CHECK(thrown_by_all(3, [&](auto& c) { bound(c, split::rows, c.rank() == 0 ? none : scaled); }) == "");
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 bound(c, split::rows, c.rank() == 0 ? none : c.rank() == 1 ? scaled : extents{});
                               }),
                 "the kind of an adapter: SHOFT on rank 1, HOFT on rank 2"));
  extents const wider_none = with([](extents& e) { e.m = 0, e.rv = 3; });
  CHECK(contains(thrown_by_all(3, [&](auto& c) { bound(c, split::rows, c.rank() == 0 ? wider_none : scaled); }),
                 "the columns of V of an adapter: 2 on rank 1, 3 on rank 0"));
}

TEST_CASE("what is whole has the same numbers on every rank, or the split is another") {
  index_t const m = 6, n = 6, r = 2;
  struct seeds {
    unsigned U = 1, V = 2, s = 3;
  };
  auto const refused = [&](split of, auto const& seeds_of) {
    return thrown_by_all(3, [&](auto& c) {
      seeds const own = seeds_of(c.rank());
      rank_policy const policy(hoft::cpu{}, c, of);
      dense_matrix<float> const U = gaussian<float>(m, r, own.U), V = gaussian<float>(n, r, own.V);
      dense_matrix<float> const s = gaussian<float>(m, 1, own.s), M = gaussian<float>(m, n, 4);
      static_cast<void>(hoft::bind_layer(policy, hoft::adapter(policy, U, V, s.col(0)), hoft::dense(M)));
    });
  };
  CHECK(contains(thrown_by_all(3,
                               [&](auto& c) {
                                 rank_policy const policy(hoft::cpu{}, c, split::rows);
                                 dense_matrix<float> const U = gaussian<float>(m, r, 1), M = gaussian<float>(m, n, 4);
                                 dense_matrix<float> const V = gaussian<float>(n, r, 2) * (c.rank() == 1 ? 2.0f : 1.0f);
                                 static_cast<void>(
                                     hoft::bind_layer(policy, hoft::adapter(policy, U, V), hoft::dense(M)));
                               }),
                 "the numbers of V, whole under this split, of an adapter: checksum "));  // directions alone are alike
  auto const of_rows = [](int rank) { return seeds{unsigned(10 + rank), 2, unsigned(20 + rank)}; };
  auto const of_columns = [](int rank) { return seeds{1, unsigned(10 + rank), 3}; };
  CHECK(refused(split::rows, of_rows) == "");
  CHECK(refused(split::columns, of_columns) == "");
  CHECK(contains(refused(split::columns, of_rows),
                 "ranks do not agree on the numbers of U, whole under this split, of an adapter: checksum "));
  CHECK(
      contains(refused(split::rows, of_columns), "the numbers of V, whole under this split, of an adapter: checksum "));
  CHECK(contains(refused(split::columns,
                         [](int rank) {
                           return seeds{1, 2, rank == 2 ? 4u : 3u};
                         }),
                 "the scale, whole under this split, of an adapter: checksum "));
}

TEST_CASE("checksums tell numbers and their order, and look at no padding") {
  using hoft::sharded_backend::checksum;
  auto const check = [](auto zero) {
    using T = decltype(zero);
    using R = hoft::real_t<T>;
    constexpr std::size_t count = 8;
    std::vector<T> memory(count), other(count);
    std::memset(static_cast<void*>(memory.data()), 0xFF, count * sizeof(T));  // in the padding of long double, too
    std::fill(memory.begin(), memory.end(), T(1)), std::fill(other.begin(), other.end(), T(1));
    hoft::matrix_view<T> const X(memory.data(), 2, 2, 4), Y(other.data(), 2, 2, 3);
    auto const differ = [&](auto const& change) {
      std::vector<T> const before = memory;
      change();
      bool const found = checksum(X) != checksum(Y);
      memory = before;
      return found;
    };
    X(0, 1) = Y(0, 1) = T(2);
    CHECK(checksum(X) == checksum(Y));
    CHECK(checksum(X) == checksum(hoft::matrix_view<T const>(X)));
    CHECK(checksum(X) >= 0);
    CHECK(!differ([&] { memory[2] = T(5); }));  // between the columns of X
    CHECK(differ([&] { std::swap(X(0, 0), X(0, 1)); }));
    CHECK(differ([&] { X(1, 1) += std::numeric_limits<R>::epsilon(); }));
    CHECK(differ([&] { X(1, 0) = -X(1, 0), X(1, 1) = -X(1, 1); }));
    CHECK(differ([&] { X(1, 1) = std::numeric_limits<R>::quiet_NaN(); }));
    if constexpr (hoft::is_complex<T>) CHECK(differ([&] { X(1, 1) = T(1, 1); }));
    X(1, 1) = T(0), Y(1, 1) = T(-R(0));
    CHECK(checksum(X) == checksum(Y));
  };
  check(float()), check(double()), check((long double)(0));
  check(std::complex<float>()), check(std::complex<double>()), check(std::complex<long double>());
}

TEST_CASE("sides without reflectors are split too, and parts have any size") {
  auto const merged = [](thread_communicator& c, index_t m, index_t n, index_t ru, index_t rv, split of) {
    auto const M = merged_and_back(rank_policy(hoft::cpu{}, c, of), m, n, ru, rv);
    CHECK((M - gaussian<float>(m, n, 3)).cwiseAbs().maxCoeff() < 1e-4f);
  };
  for (index_t r : {0, 2}) {
    CHECK(thrown_by_all(3, [&](auto& c) { merged(c, 4 + c.rank(), 3, 0, r, split::rows); }) == "");
    CHECK(thrown_by_all(3, [&](auto& c) { merged(c, 4, 3 + c.rank(), r, 0, split::columns); }) == "");
  }
}

TEST_CASE("a rank alone needs no others") {
  CHECK(thrown_by_all(2, [](auto& c) {
          for (split of : {split::rows, split::columns})
            if (c.rank() == 1) merged_and_back(rank_policy(hoft::cpu{}, c, of).alone(), 4, 3, 2, 2);
        }) == "");
}

TEST_CASE("several panels are not taken for one") {
  auto const thrown = [](index_t here, index_t there) {
    return thrown_by_all(3, [&](thread_communicator& c) {
      rank_policy const policy(hoft::cpu{}, c);
      form_on_rank<float> const form(policy, gaussian<float>(5, 2, 1), 64);
      applied(policy, form.Q, gaussian<float>(5, c.rank() == 1 ? there : here, 2));
    });
  };
  CHECK(thrown(5000, 5000) == "");
  CHECK(contains(thrown(8192, 4096), "what is exchanged: several panels on rank 0, a sum over ranks on rank 1"));
  CHECK(contains(thrown(8192, 5000), "the columns of several panels: 8192 on rank 0, 5000 on rank 1"));
}

TEST_CASE("a rank that ends early ends the others") {
  auto const thrown = on_ranks(3, message_bytes, [](thread_communicator& c) {
    rank_policy const policy(hoft::cpu{}, c);
    form_on_rank<float> const form(policy, gaussian<float>(5, 3, 1), 64);
    if (c.rank() == 1) throw std::runtime_error("out of luck");
    applied(policy, form.Q, gaussian<float>(5, 2, 2));
  });
  CHECK(thrown == std::vector<std::string>{"rank 1 has left", "out of luck", "rank 1 has left"});
}

TEST_CASE("what cannot be asked of shards is refused in words") {
  on_ranks(2, message_bytes, [](thread_communicator& c) {
    rank_policy const weight(hoft::cpu{}, c, split::rows), tall(hoft::cpu{}, c);
    CHECK_THROWS_WITH_AS(form_on_rank<float>(weight, gaussian<float>(5, 3, 1), 64),
                         "hoft::sharded: policy is that of a weight, split::rows or split::columns, must be its left() "
                         "for Q_U and its right() for Q_V, or split::tall",
                         hoft::argument_error);
    CHECK_THROWS_WITH_AS(static_cast<void>(tall.left()),
                         "hoft::sharded: policy of an adapter is split::tall, must be split::rows or split::columns, "
                         "which say what of a weight is split",
                         hoft::argument_error);
    form_on_rank<float> const form(tall, gaussian<float>(5, 3, 1), 64);
    dense_matrix<float> E(5, 2);
    guarded_workspace work(hoft::materialize_workspace(tall, form.Q, hoft::as_view(E)));
    CHECK_THROWS_AS(hoft::materialize(tall, form.Q, hoft::as_view(E), work), hoft::argument_error);
    // s is 0 on the other rank.
    dense_matrix<float> const U = gaussian<float>(4, 2, 1), V = gaussian<float>(3, 2, 2);
    dense_matrix<float> s = gaussian<float>(4, 1, 3), M = gaussian<float>(4, 3, 4);
    if (c.rank() == 1) s(2, 0) = 0;
    hoft::adapter const a(weight, U, V, s.col(0));
    CHECK_THROWS_WITH_AS(hoft::unmerge(weight, a, M), "hoft::sharded: scale[2] of rank 1 is 0, must be != 0",
                         hoft::argument_error);
    CHECK_THROWS_WITH_AS(hoft::scaled_low_rank(weight, a, M), "hoft::sharded: scale[2] of rank 1 is 0, must be != 0",
                         hoft::argument_error);
  });
}

TEST_CASE("a form or a layer of another policy is refused") {
  on_ranks(2, message_bytes, [](thread_communicator& c) {
    dense_matrix<float> const U = gaussian<float>(4, 2, 1), V = gaussian<float>(3, 2, 2), M = gaussian<float>(4, 3, 3);
    dense_matrix<float> X = gaussian<float>(4, 5, 4);
    rank_policy const rows(hoft::cpu{}, c, split::rows), columns(hoft::cpu{}, c, split::columns);
    hoft::adapter const alone(U, V), split_by_rows(rows, U, V);
    char const* const left_alone =
        "hoft::bind_layer: a.left is accumulated with its rows on 1 rank, must be accumulated on 2 ranks, as the "
        "policy "
        "of this call has its rows";
    CHECK_THROWS_WITH_AS(hoft::bind_layer(rows, alone, hoft::dense(M)), left_alone, hoft::argument_error);
    CHECK_THROWS_AS(hoft::bind_layer(columns, alone, hoft::dense(M)), hoft::argument_error);
    CHECK_THROWS_AS(hoft::bind_layer(columns, split_by_rows, hoft::dense(M)), hoft::argument_error);
    CHECK_THROWS_AS(hoft::bind_layer(split_by_rows, hoft::dense(M)), hoft::argument_error);
    auto const layer = hoft::bind_layer(rows, split_by_rows, hoft::dense(M));
    dense_matrix<float> const x = gaussian<float>(3, 5, 5);
    CHECK_THROWS_AS(static_cast<void>(hoft::forward(layer, x)), hoft::argument_error);
    form_on_rank<float> const form(rows.left(), U, 64), own(hoft::cpu{}, U, 64);
    CHECK(own.Q.ranks == 1);
    CHECK(form.Q.ranks == 2);
    CHECK_THROWS_AS(applied(hoft::cpu{}, form.Q, X), hoft::argument_error);
    CHECK_THROWS_AS(applied(rows.left(), own.Q, X), hoft::argument_error);
  });
}
