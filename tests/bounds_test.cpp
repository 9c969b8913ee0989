// SPDX-License-Identifier: BSD-3-Clause
// Views that check their indices: what is out of bounds ends the program with a message, and hoft itself stays inside.
#define HOFT_CHECK_BOUNDS
#include <hoft/hoft.hpp>

#define DOCTEST_CONFIG_SUPER_FAST_ASSERTS
#include <doctest/doctest.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <string>

#include <sys/wait.h>
#include <unistd.h>

using namespace hoft;

namespace {

/// What f() writes to stderr before it aborts; "returned" if it does not.
template <class F>
std::string last_words(F const& f) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  pid_t const child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);  // doctest reports it otherwise
    dup2(ends[1], STDERR_FILENO);
    f();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 256> piece{};
  for (ssize_t got; (got = read(ends[0], piece.data(), piece.size())) > 0;) text.append(piece.data(), std::size_t(got));
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? text : "returned " + text;
}

template <class Layout>
void checks_matrices() {
  std::array<float, 32> memory{};
  matrix_view<float, Layout> const a(memory.data(), 3, 4, 6);
  CHECK(&a(2, 3) == memory.data() + a.offset(2, 3));
  CHECK(last_words([&] { a(3, 0) = 1; }) == "hoft::matrix_view::operator(): i is 3, must be >= 0 and < 3\n");
  CHECK(last_words([&] { a(-1, 0) = 1; }) == "hoft::matrix_view::operator(): i is -1, must be >= 0 and < 3\n");
  CHECK(last_words([&] { a(0, 4) = 1; }) == "hoft::matrix_view::operator(): j is 4, must be >= 0 and < 4\n");
  CHECK(last_words([&] { a.transposed()(3, 3) = 1; }) ==
        "hoft::matrix_view::operator(): j is 3, must be >= 0 and < 3\n");
  CHECK(a.block(3, 4, 0, 0).empty());
  CHECK(a.block(1, 1, 2, 3).rows == 2);
  CHECK(last_words([&] { a.block(1, 0, 3, 1); }) == "hoft::matrix_view::block: 3 rows from 1 on, must be in [0, 3)\n");
  CHECK(last_words([&] { a.block(0, 3, 1, 2); }) ==
        "hoft::matrix_view::block: 2 columns from 3 on, must be in [0, 4)\n");
  CHECK(last_words([&] { a.block(0, 0, -1, 2); }) ==
        "hoft::matrix_view::block: -1 rows from 0 on, must be in [0, 3)\n");
  CHECK(last_words([&] { a.columns(5, 0); }) == "hoft::matrix_view::columns: 0 columns from 5 on, must be in [0, 4)\n");
  CHECK(matrix_view<float, Layout>().columns(3, 2).empty());  // a matrix that is not given
}

/// Every call, forwards and backwards.
template <class Layout>
void call_everything(index_t m, index_t r, index_t n) {
  using storage = dense_matrix<float, Layout>;
  cpu const policy{2};
  storage const U = storage::Random(m, r), V = storage::Random(n, r), W = storage::Random(m, n),
                x = storage::Random(n, 5), dy = storage::Random(m, 5);
  auto const Q = accumulate(policy, U);
  for (op o : {op::plain, op::adjoint}) {
    storage Y = W, R = W.transpose();
    apply(policy, Q, Y, side::left, o);
    apply(policy, Q, R, side::right, o);
    CHECK(apply_backward(policy, Q, W, Y, side::left, o).dU.rows() == m);
  }
  storage What = W;
  adapter<float> const a{U, V};
  merge(policy, a, What);
  CHECK(merge_backward(policy, a, W, What).dV.rows() == n);
  unmerge(policy, a, What);
  auto const base = dense(W);
  auto const f = forward(policy, a, base, x);
  CHECK(backward(policy, a, base, x, f, dy).dx.rows() == n);
}

}  // namespace

TEST_CASE("an index out of bounds ends the program and says where") {
  checks_matrices<col_major>();
  checks_matrices<row_major>();
  std::array<double, 5> memory{};
  vector_view<double> const v(memory.data(), 5);
  CHECK(&v[4] == &memory[4]);
  CHECK(v.part(5, 0).size == 0);
  CHECK(last_words([&] { v[5] = 1; }) == "hoft::vector_view::operator[]: i is 5, must be >= 0 and < 5\n");
  CHECK(last_words([&] { v[-1] = 1; }) == "hoft::vector_view::operator[]: i is -1, must be >= 0 and < 5\n");
  CHECK(last_words([&] { v.part(2, 4); }) == "hoft::vector_view::part: 4 elements from 2 on, must be in [0, 5)\n");
  CHECK(last_words([&] { v.part(1, PTRDIFF_MAX); }).starts_with("hoft::vector_view::part: "));
  CHECK(last_words([] {}) == "returned ");
}

TEST_CASE("hoft stays inside its own views") {
  for (index_t m : {0, 1, 3, 70})
    for (index_t r : {0, 1, 5, 67})
      for (index_t n : {0, 1, 20, 130}) {
        call_everything<col_major>(m, r, n);
        call_everything<row_major>(m, r, n);
      }
}
