// Workspace queries: the same answer for views of constant elements, and bad sizes refused where they are given.
#include "cuda_on_host/host.hpp"
#include <hoft/hoft.hpp>

#include "support.hpp"

#include <array>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace hoft_test;

namespace {

/// What every query answers for views of these elements: E and F are the elements of matrices and of forms.
template <class E, class F, class L, class Policy>
std::vector<std::pair<std::string, index_t>> answers(Policy const& policy, bool scaled) {
  using A = std::remove_const_t<F>;
  index_t const m = 70, n = 50, ru = 9, rv = 5, t = 33;
  hoft::arena count;
  hoft::compact_wy_view<F> const left = hoft::carve_compact_wy<A>(count, m, ru, 4),
                                 right = hoft::carve_compact_wy<A>(count, n, rv, rv);
  hoft::vector_view<F> const scale(nullptr, scaled ? m : 0);
  hoft::adapter_view<F> const a{left, right, scale};
  hoft::matrix_view<E, L> const M(nullptr, m, n), x(nullptr, n, t + rv), Mt(nullptr, n, m), some(nullptr, m, 3);
  hoft::saved_activations<F, E, L> const saved{{nullptr, m, rv}, {nullptr, rv, t}, {nullptr, ru, t}, {nullptr, m, t}},
      without_q{{nullptr, m, rv}, {nullptr, rv, t}, {nullptr, ru, t}, {}};
  auto const all_of = [](auto const& one) {  // a batch of two
    return std::array{one, one};
  };
  auto const forms = all_of(left);
  auto const adapters = all_of(a);
  auto const matrices = all_of(M), tokens = all_of(x);
  auto const kept = all_of(saved);
  auto const span = []<class X>(std::array<X, 2> const& of) { return std::span<X const>(of); };
  return {{"apply", apply_workspace(policy, left, M)},
          {"apply right", apply_workspace(policy, left, Mt, side::right)},
          {"materialize", materialize_workspace(policy, left, some)},
          {"apply_backward", apply_backward_workspace(policy, left, M)},
          {"apply_backward right", apply_backward_workspace(policy, left, Mt, side::right)},
          {"merge", merge_workspace(policy, a, M)},
          {"unmerge", unmerge_workspace(policy, a, M)},
          {"merge_backward", merge_backward_workspace(policy, a, M)},
          {"low_rank", low_rank_workspace(policy, a, M)},
          {"forward", forward_workspace(policy, a, x)},
          {"backward", backward_workspace(policy, a, saved)},
          {"backward without q", backward_workspace(policy, a, without_q)},
          {"apply of a batch", apply_workspace(policy, span(forms), span(matrices))},
          {"merge of a batch", merge_workspace(policy, span(adapters), span(matrices))},
          {"unmerge of a batch", unmerge_workspace(policy, span(adapters), span(matrices))},
          {"merge_backward of a batch", merge_backward_workspace(policy, span(adapters), span(matrices))},
          {"forward of a batch", forward_workspace(policy, span(adapters), span(tokens))},
          {"backward of a batch", backward_workspace(policy, span(adapters), span(kept))}};
}

template <class T, class L, class Policy>
void same_for_constants(Policy const& policy) {
  using A = hoft::accumulator_t<T>;
  for (bool scaled : {false, true}) {
    auto const expected = answers<T, A, L>(policy, scaled);
    for (auto const& got : {answers<T const, A const, L>(policy, scaled), answers<T const, A, L>(policy, scaled),
                            answers<T, A const, L>(policy, scaled)})
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(expected[i].first);
        CHECK(expected[i].second > 0);
        CHECK(got[i].second == expected[i].second);
      }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("every query answers the same for constant views", T, float, std::complex<double>, Eigen::half) {
  same_for_constants<T, hoft::col_major>(hoft::cpu{});
  same_for_constants<T, hoft::row_major>(hoft::cpu{.threads = 3});
  same_for_constants<T, hoft::row_major>(hoft::cuda::host{});
}
