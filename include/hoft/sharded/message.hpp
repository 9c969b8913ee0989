// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/message.hpp: sums over ranks of matrices, of which several travel in one message.
#pragma once
#include <hoft/backend/concept.hpp>
#include <hoft/sharded/agreement.hpp>

#include <algorithm>
#include <array>
#include <tuple>
#include <utility>

namespace HOFT_TARGET_NAMESPACE::sharded_backend {

/// Elements lie one after another.
template <class T, class L>
bool is_contiguous(matrix_view<T, L> X) {
  return X.is_col_major ? X.ld == X.rows || X.cols <= 1 : X.ld == X.cols || X.rows <= 1;
}

/// `count` elements of the memory in which messages are put together.
/// @throws hoft::workspace_error, on every rank alike, if there are not as many
template <class A, class Policy>
A* message_of(Policy const& policy, index_t count) {
  workspace const memory = policy.ranks->message_memory();
  detail::require_bytes("sharded", "the communicator's message memory", memory.size, count * index_t(sizeof(A)));
  return reinterpret_cast<A*>(memory.data);
}

/// Matrices as one row of elements, which is cut into messages where columns begin. Each lies there in its own layout,
/// so that one that is contiguous on another rank, which sends it as it lies, has the same order of elements.
template <class A, class Policy, class... Views>
class packed_sum {
 public:
  packed_sum(Policy const& policy, Views const&... parts)
      : policy_(policy), parts_(parts...), room_(policy.ranks->message_memory().size / index_t(sizeof(A))) {
    message_of<A>(policy, (std::max)({index_t{0}, (parts.cols > 0 ? parts.rows : index_t{0})...}));
  }

  void run() {
    while (pack() > 0) {
      policy_.ranks->all_reduce(policy_.local, message_of<A>(policy_, used_), used_);
      unpack();
    }
  }

 private:
  static constexpr std::size_t count = sizeof...(Views);
  using local_ops = ops<typename Policy::local_policy>;

  template <class F>
  void for_each_part(F const& f) {
    [&]<std::size_t... i>(std::index_sequence<i...>) { (f(std::get<i>(parts_), i), ...); }
    (std::make_index_sequence<count>());
  }
  template <class View>
  auto in_message(View const& part, std::size_t i) const {
    return matrix_view<A, typename View::layout_type>{message_of<A>(policy_, used_) + begins_[i], part.rows, now_[i]};
  }
  /// As many of the columns that are left as fit into one message; answers how many elements.
  index_t pack() {
    bool full = false;
    used_ = 0;
    for_each_part([&](auto const& part, std::size_t i) {
      index_t const left = part.rows == 0 || full ? 0 : part.cols - done_[i];
      now_[i] = part.rows == 0 ? 0 : (std::min)(left, (room_ - used_) / part.rows);
      full = full || now_[i] < left;
      begins_[i] = used_;
      used_ += part.rows * now_[i];
    });
    for_each_part([&](auto const& part, std::size_t i) {
      if (now_[i] > 0) local_ops::copy(policy_.local, part.columns(done_[i], now_[i]), in_message(part, i));
    });
    return used_;
  }
  void unpack() {
    for_each_part([&](auto const& part, std::size_t i) {
      if (now_[i] > 0) local_ops::copy(policy_.local, in_message(part, i), part.columns(done_[i], now_[i]));
      done_[i] += now_[i];
    });
  }

  Policy const& policy_;
  std::tuple<Views...> parts_;
  index_t room_, used_ = 0;
  std::array<index_t, count> done_{}, now_{}, begins_{};
};

/// Each part := its sum over ranks, in one message if it holds them all. A is the accumulator type; parts in 16 bits
/// travel as floats.
template <class A, class Policy, class... Views>
void sum_parts(Policy const& policy, exchange what, Views const&... parts) {
  agree<A>(policy, what, parts...);
  if constexpr (sizeof...(Views) == 1) {
    auto const& only = std::get<0>(std::tie(parts...));
    using element = std::remove_pointer_t<decltype(only.data)>;
    index_t const size = only.rows * only.cols;
    // Where it fits into one message it is one, whether it lies as another rank's or not.
    if constexpr (std::same_as<element, A>)
      if (is_contiguous(only) && size * index_t(sizeof(A)) <= policy.ranks->message_memory().size) {
        if (size > 0) policy.ranks->all_reduce(policy.local, only.data, size);
        return;
      }
  }
  packed_sum<A, Policy, Views...>(policy, parts...).run();
}

}  // namespace HOFT_TARGET_NAMESPACE::sharded_backend
