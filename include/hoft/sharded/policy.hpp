// SPDX-License-Identifier: BSD-3-Clause
// hoft/sharded/policy.hpp: the execution policy of problems whose parts lie on several ranks.
#pragma once
#include <hoft/core/error.hpp>
#include <hoft/core/options.hpp>
#include <hoft/sharded/communicator.hpp>

namespace HOFT_NAMESPACE {

/// The extent of a problem that is split over ranks. Parts are in the order of the ranks. They may have any size, also
/// none.
enum class split {
  tall,     ///< the rows of a tall matrix: of reflectors U, and of X in Q X (its columns in X Q)
  rows,     ///< the rows of a weight M [m, n], features of y: "column parallel" in Megatron's words
  columns,  ///< the columns of a weight, features of x: "row parallel"
  none      ///< nothing: every rank has the whole problem
};

}  // namespace HOFT_NAMESPACE

namespace HOFT_TARGET_NAMESPACE {
namespace sharded_backend {

struct operations;  // backend.hpp

/// A policy whose matrices the host may read.
template <class P>
concept on_host = !requires {
  typename P::cuda_device_tag;
};

/// Compute on each rank by the policy `local`, and add over ranks where a sum runs over a split extent.
///
///   split::tall     accumulate, apply and its gradients: U, X, dU and dX are this rank's rows
///   split::rows     calls of adapters: U, s, y, dU and ds are this rank's rows of the whole, and M its rows of the
///                   weight. V, x, dx and dV are whole
///   split::columns  V, x, dx and dV are this rank's rows, and M its columns of the weight. U, s and y are whole
///
/// Calls are collective: every rank makes the same ones in the same order, with the same ranks, tokens and types. Base
/// operators are this rank's part of M alone: hoft adds their results. Forms of an adapter are accumulated with left()
/// and right(). What is not split has the same bits on every rank, because all ranks use one instruction set. A single
/// rank has the bits of the local policy.
///
/// Before each message the ranks compare what it is to hold, in a small message. If two ranks differ, an error on every
/// rank names them. On the CPU, calls that begin with an adapter also compare checksums of its parts that are not
/// split, in one pass over them; that finds a wrong split. `agrees = false`, on all ranks, leaves out both checks;
/// ranks that differ then wait for ever or compute wrong numbers.
template <execution_policy Local, communicator<Local> Communicator>
struct sharded {
  using backend = operations;
  using local_policy = Local;

  Local local;
  Communicator* ranks;  ///< must outlive the calls
  split of = split::tall;
  bool agrees = true;
  split declared = of;  ///< the split that the caller gave, also if `of` is that of one side

  sharded(Local where, Communicator& between, split what = split::tall, bool checked = true)
      : local(where), ranks(&between), of(what), agrees(checked) {}

  /// For Q_U of an adapter: its reflectors are as long as y.
  [[nodiscard]] sharded left() const { return side_of(split::rows); }
  /// For Q_V of an adapter: its reflectors are as long as x.
  [[nodiscard]] sharded right() const { return side_of(split::columns); }
  /// The same rank without the others.
  [[nodiscard]] sharded alone() const { return with(split::none); }

  /// Sums over rows of a tall matrix run over ranks.
  [[nodiscard]] bool sums() const {
    if (of == split::rows || of == split::columns) refuse_weight();
    return of == split::tall && ranks->size() > 1;
  }
  /// The number of ranks that hold the rows of a tall matrix.
  [[nodiscard]] index_t rank_count() const { return sums() ? ranks->size() : 1; }

 private:
  [[nodiscard]] sharded with(split what) const {
    sharded side = *this;
    side.of = what;
    return side;
  }
  [[nodiscard]] sharded side_of(split summed) const {
    if (of == split::tall)
      detail::refuse<argument_error>("sharded", "policy of an adapter", "split::tall",
                                     "split::rows or split::columns, which say what of a weight is split");
    return with(of == summed ? split::tall : split::none);
  }
  [[noreturn]] static void refuse_weight() {
    detail::refuse<argument_error>("sharded", "policy", "that of a weight, split::rows or split::columns",
                                   "its left() for Q_U and its right() for Q_V, or split::tall");
  }
};

}  // namespace sharded_backend

using sharded_backend::sharded;

}  // namespace HOFT_TARGET_NAMESPACE
